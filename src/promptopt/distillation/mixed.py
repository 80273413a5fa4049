"""What a cascade came to on the sealed rows: its certificate, and what a request costs that two models share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from promptopt.core.cascade import Routed, escalated, pairs
from promptopt.core.certificate import Certificate
from promptopt.core.rollout import Rollout
from promptopt.core.sealed import Pair
from promptopt.distillation.cost import Cost, cost_of, factor, timely, too_slow
from promptopt.distillation.escalation import routed
from promptopt.distillation.outcome import Cascaded
from promptopt.distillation.sweep import Findings
from promptopt.lm.pricing import priced
from promptopt.metrics.build import models_in


def cascade_pairs(found: Findings) -> list[Pair]:
    """The teacher and the cascade on the sealed rows; none where it was not run."""
    planned = found.cascade.threshold
    return pairs(_rows(found), planned.value) if planned and found.asked else []


def cascaded(found: Findings, certificate: Certificate | None, teacher: Cost | None) -> Cascaded | None:
    """What the cascade came to; None where the config wants none."""
    work, planned = found.heard.work, found.cascade
    if work.config.cascade is None:
        return None
    if planned.threshold is None or certificate is None:
        return Cascaded(note=planned.note)
    standing = next(one for one in found.standings if one.student.name == planned.student)
    made = Cascaded(
        student=planned.student,
        lm=standing.student.lm,
        teacher=work.teacher.lm,
        settings=work.config.cascade,
        threshold=planned.threshold,
        candidate=standing.best,
        note=planned.note,
    )
    if not found.asked:
        return replace(made, note=planned.note or "it was not run: a student holds alone")
    rows, kept = _rows(found), found.arms[work.job.baseline.id].rollouts
    sent = escalated(rows, planned.threshold.value)
    seconds = seconds_of([arm.rollouts for arm in found.asked], kept, sent)
    cost = mixed_cost(_costs(found, standing.student.lm), teacher, kept, sent, seconds)
    limit = work.config.max_latency_p95_ms
    scores = [pair.best for pair in cascade_pairs(found) if pair.best is not None]
    return replace(
        made,
        escalated=len(sent) / len(rows),
        test=sum(scores) / len(scores) if scores else None,
        certificate=timely(certificate, cost, limit),
        cost=cost,
        cost_factor=factor(teacher, cost),
        too_slow=too_slow(cost, limit),
    )


def mixed_cost(
    asked: Sequence[Cost | None],
    teacher: Cost | None,
    kept: Sequence[Rollout],
    sent: frozenset[str],
    seconds: Sequence[float],
) -> Cost | None:
    """What a request of the cascade costs: all that is `asked` always, and the teacher where a row is `sent` to it.

    `kept` are the teacher's rollouts, `seconds` what each row takes. None where one of the models has no cost.
    """
    if teacher is None or None in asked or not seconds:
        return None
    dear = sum(one.usd for one in kept)
    part = sum(one.usd if dear else 1 for one in kept if one.example_id in sent) / (dear or len(kept))
    every = [*((1.0, cost) for cost in asked), (part, teacher)]

    def total(name: str) -> float | None:
        figures = [(share, cast("float | None", getattr(cost, name))) for share, cost in every]
        known = [share * figure for share, figure in figures if figure is not None]
        return sum(known) if len(known) == len(figures) else None

    p50, p95 = np.percentile(seconds, [50, 95])
    return Cost(
        usd_per_1000=total("usd_per_1000"),
        usd_per_month=total("usd_per_month"),
        tokens_in=total("tokens_in") or 0.0,
        tokens_out=total("tokens_out") or 0.0,
        latency_p50=1000 * float(p50),
        latency_p95=1000 * float(p95),
    )


def seconds_of(runs: Sequence[Sequence[Rollout]], teacher: Sequence[Rollout], sent: frozenset[str]) -> list[float]:
    """What each row takes: the student's samples side by side, then the teacher where the row is `sent` to it."""
    slow = {one.example_id: round(one.seconds, 3) for one in teacher}  # as the ledger keeps it
    asked: dict[str, float] = {}
    for run in runs:
        for one in run:
            asked[one.example_id] = max(asked.get(one.example_id, 0.0), round(one.seconds, 3))
    return [took + (slow[row] if row in sent else 0.0) for row, took in asked.items()]


def _rows(found: Findings) -> list[Routed]:
    work = found.heard.work
    assert work.config.cascade is not None
    teacher = found.arms[work.job.baseline.id].rollouts
    return routed([arm.rollouts for arm in found.asked], teacher, work.job.split.test, work.config.cascade)


def _costs(found: Findings, student: str) -> list[Cost | None]:
    """What each of the requests costs that the cascade always makes: the student's, and a judge's where it has one."""
    work = found.heard.work
    lms = [student, *(models_in(work.confidence)[0].name if work.confidence else student for _ in found.asked[1:])]
    return [
        cost_of(
            arm.rollouts,
            arm.spent,
            arm.busy,
            priced=priced(lm, work.job.settings_of(lm)),
            usd_per_hour=work.job.settings_of(lm).usd_per_hour,
            requests_per_month=work.config.requests_per_month,
        )
        for lm, arm in zip(lms, found.asked, strict=True)
    ]
