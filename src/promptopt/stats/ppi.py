"""Few labels of people, many scores of a judge: the mean that people would find, with an interval that is theirs.

*Prediction-powered inference*: the judge's scores on every row lower the noise, people's labels on some rows take out
the judge's bias. The interval holds however wrong the judge is, because its errors are measured; a good judge makes it
narrower than labels alone would.

It rests on one assumption: **the labelled rows are a random sample of all rows**, drawn without looking at a score.
Labelling the rows where the judge seemed wrong, or where the arms differ, voids it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promptopt.stats.bounded import Floats, check_level, unseen_interval
from promptopt.stats.clustered import group_means

FEWEST = 3
"""Labelled rows, or groups, without which nothing can be said."""


@dataclass(frozen=True, slots=True)
class PredictionPowered:
    """The mean of people's differences over all rows, from the judge's on all and people's on some."""

    mean: float
    ci: tuple[float, float]
    p: float
    """Two-sided, of no difference; at most 1 - level exactly where `ci` excludes 0."""
    labelled: int
    unlabelled: int
    """Rows, or groups where rows share one."""
    weight: float
    """λ, how far the judge was relied on: 0 not at all, labels alone; 1 fully."""


def prediction_powered_mean(
    judge: Sequence[float],
    people: Sequence[float | None],
    *,
    level: float = 0.95,
    groups: Sequence[str] | None = None,
) -> PredictionPowered:
    """Power-tuned prediction-powered inference (PPI++) for the mean of paired differences in [-1, 1].

    One entry a row in each: the judge's difference, best minus baseline, and people's, None where they gave none. With
    `groups`, the name of each row's group, every group counts once, by the mean of its labelled rows if it has any;
    the groups that have some are then the random sample.

    λ minimises the variance seen. One pseudo-label, half of it a typical difference above the judge and half below, and
    Student's t with n - 2 degrees of freedom keep the coverage where labels are few and the judge's errors rare.

    Raises ValueError when lengths differ, a difference is not a finite number in [-1, 1], fewer than 3 rows (or groups)
    are labelled, or the level is outside (0, 1).
    Sources: Angelopoulos et al. (2023), Science 382:669; Angelopoulos, Duchi & Zrnic (2023), arXiv:2311.01453.
    """
    from scipy.special import stdtr, stdtrit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    check_level(level)
    truth, seen, unseen = _split(judge, people, groups)
    n = len(truth)
    typical = max(float(np.mean(np.concatenate([seen, unseen]) ** 2)), float(np.mean(truth**2)))
    weight = _weight(truth, seen, unseen)
    mean = float(np.mean(truth - weight * seen)) + (weight * float(unseen.mean()) if weight else 0.0)
    error = _error(truth, seen, unseen, weight, typical)
    reach = float(stdtrit(n - 2, (1 + level) / 2)) * error
    return PredictionPowered(
        mean=min(max(mean, -1.0), 1.0),
        ci=(max(mean - reach, -1.0), min(mean + reach, 1.0)) if error else unseen_interval(truth, level),
        p=2 * float(stdtr(n - 2, -abs(mean) / error)) if error else 1.0,
        labelled=n,
        unlabelled=len(unseen),
        weight=weight,
    )


def _weight(truth: Floats, seen: Floats, unseen: Floats) -> float:
    """λ of PPI++, within [0, 1]; 0 where every row is labelled or the judge never differs."""
    spread = float(np.concatenate([seen, unseen]).var(ddof=1))
    if not len(unseen) or spread < 1e-12:
        return 0.0
    together = float(np.cov(truth, seen)[0, 1])
    return min(max(together / spread * len(unseen) / (len(seen) + len(unseen)), 0.0), 1.0)


def _error(truth: Floats, seen: Floats, unseen: Floats, weight: float, typical: float) -> float:
    """Standard error of the mean at this weight; `typical` is the mean square of a difference."""
    n, left = len(truth), truth - weight * seen
    squares = float(np.sum((left - left.mean()) ** 2)) + typical
    judges = weight**2 * float(np.concatenate([seen, unseen]).var(ddof=1)) / len(unseen) if weight else 0.0
    return math.sqrt(squares / (n - 2) / n + judges)


def _split(
    judge: Sequence[float], people: Sequence[float | None], groups: Sequence[str] | None
) -> tuple[Floats, Floats, Floats]:
    """People's differences, the judge's on the same rows, and the judge's on the others; of groups, their means."""
    if not len(judge) == len(people) == len(judge if groups is None else groups):
        named = "" if groups is None else f" and {len(groups)} groups"
        raise ValueError(f"every row has one entry, got {len(judge)} of the judge, {len(people)} of people{named}")
    told = [i for i, difference in enumerate(people) if difference is not None]
    names = [str(i) for i in range(len(judge))] if groups is None else groups
    labelled = {names[i] for i in told}
    others = [i for i, name in enumerate(names) if name not in labelled]
    if len(labelled) < FEWEST:
        what = "rows" if groups is None else "groups"
        raise ValueError(
            f"at least {FEWEST} {what} must have labels of people, got {len(labelled)} of {len(set(names))}"
        )
    differences = [difference for difference in people if difference is not None]
    truth = group_means(differences, [names[i] for i in told])
    seen = group_means([judge[i] for i in told], [names[i] for i in told])
    unseen = group_means([judge[i] for i in others], [names[i] for i in others])
    if not all(np.all(np.abs(values) <= 1 + 1e-12) for values in (truth, seen, unseen)):
        raise ValueError("differences of scores must be finite numbers in [-1, 1]")
    return truth, seen, unseen
