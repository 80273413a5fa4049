"""Nearest: a pool of demos, of which each input is shown those that are nearest to it.

What is shown is chosen anew for every input, so a few demos do what it would take many for (KATE: Liu et al., 2022).
The pool is rows with a right answer: their labels, or in a distillation the teacher's replies, as in-context
distillation has it (Sarukkai et al., 2025, arXiv:2512.02543).
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from promptopt.core.candidate import Demo
from promptopt.core.edit import Brief, Edit, SetDemos
from promptopt.core.selection import demo_bytes
from promptopt.reflect.demo_rows import has_room, pooled
from promptopt.reflect.operator import Refused

COUNTS = (2, 4, 8, 16)
"""How many demos an input may be shown; larger ones are drawn more often, as they help more where any do."""


class NearestDemos:
    """Draws how many demos are shown, and of which pool; the pool itself is the same in the whole run."""

    def draw(self, brief: Brief) -> Edit:
        edits = [edit for edit in _edits(brief) if edit.note not in brief.rejected]
        new = [edit for edit in edits if edit.apply(brief.parent) != brief.parent]
        if not new:
            raise Refused("no pool of demos")
        return Random(f"{brief.seed}/nearest").choices(new, [edit.nearest or 0 for edit in new])[0]


def _edits(brief: Brief) -> Iterator[SetDemos]:
    for slot, labelled in brief.labelled.items():
        own = [demo for demo in brief.parent.demos.get(slot, ()) if demo not in labelled]
        for demos in (labelled, own):
            pool = pooled(demos, Random(f"{brief.seed[0]}/pool"))
            for count in COUNTS:
                short_enough = _with_room(pool, count, slot, brief)
                if len(short_enough) > count:
                    yield SetDemos(slot, short_enough, count)


def _with_room(pool: tuple[Demo, ...], count: int, slot: str, brief: Brief) -> tuple[Demo, ...]:
    """The pool without its longest demos, so that there is room for any `count` of the others."""
    while len(pool) > count and not has_room(brief, slot, (pool, count)):
        longest = max(pool, key=demo_bytes)
        pool = tuple(demo for demo in pool if demo is not longest)
    return pool
