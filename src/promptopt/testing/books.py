"""A book in memory, for testing whatever pays for calls."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from promptopt.core.budget import Account, Budget, Spend
from promptopt.core.rollout import Failure
from promptopt.errors import BudgetExhausted
from promptopt.lm.message import Reply, Request, Scope


@dataclass
class Entry:
    """One try: what was reserved for it and, once it is settled, what it cost and brought."""

    scope: Scope
    request: Request
    key: str
    worst: Spend
    true: Spend | None = None
    outcome: Reply | Failure | None = None


class MemoryBook:
    """Keeps a budget as a run's ledger does, without a file."""

    def __init__(self, budget: Budget | None = None) -> None:
        self.account = Account(budget or Budget())
        self.entries: list[Entry] = []
        self._replies: dict[str, Reply] = {}
        self._settled = asyncio.Event()

    @property
    def spent(self) -> Spend:
        return self.account.spent

    @property
    def failures(self) -> list[Failure]:
        """How tries failed, in the order they were made."""
        return [entry.outcome for entry in self.entries if isinstance(entry.outcome, Failure)]

    def recall(self, key: str, scope: Scope) -> Reply | None:
        if reply := self._replies.get(key):
            self.account.spent += Spend(cached=1)
        return replace(reply, cached=True) if reply else None

    async def reserve(self, scope: Scope, request: Request, key: str, worst: Spend) -> int:
        while (room := self.account.room(worst)) == "wait":
            self._settled.clear()
            await self._settled.wait()
        if room == "never":
            raise BudgetExhausted(self.account.binding(worst))
        self.account.reserve(worst)
        self.entries.append(Entry(scope, request, key, worst))
        return len(self.entries) - 1

    def settle(self, call: int, true: Spend, outcome: Reply | Failure) -> None:
        entry = self.entries[call]
        entry.true, entry.outcome = true, outcome
        if isinstance(outcome, Reply):
            self._replies[entry.key] = outcome
        self.account.settle(entry.worst, true)
        self._settled.set()
