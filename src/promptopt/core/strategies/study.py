"""An Optuna study over a space: which combination is tried next, from what earlier trials told.

TPE draws a few combinations, chance some more, and those that are known on some rows only stand beside them; which one
is tried is decided by what the choices in it have done so far (`likeness`). TPE alone takes 100 trials and more to find
one combination of 200, for it looks at no two trials together; a choice that has done well says so at once.

What is asked follows from the order of asks and tells alone, and both happen in the order of steps: so a study that
is rebuilt from what was told goes on as if it had never been interrupted. A trial that was dropped from its race is a
pruned one; trials under way count as bad ones, so that those side by side differ (the constant liar).
TPE: Bergstra et al. (2011); with several objectives: Ozaki et al. (2022).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from promptopt.core.candidate import Candidate
from promptopt.core.selection import prompt_tokens
from promptopt.core.state import State, Told
from promptopt.core.strategies.likeness import Numbers, likeliest
from promptopt.core.strategies.racer import Objective
from promptopt.core.strategies.space import Space

if TYPE_CHECKING:
    import optuna

Params = Mapping[str, int]
"""A combination: the number of the choice in each dimension, by its name."""
TRIAL = "trial"
"""The operator of a step that tries a combination."""
DRAWS = 4
"""Combinations that the sampler draws for a trial."""
OTHERS = 100
"""Combinations drawn at random beside them."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a trial ended, in Optuna's words."""

    state: Literal["COMPLETE", "PRUNED", "FAIL"]
    values: tuple[float, ...] = ()
    """One for each objective; of a pruned trial what it seemed to be worth when it was dropped."""
    rows: int = 0
    """Val rows that it ran on."""

    @staticmethod
    def of(told: Told, objectives: Sequence[Objective]) -> Ending:
        """What a step that tried a combination tells. Optuna prunes where there is one objective only."""
        if told.estimate is None or told.candidate is None:
            return Ending("FAIL")
        dropped = told.outcome == "behind" and len(objectives) == 1
        found = values(objectives, told.candidate, told.estimate, told.usd)
        return Ending("PRUNED" if dropped else "COMPLETE", found, len(told.scores))


def values(objectives: Sequence[Objective], candidate: Candidate, score: float, usd: float) -> tuple[float, ...]:
    """A candidate's value for each objective, in their order."""
    every = {"score": score, "prompt_tokens": float(prompt_tokens(candidate)), "usd": usd}
    return tuple(every[objective] for objective in objectives)


def directions(objectives: Sequence[Objective]) -> list[Literal["maximize", "minimize"]]:
    """Which way each objective is better."""
    return ["maximize" if objective == "score" else "minimize" for objective in objectives]


