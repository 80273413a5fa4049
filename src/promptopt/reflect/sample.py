"""The sample in a request: what an answer to it might be, for another program of the same kind.

A weak model copies a sample's kind. Shown a rule that tells labels apart, it writes such a rule about sums as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from promptopt.core.edit import Brief
from promptopt.core.example import are_labels, text_of
from promptopt.reflect.copying import words_of
from promptopt.reflect.evidence import plain


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample answer."""

    program: str
    """What the other program does, after `a program that`."""
    answer: str
    own: tuple[str, ...]
    """Words that are about the other program alone."""

    def __str__(self) -> str:
        return f"For a program that {self.program} it might be:\n{self.answer}"

    def leaks(self, line: str, brief: Brief) -> bool:
        """Whether `line` is about the other program: it has a word of its own that nothing of this one holds."""
        foreign = set(self.own).intersection(words_of(line))
        return bool(foreign) and not foreign <= set(words_of(brief.component.text)).union(*map(words_of, _said(brief)))


def of_mail(answer: str) -> Sample:
    """For a program that chooses among few answers."""
    return Sample("sorts mail into billing, sales and support", answer, own=("mail", "billing", "sales"))


def of_journeys(answer: str) -> Sample:
    """For a program whose answers are worked out, or found, or written."""
    return Sample("says how long a journey takes", answer, own=("journey", "journeys", "leg", "legs"))


def fitting(brief: Brief, choosing: Sample, other: Sample) -> Sample:
    """The sample of a program such as the one at hand."""
    return choosing if chooses(brief) else other


def chooses(brief: Brief) -> bool:
    """Whether the program chooses among few answers, by what train rows want."""
    return are_labels([plain(row.expected) for row in brief.train if row.expected is not None])


def _said(brief: Brief) -> list[str]:
    return [text_of(value) for row in brief.train for value in (*row.inputs.values(), row.expected)]
