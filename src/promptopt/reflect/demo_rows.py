"""Which train rows may serve as demos, and how many of them a candidate has room for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from random import Random

from promptopt.core.candidate import Candidate, Demo
from promptopt.core.edit import Brief
from promptopt.core.example import Example, text_of
from promptopt.core.selection import prompt_bytes


def labelled(row: Example) -> Demo:
    """`row` with its expected answer as the reply."""
    return Demo(row.id, dict(row.inputs), text_of(row.expected))


def dealt(rows: Sequence[Example], rng: Random) -> list[Example]:
    """All `rows` in random order, one of each expected answer in turn."""
    by_answer: defaultdict[str, list[Example]] = defaultdict(list)
    for row in rng.sample(rows, len(rows)):
        by_answer[text_of(row.expected)].append(row)
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
