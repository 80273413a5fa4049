"""One distillation in order: the teacher, the students as they are, their searches by successive halving, the test.

A student is the program with another model among its settings, so its whole search is one of the same program under one
account. Every student has a short search first; the better half shares what is left. What the test needs is kept from
the start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from promptopt.core.budget import Budget, Spend
from promptopt.core.candidate import Candidate, Demo
from promptopt.core.edit import Evidence
from promptopt.core.example import Example
from promptopt.core.racing import gaps, standard_error
from promptopt.core.rollout import Rollout
from promptopt.core.selection import champion
from promptopt.core.split import inputs_digest
from promptopt.distill.references import Taught, Traced
from promptopt.distill_job import Distilling, Student
from promptopt.errors import BaselineFailed, ConfigError
from promptopt.execute.optimization import TEST_STEP, Optimization
from promptopt.execute.progress import Watch
from promptopt.execute.runner import Runner
from promptopt.metrics.metric import Metric
from promptopt.planning import spend_on
from promptopt.store.ledger import Ledger
from promptopt.store.run_dir import count_opening

FIRST = 0.1
"""Share of the search's rollouts that a student's first search may take at most."""
MOST_MISSING = 0.2
"""Share of rows without a score above which a teacher cannot be measured."""
UNCAPPED = 8
"""Rollouts for each val row that a search takes where the budget caps none."""
REACH = 2.0
"""Standard errors within which a student's gap may still be one of luck."""


RunnerWith = Callable[[Metric], Runner]
"""A runner of the same gateway and ledger with a metric."""


@dataclass
class Standing:
    """What is known of one student so far."""

    student: Student
    best: Candidate | None = None
    """Its champion of val."""
    gap_before: float = 0.0
    """How much it loses against the teacher on val with the teacher's prompt."""
    gap: float = 0.0
    """How much its champion loses there."""
    error: float = 0.0
    dropped: str = ""
    """Why it is not searched further."""


@dataclass(frozen=True)
class Arm:
    """One candidate on the sealed rows."""

    rollouts: tuple[Rollout, ...]
    spent: Spend
    elapsed: float


