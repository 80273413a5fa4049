"""The strict reading of what a reflection model answers: only the structured part counts, and only if it is whole."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, cast

from promptopt.core.edit import Brief
from promptopt.core.example import text_of
from promptopt.programs.prompt import placeholders
from promptopt.reflect.operator import Refused
from promptopt.reflect.showing import MARK

COPIED_WORDS = 10
"""A run of this many words from a row's input or expected answer is a copy, not a lesson."""


def fenced_block(answer: str) -> str:
    """The text inside the answer's fenced block, without the marks that stood around the current text.

    Raises Refused when there is no block, or more than one.
    """
    lines = answer.strip().split("\n")
    fences = [number for number, line in enumerate(lines) if re.fullmatch(r"`{3,}\w*\s*", line)]
    if len(fences) < 2:
        raise Refused("no fenced block", "put the new text, and nothing else, between two lines of three backticks")
    if len(fences) > 2:
        raise Refused("several fenced blocks", "give exactly one fenced block")
    inside = lines[fences[0] + 1 : fences[1]]
    text = "\n".join(line for line in inside if not MARK.fullmatch(line.strip())).strip()
    if not text:
        raise Refused("empty text", "the fenced block was empty")
    return text


def json_object(answer: str) -> dict[str, Any]:
    """The JSON object that is the whole answer, or its one fenced block."""
    text = answer.strip()
    try:
        value = json.loads(fenced_block(text) if text.startswith("```") else text)
        json.dumps(value, ensure_ascii=False).encode()
    except ValueError as error:
        raise Refused("not JSON", "answer with one JSON object and nothing else") from error
    if not isinstance(value, dict):
        raise Refused("not JSON", "answer with one JSON object and nothing else")
    return cast("dict[str, Any]", value)


def check_text(text: str, brief: Brief) -> str:
    """`text` as the component's new text; Refused when it may not stand there."""
    component = brief.component
    if text.strip() == component.text.strip():
        raise Refused("unchanged", "the text is the same as the current one")
    lost = sorted(set(component.placeholders) - set(placeholders(text)))
    if lost:
        raise Refused("lost placeholder", f"the text must keep {', '.join(f'{{{name}}}' for name in lost)}")
    if len(text.encode()) > brief.max_bytes:
        raise Refused("too long", f"the text has {len(text)} characters; at most {brief.max_bytes // 2} are allowed")
    check_not_copied(text, brief)
    return text


def check_not_copied(text: str, brief: Brief) -> None:
    """Refused when `text` holds a long verbatim copy of a row that the current text does not hold.

    Feedback may be copied: it is what the metric's author wanted to be learnt.
    """
    runs = _runs(_words(text)) - _runs(_words(brief.component.text))
    for row in brief.evidence:
        feedback = row.rollout.score.feedback if row.rollout.score else ""
        for value in [*row.example.inputs.values(), row.example.expected]:
            copied = runs & _runs(_words(text_of(value)))
            if copied - _runs(_words(feedback)):
                raise Refused("copied a row", "do not copy examples; state what holds for all of them")


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _runs(words: Sequence[str]) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + COPIED_WORDS]) for i in range(len(words) - COPIED_WORDS + 1)}