class Study:
    """The trials of one search: asked for in the order of steps, and told in that order."""

    def __init__(
        self, space: Space, objectives: Sequence[Objective], usable: Callable[[Params], bool], seed: int
    ) -> None:
        """`usable` says whether a combination may be tried at all."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.objectives, self._usable = space, objectives, usable
        self._rng = Random(f"{seed}/study")
        self._distributions: dict[str, Any] = {
            dimension.name: optuna.distributions.CategoricalDistribution(range(len(dimension.choices)))
            for dimension in space.dimensions
        }
        self._first = list(self._every_choice_once())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                multivariate=True, constant_liar=True, n_startup_trials=len(self._first), seed=self._rng.getrandbits(32)
            )
        self._study = optuna.create_study(sampler=sampler, directions=directions(objectives))
        self._open: dict[int, optuna.Trial] = {}
        self._tried: dict[Numbers, str] = {}
        """The candidate of each combination that was tried or is under way."""
        self._every = product(*(range(len(dimension.choices)) for dimension in space.dimensions))
        self._next = next(self._every, None)
        """The first combination that was not tried, once those before it are passed over."""

    def goes_on(self, state: State) -> bool:
        """Whether there is something to try: a new combination, or a known one to learn more of."""
        while self._next is not None and not self._is_new(self._next):
            self._next = next(self._every, None)
        return self._next is not None or bool(self._rematches(state))

    @property
    def busy(self) -> bool:
        """Whether a trial is under way."""
        return bool(self._open)

    def add(self, params: Params, found: tuple[float, ...]) -> None:
        """A combination that was scored before the study began."""
        import optuna

        trial = optuna.create_trial(params=dict(params), distributions=self._distributions, values=list(found))
        self._study.add_trial(trial)
        self._tried[self._numbers(params)] = self.space.candidate(params).id

    def ask(self, step: int, state: State) -> Params | None:
        """The combination that `step` tries; None when nothing is left to try."""
        if not self.goes_on(state):
            return None
        numbers = self._first.pop() if self._first else None
        self._open[step] = trial = self._set(numbers) if numbers and self._is_new(numbers) else self._chosen(state)
        self._tried[self._numbers(trial.params)] = self.space.candidate(trial.params).id
        return dict(trial.params)

    def _chosen(self, state: State) -> optuna.Trial:
        """Of the sampler's draws, some at random and those known in part, the one that may well be the best."""
        drawn: dict[Numbers, optuna.Trial] = {}
        for _ in range(DRAWS):
            trial = self._study.ask(self._distributions)
            numbers = self._numbers(trial.params)
            if self._is_new(numbers) and numbers not in drawn:
                drawn[numbers] = trial
            else:
                self._drop(trial)
        options = list(drawn)
        if len(self.objectives) == 1 or not drawn:  # of several objectives, likeness knows only the score
            options = list(dict.fromkeys([*drawn, *self._others(), *self._rematches(state)]))
        known = {numbers: state.val[name] for numbers, name in self._tried.items() if name in state.val}
        best = likeliest(options, known, self._rng)
        for numbers, trial in drawn.items():
            if numbers != best:
                self._drop(trial)
        return drawn.get(best) or self._set(best)

    def _rematches(self, state: State) -> list[Numbers]:
        """Combinations that lost on some rows of val, or won there and were overtaken."""
        under_way = {self._numbers(trial.params) for trial in self._open.values()}
        return [
            numbers
            for numbers, name in self._tried.items()
            if numbers not in under_way
            and name != state.incumbent
            and 0 < len(state.val.get(name, ())) < len(state.val[state.incumbent])
        ]

    def _others(self) -> list[Numbers]:
        """Combinations that were not tried, at random while they are many."""
        sizes = [len(dimension.choices) for dimension in self.space.dimensions]
        drawn = [tuple(map(self._rng.randrange, sizes)) for _ in range(OTHERS)]
        return list(filter(self._is_new, drawn)) or list(filter(None, [self._next]))

    def _set(self, numbers: Numbers) -> optuna.Trial:
        """A trial of this combination, whatever the sampler would draw."""
        self._study.enqueue_trial(dict(self._named(numbers)))
        return self._study.ask(self._distributions)

    def _drop(self, trial: optuna.Trial) -> None:
        import optuna

        self._study.tell(trial, state=optuna.trial.TrialState.FAIL)

    def tell(self, told: Told) -> None:
        """What a step came to; one that tried nothing is passed over."""
        import optuna

        trial = self._open.pop(told.step, None)
        if trial is None:
            return
        ending = Ending.of(told, self.objectives)
        if ending.state == "PRUNED":
            trial.report(ending.values[0], ending.rows)
        self._study.tell(
            trial,
            list(ending.values) if ending.state == "COMPLETE" else None,
            state=optuna.trial.TrialState[ending.state],
        )

    def _every_choice_once(self) -> Iterator[Numbers]:
        """As few combinations as show every choice, each dimension's in random order."""
        sizes = [len(dimension.choices) for dimension in self.space.dimensions]
        orders = [self._rng.sample(range(size), size) for size in sizes]
        for place in range(max(sizes, default=0)):
            yield tuple(order[place % len(order)] for order in orders)

    def _is_new(self, numbers: Numbers) -> bool:
        return numbers not in self._tried and self._usable(self._named(numbers))

    def _named(self, numbers: Numbers) -> Params:
        return {dimension.name: number for dimension, number in zip(self.space.dimensions, numbers, strict=True)}

    def _numbers(self, params: Params) -> Numbers:
        return tuple(params[dimension.name] for dimension in self.space.dimensions)
