"""Several metrics as one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.lm.session import Session
from promptopt.metrics.metric import Metric


@dataclass(frozen=True, slots=True)
class Part:
    """One metric of a combination."""

    metric: Metric
    weight: float = 1.0
    """Above 0; only its ratio to the other weights matters."""


def leaves(metric: Metric) -> tuple[Metric, ...]:
    """The metrics that a combination is made of, in the order they score; any other metric is its own only leaf."""
    if not isinstance(metric, Weighted):
        return (metric,)
    return tuple(leaf for part in metric.parts.values() for leaf in leaves(part.metric))


@dataclass(frozen=True, slots=True)
class Weighted:
    """The weighted mean of named metrics, which are its sub-scores.

    A part that cannot score leaves the whole score missing: what is left would be another metric.
    Raises ValueError without parts, and for a weight that is not a finite number above 0.
    """

    type: ClassVar[str] = "weighted"

    parts: Mapping[str, Part]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("a weighted metric needs at least one part")
        for name, part in self.parts.items():
            if not (math.isfinite(part.weight) and part.weight > 0):
                raise ValueError(f"the weight of {name} must be a number above 0, got {part.weight}")

    @property
    def fingerprint(self) -> str:
        parts = {name: [part.weight, part.metric.fingerprint] for name, part in self.parts.items()}
        return json.dumps({"type": self.type, "parts": parts}, sort_keys=True)

    @property
    def binary(self) -> bool:
        return False

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        scores = {name: await part.metric.score(example, rollout, lm) for name, part in self.parts.items()}
        total = math.fsum(part.weight for part in self.parts.values())
        value = math.fsum(self.parts[name].weight * score.value for name, score in scores.items()) / total
        parts = {name: score.value for name, score in scores.items()}
        for name, score in scores.items():
            parts |= {f"{name}.{inner}": worth for inner, worth in score.parts.items()}
        feedback = "\n".join(f"{name} ({score.value:.2f}): {score.feedback}" for name, score in scores.items())
        for_one: dict[str, str] = {}
        for name, score in scores.items():
            for component, said in score.feedback_for.items():
                for_one[component] = for_one.get(component, "") + f"{name} ({score.value:.2f}): {said}\n"
        return Score(min(1.0, value), feedback, parts, {name: said.strip() for name, said in for_one.items()})
