"""The students' part before the test: each as it is, then their searches by successive halving under one budget.

A student is the program with another model among its settings, so its whole search is one of the same program.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from promptopt.core.budget import Budget, Spend
from promptopt.core.candidate import Candidate
from promptopt.core.racing import Scores, gaps, standard_error
from promptopt.core.rollout import Rollout, values
from promptopt.distill_job import Student
from promptopt.distillation.halving import FEWEST_TRIED, likely_gap, rounds
from promptopt.distillation.plan import asked_again, power
from promptopt.distillation.teacher import Heard, RunnerWith
from promptopt.errors import BaselineFailed, BudgetExhausted, ModelDown
from promptopt.execute.foresight import Foresight
from promptopt.execute.optimization import Optimization
from promptopt.execute.progress import Watch
from promptopt.planning import dearest
from promptopt.stats.power import SPREAD
from promptopt.store.ledger import Ledger

REACH = 2.0
"""Standard errors within which a student's gap may still be one of luck."""


@dataclass
class Standing:
    """What is known of one student so far."""

    student: Student
    best: Candidate
    """Its champion of val."""
    gap_before: float = 0.0
    """How much it loses against the teacher on val with the teacher's prompt."""
    gap: float = 0.0
    """How much its champion loses there."""
    error: float = 0.0
    """Standard error of `gap`."""
    square: float = 0.0
    """Mean square of its champion's and the teacher's differences there, one more row at the planning assumption."""
    seconds: float = 0.0
    """Of one rollout of its champion on average."""
    seconds_before: float = 0.0
    """The same with the prompt that it began with."""
    tried: int = 0
    """Candidates that its search has scored, beside the one that it began with."""
    note: str = ""
    """Why it is not searched further."""
    hopeless: bool = False
    """Whether it is so far behind that a sample of the test is enough to refuse it."""
    down: str = ""
    """What became of its endpoint, where that answers no more."""

    def measure(self, found: Sequence[Rollout], teacher: Scores) -> None:
        """Take over what its champion did on val."""
        lost = gaps(teacher, values(found))
        self.gap, self.error = sum(lost) / max(1, len(lost)), standard_error(lost)
        self.square = (sum(one**2 for one in lost) + SPREAD**2) / (len(lost) + 1)
        self.seconds = fmean([one.seconds for one in found] or [0.0])

    def to_json(self) -> dict[str, Any]:
        """What stays of it once the sealed rows are open."""
        return {"best": self.best.to_json(), "note": self.note, "hopeless": self.hopeless}

    def recall(self, body: Mapping[str, Any]) -> None:
        """Take over what `to_json` wrote."""
        self.best, self.note, self.hopeless = Candidate.from_json(body["best"]), body["note"], body["hopeless"]


