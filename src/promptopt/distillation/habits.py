"""What a student does otherwise than its teacher on one row: tools, form and length, told by contrast."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from promptopt.core.example import text_of
from promptopt.core.rollout import Rollout

SHOWN = 600
"""Characters of a teacher's reply that stand beside a student's failure."""
LONGER, WORDS_MORE = 3, 10
"""A reply is of another length where it has so many times the words, and so many more."""
FENCE = "```"


def contrast(teacher: Rollout, student: Rollout) -> str:
    """What the teacher did on a row that the student got wrong: what to do as well, or what to avoid too.

    Of a run with tools its calls and its outcome are told, for the wording of its turns does not matter.
    """
    reply = text_of(teacher.output)[:SHOWN]
    if teacher.value is None or teacher.value < 1:
        return f"A stronger model went wrong here too, so do not imitate it: {reply}"
    return "\n".join([f"A stronger model did this right. It replied: {reply}", *_habits(teacher, student)])


def _habits(teacher: Rollout, student: Rollout) -> Iterator[str]:
    calls, own_calls = _calls(teacher), _calls(student)
    if calls != own_calls:
        yield f"It called {_listed(calls)}; this run called {_listed(own_calls)}."
    if student.output is None:
        return
    right, wrong = text_of(teacher.output), text_of(student.output)
    if FENCE in wrong and FENCE not in right:
        yield "Its reply stands in no code fence, this one does."
    if _is_json(right) and not _is_json(wrong):
        yield "Its whole reply is JSON, this one is not."
    few, many = sorted((len(right.split()), len(wrong.split())))
    if many >= LONGER * max(1, few) and many - few >= WORDS_MORE:
        yield f"Its reply has {len(right.split())} words, this one {len(wrong.split())}."


def _calls(rollout: Rollout) -> list[str]:
    """The names of the tools that a run called, in order."""
    return [name for turn in rollout.trace for call in turn.tool_calls if (name := _name(call))]


def _name(call: Mapping[str, Any]) -> str:
    return str(call.get("function", {}).get("name", ""))


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "no tool"


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False
