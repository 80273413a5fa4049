"""Successive halving: how many rollouts go to which round of searches, and who is not worth another.

Everyone has a short search first, all of them together a tenth of the rollouts. Then the better half goes on, and
again, with an equal share for each round, until one is left.

Source: Karnin, Koren & Somekh (2013), ICML: sequential halving; the first round is shorter here, for a hopeless
student shows itself early.
"""

from __future__ import annotations

import math

FIRST = 0.1
"""Share of the rollouts that the first round takes, all students together."""
LEAST = 3
"""Rollouts of the shortest first search for each val row: they score the start, a few proposals and the best one."""
HOPE = 0.05
"""What a first search is taken to have won back at the least: a few proposals may all miss."""
FEWEST_TRIED = 3
"""Proposals that must have run before a student is called hopeless."""


def rounds(students: int, rollouts: int, val: int) -> list[int]:
    """Rollouts of each round, for all who are in it together; `val` is how many rows a champion must run on."""
    if not students:
        return []
    first = min(students * max(int(FIRST * rollouts / students), LEAST * val), rollouts)
    later = max(1, math.ceil(math.log2(students)))
    return [first, *[(rollouts - first) // later] * later]


def likely_gap(before: float, now: float, used: int, whole: int) -> float:
    """How far behind the teacher a student will be after `whole` rollouts of search, of which it has used `used`.

    Each doubling of a search is taken to win back as much as its first part: later ones mostly win less.
    """
    won = max(before - now, HOPE)
    return before - won * (1 + math.log2(max(1.0, whole / max(1, used))))