@dataclass
class Contest:
    """The students against the teacher on val."""

    heard: Heard
    teacher: Scores
    """Its scores on val."""
    runner_with: RunnerWith
    ledger: Ledger
    watch: Watch
    standings: list[Standing] = field(default_factory=list[Standing])

    async def headroom(self) -> None:
        """Every student as it is; one that is as good already is not searched."""
        margin = self.heard.work.config.margin
        for student in self.heard.work.students:
            standing = Standing(student, student.start)
            self.standings.append(standing)
            with self.served(standing):
                await self._measure(standing)
                standing.gap_before, standing.seconds_before = standing.gap, standing.seconds
                if standing.gap + REACH * standing.error <= margin:
                    does = "better than" if standing.gap + REACH * standing.error < 0 else "as well as"
                    standing.note = f"it does {does} the teacher with the teacher's own prompt"
                self.watch.said(f"{student.name} as it is: {standing.gap:+.3f} behind the teacher on val")

    async def search(self, searched: Sequence[Standing], rollouts: int, minutes: Callable[[], float | None]) -> None:
        """A short search for everyone, longer ones for the better half, again and again until one is left.

        `minutes` says, as each begins, when it must have ended for the test to have time.
        """
        remaining, each = list(searched), 0
        for number, total in enumerate(rounds(len(searched), rollouts, len(self.teacher))):
            remaining = [one for one in remaining if not one.note and not one.down]
            share = total // max(1, len(remaining))
            if not remaining or not share:
                break
            each += share
            for standing in remaining:
                with self.served(standing):
                    await self._search_one(standing, number, each, minutes())
                    self._give_up(standing, each, rollouts)
            ranked = sorted((one for one in remaining if not one.note and not one.down), key=_rank)
            for loser in ranked[-(-len(ranked) // 2) :]:
                loser.note = f"{_lost(loser, each)}, and others lost less"
        for standing in searched:
            shown = power(self.heard.work, standing.square)
            if standing.gap <= shown.margin and not shown.enough:
                self.watch.said(f"warning: {standing.student.name}, from what val shows: {shown.sentence}")

    @contextmanager
    def served(self, standing: Standing) -> Generator[None]:
        """Set a student aside whose endpoint dies or fails too often in this block: the others go on without it."""
        try:
            yield
        except (ModelDown, BaselineFailed) as error:
            if isinstance(error, ModelDown) and error.model != standing.student.lm:
                raise
            standing.down = str(error)
            for candidate in {standing.student.start.id, standing.best.id}:
                self.ledger.forget_failures(-1, candidate)
            self.watch.said(f"{standing.student.name} is set aside: {error}")

    async def _search_one(self, standing: Standing, number: int, rollouts: int, minutes: float | None) -> None:
        job, student = self.heard.work.job, standing.student
        search = replace(
            job,
            name=student.name,
            start=student.start,
            split=replace(job.split, test=()),
            budget=Budget(rollouts=rollouts, minutes=minutes),
        )
        lane = self.ledger.lane(student.name, *(f"round {n}" for n in range(1, number + 2)))
        self.watch.said(f"{student.name}: searching with {rollouts:,} rollouts")
        foresight, account = Foresight(job, self.ledger), self.ledger.account
        asked = 1 + asked_again(self.heard.work)

        def cost(candidate: Candidate) -> Spend:
            return foresight.arm(candidate) + foresight.last_call(candidate)

        kept = cost(standing.best)

        def dearer(best: Candidate) -> Spend:
            """How much more than is kept the sealed test of `best` can cost, in a cascade too."""
            return dearest([cost(best) - kept, Spend()]).times(asked)

        optimization = Optimization(search, self.runner_with(self.heard.metric), lane, self.watch, share=dearer)
        try:
            await optimization.run()
        except BudgetExhausted as spent:
            standing.note = f"the budget's {spent.cap} were used up before its search ended"
            account.release()
        if optimization.search.state.baseline:
            standing.best = optimization.champion()
            account.kept += dearer(standing.best)
        standing.tried = len(optimization.search.state.val) - 1
        await self._measure(standing)

    async def _measure(self, standing: Standing) -> None:
        runner, val = self.runner_with(self.heard.metric), self.heard.work.job.split.val
        standing.measure(await runner.evaluate(standing.best, val, step=0, split="val"), self.teacher)

    def _give_up(self, standing: Standing, used: int, whole: int) -> None:
        """Say so where a student is further behind than all the rollouts are likely to win back."""
        margin = self.heard.work.config.margin
        likely = likely_gap(standing.gap_before, standing.gap, used, whole)
        if standing.tried >= FEWEST_TRIED and likely > margin and standing.gap - REACH * standing.error > margin:
            standing.hopeless = True
            standing.note = (
                f"{_lost(standing, used)}; with all of the budget it would still be about {likely:.2f} behind, which "
                "is more than a prompt can be expected to mend"
            )


def _lost(standing: Standing, used: int) -> str:
    return (
        f"it lost {standing.gap_before:.2f} against the teacher on val as it is, and {used:,} rollouts of search left "
        f"{standing.gap:.2f} of that"
    )


def _rank(standing: Standing) -> tuple[float, str]:
    return standing.gap, standing.student.name
