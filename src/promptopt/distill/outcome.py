"""What a distillation found: every student with its certificate and its cost, and which one to switch to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from promptopt.core.budget import Spend
from promptopt.core.candidate import Candidate
from promptopt.core.certificate import Assay, Certificate, assay, certify
from promptopt.core.rollout import Rollout
from promptopt.core.sealed import Pair
from promptopt.distill.cost import Cost, cost_of, factor, requests_to_pay
from promptopt.distill.sweep import Arm, Findings, Standing, average
from promptopt.distill_job import Distilling, Student
from promptopt.reflect.evidence import plain
from promptopt.result import describe, versions
from promptopt.stats.agreement import self_consistency

REGRESSIONS = 20
"""Rows that only the teacher gets right which are listed."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One student, as it is and with its own prompt, on the sealed rows."""

    name: str
    lm: str
    candidate: Candidate
    before: float | None
    after: float | None
    certificate: Certificate
    cost: Cost | None
    cost_factor: float | None
    """How many times dearer the teacher is."""
    too_slow: bool
    note: str
    """Why it was not searched further, where that is so."""
    regressions: tuple[str, ...]
    """Rows that the teacher gets right and it gets wrong."""

    @property
    def eligible(self) -> bool:
        return self.certificate.outcome == "NON-INFERIOR" and not self.too_slow

    def to_json(self) -> dict[str, Any]:
        test = self.certificate.test
        return {
            "name": self.name,
            "lm": self.lm,
            "before": self.before,
            "after": self.after,
            "diff": test.diff if test else None,
            "ci": list(test.ci) if test else None,
            "margin": test.margin if test else None,
            "p": self.certificate.p,
            "n": test.n if test else 0,
            "missing": self.certificate.missing,
            "method": test.method if test else None,
            "verdict": self.certificate.outcome,
            "reason": self.certificate.reason,
            "rows_needed": self.certificate.rows_needed,
            **_cost_json(self.cost),
            "cost_factor": self.cost_factor,
            "too_slow": self.too_slow,
            "note": self.note,
            "regressions": list(self.regressions),
            "candidate": describe(self.candidate),
        }


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The cheapest student that holds."""

    lm: str
    candidate: Candidate
    sentence: str


@dataclass(frozen=True)
class Distillation:
    """The outcome of a distillation."""

    teacher: str
    """The model that the program ran on."""
    test: float | None
    """The teacher's mean on the sealed rows."""
    self_agreement: float | None
    """How often two of its answers to a val row are the same; None where it was asked once."""
    cost: Cost | None
    assay: Assay | None
    students: tuple[Moved, ...]
    recommendation: Recommendation | None
    spent: Spend
    seconds: float
    seed: int
    directory: Path

    def to_json(self) -> dict[str, Any]:
        """The contract of a distillation's result.json."""
        spent = {name: getattr(self.spent, name) for name in ("rollouts", "calls", "cached", "tokens_in", "tokens_out")}
        chosen = self.recommendation
        return {
            "teacher": {
                "lm": self.teacher,
                "test": self.test,
                "self_agreement": self.self_agreement,
                **_cost_json(self.cost),
            },
            "assay": {**asdict(self.assay), "holds": self.assay.holds} if self.assay else None,
            "students": [student.to_json() for student in self.students],
            "recommendation": {"lm": chosen.lm, "candidate": describe(chosen.candidate), "sentence": chosen.sentence}
            if chosen
            else None,
            "spent": {**spent, "usd": float(self.spent.usd), "seconds": round(self.seconds, 1)},
            "stop_reason": "done",
            "seed": self.seed,
            "versions": versions(),
        }


def outcome(
    work: Distilling, standings: Sequence[Standing], found: Findings, spent: Spend, seconds: float
) -> Distillation:
    """What the rollouts come to."""
    job, config, teacher = work.job, work.config, found.arms["teacher"]
    groups = {row.id: row.group for row in job.split.test}
    tried = assay(_pairs(found.weak, found.samples[0], {}), binary=job.metric.binary, seed=job.run.seed)
    pairs = {
        one.student.name: _pairs(teacher.rollouts, found.arms[f"{one.student.name} after"].rollouts, groups)
        for one in standings
    }
    certificates = certify(
        pairs,
        config.margin,
        binary=job.metric.binary,
        sensitive=tried is not None and tried.holds,
        opening=found.opening,
        seed=job.run.seed,
    )
    cost = _cost(teacher, work.teacher)
    students = tuple(_moved(work, one, found, certificates[one.student.name], cost) for one in standings)
    return Distillation(
        teacher=work.teacher.lm,
        test=average(teacher.rollouts),
        self_agreement=_self_agreement(found),
        cost=cost,
        assay=tried,
        students=students,
        recommendation=_recommended(work, students, cost, spent),
        spent=spent,
        seconds=seconds,
        seed=job.run.seed,
        directory=job.directory,
    )


