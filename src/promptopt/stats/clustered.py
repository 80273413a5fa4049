"""Rows that come in groups (sessions, customers, documents): groups are independent, rows within one are not.

Rows are averaged within their group first; the groups then count once each and are compared as rows would be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promptopt.stats.bounded import Floats, student_interval
from promptopt.stats.paired import sign_flip_p


@dataclass(frozen=True, slots=True)
class GroupComparison:
    """Two arms compared over groups; every group counts once, whatever its size."""

    differences: Floats
    """Best minus baseline of each group, in the order of the groups' sorted names."""
    baseline: float
    best: float
    """Means of the groups' means."""
    p: float
    """Two-sided sign-flip p value over groups."""
    interval: tuple[float, float]
    """Student-t over groups."""

    @property
    def groups(self) -> int:
        return len(self.differences)


def compare_groups(
    baseline: Sequence[float], best: Sequence[float], groups: Sequence[str], level: float, rng: np.random.Generator
) -> GroupComparison:
    """Compare two arms on the same rows, each of which belongs to a group; all three sequences have one entry a row.

    Raises ValueError when the lengths differ, there are no rows, or scores do not lie in [0, 1].
    Source: Donner & Klar (2000), Design and Analysis of Cluster Randomization Trials: cluster-level analysis.
    """
    old, new = group_means(baseline, groups), group_means(best, groups)
    differences = new - old
    return GroupComparison(
        differences=differences,
        baseline=math.fsum(old) / max(len(old), 1),
        best=math.fsum(new) / max(len(new), 1),
        p=sign_flip_p(differences, rng),
        interval=student_interval(differences, level),
    )


def group_means(values: Sequence[float], groups: Sequence[str]) -> Floats:
    """Mean of `values` in each group, in the order of the groups' sorted names: shape (number of groups,).

    Raises ValueError when the two differ in length.
    """
    members: dict[str, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        members.setdefault(group, []).append(value)
    return np.array([math.fsum(members[name]) / len(members[name]) for name in sorted(members)])
