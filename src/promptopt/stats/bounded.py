"""Paired differences of scores in [0, 1]: their checks, and the two intervals that others build on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def ordered(differences: Sequence[float] | Floats) -> Floats:
    """The differences in ascending order, free of rounding noise, so that nothing downstream sees the rows' order.

    Shape (n,), n >= 1. Raises ValueError for another shape, no rows, or a value that is not a finite number in
    [-1, 1].
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"differences must be a non-empty list of numbers, got shape {values.shape}")
    if not np.all(np.abs(values) <= 1.0 + 1e-12):  # False for NaN too
        raise ValueError("differences of scores must be finite numbers in [-1, 1]")
    return np.sort(np.round(values, 12)) + 0.0  # + 0.0: no negative zeros


def unseen_interval(differences: Sequence[float] | Floats, level: float) -> tuple[float, float]:
    """Interval for the mean that holds however far out the values lie that the sample happened not to show.

    At most a share q of the population differs from the sample's most common value (the Clopper-Pearson upper bound,
    one-sided at (1 - level) / 2), and those rows may be anything in [-1, 1]; among equally common values the outer ones
    count. Wide, but it needs no variance: the only honest interval for a constant sample, and the tighter one when
    almost all rows tie.

    Raises ValueError as `ordered` and `check_level` do.
    Source: Clopper & Pearson (1934), Biometrika 26:404.
    """
    from scipy.special import betaincinv  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    check_level(level)
    values, counts = np.unique(ordered(differences), return_counts=True)
    modes, n = values[counts == counts.max()], int(counts.sum())
    others = n - int(counts.max())
    share = float(betaincinv(others + 1, n - others, (1 + level) / 2))
    lowest, highest = float(modes[0]), float(modes[-1])
    return lowest - share * (lowest + 1), highest + share * (1 - highest)


def student_interval(differences: Sequence[float] | Floats, level: float) -> tuple[float, float]:
    """Student-t interval for the mean, within [-1, 1].

    Never wider than `unseen_interval`, which stands in where the sample has no variance.

    Raises ValueError as `ordered` and `check_level` do.
    """
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    values = ordered(differences)
    lowest, highest = unseen_interval(values, level)
    if values[0] == values[-1]:
        return lowest, highest
    mean = float(values.mean())
    reach = float(stdtrit(values.size - 1, (1 + level) / 2)) * float(values.std(ddof=1)) / math.sqrt(values.size)
    return max(mean - reach, lowest), min(mean + reach, highest)


def check_level(level: float) -> None:
    """Raises ValueError unless `level` lies strictly between 0 and 1."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"a confidence level must lie between 0 and 1, got {level}")
