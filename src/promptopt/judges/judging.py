"""A judge as a program: its rubric is what may change, its answer is the output.

So a judge is measured against people by the same runs, caps and ledger as any program, and improved by the same search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from promptopt.core.candidate import Candidate, Component, Demo
from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.errors import ConfigError, DataError
from promptopt.judges.answers import Answer, Value
from promptopt.judges.asking import REASKS
from promptopt.judges.judge import Judge
from promptopt.judges.labels import EXPECTED, ONLY, OUTPUT, REASONS
from promptopt.judges.pairwise import OUTCOMES, Pairwise
from promptopt.lm.message import Message
from promptopt.lm.session import Session
from promptopt.lm.spec import LM

RUBRIC = "rubric"
"""The component of a judge that asks one question."""
ORDERS = "orders"
"""Where an answer of a pairwise judge keeps what it said in either order."""
ROLE = "rubric of a judge: what it asks about an output, and what each answer means"


AnyJudge = Judge | Pairwise


class Judging:
    """Runs a judge on what people have judged."""

    demo_slots = ()

    def __init__(self, judge: AnyJudge, repeats: int = 1) -> None:
        """Each rollout judges `repeats` times."""
        self.judge, self.repeats = judge, repeats
        self.lm = LM(judge.lm, **judge.params)
        orders = 2 if isinstance(judge, Pairwise) else 1
        self.max_calls = repeats * (orders * judge.samples + REASKS)

    @property
    def components(self) -> tuple[Component, ...]:
        return tuple(Component(name, text, ROLE) for name, text in rubrics(self.judge).items())

    @property
    def fingerprint(self) -> str:
        return f"{self.judge.identity} x {self.repeats}"

    def check(self, columns: Sequence[str]) -> None:
        shown = [column for column in columns if column != OUTPUT]
        named = {"inputs": self.judge.inputs or (), "conversation": [self.judge.conversation]}
        for setting, wanted in named.items():
            for column in filter(None, wanted):
                if column not in shown:
                    raise ConfigError(
                        f"judge.{setting} names {column!r}, but labels.inputs has {', '.join(shown)}",
                        key=f"judge.{setting}",
                    )

    def check_rows(self, examples: Sequence[Example]) -> None:
        """Raise DataError for rows that lack what the judge is to be shown."""
        faults: list[str] = []
        for example in examples:
            if self.judge.needs_expected and example.meta[EXPECTED] is None:
                faults.append(f"row {example.id!r} has no expected answer; name its column under labels.expected")
                continue
            try:
                self.judge.questions(_shown(example), example.inputs.get(OUTPUT))
            except ValueError as error:
                faults.append(str(error))
        if faults:
            rows = f"{len(faults)} of {len(examples)} labelled rows cannot be judged"
            raise DataError(f"{rows}, the first because {faults[0]}. Nothing was spent.")

    def labelled(self, slot: str, example: Example) -> Demo | None:
        return None

    def preview(self, candidate: Candidate, example: Example) -> tuple[Message, ...] | None:
        return None

    def having(self, candidate: Candidate) -> AnyJudge:
        """The judge with a candidate's rubrics."""
        texts = candidate.components
        if isinstance(self.judge, Pairwise) or not self.judge.criteria:
            return replace(self.judge, rubric=texts[RUBRIC])
        criteria = {name: replace(one, rubric=texts[name]) for name, one in self.judge.criteria.items()}
        return replace(self.judge, criteria=criteria)

    async def run(self, candidate: Candidate, example: Example, lm: Session) -> Any:
        """The judge's answers, by criterion, once for each repeat."""
        judge, shown, output = self.having(candidate), _shown(example), example.inputs.get(OUTPUT)
        return [await _answers(judge, shown, output, lm) for _ in range(self.repeats)]


def _shown(example: Example) -> Example:
    """A labelled item as the judge sees it: people's answer is not for its eyes."""
    inputs = {name: value for name, value in example.inputs.items() if name != OUTPUT}
    return replace(example, inputs=inputs, expected=example.meta[EXPECTED])


async def _answers(judge: AnyJudge, example: Example, output: Any, lm: Session) -> Mapping[str, Any]:
    if isinstance(judge, Pairwise):
        compared = await judge.verdict(example, output, lm)
        return {ONLY: compared.answer, ORDERS: compared.orders[0]}
    answer = (await judge.verdict(example, output, lm)).answer
    return answer if isinstance(answer, Mapping) else {ONLY: answer}


def rubrics(judge: AnyJudge) -> Mapping[str, str]:
    """A judge's texts by component: that of each criterion, or of its one question."""
    if isinstance(judge, Pairwise):
        return {RUBRIC: judge.rubric}
    return {name or RUBRIC: one.rubric for name, one in judge.asked.items()}


def answers_of(judge: AnyJudge) -> Mapping[str, Answer]:
    """What a judge may answer, by criterion."""
    if isinstance(judge, Pairwise):
        return {ONLY: OUTCOMES}
    return {name: one.scale for name, one in judge.asked.items()}


@dataclass(frozen=True)
class Agreement:
    """A metric: how near a judge's first answers are to people's; between ordered answers the distance counts."""

    answers: Mapping[str, Answer]

    @property
    def fingerprint(self) -> str:
        return "agreement with people"

    @property
    def binary(self) -> bool:
        return len(self.answers) == 1 and not any(answer.ordered for answer in self.answers.values())

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        first = rollout.output[0]
        near = {name: self._near(name, first[name], said) for name, said in example.expected.items()}
        lessons = [self._lesson(name, first[name], said, example) for name, said in example.expected.items()]
        mean = sum(near.values()) / len(near)
        feedback = "\n".join(filter(None, lessons)) or "People agree."
        parts = {name: value for name, value in near.items() if name != ONLY}
        blamed = {name: text for name, text in zip(near, lessons, strict=True) if text and name != ONLY}
        return Score(mean, feedback, parts, blamed if len(near) > 1 else {})

    def _near(self, name: str, said: Value, wanted: Value) -> float:
        answer = self.answers[name]
        return 1.0 - abs(answer.score(said) - answer.score(wanted)) if answer.ordered else float(said == wanted)

    def _lesson(self, name: str, said: Value, wanted: Value, example: Example) -> str:
        if said == wanted:
            return ""
        about = f"{name}: " if name != ONLY else ""
        reasons = " ".join(f"They say: {reason}" for reason in example.meta[REASONS])
        return f"{about}the judge's answer is {said}, people's is {wanted}. {reasons}".strip()
