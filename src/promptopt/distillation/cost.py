"""What a request costs and how long it takes, measured, and what a switch saves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np

from promptopt.core.budget import Spend
from promptopt.core.certificate import Certificate
from promptopt.core.rollout import Rollout

REQUESTS = 1000
"""Requests that a price is told for."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model's requests were measured to cost."""

    usd_per_1000: float | None
    """US dollars; None where nobody knows a price."""
    usd_per_month: float | None
    """The same at the traffic that the config names."""
    tokens_in: float
    tokens_out: float
    """Tokens of one request on average, tries that failed included."""
    latency_p50: float
    latency_p95: float
    """Milliseconds of a request from its first call to its last answer, or until it was given up for lateness, with as
    many side by side as the run had."""


def cost_of(
    rollouts: Sequence[Rollout],
    spent: Spend,
    busy: float,
    *,
    priced: bool,
    usd_per_hour: Decimal | None,
    requests_per_month: int | None,
) -> Cost | None:
    """What these rollouts, which cost `spent` and kept their model busy for so many seconds, say of a request.

    A machine of one's own costs by the hour, a request its share of that. None where no rollout has an answer.
    """
    if all(rollout.failure for rollout in rollouts):
        return None
    waited = (one for one in rollouts if one.failure is None or one.failure.kind == "timeout")
    seconds = [round(one.seconds, 3) for one in waited]  # as the ledger keeps it
    n, dollars = len(rollouts), float(spent.usd) if priced else None
    if usd_per_hour is not None:
        dollars = float(usd_per_hour) * busy / 3600 if busy else None
    p50, p95 = np.percentile(seconds, [50, 95])
    return Cost(
        usd_per_1000=None if dollars is None else REQUESTS * dollars / n,
        usd_per_month=None if dollars is None or not requests_per_month else requests_per_month * dollars / n,
        tokens_in=spent.tokens_in / n,
        tokens_out=spent.tokens_out / n,
        latency_p50=1000 * float(p50),
        latency_p95=1000 * float(p95),
    )


def too_slow(cost: Cost | None, limit_ms: float | None) -> bool:
    """Whether the slowest twentieth of requests takes longer than `limit_ms`, where there is such a limit."""
    return limit_ms is not None and cost is not None and cost.latency_p95 > limit_ms


def timely(certificate: Certificate, cost: Cost | None, limit_ms: float | None) -> Certificate:
    """The certificate, INFERIOR where quality held but the answers are too slow."""
    if certificate.outcome != "NON-INFERIOR" or not too_slow(cost, limit_ms):
        return certificate
    slow = f"But its slowest twentieth of requests takes more than the {limit_ms:,g} ms of max_latency_p95_ms."
    return replace(certificate, outcome="INFERIOR", reason=f"{certificate.reason} {slow}")


def factor(teacher: Cost | None, student: Cost | None) -> float | None:
    """How many times dearer the teacher is; None where a price is unknown or the student costs nothing."""
    if teacher is None or student is None or not teacher.usd_per_1000 or not student.usd_per_1000:
        return None
    return teacher.usd_per_1000 / student.usd_per_1000


def requests_to_pay(teacher: Cost | None, student: Cost | None, spent: Decimal | None) -> int | None:
    """Requests after which the switch has paid for what it took to find; None where nobody knows that it saves."""
    if spent is None or teacher is None or student is None:
        return None
    if teacher.usd_per_1000 is None or student.usd_per_1000 is None:
        return None
    saved = (teacher.usd_per_1000 - student.usd_per_1000) / REQUESTS
    return None if saved <= 0 else int(-(-float(spent) // saved))
