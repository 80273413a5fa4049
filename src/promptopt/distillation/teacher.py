"""The teacher is heard once: what it answers where no answer is known, and how it does on train, rightly or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from promptopt.core.candidate import Demo
from promptopt.core.edit import Evidence
from promptopt.core.example import Example
from promptopt.core.racing import MAX_MISSING
from promptopt.core.rollout import Rollout
from promptopt.distill_job import Distilling
from promptopt.distillation.references import Taught, Traced
from promptopt.errors import BaselineFailed
from promptopt.execute.runner import Runner
from promptopt.job import Job
from promptopt.metrics.metric import Metric

TRACES = "traces"
"""The split under which the ledger keeps what the teacher says where its answer is what counts as right."""

RunnerWith = Callable[[Metric], Runner]
"""A runner of the same gateway and ledger with a metric."""


@dataclass(frozen=True)
class Heard:
    """What the teacher said before any student ran."""

    work: Distilling
    """With the teacher's answers in the rows where these count as right, and its replies among the demos."""
    metric: Taught
    answers: Mapping[str, Rollout]
    """Its run on each row that it gives the answer to."""

    @property
    def sample(self) -> int:
        """Which of its rollouts the teacher is scored by: another one where its first is what counts as right."""
        return 1 if self.answers else 0


async def hear(work: Distilling, runner_with: RunnerWith) -> Heard:
    """Run the teacher on train, and on every row that it gives the answer to.

    Raises BaselineFailed where it fails on too many, and as `Runner.evaluate`.
    """
    job, taught = work.job, work.config.taught
    lacking = [row for part in job.split.parts.values() for row in part if taught(row)]
    traced = await runner_with(Traced()).evaluate(job.baseline, lacking, step=0, split=TRACES)
    check_teacher(traced)
    answers = {one.example_id: one for one in traced if one.value}  # those that could be read
    told = {name: answered(rows, answers) for name, rows in job.split.parts.items()}
    job = replace(job, split=replace(job.split, **told))
    labelled = [row for row in work.job.split.train if not taught(row)]
    scored = await runner_with(job.metric).evaluate(job.baseline, labelled, step=0, split="train")
    train = {row.id: row for row in job.split.train}
    traces = {one.example_id: one for one in (*traced, *scored) if one.example_id in train and one.value is not None}
    job = replace(job, demos=_demos(job, train, traces))
    return Heard(replace(work, job=job), Taught(job.metric, traces), answers)


def check_teacher(rollouts: Sequence[Rollout]) -> None:
    """Raise BaselineFailed where so many of the teacher's runs have no score that nothing can be held against it."""
    missing = [one for one in rollouts if one.value is None]
    if len(missing) > MAX_MISSING * len(rollouts):
        failure = next((one.failure for one in missing if one.failure), None)
        said = f": {failure.kind}: {failure.message}" if failure else ""
        raise BaselineFailed(
            f"the teacher has no score on {len(missing)} of {len(rollouts)} rows, so nothing can be held against "
            f"it{said}. Mend it and run the same command again: answers that were paid for are kept."
        )


def answered(rows: Sequence[Example], answers: Mapping[str, Rollout]) -> tuple[Example, ...]:
    return tuple(replace(row, expected=answers[row.id].output) if row.id in answers else row for row in rows)


def _demos(job: Job, train: Mapping[str, Example], traces: Mapping[str, Rollout]) -> Mapping[str, tuple[Demo, ...]]:
    """The teacher's right replies as demos, before those that the rows' answers make."""
    right = {row: one for row, one in traces.items() if one.value == 1}
    made: dict[str, tuple[Demo, ...]] = {}
    for slot in job.program.demo_slots:
        told = [demo for row, one in right.items() if (demo := Evidence(train[row], one).demo(slot))]
        made[slot] = tuple({(one.example_id, one.output): one for one in [*told, *job.labelled[slot]]}.values())
    return made
