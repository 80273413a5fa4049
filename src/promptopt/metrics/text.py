"""Words of the output against words of the expected answer."""

from __future__ import annotations

import re
import string
from collections import Counter
from typing import ClassVar

from pydantic.dataclasses import dataclass

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.lm.session import Session
from promptopt.metrics.answer_text import answered, as_text, mentions, normalise, quote, wanted
from promptopt.metrics.built_in import STRICT, BuiltIn

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, config=STRICT)
class Contains(BuiltIn):
    """1 when the expected answer occurs in the output, else 0.

    A reply that lists every label contains the right one: for labels use `exact_match`.
    """

    type: ClassVar[str] = "contains"

    normalise: bool = True
    """Ignore case and spacing, and what surrounds the expected answer."""
    whole_words: bool = True
    """`no` does not occur in `know`. Switch it off for languages that are written without spaces."""

    @property
    def binary(self) -> bool:
        return True

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        want = as_text(wanted(example))
        if not want.strip():
            raise ValueError(f"row {example.id!r}: the expected answer is empty, and every reply contains that")
        output = answered(example, rollout)
        if output is None:
            return Score(0.0, f"Wanted a reply that contains {quote(want)}, but there was no output.")
        text, phrase = as_text(output), want
        if self.normalise:
            text, phrase = " ".join(text.casefold().split()), normalise(want)
        if mentions(text, phrase) if self.whole_words else phrase in text:
            return Score(1.0, "Correct: the reply contains the wanted answer.")
        return Score(0.0, f"The reply should contain {quote(want)}; it was {quote(output)}.")


@dataclass(frozen=True, config=STRICT)
class TokenF1(BuiltIn):
    """Harmonic mean of precision and recall over words, without case, punctuation and English articles.

    Source: Rajpurkar et al. (2016), SQuAD, EMNLP.
    """

    type: ClassVar[str] = "token_f1"

    @property
    def binary(self) -> bool:
        return False

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        want = as_text(wanted(example))
        output = answered(example, rollout)
        if output is None:
            return Score(0.0, f"Wanted {quote(want)}, but there was no output.")
        f1, missing, extra = token_f1(as_text(output), want)
        if f1 == 1.0:
            return Score(1.0, "Correct.")
        lacks = f" Missing words: {quote(' '.join(missing))}." if missing else ""
        spare = f" Words too many: {quote(' '.join(extra))}." if extra else ""
        return Score(f1, f"Word overlap {f1:.2f}: wanted {quote(want)}, got {quote(output)}.{lacks}{spare}")


def token_f1(got: str, want: str) -> tuple[float, list[str], list[str]]:
    """F1 of two bags of words, with the words that `got` lacks and those it has too many.

    Two texts without any word are equal and score 1.
    """
    words_got, words_want = Counter(_words(got)), Counter(_words(want))
    if words_got == words_want:
        return 1.0, [], []
    shared = (words_got & words_want).total()
    f1 = 2 * shared / (words_got.total() + words_want.total())
    return f1, list((words_want - words_got).elements()), list((words_got - words_want).elements())


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()
