"""Caps on what a run may spend, checked before each call.

A call *reserves* its worst case, runs, and *settles* at its true cost. Reservations of calls that never settled
(a crash) stay charged at their worst case, so the ledger never reports less than was spent. The sealed test's share
is *set aside* before the search starts and released when the test opens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from statistics import fmean
from typing import Any, Literal

Room = Literal["yes", "wait", "never"]

SURE = 1.64
"""Standard deviations above the mean that a sum of costs passes once in 20 times."""
SLACK = 1.25
"""Rows that are set aside for are taken to last and to cost this much more than those before."""


@dataclass(frozen=True, slots=True)
class Spend:
    """What rollouts and calls have cost, or may cost."""

    rollouts: int = 0
    """Logical: each (candidate, example, sample) once, however often it was tried."""
    calls: int = 0
    """Physical: every attempt that left for a model."""
    cached: int = 0
    """Calls that the ledger answered."""
    tokens_in: int = 0
    tokens_out: int = 0
    usd: Decimal = Decimal(0)
    """US dollars, at the price in force when each call was made."""

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out

    @property
    def figures(self) -> tuple[Any, ...]:
        """All figures, in the order of the fields."""
        return self.rollouts, self.calls, self.cached, self.tokens_in, self.tokens_out, self.usd

    def __add__(self, other: Spend) -> Spend:
        return Spend(*(a + b for a, b in zip(self.figures, other.figures, strict=True)))

    def __sub__(self, other: Spend) -> Spend:
        return Spend(*(a - b for a, b in zip(self.figures, other.figures, strict=True)))

    def times(self, n: int) -> Spend:
        """This spend, `n` times."""
        return Spend(*(figure * n for figure in self.figures))


@dataclass(frozen=True, slots=True)
class Budget:
    """Hard caps; None means no cap. Each covers everything: program, reflection, judges and the sealed test."""

    rollouts: int | None = None
    calls: int | None = None
    tokens: int | None = None
    usd: Decimal | float | None = None
    minutes: float | None = None
    """Wall-clock over all sessions of the run."""

    def __post_init__(self) -> None:
        for cap in fields(Budget):
            value = getattr(self, cap.name)
            if value is not None and not value > 0:
                raise ValueError(f"budget.{cap.name} must be above 0, got {value}")
        if self.usd is not None:
            object.__setattr__(self, "usd", Decimal(str(self.usd)))

    def over(self, spend: Spend, worst: Spend) -> str | None:
        """The first cap that `spend` passes, of those that `worst` draws on; None when it passes none."""
        for cap in ("rollouts", "calls", "tokens", "usd"):
            limit = getattr(self, cap)
            if limit is not None and getattr(worst, cap) and getattr(spend, cap) > limit:
                return cap
        return None


def as_before(costs: Sequence[Spend], n: int) -> Spend:
    """What `n` more rollouts will hardly pass where these have cost so much; `costs` must not be empty.

    The upper end of the prediction interval of their sum, for values between 0 and the largest seen, whose variance is
    at most mean * (largest - mean) (Bhatia and Davis, 2000), and at most the largest each.
    """

    def passed(figures: Sequence[float]) -> float:
        mean, largest = fmean(figures), max(figures)
        variance = mean * max(0.0, largest - mean)
        return min(n * largest, n * mean + SURE * math.sqrt(n * (1 + n / len(figures)) * variance))

    return Spend(
        rollouts=n,
        calls=math.ceil(passed([one.calls for one in costs])),
        tokens_in=math.ceil(passed([one.tokens_in for one in costs])),
        tokens_out=math.ceil(passed([one.tokens_out for one in costs])),
        usd=Decimal(passed([float(one.usd) for one in costs])),
    )


class Account:
    """Spent, reserved and set aside against the caps. Bookkeeping only: no clock, no I/O."""

    def __init__(self, budget: Budget, spent: Spend = Spend()) -> None:
        self.budget = budget
        self.spent = spent
        self.reserved = Spend()
        self.aside = Spend()
        self.kept = Spend()
        """Set aside for what comes after the search at hand and its test, as in a run of several searches."""

    def set_aside(self, share: Spend) -> bool:
        """Keep `share` out of the search's reach until `release`; False, and nothing changes, when it does not fit."""
        if self.budget.over(self.spent + self.kept + share, share):
            return False
        self.aside = share
        return True

    def release(self) -> None:
        """Open what was set aside: the sealed test begins."""
        self.aside = Spend()

    def room(self, worst: Spend) -> Room:
        """Whether `worst` fits now, may fit once other reservations settle, or never will."""
        settled = self.spent + self.kept + self.aside + worst
        if self.budget.over(settled, worst):
            return "never"
        return "wait" if self.budget.over(settled + self.reserved, worst) else "yes"

    def binding(self, worst: Spend) -> str:
        """The cap that keeps `worst` out."""
        return self.budget.over(self.spent + self.kept + self.aside + self.reserved + worst, worst) or "budget"

    def reserve(self, worst: Spend) -> None:
        self.reserved += worst

    def settle(self, worst: Spend, true: Spend) -> None:
        """Replace a reservation by what the call truly cost."""
        self.reserved -= worst
        self.spent += true
