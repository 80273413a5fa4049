"""Does the work that steps ask for: rollouts, scores, proposals. What the ledger holds is not done again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from promptopt.core.budget import Spend
from promptopt.core.candidate import Candidate
from promptopt.core.edit import Proposal
from promptopt.core.example import Example
from promptopt.core.rollout import Failure, Rollout, Score, printable
from promptopt.core.search import Propose
from promptopt.errors import BudgetExhausted, RunError
from promptopt.execute.slots import Slots
from promptopt.lm.failures import mask
from promptopt.lm.message import CallFailed, Purpose, Scope
from promptopt.lm.session import Caller, Session
from promptopt.lm.spec import LM
from promptopt.metrics.metric import Metric
from promptopt.programs.program import Program, Unreadable
from promptopt.reflect.proposer import Proposer
from promptopt.store.ledger import Ledger

ONE = Spend(rollouts=1)
LATEST = 64
"""Rollouts that tell how fast the run is at present."""


class Halted(Exception):
    """No further work is started; `reason` says why. What was running has been finished and kept."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Bench:
    """What rollouts and proposals are made with."""

    program: Program
    metric: Metric
    proposer: Proposer
    caller: Caller
    ledger: Ledger


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One rollout that is asked for."""

    candidate: Candidate
    example: Example
    sample: int
    step: int
    split: str
    work: str
    """The key of its calls: all that decides the output."""
    row: str
    """The same but for the candidate."""
    key: str
    """The key of the rollout, which its metric decides, too."""


class Runner:
    """Runs at most `concurrency` rollouts at a time, older steps first, each within `timeout` seconds."""

    def __init__(self, bench: Bench, *, concurrency: int, timeout: float) -> None:
        self.bench, self.concurrency, self.timeout = bench, concurrency, timeout
        self._slots = Slots(concurrency)
        self._flights: dict[str, asyncio.Task[Rollout]] = {}
        self._halt: str | None = None
        self._active, self._since, self._busy = 0, 0.0, 0.0
        self._ends: deque[float] = deque(maxlen=LATEST)
        self._took: dict[str, list[float]] = {}
        self._latest: deque[float] = deque(maxlen=LATEST)
        self._program = bench.program.fingerprint
        self._metric = bench.metric.fingerprint

    def scored_by(self, metric: Metric) -> Runner:
        """A runner of its own on the same gateway and ledger, with another metric."""
        return Runner(replace(self.bench, metric=metric), concurrency=self.concurrency, timeout=self.timeout)

    def pace(self, candidate: Candidate) -> float:
        """Seconds that one more rollout of the candidate adds to the run; 0.0 before there were two of any.

        It is the time between the ends of the latest rollouts, idle time left out, times how much longer than those the
        candidate's own rollouts take: a prompt with many demos can take ten times as long as the baseline's.
        """
        if len(self._ends) < 2:
            return 0.0
        between = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        own, latest = self._took.get(candidate.id), fmean(self._latest)
        return between * fmean(own) / latest if own and latest else between

    def halt(self, reason: str) -> None:
        """Start nothing more; what runs is finished and kept, what waits is refused with Halted."""
        self._halt = self._halt or reason

    def check(self) -> None:
        """Raise Halted when nothing more may start."""
        if self._halt:
            raise Halted(self._halt)

    async def evaluate(
        self, candidate: Candidate, examples: Sequence[Example], *, step: int, split: str, sample: int = 0
    ) -> tuple[Rollout, ...]:
        """One rollout a row, in the order of the rows; another `sample` is another rollout of the same.

        Raises BudgetExhausted, ModelDown or Halted once every rollout that was started has ended and is kept.
        """
        work = [self._rollout(candidate, example, step, split, sample) for example in examples]
        done = await asyncio.gather(*work, return_exceptions=True)
        for result in done:
            if isinstance(result, BaseException):
                raise result
        return tuple(result for result in done if isinstance(result, Rollout))

    async def propose(self, request: Propose, *, step: int) -> Proposal:
        """What the operator makes of its brief."""
        self.check()
        return await self.bench.proposer.propose(request, step)

    async def _rollout(self, candidate: Candidate, example: Example, step: int, split: str, sample: int) -> Rollout:
        of_row = (self._program, example.id, example.digest, sample)
        work = _digest(*of_row, candidate.id)
        wanted = _Wanted(candidate, example, sample, step, split, work, _digest(*of_row), _digest(work, self._metric))
        known = self.bench.ledger.rollout(wanted.key)
        if known is not None:
            return known
        if wanted.key not in self._flights:
            flight = asyncio.create_task(self._run_and_record(wanted))
            self._flights[wanted.key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(wanted.key))
        return await self._flights[wanted.key]

    async def _run_and_record(self, wanted: _Wanted) -> Rollout:
        ledger = self.bench.ledger
        async with self._slots.hold(wanted.step):
            self.check()
            if ledger.account.room(ONE) != "yes":
                raise BudgetExhausted(ledger.account.binding(ONE))
            ledger.account.reserve(ONE)
            kept = Spend()
            self._work_begins()
            try:
                rollout = await self._run(wanted)
                if rollout.failure is None and rollout.score is None:
                    rollout = await self._score(rollout, wanted)
                ledger.record(wanted.key, rollout, step=wanted.step, split=wanted.split)
                self._took.setdefault(wanted.candidate.id, []).append(rollout.seconds)
                self._latest.append(rollout.seconds)
                kept = ONE
                return rollout
            finally:
                ledger.account.settle(ONE, kept)
                self._work_ends()

    def _work_begins(self) -> None:
        if not self._active:
            self._since = time.monotonic()
        self._active += 1

    def _work_ends(self) -> None:
        now = time.monotonic()
        self._ends.append(self._busy + now - self._since)
        self._active -= 1
        if not self._active:
            self._busy += now - self._since

    async def _run(self, wanted: _Wanted) -> Rollout:
        program, candidate, example = self.bench.program, wanted.candidate, wanted.example
        lm = program.lm and program.lm.having(candidate.settings)
        session = self._session("program", wanted, lm)
        session.max_calls = program.max_calls
        rollout, started = Rollout(candidate.id, example.id, wanted.sample), time.perf_counter()
        try:
            async with asyncio.timeout(self.timeout):
                output = json.dumps(await program.run(candidate, example, session), ensure_ascii=False)
            rollout = replace(rollout, output=json.loads(printable(output)))
        except RunError:
            raise
        except Unreadable as wrong:
            rollout = replace(rollout, output=printable(wrong.reply), score=Score(0.0, wrong.feedback))
        except CallFailed as failed:
            rollout = replace(rollout, failure=failed.failure)
        except TimeoutError:
            message = f"the rollout took longer than {self.timeout:g} s (run.rollout_timeout)"
            rollout = replace(rollout, failure=Failure("timeout", message))
        except Exception as error:
            rollout = replace(rollout, failure=_failure("program", error))
        session.check()
        return replace(
            rollout,
            trace=tuple(session.trace),
            invocations=tuple(session.invocations),
            certainty=session.certainty,
            usd=float(session.usd),
            own=session.own,
            seconds=time.perf_counter() - started,
        )

    async def _score(self, rollout: Rollout, wanted: _Wanted) -> Rollout:
        session = self._session("judge", wanted, None)
        try:
            async with asyncio.timeout(self.timeout):
                rollout = replace(rollout, score=await self.bench.metric.score(wanted.example, rollout, session))
        except RunError:
            raise
        except CallFailed as failed:
            rollout = replace(rollout, failure=failed.failure)
        except TimeoutError:
            rollout = replace(rollout, failure=Failure("metric", f"the metric took longer than {self.timeout:g} s"))
        except Exception as error:
            rollout = replace(rollout, failure=_failure("metric", error))
        session.check()
        return rollout

    def _session(self, purpose: Purpose, wanted: _Wanted, lm: LM | None) -> Session:
        row = wanted.row if purpose == "program" else ""
        scope = Scope(purpose, wanted.work, wanted.step, wanted.candidate.id, row=row)
        return Session(self.bench.caller, scope, lm.name if lm else "", dict(lm.args) if lm else {})


def _failure(kind: str, error: Exception) -> Failure:
    """What the user's own code raised; its text may hold a key that a client was given."""
    return Failure(kind, mask(f"{type(error).__name__}: {error}"))


def _digest(*parts: Any) -> str:
    return hashlib.blake2b(json.dumps(parts, default=str).encode(), digest_size=16).hexdigest()
