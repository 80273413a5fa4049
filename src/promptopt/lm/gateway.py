"""The only place that calls a model, and the only loop that tries again.

A call goes through five hands: the ledger (was it paid before?), the model's lane (whose turn is it?), the book (is
there room in the budget for its worst case?), one try through litellm, and the book again (what did it cost?). A try
that failed for a reason that passes is repeated, at most `retries` times and within the call's deadline.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from promptopt.core.budget import Spend
from promptopt.core.rollout import Failure
from promptopt.errors import ConfigError, ModelDown
from promptopt.lm.attempt import attempt, check_request
from promptopt.lm.failures import Trouble, refuses_schema, trouble
from promptopt.lm.health import Health
from promptopt.lm.limits import Lane
from promptopt.lm.message import CallFailed, Reply, Request, Scope
from promptopt.lm.pricing import check_model, worst_case
from promptopt.lm.provider import LOCAL, Route, local_route, remote_route
from promptopt.lm.retries import pause
from promptopt.lm.session import Endpoint, Session
from promptopt.lm.settings import ModelSettings

if TYPE_CHECKING:
    from promptopt.lm.endpoint import Loopback
    from promptopt.lm.local import LocalEndpoint

REMOTE_TIMEOUT, LOCAL_TIMEOUT = 60.0, 600.0
DEADLINE_IN_TIMEOUTS = 5
BYTES_A_TOKEN = 4
"""What input tokens are taken for under a limit per minute, until the true count is known."""


class Book(Protocol):
    """Who pays: the run's ledger and its budget."""

    def recall(self, key: str, scope: Scope) -> Reply | None:
        """The answer of a finished call with this key, counted as cached; None when there is none. `scope` asks."""
        ...

    async def reserve(self, scope: Scope, request: Request, key: str, worst: Spend) -> int:
        """Wait until `worst` fits under the caps, record the try as open and return its number.

        Raises BudgetExhausted when it never will.
        """
        ...

    def settle(self, call: int, true: Spend, outcome: Reply | Failure) -> None:
        """Close a try: what it truly cost takes the place of what was reserved."""
        ...


class LocalModels(Protocol):
    """Who runs `local/NAME` models."""

    async def serve(self, name: str) -> LocalEndpoint:
        """Where `name` answers; its server is started unless it runs."""
        ...


@dataclass
class Target:
    """One model as this run sees it."""

    settings: ModelSettings
    route: Route
    lane: Lane
    health: Health
    timeout: float
    """Seconds for one try."""
    deadline: float
    """Seconds for a call with all its tries."""
    takes_schema: bool
    """Whether a JSON schema is sent along; a model may turn out not to take one."""

    @staticmethod
    def of(model: str, settings: ModelSettings, local: LocalEndpoint | None) -> Target:
        timeout = settings.timeout or (LOCAL_TIMEOUT if model.startswith(LOCAL) else REMOTE_TIMEOUT)
        concurrency = min(filter(None, (settings.concurrency, local and local.slots)), default=None)
        route = local_route(model, local) if local else remote_route(model, settings)
        return Target(
            settings,
            route,
            Lane(concurrency, settings.requests_per_minute, settings.tokens_per_minute),
            Health(model, route.api_base),
            timeout,
            settings.deadline or timeout * DEADLINE_IN_TIMEOUTS,
            settings.json_schema is not False,
        )


@dataclass
class Call:
    """One request on its way to an answer."""

    request: Request
    scope: Scope
    key: str
    target: Target
    worst: Spend
    """The most that one try can cost."""
    number: int
    """Its place in the order of arrival."""
    tries: int = 0
    wait: float = 0.0
    """Seconds to wait before the next try."""


