"""The contract of every metric and judge."""

from __future__ import annotations

from typing import Protocol

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.lm.session import Session


class Metric(Protocol):
    """Scores a rollout's output against its example.

    A metric that cannot score raises: ValueError or its own error becomes a failure of kind `metric`, CallFailed keeps
    its own kind. It never turns trouble into a score of 0. A wrong or unparsable *output* is not trouble: it scores 0
    with feedback that says what was wrong.
    """

    @property
    def fingerprint(self) -> str:
        """Everything that decides a score, as text: type, settings, and for Python a hash of the source."""
        ...

    @property
    def binary(self) -> bool:
        """True when every score is 0 or 1, which chooses the test of the verdict."""
        ...

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        """The score of `rollout.output`; `lm` is for metrics that ask a model, on the judge's account."""
        ...
