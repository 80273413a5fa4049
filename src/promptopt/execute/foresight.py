"""What a candidate will hardly cost on the sealed rows, so that it can be set aside while a search runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from promptopt.core.budget import Spend, as_before
from promptopt.core.candidate import Candidate
from promptopt.job import Job
from promptopt.planning import dearest, foreseen, spend_on
from promptopt.store.ledger import Ledger


@dataclass
class Foresight:
    """The sealed test of a job's candidates, each call tried once."""

    job: Job
    ledger: Ledger
    _worst: dict[str, Spend] = field(default_factory=dict[str, Spend])
    """By candidate's id."""

    def __post_init__(self) -> None:
        self.certain = foreseen(self.job)
        """Whether it is known in advance what a rollout calls."""

    def arm(self, candidate: Candidate) -> Spend:
        """A candidate on all sealed rows: worst cases as far as calls came near to theirs, or as its rollouts cost."""
        rows = self.job.split.test
        if not self.certain and (costs := self.ledger.costs(candidate.id)):
            return as_before(costs, len(rows))
        if candidate.id not in self._worst:
            self._worst[candidate.id] = spend_on(self.job, candidate, rows)
        return self.ledger.account.likely(self._worst[candidate.id])

    def last_call(self, *candidates: Candidate) -> Spend:
        """A test's last call of these is held at its worst before it leaves: what that takes beside their arms."""
        return Spend() if self.certain else dearest(self.ledger.worst_call(one.id) for one in candidates)

    def test(self, best: Candidate) -> Spend:
        """The baseline and `best` on all sealed rows."""
        return self.arm(self.job.baseline) + self.arm(best) + self.last_call(self.job.baseline, best)
