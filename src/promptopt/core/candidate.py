"""Candidates: immutable texts, demos and settings, named by a hash of what they say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Candidate:
    """One version of a program's texts, demos and settings."""

    components: Mapping[str, str]
    demos: Mapping[str, tuple[Demo, ...]] = field(default_factory=dict[str, tuple[Demo, ...]])
    """Demos by slot; a prompt has the one slot `prompt`, a pipeline one for each predictor."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Values that replace the program's own, such as temperature or lm."""

    @cached_property
    def id(self) -> str:
        """The first 12 hex digits of a hash of the content: equal content, equal id."""
        text = json.dumps(self.to_json(), sort_keys=True, ensure_ascii=False, default=str)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    @property
    def n_demos(self) -> int:
        return sum(len(demos) for demos in self.demos.values())

    def with_text(self, component: str, text: str) -> Candidate:
        """This candidate with one component's text replaced."""
        return Candidate({**self.components, component: text}, self.demos, self.settings)

    def with_demos(self, slot: str, demos: tuple[Demo, ...]) -> Candidate:
        """This candidate with one slot's demos replaced; an empty slot is left out, so that ids stay canonical."""
        kept = {name: had for name, had in self.demos.items() if name != slot}
        return Candidate(self.components, {**kept, slot: demos} if demos else kept, self.settings)

    def to_json(self) -> dict[str, Any]:
        """`{components, demos, settings}` as plain JSON values."""
        demos = {slot: [demo.to_json() for demo in demos] for slot, demos in self.demos.items()}
        return {"components": dict(self.components), "demos": demos, "settings": dict(self.settings)}

    @staticmethod
    def from_json(body: Mapping[str, Any]) -> Candidate:
        """Read back what `to_json` wrote. Raises KeyError or TypeError when a part is missing or of another type."""
        demos = {slot: tuple(Demo(**demo) for demo in rows) for slot, rows in body.get("demos", {}).items()}
        return Candidate(dict(body["components"]), demos, dict(body.get("settings", {})))
