"""A model that scores an output by a rubric, or by several criteria at once.

Only the typed answer is read, only when it is the whole of what the model says, and only when its reason comes first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Annotated, Any, ClassVar, cast

from pydantic import Field, PlainValidator, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass as checked

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.judges.answers import Answer, AnswerForm, Value
from promptopt.judges.asking import Asking, Question
from promptopt.judges.verdicts import Settled, Verdict, closed, form_of, read_verdict, schema_of, settle
from promptopt.lm.message import Message
from promptopt.lm.session import Session
from promptopt.metrics.built_in import STRICT

_TASK = "You judge one output of another system by a rubric."
_CLOSING = "Judge the output by the rubric now. Answer with the JSON object alone."
_CASE = "You judge one case by a rubric: what its inputs say."
_CASE_CLOSING = "Judge these inputs by the rubric now. Answer with the JSON object alone."
"""Where people have labelled inputs alone: asked about an output, a small model looks for one, and finds it wanting."""


def _says_an_answer(said: Any) -> Any:
    Answer.of(said)
    return said


AnswerOption = Annotated[AnswerForm, PlainValidator(_says_an_answer)]
"""`yes_no`, a range such as `1-5`, `number`, a list of words from worst to best, or words with their scores."""


@checked(frozen=True, config=STRICT, kw_only=True)
class Criterion:
    """One of several questions that are asked in one call."""

    rubric: str = Field(min_length=1)
    answer: AnswerOption = "yes_no"
    weight: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = 1.0
    """Only its ratio to the other weights matters."""

    @cached_property
    def scale(self) -> Answer:
        return Answer.of(self.answer)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge says of one output, over all its samples."""

    answer: Value | Mapping[str, Value]
    """What most samples say, of a number their mean; by criterion where the judge has criteria."""
    score: Score
    """The mean of the samples' scores."""
    answers: tuple[Value | Mapping[str, Value], ...]
    """What each sample says."""
    spread: float
    """Standard deviation of the samples' scores; 0.0 for one."""