class Gateway:
    """Answers requests from the ledger or from a model; a `Caller` for sessions.

    Used as an async context manager, in one event loop: leaving it closes the endpoint for other clients.
    """

    def __init__(self, models: Mapping[str, ModelSettings], book: Book, local: LocalModels | None = None) -> None:
        self._models = models
        self._book = book
        self._local = local
        self._targets: dict[str, Target] = {}
        self._flights: dict[str, asyncio.Future[Reply]] = {}
        self._arrivals = itertools.count()
        self._loopback: Loopback | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loopback is not None:
            await self._loopback.stop()

    async def complete(self, request: Request, scope: Scope) -> Reply:
        """The model's answer, from the ledger or paid. Equal calls at the same time share one flight.

        Raises CallFailed when there is no answer, BudgetExhausted when there is no room for the next try, and ModelDown
        when no call of this model can be expected to succeed.
        """
        check_request(request)
        key = call_key(request, scope)
        while flight := self._flights.get(key):
            await asyncio.wait([flight])
            if not flight.cancelled():
                return flight.result()
        if known := self._book.recall(key, scope):
            return known
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        try:
            reply = await self._call(await self._prepare(request, scope, key))
            flight.set_result(reply)
            return reply
        except Exception as error:
            flight.set_exception(error)
            flight.exception()  # seen, even where nobody else waits
            raise
        finally:
            flight.cancel()
            del self._flights[key]

    def open_endpoint(self, session: Session) -> Endpoint:
        """A base URL and a key under which any OpenAI client calls models as `session`."""
        if self._loopback is None:
            from promptopt.lm.endpoint import Loopback

            self._loopback = Loopback(self._models)
        return self._loopback.open(session)

    def close_endpoint(self, endpoint: Endpoint) -> None:
        """Refuse the endpoint's key from now on and stop what is still running under it."""
        if self._loopback is not None:
            self._loopback.close(endpoint)

    async def _prepare(self, request: Request, scope: Scope, key: str) -> Call:
        target = await self._target(request.model)
        return Call(request, scope, key, target, worst_case(request, target.settings), next(self._arrivals))

    async def _call(self, call: Call) -> Reply:
        """Try until there is an answer, the tries are used up, or the deadline passes that the first try starts."""
        failure = Failure("timeout", "")
        try:
            async with asyncio.timeout(None) as deadline:
                while True:
                    outcome = await self._try(call, deadline)
                    if isinstance(outcome, Reply):
                        return outcome
                    failure = outcome.failure
                    used_up = call.tries > call.target.settings.retries
                    if not outcome.again or used_up or not _within(deadline, call.wait):
                        break
                    await asyncio.sleep(call.wait)
        except TimeoutError:
            last = f"; before that: {failure.message}" if failure.message else ""
            failure = Failure("timeout", f"no answer within the deadline of {call.target.deadline:g} s{last}")
        raise self._given_up(call, failure)

    async def _try(self, call: Call, deadline: asyncio.Timeout) -> Reply | Trouble:
        """One try; a model that turns out not to take a JSON schema is asked again without it, once for all calls."""
        call.tries += 1
        target = call.target
        with_schema = target.takes_schema
        outcome = await self._send(call, deadline, with_schema)
        if isinstance(outcome, Reply) or target.settings.json_schema != "auto" or not call.request.schema:
            return outcome
        if with_schema and refuses_schema(outcome.failure):
            target.takes_schema = False
            return await self._send(call, deadline, with_schema=False)
        return outcome

    async def _send(self, call: Call, deadline: asyncio.Timeout, with_schema: bool) -> Reply | Trouble:
        """Wait for a turn and for room in the budget, ask once, and settle whatever happens."""
        target, worst = call.target, call.worst
        estimate = worst.tokens_in // BYTES_A_TOKEN + worst.tokens_out
        async with target.lane.turn((call.scope.step, call.number), estimate):
            number = await self._book.reserve(call.scope, call.request, call.key, worst)
            sent_at = asyncio.get_running_loop().time()
            if deadline.when() is None:
                deadline.reschedule(sent_at + target.deadline)
            outcome, true = trouble("timeout", "stopped before an answer came"), worst
            try:
                outcome, true = await attempt(
                    target.route, call.request, target.settings, worst, target.timeout, with_schema
                )
            finally:
                self._book.settle(number, true, outcome.failure if isinstance(outcome, Trouble) else outcome)
                target.lane.correct(true.tokens - estimate)
            if isinstance(outcome, Reply):
                target.lane.speed_up()
                target.health.answered()
                return outcome
            call.wait = pause(call.tries, outcome.retry_after)
            if outcome.failure.kind == "rate_limit":
                target.lane.slow_down(min(call.wait, target.deadline), sent_at)
            return outcome

    def _given_up(self, call: Call, failure: Failure) -> CallFailed | ModelDown:
        """The error of a call without an answer; ModelDown also ends the calls that wait for the same model."""
        if down := call.target.health.failed(failure):
            call.target.lane.close(down)
            return down
        times = f" (tried {call.tries} times)" if call.tries > 1 else ""
        return CallFailed(Failure(failure.kind, failure.message + times))

    async def _target(self, model: str) -> Target:
        """The model's lane and health, made at its first call; a local server that has died is started again."""
        settings = self._models.get(model) or ModelSettings()
        local = None
        if model.startswith(LOCAL) and settings.api_base is None:
            if self._local is None:
                raise ConfigError(f"{model} needs the local runtime: pip install 'promptopt-engine[local]'")
            local = await self._local.serve(model.removeprefix(LOCAL))
        if model not in self._targets:
            check_model(model, settings)
            self._targets[model] = Target.of(model, settings, local)
        target = self._targets[model]
        if local is not None:
            target.route = local_route(model, local)
        return target


def call_key(request: Request, scope: Scope) -> str:
    """What a call is, completely: the work it is for, what is asked, and which of the work's equal requests it is.

    At temperature 0 an answer is no sample: candidates that ask the same of a row, as in a step of theirs, share it.
    """
    work = scope.row if scope.row and request.params.get("temperature") == 0 else scope.key
    text = f"{work}\n{request.digest}\n{scope.nth}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _within(deadline: asyncio.Timeout, seconds: float) -> bool:
    """Whether a wait of `seconds` ends before the deadline."""
    ends = deadline.when()
    return ends is None or asyncio.get_running_loop().time() + seconds < ends
