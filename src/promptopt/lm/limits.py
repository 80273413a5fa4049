"""Who may call a model next, and when.

Each model has one lane. A lane keeps the calls in flight under a limit that halves when the server says 429 and grows
back by one a round of answers (additive increase, multiplicative decrease; Chiu & Jain 1989), spreads calls and tokens
evenly over the minute, and holds everybody back while the server wants quiet. Those who wait go older step first.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from math import inf

Order = tuple[int, int]
"""The search step that asks, then the order of arrival."""


class Meter:
    """Spreads amounts evenly over time: after each, the next waits until the rate has caught up. None is no limit."""

    def __init__(self, per_minute: int | None) -> None:
        self._seconds_each = 60.0 / per_minute if per_minute else 0.0
        self.free_at = 0.0

    def take(self, amount: float, now: float) -> None:
        self.free_at = max(self.free_at, now) + amount * self._seconds_each

    def correct(self, amount: float) -> None:
        """Add what a call took beyond its estimate, or give back what it did not take."""
        self.free_at += amount * self._seconds_each


class Lane:
    """The queue before one model. Its methods are called from one event loop."""

    def __init__(
        self,
        concurrency: float | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
    ) -> None:
        self._most = concurrency or inf
        self.limit = self._most
        """Calls that may be in flight now; a fraction is a limit that is growing."""
        self.in_flight = 0
        self._requests = Meter(requests_per_minute)
        self._tokens = Meter(tokens_per_minute)
        self._quiet_until = 0.0
        self._halved_at = -inf
        self._queue: list[tuple[Order, int, asyncio.Future[None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closed: Exception | None = None

    @asynccontextmanager
    async def turn(self, order: Order, tokens: int) -> AsyncGenerator[None]:
        """Wait for a place among the calls in flight and keep it; `tokens` estimates what the call takes.

        Raises what the lane was closed with.
        """
        if self._closed:
            raise self._closed
        ticket = asyncio.get_running_loop().create_future()
        try:
            heapq.heappush(self._queue, (order, tokens, ticket))
            self._admit()
            await ticket
            if self._closed:
                raise self._closed
            yield
        finally:
            if ticket.done() and not ticket.cancelled() and not ticket.exception():
                self.in_flight -= 1
            ticket.cancel()
            self._admit()

    def correct(self, tokens: int) -> None:
        """A call took so many tokens more than was estimated, or fewer when negative."""
        self._tokens.correct(tokens)

    def speed_up(self) -> None:
        """A call was answered."""
        self.limit = min(self._most, self.limit + 1 / self.limit)

    def slow_down(self, seconds: float, sent_at: float) -> None:
        """The server refused a call that was sent at `sent_at` for coming too fast: all wait, and fewer go at once."""
        now = asyncio.get_running_loop().time()
        self._quiet_until = max(self._quiet_until, now + seconds)
        if sent_at >= self._halved_at:  # a burst that was refused together is one refusal
            self.limit = max(1.0, min(self.limit, self.in_flight) / 2)
            self._halved_at = now

    def close(self, error: Exception) -> None:
        """Fail everybody who waits, and whoever comes, with `error`."""
        self._closed = error
        for _, _, ticket in self._queue:
            if not ticket.done():
                ticket.set_exception(error)
        self._queue.clear()

    def _admit(self) -> None:
        """Let in whom the limits allow; when only time is missing, come back then."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        while self._queue and self.in_flight < int(min(self.limit, 1 << 30)):
            _, tokens, ticket = self._queue[0]
            if not ticket.done():
                now = loop.time()
                free_at = max(self._quiet_until, self._requests.free_at, self._tokens.free_at)
                if free_at > now:
                    self._timer = loop.call_at(free_at, self._admit)
                    return
                self.in_flight += 1
                self._requests.take(1, now)
                self._tokens.take(tokens, now)
                ticket.set_result(None)
            heapq.heappop(self._queue)
