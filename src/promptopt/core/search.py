"""The search as a fold over what its steps told.

A *step* is one proposal's whole lineage, written by a strategy as a generator: it yields the work it needs (rollouts,
a proposal, its turn to rebase), is sent the results, and returns what it has to tell. `Search` decides in which order
steps start and race, and folds what they told. Nothing here does I/O, so the same events give the same state:

- step i starts from the state after at most i - pipeline + 1 folds, and draws from (seed, i) alone;
- just before its child is assembled it waits for its *turn*: the state after i - rebase + 1 folds, and room for a race;
- steps are folded in the order of their numbers, however they finish.

Step 0 is the baseline; nothing else starts before it is folded.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from promptopt.core.candidate import Candidate
from promptopt.core.edit import Brief
from promptopt.core.example import Example
from promptopt.core.racing import gaps

Outcome = Literal["baseline", "won", "lost", "behind", "refused", "repeat", "failed", "no_room"]

CAP = "budget: "
"""How the reason of a stop by a cap begins."""
OUT_OF_ROLLOUTS = f"{CAP}rollouts"
"""The reason of a stop for want of rollouts; steps still in flight then will not race either, and can be cut short."""
EXPECTED_RACE = 0.5
"""The part of all val rows that a race is expected to use, when it is decided whether one more step may start."""
IDLE_LIMIT = 24
"""Steps in a row that ran nothing new before the search gives up: proposals have run dry."""


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Ask for one rollout a row; answered by a tuple of rollouts in the same order."""

    candidate: Candidate
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Propose:
    """Ask an operator for an edit; answered by a Proposal."""

    operator: str
    brief: Brief


@dataclass(frozen=True, slots=True)
class AwaitTurn:
    """Ask for the state to rebase on; answered by a State, or None when no room is left for a race."""


Work = Evaluate | Propose | AwaitTurn


@dataclass(frozen=True, slots=True)
class Told:
    """What a finished step tells: one event of the run."""

    step: int
    operator: str
    outcome: Outcome
    candidate: Candidate | None = None
    parent: str | None = None
    scores: Mapping[str, float | None] = field(default_factory=dict[str, "float | None"])
    """The candidate's scores on val rows, by example id; None where one is missing."""
    note: str = ""
    reason: str = ""
    """Why the outcome is what it is, in a few words."""
    refused: Mapping[str, int] = field(default_factory=dict[str, int])
    tokens: int = 0
    rolled: tuple[tuple[str, str], ...] = ()
    """Every (candidate id, example id) that the step asked for; the engine fills it in."""

    def to_json(self) -> dict[str, Any]:
        return {
            "operator": self.operator,
            "outcome": self.outcome,
            "candidate": self.candidate.to_json() if self.candidate else None,
            "parent": self.parent,
            "scores": dict(self.scores),
            "note": self.note,
            "reason": self.reason,
            "refused": dict(self.refused),
            "tokens": self.tokens,
            "rolled": [list(pair) for pair in self.rolled],
        }

    @staticmethod
    def from_json(step: int, body: Mapping[str, Any]) -> Told:
        """Read back what `to_json` wrote."""
        fields = dict(body)
        fields["candidate"] = Candidate.from_json(body["candidate"]) if body["candidate"] else None
        fields["rolled"] = tuple((pair[0], pair[1]) for pair in body["rolled"])
        return Told(step, **fields)


@dataclass(frozen=True, slots=True)
class Tally:
    """How an operator has done so far."""

    tries: int = 0
    wins: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """Everything the folded steps have told. Immutable: a step may hold on to the one it started from."""

    folded: int = 0
    candidates: Mapping[str, Candidate] = field(default_factory=dict[str, Candidate])
    val: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict[str, "Mapping[str, float | None]"])
    """Known val scores by candidate id and example id."""
    incumbent: str = ""
    baseline: str = ""
    tallies: Mapping[str, Tally] = field(default_factory=dict[str, Tally])
    rejected: tuple[str, ...] = ()
    refused: Mapping[str, int] = field(default_factory=dict[str, int])
    rollouts: int = 0
    """Distinct (candidate, example) pairs so far."""
    idle: int = 0
    """Steps in a row that ran nothing new."""

    def fold(self, told: Told, fresh: int) -> State:
        """The state after `told`, of whose rollouts `fresh` are new."""
        had = self.tallies.get(told.operator, Tally())
        won = told.outcome == "won"
        tally = Tally(had.tries + 1, had.wins + won, had.tokens + told.tokens)
        refused = dict(self.refused)
        for reason, count in told.refused.items():
            refused[reason] = refused.get(reason, 0) + count
        state = replace(
            self,
            folded=self.folded + 1,
            refused=refused,
            rollouts=self.rollouts + fresh,
            idle=0 if fresh else self.idle + 1,
            tallies={**self.tallies, told.operator: tally} if told.outcome != "no_room" else self.tallies,
            rejected=(*self.rejected, told.note)[-40:] if told.outcome in ("lost", "behind") else self.rejected,
        )
        if told.candidate is None or not told.scores:
            return state
        name = told.candidate.id
        state = replace(
            state,
            candidates={**self.candidates, name: told.candidate},
            val={**self.val, name: {**self.val.get(name, {}), **told.scores}},
        )
        if told.outcome == "baseline":
            return replace(state, baseline=name, incumbent=name)
        return replace(state, incumbent=name) if self._overtaken_by(told) else state

    def mean(self, candidate_id: str) -> float:
        """A candidate's mean over its known val scores; 0.0 when it has none."""
        known = [value for value in self.val[candidate_id].values() if value is not None]
        return sum(known) / len(known) if known else 0.0

    def _overtaken_by(self, told: Told) -> bool:
        """Two steps that raced side by side may both win; the better one stays."""
        return told.outcome == "won" and paired_gain(told.scores, self.val[self.incumbent]) > 0


