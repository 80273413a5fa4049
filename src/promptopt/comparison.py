"""Scoring one candidate, and comparing two runs on the rows that both have scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from promptopt.core.budget import Spend
from promptopt.core.candidate import Candidate
from promptopt.core.rollout import Rollout, values
from promptopt.core.sealed import Pair, TestResult, measure
from promptopt.errors import UserError
from promptopt.result import read_result
from promptopt.stats.paired import studentised_interval
from promptopt.store.run_dir import reading


@dataclass(frozen=True)
class Evaluation:
    """One candidate's score on one split."""

    candidate: Candidate
    split: str
    rows: int
    mean: float | None
    """Mean over the rows that have a score; None when none has."""
    ci: tuple[float, float] | None
    """95 % interval of the mean."""
    failures: Mapping[str, int]
    """Rows without a score, by the kind of failure."""
    spent: Spend
    rollouts: tuple[Rollout, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "candidate": self.candidate.id,
            "split": self.split,
            "rows": self.rows,
            "mean": self.mean,
            "ci": list(self.ci) if self.ci else None,
            "failures": dict(self.failures),
        }


@dataclass(frozen=True)
class Comparison:
    """Two runs' recommended candidates on the rows that both ledgers hold; exploratory, since those rows were seen."""

    names: tuple[str, str]
    split: str
    result: TestResult
    """`baseline` is the first run's candidate, `best` the second's."""

    def to_json(self) -> dict[str, Any]:
        return {"a": self.names[0], "b": self.names[1], "split": self.split, **self.result.to_json()}


def evaluation(candidate: Candidate, split: str, rollouts: Sequence[Rollout], spent: Spend) -> Evaluation:
    """What these rollouts say of `candidate`."""
    values = [rollout.value for rollout in rollouts if rollout.value is not None]
    failures = Counter(rollout.failure.kind for rollout in rollouts if rollout.failure)
    mean, ci = None, None
    if values:
        mean = sum(values) / len(values)
        low, high = studentised_interval(values, 0.95, np.random.default_rng(0))
        ci = (max(0.0, low), min(1.0, high))
    return Evaluation(candidate, split, len(rollouts), mean, ci, failures, spent, tuple(rollouts))


def compare(run_a: str | Path, run_b: str | Path) -> Comparison:
    """The second run's recommended candidate against the first's, paired on the rows that both have scored.

    Test rows are used where both runs have opened them, otherwise val rows. Nothing is called or paid.

    Raises UserError when the runs share no scored row, LedgerCorrupt for a torn ledger.
    """
    sides, groups = [_scores(Path(run)) for run in (run_a, run_b)], _groups(Path(run_a))
    for split in ("test", "val"):
        first, second = (side[split] for side in sides)
        shared = sorted(first.keys() & second.keys())
        if shared:
            pairs = [Pair(row, first[row], second[row], groups.get(row)) for row in shared]
            binary = all(
                value in (0.0, 1.0) for row in shared for value in (first[row], second[row]) if value is not None
            )
            result = measure(pairs, binary=binary)
            if result is not None:
                return Comparison((str(run_a), str(run_b)), split, result)
    raise UserError(f"{run_a} and {run_b} have scored no row in common, so they cannot be compared.")


def _scores(directory: Path) -> dict[str, dict[str, float | None]]:
    """Scores of the run's recommended candidate by split and row."""
    with reading(directory) as ledger:
        candidate = read_result(ledger, directory).recommended.id
        return {
            split: values(r for r in ledger.rollouts(split) if r.candidate_id == candidate) for split in ("val", "test")
        }


def _groups(directory: Path) -> dict[str, str | None]:
    """The groups of the test rows that the run has opened, by row."""
    with reading(directory) as ledger:
        return {row: group for opened in ledger.events("opened") for row, group in opened.body["rows"]}
