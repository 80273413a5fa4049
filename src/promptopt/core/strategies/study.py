"""Optuna's TPE over a space: which combination is tried next, from what earlier trials told.

The sampler's state follows from the order of asks and tells alone, and both happen in the order of steps: so a study
that is rebuilt from what was told goes on as if it had never been interrupted (TPE: Bergstra et al., 2011; Watanabe,
2023). Trials that were raced and dropped are pruned trials; those under way count as bad ones, so that trials side by
side differ (the constant liar).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import islice, product
from random import Random
from typing import TYPE_CHECKING, Any

from promptopt.core.state import Told
from promptopt.core.strategies.space import Space

if TYPE_CHECKING:
    import optuna

DRAWS = 12
"""Draws of the sampler in a row that may repeat known trials, before one is drawn at random from the others."""

Params = dict[str, int]


class Study:
    """The trials of one search, open and ended."""

    def __init__(self, space: Space, usable: Callable[[Params], bool], objectives: int, seed: int) -> None:
        """`usable` says of a combination whether it may be tried at all."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self._usable, self._rng = space, usable, Random(f"{seed}/trials")
        self._distributions: dict[str, Any] = {
            dimension.name: optuna.distributions.CategoricalDistribution(range(len(dimension.choices)))
            for dimension in space.dimensions
        }
        first = self._every_choice_once()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                multivariate=True, constant_liar=True, n_startup_trials=len(first), seed=Random(seed).getrandbits(32)
            )
        self._study = optuna.create_study(sampler=sampler, directions=DIRECTIONS[:objectives])
        self._open: dict[int, optuna.Trial] = {}
        self._tried: set[tuple[int, ...]] = set()
        for params in first:
            self._study.enqueue_trial(params)