def _moved(
    work: Distilling, standing: Standing, found: Findings, certificate: Certificate, teachers: Cost | None
) -> Moved:
    student, limit = standing.student, work.config.max_latency_p95_ms
    before, after = (found.arms[f"{student.name} {when}"] for when in ("before", "after"))
    cost = _cost(after, student)
    lost = {one.example_id for one in after.rollouts if one.value is not None and one.value < 1}
    right = [one.example_id for one in found.arms["teacher"].rollouts if one.value is not None and one.value >= 1]
    return Moved(
        name=student.name,
        lm=student.lm,
        candidate=standing.best or student.start,
        before=average(before.rollouts),
        after=average(after.rollouts),
        certificate=certificate,
        cost=cost,
        cost_factor=factor(teachers, cost),
        too_slow=limit is not None and cost is not None and cost.latency_p95 > limit,
        note=standing.dropped,
        regressions=tuple(row for row in right if row in lost)[:REGRESSIONS],
    )


def _self_agreement(found: Findings) -> float | None:
    answers: dict[str, list[str]] = {}
    for rollouts in found.samples:
        for one in rollouts:
            if one.failure is None:
                answers.setdefault(one.example_id, []).append(plain(one.output))
    return self_consistency(list(answers.values()), np.random.default_rng(0)).value


def _cost(arm: Arm, student: Student) -> Cost | None:
    return cost_of(arm.rollouts, arm.spent, arm.elapsed, priced=student.priced, usd_per_hour=student.usd_per_hour)


def _recommended(
    work: Distilling, students: Sequence[Moved], teachers: Cost | None, spent: Spend
) -> Recommendation | None:
    """The cheapest eligible student; of those without a price, the first that the config names comes last."""
    eligible = [student for student in students if student.eligible]
    if not eligible:
        return None

    def dollars(student: Moved) -> float:
        known = student.cost and student.cost.usd_per_1000
        return known if known is not None else float("inf")

    chosen = min(eligible, key=dollars)
    return Recommendation(chosen.lm, chosen.candidate, _sentence(work, chosen, teachers, spent))


def _sentence(work: Distilling, chosen: Moved, teachers: Cost | None, spent: Spend) -> str:
    said = [f"Switch to {chosen.name}. {chosen.certificate.reason}"]
    if teachers and chosen.cost and teachers.usd_per_1000 is not None and chosen.cost.usd_per_1000 is not None:
        change = f"{teachers.usd_per_1000:.4g} to {chosen.cost.usd_per_1000:.4g} dollars per 1,000 requests"
        times = f", by a factor of {chosen.cost_factor:.3g}" if chosen.cost_factor else ""
        said.append(f"Cost goes from {change}{times}.")
        if work.config.traffic:
            requests = work.config.traffic.requests_per_month
            saved = (teachers.usd_per_1000 - chosen.cost.usd_per_1000) * requests / 1000
            said.append(f"At {requests:,} requests a month that saves {saved:,.2f} dollars.")
        if (requests := requests_to_pay(teachers, chosen.cost, spent.usd)) is not None and spent.usd:
            said.append(f"Finding it cost {float(spent.usd):.2f} dollars, paid for after {requests:,} requests.")
    return " ".join(said)


def _pairs(old: Sequence[Rollout], new: Sequence[Rollout], groups: dict[str, str | None]) -> list[Pair]:
    values = {one.example_id: one.value for one in new}
    return [Pair(one.example_id, one.value, values.get(one.example_id), groups.get(one.example_id)) for one in old]


def _cost_json(cost: Cost | None) -> dict[str, Any]:
    names = ("usd_per_1000", "tokens_in", "tokens_out", "latency_p50", "latency_p95")
    return {name: getattr(cost, name) if cost else None for name in names}
