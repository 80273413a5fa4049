"""What a row may leave in a text: its lesson, not its words.

Feedback may be copied: it is what the metric's author wanted to be learnt.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache

from promptopt.core.edit import BETWEEN_LINES, Brief
from promptopt.core.example import Example, text_of
from promptopt.reflect.evidence import feedback

COPIED_WORDS = 10
"""A run of this many words from a row's input or expected answer is a copy, not a lesson."""
REPEATED_WORDS = 6
"""A run of this many words from a request is an echo of it."""
WHOLE_WORDS = 5
"""A whole input of this many words is a copy too."""
IDENTIFIER = re.compile(r"\b(?=\w*\d)\w{4,}\b")
"""A word that can name one row, such as an order number."""
COPIED = "copied a row"
"""Why a text with either fault is refused."""
REPEATED = "repeated the request"
"""Why an echo of the request, or of the sample in it, is refused."""


def copies_a_row(text: str, brief: Brief) -> bool:
    """Whether `text` holds a verbatim copy of a row of the evidence that the current text does not hold.

    A copy is a long run of words from an input or the expected answer, or the whole of an input.
    """
    said, had = words_of(text), words_of(brief.component.text)

    @cache
    def new(length: int) -> set[tuple[str, ...]]:
        return _runs(said, length) - _runs(had, length)

    def copied(words: Sequence[str], length: int) -> set[tuple[str, ...]]:
        return _runs(words, length) & new(length)

    for row in brief.evidence:
        told = words_of(feedback(row, brief.component))
        inputs = [words_of(text_of(value)) for value in row.example.inputs.values()]
        long = [(words, COPIED_WORDS) for words in [*inputs, words_of(text_of(row.example.expected))]]
        whole = [(words, len(words)) for words in inputs if len(words) >= WHOLE_WORDS]
        if any(copied(words, length) - _runs(told, length) for words, length in long + whole):
            return True
    return False


def repeats(text: str, request: str, known: str = "") -> bool:
    """Whether `text` echoes the words of a request, such as the example in it; a short text, when all its words do.

    Words of the text that is `known` already are no echo.
    """
    words = words_of(text)
    length = min(REPEATED_WORDS, len(words))
    echoed = _runs(words, length) & _runs(words_of(request), length)
    return bool(echoed - _runs(words_of(known), length) if known else echoed)


def echoes_a_race(text: str, brief: Brief) -> bool:
    """Whether `text` repeats how an earlier edit is told, or why it did not help: a weak model takes both for rules.

    What stands in the current text already is no echo.
    """
    told = (f"{BETWEEN_LINES}- ", *filter(None, brief.rejected.values()))
    return any(words in text and words not in brief.component.text for words in told)


def names_of_rows(brief: Brief) -> set[str]:
    """Identifiers that stand in the inputs of exactly one train row, and not in the current text.

    A new line that holds one is about a single row: it is memorised and not learnt.
    """
    known = {row.id: row for row in (*brief.train, *(row.example for row in brief.evidence))}
    held = Counter(word for row in known.values() for word in _input_words(row) if IDENTIFIER.fullmatch(word))
    return {word for word, rows in held.items() if rows == 1} - set(words_of(brief.component.text))


def holds_any(line: str, names: set[str]) -> bool:
    """Whether one of these identifiers stands in `line`."""
    return not names.isdisjoint(IDENTIFIER.findall(line.casefold()))


def _input_words(example: Example) -> set[str]:
    return {word for value in example.inputs.values() for word in words_of(text_of(value))}


def words_of(text: str) -> list[str]:
    """The words of a text, without case and punctuation."""
    return re.findall(r"\w+", text.casefold())


def _runs(words: Sequence[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}
