"""Edits: what a proposal changes, kept apart from the candidate it changes.

An edit is applied late, to the incumbent of the moment (a *rebase*), so that a proposal made in parallel with others
adds to what they won instead of undoing it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from promptopt.core.candidate import Candidate, Component, Demo, Filling
from promptopt.core.example import Example, text_of
from promptopt.core.merge import merge_text
from promptopt.core.rollout import Rollout

BETWEEN_LINES = " / "
"""Between the lines of an edit where it is told in one."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A component's whole text, new; `base` is the text it was written from."""

    component: str
    text: str
    base: str

    def apply(self, candidate: Candidate) -> Candidate:
        now = candidate.components[self.component]
        return candidate.with_text(self.component, merge_text(self.base, now, self.text))

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
        new = [line for said in self.lines if (line := said.rstrip()) and not holds(text, line)]
        lines = [*([text.rstrip()] if text.strip() else []), *new]
        return candidate.with_text(self.component, "\n".join(lines)) if new else candidate

    @property
    def note(self) -> str:
        return f"add to {self.component}: {one_line(BETWEEN_LINES.join(self.lines))}"


@dataclass(frozen=True, slots=True)
class RemoveText:
    """A passage to take out of a component, a line or a sentence; without it the component stays as it is."""

    component: str
    passage: str

    def apply(self, candidate: Candidate) -> Candidate:
        before, found, after = candidate.components[self.component].partition(self.passage)
        if not found:
            return candidate
        glue = "\n" if before.endswith("\n") or after.startswith("\n") else " "
        text = glue.join(part for part in (before.strip(), after.strip()) if part)
        return candidate.with_text(self.component, text) if text else candidate

    @property
    def note(self) -> str:
        return f"remove from {self.component}: {one_line(self.passage)}"


@dataclass(frozen=True, slots=True)
class SetDemos:
    """The demos of one slot, replaced."""

    slot: str
    demos: tuple[Demo, ...]
    nearest: int | None = None
    """How many of them are shown, the nearest to the input; None: all."""

    def apply(self, candidate: Candidate) -> Candidate:
        return candidate.with_demos(self.slot, self.demos, self.nearest)

    @property
    def note(self) -> str:
        return f"{of_demos((self.demos, self.nearest))} in {self.slot}: {_ids(self.demos)}"


@dataclass(frozen=True, slots=True)
class ChangeDemos:
    """Demos of one slot taken out, by the id of their row, and others put behind the rest."""

    slot: str
    drop: tuple[str, ...] = ()
    add: tuple[Demo, ...] = ()

    def apply(self, candidate: Candidate) -> Candidate:
        new = {demo.example_id for demo in self.add}
        had, nearest = candidate.filling(self.slot)
        kept = [demo for demo in had if demo.example_id not in {*self.drop, *new}]
        return candidate.with_demos(self.slot, (*kept, *self.add), nearest)

    @property
    def note(self) -> str:
        parts = [f"add {_ids(self.add)}"] * bool(self.add) + [f"drop {', '.join(self.drop)}"] * bool(self.drop)
        return f"demos in {self.slot}: {one_line(', '.join(parts))}"


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A cause of failures, and what would mend it: a line to add, and a passage to take out where one misleads."""

    label: str
    """The cause in a few words, without a colon."""
    component: str
    line: str
    passage: str = ""

    def apply(self, candidate: Candidate) -> Candidate:
        without = RemoveText(self.component, self.passage).apply(candidate) if self.passage else candidate
        return AddLines(self.component, (self.line,)).apply(without)

    @property
    def name(self) -> str:
        """What it is remembered by: the same cause in other words is another hypothesis, the same label is not."""
        return f"{self.label} in {self.component}".casefold()

    @property
    def note(self) -> str:
        return f"{self.name}: {one_line(self.line)}"


@dataclass(frozen=True, slots=True)
class Together:
    """Several edits, one after the other."""

    edits: tuple[Edit, ...]

    def apply(self, candidate: Candidate) -> Candidate:
        for edit in self.edits:
            candidate = edit.apply(candidate)
        return candidate

    @property
    def note(self) -> str:
        return one_line("; ".join(edit.note for edit in self.edits))


Edit = Rewrite | AddLines | RemoveText | SetDemos | ChangeDemos | Hypothesis | Together


def joined(edits: Iterable[Edit]) -> Edit | None:
    """All of them as one edit, each once; None where there is none."""
    different: list[Edit] = []
    for edit in edits:
        if edit not in different:
            different.append(edit)
    return Together(tuple(different)) if len(different) > 1 else next(iter(different), None)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One train row with what the parent made of it, or an ancestor."""

    example: Example
    rollout: Rollout

    def demo(self, slot: str) -> Demo | None:
        """The demo that the row makes in a slot, from that part's last run, or from the program's where it has none."""
        if self.rollout.invocations:
            runs = [run for run in self.rollout.invocations if run.slot == slot and not run.fault]
            return Demo(self.example.id, dict(runs[-1].inputs), runs[-1].output) if runs else None
        if self.rollout.output is None:
            return None
        return Demo(self.example.id, dict(self.example.inputs), text_of(self.rollout.output))


@dataclass(frozen=True, slots=True)
class Brief:
    """All that an operator may know: train rows only, never val or test."""

    parent: Candidate
    component: Component
    """The component to change; its `text` is the parent's."""
    original: str
    """The component's text as the user wrote it."""
    evidence: tuple[Evidence, ...]
    train: tuple[Example, ...]
    labelled: Mapping[str, tuple[Demo, ...]]
    """By demo slot of the program, the demos that train rows make without running anything."""
    max_demos: int
    max_bytes: int
    """A candidate's texts and demos together may not be longer."""
    rejected: Mapping[str, str]
    """Notes of earlier edits that did not help, and why; newest last."""
    seed: tuple[int, ...]
    """Where an operator's own random draws come from: the run's seed, the step, and the place among its briefs."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What an operator came back with: an edit, or None when every answer was refused."""

    edit: Edit | None
    refused: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many answers were refused, by reason."""
    tokens: int = 0
    """Tokens that the reflection model read and wrote for it."""
    asked: bool = False
    """Whether a reflection model was asked for it."""


def holds(text: str, line: str) -> bool:
    """Whether `line` stands in `text`, as a line of it or as whole sentences in one."""
    said = re.escape(line)
    whole = rf"^{said}[^\S\n]*$"
    sentence = rf"(?<!\S){said}(?!\S)" if line.endswith((".", "!", "?")) else whole
    return re.search(f"{whole}|{sentence}", text, re.MULTILINE) is not None


def one_line(text: str, width: int = 160) -> str:
    """`text` on one line of at most `width` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def of_demos(filling: Filling) -> str:
    """What is in a slot, in words: `8 demos`, or `the 4 nearest of 200 demos`."""
    demos, nearest = filling
    count = f"{len(demos)} demo{'s' * (len(demos) != 1)}"
    return count if nearest is None else f"the {nearest} nearest of {count}"


def _ids(demos: tuple[Demo, ...]) -> str:
    return one_line(", ".join(demo.example_id for demo in demos))
