"""What counts as right for a student, and what it is told of the teacher where it is wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from promptopt.core.example import Example, text_of
from promptopt.core.rollout import Rollout, Score
from promptopt.lm.session import Session
from promptopt.metrics.metric import Metric

SHOWN = 600
"""Characters of a teacher's reply that stand beside a student's failure."""


@dataclass(frozen=True)
class Traced:
    """Scores every output alike: the teacher is only to be heard."""

    fingerprint: str = "traced"
    binary: bool = True

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        return Score(1.0)


@dataclass(frozen=True)
class Taught:
    """A metric that takes some rows' answers from the teacher, and shows its replies where a student goes wrong."""

    metric: Metric
    answers: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """By row, what stands in for the expected answer."""
    shown: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """By train row, the teacher's output that was right."""

    @property
    def fingerprint(self) -> str:
        content = json.dumps([dict(self.answers), dict(self.shown)], sort_keys=True, default=str)
        return json.dumps([self.metric.fingerprint, hashlib.blake2b(content.encode(), digest_size=16).hexdigest()])

    @property
    def binary(self) -> bool:
        return self.metric.binary

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        if example.id in self.answers:
            example = replace(example, expected=self.answers[example.id])
        score = await self.metric.score(example, rollout, lm)
        if score.value >= 1 or example.id not in self.shown:
            return score
        reply = text_of(self.shown[example.id])
        return replace(score, feedback=f"{score.feedback}\nThe teacher replied: {reply[:SHOWN]}".strip())
