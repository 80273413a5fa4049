"""The output is the expected answer, or it is not."""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.lm.session import Session
from promptopt.metrics.answer_text import answered, as_text, mentions, normalise, quote, wanted
from promptopt.metrics.built_in import STRICT, BuiltIn


@dataclass(frozen=True, config=STRICT)
class ExactMatch(BuiltIn):
    """1 when the output equals the expected answer, else 0.

    The feedback tells a wrong answer from a right one in the wrong form, which a rewritten prompt mends first.
    """

    type: ClassVar[str] = "exact_match"

    normalise: bool = True
    """Ignore case, spacing, wrapping quotes and brackets, and closing punctuation."""
    labels: tuple[str, ...] = ()
    """The allowed answers, where there are few; they change no score, only what the feedback can say."""

    @property
    def binary(self) -> bool:
        return True

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        want = as_text(wanted(example))
        output = answered(example, rollout)
        if output is None:
            return Score(0.0, f"Wanted {quote(want)}, but there was no output.")
        got = as_text(output)
        if self._plain(got) == self._plain(want):
            return Score(1.0, "Correct.")
        return Score(0.0, self._what_is_wrong(got, want))

    def _plain(self, text: str) -> str:
        return normalise(text) if self.normalise else text

    def _what_is_wrong(self, got: str, want: str) -> str:
        bare_got, bare_want = normalise(got), normalise(want)
        if not bare_got:
            return f"Wanted {quote(want)}, but the reply is empty."
        if bare_got == bare_want:
            return f"Wanted exactly {quote(want)}; the reply {quote(got)} differs in case, spacing or punctuation."
        if bare_want and mentions(bare_got, bare_want):
            return (
                f"The reply contains the wanted answer {quote(want)} but also other text; only the answer is wanted. "
                f"The reply was {quote(got)}."
            )
        if not self.labels:
            return f"Wanted {quote(want)}, got {quote(got)}."
        if bare_got in {normalise(label) for label in self.labels}:
            return f"Wrong label: wanted {quote(want)}, got {quote(got)}."
        return f"Wanted the label {quote(want)}; the reply {quote(got)} is not one of the labels."