def replay(tolds: Iterable[Told]) -> State:
    """The state after these steps, in their order."""
    state, seen = State(), set[tuple[str, str]]()
    for told in tolds:
        fresh = set(told.rolled) - seen
        seen |= fresh
        state = state.fold(told, len(fresh))
    return state


def paired_gain(scores: Mapping[str, float | None], other: Mapping[str, float | None]) -> float:
    """The mean difference over the rows where both have a score; 0.0 when there are none."""
    found = gaps(scores, other)
    return sum(found) / len(found) if found else 0.0


Steps = Generator[Work, Any, Told]


class Strategy(Protocol):
    """Decides what to try next. It never does I/O: it yields work and is sent the results."""

    @property
    def start_cost(self) -> int:
        """Most rollouts a step may ask for before its turn."""
        ...

    @property
    def race_cost(self) -> int:
        """Most rollouts a step may ask for after its turn."""
        ...

    def baseline(self) -> Steps:
        """Step 0: score the program as it is."""
        ...

    def step(self, number: int, state: State) -> Steps:
        """One proposal's lineage, from the state it starts with."""
        ...


@dataclass(frozen=True, slots=True)
class Ask:
    """A step that may start now."""

    number: int
    work: Steps


class Search:
    """Orders steps, folds what they tell, and keeps the rollout cap.

    Every decision happens at a fold, in step order, from settled rollouts plus the worst case of the steps in flight:
    so it does not depend on how fast anything ran.
    """

    def __init__(self, strategy: Strategy, *, pipeline: int, rebase: int, max_rollouts: int | None) -> None:
        """`max_rollouts` is the search's own share: the cap less the sealed test's."""
        self.strategy = strategy
        self.pipeline, self.rebase = pipeline, min(rebase, pipeline)
        self.max_rollouts = max_rollouts
        self.state = State()
        self.stop_reason: str | None = None
        self._asked = 0
        self._turns: dict[int, State | None] = {}
        self._waiting: list[int] = []
        self._seen: set[tuple[str, str]] = set()

    def ask(self) -> list[Ask]:
        """The steps that may start now. Call it once before the first fold and once after each."""
        asks: list[Ask] = []
        while self._may_start(self._asked):
            number = self._asked
            work = self.strategy.step(number, self.state) if number else self.strategy.baseline()
            asks.append(Ask(number, work))
            if number:
                self._waiting.append(number)
            self._asked += 1
        self._give_turns()
        return asks

    def tell(self, told: Told) -> None:
        """Fold the oldest step in flight. Raises ValueError for any other step."""
        if told.step != self.state.folded:
            raise ValueError(f"step {told.step} told before step {self.state.folded}")
        fresh = set(told.rolled) - self._seen
        self._seen |= fresh
        self._turns.pop(told.step, None)
        if told.step in self._waiting:
            self._waiting.remove(told.step)
        self.state = self.state.fold(told, len(fresh))

    def has_turn(self, number: int) -> bool:
        return number in self._turns

    def turn(self, number: int) -> State | None:
        """The state that step `number` rebases on, or None when there is no room for its race."""
        return self._turns[number]

    @property
    def in_flight(self) -> range:
        """The numbers of the steps asked for and not yet folded."""
        return range(self.state.folded, self._asked)

    @property
    def done(self) -> bool:
        return not self.in_flight and self.stop_reason is not None

    def stop(self, reason: str) -> None:
        """Start no further step; the first reason stays."""
        self.stop_reason = self.stop_reason or reason

    def _may_start(self, number: int) -> bool:
        if number == 0:
            return True
        if self.state.idle >= IDLE_LIMIT:
            self.stop(f"no new proposals: the last {IDLE_LIMIT} were refused or repeats")
        if self.stop_reason or self.state.folded == 0 or number >= self.state.folded + self.pipeline:
            return False
        unraced = sum(number not in self._turns for number in self.in_flight)
        races = self.strategy.race_cost * (1 + EXPECTED_RACE * unraced)
        fits = self._fits(self.strategy.start_cost + math.ceil(races))
        if not fits and not self.in_flight:
            self.stop(OUT_OF_ROLLOUTS)
        return fits

    def _give_turns(self) -> None:
        """Turns go out in step order; a race that does not fit waits for earlier steps to return what they left."""
        while self._waiting and self.state.folded > max(0, self._waiting[0] - self.rebase):
            number = self._waiting[0]
            fits = self._fits(self.strategy.race_cost)
            if not fits and number > self.state.folded:
                return
            self._turns[number] = self.state if fits else None
            if not fits:
                self.stop(OUT_OF_ROLLOUTS)
            self._waiting.pop(0)

    def _fits(self, rollouts: int) -> bool:
        if self.max_rollouts is None:
            return True
        racing = sum(self._turns.get(number) is not None for number in self.in_flight)
        held = len(self.in_flight) * self.strategy.start_cost + racing * self.strategy.race_cost
        return self.state.rollouts + held + rollouts <= self.max_rollouts
