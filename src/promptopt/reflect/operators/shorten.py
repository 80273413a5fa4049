"""Shorten: the same instruction in fewer words; among equals the shortest wins, and every call pays for length."""

from __future__ import annotations

from promptopt.core.edit import Brief, Edit, Rewrite
from promptopt.metrics.answer_text import mentions
from promptopt.reflect.evidence import plain
from promptopt.reflect.operator import Question, Refused
from promptopt.reflect.reading import new_text
from promptopt.reflect.showing import messages

SHORTEST = 120
"""Bytes of a text that is not worth shortening."""
SAVED = 0.1
"""The part of the text's bytes that must go."""

TEMPLATE = """
You edit one text of a program that calls a language model. The text is its <role>.

The current text:
<curr_param>

<rejected>

Write the same text in as few words as possible. Keep every rule, every allowed answer and the form that a reply must
have, with the same words where they are names. Drop what says nothing, and say only once what is said twice.
<placeholders>
Give the complete shorter text, and nothing else, inside one block that starts with a line ``` and ends with a line ```.
"""


class Shorten:
    """Asks for the text in fewer words; it needs no evidence."""

    def ask(self, brief: Brief) -> Question:
        if len(brief.component.text.encode()) < SHORTEST:
            raise Refused("nothing to shorten")
        return Question(messages(TEMPLATE, brief))

    def read(self, answer: str, brief: Brief) -> Edit:
        text, base = new_text(answer, brief), brief.component.text
        if len(text.encode()) > (1 - SAVED) * len(base.encode()):
            raise Refused("not shorter", f"the text must have at most {int((1 - SAVED) * len(base))} characters")
        if lost := sorted(_answers_in(base, brief) - _answers_in(text, brief)):
            raise Refused("lost an answer", f"the text must still name {', '.join(lost)}")
        return Rewrite(brief.component.name, text, base)


def _answers_in(text: str, brief: Brief) -> set[str]:
    """The train rows' answers that `text` names: without them the program no longer knows what it may reply."""
    answers = {plain(row.expected) for row in brief.train if row.expected is not None}
    return {answer for answer in answers if answer and mentions(plain(text), answer)}
