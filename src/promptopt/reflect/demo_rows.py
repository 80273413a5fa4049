"""Demos in an order to choose from, and how many of them a candidate has room for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from random import Random

from promptopt.core.candidate import Candidate, Demo
from promptopt.core.edit import Brief
from promptopt.core.selection import prompt_bytes


def dealt(demos: Sequence[Demo], rng: Random) -> list[Demo]:
    """All `demos` in random order, one of each answer in turn."""
    by_answer: defaultdict[str, list[Demo]] = defaultdict(list)
    for demo in rng.sample(demos, len(demos)):
        by_answer[demo.output].append(demo)
    piles = rng.sample(list(by_answer.values()), len(by_answer))
    return [pile[turn] for turn in range(max(map(len, piles), default=0)) for pile in piles if turn < len(pile)]


def fitting(brief: Brief, demos: Iterable[Demo], most: int, gone: Sequence[Demo] = ()) -> tuple[Demo, ...]:
    """The first `most` of `demos` that the parent has room for, in number and in bytes, once those in `gone` are out.

    One that is too long makes way for shorter ones behind it.
    """
    places = min(most, brief.max_demos - brief.parent.n_demos + len(gone))
    left = brief.max_bytes - prompt_bytes(brief.parent) + sum(map(_bytes, gone))
    chosen: list[Demo] = []
    for demo in demos:
        if len(chosen) < places and (size := _bytes(demo)) <= left:
            chosen.append(demo)
            left -= size
    return tuple(chosen)


def _bytes(demo: Demo) -> int:
    return prompt_bytes(Candidate({}, {"": (demo,)}))
