"""Demos: labelled train rows shown as chat turns before the question, dealt anew or changed one move at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from promptopt.core.candidate import Demo
from promptopt.core.edit import Brief, ChangeDemos, Edit, SetDemos
from promptopt.reflect.demo_rows import dealt, fitting
from promptopt.reflect.operator import Refused

SIZES = (4, 8, 16, 32)
"""Demos in a fresh set, beside `max_demos`; larger sets are drawn more often, and racing stops those that hurt."""
FEW = 4
"""Most demos that one move adds, or puts in the place of others."""
DRAWS = 20
"""Moves drawn before it is said that none is left."""


class LabelledDemos:
    """Draws a move that changes something, was not rejected before and keeps within the limits."""

    def draw(self, brief: Brief) -> Edit:
        slots = [slot for slot, demos in brief.labelled.items() if demos]
        if not slots:
            raise Refused("no labelled rows for demos")
        rng = Random(f"{brief.seed}/demos")
        for _ in range(DRAWS):
            table = _Table(brief, rng.choice(slots), rng)
            move = rng.choices(list(MOVES), list(MOVES.values()))[0] if table.movable else _Table.fresh
            edit = move(table)
            if edit.apply(brief.parent) != brief.parent and edit.note not in brief.rejected:
                return edit
        raise Refused("no demos left")


@dataclass(frozen=True, slots=True)
class _Table:
    """One slot with its demos, and the moves it allows; a move for which there is no room changes nothing."""

    brief: Brief
    slot: str
    rng: Random

    @property
    def present(self) -> tuple[Demo, ...]:
        return self.brief.parent.demos.get(self.slot, ())

    @property
    def movable(self) -> bool:
        """Whether a move can change the demos that are there; in a pool for all inputs, a few rows change little."""
        return bool(self.present) and self.slot not in self.brief.parent.nearest

    def fresh(self) -> Edit:
        """Another set, its answers balanced."""
        demos = self.brief.labelled[self.slot]
        most = min(self.brief.max_demos, len(demos))
        sizes = sorted({size for size in (*SIZES, most) if 0 < size <= most}) or [0]
        size = self.rng.choices(sizes, [size + 1 for size in sizes])[0]
        chosen = fitting(self.brief, self.slot, ((), None), dealt(demos, self.rng), size)
        return SetDemos(self.slot, _shuffled(chosen, self.rng))

    def add(self) -> Edit:
        """A few more, behind the rest."""
        return ChangeDemos(self.slot, add=self._newcomers(self.rng.randint(1, FEW)))

    def swap(self) -> Edit:
        """A few others in the place of some."""
        out = self.rng.sample(self.present, self.rng.randint(1, min(FEW, len(self.present))))
        return ChangeDemos(self.slot, _ids(out), self._newcomers(len(out), out))

    def drop(self) -> Edit:
        """One less."""
        return ChangeDemos(self.slot, _ids([self.rng.choice(self.present)]))

    def reorder(self) -> Edit:
        """The same in another order: the last ones weigh most."""
        return SetDemos(self.slot, _shuffled(self.present, self.rng))

    def _newcomers(self, most: int, gone: list[Demo] | None = None) -> tuple[Demo, ...]:
        """Rows that the slot does not show, those with answers shown least first."""
        shown = {demo.example_id for demo in self.present}
        answers = Counter(demo.output for demo in self.present)
        others = [demo for demo in self.brief.labelled[self.slot] if demo.example_id not in shown]
        kept = tuple(demo for demo in self.present if demo not in (gone or ()))
        rare = sorted(dealt(others, self.rng), key=lambda demo: answers[demo.output])
        return fitting(self.brief, self.slot, (kept, None), rare, most)


MOVES: Mapping[Callable[[_Table], Edit], float] = {
    _Table.fresh: 2.0,
    _Table.add: 3.0,
    _Table.swap: 3.0,
    _Table.drop: 1.0,
    _Table.reorder: 1.0,
}
"""How often each move is drawn where there are demos; without any, only `fresh` is."""


def _ids(demos: list[Demo]) -> tuple[str, ...]:
    return tuple(demo.example_id for demo in demos)


def _shuffled(demos: tuple[Demo, ...], rng: Random) -> tuple[Demo, ...]:
    return tuple(rng.sample(demos, len(demos)))
