"""The search as a fold over what its steps told.

A *step* is one proposal's whole lineage, written by a strategy as a generator: it yields the work it needs (rollouts,
a proposal, its turn to rebase), is sent the results, and returns what it has to tell. `Search` decides in which order
steps start and race, and folds what they told. Nothing here does I/O, so the same events give the same state:

- step i starts from the state after at least i - pipeline + 1 folds, and draws from (seed, i) alone;
- just before its child is assembled it waits for its *turn*: the state after i - rebase + 1 folds, and the rollouts
  that its race may use;
- steps are folded in the order of their numbers, however they finish.

Step 0 is the baseline; nothing else starts before it is folded. When no further proposal may start, the strategy
completes its finalists on all of val, for which rollouts were kept.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol

from promptopt.core.candidate import Candidate
from promptopt.core.edit import Brief
from promptopt.core.example import Example
from promptopt.core.state import State, Told

CAP = "budget: "
"""How the reason of a stop by a cap begins."""
OUT_OF_ROLLOUTS = f"{CAP}rollouts"
"""The reason of a stop for want of rollouts."""
IDLE_LIMIT = 24
"""Steps in a row that ran nothing new before the search gives up: proposals have run dry."""


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Ask for one rollout a row; answered by a tuple of rollouts in the same order."""

    candidate: Candidate
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Propose:
    """Ask an operator for an edit, one of each brief; answered by one Proposal of all edits together."""

    operator: str
    briefs: tuple[Brief, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """A step's turn to race."""

    state: State
    """What to rebase on."""
    room: int
    """Rollouts that the race may use."""


@dataclass(frozen=True, slots=True)
class AwaitTurn:
    """Ask for the turn to race; answered by a Turn, or None when no room is left for a race."""


Work = Evaluate | Propose | AwaitTurn


Steps = Generator[Work, Any, Told]


class Strategy(Protocol):
    """Decides what to try next. It never does I/O: it yields work and is sent the results."""

    @property
    def start_cost(self) -> int:
        """Most rollouts a step may ask for before its turn, those that are known already left out."""
        ...

    @property
    def least_race(self) -> int:
        """Fewest rollouts that a race is worth starting with."""
        ...

    def race_cost(self, state: State) -> int:
        """Most rollouts a race may ask for when its turn comes at this state."""
        ...

    def finish_cost(self, state: State) -> int:
        """Rollouts to keep for `finish`."""
        ...

    def ready(self, number: int, state: State) -> bool:
        """Whether step `number` may start from this state; always true where no step is in flight."""
        ...

    def baseline(self) -> Steps:
        """Step 0: score the program as it is."""
        ...

    def step(self, number: int, state: State) -> Steps:
        """One proposal's lineage, from the state it starts with."""
        ...

    def finish(self, number: int, state: State, room: int | None) -> Steps | None:
        """A last step that completes a finalist within `room` rollouts (None: no cap), or None when all is done."""
        ...

    def enough(self, state: State) -> str | None:
        """Why the search should propose no further, or None to go on."""
        ...


@dataclass(frozen=True, slots=True)
class Ask:
    """A step that may start now."""

    number: int
    work: Steps


class Search:
    """Orders steps, folds what they tell, and keeps the rollout cap.

    Every decision happens at a fold, in step order, from settled rollouts plus what the steps in flight may still use:
    so it does not depend on how fast anything ran.
    """

    def __init__(self, strategy: Strategy, *, pipeline: int, rebase: int, max_rollouts: int | None) -> None:
        """`max_rollouts` is the search's own share: the cap less the sealed test's."""
        self.strategy = strategy
        self.pipeline, self.rebase = pipeline, min(rebase, pipeline)
        self.max_rollouts = max_rollouts
        self.state = State()
        self.stop_reason: str | None = None
        self.finishing = False
        """Whether proposals are over and finalists are being completed."""
        self._asked = 0
        self._turns: dict[int, Turn | None] = {}
        self._waiting: list[int] = []
        self._lost = 0
        """Rollouts that steps which were cut short may have used."""
        self._ended = False

    def ask(self) -> list[Ask]:
        """The steps that may start now. Call it once before the first fold and once after each."""
        asks: list[Ask] = []
        if self.state.folded and not self.stop_reason and (enough := self._enough()):
            self.stop(enough)
        while self._may_start(self._asked):
            asks.append(Ask(self._asked, self._begin(self._asked)))
            self._asked += 1
        self._give_turns()
        if self.stop_reason and self.state.folded and not self.in_flight and not self._ended:
            self.finishing = True
            room = None if self.max_rollouts is None else self.max_rollouts - self.state.rollouts - self._lost
            work = self.strategy.finish(self._asked, self.state, room)
            if work:
                asks.append(Ask(self._asked, work))
                self._asked += 1
        return asks

    def tell(self, told: Told) -> None:
        """Fold the oldest step in flight. Raises ValueError for any other step."""
        if told.step != self.state.folded:
            raise ValueError(f"step {told.step} told before step {self.state.folded}")
        turn = self._turns.pop(told.step, None)
        if told.step in self._waiting:
            self._waiting.remove(told.step)
        before, self.state = self.state.rollouts, self.state.fold(told)
        if told.outcome == "no_room":
            held = self.strategy.start_cost + (turn.room if turn else 0)
            self._lost += max(0, held - (self.state.rollouts - before))
            self._ended = self.finishing

    def has_turn(self, number: int) -> bool:
        return number in self._turns

    def turn(self, number: int) -> Turn | None:
        """The turn of step `number`, or None when there is no room for its race."""
        return self._turns[number]

    @property
    def in_flight(self) -> range:
        """The numbers of the steps asked for and not yet folded."""
        return range(self.state.folded, self._asked)

    @property
    def decided(self) -> str | None:
        """The reason of a stop that the folds alone decided: steps in flight cannot change it, and may be cut short."""
        reason = self.stop_reason
        return None if reason and reason.startswith(CAP) and reason != OUT_OF_ROLLOUTS else reason

    def stop(self, reason: str) -> None:
        """Start no further proposal; the first reason stays."""
        self.stop_reason = self.stop_reason or reason

    def _begin(self, number: int) -> Steps:
        if number == 0:
            return self.strategy.baseline()
        self._waiting.append(number)
        return self.strategy.step(number, self.state)

    def _enough(self) -> str | None:
        if self.state.idle >= IDLE_LIMIT:
            return f"no new proposals: the last {IDLE_LIMIT} were refused or repeats"
        return self.strategy.enough(self.state)

    def _may_start(self, number: int) -> bool:
        if number == 0:
            return True
        if self.stop_reason or self.state.folded == 0 or number >= self.state.folded + self.pipeline:
            return False
        if not self.strategy.ready(number, self.state):
            return False
        unraced = sum(number not in self._turns for number in self.in_flight)
        fits = self._free() >= self.strategy.start_cost + self.strategy.least_race * (1 + unraced)
        if not fits and not self.in_flight:
            self.stop(OUT_OF_ROLLOUTS)
        return fits

    def _give_turns(self) -> None:
        """Turns go out in step order; a race that does not fit waits for earlier steps to return what they left."""
        while self._waiting and self.state.folded > max(0, self._waiting[0] - self.rebase):
            number = self._waiting[0]
            room = min(self.strategy.race_cost(self.state), self._free())
            fits = room >= self.strategy.least_race
            if not fits and number > self.state.folded:
                return
            self._turns[number] = Turn(self.state, int(room)) if fits else None
            if not fits:
                self.stop(OUT_OF_ROLLOUTS)
            self._waiting.pop(0)

    def _free(self) -> float:
        """Rollouts that neither finished steps used nor steps in flight or finalists may need."""
        if self.max_rollouts is None:
            return float("inf")
        turns = [self._turns.get(number) for number in self.in_flight]
        held = len(turns) * self.strategy.start_cost + sum(turn.room for turn in turns if turn)
        used = self.state.rollouts + self._lost
        return self.max_rollouts - used - held - self.strategy.finish_cost(self.state)
