"""The space of a joint search: for each text, each demo slot and each setting, what may stand there.

It is read off the folded steps, so a run that is resumed, or only looked at, has the space that it had.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from promptopt.core.candidate import Candidate, Filling
from promptopt.core.edit import of_demos, one_line
from promptopt.core.state import State

MOST = 12
"""Choices of one dimension: a search of some dozen trials cannot tell more apart. The latest ones stay."""
Place = Literal["components", "demos", "settings"]


@dataclass(frozen=True, slots=True)
class Dimension:
    """One place of a program, and what may stand there; the first choice is what the baseline has."""

    place: Place
    part: str
    """The component, slot or setting."""
    choices: tuple[Any, ...]

    @property
    def name(self) -> str:
        """`components.system`, `demos.prompt`, `settings.temperature`."""
        return f"{self.place}.{self.part}"

    @property
    def labels(self) -> tuple[str, ...]:
        """Each choice in a few words, its number first, so that no two are equal."""
        return tuple(f"{number}: {self._label(choice)}" for number, choice in enumerate(self.choices))

    def _label(self, choice: Any) -> str:
        if self.place != "demos":
            return one_line("as the program has it" if choice is None else str(choice), 80)
        return one_line(f"{of_demos(choice)} ({', '.join(demo.example_id for demo in choice[0])})", 80)

    def put(self, candidate: Candidate, number: int) -> Candidate:
        """`candidate` with one of the choices in this place."""
        choice = self.choices[number]
        match self.place:
            case "components":
                return candidate.with_text(self.part, choice)
            case "demos":
                return candidate.with_demos(self.part, *choice)
            case "settings":  # the first, which is the program's own, is left out: equal programs have equal ids
                kept = {name: value for name, value in candidate.settings.items() if name != self.part}
                own = {self.part: choice} if number else {}
                return replace(candidate, settings=dict(sorted({**kept, **own}.items())))

    def of(self, candidate: Candidate) -> int | None:
        """Which choice `candidate` has here; None where it has another."""
        match self.place:
            case "components":
                had: Any = candidate.components[self.part]
            case "demos":
                had = candidate.filling(self.part)
            case "settings":
                had = candidate.settings.get(self.part, self.choices[0])
        return next((number for number, choice in enumerate(self.choices) if choice == had), None)


@dataclass(frozen=True, slots=True)
class Space:
    """Every combination of the dimensions' choices. A combination is named by the choices' numbers, by dimension."""

    base: Candidate
    dimensions: tuple[Dimension, ...]
    """Those with a choice."""

    @staticmethod
    def of(state: State, settings: Mapping[str, tuple[Any, ...]]) -> Space:
        """What the candidates of `state` that won or were pooled, and their ancestors, have in each place."""
        base = state.candidates[state.baseline]
        lines = (name for winner in state.winners for name in reversed(list(state.lineage(winner))))
        candidates = [base, *(state.candidates[name] for name in lines), *state.pool]
        fillings: dict[str, list[Filling]] = {}
        for candidate in candidates:
            for slot in candidate.demos:
                fillings.setdefault(slot, [base.filling(slot), ((), None)]).append(candidate.filling(slot))
        found: list[tuple[Place, str, Iterable[Any]]] = [
            *(("components", name, [one.components[name] for one in candidates]) for name in base.components),
            *(("demos", slot, drawn) for slot, drawn in fillings.items()),
            *(("settings", name, values) for name, values in settings.items()),
        ]
        dimensions = (Dimension(place, part, _choices(values, place)) for place, part, values in found)
        return Space(base, tuple(dimension for dimension in dimensions if len(dimension.choices) > 1))

    @property
    def size(self) -> int:
        return math.prod(len(dimension.choices) for dimension in self.dimensions)

    def candidate(self, params: Mapping[str, int]) -> Candidate:
        """The combination of these choices."""
        candidate = self.base
        for dimension in self.dimensions:
            candidate = dimension.put(candidate, params[dimension.name])
        return candidate

    def note(self, params: Mapping[str, int]) -> str:
        """The combination in one line."""
        chosen = (f"{one.name} {one.labels[params[one.name]]}" for one in self.dimensions)
        return one_line("; ".join(chosen), 240)

    def params(self, candidate: Candidate) -> dict[str, int] | None:
        """Where `candidate` is in the space; None where it is outside."""
        params = {
            dimension.name: number for dimension in self.dimensions if (number := dimension.of(candidate)) is not None
        }
        inside = len(params) == len(self.dimensions) and self.candidate(params) == candidate
        return params if inside else None


def _choices(values: Iterable[Any], place: Place) -> tuple[Any, ...]:
    """`values` without repeats, the first one and the latest of the others."""
    distinct: list[Any] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    kept = len(distinct) if place == "settings" else MOST
    return (*distinct[:1], *distinct[1:][1 - kept :])
