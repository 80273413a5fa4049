"""When a race on val is over: futility rules for a child against the incumbent, on the same rows.

Stopping early for futility needs no error control, because the sealed test alone supports the claim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")

BEHIND_Z = 1.0
"""Standard errors by which a child must trail to be clearly behind."""
MAX_MISSING = 0.2
"""Share of missing scores above which a child is dropped: a prompt that makes calls fail is no better prompt."""


def blocks(rows: Sequence[T], size: int, rng: Random) -> list[tuple[T, ...]]:
    """`rows` in a random order fixed by `rng`, cut into blocks of `size`; the last may be shorter."""
    order = list(rows)
    rng.shuffle(order)
    return [tuple(order[start : start + size]) for start in range(0, len(order), size)]


def futile(child: Mapping[str, float | None], incumbent: Mapping[str, float | None], rows: Sequence[str]) -> str | None:
    """Why the child should run no further, or None to go on.

    `child` holds the scores so far by row, `incumbent` the known scores of its rival, `rows` all val rows. The exact
    bound asks whether the child could still lead if every remaining row were right.
    """
    missing = sum(value is None for value in child.values())
    if missing > MAX_MISSING * len(child) and missing > 1:
        return f"{missing} of {len(child)} rows failed"
    gains = gaps(child, incumbent)
    if not gains:
        return None
    ahead = sum(gains)
    open_rows = [incumbent.get(row) for row in rows if row not in child]
    if ahead + sum(1 - value for value in open_rows if value is not None) <= 0:
        return f"cannot catch up after {len(gains)} rows"
    mean, error = ahead / len(gains), standard_error(gains)
    if mean < 0 and mean + BEHIND_Z * error < 0:
        return f"behind by {-mean:.2f} after {len(gains)} rows"
    if mean <= 0 and len(child) >= len(rows) / 2:
        return f"no lead after {len(gains)} rows"
    return None


def gaps(scores: Mapping[str, float | None], other: Mapping[str, float | None]) -> list[float]:
    """`scores` less `other`, on the rows where both have one."""
    return [a - b for row, a in scores.items() if a is not None and (b := other.get(row)) is not None]


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean of `values`; 0.0 for fewer than two."""
    n = len(values)
    if n < 2:
        return 0.0
    mean = sum(values) / n
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
