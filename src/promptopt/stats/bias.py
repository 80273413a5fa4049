"""Where a judge leans: to the text that stands first, or on some kind of rows away from what people say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from promptopt.stats.bounded import check_level
from promptopt.stats.clustered import group_means
from promptopt.stats.multiple import holm
from promptopt.stats.paired import sign_flip_p, studentised_interval, tango_interval

FEWEST = 6
"""Rows of a slice, or its groups, with which a sign-flip test can reach 0.05 at all; smaller slices are not tested."""


@dataclass(frozen=True, slots=True)
class PositionBias:
    """A pairwise judge asked in both orders: how much it favours a place."""

    pairs: int
    first: float
    """Share of the pairs in which the text that stands first wins in both orders."""
    second: float
    """Share of the pairs in which the text that stands second wins in both orders."""
    same: float
    """Share of the pairs in which both orders say the same."""
    net: float
    """How much better a text does when it stands first than when it stands second, from -1 to 1."""
    ci: tuple[float, float]
    """Interval of `net`: Tango's where no order ties and every pair is a unit, studentised otherwise."""
    p: float
    """Sign-flip p value of `net`."""


@dataclass(frozen=True, slots=True)
class SliceBias:
    """How much higher than people the judge scores the rows of a slice."""

    name: str
    rows: int
    bias: float
    ci: tuple[float, float]
    """Studentised; for this slice alone."""
    p: float | None
    """Sign-flip p value by Holm's method over all slices that are tested; None where the slice is too small to be."""


def position_bias(
    shown_first: Sequence[float],
    shown_second: Sequence[float],
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    groups: Sequence[str] | None = None,
) -> PositionBias | None:
    """Compare how a text does against another when shown first and when shown second: 1 wins, 0 loses, 0.5 ties.

    One entry a pair in each; None without pairs. With `groups`, each group's pairs count once in `net`, as their mean.

    Raises ValueError when the lengths differ, a score is not 0, 0.5 or 1, or the level is outside (0, 1).
    """
    check_level(level)
    first, second = np.array(shown_first, dtype=np.float64), np.array(shown_second, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"every pair is judged in both orders, got {len(first)} and {len(second)} scores")
    if not np.isin(np.concatenate([first, second]), (0.0, 0.5, 1.0)).all():
        raise ValueError("a text wins (1), ties (0.5) or loses (0) against the other")
    if not len(first):
        return None
    leaning = first - second
    wins, losses, n = int((leaning == 1).sum()), int((leaning == -1).sum()), len(leaning)
    counted = groups is None and not (np.abs(leaning) == 0.5).any()
    units = leaning if groups is None else group_means(leaning.tolist(), groups)
    return PositionBias(
        pairs=n,
        first=wins / n,
        second=losses / n,
        same=float((leaning == 0).mean()),
        net=float(units.mean()),
        ci=tango_interval(wins, losses, n, level) if counted else studentised_interval(units, level, rng),
        p=sign_flip_p(units, rng),
    )


def bias_by_slice(
    judge: Sequence[float],
    people: Sequence[float],
    slices: Mapping[str, Sequence[int]],
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    groups: Sequence[str] | None = None,
) -> list[SliceBias]:
    """Mean of judge minus people in each slice, given by the numbers of its rows; slices may overlap, empty ones drop.

    Scores lie in [0, 1]. With `groups`, each group's rows in a slice count once, as their mean.

    Raises ValueError when lengths differ, scores lie elsewhere, or the level is outside (0, 1); IndexError for a row
    number that is none.
    """
    names = [str(i) for i in range(len(judge))] if groups is None else groups
    if not len(judge) == len(people) == len(names):
        raise ValueError(f"{len(judge)} scores of the judge, {len(people)} of people and {len(names)} groups")
    excess = np.array(judge, dtype=np.float64) - np.array(people, dtype=np.float64)
    units = {
        name: group_means(excess[list(rows)].tolist(), [names[i] for i in rows])
        for name, rows in slices.items()
        if len(rows)
    }
    tested = [name for name, values in units.items() if len(values) >= FEWEST]
    p_values = dict(zip(tested, holm([sign_flip_p(units[name], rng) for name in tested]), strict=True))
    return [
        SliceBias(
            name=name,
            rows=len(slices[name]),
            bias=float(values.mean()),
            ci=studentised_interval(values, level, rng),
            p=p_values.get(name),
        )
        for name, values in units.items()
    ]
