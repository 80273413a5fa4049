"""A regular expression finds the answer in the output."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, ClassVar

import regex
from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.lm.session import Session
from promptopt.metrics.answer_text import answered, as_text, normalise, quote, wanted
from promptopt.metrics.built_in import STRICT, BuiltIn

SEARCHED = 100_000
"""Of a longer output only the last so many characters are searched: answers come last."""
SECONDS = 1.0
"""A search that takes longer has run into catastrophic backtracking; the score is then missing, not 0."""


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> regex.Pattern[str]:
    return regex.compile(pattern)


def _sound(pattern: str) -> str:
    try:
        _compiled(pattern)
    except regex.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    return pattern


@dataclass(frozen=True, config=STRICT)
class Regex(BuiltIn):
    """1 when the pattern is found in the output, else 0.

    With a group named `answer`, what the group of the last match holds must also equal the expected answer. Without a
    `pattern`, each row's expected answer is the pattern.
    """

    type: ClassVar[str] = "regex"

    pattern: Annotated[str, AfterValidator(_sound)] | None = None
    """As in Python's `re`, searched anywhere; flags stand inside, as in `(?i)yes`."""
    normalise: bool = True
    """Compare the group `answer` without case, spacing, wrapping quotes and closing punctuation."""

    @property
    def binary(self) -> bool:
        return True

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        pattern = self._pattern(example)
        compares = "answer" in pattern.groupindex
        want = as_text(wanted(example)) if compares else ""
        output = answered(example, rollout)
        if output is None:
            return Score(0.0, f"Wanted a reply that matches {pattern.pattern}, but there was no output.")
        text = as_text(output)[-SEARCHED:]
        try:
            found = list(pattern.finditer(text, timeout=SECONDS))[-1:]
        except TimeoutError:
            raise ValueError(
                f"row {example.id!r}: the pattern {pattern.pattern} took over {SECONDS:g} s on {len(text)} characters; "
                "nested repeats such as (a+)+ do that"
            ) from None
        if not found:
            return Score(0.0, f"The reply should match {pattern.pattern}; it was {quote(text)}.")
        if not compares:
            return Score(1.0, "Correct: the reply matches.")
        got = found[0].group("answer") or ""
        same = normalise(got) == normalise(want) if self.normalise else got == want
        return (
            Score(1.0, "Correct.") if same else Score(0.0, f"Wanted {quote(want)}, the reply's answer is {quote(got)}.")
        )

    def _pattern(self, example: Example) -> regex.Pattern[str]:
        if self.pattern is not None:
            return _compiled(self.pattern)
        try:
            return _compiled(_sound(as_text(wanted(example))))
        except ValueError as error:
            raise ValueError(f"row {example.id!r}: {error}") from None
