"""What strategies that try one candidate a step have in common: evidence, proposals, the race, the finish.

Racing on paired rows in blocks is CAPO's (Zehle et al., 2025); several reflections on parts of the evidence, put
together, are ComBEE's. What a candidate must show grows with what it claims: a lead on a race's rows makes it the
incumbent, on which further edits build, and only a finalist is completed on all of val.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal

from promptopt.core.candidate import Candidate, Component, Demo
from promptopt.core.credit import to_mend
from promptopt.core.edit import Brief, Edit, Evidence, Proposal
from promptopt.core.example import Example
from promptopt.core.racing import (
    FRESH_ROWS,
    LEAST_ROWS,
    LEAST_TO_SHRINK,
    Race,
    Scores,
    deep_enough,
    lacking,
    race_rows,
)
from promptopt.core.rollout import Rollout, values
from promptopt.core.search import AwaitTurn, Evaluate, Propose, Steps, Turn, Work
from promptopt.core.selection import longest_prompt_bytes, prompt_bytes
from promptopt.core.state import State, Told, mean
from promptopt.core.strategies.drawing import OperatorPrior
from promptopt.core.strategies.minibatch import minibatches, width

Objective = Literal["score", "prompt_tokens", "usd"]
"""What a candidate may be good at: a high score, a short prompt, cheap rollouts."""
DEMOS_ONLY = Component("", "")
"""Stands for the component to change where no text may change."""
USELESS = 8
"""Answers in a row that led nowhere before the reflection model is asked no more."""
NO_ROOM = "no room for it within the budget"
SHORTER = 0.9
"""Share of its rival's length that a child may have to count as shorter."""
FINALISTS = 4
"""Candidates that may be completed at the end, while there is room: incumbent, baseline, earlier winners."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is being optimized, as far as a strategy may know it."""

    seed_candidate: Candidate
    components: tuple[Component, ...]
    """The optimizable ones."""
    labelled: Mapping[str, tuple[Demo, ...]]
    """By demo slot, the demos that train rows make without running anything."""
    train: tuple[Example, ...]
    val: tuple[Example, ...]
    settings: Mapping[str, tuple[Any, ...]] = field(default_factory=dict[str, tuple[Any, ...]])
    """Settings that may be searched, with their values; the program's own come first."""
    teacher: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Settings with which a stronger model runs the program, for operators that learn from it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes of what a step may do, and when it is enough."""

    minibatch: int = 8
    block: int = 8
    max_demos: int = 16
    max_bytes: int = 8000
    target: float | None = None
    """A val score with which the search is content."""
    patience: int | None = None
    """Proposals in a row that may fail to win before the search gives up."""
    rollouts: int | None = None
    """All that the search may use; None where they are not capped."""
    pool: int = 6
    """Proposals for each text and each demo slot that a joint search combines."""
    objectives: tuple[Objective, ...] = ("score",)
    """What a joint search looks for; with several it ends in a front."""


class Racer(ABC):
    """A strategy whose every step races one child against the incumbent; a subclass says which, in `step`."""

    def __init__(self, task: Task, operators: Sequence[OperatorPrior], limits: Limits, seed: int) -> None:
        self.task, self.operators, self.limits, self.seed = task, tuple(operators), limits, seed
        order = Random(f"{seed}/val").sample(task.val, len(task.val))
        self._val = {example.id: example for example in order}

    @abstractmethod
    def step(self, number: int, state: State) -> Steps:
        """One proposal's lineage, from the state it starts with; most end in `race_in_turn`."""

    def ready(self, number: int, state: State) -> bool:
        return True

    @property
    def start_cost(self) -> int:
        widest = max((width(self.limits.minibatch, operator.calls) for operator in self.operators), default=0)
        return min(widest, len(self.task.train))

    @property
    def least_race(self) -> int:
        return min(LEAST_ROWS, len(self._val))

    def race_cost(self, state: State) -> int:
        deepening = len(self._val) - len(state.val[state.incumbent])
        return deepening + len(self._val)

    def finish_cost(self, state: State) -> int:
        """A child that wins is known on the rows of its race; to become the champion it needs the others."""
        return len(self._val) - self.least_race

    def baseline(self) -> Steps:
        seed = self.task.seed_candidate
        least = LEAST_ROWS if self.limits.target is None else len(self._val)
        yield from self._deepen(seed, {}, least, len(self._val))
        return Told(0, "baseline", "baseline", seed, note="the program as it is")

    def finish(self, number: int, state: State, room: int | None) -> Steps | None:
        """Complete the incumbent and the baseline, then earlier winners that promise more than the best turned out."""
        best = max((state.mean(name) for name in self._complete_ones(state)), default=0.0)
        if best >= self._goal:
            return None
        latest = dict.fromkeys((state.incumbent, state.baseline, *reversed(state.winners)))
        for place, name in enumerate(list(latest)[:FINALISTS]):
            left = len(self._val) - len(state.val[name])
            if left and (place < 2 or state.promise(name) > best) and (room is None or left <= room):
                return self._complete(number, name, state)
        return None

    def enough(self, state: State) -> str | None:
        return self.met(state) or self.impatient(state) or self.dried_up(state)

    def met(self, state: State) -> str | None:
        """That a candidate known on all of val is as good as it has to be."""
        best = max(self._complete_ones(state), key=state.mean, default=None)
        if best is None or state.mean(best) < self._goal:
            return None
        met = "the starting prompt has" if best == state.baseline else "val reached"
        return f"target: {met} {state.mean(best):.3f}, which is at least {self._goal:g}"

    def impatient(self, state: State) -> str | None:
        """That too many proposals in a row did not win."""
        patience = self.limits.patience
        if patience is None or state.since_win < patience:
            return None
        return f"patience: no improvement in the last {state.since_win} proposals"

    def dried_up(self, state: State) -> str | None:
        """That nobody but a reflection model proposes, and it has given nothing usable for long."""
        if state.useless < USELESS or not all(operator.asks for operator in self.operators):
            return None
        refused = [f"{reason}: {count}" for reason, count in state.refused.items()]
        why = ", ".join(refused) or "always the same text"
        return f"reflection: nothing usable {state.useless} times in a row ({why})"

    def propose(
        self,
        number: int,
        operator: OperatorPrior,
        parent: Candidate,
        state: State,
        rng: Random,
        part: Task | None = None,
    ) -> Generator[Work, Any, tuple[Told, Edit | None]]:
        """An edit of the parent: of the component that the evidence blames, or whose changes have paid.

        `part` is the task with only some of its components or demo slots, where the edit is to be about those.
        """
        if operator.asks and state.useless >= USELESS:
            return Told(
                number, operator.name, "refused", reason="the reflection model gave nothing usable for long"
            ), None
        task = part or self.task
        teacher = replace(parent, settings={**parent.settings, **task.teacher}) if operator.by_teacher else None
        groups = [(yield from self.known(parent, state)) if operator.reads_all else ()]
        if operator.needs_evidence and len(groups[0]) < self.limits.minibatch:
            groups = yield from self.evidence(parent, operator.calls, state, rng, teacher)
        rows = [row for group in groups for row in group]
        chosen = to_mend(task.components, rows, state.credit, rng) if task.components else DEMOS_ONLY
        component = replace(chosen, text=parent.components.get(chosen.name, ""))
        briefs = [
            Brief(
                parent=parent,
                component=component,
                original=chosen.text,
                evidence=evidence,
                train=task.train,
                labelled=task.labelled,
                max_demos=self.limits.max_demos,
                max_bytes=self.limits.max_bytes,
                rejected=state.rejected,
                seed=(self.seed, number, place),
            )
            for place, evidence in enumerate(groups)
        ]
        proposal: Proposal = yield Propose(operator.name, tuple(briefs))
        told = Told(
            number,
            operator.name,
            "refused",
            component=chosen.name,
            note=proposal.edit.note if proposal.edit else "",
            reason=", ".join(proposal.refused),
            refused=proposal.refused,
            asked=proposal.asked,
            tokens=proposal.tokens,
        )
        return told, proposal.edit

    def evidence(
        self, parent: Candidate, groups: int, state: State, rng: Random, teacher: Candidate | None = None
    ) -> Generator[Work, Any, list[tuple[Evidence, ...]]]:
        """`groups` minibatches of train rows with what the parent, or else its teacher, makes of them."""
        batches = minibatches(parent, self.task.train, state, self.limits.minibatch, groups, rng)
        rows = {example.id: example for batch in batches for example in batch}
        made = yield from self._seen(teacher or parent, tuple(rows.values()))
        return [tuple(made[example.id] for example in batch) for batch in batches]

    def known(self, parent: Candidate, state: State) -> Generator[Work, Any, tuple[Evidence, ...]]:
        """Every train row that the parent or an ancestor ran on, as the nearest of them replied, at no cost."""
        made: dict[str, Evidence] = {}
        for name in state.lineage(parent.id):
            ran = state.train.get(name, {})
            if rows := tuple(row for row in self.task.train if row.id in ran and row.id not in made):
                made |= yield from self._seen(state.candidates[name], rows)
        return tuple(made[row.id] for row in self.task.train if row.id in made)

    def _seen(self, candidate: Candidate, rows: tuple[Example, ...]) -> Generator[Work, Any, dict[str, Evidence]]:
        rollouts: Sequence[Rollout] = yield Evaluate(candidate, rows)
        return {row.id: Evidence(row, rollout) for row, rollout in zip(rows, rollouts, strict=True)}

    def race_in_turn(self, told: Told, child_of: Callable[[Candidate], Candidate], *, rematch: bool = False) -> Steps:
        """Wait for the turn, build the child on the incumbent of then, and race the two.

        In a `rematch` the child may have raced before; it goes on from the rows that it ran on.
        """
        turn: Turn | None = yield AwaitTurn()
        if turn is None:
            return replace(told, outcome="no_room", reason=NO_ROOM)
        state = turn.state
        rival = state.candidates[state.incumbent]
        child = child_of(rival)
        told = replace(told, parent=told.parent or rival.id)
        if child.id in state.candidates and (child.id == rival.id or not rematch):
            return replace(told, outcome="repeat", reason="the candidate was scored before")
        if fault := self.fault(child):
            return replace(told, outcome="refused", reason=fault, refused={**told.refused, fault: 1})
        return (yield from self._race(replace(told, candidate=child), child, rival, turn))

    def fault(self, child: Candidate) -> str | None:
        """The limit that a child passes where its edit met others': each kept within it when it was made."""
        if longest_prompt_bytes(child) > self.limits.max_bytes:
            return "too long"
        return "too many demos" if child.n_demos > self.limits.max_demos else None

    def _race(self, told: Told, child: Candidate, rival: Candidate, turn: Turn) -> Steps:
        had = turn.state.val[rival.id]
        shrinking = shrinks(child, rival)
        least = LEAST_TO_SHRINK if shrinking else LEAST_ROWS
        deep = least + self._fresh(rival, turn.state)
        known = yield from self._deepen(rival, had, deep, turn.room - self.least_race)
        scores = {row: value for row, value in turn.state.val.get(child.id, {}).items() if row in known}
        rows = race_rows(known, Random(f"{self.seed}/{told.step}/race"), least)
        room = turn.room - (len(known) - len(had))
        new = [row for row in rows if row not in scores][:room]
        expected = turn.state.estimate(rival.id)
        race = Race({row: known[row] for row in (*scores, *new)}, self.limits.block, shrinking=shrinking)
        for block in race.blocks:
            if not (unknown := [row for row in block if row not in scores]):
                continue
            scores |= values((yield Evaluate(child, self._rows(unknown))))
            if why := race.futile(scores):
                now = race.standing(scores)
                told = replace(told, gain=now.gain, estimate=expected + now.gain)
                return replace(told, outcome="behind", reason=why, saved=len(self._val) - len(scores))
        now, won = race.standing(scores), race.won(scores)
        rest = self._unknown(scores)
        if won and mean(scores) >= self._goal and 0 < len(rest) <= room - len(new):
            scores |= values((yield Evaluate(child, self._rows(rest))))
        return replace(
            told,
            outcome="won" if won else "lost",
            reason=f"{now.gain:+.3f} ± {now.error:.3f} on {now.n} rows",
            gain=now.gain,
            estimate=expected + now.gain,
            saved=len(self._val) - len(scores),
        )

    def _fresh(self, rival: Candidate, state: State) -> int:
        """Rows beyond a race's on which the rival is to be known: each child that fails may have met with its luck."""
        return 0 if rival.id == state.baseline else FRESH_ROWS + state.since_win

    def _deepen(self, incumbent: Candidate, had: Scores, least: int, room: int) -> Generator[Work, Any, Scores]:
        """The incumbent's scores on so many rows that they show who improves on it, if `room` more are enough."""
        known = dict(had)
        while not deep_enough(known, least) and (
            more := self._unknown(known)[: max(0, min(room, lacking(known, least)))]
        ):
            known |= values((yield Evaluate(incumbent, self._rows(more))))
            room -= len(more)
        return known

    def complete_incumbent(self, number: int) -> Steps:
        """A step that spends its turn on the val rows that the incumbent of then still lacks."""
        turn: Turn | None = yield AwaitTurn()
        if turn is None or len(self._unknown(turn.state.val[turn.state.incumbent])) > turn.room:
            return Told(number, "finalist", "no_room", reason=NO_ROOM)
        return (yield from self._complete(number, turn.state.incumbent, turn.state))

    def _complete(self, number: int, name: str, state: State) -> Steps:
        candidate = state.candidates[name]
        if left := self._unknown(state.val[name]):
            yield Evaluate(candidate, self._rows(left))
        return Told(number, "finalist", "completed", candidate, note=f"{name} on all val rows")

    @property
    def _goal(self) -> float:
        """The val score at which nothing is left to do."""
        return 1.0 if self.limits.target is None else self.limits.target

    def _at_goal(self, state: State) -> bool:
        """Whether the incumbent seems to be there, and is only to be completed."""
        return len(state.val[state.incumbent]) < len(self._val) and state.mean(state.incumbent) >= self._goal

    def _complete_ones(self, state: State) -> list[str]:
        return [name for name, scores in state.val.items() if len(scores) == len(self._val)]

    def _unknown(self, known: Scores) -> list[str]:
        return [row for row in self._val if row not in known]

    def _rows(self, names: Iterable[str]) -> tuple[Example, ...]:
        return tuple(self._val[name] for name in names)


def shrinks(child: Candidate, rival: Candidate) -> bool:
    """Whether a child is so much shorter than its rival, as a whole or in its texts, that it need only be as good."""
    texts = [sum(len(text.encode()) for text in one.components.values()) for one in (child, rival)]
    whole = [prompt_bytes(one) for one in (child, rival)]
    return whole[0] <= SHORTER * whole[1] or (whole[0] < whole[1] and texts[0] <= SHORTER * texts[1])
