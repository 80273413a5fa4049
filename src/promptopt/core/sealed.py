"""Both arms measured on the sealed test's rows: scores, difference, interval and p value, without a verdict.

Scores of 0 or 1 are counted (McNemar mid-p, Tango's interval), graded ones compared by sign flips and a studentised
interval, and rows that share a group are averaged first. The k-th opening of the same rows is tested at 0.05 / 2ᵏ⁻¹,
so that all openings together stay under 0.1, and its interval is reported at the level that was tested.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from promptopt.stats.clustered import compare_groups, group_means
from promptopt.stats.paired import mcnemar_mid_p, sign_flip_p, studentised_interval, tango_interval
from promptopt.stats.power import (
    DISCORDANCE,
    SPREAD,
    detectable_gain,
    detectable_gain_graded,
    rows_needed,
    rows_needed_graded,
)
from promptopt.stats.ppi import prediction_powered_mean

PeopleScores = Mapping[str, tuple[float, float]]
"""By row, what people think of the baseline's output and of the best candidate's."""
ALPHA = 0.05
"""Two-sided error of the first opening of a test split."""


def level_of(opening: int) -> float:
    """The two-sided α at which the k-th opening of the same test rows is tested. Raises ValueError below 1."""
    if opening < 1:
        raise ValueError(f"openings are counted from 1, got {opening}")
    return ALPHA / 2 ** (opening - 1)


def opened_before(opening: int) -> str:
    """How often test rows were opened before, as a part of a sentence; nothing for the first time."""
    times = "once" if opening == 2 else f"{opening - 1} times"
    return f" opened {times} before, and so tested at a level of {level_of(opening):.2g}" if opening > 1 else ""


@dataclass(frozen=True, slots=True)
class Pair:
    """One row of the test with both arms' scores in [0, 1]; None where a score is missing."""

    example_id: str
    baseline: float | None
    best: float | None
    group: str | None = None

    @property
    def scores(self) -> tuple[float, float] | None:
        """Both scores, or None where one is missing."""
        return None if self.baseline is None or self.best is None else (self.baseline, self.best)


@dataclass(frozen=True, slots=True)
class TestResult:
    """What the sealed test showed on the rows where both arms have a score."""

    __test__ = False  # pytest would collect the class for its name

    n: int
    """Compared rows."""
    baseline: float
    best: float
    """Mean scores; with groups, means of the groups' means, unless people's labels correct the difference."""
    diff: float
    ci: tuple[float, float]
    """Interval of the difference at level 1 - alpha."""
    p: float
    method: str
    missing: int
    """Rows left out because an arm has no score there."""
    alpha: float
    """Two-sided level of this opening."""
    opening: int
    groups: int | None
    """Compared groups; None when all rows are independent."""
    worst_case: tuple[float, float] | None
    """Bounds of the difference whatever the missing scores would have been; None when none is missing, and where
    people's labels correct it."""
    binary: bool
    """Whether rows were counted as right or wrong, rather than graded."""
    differing: int
    """Compared rows (groups, where there are any) on which the arms' scores differ."""
    labelled: int | None
    """Rows (groups) that people labelled, by which the judge's difference is corrected; None where nobody did."""
    spread: float
    """Discordance (binary) or standard deviation of the differences, with one more row at the planning assumption."""

    @property
    def units(self) -> int:
        """What counts as independent: groups where there are any, else rows."""
        return self.n if self.groups is None else self.groups

    @property
    def detectable(self) -> float | None:
        """The gain that so many units show 4 times in 5 at the spread seen; None when they can show nothing."""
        find = detectable_gain if self.binary else detectable_gain_graded
        return find(self.units, self.spread, alpha=self.alpha)

    def units_to_show(self, gain: float) -> int:
        """How many units would show `gain` 4 times in 5 at the spread seen."""
        find = rows_needed if self.binary else rows_needed_graded
        return find(gain, self.spread, alpha=self.alpha)

    def to_json(self) -> dict[str, Any]:
        """The `test` entry of result.json."""
        return {
            "n": self.n,
            "baseline": self.baseline,
            "best": self.best,
            "diff": self.diff,
            "ci": list(self.ci),
            "p": self.p,
            "method": self.method,
            "missing": self.missing,
            "alpha": self.alpha,
            "opening": self.opening,
            "groups": self.groups,
            "worst_case": None if self.worst_case is None else list(self.worst_case),
            "binary": self.binary,
            "differing": self.differing,
            "labelled": self.labelled,
            "detectable": self.detectable,
        }


