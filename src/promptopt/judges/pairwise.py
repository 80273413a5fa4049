"""A model that says which of two texts is better: the output, or another text of the row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, cast

from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.judges.answers import Answer
from promptopt.judges.asking import EXPECTED_TITLE, Asking, Question, input_title
from promptopt.judges.verdicts import Verdict, form_of, read_verdict, schema_of, settle
from promptopt.lm.session import Session
from promptopt.metrics.answer_text import as_text, wanted
from promptopt.metrics.built_in import STRICT

Outcome = Literal["loss", "tie", "win"]
"""How the output did against the other text."""
OUTCOMES = Answer.of(["loss", "tie", "win"])
"""What a comparison comes to, and what people may say of a pair."""

_TASK = "You compare two texts, A and B, by a rubric. Which one stands first says nothing about which is better."
_CLOSING = "Compare text A with text B by the rubric now. Answer with the JSON object alone."
_PICKS = Answer("nominal", ("A", "B", "tie"))


@dataclass(frozen=True, slots=True)
class Comparison:
    """How an output did against another text."""

    answer: Outcome
    """What most samples come to; a sample whose two orders disagree is a tie."""
    score: Score
    """The mean of the samples: a win is 1, a tie 0.5, a loss 0."""
    orders: tuple[tuple[Outcome, Outcome], ...]
    """What each sample says with the output shown first, and with the output shown second."""


@checked(frozen=True, config=STRICT, kw_only=True)
class Pairwise(Asking):
    """Asks which is better, the output or the other text, in both orders; where the orders disagree it is a tie.

    Two equal texts are a tie without a call.
    """

    type: ClassVar[str] = "pairwise"

    rubric: str = Field(min_length=1)
    """What makes one text better than the other."""
    against: str | None = Field(None, min_length=1)
    """The column of the other text; None takes the expected answer."""

    @property
    def binary(self) -> bool:
        return False

    @property
    def needs_expected(self) -> bool:
        return self.against is None

    @property
    def columns(self) -> tuple[str, ...]:
        return (*super().columns, *([self.against] if self.against else ()))

    @property
    def fingerprint(self) -> str:
        return json.dumps([super().fingerprint, self.against])

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        if rollout.output is None:
            self.questions(example, None)
            return Score(0.0, "There was no output to compare.")
        return (await self.verdict(example, rollout.output, lm)).score

    async def verdict(self, example: Example, output: Any, lm: Session) -> Comparison:
        """How `output` does, with every sample. Raises CallFailed where one has no usable answer."""
        if as_text(output) == as_text(self._other(example)):
            return Comparison("tie", Score(0.5, "Both texts are the same."), (("tie", "tie"),))
        said = await self.ask(self.questions(example, output), example.id, lm)
        pairs = list(zip(said[::2], said[1::2], strict=True))
        settled = settle(OUTCOMES, [_agreed(first, second) for first, second in pairs])
        told = f"Against {self.against or 'the expected answer'} (B), the output (A) is a {settled.told}"
        orders = cast(Any, tuple((first.answer, second.answer) for first, second in pairs))
        return Comparison(cast(Outcome, settled.answer), Score(settled.score, told), orders)

    def questions(self, example: Example, output: Any) -> list[Question[Verdict]]:
        shown, other = self.output_text(example, output), self.output_text(example, self._other(example))
        both = [self._question(example, shown, other, "A"), self._question(example, other, shown, "B")]
        return both * self.samples

    def _other(self, example: Example) -> Any:
        other = self.column(example, self.against) if self.against else wanted(example)
        if other is None:
            raise ValueError(f"row {example.id!r} has nothing in column {self.against!r} to compare with")
        return other

    def _question(self, example: Example, first: str, second: str, output: Literal["A", "B"]) -> Question[Verdict]:
        blocks = self.row_blocks(example)
        blocks.pop(input_title(self.against) if self.against else EXPECTED_TITLE, None)
        blocks |= {"text A": first, "text B": second}
        messages = self.prompt(blocks, self.rubric, _CLOSING, task=_TASK, rubric=self.rubric, form=form_of(_PICKS))
        return Question(messages, schema_of(_PICKS), partial(_read, output))


def _read(output: Literal["A", "B"], said: Any) -> Verdict:
    """The verdict as it is for the output, which was shown under this letter."""
    verdict = read_verdict(said, _PICKS)
    outcome: Outcome = "tie" if verdict.answer == "tie" else "win" if verdict.answer == output else "loss"
    return Verdict(verdict.reason, outcome)


def _agreed(first: Verdict, second: Verdict) -> Verdict:
    """What both orders come to. The reason is that of the first, in which A is the output."""
    if first.answer == second.answer:
        return first
    return Verdict(
        f"shown first it is a {first.answer}, shown second a {second.answer}. Shown first: {first.reason}", "tie"
    )
