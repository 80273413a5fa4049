"""What other people's judges are shown of a row and a rollout: fields by name, tool calls, and the conversation."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout
from promptopt.judges.conversation import ConversationTurn, checked_turns, continuation, steps_of
from promptopt.metrics.answer_text import as_text


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool."""

    name: str
    arguments: Mapping[str, Any] | str
    """A mapping where the model wrote one, else the text as it is."""
    result: str | None = None


@dataclass(frozen=True)
class Row:
    """One rollout, for judges that take it by fields.

    `fields` maps a judge's own names to columns; a column that bears one of the names in `known` needs no mapping.
    `conversation` is the column that holds recorded turns; without it the row's inputs are what the user said.
    """

    example: Example
    rollout: Rollout
    fields: Mapping[str, str]
    known: Collection[str] = ()
    conversation: str | None = None

    def field(self, name: str) -> Any:
        """The value of a judge's field, None where the row has none. ValueError for a column that is not there."""
        columns = {**self.example.meta, **self.example.inputs}
        if name in self.fields and self.fields[name] not in columns:
            raise ValueError(
                f"row {self.example.id!r} has no column {self.fields[name]!r}, which metric.fields.{name} names"
            )
        return columns.get(self.fields.get(name, name))

    @cached_property
    def given(self) -> dict[str, Any]:
        """Every field that the row has, by the judge's name."""
        names = sorted({*self.fields, *self.known})
        return {name: value for name in names if (value := self.field(name)) is not None}

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """The input columns that are no field and no conversation."""
        taken = {*self.fields.values(), self.conversation, *(name for name in self.known if name not in self.fields)}
        return {name: value for name, value in self.example.inputs.items() if name not in taken}

    @property
    def request(self) -> str:
        """What was asked, as text: the only input, or all of them as JSON."""
        inputs = self.inputs
        return as_text(next(iter(inputs.values())) if len(inputs) == 1 else inputs)

    @cached_property
    def turns(self) -> tuple[ConversationTurn, ...]:
        """The conversation, with what the output adds to it. Raises ValueError for a column that holds none."""
        history = (ConversationTurn("user", self.request),)
        if self.conversation is not None:
            if self.conversation not in self.example.inputs:
                missing = f"row {self.example.id!r} has no input column {self.conversation!r}"
                raise ValueError(f"{missing}, which metric.conversation names")
            history = checked_turns(self.example.inputs[self.conversation])
        return (*history, *continuation(history, self.rollout.output))

    def check(self) -> None:
        """Raise ValueError for a column that is not there, or that holds no conversation."""
        _ = self.given, self.turns

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """The tool calls of the rollout: those its program sent back to a model, and those of its output."""
        steps = [turn for step in steps_of(self.rollout.trace) for turn in _readable(step)]
        return calls_in([*steps, *(turn for turn in continuation((), self.rollout.output) if turn not in steps)])


def calls_in(turns: Sequence[ConversationTurn], among: Sequence[ConversationTurn] = ()) -> tuple[Call, ...]:
    """The tool calls of `turns`, each with what the tool answered, here or later `among` others."""
    results = {turn.answers: turn.text for turn in (*among, *turns) if turn.answers}
    return tuple(
        Call(call.name, _parsed(call.arguments), results.get(call.id) if call.id else None)
        for turn in turns
        for call in turn.calls
    )


def texts(value: Any) -> list[str]:
    """A column's value as a list of texts: one document or several."""
    if not isinstance(value, list | tuple):
        return [] if value is None else [as_text(value)]
    return [as_text(one) for one in cast("Sequence[Any]", value)]


def _readable(message: Mapping[str, Any]) -> tuple[ConversationTurn, ...]:
    """The turn that a message is; none for one in a form of a model's own."""
    with suppress(ValueError):
        return checked_turns([message])
    return ()


def _parsed(arguments: str) -> Mapping[str, Any] | str:
    try:
        value: Any = json.loads(arguments)
    except ValueError:
        return arguments
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else arguments
