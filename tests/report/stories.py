"""Run directories with a ledger as a run writes it, for reports to read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from promptopt.core.budget import Budget, Spend
from promptopt.core.candidate import Candidate
from promptopt.core.rollout import Failure, Rollout, Score
from promptopt.core.state import Told
from promptopt.lm.message import Purpose, Reply, Request, Scope
from promptopt.result import Result, rebuild
from promptopt.store.ledger import Ledger
from promptopt.store.run_dir import LEDGER

BASELINE = Candidate({"system": "Name the team.\nBe brief.", "user": "{text}"})
VAL_ROWS = 20
TEST_ROWS = 40


@dataclass
class Story:
    """What happened in a run."""

    steps: Sequence[Told] = ()
    test: tuple[float, float] | None = None
    """Shares of the test rows that baseline and best got right; None: still sealed."""
    best: Candidate = BASELINE
    finished: bool = True
    name: str = "banking"
    failure: Failure | None = None
    """How one val rollout failed, if one did."""
    reason: str = "budget: rollouts"
    calls: Mapping[Purpose, int] = field(default_factory=dict["Purpose", int])
    """Input tokens of one call for each purpose."""


def told(number: int, outcome: str, candidate: Candidate, right: int, ran: int = VAL_ROWS, **more: object) -> Told:
    """A step whose candidate was right on the first `right` of the `ran` val rows that it ran."""
    val = {candidate.id: {f"v{i}": float(i < right) for i in range(ran)}}
    operator = str(more.pop("operator", "rules"))
    return Told(number, operator, outcome, candidate, val=val, saved=VAL_ROWS - ran, **more)  # type: ignore[arg-type]


def start(right: int = 5, ran: int = VAL_ROWS) -> Told:
    return told(0, "baseline", BASELINE, right, ran, operator="baseline", note="the program as it is")


def write(folder: Path, story: Story) -> Result:
    """Write a story's ledger below `folder` and read its result back."""
    directory = folder / "runs" / "banking"
    directory.mkdir(parents=True)
    about = {
        "baseline": BASELINE.to_json(),
        "val_rows": VAL_ROWS,
        "test_rows": TEST_ROWS,
        "select": "one_se",
        "trust": [],
        "seed": 0,
    }
    Ledger.create(directory / LEDGER, {"run_id": "r", "job": {**about, "name": story.name}})
    with closing(Ledger(directory / LEDGER, Budget())) as ledger:
        for purpose, tokens in story.calls.items():
            _pay(ledger, purpose, tokens)
        for step in story.steps:
            ledger.append("told", step.step, step.to_json())
        if story.failure is not None:
            ledger.record("f", Rollout(BASELINE.id, "v0", failure=story.failure), step=1, split="val")
        if story.test is not None:
            _open(ledger, story.best, story.test)
        if story.finished:
            ledger.append("stop", len(story.steps), {"reason": story.reason})
            ledger.append("finished", len(story.steps), {})
    return rebuild(directory)


def _pay(ledger: Ledger, purpose: Purpose, tokens: int) -> None:
    request = Request("openai/x", ({"role": "user", "content": "hello"},))
    cost = Spend(calls=1, tokens_in=tokens, tokens_out=7, usd=Decimal("0.25"))
    call = asyncio.run(ledger.reserve(Scope(purpose, "k", 1), request, purpose, cost))
    ledger.settle(call, cost, Reply("a", "stop", tokens, 7, Decimal("0.25")))


def _open(ledger: Ledger, best: Candidate, shares: tuple[float, float]) -> None:
    rows = [[f"t{i}", None] for i in range(TEST_ROWS)]
    ledger.append("opened", 0, {"best": best.id, "opening": 1, "rows": rows, "binary": True})
    for candidate, share in zip((BASELINE, best), shares, strict=True):
        for i in range(TEST_ROWS):
            right = Score(float(i < share * TEST_ROWS))
            rollout = Rollout(candidate.id, f"t{i}", score=right)
            ledger.record(f"{candidate.id}{i}", rollout, step=9, split="test")
