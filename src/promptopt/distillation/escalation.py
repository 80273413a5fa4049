"""Where no student may hold alone: one of them with the teacher behind it, as a cascade.

Student and threshold are chosen on val and written down before the sealed rows are opened. There the cascade is one
more hypothesis of the students' Holm family: fixed beforehand like theirs, so all of them together are falsely
certified in at most 5 % of distillations. Where a student holds, the cascade is not run and counts as not shown, which
can only make the family stricter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any, cast

from promptopt.config.distill import CascadeSettings
from promptopt.core.candidate import Candidate
from promptopt.core.cascade import LEAST_CHANCE, Routed, Threshold, Vote, best_possible, fit, vote
from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score, values
from promptopt.distill_job import Student
from promptopt.distillation.contest import Contest, Standing
from promptopt.distillation.teacher import Heard
from promptopt.errors import BudgetExhausted
from promptopt.lm.failures import refuses_logprobs
from promptopt.lm.session import Session
from promptopt.metrics.answer_text import WAYS, as_text, normalise
from promptopt.metrics.metric import Metric

CASCADE = ""
"""Its name among the students, which none of them can have."""


def unseen(row: Example) -> Example:
    """A row as it is known in use: its inputs alone."""
    return replace(row, expected=None, meta={})


@dataclass(frozen=True)
class Unseen:
    """A judge that is shown what the cascade would know: the inputs and the student's answer, never the right one."""

    judge: Metric
    binary: bool = False

    @property
    def fingerprint(self) -> str:
        return json.dumps(["unseen", self.judge.fingerprint])

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        return await self.judge.score(unseen(example), rollout, lm)


@dataclass(frozen=True, slots=True)
class Planned:
    """The cascade that goes to the test, or why none does."""

    student: str = ""
    threshold: Threshold | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(body: Mapping[str, Any]) -> Planned:
        """Read back what `to_json` wrote."""
        said = body["threshold"]
        return Planned(body["student"], Threshold(**said) if said else None, body["note"])


@dataclass(frozen=True, slots=True)
class Question:
    """Something that a cascade asks of every request, whether or not the teacher answers it then."""

    candidate: Candidate
    sample: int = 0
    judge: Unseen | None = None
    """Who looks at the candidate's answer; None where the answer itself is asked for."""


def questions(how: CascadeSettings, student: Candidate, judge: Metric | None) -> list[Question]:
    """All that the cascade asks, the student's own answer first; `judge` is that of a cascade which has one."""
    if how.confidence == "logprobs":
        return [Question(_having(student, logprobs=True))]
    if judge is not None:
        return [Question(student), Question(student, judge=Unseen(judge))]
    hot = student if how.temperature is None else _having(student, temperature=how.temperature)
    return [Question(student), *(Question(hot, sample) for sample in range(1, how.samples))]


def _having(student: Candidate, **settings: Any) -> Candidate:
    return replace(student, settings={**student.settings, **settings})


def weighed(replies: Sequence[Rollout], how: CascadeSettings) -> Vote:
    """Which of the replies to a request's questions is the student's answer, and how sure it is of that."""
    own = replies[0]
    if how.confidence == "self_consistency":
        return vote([None if one.output is None else canonical(one.output) for one in replies])
    if own.output is None:
        return Vote(None, 0.0)
    return Vote(0, (own.certainty if how.confidence == "logprobs" else replies[1].value) or 0.0)


def untold(answers: Sequence[Rollout], how: CascadeSettings, lm: str) -> str:
    """Why log-probabilities cannot say how sure `lm` is of its answers, where they should; empty where they can."""
    if how.confidence != "logprobs":
        return ""
    refused = next((one.failure for one in answers if one.failure and refuses_logprobs(one.failure)), None)
    silent = sum(one.output is not None and one.certainty is None for one in answers)
    if refused is None and not silent:
        return ""
    why = refused.message if refused else f"{silent} of {len(answers)} answers came without"
    return f"{lm} gives no log-probabilities ({why}), so it cannot say how sure it is: choose another confidence"


