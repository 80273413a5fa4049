"""The strict reading of what a reflection model answers: only the structured part counts, and only if it is whole."""

from __future__ import annotations

import json
import re
from typing import Any, cast

from promptopt.core.edit import Brief
from promptopt.core.example import text_of
from promptopt.metrics.answer_text import answered
from promptopt.programs.prompt import placeholders
from promptopt.reflect.copying import COPIED, REPEATED, copies_a_row, echoes_a_race, holds_any, names_of_rows
from promptopt.reflect.operator import Refused
from promptopt.reflect.showing import MARK, ROW

FENCE = re.compile(r"\s*`{3,}\w*\s*")
SMALL_TALK = re.compile(
    r"(certainly|sure|absolutely|of course|great question|as an ai|i apologi[sz]e|i'm sorry|i am sorry|i understand"
    r"|thank you for|i hope this|feel free to|let me know if|if you have any (further |other )?questions"
    r"|please provide .*\b(i will|i can|i'll))\b"
    r"|(here is|here's|below is|this is) (the|an?|your|my) ((complete|new|improved|better|updated|revised|rewritten"
    r"|short|shorter|shortened|system) )+(text|prompt|instructions?|version|message)\b",
    re.IGNORECASE,
)
"""How a line of chat begins, and an instruction does not."""
THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
"""What a reasoning model may write before its answer."""
BARE = re.compile(r"\A\W*(?:\d+[.):]\s*)?((?:.*\w)?).*\Z", re.DOTALL)
"""An answer, the group, in its wrapping."""


def new_text(answer: str, brief: Brief) -> str:
    """The component's new text: an answer's fenced block, less the lines about a single row.

    Raises Refused when it may not stand there.
    """
    component = brief.component
    nested = any(FENCE.fullmatch(line) for line in component.text.split("\n"))
    lines = fenced_block(answer, nested=nested).split("\n")
    if sum(len(line.encode()) for line in lines) > brief.max_bytes:
        raise Refused("too long", f"the text is too long; at most {brief.max_bytes // 2} characters are allowed")
    names = names_of_rows(brief)
    text = "\n".join(line for line in lines if not holds_any(line, names)).strip()
    if not text or copies_a_row(text, brief) or any(map(ROW.match, lines)):
        raise Refused(COPIED, "do not copy examples; state what holds for all of them")
    _check_is_an_instruction(text, brief)
    if text == component.text.strip():
        raise Refused("unchanged", "the text is the same as the current one")
    lost = sorted(set(component.placeholders) - set(placeholders(text)))
    if lost:
        raise Refused("lost placeholder", f"the text must keep {', '.join(f'{{{name}}}' for name in lost)}")
    return text


def fenced_block(answer: str, *, nested: bool = False) -> str:
    """The text inside the answer's fenced block, without the marks that stood around the current text.

    A text that has fences itself is `nested`: it reaches from the first fence to the last. Raises Refused when there
    is no block, or, not nested, more than one.
    """
    lines = THOUGHTS.sub("", answer).strip().split("\n")
    fences = [number for number, line in enumerate(lines) if FENCE.fullmatch(line)]
    if len(fences) < 2:
        raise Refused("no fenced block", "put the new text, and nothing else, between two lines of three backticks")
    if len(fences) > 2 and not nested:
        raise Refused("several fenced blocks", "give exactly one fenced block")
    inside = lines[fences[0] + 1 : fences[-1]]
    text = "\n".join(line for line in inside if not MARK.fullmatch(line.strip())).strip()
    if not text:
        raise Refused("empty text", "the fenced block was empty")
    return text


def json_object(answer: str) -> dict[str, Any]:
    """The JSON object that is the whole answer, or its one fenced block."""
    text = THOUGHTS.sub("", answer)
    fenced = any(map(FENCE.fullmatch, text.split("\n")))
    try:
        value = json.loads(fenced_block(text) if fenced else text)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Refused("not JSON", "answer with one JSON object and nothing else") from error
    if not isinstance(value, dict):
        raise Refused("not JSON", "answer with one JSON object and nothing else")
    return cast("dict[str, Any]", value)


def _check_is_an_instruction(text: str, brief: Brief) -> None:
    """Refused when `text` talks to whoever asked for it, or answers the examples."""
    known = brief.component.text
    if any(SMALL_TALK.match(line.strip()) and line.strip() not in known for line in text.split("\n")):
        raise Refused("small talk", "write the instruction itself; it is read by a program, not by a person")
    if _is_data(text) and not _is_data(known):
        raise Refused("data in place of a text", "write the instruction as plain text, not as JSON")
    if echoes_a_race(text, brief):
        raise Refused(REPEATED, "why an edit did not help is no part of the text")
    answers = {
        bare(value) for row in brief.evidence for value in (row.example.expected, answered(row.example, row.rollout))
    }
    if all(bare(line) in answers for line in text.split("\n") if line.strip()):
        raise Refused("answered an example", "do not answer the examples; write the instruction for answering them")


def _is_data(text: str) -> bool:
    """Whether `text` is a JSON object or list: a model that echoes what it was shown, in a form of its own."""
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def bare(value: Any) -> str:
    """An answer without a list's numbering, wrapping or case."""
    return BARE.sub(r"\1", text_of(value)).casefold()
