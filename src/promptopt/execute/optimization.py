"""One whole optimization in order: search, then the sealed test. Everything that happened is in the ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from promptopt.core.budget import SLACK, Spend, as_before
from promptopt.core.candidate import Candidate
from promptopt.core.search import CAP, Search
from promptopt.core.selection import champion
from promptopt.core.split import inputs_digest
from promptopt.core.state import Told
from promptopt.errors import BudgetExhausted, RunError
from promptopt.execute.engine import Engine
from promptopt.execute.foresight import Foresight
from promptopt.execute.progress import Progress, Running, Watch
from promptopt.execute.runner import Runner
from promptopt.job import Job
from promptopt.result import INTERRUPTED
from promptopt.store.ledger import Ledger
from promptopt.store.run_dir import count_opening

TEST_STEP = 1_000_000_000
"""The sealed test comes after every step of the search."""


@dataclass
class Optimization:
    """A job under way."""

    job: Job
    runner: Runner
    ledger: Ledger
    watch: Watch
    share: Callable[[Candidate], Spend] | None = None
    """What is set aside for the test of a champion where it is not this run that opens it, each call tried once."""

    def __post_init__(self) -> None:
        settings = self.job.strategy
        self.search = Search(
            self.job.strategy_for_search(),
            pipeline=settings.pipeline,
            rebase=settings.rebase,
            max_rollouts=self.job.search_rollouts,
        )
        self.engine = Engine(self.search, self.runner, self.ledger, self.job.splits)
        self.engine.on_fold = self._folded
        self.engine.on_finishing = self._finishing
        self._barred: set[str] = set()
        """Candidates whose sealed test the budget cannot pay for."""
        self._testing = False
        self._earlier, self._began = self.ledger.seconds(), time.monotonic()
        self._last_win = ""
        self._clock: asyncio.TimerHandle | None = None
        self._share = self.share or Foresight(self.job, self.ledger).test

    async def run(self) -> None:
        """Search, then open the test. Raises Halted when interrupted, and the errors of RunError's tree."""
        self.engine.replay()
        self._set_spend_aside()
        self.watch.began(Running(self.progress, lambda: self.runner.halt(INTERRUPTED)))
        self._set_time_aside()
        try:
            await self.engine.run()
            self.ledger.account.release()
            await self._open_test()
        except RunError:
            self.ledger.forget_failures(self.search.state.folded - 1)
            raise
        if not self.ledger.events("finished"):
            self.ledger.append("finished", self.search.state.folded, {})

    def progress(self) -> Progress:
        """The run at this moment."""
        state = self.search.state
        known = bool(state.baseline)
        return Progress(
            phase="sealed test" if self._testing else "search" if known else "baseline",
            steps=state.folded,
            in_flight=len(self.search.in_flight),
            val_baseline=state.mean(state.baseline) if known else None,
            val_best=self._val_best() if known else None,
            val_rows=(len(state.val.get(state.incumbent, ())), len(self.job.split.val)),
            last_win=self._last_win,
            spent=self.ledger.account.spent,
            budget=self.ledger.account.budget,  # what is spent counts against the whole, also where this is a part
            seconds=self.seconds(),
        )

    def _val_best(self) -> float:
        """The incumbent's mean on val: a race runs the rows first that were failed, so before the end by its strata."""
        state = self.search.state
        whole = len(state.val[state.incumbent]) == len(self.job.split.val)
        seen = state.mean(state.incumbent) if whole else state.estimate(state.incumbent)
        return min(1.0, max(0.0, seen))

    def seconds(self) -> float:
        """Wall-clock of the run over all its sessions."""
        return self._earlier + time.monotonic() - self._began

    def champion(self) -> Candidate:
        """The best of val so far whose test the budget can pay for."""
        if not self.search.state.baseline:
            return self.job.baseline
        return champion(self.search.state, len(self.job.split.val), self.job.strategy.select, self._barred)

    async def _open_test(self) -> None:
        """Both arms on the sealed rows, once; without rows or without a better candidate it stays sealed."""
        rows, state, opened = self.job.split.test, self.search.state, self.ledger.events("opened")
        best = state.candidates[opened[0].body["best"]] if opened else self.champion()
        if not rows or best.id == state.baseline:
            return
        self._testing = True
        opening = count_opening(self.job.directory, inputs_digest(rows), self.ledger.meta("run_id"))
        if not opened:
            pairs = [[example.id, example.group] for example in rows]
            body = {"best": best.id, "opening": opening, "rows": pairs, "binary": self._binary()}
            self.ledger.append("opened", state.folded, body)
        self.watch.said(f"search over ({self.search.stop_reason}); the sealed test: {len(rows):,} rows, both prompts")
        left = self._seconds_left()
        with suppress(BudgetExhausted, TimeoutError):
            async with asyncio.timeout(left):
                for arm in (self.job.baseline, best):
                    await self.runner.evaluate(arm, rows, step=TEST_STEP, split="test")

    def _binary(self) -> bool:
        """Whether scores count as right or wrong: the metric says so, or every score on val has been 0 or 1."""
        seen = (value for scores in self.search.state.val.values() for value in scores.values() if value is not None)
        return self.job.metric.binary or all(value in (0.0, 1.0) for value in seen)

    def _folded(self, told: Told) -> None:
        if told.outcome == "won" and self.search.state.incumbent == (told.candidate.id if told.candidate else ""):
            self._last_win = told.note
        self._set_time_aside()
        self._set_spend_aside()
        self.watch.folded(told)

    def _finishing(self) -> None:
        """What was kept for the finalists' remaining val rows may be used now."""
        self._set_spend_aside()
        self._set_time_aside()

    def _set_spend_aside(self) -> None:
        """Keep what the present champion's test can cost; one that the budget cannot test is barred.

        Before the finish that is the incumbent's remaining val rows and its test. Where there is no room for those any
        more and nothing else could be promoted, the search has no room either, and ends.
        """
        account = self.ledger.account
        if prospect := self._prospect():
            if account.set_aside(prospect):
                return
            if self.champion().id == self.search.state.baseline:
                account.aside = prospect
                return
        while True:
            best = self.champion()
            share = self._share(best)
            if account.set_aside(share):
                return
            if best.id == self.job.baseline.id:
                return
            self._barred.add(best.id)

    def _prospect(self) -> Spend | None:
        """What it takes to make the incumbent the champion and to test it; None when nothing is left to do for that.

        Its remaining val rows and the baseline's hardly cost more than theirs have so far. The rollouts themselves are
        kept by the search.
        """
        state = self.search.state
        known, rows = state.val.get(state.incumbent, {}), len(self.job.split.val)
        if self.search.finishing or not known or len(known) == rows or state.incumbent == state.baseline:
            return None
        share = self._share(state.candidates[state.incumbent])
        for arm in (state.incumbent, state.baseline):
            if costs := self.ledger.costs(arm, beside=state.baseline):
                share += replace(as_before(costs, rows - len(state.val[arm])), rollouts=0)
        return share

    def _set_time_aside(self) -> None:
        """Plan to end the search while there is time for the finish and the test, at the pace of both its arms.

        The finish itself may take all that the test does not: without it there is nothing to test.
        """
        if (left := self._seconds_left()) is None:
            return
        state, rows = self.search.state, len(self.job.split.test)
        finish, slack = (0, 1.0) if self.search.finishing else (len(self.job.split.val), SLACK)
        best = self.champion() if self.search.finishing else state.candidates.get(state.incumbent, self.job.baseline)
        pace = self.runner.pace
        needed = slack * ((finish + rows) * pace(best) + rows * pace(self.job.baseline))
        if self._clock:
            self._clock.cancel()
        loop = asyncio.get_running_loop()
        self._clock = loop.call_later(max(0.0, left - needed), self.engine.cut, f"{CAP}minutes")

    def _seconds_left(self) -> float | None:
        minutes = self.job.budget.minutes
        return None if minutes is None else max(0.0, 60 * minutes - self.seconds())
