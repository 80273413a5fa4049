"""Joint search: instructions, demos and settings together.

First a pool: proposals for each text and each demo slot, none of them raced. Then trials: a study says which
combination is next, and a race against the incumbent what it is worth. MIPROv2 (Opsahl-Ong et al., 2024) searches in
these two phases; racing is what makes a trial cost a block where another combination is plainly better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from promptopt.core.search import Steps
from promptopt.core.selection import Offer, front
from promptopt.core.state import State, Told
from promptopt.core.strategies.drawing import OperatorPrior
from promptopt.core.strategies.racer import FINALISTS, Limits, Racer, Task
from promptopt.core.strategies.reflective import Reflective
from promptopt.core.strategies.space import Space
from promptopt.core.strategies.study import TRIAL, Params, Study, values

EVOLVED = 0.5
"""Share of the rollouts, less those kept for finalists, that evolve instructions before all is combined."""
EVOLVED_STEPS = 24
"""Proposals that do so where the budget caps no rollouts."""
FRONT = 3
"""Candidates that are completed for the front, beside the finalists, where there are several objectives."""
STUCK = 8
"""Proposals in a row that ran nothing new, after which the search goes over to combinations."""


@dataclass(frozen=True, slots=True)
class Place:
    """One proposal of the pool: who makes it, and for what."""

    operator: OperatorPrior
    task: Task
    """The task with one component or one demo slot."""


class Joint(Racer):
    """Pools alternatives for every part of the program, then searches their combinations."""

    def __init__(self, task: Task, operators: Sequence[OperatorPrior], limits: Limits, seed: int) -> None:
        super().__init__(task, operators, limits, seed)
        self._places = places(task, operators, limits.pool)
        self._pool_from: int | None = None
        """The step that began the pool."""
        self._study: Study | None = None
        self._trials_from = 0
        """Steps before the first trial; they do not count for patience."""
        self._told = 0
        """Steps that the study was told of."""

    @property
    def start_cost(self) -> int:
        return super().start_cost if self._study is None else 0

    def race_cost(self, state: State) -> int:
        return super().race_cost(state) if self._study or self.evolving(state) else self.least_race

    def ready(self, number: int, state: State) -> bool:
        """Trials begin when the whole pool is known, and end when the last of them is."""
        if self._pool_from is None or number < self._pool_from + len(self._places):
            return True
        goes_on = self._study is not None and self._study.goes_on(state)
        return goes_on or state.folded == number

    def step(self, number: int, state: State) -> Steps:
        """Not a generator itself: what a trial tries is settled when it starts, in the order of steps."""
        if self._at_goal(state):
            return self.complete_incumbent(number)
        if self._pool_from is None:
            self._pool_from = number
        place = number - self._pool_from
        if place < len(self._places):
            return self._pool(number, self._places[place], state)
        study = self._up_to_date(state) or self._begin(state)
        params = study.ask(number, state)
        return self._trial(number, study.space, params) if params else _nothing_left(number)

    def finish_cost(self, state: State) -> int:
        return super().finish_cost(state) * (1 + FRONT * self._several)

    def finish(self, number: int, state: State, room: int | None) -> Steps | None:
        """As every racer; then, of several objectives, what none that is known on all of val seems to beat."""
        if (step := super().finish(number, state, room)) or not self._several:
            return step
        known = front(state, len(self._val))
        done = sum(told.outcome == "completed" for told in state.history)
        for name in sorted(state.candidates, key=lambda name: -state.promise(name)):
            left = len(self._val) - len(state.val[name])
            offer = Offer.of(state.candidates[name], state.promise(name), state.usd(name))
            if left and (room is None or left <= room) and not any(one.beats(offer) for one in known):
                return self._complete(number, name, state) if done < FINALISTS + FRONT else None
        return None

    def met(self, state: State) -> str | None:
        """A perfect score is not all that several objectives ask for."""
        return None if self._several and self.limits.target is None else super().met(state)

    def enough(self, state: State) -> str | None:
        study = self._up_to_date(state)
        if study is None:  # nothing has raced, so nothing can have lost
            return self.met(state)
        if not study.busy and not study.goes_on(state):
            return f"space: nothing is left to learn of its {study.space.size} combinations"
        tried = min(state.since_win, state.folded - self._trials_from)
        return self.met(state) or self.impatient(replace(state, since_win=tried))

    def evolving(self, state: State) -> bool:
        """Whether this state is still one to evolve instructions from, before the pool."""
        return False

    @property
    def _several(self) -> bool:
        """Whether there are several objectives."""
        return len(self.limits.objectives) > 1

    def _pool(self, number: int, place: Place, state: State) -> Steps:
        parent = state.candidates[state.incumbent]
        rng = Random(f"{self.seed}/{number}")
        told, edit = yield from self.propose(number, place.operator, parent, state, rng, place.task)
        if edit is None:
            return told
        child = edit.apply(parent)
        if child == parent or child in state.pool:
            return replace(told, outcome="repeat", reason="it is in the pool")
        if fault := self.fault(child):
            return replace(told, outcome="refused", reason=fault, refused={**told.refused, fault: 1})
        return replace(told, outcome="pooled", candidate=child, parent=parent.id)

    def _begin(self, state: State) -> Study:
        """The study of what is in the pool. What was scored before is its first knowledge."""
        space = Space.of(state, self.task.settings)
        study = Study(space, self.limits.objectives, lambda params: not self.fault(space.candidate(params)), self.seed)
        for name, candidate in state.candidates.items():
            if (params := space.params(candidate)) is not None:
                found = values(study.objectives, candidate, state.estimate(name), state.usd(name))
                study.add(params, found)
        self._study, self._told, self._trials_from = study, state.folded, state.folded
        return study

    def _up_to_date(self, state: State) -> Study | None:
        """The study, told of every step that has been folded."""
        if self._study is not None:
            for told in state.history[self._told :]:
                self._study.tell(told)
            self._told = state.folded
        return self._study

    def _trial(self, number: int, space: Space, params: Params) -> Steps:
        candidate = space.candidate(params)
        told = Told(number, TRIAL, "refused", note=space.note(params), params=params)
        return (yield from self.race_in_turn(told, lambda _: candidate, rematch=True))


class ReflectiveJoint(Joint):
    """Evolves instructions first, then searches the combinations of what that brought and of a pool beside it."""

    def __init__(self, task: Task, operators: Sequence[OperatorPrior], limits: Limits, seed: int) -> None:
        super().__init__(task, operators, limits, seed)
        self._reflective = Reflective(task, operators, limits, seed)

    def evolving(self, state: State) -> bool:
        if self._pool_from is not None or state.idle >= STUCK:
            return False
        if (cap := self.limits.rollouts) is None:
            return state.folded <= EVOLVED_STEPS
        return state.rollouts < EVOLVED * (cap - self.finish_cost(state))

    def step(self, number: int, state: State) -> Steps:
        return self._reflective.step(number, state) if self.evolving(state) else super().step(number, state)


def places(task: Task, operators: Sequence[OperatorPrior], each: int) -> tuple[Place, ...]:
    """`each` proposals for every component and every demo slot, their operators in turn, the likeliest to win first."""
    ranked = sorted(operators, key=lambda operator: -operator.wins / operator.tries)
    of_texts = [operator for operator in ranked if not operator.demos and not operator.shortens]
    of_demos = [operator for operator in ranked if operator.demos]
    parts = [(of_texts, replace(task, components=(component,))) for component in task.components]
    parts += [(of_demos, replace(task, labelled={slot: demos})) for slot, demos in task.labelled.items()]
    return tuple(Place(able[turn % len(able)], part) for turn in range(each) for able, part in parts if able)


def _nothing_left(number: int) -> Steps:
    """A step for which every combination is known or under way."""
    yield from ()
    return Told(number, TRIAL, "repeat", reason="nothing is left to try")
