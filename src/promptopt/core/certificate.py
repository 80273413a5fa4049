"""The certificate of a switch: does a student hold the teacher's quality within the margin, on rows nobody looked at?

NON-INFERIOR is a claim that must be earned: a student counts as worse by the margin until the sealed rows rule it out.
Over several students the p values of either claim are corrected by Holm's method: all together are wrongly called
NON-INFERIOR, or wrongly INFERIOR, as rarely as one alone would be. Always the original teacher is what they are held
against. Where the teacher does not beat a stripped prompt, the rows cannot tell good from bad and certify nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from promptopt.core.guard import MAX_MISSING, MIN_GROUPS
from promptopt.core.sealed import Pair, group_labels, level_of
from promptopt.stats.clustered import group_means
from promptopt.stats.multiple import holm
from promptopt.stats.noninferiority import (
    LEVEL,
    NonInferiority,
    noninferiority_of_counts,
    noninferiority_of_groups,
    noninferiority_of_scores,
    rows_for_margin,
    rows_for_margin_graded,
)
from promptopt.stats.paired import mcnemar_mid_p, sign_flip_p

Outcome = Literal["NON-INFERIOR", "INFERIOR", "INCONCLUSIVE"]


@dataclass(frozen=True, slots=True)
class Certificate:
    """One student against the teacher."""

    outcome: Outcome
    reason: str
    """A sentence."""
    p: float | None
    """Of NON-INFERIOR, Holm-corrected, rows that the student did not answer counted as wrong."""
    test: NonInferiority | None
    """None where no row has both scores."""
    missing: int
    """Rows left out because one of the two has no score there."""
    rows_needed: int | None
    """Rows that would settle it, were the difference as seen; None where it is settled or no number would do."""


@dataclass(frozen=True, slots=True)
class Assay:
    """Whether the rows can tell good from bad: the teacher against a stripped prompt."""

    teacher: float
    weak: float
    p: float
    """One-sided."""

    @property
    def holds(self) -> bool:
        return self.teacher > self.weak and self.p <= LEVEL


def assay(pairs: Sequence[Pair], *, binary: bool, seed: int = 0) -> Assay | None:
    """The teacher (`best`) against the stripped prompt (`baseline`); None when no row has both scores."""
    known = [both for pair in pairs if (both := pair.scores)]
    if not known:
        return None
    weak, teacher = (math.fsum(scores) / len(known) for scores in zip(*known, strict=True))
    return Assay(teacher, weak, p=lead_p(pairs, binary=binary, seed=seed))


def lead_p(pairs: Sequence[Pair], *, binary: bool, seed: int = 0) -> float:
    """One-sided p value of "`best` does no better than `baseline`"; 1.0 when no row has both scores."""
    known = [(pair, both) for pair in pairs if (both := pair.scores)]
    if not known:
        return 1.0
    old, new = ([both[arm] for _, both in known] for arm in (0, 1))
    labels = group_labels([pair for pair, _ in known])
    if labels is not None:
        old, new = group_means(old, labels).tolist(), group_means(new, labels).tolist()
    differences = [after - before for before, after in zip(old, new, strict=True)]
    if binary and {*old, *new} <= {0.0, 1.0}:
        p = mcnemar_mid_p(sum(d > 0 for d in differences), sum(d < 0 for d in differences))
    else:
        p = sign_flip_p(differences, np.random.default_rng(seed))
    return p / 2 if math.fsum(differences) > 0 else 1 - p / 2


def certify(
    students: Mapping[str, Sequence[Pair]],
    margin: float,
    *,
    binary: bool,
    sensitive: bool,
    opening: int = 1,
    seed: int = 0,
) -> dict[str, Certificate]:
    """A certificate for each student, by name; in a pair `baseline` is the teacher's score and `best` the student's.

    A row on which the teacher has a score and the student has none counts as wrong for NON-INFERIOR: mostly there was
    no answer. For INFERIOR it is left out, as for the difference and its interval.

    `sensitive` says whether the assay holds. The k-th opening of the same rows is tested at 0.05 / 2ᵏ⁻¹. A student that
    no row could be compared on counts in the correction: it might be tested later.
    """
    level = level_of(opening)
    tests = {name: _test(pairs, margin, binary, level, seed) for name, pairs in students.items()}
    strict = {
        name: _test(_silent_wrong(pairs), margin, binary, level, seed) if any(map(_silent, pairs)) else tests[name]
        for name, pairs in students.items()
    }
    held = holm([1.0 if test is None else test.p for test in strict.values()])
    lost = holm([1.0 if test is None else test.p_inferior for test in tests.values()])
    return {
        name: _certificate(students[name], (test, strict[name]), ps, level, sensitive, len(students))
        for (name, test), ps in zip(tests.items(), zip(held, lost, strict=True), strict=True)
    }


def _silent(pair: Pair) -> bool:
    return pair.best is None and pair.baseline is not None


def _silent_wrong(pairs: Sequence[Pair]) -> list[Pair]:
    return [replace(pair, best=0.0) if _silent(pair) else pair for pair in pairs]


def _test(pairs: Sequence[Pair], margin: float, binary: bool, level: float, seed: int) -> NonInferiority | None:
    known = [(pair, both) for pair in pairs if (both := pair.scores)]
    if not known:
        return None
    teacher, student = ([both[arm] for _, both in known] for arm in (0, 1))
    rng = np.random.default_rng(seed)
    if labels := group_labels([pair for pair, _ in known]):
        return noninferiority_of_groups(student, teacher, labels, margin, rng, level=level)
    differences = [after - before for before, after in zip(teacher, student, strict=True)]
    if binary and {*teacher, *student} <= {0.0, 1.0}:
        wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
        return noninferiority_of_counts(wins, losses, len(known), margin, level=level)
    return noninferiority_of_scores(differences, margin, rng, level=level)


def _certificate(
    pairs: Sequence[Pair],
    tests: tuple[NonInferiority | None, NonInferiority | None],
    ps: tuple[float, float],
    level: float,
    sensitive: bool,
    among: int,
) -> Certificate:
    """`tests` are without the unanswered rows and with them as wrong, `ps` the corrected p values of both claims."""
    (test, strict), (p, p_inferior) = tests, ps
    missing = sum(pair.scores is None for pair in pairs)
    if test is None or strict is None:
        return Certificate("INCONCLUSIVE", "No row has a score of both models.", None, None, missing, None)
    grouped = test.n < len(pairs) - missing
    objection = _objection(test, missing / len(pairs), grouped, sensitive)
    if objection:
        return Certificate("INCONCLUSIVE", objection, p, test, missing, None)
    units = "groups" if grouped else "rows"
    seen = f"difference {test.diff:+.3f}, {100 * (1 - 2 * level):.4g} % interval {test.ci[0]:+.3f} to {test.ci[1]:+.3f}"
    if p <= level:
        better = " It does better than the teacher." if strict.ci[0] > 0 else ""
        why = f"Quality held within {test.margin:g} ({seen}).{better}"
        return Certificate("NON-INFERIOR", why, p, test, missing, None)
    if p_inferior <= level:
        return Certificate("INFERIOR", f"It loses more than {test.margin:g} ({seen}).", p, test, missing, None)
    if test.p <= level / among < strict.p:
        left = f"not with the {sum(map(_silent, pairs)):,} that it left counted as wrong"
        why = f"Quality held within {test.margin:g} on the rows that it answered ({seen}), but {left}."
        return Certificate("INCONCLUSIVE", why, p, test, missing, None)
    needed = _needed(test, level / among)
    more = f"about {needed:,} {units} would settle it" if needed else f"as many {units} as you like would not settle it"
    why = f"{test.n:,} {units} do not tell whether quality held within {test.margin:g} ({seen}); {more}."
    return Certificate("INCONCLUSIVE", why, p, test, missing, needed)


def _objection(test: NonInferiority, missing: float, grouped: bool, sensitive: bool) -> str | None:
    if not sensitive:
        return "The teacher does not beat a stripped prompt, so these rows cannot tell a good model from a bad one."
    if missing > MAX_MISSING:
        return f"{100 * missing:.0f} % of the rows lack a score, and at most {100 * MAX_MISSING:.0f} % may."
    if grouped and test.n < MIN_GROUPS:
        return f"The rows come from {test.n} groups; at least {MIN_GROUPS} are needed."
    return None


def _needed(test: NonInferiority, level: float) -> int | None:
    """Rows at which the difference that was seen would be shown at `level`, where it lies within the margin."""
    find = rows_for_margin if test.method == "score" else rows_for_margin_graded
    share = test.differing / test.n if test.method == "score" else test.spread
    return find(test.margin, share, true_diff=min(test.diff, 0.0), level=level)