@dataclass
class Sweep:
    """A distillation under way."""

    work: Distilling
    runner_with: RunnerWith
    ledger: Ledger
    watch: Watch
    standings: list[Standing] = field(default_factory=list[Standing])

    async def run(self) -> Findings:
        """All of it. Raises Halted when interrupted, and the errors of RunError's tree; both can be resumed."""
        job, val = self.work.job, self.work.job.split.val
        self._keep_for_the_test()
        taught, train_traces = await self._hear_the_teacher()
        runner = self.runner_with(taught)
        teacher = await runner.evaluate(job.baseline, val, step=0, split="val", sample=self._own_sample)
        _check_teacher(teacher)
        again = [
            await runner.evaluate(job.baseline, val, step=0, split="val", sample=self._own_sample + number)
            for number in range(1, self.work.config.repeats)
        ]
        weak = await runner.evaluate(self.work.weak, val, step=0, split="val")
        demos = self._demos_of(train_traces)
        await self._headroom(runner, teacher)
        await self._search(runner, taught, demos, teacher)
        return Findings((teacher, *again), weak, await self._test(runner), self._opening)

    @property
    def _own_sample(self) -> int:
        """Which of its rollouts the teacher is scored by: another one where its first is what counts as right."""
        return 1 if self.work.config.references in ("teacher", "mixed") else 0

    @property
    def _opening(self) -> int:
        return self.ledger.events("opened")[0].body["opening"]

    # before the searches

    async def _hear_the_teacher(self) -> tuple[Taught, Mapping[str, Rollout]]:
        """The metric with what the teacher says in it, and the teacher's rollouts on train that were right."""
        job, references = self.work.job, self.work.config.references
        rows = (*job.split.train, *job.split.val, *job.split.test)
        lacking = [row for row in rows if references == "teacher" or row.expected is None]
        answers: dict[str, object] = {}
        if references in ("teacher", "mixed") and lacking:
            traced = await self.runner_with(Traced()).evaluate(job.baseline, lacking, step=0, split="traces")
            answers = {one.example_id: one.output for one in traced if one.failure is None}
        metric = Taught(job.metric, answers)
        train = await self.runner_with(metric).evaluate(job.baseline, job.split.train, step=0, split="train")
        right = {one.example_id: one for one in train if one.value is not None and one.value >= 1}
        return replace(metric, shown={row: one.output for row, one in right.items()}), right

    def _demos_of(self, traces: Mapping[str, Rollout]) -> Mapping[str, tuple[Demo, ...]]:
        """The teacher's right replies as demos, before those that the rows' labels make."""
        job = self.work.job
        rows = {row.id: row for row in job.split.train}
        made: dict[str, tuple[Demo, ...]] = {}
        for slot in job.program.demo_slots:
            told = [demo for row, one in traces.items() if (demo := Evidence(rows[row], one).demo(slot))]
            made[slot] = tuple({(one.example_id, one.output): one for one in [*told, *job.labelled[slot]]}.values())
        return made

    async def _headroom(self, runner: Runner, teacher: Sequence[Rollout]) -> None:
        """Every student as it is; one that is as good already is not searched."""
        for student in self.work.students:
            found = await runner.evaluate(student.start, self.work.job.split.val, step=0, split="val")
            standing = Standing(student, student.start)
            _measure(standing, found, teacher)
            standing.gap_before = standing.gap
            if standing.gap + REACH * standing.error <= self.work.config.margin:
                standing.dropped = "it does as well as the teacher with the teacher's own prompt"
            self.standings.append(standing)
            self.watch.said(f"{student.name} as it is: {standing.gap:+.3f} behind the teacher on val")

    # the searches

    async def _search(
        self, runner: Runner, metric: Metric, demos: Mapping[str, tuple[Demo, ...]], teacher: Sequence[Rollout]
    ) -> None:
        """Successive halving: a short search for everyone, then a long one for the better half."""
        open_ones = [one for one in self.standings if not one.dropped]
        whole = self._search_rollouts()
        first = int(min(FIRST * whole, whole / max(1, len(open_ones)))) if len(open_ones) > 1 else 0
        if first:
            for standing in open_ones:
                await self._search_one(runner, standing, demos, first, ("first",), teacher)
            ranked = sorted(open_ones, key=lambda one: (one.gap, one.student.name))
            for loser in ranked[-(-len(ranked) // 2) :]:
                loser.dropped = (
                    f"it lost {loser.gap_before:.2f} against the teacher on val, and {first} rollouts of search left "
                    f"{loser.gap:.2f} of that"
                )
            open_ones = [one for one in open_ones if not one.dropped]
        for standing in open_ones:
            share = first + (whole - first * len(self.standings)) // max(1, len(open_ones))
            await self._search_one(runner, standing, demos, share, ("first", "second"), teacher)

    async def _search_one(
        self,
        runner: Runner,
        standing: Standing,
        demos: Mapping[str, tuple[Demo, ...]],
        rollouts: int,
        parts: Sequence[str],
        teacher: Sequence[Rollout],
    ) -> None:
        job, student = self.work.job, standing.student
        search = replace(
            job,
            name=student.name,
            start=student.start,
            split=replace(job.split, test=()),
            budget=Budget(rollouts=rollouts, minutes=job.budget.minutes),
            demos=demos,
        )
        lane = self.ledger.lane(student.name, *parts)
        self.watch.said(f"{student.name}: searching with {rollouts} rollouts")
        optimization = Optimization(search, runner, lane, self.watch)
        await optimization.run()
        state = optimization.search.state
        standing.best = champion(state, len(job.split.val), job.strategy.select)
        found = await runner.evaluate(standing.best, job.split.val, step=0, split="val")
        _measure(standing, found, teacher)

    def _search_rollouts(self) -> int:
        """Rollouts for all searches together: the cap less what has run and what the test takes."""
        job, cap = self.work.job, self.work.job.budget.rollouts
        if cap is None:
            return UNCAPPED * len(job.split.val) * len(self.work.students)
        fixed = self._fixed_rollouts()
        if cap - fixed < len(job.split.val):
            raise ConfigError(
                f"budget.rollouts is {cap:,}, but {fixed:,} go to the teacher, the students as they are and the test, "
                f"and a search needs {len(job.split.val):,} more at the least",
                key="budget.rollouts",
            )
        return cap - fixed

    def _fixed_rollouts(self) -> int:
        split, students, repeats = self.work.job.split, len(self.work.students), self.work.config.repeats
        traced = len(split.train) + len(split.val) + len(split.test) if self._own_sample else 0
        return (
            traced + len(split.train) + len(split.val) * (1 + students + repeats) + len(split.test) * (1 + 2 * students)
        )

    # the test

    def _keep_for_the_test(self) -> None:
        job = self.work.job
        _ = self._search_rollouts()
        arms = [job.baseline, *(one.start for one in self.work.students for _ in range(2))]
        worst = sum((spend_on(job, arm, job.split.test) for arm in arms), Spend())
        self.ledger.account.kept = self.ledger.account.likely(worst)

    async def _test(self, runner: Runner) -> Mapping[str, Arm]:
        """The teacher, and each student before and after, on the sealed rows."""
        job = self.work.job
        rows = job.split.test
        opening = count_opening(job.directory, inputs_digest(rows), self.ledger.meta("run_id"))
        if not self.ledger.events("opened"):
            best = {one.student.name: one.best.to_json() for one in self.standings if one.best}
            self.ledger.append("opened", TEST_STEP, {"opening": opening, "best": best})
        self.ledger.account.release()
        self.ledger.account.kept = Spend()
        arms = {"teacher": await self._arm(runner, job.baseline, rows, 0, self._own_sample)}
        for number, standing in enumerate(self.standings, 1):
            name, best = standing.student.name, standing.best or standing.student.start
            arms[f"{name} before"] = await self._arm(runner, standing.student.start, rows, 2 * number)
            arms[f"{name} after"] = await self._arm(runner, best, rows, 2 * number + 1)
        return arms

    async def _arm(
        self, runner: Runner, candidate: Candidate, rows: Sequence[Example], number: int, sample: int = 0
    ) -> Arm:
        """One candidate on the sealed rows, with what that took; another arm's rollouts of it are taken over."""
        kind, began = f"timed {candidate.id}/{sample}", time.monotonic()
        timed = self.ledger.events(kind)
        step = timed[0].step if timed else TEST_STEP + number
        rollouts = await runner.evaluate(candidate, rows, step=step, split="test", sample=sample)
        if not timed:
            self.ledger.append(kind, step, {"seconds": time.monotonic() - began})
            timed = self.ledger.events(kind)
        return Arm(rollouts, self.ledger.spent("program", step), timed[0].body["seconds"])


@dataclass(frozen=True)
class Findings:
    """What ran at the end, and before it."""

    samples: tuple[tuple[Rollout, ...], ...]
    """The teacher on val, once for each of `repeats`."""
    weak: tuple[Rollout, ...]
    arms: Mapping[str, Arm]
    opening: int
    """Which opening of the test rows this was."""


def _measure(standing: Standing, found: Sequence[Rollout], teacher: Sequence[Rollout]) -> None:
    lost = gaps(_by_row(teacher), _by_row(found))
    standing.gap = sum(lost) / max(1, len(lost))
    standing.error = standard_error(lost)


def _by_row(rollouts: Sequence[Rollout]) -> dict[str, float | None]:
    return {one.example_id: one.value for one in rollouts}


def average(rollouts: Sequence[Rollout]) -> float | None:
    """The mean over the rollouts that have a score; None when none has."""
    found = [one.value for one in rollouts if one.value is not None]
    return sum(found) / len(found) if found else None


def _check_teacher(rollouts: Sequence[Rollout]) -> None:
    missing = [one for one in rollouts if one.value is None]
    if len(missing) > MOST_MISSING * len(rollouts):
        failure = next((one.failure for one in missing if one.failure), None)
        said = f": {failure.kind}: {failure.message}" if failure else ""
        raise BaselineFailed(
            f"the teacher has no score on {len(missing)} of {len(rollouts)} val rows, so nothing can be held against "
            f"it{said}. Mend it and run the same command again: answers that were paid for are kept."
        )
