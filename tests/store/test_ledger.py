"""The ledger: what it keeps, what it charges and what it refuses to open."""

from __future__ import annotations

import asyncio
import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest

from promptopt.core.budget import Budget, Spend
from promptopt.core.rollout import Failure, Invocation, Rollout, Score, Turn
from promptopt.errors import BudgetExhausted, LedgerCorrupt
from promptopt.lm.message import Reply, Request, Scope
from promptopt.store.ledger import Ledger

SCOPE = Scope("program", "work", 3)
REQUEST = Request("openai/x", ({"role": "user", "content": "hello"},))
WORST = Spend(calls=1, tokens_in=50, tokens_out=10, usd=Decimal("0.01"))
TRUE = Spend(calls=1, tokens_in=5, tokens_out=2, usd=Decimal("0.001"))
REPLY = Reply("hi", "stop", 5, 2, Decimal("0.001"), 0.25, {"role": "assistant", "content": "hi"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "ledger.sqlite"
    Ledger.create(file, {"run_id": "r1"})
    return file


def test_it_reads_back_what_it_wrote(path: Path) -> None:
    rollout = Rollout(
        "c1",
        "e1",
        output={"a": [1, None]},
        trace=(Turn(({"role": "user", "content": "q"},), "a"),),
        invocations=(Invocation("solve", {"question": "q"}, '{"answer": "a"}', "cut off"),),
        own=Score(0.25),
        score=Score(0.5, "so-so", {"form": 1.0}, {"solve": "be brief"}),
        usd=0.001,
        seconds=0.5,
    )
    failed = Rollout("c1", "e2", failure=Failure("timeout", "too slow"))
    ledger = Ledger(path, Budget())
    ledger.record("k1", rollout, step=1, split="val")
    ledger.record("k2", failed, step=1, split="val")
    ledger.append("told", 0, {"x": "é"})
    ledger.close()
    again = Ledger(path, Budget())
    assert again.rollout("k1") == rollout
    assert list(again.rollouts("val")) == [rollout, failed]
    assert [event.body for event in again.events("told")] == [{"x": "é"}]
    assert again.meta("run_id") == "r1"
    assert again.spent().rollouts == 2


async def test_an_answered_call_is_recalled_and_charged_at_its_true_cost(path: Path) -> None:
    ledger = Ledger(path, Budget())
    ledger.settle(await ledger.reserve(SCOPE, REQUEST, "key", WORST), TRUE, REPLY)
    known = ledger.recall("key", SCOPE)
    assert known is not None
    assert (known.text, known.cached, known.usd) == ("hi", True, Decimal("0.001"))
    assert ledger.account.spent == TRUE
    ledger.close()
    assert Ledger(path, Budget()).spent() == TRUE + Spend(cached=1)


async def test_a_call_lost_in_a_crash_stays_charged_at_its_worst_case(path: Path) -> None:
    ledger = Ledger(path, Budget())
    await ledger.reserve(SCOPE, REQUEST, "key", WORST)
    del ledger  # the process is gone; nothing was settled
    again = Ledger(path, Budget())
    assert again.spent() == WORST
    assert again.recall("key", SCOPE) is None


async def test_a_failed_call_is_not_recalled(path: Path) -> None:
    ledger = Ledger(path, Budget())
    ledger.settle(await ledger.reserve(SCOPE, REQUEST, "key", WORST), WORST, Failure("timeout", "no answer"))
    assert ledger.recall("key", SCOPE) is None
    assert ledger.account.spent == WORST


async def test_a_call_waits_for_room_that_others_return(path: Path) -> None:
    ledger = Ledger(path, Budget(tokens=100))
    first = await ledger.reserve(SCOPE, REQUEST, "one", WORST)
    second = asyncio.create_task(ledger.reserve(SCOPE, REQUEST, "two", WORST))
    await asyncio.sleep(0.02)
    assert not second.done()
    ledger.settle(first, TRUE, REPLY)
    ledger.settle(await asyncio.wait_for(second, 1), TRUE, REPLY)
    with pytest.raises(BudgetExhausted, match="tokens"):
        await ledger.reserve(SCOPE, REQUEST, "three", Spend(calls=1, tokens_in=90))


def test_failures_after_a_step_can_be_forgotten_so_that_they_are_tried_again(path: Path) -> None:
    ledger = Ledger(path, Budget())
    ledger.record("k1", Rollout("c", "e1", failure=Failure("timeout", "")), step=1, split="val")
    ledger.record("k2", Rollout("c", "e2", failure=Failure("timeout", "")), step=2, split="val")
    ledger.record("k3", Rollout("c", "e3", output="x", score=Score(1.0)), step=2, split="val")
    ledger.forget_failures(1)
    assert [ledger.rollout(key) is None for key in ("k1", "k2", "k3")] == [False, True, False]


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "foreign", "newer", "gap"])
def test_a_torn_foreign_or_newer_ledger_is_refused_and_left_as_it_is(path: Path, damage: str) -> None:
    ledger = Ledger(path, Budget())
    for number in range(300):
        ledger.append("told", number, {"text": "x" * 200})
    ledger.close()
    whole = path.read_bytes()
    match damage:
        case "truncated":
            path.write_bytes(whole[: len(whole) // 2])
        case "garbage":
            path.write_bytes(whole[:4096] + b"\xff" * 8192 + whole[12288:])
        case "empty":
            path.write_bytes(b"")
        case "foreign":
            path.unlink()
            with sqlite3.connect(path) as db:
                db.execute("CREATE TABLE t (x)")
        case "newer":
            with sqlite3.connect(path) as db:
                db.execute("PRAGMA user_version = 99")
        case _:
            with sqlite3.connect(path) as db:
                db.execute("DELETE FROM events WHERE seq = 7")
    for leftover in path.parent.glob("ledger.sqlite-*"):
        leftover.unlink()
    before = path.read_bytes()
    with pytest.raises(LedgerCorrupt, match="Nothing was changed"):
        Ledger(path, Budget())
    assert path.read_bytes() == before


async def test_what_a_rollout_has_cost_counts_its_judgement_too(path: Path) -> None:
    ledger = Ledger(path, Budget())
    assert ledger.costs("c") == []
    first, verdict = (Scope(purpose, "a", 0, "c") for purpose in ("program", "judge"))
    second, other = Scope("program", "b", 0, "c"), Scope("program", "b", 0, "d")
    for scope, tokens in (
        (first, 5),
        (first, 6),
        (second, 7),
        (verdict, 20),
        (other, 90),
        (Scope("reflection", "e"), 99),
    ):
        call = await ledger.reserve(scope, REQUEST, f"{scope}{tokens}", WORST)
        ledger.settle(call, Spend(calls=1, tokens_in=tokens, tokens_out=1, usd=Decimal("0.5")), REPLY)
    known = sorted(ledger.costs("c"), key=lambda one: one.tokens_in)
    assert known == [Spend(1, 1, 0, 7, 1, Decimal("0.5")), Spend(1, 3, 0, 5 + 6 + 20, 3, Decimal("1.5"))]
    await ledger.reserve(Scope("judge", "b", 0, "c"), REQUEST, "in flight", WORST)
    assert ledger.costs("c") == known[1:]
    assert ledger.worst_call("c") == Spend(tokens_in=WORST.tokens_in, tokens_out=WORST.tokens_out, usd=WORST.usd)
    assert ledger.worst_call("nobody") == Spend()
    ledger.close()


async def test_what_a_rollout_was_spared_because_another_had_asked_it_is_in_its_cost(path: Path) -> None:
    """The sealed rows are new to all: only what the baseline asks of them is spared there, too."""
    ledger = Ledger(path, Budget())
    paid = {"baseline": 1000, "parent": 100, "child": 10}
    for candidate, tokens in paid.items():
        scope = Scope("program", f"{candidate}/a", 0, candidate)
        call = await ledger.reserve(scope, REQUEST, candidate, WORST)
        ledger.settle(call, Spend(calls=1, tokens_in=tokens), REPLY)
    child = Scope("program", "child/a", 0, "child")
    for _resumed in range(2):
        assert all(ledger.recall(key, child) for key in paid)
    assert [one.tokens_in for one in ledger.costs("child")] == [1110]
    assert [one.tokens_in for one in ledger.costs("child", beside="baseline")] == [110]
    assert [one.tokens_in for one in ledger.costs("parent")] == [100]
    ledger.close()
