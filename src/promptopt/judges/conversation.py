"""A recorded conversation, and what came next, as text that a judge can read and no data can forge.

    [1] user
    | Where is order 7?
    [2] assistant
    | Let me look.
    [2] assistant calls "track" as "call_1"
    | {"order": 7}
    [3] tool answers "call_1"
    | {"status": "on its way"}
    [4] assistant, the output to judge
    | It is on its way.

Only a line that begins with `[` tells who speaks; every line of data begins with `| `, whichever character breaks it,
and names and ids stand in the other lines as JSON strings. So the text reads back as the turns it was made of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from promptopt.core.rollout import Rollout, Turn, exchanges, printable
from promptopt.metrics.answer_text import as_text

ROLES = ("system", "developer", "user", "assistant", "tool")
_INSTRUCTIONS = ("system", "developer")

READING = """\
The conversation is numbered turn by turn. A line that begins with [ says who speaks, who calls a tool, or which call \
a tool answers; lines that begin with | are what was said, the arguments of a call, or a tool's result. The turns \
marked "the output to judge" came last and are the output; all turns before them are history, recorded earlier. Where \
no turn is so marked, the output is everything that the assistant says and does in the conversation."""
"""What a judge must know to read `rendered` text."""

_LINE_BREAK = re.compile("\r\n|[\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool that an assistant's turn makes."""

    name: str
    arguments: str
    """Usually JSON, but as the model wrote them: they may be malformed."""
    id: str = ""


@dataclass(frozen=True, slots=True)
class ConversationTurn:
    """One message of a recorded conversation."""

    role: str
    """One of `ROLES`."""
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    name: str = ""
    """Who speaks, where several share a role; for a tool its own name."""
    answers: str = ""
    """The id of the call whose result this is."""
    left_out: tuple[str, ...] = ()
    """The types of content that is not text, such as `image_url`: a judge is told of them without seeing them."""


def checked_turns(value: Any) -> tuple[ConversationTurn, ...]:
    """The turns of a column's value: a list of chat messages as OpenAI writes them, or that list as JSON text.

    Content is text, a list of parts, or null beside tool calls; a call is `{id, function: {name, arguments}}` or
    `{name, arguments}`. Raises ValueError that says which turn is wrong, counted from 1, and how.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError("a conversation is a list of {role, content}, and this text is not JSON") from None
    if not isinstance(value, list | tuple):
        raise ValueError(f"a conversation is a list of {{role, content}}, not {_kind(value)}")
    return tuple(_turn(said, f"turn {number}") for number, said in enumerate(cast("Sequence[Any]", value), 1))


def continuation(history: Sequence[ConversationTurn], output: Any) -> tuple[ConversationTurn, ...]:
    """The turns that `output` adds to `history`.

    A list of chat messages, or a single one, is what it says, and may begin with the history that it continues: a
    program may return all that was said, its own instructions included. Anything else, a text that spells a list of
    messages included, is one turn of the assistant's: only a program can add turns, never what its model wrote.
    """
    said: Any = output
    if isinstance(said, Mapping) and "role" in said:
        said = [cast(Any, said)]
    if isinstance(said, list | tuple) and said:
        try:
            return _without(_spoken(history), checked_turns(said))
        except ValueError:
            pass
    return (ConversationTurn("assistant", as_text(output)),)


def work_of(rollout: Rollout) -> Any:
    """The output, or what led to it as messages where its model calls show that tools were called on the way.

    An output that holds its tool calls itself, as messages or otherwise, is left as it is.
    """
    steps = steps_of(rollout.trace)
    if not isinstance(rollout.output, str) or not any(step.get("tool_calls") for step in steps):
        return rollout.output
    if steps[-1].get("content") != rollout.output:
        steps.append({"role": "assistant", "content": rollout.output})
    return steps


def steps_of(trace: Sequence[Turn]) -> list[Mapping[str, Any]]:
    """What the assistant and its tools said in a rollout's model calls, as messages."""
    return [step for call in exchanges(trace) for step in _steps(call)]


def _steps(call: Turn) -> list[Mapping[str, Any]]:
    """What the assistant and its tools did since the user last spoke."""
    since = [number for number, message in enumerate(call.messages, 1) if message.get("role") == "user"]
    spelt = json.dumps(call.tool_calls, ensure_ascii=False)  # what stands for the text of a reply without any
    last: dict[str, Any] = {"role": "assistant", "content": None if call.reply == spelt else call.reply}
    if call.tool_calls:
        last["tool_calls"] = call.tool_calls
    return [*call.messages[max(since, default=0) :], last]


def rendered(turns: Sequence[ConversationTurn], output: Any = None) -> str:
    """The recorded `turns` and what `output` adds to them, in the form that `READING` explains; None adds nothing."""
    added = () if output is None else continuation(turns, output)
    lines: list[str] = []
    for number, turn in enumerate((*turns, *added), 1):
        lines += _lines(turn, number, ", the output to judge" if number > len(turns) else "")
    return "\n".join(lines)


def _lines(turn: ConversationTurn, number: int, mark: str) -> Iterator[str]:
    speaker = f"[{number}] {turn.role}" + (f" {json.dumps(turn.name)}" if turn.name else "")
    said = f"{speaker} answers {json.dumps(turn.answers)}" if turn.answers else speaker
    yield said + mark
    yield from _data(turn.text)
    for kind in turn.left_out:
        yield f"{speaker} shows something of type {json.dumps(kind)}, which is left out{mark}"
    for call in turn.calls:
        yield f"{speaker} calls {json.dumps(call.name)}" + (f" as {json.dumps(call.id)}" if call.id else "") + mark
        yield from _data(call.arguments)


def _data(text: str) -> Iterator[str]:
    if text:
        yield from (f"| {line}" for line in _LINE_BREAK.split(printable(text)))


def _spoken(turns: Sequence[ConversationTurn]) -> tuple[ConversationTurn, ...]:
    return tuple(turn for turn in turns if turn.role not in _INSTRUCTIONS)


def _without(
    history: tuple[ConversationTurn, ...], turns: tuple[ConversationTurn, ...]
) -> tuple[ConversationTurn, ...]:
    """`turns` without the history they begin with; instructions count on neither side."""
    spoken = _spoken(turns)
    if not history or spoken[: len(history)] != history:
        return turns
    return spoken[len(history) :] or (ConversationTurn("assistant"),)


def _turn(said: Any, place: str) -> ConversationTurn:
    if not isinstance(said, Mapping):
        raise ValueError(f"{place} is {_kind(said)}; it must be {{role, content}}")
    message = cast("Mapping[str, Any]", said)
    role = message.get("role")
    if role not in ROLES:
        found = "has no role" if role is None else f"has the role {as_text(role)[:60]!r}"
        raise ValueError(f"{place} {found}; it must be one of {', '.join(ROLES)}")
    calls = _calls(message.get("tool_calls"), place)
    content = message.get("content")
    if content is None:
        content = message.get("refusal")
    if content is None and not calls:
        raise ValueError(f"{place} ({role}) has neither content nor tool_calls")
    text, left_out = _content(content, place)
    name, answers = (_text(message, key, place) for key in ("name", "tool_call_id"))
    return ConversationTurn(role, text, calls, name, answers, left_out)


def _content(content: Any, place: str) -> tuple[str, tuple[str, ...]]:
    """The text of a message's content, and the types of its parts that are none."""
    if content is None or isinstance(content, str):
        return content or "", ()
    if not isinstance(content, list | tuple):
        raise ValueError(f"{place}: content must be text or a list of parts, not {_kind(content)}")
    texts: list[str] = []
    left_out: list[str] = []
    for number, part in enumerate(cast("Sequence[Any]", content), 1):
        fields: Mapping[str, Any] = {"text": part} if isinstance(part, str) else part
        if not isinstance(cast(Any, fields), Mapping):
            raise ValueError(f"{place}: content part {number} must be {{type, text}}, not {_kind(part)}")
        text = fields.get("text", fields.get("refusal"))
        if isinstance(text, str):
            texts.append(text)
        elif isinstance(fields.get("type"), str):
            left_out.append(fields["type"])
        else:
            raise ValueError(f"{place}: content part {number} has neither a text nor a type")
    return "\n".join(texts), tuple(left_out)


def _calls(given: Any, place: str) -> tuple[ToolCall, ...]:
    if given is None:
        return ()
    if not isinstance(given, list | tuple):
        raise ValueError(f"{place}: tool_calls must be a list, not {_kind(given)}")
    calls: list[ToolCall] = []
    for number, call in enumerate(cast("Sequence[Any]", given), 1):
        fields: Any = cast("Mapping[str, Any]", call).get("function", call) if isinstance(call, Mapping) else call
        if not isinstance(fields, Mapping) or not isinstance(cast("Mapping[str, Any]", fields).get("name"), str):
            raise ValueError(f"{place}: tool call {number} has no name; it must be {{name, arguments}}")
        function = cast("Mapping[str, Any]", fields)
        arguments = function.get("arguments", function.get("args"))
        id_ = _text(cast("Mapping[str, Any]", call), "id", f"{place}: tool call {number}")
        calls.append(ToolCall(function["name"], "" if arguments is None else as_text(arguments), id_))
    return tuple(calls)


def _text(message: Mapping[str, Any], key: str, place: str) -> str:
    value = message.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{place}: {key} must be text, not {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
