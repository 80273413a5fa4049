from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.metrics.metric import Metric
from promptopt.testing.scripted import ScriptedModel


@pytest.fixture(scope="session")
def scored() -> Callable[..., Awaitable[Score]]:
    """Scores one output against one expected answer; no metric here asks a model."""

    async def score(metric: Metric, output: Any, expected: Any = None) -> Score:
        example = Example("r1", {"text": "a question"}, expected)
        return await metric.score(example, Rollout("c", "r1", output=output), ScriptedModel([]).session("judge"))

    return score
