"""Demos: labelled train rows shown as chat turns before the question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from random import Random

from promptopt.core.candidate import Demo
from promptopt.core.edit import Brief, Edit, SetDemos
from promptopt.core.example import Example, text_of
from promptopt.reflect.operator import Refused


class LabelledDemos:
    """Draws a number of demos, larger ones more often, and so many train rows, the labels in turn."""

    name = "demos"

    def draw(self, brief: Brief) -> Edit:
        rows = [example for example in brief.train if example.expected is not None]
        if not brief.slots or not rows:
            raise Refused("no labelled rows for demos")
        rng = Random(f"{brief.seed}/demos")
        sizes = sorted({size for size in (4, 8, 16, 32, brief.max_demos) if size <= min(brief.max_demos, len(rows))})
        size = rng.choices(sizes, sizes)[0] if sizes else len(rows)
        chosen = _balanced(rows, size, rng)
        demos = tuple(Demo(row.id, dict(row.inputs), text_of(row.expected)) for row in chosen)
        return SetDemos(rng.choice(brief.slots), demos)


def _balanced(rows: Sequence[Example], size: int, rng: Random) -> list[Example]:
    """`size` rows, drawn from each expected answer in turn, in random order."""
    by_answer: defaultdict[str, list[Example]] = defaultdict(list)
    for row in rng.sample(rows, len(rows)):
        by_answer[text_of(row.expected)].append(row)
    piles = rng.sample(list(by_answer.values()), len(by_answer))
    dealt = [pile[turn] for turn in range(max(map(len, piles))) for pile in piles if turn < len(pile)]
    chosen = dealt[:size]
    rng.shuffle(chosen)
    return chosen
