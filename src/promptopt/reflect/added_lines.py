"""Short lines to add: bound by a JSON schema, checked one by one, assembled here.

A weak reflection model cannot rewrite a prompt, but it can often say one true thing about a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from promptopt.core.edit import AddLines, Brief, holds
from promptopt.programs.prompt import placeholders
from promptopt.reflect.copying import (
    COPIED,
    REPEATED,
    copies_a_row,
    echoes_a_race,
    holds_any,
    names_of_rows,
    repeats,
)
from promptopt.reflect.evidence import plain
from promptopt.reflect.operator import Refused
from promptopt.reflect.reading import json_object
from promptopt.reflect.sample import Sample

LONGEST_LINE = 240
"""Characters of one line."""
ONLY_THE_FORM = "the example shows only the form of an answer"
"""What a model is told that copies the sample; a weak one makes a rule of that, too."""
LONGEST_REPLY = 80
"""Characters in which it is said which reply a rule is about."""


def schema(most: int, *about: str) -> dict[str, Any]:
    """An object with at most `most` rules, each after the number of what it is about and the texts named in `about`.

    A weak model that has to name an example and the reply that it wants goes on to say something about it. Asked for
    rules alone, it says that replies should be correct.
    """
    parts: dict[str, Any] = {"number": {"type": "integer"}}
    parts |= {name: {"type": "string", "maxLength": LONGEST_REPLY} for name in about}
    parts["rule"] = {"type": "string", "minLength": 8, "maxLength": LONGEST_LINE}
    rule = {"type": "object", "properties": parts, "required": list(parts), "additionalProperties": False}
    rules = {"type": "array", "items": rule, "minItems": 1, "maxItems": most}
    return {"type": "object", "properties": {"rules": rules}, "required": ["rules"], "additionalProperties": False}


def additions(answer: str, brief: Brief, template: str, sample: Sample, most: int) -> AddLines:
    """The lines that an answer offers; where all together were rejected before, the first alone.

    Left out are lines that break off, repeat `template` or `sample`, copy or name a single row, stand in the text
    already, or were rejected before. Raises Refused when none is left, and for rules that cannot become lines.
    """
    rules = json_object(answer).get("rules")
    if not isinstance(rules, list) or not rules:
        raise Refused("no rules", 'the object needs a list under "rules"')
    lines = sifted([one_rule(rule) for rule in cast("list[object]", rules)[:most]], brief, template, sample)
    return together(lines, brief)


def together(lines: Sequence[str], brief: Brief) -> AddLines:
    """All lines; where all together were rejected before, the first alone."""
    edit = AddLines(brief.component.name, tuple(lines))
    return edit if edit.note not in brief.rejected else AddLines(brief.component.name, (lines[0],))


def sifted(rules: Sequence[str], brief: Brief, template: str, sample: Sample) -> list[str]:
    """The lines that may be added, without repeats; raises Refused when none is left."""
    lines, name = list(dict.fromkeys(rules)), brief.component.name
    names = names_of_rows(brief)
    sieves: tuple[tuple[Callable[[str], bool], str, str], ...] = (
        (lambda line: _breaks_off(line, brief), "broke off", "a rule is a whole sentence"),
        (lambda line: repeats(line, f"{template}{sample}\n{ONLY_THE_FORM}"), REPEATED, ONLY_THE_FORM),
        (lambda line: sample.leaks(line, brief), REPEATED, "the example is about another program"),
        (lambda line: echoes_a_race(line, brief), REPEATED, "why an edit did not help is no part of a rule"),
        (lambda line: copies_a_row(line, brief), COPIED, "do not copy examples; state what holds for all of them"),
        (lambda line: holds_any(line, names), COPIED, "a rule about one example helps with no other"),
        (lambda line: holds(brief.component.text, line), "unchanged", "the text has these rules already"),
        (lambda line: AddLines(name, (line,)).note in brief.rejected, "tried before", "these rules did not help"),
    )
    for unusable, reason, advice in sieves:
        lines = [line for line in lines if not unusable(line)]
        if not lines:
            raise Refused(reason, advice)
    return lines


def _breaks_off(line: str, brief: Brief) -> bool:
    """Whether a line only names an answer, or ends where its sentence goes on."""
    said = plain(line.removeprefix("- "))
    names_it = any(row.expected is not None and plain(row.expected) == said for row in brief.train)
    return names_it or line.endswith((":", ",", "*", "…"))


def one_rule(rule: object) -> str:
    """One rule as a bullet on one line; it may come as a text, or as an object that says what it is about."""
    text = cast("dict[str, object]", rule).get("rule") if isinstance(rule, dict) else rule
    if not isinstance(text, str) or not text.strip():
        raise Refused("no rules", "every rule is a text")
    line = " ".join(text.split()).removeprefix("- ")
    if len(line) > LONGEST_LINE:
        raise Refused("too long", f"a rule has at most {LONGEST_LINE} characters")
    if placeholders(line):
        raise Refused("unknown placeholder", "a rule may not contain placeholders")
    return f"- {line}"
