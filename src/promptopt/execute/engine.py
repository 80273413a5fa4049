"""Drives a search: starts the steps it asks for, in parallel, and folds what they tell in order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from promptopt.core.racing import MAX_MISSING, Scores
from promptopt.core.rollout import values
from promptopt.core.search import CAP, Ask, AwaitTurn, Evaluate, Propose, Search, Turn
from promptopt.core.state import Told
from promptopt.errors import BaselineFailed, BudgetExhausted
from promptopt.execute.runner import Runner
from promptopt.store.ledger import Ledger


class Engine:
    """One run of a search over a runner and a ledger."""

    def __init__(self, search: Search, runner: Runner, ledger: Ledger, splits: Mapping[str, str]) -> None:
        """`splits` names each example's split, by id."""
        self.search, self.runner, self.ledger, self.splits = search, runner, ledger, splits
        self.on_fold: Callable[[Told], None] = lambda told: None
        self.on_finishing: Callable[[], None] = lambda: None
        """Called once, when no further proposal starts and finalists are completed."""
        self._turns: dict[int, asyncio.Future[Turn | None]] = {}
        self._tasks: dict[int, asyncio.Task[Told]] = {}
        self._pending: list[Ask] = []
        self._cut: str | None = None
        self._finishing = False

    def replay(self) -> None:
        """Fold what the ledger tells. Steps that were in flight when the last session ended start again in `run`."""
        pending: dict[int, Ask] = {}
        for event in self.ledger.events("told"):
            pending |= {ask.number: ask for ask in self.search.ask()}
            told = Told.from_json(event.step, event.body)
            del pending[told.step]
            self._tell(told)
        self._pending = list(pending.values())

    async def run(self) -> None:
        """Drive the search until it stops; `replay` comes first.

        Raises Halted when it was interrupted, and the errors of RunError's tree; both leave a run that can be resumed.
        """
        if self.ledger.events("stop"):
            return
        try:
            while True:
                asks = [*self._pending, *self.search.ask()]
                self._pending = []
                if self.search.finishing and not self._finishing:
                    self._finishing, self._cut = True, None
                    self.on_finishing()
                for ask in asks:
                    self._tasks[ask.number] = asyncio.create_task(self._drive(ask))
                if self.search.decided and not self._finishing:
                    self.cut(self.search.decided)
                self._call_turns()
                if not self.search.in_flight:
                    break
                self._fold(await self._oldest())
        except BaseException as error:
            self.runner.halt(str(error) or type(error).__name__)
            for turn in self._turns.values():
                turn.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            raise
        self.ledger.append("stop", self.search.state.folded, {"reason": self.search.stop_reason})

    def cut(self, reason: str) -> None:
        """End the search now, calls in flight included: their worst case stays charged."""
        self._cut = reason
        self.search.stop(reason)
        for task in self._tasks.values():
            task.cancel()

    async def _oldest(self) -> Told:
        """What the oldest step in flight tells, once it has ended or was cut short."""
        number = self.search.state.folded
        try:
            told = await self._tasks[number]
            if self._cut is None or self._cut != self.search.decided:  # then timing alone decides what had just ended
                return told
        except asyncio.CancelledError:
            if self._cut is None or _being_cancelled():
                raise
        finally:
            del self._tasks[number]
        return Told(number, "", "no_room", reason=self._cut)

    async def _drive(self, ask: Ask) -> Told:
        seen: dict[str, dict[str, Scores]] = {"val": {}, "train": {}}
        tokens, answer, costs = 0, None, dict[str, list[float]]()
        while True:
            try:
                work = ask.work.send(answer)
                match work:
                    case Evaluate(candidate, examples):
                        split = self.splits[examples[0].id]
                        answer = await self.runner.evaluate(candidate, examples, step=ask.number, split=split)
                        seen[split][candidate.id] = {**seen[split].get(candidate.id, {}), **values(answer)}
                        tokens += sum(one.tokens for one in answer)
                        if split == "val":
                            costs.setdefault(candidate.id, []).extend(one.usd for one in answer)
                    case Propose():
                        answer = await self.runner.propose(work, step=ask.number)
                    case AwaitTurn():
                        answer = await self._turn(ask.number)
            except StopIteration as stop:
                told: Told = stop.value
                paid = costs.get(told.candidate.id, ()) if told.candidate else ()
                usd = sum(paid) / max(1, len(paid))
                return replace(told, tokens=told.tokens + tokens, usd=usd, val=seen["val"], train=seen["train"])
            except BudgetExhausted as spent:
                return Told(ask.number, "", "no_room", reason=f"{CAP}{spent.cap}", val=seen["val"], train=seen["train"])

    def _fold(self, told: Told) -> None:
        if told.outcome == "baseline":
            self._check_baseline(told)
        elif told.step == 0:
            raise BudgetExhausted(told.reason.removeprefix(CAP))
        self.ledger.append("told", told.step, told.to_json())
        self._tell(told)
        self.on_fold(told)

    def _tell(self, told: Told) -> None:
        self.search.tell(told)
        if told.outcome == "no_room" and told.reason.startswith(CAP):
            self.search.stop(told.reason)

    def _turn(self, number: int) -> asyncio.Future[Turn | None]:
        self.runner.check()
        turn: asyncio.Future[Turn | None] = asyncio.get_running_loop().create_future()
        self._turns[number] = turn
        self._call_turns()
        return turn

    def _call_turns(self) -> None:
        for number in [number for number in self._turns if self.search.has_turn(number)]:
            turn = self._turns.pop(number)
            if not turn.done():
                turn.set_result(self.search.turn(number))

    def _check_baseline(self, told: Told) -> None:
        missing = [row for row, value in told.scores.items() if value is None]
        if len(missing) <= MAX_MISSING * len(told.scores):
            return
        failures = {row.example_id: row.failure for row in self.ledger.rollouts("val") if row.failure}
        kind, count = Counter(failure.kind for failure in failures.values()).most_common(1)[0]
        row, message = next((row, failure.message) for row, failure in failures.items() if failure.kind == kind)
        raise BaselineFailed(
            f"the starting prompt could not be scored on {len(missing)} of {len(told.scores)} val rows; "
            f"{count} times: {kind}: {message} (row {row}). Mend it and run the same command again: "
            "answers that were paid for are kept."
        )


def _being_cancelled() -> bool:
    """Whether somebody wants this whole task to end, and not only one that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
