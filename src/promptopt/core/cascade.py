"""A cascade: a cheap student answers where it is sure, and the teacher answers everything else.

How sure the student is, its *confidence*, is a number in [0, 1] that is known without the right answer, such as how
many of its samples agree. The threshold is chosen on val. What it is worth is told by rows that had no part in that.

Sources: Chen, Zaharia & Zou (2023), FrugalGPT: a cascade with a threshold that is learnt; Wang et al. (2023),
Self-Consistency: the answer that most samples give; Yue et al. (2024), Large Language Model Cascades with Mixture of
Thoughts: agreement of the cheap model's samples as what decides; Gupta et al. (2024), Language Model Cascades:
Token-level Uncertainty and Beyond: the mean of its tokens' log-probabilities (Chow-Average).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from promptopt.core.sealed import Pair

THRESHOLDS = 10
"""How many thresholds are tried at most: more of them would fit what is luck on val."""
LEAST_CHANCE = 0.1
"""Of a certificate, to be tried at all: one more hypothesis makes each student's own certificate harder to get."""


@dataclass(frozen=True, slots=True)
class Vote:
    """What several samples come to."""

    chosen: int | None
    """Which sample's answer is taken; None where none has an answer."""
    confidence: float
    """Share of the samples that give it; one without an answer agrees with none."""


@dataclass(frozen=True, slots=True)
class Routed:
    """One row that both models have answered."""

    example_id: str
    confidence: float
    student: float | None
    """The score of its answer; None where it is missing."""
    teacher: float | None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Threshold:
    """The least confidence at which the student's answer is taken, and what val says of it."""

    value: float
    escalated: float
    """Share of the rows that go to the teacher."""
    diff: float
    """Mean of cascade minus teacher; optimistic, for it was chosen by it."""
    saving: float
    """Share of the teacher's cost that is saved."""
    chance: float
    """Of being certified on the test rows."""


def vote(answers: Sequence[str | None]) -> Vote:
    """The answer that most samples give, the first of those that are as frequent; None is a sample without one."""
    counts = Counter(answer for answer in answers if answer is not None)
    if not counts:
        return Vote(None, 0.0)
    answer, count = counts.most_common(1)[0]
    return Vote(answers.index(answer), count / len(answers))


def thresholds(confidences: Sequence[float]) -> list[float]:
    """Those to try: every confidence that was seen, or of many the quantiles."""
    seen = sorted(set(confidences))
    if len(seen) <= THRESHOLDS:
        return seen
    return sorted({seen[round(place * (len(seen) - 1) / (THRESHOLDS - 1))] for place in range(THRESHOLDS)})


def fit(
    rows: Sequence[Routed], margin: float, *, student_cost: float, test_rows: int, level: float
) -> Threshold | None:
    """The threshold that can be expected to save most: what it saves, times its chance of being certified.

    `student_cost` is what asking the student takes, all its samples together, as a share of what the teacher takes;
    the certificate is to be had at `level` on `test_rows`. None where no threshold sends a row to the teacher, saves
    anything and has at least `LEAST_CHANCE`.

    A student that is not sure at all, or has no answer, never goes without the teacher. Against optimism val counts one
    more row, which the cascade loses, and the chance allows for val's own error.
    """
    known = thresholds([row.confidence for row in rows if row.confidence > 0])
    tried = (_tried(rows, at, margin, student_cost, test_rows, level) for at in known)
    worth = [one for one in tried if one.escalated > 0 and one.saving > 0 and one.chance >= LEAST_CHANCE]
    return max(worth, key=lambda one: (one.saving * one.chance, one.value), default=None)


def pairs(rows: Sequence[Routed], threshold: float) -> list[Pair]:
    """What is certified: the teacher's score (`baseline`), and that of the cascade (`best`).

    An escalated row has the teacher's very score. In use the teacher would be asked anew; the mean difference there is
    0 either way, so this takes noise from the comparison and nothing from its truth.
    """
    return [Pair(row.example_id, row.teacher, _score(row, threshold), row.group) for row in rows]


def escalated(rows: Sequence[Routed], threshold: float) -> frozenset[str]:
    """The rows that go to the teacher."""
    return frozenset(row.example_id for row in rows if row.confidence < threshold)


def best_possible(student: Mapping[str, float | None], teacher: Mapping[str, float | None], cost: float) -> float:
    """Share of the teacher's cost that a router would save which knew where the student loses: no router saves more."""
    known = [(student.get(row), value) for row, value in teacher.items() if value is not None]
    lost = sum(own is None or own < value for own, value in known)
    return 1 - cost - lost / max(1, len(known))


def _score(row: Routed, threshold: float) -> float | None:
    return row.teacher if row.confidence < threshold else row.student


def _tried(
    rows: Sequence[Routed], threshold: float, margin: float, cost: float, test_rows: int, level: float
) -> Threshold:
    compared = [(one.baseline, one.best) for one in pairs(rows, threshold)]
    differences = [best - base for base, best in compared if base is not None and best is not None]
    share = len(escalated(rows, threshold)) / len(rows)
    return Threshold(
        value=threshold,
        escalated=share,
        diff=math.fsum(differences) / max(1, len(differences)),
        saving=1 - cost - share,
        chance=_chance([*differences, -1.0], margin, test_rows, level),
    )


def _chance(differences: Sequence[float], margin: float, test_rows: int, level: float) -> float:
    """Of a bound above minus the margin on `test_rows` more such rows, by normal approximation of both means."""
    n = len(differences)
    mean = math.fsum(differences) / n
    spread = math.sqrt(math.fsum((one - mean) ** 2 for one in differences) / n) or 1e-9
    needed = NormalDist().inv_cdf(1 - level) * spread / math.sqrt(test_rows)
    return NormalDist().cdf((mean + margin - needed) / (spread * math.sqrt(1 / n + 1 / test_rows)))
