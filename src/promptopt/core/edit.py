"""Edits: what a proposal changes, kept apart from the candidate it changes.

An edit is applied late, to the incumbent of the moment (a *rebase*), so that a proposal made in parallel with others
adds to what they won instead of undoing it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from promptopt.core.candidate import Candidate, Component, Demo
from promptopt.core.example import Example
from promptopt.core.rollout import Rollout


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A component's whole text, new."""

    component: str
    text: str

    def apply(self, candidate: Candidate) -> Candidate:
        return candidate.with_text(self.component, self.text)

    @property
    def note(self) -> str:
        """The edit in one line, for people and for the memory of what was tried."""
        return f"rewrite {self.component}: {one_line(self.text)}"


@dataclass(frozen=True, slots=True)
class AddLines:
    """Lines to append to a component; lines that it already has are left out."""

    component: str
    lines: tuple[str, ...]

    def apply(self, candidate: Candidate) -> Candidate:
        text = candidate.components[self.component]
        new = [line for line in self.lines if line not in text]
        return candidate.with_text(self.component, "\n".join([text.rstrip(), *new])) if new else candidate

    @property
    def note(self) -> str:
        return f"add to {self.component}: {one_line(' / '.join(self.lines))}"


@dataclass(frozen=True, slots=True)
class SetDemos:
    """The demos of one slot, replaced."""

    slot: str
    demos: tuple[Demo, ...]

    def apply(self, candidate: Candidate) -> Candidate:
        return candidate.with_demos(self.slot, self.demos)

    @property
    def note(self) -> str:
        return f"{len(self.demos)} demos in {self.slot}: {one_line(', '.join(d.example_id for d in self.demos))}"


Edit = Rewrite | AddLines | SetDemos


@dataclass(frozen=True, slots=True)
class Evidence:
    """One train row with what the parent made of it."""

    example: Example
    rollout: Rollout


@dataclass(frozen=True, slots=True)
class Brief:
    """All that an operator may know: train rows only, never val or test."""

    parent: Candidate
    component: Component
    """The component to change; its `text` is the parent's."""
    evidence: tuple[Evidence, ...]
    train: tuple[Example, ...]
    """Rows that may serve as demos."""
    slots: tuple[str, ...]
    """The program's demo slots."""
    max_demos: int
    max_bytes: int
    """A candidate's texts and demos together may not be longer."""
    rejected: tuple[str, ...]
    """Notes of earlier edits that did not help, newest last."""
    seed: tuple[int, int]
    """Where an operator's own random draws come from: the run's seed and the step."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What an operator came back with: an edit, or None when every answer was refused."""

    edit: Edit | None
    refused: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many answers were refused, by reason."""
    tokens: int = 0
    """Tokens that the reflection model read and wrote for it."""

    def to_json(self) -> dict[str, Any]:
        return {"note": self.edit.note if self.edit else "", "refused": dict(self.refused), "tokens": self.tokens}


def one_line(text: str, width: int = 160) -> str:
    """`text` on one line of at most `width` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
