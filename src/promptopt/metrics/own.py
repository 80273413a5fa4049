"""The score that a program gives itself, such as a gepa adapter's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.lm.session import Session


@dataclass(frozen=True, slots=True)
class Own:
    """Takes over what the program said of its own work. A program that says nothing cannot be scored by it."""

    type: ClassVar[str] = "own"

    @property
    def fingerprint(self) -> str:
        return json.dumps({"type": self.type})

    @property
    def binary(self) -> bool:
        return False

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        if rollout.own is None:
            raise ValueError("the program gives itself no score; choose another metric than own")
        return rollout.own
