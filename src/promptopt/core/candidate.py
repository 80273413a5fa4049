"""Candidates: immutable texts, demos and settings, named by a hash of what they say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any


@dataclass(frozen=True, slots=True)
class Component:
    """A named text of a program, and what an optimizer may do with it."""

    name: str
    text: str
    """The text the program starts with."""
    role: str = ""
    """What the text is for, in words a reflection model understands."""
    placeholders: tuple[str, ...] = ()
    """Names that must stay in the text as `{name}`."""
    optimize: bool = True
    slot: str = ""
    """The part of the program that it belongs to: a demo slot, and the name in a rollout's invocations."""


@dataclass(frozen=True, slots=True)
class Demo:
    """One worked example, shown to the model as a chat turn."""

    example_id: str
    inputs: Mapping[str, Any]
    output: str

    def to_json(self) -> dict[str, Any]:
        return {"example_id": self.example_id, "inputs": dict(self.inputs), "output": self.output}


Filling = tuple[tuple[Demo, ...], int | None]
"""A slot's demos, and how many of them are shown, the nearest to the input; None: all of them, in their order."""


@dataclass(frozen=True)
class Candidate:
    """One version of a program's texts, demos and settings."""

    components: Mapping[str, str]
    demos: Mapping[str, tuple[Demo, ...]] = field(default_factory=dict[str, tuple[Demo, ...]])
    """Demos by slot; a prompt has the one slot `prompt`, a pipeline one for each predictor."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Values that replace the program's own, such as temperature or lm."""
    nearest: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many of a slot's demos are shown: those whose inputs are nearest to the row's. Other slots show all."""

    @cached_property
    def id(self) -> str:
        """The first 12 hex digits of a hash of the content: equal content, equal id."""
        text = json.dumps(self.to_json(), sort_keys=True, ensure_ascii=False, default=str)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    @property
    def n_demos(self) -> int:
        """How many demos one prompt shows."""
        return sum(map(self.shown, self.demos))

    def shown(self, slot: str) -> int:
        """How many of a slot's demos one prompt shows."""
        had = len(self.demos.get(slot, ()))
        return min(had, self.nearest.get(slot, had))

    def filling(self, slot: str) -> Filling:
        """What is in a slot."""
        return self.demos.get(slot, ()), self.nearest.get(slot)

    def with_text(self, component: str, text: str) -> Candidate:
        """This candidate with one component's text replaced."""
        return replace(self, components={**self.components, component: text})

    def with_demos(self, slot: str, demos: tuple[Demo, ...], nearest: int | None = None) -> Candidate:
        """This candidate with one slot filled anew; an empty slot is left out, so that ids stay canonical."""
        others = {name: had for name, had in self.demos.items() if name != slot}
        counts = {name: count for name, count in self.nearest.items() if name != slot}
        return replace(
            self,
            demos={**others, slot: demos} if demos else others,
            nearest={**counts, slot: nearest} if demos and nearest else counts,
        )

    def to_json(self) -> dict[str, Any]:
        """`{components, demos, settings}` as plain JSON values, and `nearest` where a slot has it."""
        demos = {slot: [demo.to_json() for demo in demos] for slot, demos in self.demos.items()}
        body = {"components": dict(self.components), "demos": demos, "settings": dict(self.settings)}
        return body | {"nearest": dict(self.nearest)} if self.nearest else body

    @staticmethod
    def from_json(body: Mapping[str, Any]) -> Candidate:
        """Read back what `to_json` wrote. Raises KeyError, TypeError or ValueError for a part missing or wrong."""
        demos = {slot: tuple(Demo(**demo) for demo in rows) for slot, rows in body.get("demos", {}).items()}
        nearest = dict(body.get("nearest", {}))
        if any(slot not in demos or type(count) is not int or count < 1 for slot, count in nearest.items()):
            raise ValueError(f"nearest must give a whole number from 1 for slots that have demos, not {nearest}")
        return Candidate(dict(body["components"]), demos, dict(body.get("settings", {})), nearest)
