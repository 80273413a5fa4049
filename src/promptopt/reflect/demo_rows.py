"""Demos in an order to choose from, and how many of them a candidate has room for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from random import Random

from promptopt.core.candidate import Demo, Filling
from promptopt.core.edit import Brief
from promptopt.core.selection import demo_bytes, longest_prompt_bytes

POOL = 200
"""Most demos of which each input is shown the nearest: every candidate that has them is written to the ledger whole."""
POOL_BYTES = 250_000
"""Most bytes of such demos together."""


def dealt(demos: Sequence[Demo], rng: Random) -> list[Demo]:
    """All `demos` in random order, one of each answer in turn."""
    by_answer: defaultdict[str, list[Demo]] = defaultdict(list)
    for demo in rng.sample(demos, len(demos)):
        by_answer[demo.output].append(demo)
    piles = rng.sample(list(by_answer.values()), len(by_answer))
    return [pile[turn] for turn in range(max(map(len, piles), default=0)) for pile in piles if turn < len(pile)]


def fitting(brief: Brief, slot: str, beside: Filling, demos: Iterable[Demo], most: int) -> tuple[Demo, ...]:
    """The first `most` of `demos` for which the parent has room in `slot`, behind what it has there then.

    One that is too long makes way for shorter ones behind it.
    """
    kept, nearest = beside
    chosen: tuple[Demo, ...] = ()
    for demo in demos:
        if len(chosen) < most and has_room(brief, slot, ((*kept, *chosen, demo), nearest)):
            chosen = (*chosen, demo)
    return chosen


def pooled(demos: Sequence[Demo], rng: Random) -> tuple[Demo, ...]:
    """As many of `demos` as a pool may hold, one of each row, their answers balanced."""
    first = {demo.example_id: demo for demo in reversed(demos)}
    chosen = dealt(list(first.values()), rng)[:POOL]
    total = accumulate(map(demo_bytes, chosen))
    return tuple(demo for demo, bytes_so_far in zip(chosen, total, strict=True) if bytes_so_far <= POOL_BYTES)


def has_room(brief: Brief, slot: str, filling: Filling) -> bool:
    """Whether the parent may have this in a slot, by number and by length, whichever demos are nearest to an input."""
    child = brief.parent.with_demos(slot, *filling)
    return child.n_demos <= brief.max_demos and longest_prompt_bytes(child) <= brief.max_bytes
