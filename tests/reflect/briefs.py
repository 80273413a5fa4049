"""Briefs for the tests of the operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from promptopt.core.candidate import Candidate, Component, Demo
from promptopt.core.edit import Brief, Edit, Evidence
from promptopt.core.example import Example, text_of
from promptopt.core.rollout import Failure, Rollout, Score
from promptopt.programs.prompt import placeholders

TEXT = "Name the intent of {text}."
TRAIN = tuple(Example(f"r{i}", {"text": f"where is my card {i}"}, f"label{i % 3}") for i in range(9))


def seen(row: Example, reply: object, score: float | None, feedback: str = "") -> Evidence:
    """`row` with what the program replied; a score of None stands for a failed rollout."""
    if score is None:
        return Evidence(row, Rollout("c", row.id, failure=Failure("timeout", feedback or "too slow")))
    return Evidence(row, Rollout("c", row.id, output=reply, score=Score(score, feedback)))


def labelled(row: Example) -> Demo:
    """`row` with its expected answer as the reply, as a prompt shows it."""
    return Demo(row.id, dict(row.inputs), text_of(row.expected))


def brief(
    text: str = TEXT,
    *,
    original: str = TEXT,
    evidence: Sequence[Evidence] = (),
    train: Sequence[Example] = TRAIN,
    demos: Sequence[Demo] = (),
    rejected: Mapping[str, str] | None = None,
    max_demos: int = 6,
    max_bytes: int = 4000,
    step: int = 1,
) -> Brief:
    """A brief for a prompt with one component and one slot of demos."""
    candidate = Candidate({"system": text}, {"prompt": tuple(demos)} if demos else {})
    component = Component("system", text, "system prompt", placeholders(text))
    return Brief(
        parent=candidate,
        component=component,
        original=original,
        evidence=tuple(evidence),
        train=tuple(train),
        labelled={"prompt": tuple(labelled(row) for row in train if row.expected is not None)},
        max_demos=max_demos,
        max_bytes=max_bytes,
        rejected=rejected or {},
        seed=(0, step),
    )


def applied(edit: Edit, brief: Brief) -> str:
    """The component's text after `edit`."""
    return edit.apply(brief.parent).components[brief.component.name]
