"""What counts as right for a student, and what it is told of the teacher where it is wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.distillation.habits import contrast
from promptopt.lm.session import Session
from promptopt.metrics.metric import Metric


@dataclass(frozen=True)
class Traced:
    """Scores every output alike: the teacher is only to be heard."""

    fingerprint: str = "traced"
    binary: bool = True

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        return Score(1.0)


@dataclass(frozen=True)
class Taught:
    """A metric that tells of train rows where a student goes wrong what the teacher did there."""

    metric: Metric
    traces: Mapping[str, Rollout] = field(default_factory=dict[str, Rollout])
    """The teacher's runs by row, those that went wrong too."""

    @property
    def fingerprint(self) -> str:
        told = {row: [one.value, one.output] for row, one in self.traces.items()}
        content = json.dumps(told, sort_keys=True, default=str)
        return json.dumps([self.metric.fingerprint, hashlib.blake2b(content.encode(), digest_size=16).hexdigest()])

    @property
    def binary(self) -> bool:
        return self.metric.binary

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        score = await self.metric.score(example, rollout, lm)
        trace = self.traces.get(example.id)
        if score.value >= 1 or trace is None:
            return score
        return replace(score, feedback=f"{score.feedback}\n{contrast(trace, rollout)}".strip())