@checked(frozen=True, config=STRICT, kw_only=True)
class Judge(Asking):
    """Asks for a reason and a verdict; the reason is the feedback, the verdict the score.

    With `criteria` one call asks several questions: the weighted mean of their scores is the score, each is a
    sub-score, and the feedback says criterion by criterion what was wrong.
    """

    type: ClassVar[str] = "judge"

    criteria: Mapping[Annotated[str, Field(min_length=1)], Criterion] = Field(default_factory=dict[str, Criterion])
    """Questions by name, in place of `answer`."""
    rubric: Annotated[str, Field(validate_default=True)] = ""
    """What makes an output good, and what each answer means; with criteria, what holds for all of them."""
    answer: AnswerOption = "yes_no"

    @field_validator("rubric")
    @classmethod
    def _asks_something(cls, rubric: str, info: ValidationInfo) -> str:
        if not rubric.strip() and not info.data.get("criteria"):
            raise ValueError("it must say what is asked about the output; only with criteria it can be left out")
        return rubric

    @field_validator("answer")
    @classmethod
    def _is_asked_once(cls, answer: Any, info: ValidationInfo) -> Any:
        if answer != "yes_no" and info.data.get("criteria"):
            raise ValueError("each criterion has its own answer; leave this one out")
        return answer

    @cached_property
    def asked(self) -> Mapping[str, Criterion]:
        """What is asked, by name; a judge without criteria asks one thing, which has no name."""
        return self.criteria or {"": Criterion(rubric=self.rubric, answer=self.answer)}

    @property
    def binary(self) -> bool:
        first, *others = self.asked.values()
        return self.samples == 1 and not others and set(first.scale.worths) == {0.0, 1.0}

    @property
    def fingerprint(self) -> str:
        worths = {name: [one.scale.options, one.scale.worths, one.weight] for name, one in self.asked.items()}
        return json.dumps([super().fingerprint, worths, _CASE, _CASE_CLOSING])

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of an answer."""
        schemas = {name: schema_of(one.scale) for name, one in self.asked.items()}
        return closed(schemas) if self.criteria else schemas[""]

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        if rollout.output is None:
            self.questions(example, None)
            return Score(0.0, "There was no output to judge.", dict.fromkeys(self.criteria, 0.0))
        return (await self.verdict(example, rollout.output, lm)).score

    async def verdict(self, example: Example, output: Any, lm: Session) -> Judgement:
        """What the judge says of `output`, with every sample. Raises CallFailed where one has no usable answer."""
        samples = await self.ask(self.questions(example, output), example.id, lm)
        scores = [self._worth(sample) for sample in samples]
        spread = stdev(scores) if len(scores) > 1 else 0.0
        by_name = {name: settle(one.scale, [s[name] for s in samples]) for name, one in self.asked.items()}
        told = _criteria_told(by_name) if self.criteria else f"The judge's verdict is {by_name[''].told}"
        if len(scores) > 1:
            told += f"\n({len(scores)} answers: mean score {fmean(scores):.2f}, standard deviation {spread:.2f})"
        parts = {name: by_name[name].score for name in self.criteria}
        score = Score(min(1.0, fmean(scores)), told, parts)
        return Judgement(self._answer_of(by_name), score, tuple(map(self._answer_of, samples)), spread)

    def _worth(self, sample: Mapping[str, Verdict]) -> float:
        worths = [one.weight * one.scale.score(sample[name].answer) for name, one in self.asked.items()]
        return sum(worths) / sum(one.weight for one in self.asked.values())

    def _answer_of(self, given: Mapping[str, Verdict] | Mapping[str, Settled]) -> Value | Mapping[str, Value]:
        answers = {name: one.answer for name, one in given.items()}
        return answers if self.criteria else answers[""]

    def questions(self, example: Example, output: Any) -> list[Question[Any]]:
        return [Question(self.messages(example, output), self.schema, self.read)] * self.samples

    def messages(self, example: Example, output: Any) -> tuple[Message, ...]:
        """What the judge is asked about `output`. Raises ValueError for a column that the row does not have."""
        title = "conversation with the output to judge" if self.conversation else "output to judge"
        blocks, task, closing = dict(self.row_blocks(example)), _CASE, _CASE_CLOSING
        if self.conversation or output is not None:
            blocks[title], task, closing = self.output_text(example, output), _TASK, _CLOSING
        return self.prompt(blocks, self.rubric, closing, task=task, rubric=self._rubrics(), form=self._form())

    def _rubrics(self) -> str:
        said = [f"{json.dumps(name, ensure_ascii=False)}: {one.rubric}" for name, one in self.criteria.items()]
        return "\n".join(filter(None, [self.rubric, *said]))

    def _form(self) -> str:
        forms = {name: form_of(one.scale) for name, one in self.asked.items()}
        if not self.criteria:
            return forms[""]
        fields = (f"{json.dumps(name, ensure_ascii=False)}: {form}" for name, form in forms.items())
        return "{" + ",\n ".join(fields) + "}"

    def read(self, said: Any) -> dict[str, Verdict]:
        """The verdicts of an answer by name. Raises ValueError, for the model to read, unless they are all there."""
        if not self.criteria:
            return {"": read_verdict(said, self.asked[""].scale)}
        names = {name: json.dumps(name, ensure_ascii=False) for name in self.criteria}
        if not isinstance(said, dict) or set(cast("dict[str, Any]", said)) != set(names):
            raise ValueError(f"it must be an object with the keys {', '.join(names.values())}, and no others")
        return {name: read_verdict(said[name], one.scale, names[name]) for name, one in self.criteria.items()}


def _criteria_told(settled: Mapping[str, Settled]) -> str:
    """What was wrong, criterion by criterion, and which were fine."""
    wrong = [f"{name} ({one.score:.2f}): {one.told}" for name, one in settled.items() if one.score < 1]
    fine = ", ".join(name for name, one in settled.items() if one.score == 1)
    return "\n".join([*wrong, *([f"Nothing to mend: {fine}."] if fine else [])])
