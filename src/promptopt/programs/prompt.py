"""A prompt: chat messages with `{column}` placeholders, one call a rollout."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptopt.core.candidate import Candidate, Component, Demo
from promptopt.core.example import Example, text_of
from promptopt.errors import ConfigError, did_you_mean
from promptopt.lm.message import Message
from promptopt.lm.session import Session
from promptopt.lm.spec import LM
from promptopt.programs.nearest import nearest

PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}")
ROLES = {
    "system": "system prompt: the instructions that stand before every input",
    "user": "user message: how each input is put to the model",
    "assistant": "example of an assistant's turn",
}


@dataclass(frozen=True, slots=True)
class Template:
    """One chat message: a component's name, the role it speaks in, and its text."""

    name: str
    role: str
    text: str


class Prompt:
    """Chat messages filled from the row's columns; the reply is the output.

    Give `system` and `user`, or `messages` as `{role, content, name}`; a message without a name is named by its role.
    `{column}` is replaced by the row's value in one pass, `{{` and `}}` are literal braces. `optimize` names the
    messages that may change. Demos stand as chat turns before the last user message: all of them, or the nearest to the
    row.

    Raises ConfigError for a wrong role, repeated names or an unknown name in `optimize`.
    """

    demo_slots = ("prompt",)
    retrieves = True
    max_calls = 1

    def __init__(
        self,
        lm: str | LM,
        *,
        system: str | None = None,
        user: str | None = None,
        messages: Sequence[Mapping[str, str]] | None = None,
        optimize: Sequence[str] = ("system",),
    ) -> None:
        self.lm = LM.of(lm)
        given = messages or [
            {"role": role, "content": text} for role, text in (("system", system), ("user", user)) if text is not None
        ]
        self.templates = tuple(Template(m.get("name") or m["role"], m["role"], m["content"]) for m in given)
        self.optimize = tuple(optimize)
        self._check_shape()

    @property
    def components(self) -> tuple[Component, ...]:
        return tuple(
            Component(t.name, t.text, ROLES[t.role], placeholders(t.text), t.name in self.optimize)
            for t in self.templates
        )

    @property
    def fingerprint(self) -> str:
        roles = [[template.name, template.role] for template in self.templates]
        return json.dumps(["prompt", self.lm.name, self.lm.args, roles], sort_keys=True, default=str)

    def check(self, columns: Sequence[str]) -> None:
        if not any(placeholders(template.text) for template in self.templates):
            raise ConfigError(
                "no message of the program has a placeholder, so every row would send the same prompt. Put a column "
                f"in, such as {{{columns[0]}}}.",
                key="program.user",
            )
        for template in self.templates:
            for name in placeholders(template.text):
                if name not in columns:
                    hint = did_you_mean(name, columns, f"The inputs are {', '.join(columns)}.", "{{{}}}".format)
                    raise ConfigError(
                        f"program.{template.name} has the placeholder {{{name}}}, which is not among data.inputs. "
                        f"{hint} Write {{{{ and }}}} for literal braces.",
                        key=f"program.{template.name}",
                    )

    def labelled(self, slot: str, example: Example) -> Demo | None:
        if example.expected is None:
            return None
        return Demo(example.id, dict(example.inputs), text_of(example.expected))

    def preview(self, candidate: Candidate, example: Example) -> tuple[Message, ...]:
        """The messages of one rollout, demos included."""
        texts = {template.name: candidate.components.get(template.name, template.text) for template in self.templates}
        last = max(i for i, template in enumerate(self.templates) if template.role == "user")
        turns: list[Message] = []
        for i, template in enumerate(self.templates):
            if i == last:
                for demo in shown(candidate, example):
                    turns.append({"role": "user", "content": render(texts[template.name], demo.inputs)})
                    turns.append({"role": "assistant", "content": demo.output})
            turns.append({"role": template.role, "content": render(texts[template.name], example.inputs)})
        return tuple(turns)

    async def run(self, candidate: Candidate, example: Example, lm: Session) -> str:
        reply = await lm.complete(self.preview(candidate, example), component="prompt")
        return reply.text

    def _check_shape(self) -> None:
        names = [template.name for template in self.templates]
        if not any(template.role == "user" for template in self.templates):
            raise ConfigError("program needs a user message: the template that each row fills", key="program.user")
        if len(set(names)) < len(names):
            raise ConfigError(
                "program.messages: give messages of the same role different names", key="program.messages"
            )
        for template in self.templates:
            if template.role not in ROLES:
                raise ConfigError(f"program.messages: {template.role!r} is not one of {', '.join(ROLES)}")
        for name in self.optimize:
            if name not in names:
                raise ConfigError(
                    f"program.optimize: there is no message {name!r}; there are {', '.join(names)}",
                    key="program.optimize",
                )


def shown(candidate: Candidate, example: Example) -> tuple[Demo, ...]:
    """The demos of a candidate that a row's prompt shows, in order."""
    demos, count = candidate.filling("prompt")
    return demos if count is None else nearest(demos, example.inputs, count)


def render(template: str, values: Mapping[str, Any]) -> str:
    """`template` with each `{name}` that `values` has replaced, in one pass: a value is never read as a template."""

    def put(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0][0]
        return text_of(values.get(found[1], found[0]))

    return PLACEHOLDER.sub(put, template)


def placeholders(template: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found[1] for found in PLACEHOLDER.finditer(template) if found[1]))
