"""A Python function of the user's as a metric."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.errors import ConfigError
from promptopt.execute import user_code
from promptopt.lm.message import CallFailed
from promptopt.lm.session import Session

_FORMS = "score(example, output) or score(example, output, rollout)"


@dataclass(frozen=True)
class PythonMetric:
    """Calls `function(example, output)`, synchronous or asynchronous.

    It may return a number, a bool, `(score, feedback)` or a `Score`. A third parameter receives the rollout, or its
    trace where it is called `trace`; one that has a default is left alone unless it is called `rollout`, because
    DSPy's metrics read a given `trace` as a sign that demos are being bootstrapped.

    Raises ConfigError for a function that takes other parameters, or whose source cannot be told from a changed one.
    """

    type: ClassVar[str] = "python"

    function: Callable[..., Any]
    timeout: float | None = 60.0
    """Seconds a call may take before its score is missing; a synchronous function goes on in its abandoned thread."""
    fingerprint: str = field(init=False)
    _third: str | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        source = user_code.source_hash(self.function)
        identity = {"type": self.type, "function": user_code.name_of(self.function), "source": source}
        object.__setattr__(self, "fingerprint", json.dumps(identity))
        object.__setattr__(self, "_third", third_parameter(self.function))

    @property
    def binary(self) -> bool:
        return False

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        args: list[Any] = [example, rollout.output]
        if self._third is not None:
            args.append(rollout.trace if self._third == "trace" else rollout)
        name = user_code.name_of(self.function)
        try:
            raw = await user_code.call(self.function, *args, timeout=self.timeout)
        except CallFailed:
            raise
        except user_code.TookTooLong as error:
            raise ValueError(f"row {example.id!r}: the metric {error}; metric.timeout sets the limit") from None
        except Exception as error:
            what = user_code.described(error, user_code.source_file(self.function))
            raise ValueError(f"row {example.id!r}: the metric raised {what}") from error
        try:
            return Score.of(raw)
        except (ValueError, TypeError) as error:
            raise ValueError(f"row {example.id!r}: the metric {name} returned no score: {error}") from None


def third_parameter(function: Callable[..., Any]) -> str | None:
    """The name of the parameter that takes the rollout or its trace, None for a function of example and output.

    Raises ConfigError for a function that cannot be called with two or three arguments.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    positional = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    third = positional[2] if len(positional) > 2 else None
    takes_it = third is not None and (third.default is third.empty or third.name == "rollout")
    try:
        signature.bind(*range(3 if takes_it else 2))
    except TypeError:
        raise ConfigError(f"the metric {user_code.name_of(function)}{signature} must be {_FORMS}") from None
    return third.name if third is not None and takes_it else None


def load_metric(path: str, base: Path, timeout: float | None = 60.0) -> PythonMetric:
    """The metric at `"my_metric.py:score"`, relative to `base`. Raises ConfigError where there is none."""
    return PythonMetric(user_code.load(path, base), timeout)