def canonical(output: Any) -> str:
    """An output as it is compared with other samples: its answer without case, spacing, wrapping and way to it."""
    if isinstance(output, str):
        try:
            found = json.loads(output)
        except ValueError:
            found = None
        output = cast(Any, found) if isinstance(found, dict | list) else output
    if isinstance(output, Mapping):
        fields = {name: value for name, value in cast("Mapping[str, Any]", output).items() if name not in WAYS}
        output = next(iter(fields.values())) if len(fields) == 1 else fields
    return normalise(as_text(output))


def routed(
    replies: Sequence[Sequence[Rollout]], teacher: Sequence[Rollout], rows: Sequence[Example], how: CascadeSettings
) -> list[Routed]:
    """Every row with the student's confidence, by the `replies` to each of the cascade's questions."""
    truth, runs = values(teacher), [{one.example_id: one for one in run} for run in replies]
    found: list[Routed] = []
    for row in rows:
        to_it = [run[row.id] for run in runs]
        voted = weighed(to_it, how)
        found.append(Routed(row.id, voted.confidence, to_it[voted.chosen or 0].value, truth[row.id], row.group))
    return found


async def planned(contest: Contest, teacher: Sequence[Rollout], judge: Metric | None) -> Planned:
    """The student whose cascade could save most, with its threshold; a note where none would save anything.

    `teacher` is what it did on val, `judge` that of a cascade which has one. Raises ModelDown where that one's endpoint
    answers no more: the sealed rows stay closed, and the run goes on once it does.
    """
    how, val = contest.heard.work.config.cascade, contest.heard.work.job.split.val
    if how is None:
        return Planned()
    note = "no student answers"
    try:
        for saving, cost, standing in await _hopes(contest, teacher, how):
            if saving <= 0:
                return Planned(note="no cascade can save anything: with its own calls none costs less than the teacher")
            with contest.served(standing):
                replies = [
                    await contest.runner_with(one.judge or contest.heard.metric).evaluate(
                        one.candidate, val, step=0, split="cascade", sample=one.sample
                    )
                    for one in questions(how, standing.best, judge)
                ]
                note = untold(replies[0], how, standing.student.lm)
                if not note:
                    return _fitted(contest.heard, standing.student, cost, routed(replies, teacher, val, how))
    except BudgetExhausted as error:
        note = str(error)
    return Planned(note=f"no cascade was planned: {note}")


async def _hopes(
    contest: Contest, teacher: Sequence[Rollout], how: CascadeSettings
) -> list[tuple[float, float, Standing]]:
    """The share of the teacher's cost that a cascade of each student may save and itself takes, the best one first."""
    runner, work = contest.runner_with(contest.heard.metric), contest.heard.work
    found: list[tuple[float, float, Standing]] = []
    for standing in contest.standings:
        if not standing.down:
            own = await runner.evaluate(standing.best, work.job.split.val, step=0, split="val")
            cost = how.calls * _dearness(own, standing.student, teacher, work.teacher)
            found.append((best_possible(values(own), values(teacher), cost), cost, standing))
    return sorted(found, key=lambda one: -one[0])


def _fitted(heard: Heard, student: Student, cost: float, rows: Sequence[Routed]) -> Planned:
    work = heard.work
    level = work.level / (len(work.students) + 1)
    found = fit(rows, work.config.margin, student_cost=cost, test_rows=len(work.job.split.test), level=level)
    if found is None:
        return Planned(
            note=f"no threshold for a cascade of {student.name} sends some requests to the teacher, saves anything and "
            f"has a chance of {LEAST_CHANCE:.0%} at a certificate; {student.name} is "
            f"{fmean(one.confidence for one in rows):.2f} sure on average"
        )
    return Planned(student.name, found)


def _dearness(own: Sequence[Rollout], student: Student, rollouts: Sequence[Rollout], teacher: Student) -> float:
    """What a request to the student costs, as a share of the teacher's; 0 where nobody knows a price."""
    dear = _dollars(rollouts, teacher)
    return _dollars(own, student) / dear if dear else 0.0


def _dollars(rollouts: Sequence[Rollout], model: Student) -> float:
    """What the rollouts cost; those on a machine of one's own one after the other, which is close enough to choose."""
    if model.usd_per_hour is None:
        return sum(one.usd for one in rollouts)
    return float(model.usd_per_hour) / 3600 * sum(one.seconds for one in rollouts)
