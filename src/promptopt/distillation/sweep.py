"""One distillation in order: the teacher, the students as they are, their searches, the sealed test.

What the test needs of the budget is kept from the start, and more once a champion is dearer to test. Once the sealed
rows are open, it is settled who is tested with which prompt: a resumed run searches only for those whose endpoint had
died before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from statistics import fmean
from typing import Any

from promptopt.core.budget import SLACK, Spend
from promptopt.core.candidate import Candidate
from promptopt.core.certificate import Assay, assay
from promptopt.core.example import Example
from promptopt.core.guard import MIN_GROUPS
from promptopt.core.rollout import Rollout, values
from promptopt.core.sealed import Pair
from promptopt.core.split import inputs_digest
from promptopt.distill_job import Distilling
from promptopt.distillation.contest import Contest, Standing
from promptopt.distillation.escalation import Planned, Question, planned, questions, untold
from promptopt.distillation.plan import sealed_spend, search_rollouts
from promptopt.distillation.teacher import Heard, RunnerWith, check_teacher, hear
from promptopt.errors import BudgetExhausted, ModelDown, RunError
from promptopt.execute.foresight import Foresight
from promptopt.execute.optimization import TEST_STEP
from promptopt.execute.progress import Phase, Running, Watch
from promptopt.execute.runner import Runner
from promptopt.lm.message import Purpose
from promptopt.metrics.metric import Metric
from promptopt.result import INTERRUPTED
from promptopt.running import so_far
from promptopt.store.ledger import TOLD, Ledger
from promptopt.store.run_dir import count_opening

ENOUGH_TO_REFUSE = 60
"""Test rows that a hopeless student runs on: a gap as large as its shows on fewer."""
LEAST_MINUTES = 1 / 60
"""A search that has no time left ends at once by this cap."""


@dataclass(frozen=True)
class Arm:
    """One candidate on the sealed rows."""

    rollouts: tuple[Rollout, ...]
    spent: Spend
    busy: float
    """Seconds in which its calls were under way."""


@dataclass(frozen=True)
class Findings:
    """All that ran, for the outcome to judge."""

    heard: Heard
    standings: tuple[Standing, ...]
    samples: tuple[tuple[Rollout, ...], ...]
    """The teacher on val, once for each of `repeats`."""
    assay: Assay | None
    """The teacher and the stripped prompt on val; None where no row has both scores."""
    arms: Mapping[str, Arm]
    """By candidate's id; that of a student whose endpoint died is missing."""
    opening: int
    """Which opening of the test rows this was."""
    cascade: Planned
    asked: tuple[Arm, ...] = ()
    """What the cascade asks of every sealed row: the student's own answers first. Empty where it was not run."""


