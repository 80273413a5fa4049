"""What a request costs and how long it takes, measured, and what a switch saves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from promptopt.core.budget import Spend
from promptopt.core.rollout import Rollout

REQUESTS = 1000
"""Requests that a price is told for."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model's requests were measured to cost."""

    usd_per_1000: float | None
    """US dollars; None where nobody knows a price."""
    tokens_in: float
    tokens_out: float
    """Tokens of one request on average, tries that failed included."""
    latency_p50: float
    latency_p95: float
    """Milliseconds of a request from its first call to its last answer, with as many side by side as the run had."""


def cost_of(
    rollouts: Sequence[Rollout], spent: Spend, elapsed: float, *, priced: bool, usd_per_hour: Decimal | None
) -> Cost | None:
    """What these rollouts, which cost `spent` and took `elapsed` seconds together, say of a request.

    A machine of one's own costs by the hour, a request its share of that. None where no rollout has an answer.
    """
    seconds = [rollout.seconds for rollout in rollouts if rollout.failure is None]
    if not seconds:
        return None
    n = len(rollouts)
    dollars = spent.usd
    if usd_per_hour is not None:
        dollars = usd_per_hour * Decimal(str(elapsed)) / 3600
    p50, p95 = np.percentile(seconds, [50, 95])
    return Cost(
        usd_per_1000=float(REQUESTS * dollars / n) if priced or usd_per_hour is not None else None,
        tokens_in=spent.tokens_in / n,
        tokens_out=spent.tokens_out / n,
        latency_p50=1000 * float(p50),
        latency_p95=1000 * float(p95),
    )


def factor(teacher: Cost | None, student: Cost | None) -> float | None:
    """How many times dearer the teacher is; None where a price is unknown or the student costs nothing."""
    if teacher is None or student is None or not teacher.usd_per_1000 or not student.usd_per_1000:
        return None
    return teacher.usd_per_1000 / student.usd_per_1000


def requests_to_pay(teacher: Cost, student: Cost, spent: Decimal) -> int | None:
    """Requests after which the switch has paid for what it took to find; None where it saves nothing."""
    if teacher.usd_per_1000 is None or student.usd_per_1000 is None:
        return None
    saved = (teacher.usd_per_1000 - student.usd_per_1000) / REQUESTS
    return None if saved <= 0 else int(-(-float(spent) // saved))
