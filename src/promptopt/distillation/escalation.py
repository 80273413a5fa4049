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
from promptopt.core.cascade import Routed, Threshold, best_possible, fit, vote
from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score, values
from promptopt.distill_job import Student
from promptopt.distillation.contest import Contest, Standing
from promptopt.distillation.teacher import Heard, RunnerWith
from promptopt.errors import BudgetExhausted, ModelDown
from promptopt.lm.session import Session
from promptopt.metrics.answer_text import WAYS, as_text, normalise
from promptopt.metrics.metric import Metric
from promptopt.stats.noninferiority import LEVEL

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


def again(settings: CascadeSettings, candidate: Candidate) -> Candidate:
    """What answers besides the student itself: the same at the cascade's temperature."""
    if settings.temperature is None:
        return candidate
    return replace(candidate, settings={**candidate.settings, "temperature": settings.temperature})


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
    own: Sequence[Rollout],
    further: Sequence[Sequence[Rollout]],
    teacher: Sequence[Rollout],
    rows: Sequence[Example],
    *,
    judged: bool,
) -> list[Routed]:
    """Every row with the student's confidence: of `further` judgements of its own answer, or samples beside it."""
    groups, truth = {row.id: row.group for row in rows}, values(teacher)
    runs = [{one.example_id: one for one in run} for run in (own, *further)]
    found: list[Routed] = []
    for row, group in groups.items():
        samples = [run[row] for run in runs]
        if judged:
            chosen, confidence = 0, samples[1].value or 0.0
        else:
            voted = vote([None if one.output is None else canonical(one.output) for one in samples])
            chosen, confidence = voted.chosen or 0, voted.confidence
        found.append(Routed(row, confidence, samples[chosen].value, truth[row], group))
    return found


async def planned(contest: Contest, teacher: Sequence[Rollout], confidence: Metric | None) -> Planned:
    """The student whose cascade could save most, with its threshold; a note where none would save anything.

    `teacher` is what it did on val, `confidence` the judge of a cascade that has one.
    """
    heard = contest.heard
    settings, val = heard.work.config.cascade, heard.work.job.split.val
    if settings is None:
        return Planned()
    runner = contest.runner_with(heard.metric)
    try:
        tried: list[tuple[float, Standing, Sequence[Rollout], float]] = []
        for standing in contest.standings:
            if not standing.down:
                own = await runner.evaluate(standing.best, val, step=0, split="val")
                cost = settings.calls * _dearness(own, standing.student, teacher, heard.work.teacher)
                tried.append((best_possible(values(own), values(teacher), cost), standing, own, cost))
        if not tried:
            return Planned(note="no cascade was planned: no student answers")
        if max(one[0] for one in tried) <= 0:
            return Planned(note="no cascade can save anything: with its own calls none costs less than the teacher")
        _, standing, own, cost = max(tried, key=lambda one: one[0])
        further = await _further(settings, heard, contest.runner_with, standing.best, val, confidence)
    except (BudgetExhausted, ModelDown) as error:
        return Planned(note=f"no cascade was planned: {error}")
    rows = routed(own, further, teacher, val, judged=confidence is not None)
    level = LEVEL / (len(heard.work.students) + 1)
    found = fit(
        rows, heard.work.config.margin, student_cost=cost, test_rows=len(heard.work.job.split.test), level=level
    )
    if found is None:
        unsure = fmean(one.confidence for one in rows)
        return Planned(note=f"a cascade of {standing.student.name} saves nothing: it is {unsure:.2f} sure on average")
    return Planned(standing.student.name, found)


async def _further(
    settings: CascadeSettings,
    heard: Heard,
    runner_with: RunnerWith,
    candidate: Candidate,
    rows: Sequence[Example],
    confidence: Metric | None,
) -> list[tuple[Rollout, ...]]:
    """What the cascade asks beside the student's own answer, on val."""
    if confidence is not None:
        return [await runner_with(Unseen(confidence)).evaluate(candidate, rows, step=0, split="cascade")]
    hot, runner = again(settings, candidate), runner_with(heard.metric)
    return [
        await runner.evaluate(hot, rows, step=0, split="cascade", sample=number)
        for number in range(1, settings.samples)
    ]


def _dearness(own: Sequence[Rollout], student: Student, rollouts: Sequence[Rollout], teacher: Student) -> float:
    """What a request to the student costs, as a share of the teacher's; 0 where nobody knows a price."""
    dear = _dollars(rollouts, teacher)
    return _dollars(own, student) / dear if dear else 0.0


def _dollars(rollouts: Sequence[Rollout], model: Student) -> float:
    """What the rollouts cost; those on a machine of one's own one after the other, which is close enough to choose."""
    if model.usd_per_hour is None:
        return sum(one.usd for one in rollouts)
    return float(model.usd_per_hour) / 3600 * sum(one.seconds for one in rollouts)
