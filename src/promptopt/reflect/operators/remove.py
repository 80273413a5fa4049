"""Remove: one line taken out that the search put in, for texts grow by rules that no longer help, or never did."""

from __future__ import annotations

import re
from random import Random

from promptopt.core.edit import Brief, Edit, RemoveText
from promptopt.programs.prompt import placeholders
from promptopt.reflect.operator import Refused

LINE = re.compile(r"[^\n]*\S[^\n]*")
SENTENCE = re.compile(r"\S.*?[.!?](?=\s|$)|\S.*$", re.DOTALL)


class RemoveLine:
    """Takes out a line without placeholders, or a sentence where there is one line; later ones are drawn more often."""

    def draw(self, brief: Brief) -> Edit:
        passages = _passages(brief.component.text)
        edits = [RemoveText(brief.component.name, passage[0]) for passage in passages]
        weights = [
            place if brief.component.text.index(passage[0]) == passage.start() and _may_go(edit, brief) else 0
            for place, (passage, edit) in enumerate(zip(passages, edits, strict=True), 1)
        ]
        if len(edits) < 2 or not any(weights):
            raise Refused("nothing to remove")
        return Random(f"{brief.seed}/remove").choices(edits, weights)[0]


def _passages(text: str) -> list[re.Match[str]]:
    """The text's lines, or the sentences of its only line."""
    lines = list(LINE.finditer(text))
    return lines if len(lines) > 1 else list(SENTENCE.finditer(text))


def _may_go(edit: RemoveText, brief: Brief) -> bool:
    """The user's own lines stay: that nothing breaks on a few rows does not show that they are idle."""
    own = edit.passage in brief.original
    return not own and not placeholders(edit.passage) and edit.note not in brief.rejected
