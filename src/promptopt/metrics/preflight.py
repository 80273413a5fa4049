"""Finds the rows that a metric can never score, before anything is spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout
from promptopt.errors import DataError
from promptopt.judges.external import Foreign
from promptopt.lm.session import Session
from promptopt.metrics.built_in import BuiltIn
from promptopt.metrics.metric import Metric
from promptopt.metrics.weighted import leaves

_NO_SESSION = cast(Session, None)
"""A rollout without an output is scored without asking a model."""


async def check_rows(metric: Metric, examples: Sequence[Example]) -> None:
    """Raise DataError where a part of `metric` cannot use a row's columns or expected answer.

    The built-in metrics and other packages' judges read the row before the output, so a rollout without one tells.
    Functions of the user's are not run.
    """
    readers = [leaf for leaf in leaves(metric) if isinstance(leaf, BuiltIn | Foreign)]
    faults: list[str] = []
    for example in examples:
        try:
            for leaf in readers:
                await cast(Metric, leaf).score(example, Rollout("", example.id), _NO_SESSION)
        except ValueError as error:
            faults.append(str(error))
    if faults:
        rows = f"{len(faults)} of {len(examples)} rows cannot be scored"
        raise DataError(f"{rows}, the first because {faults[0]}. Nothing was spent.")