def measure(
    pairs: Sequence[Pair], *, binary: bool, opening: int = 1, seed: int = 0, people: PeopleScores | None = None
) -> TestResult | None:
    """The comparison behind `judge_test`, without its verdict; None when no row has both scores.

    Raises ValueError as `judge_test` does.
    """
    pairs = sorted(pairs, key=lambda pair: pair.example_id)
    _check(pairs)
    alpha, groups = level_of(opening), group_labels(pairs)
    rows = [
        (*scores, group, (people or {}).get(pair.example_id))
        for pair, group in zip(pairs, groups or [""] * len(pairs), strict=True)
        if (scores := pair.scores)
    ]
    if not rows:
        return None
    old, new, labels = [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
    rng = np.random.default_rng(seed)
    binary = binary and groups is None and people is None and {*old, *new} <= {0.0, 1.0}
    if people is not None:
        told = [None if said is None else said[1] - said[0] for *_, said in rows]
        found = _corrected(old, new, told, labels if groups is not None else None, alpha)
    elif groups is not None:
        found = _compare_groups(old, new, labels, alpha, rng)
    elif binary:
        found = _compare_counts(old, new, alpha)
    else:
        found = _compare_grades(old, new, alpha, rng)
    return TestResult(
        n=len(rows),
        baseline=found.baseline,
        best=found.best,
        diff=found.best - found.baseline if found.diff is None else found.diff,
        ci=found.ci,
        p=found.p,
        method=found.method,
        missing=len(pairs) - len(rows),
        alpha=alpha,
        opening=opening,
        groups=found.groups,
        worst_case=_worst_case(pairs, groups) if len(rows) < len(pairs) and people is None else None,
        binary=binary,
        differing=found.differing,
        labelled=found.labelled,
        spread=found.spread,
    )


@dataclass(frozen=True, slots=True)
class _Comparison:
    """What the methods for counts, grades and groups each find out."""

    baseline: float
    best: float
    p: float
    ci: tuple[float, float]
    differing: int
    spread: float
    method: str
    groups: int | None = None
    diff: float | None = None
    """Where it is not that of the means."""
    labelled: int | None = None


def _compare_counts(old: list[float], new: list[float], alpha: float) -> _Comparison:
    n, wins, losses = len(old), 0, 0
    for before, after in zip(old, new, strict=True):
        wins += after > before
        losses += after < before
    return _Comparison(
        baseline=sum(old) / n,
        best=sum(new) / n,
        p=mcnemar_mid_p(wins, losses),
        ci=tango_interval(wins, losses, n, 1 - alpha),
        differing=wins + losses,
        spread=(wins + losses + DISCORDANCE) / (n + 1),
        method="McNemar mid-p, Tango interval",
    )


def _compare_grades(old: list[float], new: list[float], alpha: float, rng: np.random.Generator) -> _Comparison:
    differences = [after - before for before, after in zip(old, new, strict=True)]
    return _Comparison(
        baseline=math.fsum(old) / len(old),
        best=math.fsum(new) / len(new),
        p=sign_flip_p(differences, rng),
        ci=studentised_interval(differences, 1 - alpha, rng),
        differing=_differing(differences),
        spread=_spread(differences),
        method="sign-flip permutation, studentised interval",
    )


def _compare_groups(
    old: list[float], new: list[float], labels: list[str], alpha: float, rng: np.random.Generator
) -> _Comparison:
    over = compare_groups(old, new, labels, 1 - alpha, rng)
    differences: list[float] = over.differences.tolist()
    return _Comparison(
        baseline=over.baseline,
        best=over.best,
        p=over.p,
        ci=over.interval,
        differing=_differing(differences),
        spread=_spread(differences),
        method="sign-flip permutation and t interval over group means",
        groups=over.groups,
    )


def _corrected(
    old: list[float], new: list[float], told: list[float | None], labels: list[str] | None, alpha: float
) -> _Comparison:
    """The judge's differences, corrected by people's on a random part of the rows."""
    differences = [after - before for before, after in zip(old, new, strict=True)]
    found = prediction_powered_mean(differences, told, level=1 - alpha, groups=labels)
    units = found.labelled + found.unlabelled
    reach = (found.ci[1] - found.ci[0]) / 2
    return _Comparison(
        baseline=math.fsum(old) / len(old),
        best=math.fsum(new) / len(new),
        p=found.p,
        ci=found.ci,
        differing=_differing(differences) + _differing([one for one in told if one is not None]),
        spread=min(1.0, reach / NormalDist().inv_cdf(1 - alpha / 2) * math.sqrt(units)),
        method="prediction-powered inference",
        groups=units if labels is not None else None,
        diff=found.mean,
        labelled=found.labelled,
    )


def _differing(differences: list[float]) -> int:
    return sum(abs(difference) > 1e-12 for difference in differences)


def _spread(differences: list[float]) -> float:
    """Their standard deviation, with one more difference at the planning assumption: never 0."""
    mean = math.fsum(differences) / len(differences)
    squares = math.fsum((difference - mean) ** 2 for difference in differences)
    return min(1.0, math.sqrt((squares + SPREAD**2) / len(differences)))


def group_labels(pairs: Sequence[Pair]) -> list[str] | None:
    """Each row's group, a group of its own where it names none; None when no two rows share one."""
    labels = [f"row {pair.example_id}" if pair.group is None else f"group {pair.group}" for pair in pairs]
    return labels if len(set(labels)) < len(labels) else None


def _worst_case(pairs: Sequence[Pair], groups: list[str] | None) -> tuple[float, float]:
    """The difference with every missing score at its worst for the best candidate, and at its best."""

    def difference(missing_baseline: float, missing_best: float) -> float:
        old = [missing_baseline if pair.baseline is None else pair.baseline for pair in pairs]
        new = [missing_best if pair.best is None else pair.best for pair in pairs]
        differences = [after - before for before, after in zip(old, new, strict=True)]
        means = differences if groups is None else group_means(differences, groups).tolist()
        return math.fsum(means) / len(means)

    return difference(1.0, 0.0), difference(0.0, 1.0)


def _check(pairs: Sequence[Pair]) -> None:
    for before, pair in itertools.pairwise(pairs):
        if before.example_id == pair.example_id:
            raise ValueError(f"example {pair.example_id!r} is in the test twice")
    for pair in pairs:
        for score in (pair.baseline, pair.best):
            if score is not None and not 0.0 <= score <= 1.0:
                raise ValueError(f"example {pair.example_id!r} has a score outside [0, 1]: {score}")
