"""What a candidate will hardly cost on the sealed rows, so that it can be set aside while a search runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from promptopt.core.budget import Spend, as_before
from promptopt.core.candidate import Candidate
from promptopt.core.example import Example
from promptopt.job import Job
from promptopt.planning import dearest, spend_on
from promptopt.store.ledger import Ledger

FEWEST_BYTES = 2
"""How few bytes each further token of a longer request is taken to have."""


@dataclass
class Foresight:
    """The sealed test of a job's candidates, each call tried as often as before."""

    job: Job
    ledger: Ledger
    _worst: dict[str, Spend] = field(default_factory=dict[str, Spend])
    """By candidate's id; a program that calls no model has nothing else to go by, however often it is asked."""

    def __post_init__(self) -> None:
        sealed, val = map(self._length, (self.job.split.test, self.job.split.val))
        self.longer = max(0.0, sealed - val)
        """Bytes that requests have more on a sealed row than on one of val, where they do."""

    def arm(self, candidate: Candidate) -> Spend:
        """A candidate on all sealed rows: as its rollouts have cost, or their worst cases before there were any."""
        rows = self.job.split.test
        if not (costs := self.ledger.costs(candidate.id, beside=self.job.baseline.id)):
            if candidate.id not in self._worst:
                self._worst[candidate.id] = spend_on(self.job, candidate, rows)
            return self._worst[candidate.id]
        likely = as_before(costs, len(rows))
        more = self.longer * len(rows) / FEWEST_BYTES / max(1, likely.tokens_in)
        return replace(likely, tokens_in=math.ceil(likely.tokens_in * (1 + more)), usd=likely.usd * Decimal(1 + more))

    def last_call(self, *candidates: Candidate) -> Spend:
        """A test's last call of these is held at its worst before it leaves: what that takes beside their arms."""
        return dearest(self.ledger.worst_call(one.id) for one in candidates)

    def test(self, best: Candidate) -> Spend:
        """The baseline and `best` on all sealed rows."""
        return self.arm(self.job.baseline) + self.arm(best) + self.last_call(self.job.baseline, best)

    def _length(self, rows: Sequence[Example]) -> float:
        """Bytes of the baseline's requests on a row of these; 0.0 where nobody knows them in advance."""
        return spend_on(self.job, self.job.baseline, rows).tokens_in / max(1, len(rows))
