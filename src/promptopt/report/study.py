"""A joint search as an Optuna study, for Optuna's own tools: optuna-dashboard, plots, the optuna command."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptopt.core.edit import one_line
from promptopt.core.state import Told, replay
from promptopt.core.strategies.space import Space
from promptopt.core.strategies.study import TRIAL, Ending, directions
from promptopt.errors import UserError
from promptopt.result import Result, rebuild
from promptopt.store.run_dir import reading

if TYPE_CHECKING:
    import optuna

PREVIEW = 500
"""Characters of a text that a trial shows."""


def export_study(directory: Path, out: Path) -> int:
    """Write the trials of the run in `directory` as a study of its name into a new SQLite file; how many they are.

    Raises UserError where the run searched no combinations, or `out` cannot be made.
    """
    import optuna

    result = rebuild(directory)
    with reading(directory) as ledger:
        about: dict[str, Any] = ledger.meta("job")
    trials = [told for told in result.steps if told.operator == TRIAL and told.params]
    if not trials:
        raise UserError(
            f"{directory} tried no combinations, so it has no study. Joint and reflective+joint runs try some, where "
            "budget.rollouts has room for more than their proposals."
        )
    before = takewhile(lambda told: told.step < trials[0].step, result.steps)
    space = Space.of(replay(before), {name: tuple(values) for name, values in about["searched"].items()})
    if out.exists():
        raise UserError(f"{out} exists already; name a new file")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        sqlite3.connect(out).close()
        study = optuna.create_study(
            storage=f"sqlite:///{out.absolute()}",
            study_name=result.name,
            directions=directions(about["objectives"]),
        )
    except (OSError, sqlite3.Error) as error:
        raise UserError(f"{out} cannot be written: {error}") from error
    study.set_user_attr("run", str(result.directory))
    study.add_trials(list(_trials(trials, space, about, result)))
    return len(trials)


def _trials(
    trials: list[Told], space: Space, about: dict[str, Any], result: Result
) -> Iterator[optuna.trial.FrozenTrial]:
    """Each step that tried a combination, in order."""
    import optuna

    distributions = {one.name: optuna.distributions.CategoricalDistribution(one.labels) for one in space.dimensions}
    labels = {one.name: one.labels for one in space.dimensions}
    for told in trials:
        ending = Ending.of(told, about["objectives"])
        pruned = ending.state == "PRUNED"
        candidate = space.candidate(told.params)
        yield optuna.trial.create_trial(
            state=optuna.trial.TrialState[ending.state],
            values=list(ending.values) if ending.state == "COMPLETE" else None,
            params={name: labels[name][number] for name, number in told.params.items()},
            distributions=distributions,  # pyright: ignore[reportArgumentType] - invariant in its values
            intermediate_values={ending.rows: ending.values[0]} if pruned else None,
            user_attrs={
                "candidate": candidate.id,
                "step": told.step,
                "outcome": told.outcome,
                "reason": told.reason,
                "rows": ending.rows,
                "best": candidate.id == result.best.id,
                **{f"components.{name}": one_line(text, PREVIEW) for name, text in candidate.components.items()},
            },
        )