@dataclass
class Sweep:
    """A distillation under way."""

    work: Distilling
    runner_with: RunnerWith
    ledger: Ledger
    watch: Watch
    phase: Phase = "baseline"

    async def run(self) -> Findings:
        """All of it. Raises Halted when interrupted, and the errors of RunError's tree; both can be resumed."""
        self._keep_for_the_test()
        heard = await hear(self.work, self.shown)
        runner, job = self.shown(heard.metric), heard.work.job
        samples = [
            await runner.evaluate(job.baseline, job.split.val, step=0, split="val", sample=number)
            for number in range(heard.sample, heard.sample + self.work.config.repeats)
        ]
        check_teacher(samples[0])
        assayed = self._warned(samples[0], await runner.evaluate(self.work.weak, job.split.val, step=0, split="val"))
        contest = Contest(heard, values(samples[0]), self.shown, self.ledger, self.watch)
        await contest.headroom()
        self._keep_for_the_test()
        await self._search(contest, samples[0])
        cascade = await self._plan_cascade(contest, samples[0])
        opening, arms = await self._test(heard, contest, cascade.student)
        return Findings(heard, tuple(contest.standings), tuple(samples), assayed, arms, opening, cascade)

    async def escalate(self, found: Findings) -> Findings:
        """With the planned cascade on the sealed rows, for where no student holds alone."""
        standing = next((one for one in found.standings if one.student.name == found.cascade.student), None)
        if standing is None or standing.down:
            return found
        try:
            return await self.cascaded(found, standing)
        except (BudgetExhausted, ModelDown) as error:
            self.ledger.forget_failures(TEST_STEP + 2 * len(found.standings))
            return replace(found, cascade=replace(found.cascade, note=f"it was not tested to the end: {error}"))

    async def cascaded(self, found: Findings, standing: Standing) -> Findings:
        """With what a cascade of this student asks of every sealed row. Raises BudgetExhausted and ModelDown."""
        settings, rows = self.work.config.cascade, found.heard.work.job.split.test
        assert settings is not None
        arms: list[Arm] = []
        asked = questions(settings, standing.best, self.work.confidence)
        for place, one in enumerate(asked, 2 * len(found.standings) + 1):
            known = found.arms.get(standing.best.id) if one == Question(standing.best) else None
            runner, purpose = self.shown(one.judge or found.heard.metric), "judge" if one.judge else "program"
            arms.append(known or await self.arm(runner, one.candidate, rows, place, one.sample, purpose))
        if note := untold(arms[0].rollouts, settings, standing.student.lm):
            return replace(found, cascade=replace(found.cascade, note=f"it was not tested: {note}"))
        return replace(found, asked=tuple(arms))

    async def _plan_cascade(self, contest: Contest, teacher: Sequence[Rollout]) -> Planned:
        """Chosen on val and written down before the sealed rows are opened; after that it is the one written last."""
        if self.work.config.cascade is None:
            return Planned()
        if not self.ledger.events("opened"):
            made = await planned(contest, teacher, self.work.confidence)
            self.ledger.append("cascade", TEST_STEP, made.to_json())
        return Planned.from_json(self.ledger.events("cascade")[-1].body)

    def _warned(self, teacher: Sequence[Rollout], weak: Sequence[Rollout]) -> Assay | None:
        """Whether the rows can tell good from bad; where they cannot, it is said while most is still unspent."""
        job = self.work.job
        found = assay(paired(weak, teacher, job.split.val), binary=job.metric.binary, seed=job.run.seed)
        if found is not None and not found.holds:
            self.watch.said(
                f"warning: on val the teacher scores {found.teacher:.3f} and a stripped prompt {found.weak:.3f}: these "
                "rows cannot tell good from bad, so nobody will be certified. Better to end it now (Ctrl-C) and to use "
                "harder rows, a stricter metric or another prompt as `weak`"
            )
        return found

    # the searches

    async def _search(self, contest: Contest, teacher: Sequence[Rollout]) -> None:
        """Search for the students that are not settled by an earlier session's opening of the test."""
        settled, waiting = self._settled, list[Standing]()
        for standing in contest.standings:
            if standing.student.name in settled:
                standing.recall(settled[standing.student.name])
            elif not standing.note and not standing.down:
                waiting.append(standing)
        if waiting:
            phase = len(self.ledger.events("opened"))
            await contest.search(waiting, self._share(phase, waiting), partial(self._minutes, contest, teacher))
        if not settled and all(one.down for one in contest.standings):
            why = "; ".join(one.down for one in contest.standings)
            raise RunError(f"no student can be tested, so the sealed rows stay closed: {why}")

    def _share(self, phase: int, waiting: Sequence[Standing]) -> int:
        """Rollouts for the searches: fixed when they begin, so that a resumed run divides the same."""
        shares = self.ledger.events("share")
        if len(shares) <= phase:
            share = search_rollouts(self.work)
            if phase and (cap := self.work.job.budget.rollouts):
                test = 2 * len(waiting) * len(self.work.job.split.test)
                others = self.ledger.account.spent.rollouts - sum(map(self._searched, waiting))
                share = min(share, max(0, cap - test - others))
            self.ledger.append("share", phase, {"rollouts": share})
            shares = self.ledger.events("share")
        return shares[phase].body["rollouts"]

    def _searched(self, standing: Standing) -> int:
        """Rollouts of a student's earlier searches, which are gone through again at no cost."""
        rounds = (f"round {number}" for number in range(1, len(self.work.students) + 2))
        told = self.ledger.lane(standing.student.name, *rounds).events(TOLD)
        parts = (one.body[split] for one in told for split in ("val", "train"))
        return len({(candidate, row) for part in parts for candidate, scores in part.items() for row in scores})

    def _minutes(self, contest: Contest, teacher: Sequence[Rollout]) -> float | None:
        """When the searches must have ended, so that the test has time at the pace that val has shown."""
        job = self.work.job
        if job.budget.minutes is None:
            return None
        students = sum(one.seconds_before + one.seconds for one in contest.standings)
        rollout = fmean([one.seconds for one in teacher]) + students
        test = SLACK * len(job.split.test) * rollout / job.run.concurrency
        return max(LEAST_MINUTES, job.budget.minutes - test / 60)

    # the test

    @property
    def _settled(self) -> dict[str, Any]:
        """By name, the students that the sealed rows were opened for, with what stays of them."""
        return {name: body for event in self.ledger.events("opened") for name, body in event.body["students"].items()}

    def _keep_for_the_test(self) -> None:
        settled = self._settled
        waiting = [one for one in self.work.students if one.name not in settled]
        foresight = Foresight(self.work.job, self.ledger)
        again = None if self.work.confidence else foresight.arm
        arms = sealed_spend(self.work, waiting, teacher=not settled, arm=foresight.arm, again=again)
        starts = (self.work.job.baseline, *(one.start for one in waiting))
        self.ledger.account.kept = arms + foresight.last_call(*starts)

    async def _test(self, heard: Heard, contest: Contest, routed: str) -> tuple[int, Mapping[str, Arm]]:
        """The teacher, and each student before and after, on the sealed rows.

        A hopeless one runs on a sample of them, unless a cascade may need it: then it is `routed`.
        """
        job = heard.work.job
        rows = job.split.test
        opening = count_opening(job.directory, inputs_digest(rows), self.ledger.meta("run_id"))
        known = self._settled
        ready = {one.student.name: one.to_json() for one in contest.standings if not one.down}
        new = {name: body for name, body in ready.items() if name not in known}
        if new or not self.ledger.events("opened"):
            self.ledger.append("opened", TEST_STEP, {"opening": opening, "students": new})
        self.ledger.account.kept = Spend()
        self.phase = "sealed test"
        runner = self.shown(heard.metric)
        arms = {job.baseline.id: await self.arm(runner, job.baseline, rows, 0, heard.sample)}
        for number, standing in enumerate(contest.standings):
            refused = standing.hopeless and standing.student.name != routed
            shown = sampled(rows, job.run.seed) if refused else rows
            for place, candidate in enumerate((standing.student.start, standing.best), 1):
                if not standing.down and candidate.id not in arms:
                    with contest.served(standing):
                        arms[candidate.id] = await self.arm(runner, candidate, shown, 2 * number + place)
        return opening, arms

    async def arm(
        self,
        runner: Runner,
        candidate: Candidate,
        rows: Sequence[Example],
        number: int,
        sample: int = 0,
        purpose: Purpose = "program",
    ) -> Arm:
        step = TEST_STEP + number
        rollouts = await runner.evaluate(candidate, rows, step=step, split="test", sample=sample)
        return Arm(rollouts, self.ledger.settled(purpose, step), self.ledger.busy(purpose, step))

    # seen from outside

    def shown(self, metric: Metric) -> Runner:
        """A runner that Ctrl-C halts; the latest one is what runs."""
        runner = self.runner_with(metric)
        progress = so_far(self.work.job, self.ledger, lambda: self.phase)
        self.watch.began(Running(progress, lambda: runner.halt(INTERRUPTED)))
        return runner


def paired(old: Sequence[Rollout], new: Sequence[Rollout], rows: Sequence[Example]) -> list[Pair]:
    """Both runs' scores on each of `rows` that the old one ran on."""
    groups, scores = {row.id: row.group for row in rows}, values(new)
    return [Pair(one.example_id, one.value, scores.get(one.example_id), groups[one.example_id]) for one in old]


def sampled(rows: Sequence[Example], seed: int) -> tuple[Example, ...]:
    """At least `ENOUGH_TO_REFUSE` rows in whole groups, enough of them to be compared, drawn before any has run."""
    groups: dict[str, list[Example]] = {}
    for row in rows:
        groups.setdefault(row.group or f"row {row.id}", []).append(row)
    drawn: list[Example] = []
    for number, name in enumerate(Random(f"{seed}/sample").sample(sorted(groups), len(groups))):
        if len(drawn) >= ENOUGH_TO_REFUSE and number >= MIN_GROUPS:
            break
        drawn += groups[name]
    return tuple(drawn)
