"""Who goes next, when, and how long to wait."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptopt.lm.limits import Lane
from promptopt.lm.retries import LONGEST, pause, retry_after


async def test_no_more_than_the_limit_are_in_flight() -> None:
    lane, most = Lane(3), 0

    async def call(n: int) -> None:
        nonlocal most
        async with lane.turn((0, n), 0):
            most = max(most, lane.in_flight)
            await asyncio.sleep(0.001)

    await asyncio.gather(*map(call, range(20)))
    assert most == 3
    assert lane.in_flight == 0


async def test_requests_are_spread_evenly() -> None:
    lane, starts = Lane(requests_per_minute=1200), list[float]()

    async def call(n: int) -> None:
        async with lane.turn((0, n), 0):
            starts.append(time.monotonic())

    await asyncio.gather(*map(call, range(6)))
    assert all(start - starts[0] >= 0.05 * n - 0.03 for n, start in enumerate(starts))
    assert starts[-1] - starts[0] < 2.0


async def test_tokens_are_spread_by_estimate_and_corrected_by_the_true_count() -> None:
    lane = Lane(tokens_per_minute=60_000)
    began = time.monotonic()
    async with lane.turn((0, 0), 10_000):
        lane.correct(-9_900)
    async with lane.turn((0, 1), 100):
        assert 0.09 <= time.monotonic() - began < 0.3


async def test_a_correction_lets_those_who_wait_go_at_once() -> None:
    lane = Lane(tokens_per_minute=600)
    began = time.monotonic()

    async def call(n: int) -> None:
        async with lane.turn((0, n), 1000):
            await asyncio.sleep(0.01)
            lane.correct(-1000)

    await asyncio.gather(call(0), call(1))
    assert time.monotonic() - began < 1.0


async def test_a_refusal_holds_everybody_back_and_halves_the_limit_once_a_burst() -> None:
    lane = Lane(16)
    loop = asyncio.get_running_loop()
    turns = [lane.turn((0, n), 0) for n in range(16)]
    for turn in turns:
        await turn.__aenter__()
    sent_at = loop.time()
    for _ in range(5):
        lane.slow_down(0.1, sent_at)
    assert lane.limit == 8
    for turn in turns:
        await turn.__aexit__(None, None, None)
    async with lane.turn((0, 99), 0):
        assert loop.time() - sent_at >= 0.1
        lane.slow_down(0.0, loop.time())
    assert lane.limit == 1


async def test_the_limit_grows_back_by_one_a_round_and_never_beyond_its_start() -> None:
    lane = Lane(4)
    async with lane.turn((0, 0), 0):
        lane.slow_down(0.0, asyncio.get_running_loop().time())
    assert lane.limit == 1
    lane.speed_up()
    assert lane.limit == 2
    for _ in range(2):
        lane.speed_up()
    assert 2.8 < lane.limit <= 3
    for _ in range(100):
        lane.speed_up()
    assert lane.limit == 4


async def test_a_waiting_call_that_is_cancelled_leaves_its_place() -> None:
    lane = Lane(1)
    async with lane.turn((0, 0), 0):

        async def call() -> None:
            async with lane.turn((0, 1), 0):
                raise AssertionError

        waiting = asyncio.create_task(call())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(1), lane.turn((0, 2), 0):
        assert lane.in_flight == 1


async def test_a_call_cancelled_just_as_it_is_let_in_gives_its_place_back() -> None:
    lane = Lane(1)

    async def call() -> None:
        async with lane.turn((0, 1), 0):
            await asyncio.sleep(0)

    first = lane.turn((0, 0), 0)
    await first.__aenter__()
    waiting = asyncio.create_task(call())
    await asyncio.sleep(0)
    await first.__aexit__(None, None, None)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert lane.in_flight == 0


async def test_a_closed_lane_fails_those_who_wait_and_those_who_come() -> None:
    lane = Lane(1)

    async def call(n: int) -> None:
        async with lane.turn((0, n), 0):
            raise AssertionError

    async with lane.turn((0, 0), 0):
        waiting = [asyncio.create_task(call(n)) for n in (1, 2)]
        await asyncio.sleep(0)
        lane.close(RuntimeError("down"))
    for each in [*waiting, call(3)]:
        with pytest.raises(RuntimeError, match="down"):
            await each
    assert lane.in_flight == 0


async def test_a_closed_lane_keeps_nobody_waiting_for_a_server_that_wants_quiet() -> None:
    lane = Lane()
    lane.slow_down(60.0, sent_at=0.0)
    lane.close(RuntimeError("down"))
    with pytest.raises(RuntimeError, match="down"):
        async with asyncio.timeout(1.0), lane.turn((0, 0), 0):
            raise AssertionError


@given(tries=st.integers(1, 200), asked=st.none() | st.floats(0, 1e6))
def test_a_pause_is_never_shorter_than_asked_and_never_without_bound(tries: int, asked: float | None) -> None:
    wait = pause(tries, asked)
    if asked is None:
        assert 0 <= wait <= min(LONGEST, 0.5 * 2 ** (tries - 1))
    else:
        assert asked <= wait <= asked * 1.1 + 0.1


def test_retry_after_is_read_as_seconds_milliseconds_or_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_700_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    assert retry_after({"retry-after": "1.5"}) == 1.5
    assert retry_after({"retry-after-ms": "250", "retry-after": "1"}) == 0.25
    assert retry_after({"retry-after": formatdate(now + 7, usegmt=True)}) == 7
    assert retry_after({"retry-after": formatdate(now - 7, usegmt=True)}) == 0


@pytest.mark.parametrize("nonsense", ["soon", "-3", "nan", "inf", ""])
def test_a_retry_after_that_says_nothing_is_ignored(nonsense: str) -> None:
    assert retry_after({"retry-after": nonsense}) is None
