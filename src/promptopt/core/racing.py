"""Racing a child against the incumbent on the same val rows: which rows, in which order, and when it is over.

A race runs on rows whose score under the incumbent is known, and begins with those that leave room for improvement:
a child that mends none of them will not win. Stopping early for futility needs no error control, because the sealed
test alone supports the claim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

Scores = Mapping[str, float | None]

ROOM = 6.0
"""Room for improvement that a race's rows must leave, in whole scores: fewer failures cannot rank children."""
LEAST_ROWS = 12
"""Rows of the shortest race."""
LEAST_TO_SHRINK = 36
"""Rows of the shortest race of a child that need only be as good: it takes more to see that nothing broke."""
FRESH_ROWS = 6
"""Further rows on which a child that won is known before it is raced: on those of its race it had luck, too."""
FIRST_LOOK = 8
"""Rows of a race's first block."""
BEHIND_Z = 0.5
"""Standard errors by which a child must trail to be clearly behind."""
AHEAD_Z = 0.5
"""Standard errors by which a child must lead to take the incumbent's place."""
MAX_MISSING = 0.2
"""Share of missing scores above which a child is dropped: a prompt that makes calls fail is no better prompt."""


def deep_enough(scores: Scores, least: int = LEAST_ROWS) -> bool:
    """Whether these rows of an incumbent, at least `least`, leave enough room to see who improves on it."""
    return len(scores) >= least and math.fsum(1 - value for value in scores.values() if value is not None) >= ROOM


def lacking(scores: Scores, least: int = LEAST_ROWS) -> int:
    """How many more rows these are likely to need until they are deep enough, at least one."""
    rooms = [1 - value for value in scores.values() if value is not None]
    usual = max(0.1, math.fsum(rooms) / len(rooms)) if rooms else 1.0
    return max(1, least - len(scores), math.ceil((ROOM - math.fsum(rooms)) / usual))


def race_rows(incumbent: Scores, rng: Random, least: int = LEAST_ROWS) -> Scores:
    """The rows of a race: as many of the known ones, drawn at random, as it takes to be deep enough."""
    rows: dict[str, float | None] = {}
    for row in rng.sample(sorted(incumbent), len(incumbent)):
        if deep_enough(rows, least):
            break
        rows[row] = incumbent[row]
    return rows


@dataclass(frozen=True, slots=True)
class Standing:
    """How a child does against the incumbent so far."""

    n: int
    gain: float
    """Mean difference over all rows of the race, estimated from the rows run."""
    error: float
    """Its standard error."""


class Race:
    """One race's plan: the incumbent's rows in two strata, those with room for improvement first."""

    def __init__(self, incumbent: Scores, block: int, *, shrinking: bool = False) -> None:
        """A `shrinking` child has nothing to mend, only something to break: its race opens with the good rows."""
        self.incumbent = {row: value for row, value in incumbent.items() if value is not None}
        self.shrinking = shrinking
        mean = sum(self.incumbent.values()) / max(1, len(self.incumbent))
        low = [row for row, value in self.incumbent.items() if value <= mean and value < 1]
        high = [row for row in self.incumbent if row not in set(low)]
        self._strata = [rows for rows in (low, high) if rows]
        opening = ((high or low) if shrinking else (low or high))[:FIRST_LOOK]
        rest = [row for row in self.incumbent if row not in set(opening)]
        blocks = [opening, *(rest[start : start + block] for start in range(0, len(rest), block))]
        self.blocks = [rows for rows in blocks if rows]

    def standing(self, child: Scores) -> Standing:
        """The stratified estimate: rows are not run in random order, so each stratum counts by its true share."""
        n, gain, variance = 0, 0.0, 0.0
        for rows in self._strata:
            found = gaps({row: child[row] for row in rows if row in child}, self.incumbent)
            share = len(rows) / len(self.incumbent)
            n += len(found)
            gain += share * sum(found) / max(1, len(found))
            variance += share**2 * standard_error(found) ** 2
        return Standing(n, gain, math.sqrt(variance))

    def futile(self, child: Scores) -> str | None:
        """Why the child should run no further, or None to go on. `child` holds its scores so far, by row."""
        missing = sum(value is None for value in child.values())
        if missing > MAX_MISSING * len(child) and missing > 1:
            return f"{missing} of {len(child)} rows failed"
        found = gaps(child, self.incumbent)
        if not self.shrinking and max(found, default=0.0) <= 0:
            return f"mends none of {len(found)} rows"
        still_open = sum(1 - value for row, value in self.incumbent.items() if row not in child)
        at_most = sum(found) + still_open
        if not missing and (at_most < 0 or (at_most == 0 and not self.shrinking)):
            return f"cannot catch up after {len(found)} rows"
        now = self.standing(child)
        if now.gain + BEHIND_Z * now.error < 0:
            return f"behind by {-now.gain:.2f} after {now.n} rows"
        return None

    def won(self, child: Scores) -> bool:
        """Whether a child that ran on all rows takes the incumbent's place."""
        now = self.standing(child)
        if self.shrinking:
            return now.n > 0 and now.gain >= 0
        return now.gain > 0 and now.gain >= AHEAD_Z * now.error


def gaps(scores: Scores, other: Scores) -> list[float]:
    """`scores` less `other`, on the rows where both have one."""
    return [a - b for row, a in scores.items() if a is not None and (b := other.get(row)) is not None]


def paired_gain(scores: Scores, other: Scores) -> float:
    """The mean difference over the rows where both have a score; 0.0 when there are none."""
    found = gaps(scores, other)
    return sum(found) / len(found) if found else 0.0


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean of `values`; 0.0 for fewer than two."""
    n = len(values)
    if n < 2:
        return 0.0
    mean = sum(values) / n
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
