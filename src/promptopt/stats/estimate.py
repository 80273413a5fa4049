"""A coefficient with an interval, by a Bayesian bootstrap of rows that knows the sample has not shown everything.

Each resample gives every row, or every group where rows share one, a random weight. *Pseudo-rows*, a row or two's worth
of what might have been seen, join with small weights of their own: without them a sample that shows no disagreement,
or hardly a second category, would pass for a population that has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from promptopt.stats.bounded import Floats, check_level

DRAWS = 2_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A coefficient and what is known of it."""

    value: float | None
    """None where the sample does not define it."""
    ci: tuple[float, float] | None
    """None with the value; otherwise it contains the value."""


UNDEFINED = Estimate(None, None)


@dataclass(frozen=True, slots=True)
class PseudoRows:
    """What might have been seen: shape (number of pseudo-rows, number of columns), with the weight of each in rows."""

    rows: Floats
    weights: Floats


def estimate(
    coefficient: Callable[[Floats], Floats],
    rows: Floats,
    pseudo: PseudoRows,
    rng: np.random.Generator,
    *,
    level: float,
    groups: Sequence[str] | None,
) -> Estimate:
    """The coefficient of `rows`, shape (n, columns), n >= 1, with an interval at `level`.

    `coefficient` maps weighted sums of rows, shape (draws, columns), to values, shape (draws,). `groups` names each
    row's group; a pseudo-row then weighs as much as the mean group. The percentiles are widened so that a mean's
    interval would be as wide as Student's. Does not depend on the order of the rows.

    Raises ValueError for a level outside (0, 1) or when `groups` and `rows` differ in length.
    Sources: Rubin (1981), Ann. Stat. 9:130; Hesterberg (2015), Am. Stat. 69:371, expanded percentiles.
    """
    from scipy.special import ndtr, stdtrit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    check_level(level)
    value = float(coefficient(rows.sum(axis=0, keepdims=True))[0])
    units = rows if groups is None else _sums(rows, groups)
    n = len(units)
    kinds, counts = np.unique(np.round(units, 12), axis=0, return_counts=True)
    drawn = rng.standard_gamma(np.concatenate([counts, pseudo.weights]), (DRAWS, len(kinds) + len(pseudo.weights)))
    draws = coefficient(drawn @ np.vstack([kinds, pseudo.rows * (len(rows) / n)]))
    students = float(stdtrit(max(n - 1, 1), (1 + level) / 2)) * math.sqrt(n / max(n - 1, 1))
    low, high = np.quantile(draws, [float(ndtr(-students)), float(ndtr(students))])
    return Estimate(value, (min(float(low), value), max(float(high), value)))


def _sums(rows: Floats, groups: Sequence[str]) -> Floats:
    """The sum of each group's rows, shape (number of groups, columns)."""
    if len(groups) != len(rows):
        raise ValueError(f"there are {len(rows)} rows and the groups of {len(groups)}")
    numbers = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((len(numbers), rows.shape[1]))
    np.add.at(sums, [numbers[group] for group in groups], rows)
    return sums
