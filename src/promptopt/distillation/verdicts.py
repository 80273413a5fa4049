"""From what ran to what it comes to: certificates, costs, losses to read, and the student to switch to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from promptopt.core.budget import Spend
from promptopt.core.certificate import Certificate, certify
from promptopt.core.example import text_of
from promptopt.core.rollout import Rollout
from promptopt.core.sealed import Pair, opened_before
from promptopt.core.slices import members, sliced
from promptopt.distill_job import Distilling, Student
from promptopt.distillation.contest import Standing
from promptopt.distillation.cost import Cost, cost_of, factor, requests_to_pay, timely, too_slow
from promptopt.distillation.escalation import CASCADE
from promptopt.distillation.mixed import cascade_pairs, cascaded
from promptopt.distillation.outcome import Cascaded, Distillation, Moved, Recommendation, Regression
from promptopt.distillation.plan import power
from promptopt.distillation.sweep import Arm, Findings, paired
from promptopt.judges.trust import trust_in
from promptopt.reflect.evidence import plain
from promptopt.stats.agreement import self_consistency

REGRESSIONS = 20
"""Rows that are listed of those where a student does worse."""
SHOWN = 2000
"""Characters of an output that is listed."""


def outcome(found: Findings, spent: Spend, seconds: float) -> Distillation:
    """What the rollouts come to."""
    work = found.heard.work
    job, teacher = work.job, found.arms[work.job.baseline.id]
    pairs = {one.student.name: tested(found, one) for one in found.standings}
    family = pairs | ({CASCADE: cascade_pairs(found)} if found.cascade.threshold else {})
    certificates = certify(
        family,
        work.config.margin,
        binary=job.metric.binary,
        sensitive=found.assay is not None and found.assay.holds,
        opening=found.opening,
        seed=job.run.seed,
    )
    cost = cost_in(work, teacher, work.teacher)
    students = tuple(
        _moved(found, one, pairs[one.student.name], certificates[one.student.name], cost, spent)
        for one in found.standings
    )
    cascade = cascaded(found, certificates.get(CASCADE), cost)
    return Distillation(
        name=job.name,
        baseline=job.baseline,
        teacher=work.teacher.lm,
        test=average(teacher.rollouts),
        self_agreement=_self_agreement(found),
        cost=cost,
        assay=found.assay,
        students=students,
        cascade=cascade,
        recommendation=_recommended(work, students, cost, spent) or _mixed(cascade, cost),
        remarks=tuple(_remarks(found, students, cost)),
        opening=found.opening,
        unserved=tuple(one.student.name for one in found.standings if one.down),
        spent=spent,
        seconds=seconds,
        seed=job.run.seed,
        directory=job.directory,
    )


def average(rollouts: Sequence[Rollout]) -> float | None:
    """The mean over the rollouts that have a score; None when none has."""
    known = [one.value for one in rollouts if one.value is not None]
    return sum(known) / len(known) if known else None


def tested(found: Findings, standing: Standing) -> list[Pair]:
    """The teacher and the student on the sealed rows that the student ran on; none where its endpoint died."""
    arm = found.arms.get(standing.best.id)
    if arm is None or standing.down:
        return []
    ran = {one.example_id for one in arm.rollouts}
    teacher = found.arms[found.heard.work.job.baseline.id].rollouts
    return paired([one for one in teacher if one.example_id in ran], arm.rollouts, found.heard.work.job.split.test)


def _moved(
    found: Findings,
    standing: Standing,
    pairs: Sequence[Pair],
    certificate: Certificate,
    teachers: Cost | None,
    spent: Spend,
) -> Moved:
    work, student = found.heard.work, standing.student
    limit, rows = work.config.max_latency_p95_ms, work.job.split.test
    before, after = (found.arms.get(one.id) for one in (student.start, standing.best))
    cost = cost_in(work, after, student) if after else None
    called = (*(lm.name for lm in work.job.lms.values()), *(one.lm for one in work.students))
    hourly = any(work.job.settings_of(name).usd_per_hour is not None for name in called)
    if standing.down:
        certificate = replace(certificate, reason=f"It was not tested. {standing.down}")
    worse = sorted((pair for pair in pairs if _loss(pair) > 0), key=lambda pair: (-_loss(pair), pair.example_id))
    return Moved(
        name=student.name,
        lm=student.lm,
        candidate=standing.best,
        before=average(before.rollouts) if before else None,
        after=average(after.rollouts) if after else None,
        margin=work.config.margin,
        certificate=timely(certificate, cost, limit),
        cost=cost,
        cost_factor=factor(teachers, cost),
        pays_after=requests_to_pay(teachers, cost, None if hourly else spent.usd),
        too_slow=too_slow(cost, limit),
        note=standing.note,
        slices=sliced(pairs, members(rows, work.config.slices), binary=work.job.metric.binary, seed=work.job.run.seed),
        regressions=tuple(_regressions(found, standing, worse[:REGRESSIONS])),
        worse_on=len(worse),
    )


def _loss(pair: Pair) -> float:
    return pair.scores[0] - pair.scores[1] if pair.scores else 0.0


def _regressions(found: Findings, standing: Standing, worse: Sequence[Pair]) -> Iterator[Regression]:
    job = found.heard.work.job
    rows = {row.id: row for row in job.split.test}
    teacher, student = (_outputs(found.arms.get(one.id)) for one in (job.baseline, standing.best))
    for pair in worse:
        row = rows[pair.example_id]
        said = teacher[row.id][:SHOWN], student[row.id][:SHOWN]
        yield Regression(row.id, dict(row.inputs), row.expected, *said, lost=_loss(pair))


def _outputs(arm: Arm | None) -> Mapping[str, str]:
    return {one.example_id: text_of(one.output) for one in arm.rollouts} if arm else {}


def _self_agreement(found: Findings) -> float | None:
    """How often two of the teacher's answers to a val row are the same."""
    val = {row.id for row in found.heard.work.job.split.val}
    heard = [one for row, one in found.heard.answers.items() if row in val]
    answers: dict[str, list[str]] = {}
    for one in [*heard, *(one for rollouts in found.samples for one in rollouts)]:
        if one.failure is None:
            answers.setdefault(one.example_id, []).append(plain(one.output))
    return self_consistency(list(answers.values()), np.random.default_rng(0)).value


def cost_in(work: Distilling, arm: Arm, student: Student) -> Cost | None:
    """What a request of `student` costs by what `arm` took."""
    return cost_of(
        arm.rollouts,
        arm.spent,
        arm.busy,
        priced=student.priced,
        usd_per_hour=student.usd_per_hour,
        requests_per_month=work.config.requests_per_month,
    )


def _recommended(
    work: Distilling, students: Sequence[Moved], teachers: Cost | None, spent: Spend
) -> Recommendation | None:
    """The cheapest eligible student that costs no more than the teacher; those without a price come last."""
    eligible = [student for student in students if student.eligible and not _dearer(student.cost, teachers)]
    if not eligible:
        return None
    chosen = min(eligible, key=lambda student: _dollars(student.cost))
    return Recommendation(chosen.lm, chosen.candidate, _sentence(work, chosen, teachers, spent))


def _mixed(cascade: Cascaded | None, teachers: Cost | None) -> Recommendation | None:
    """A cascade, where no student holds alone and it does, and costs no more than the teacher."""
    if cascade is None or cascade.candidate is None or cascade.certificate is None:
        return None
    if cascade.certificate.outcome != "NON-INFERIOR":
        return None
    if _dearer(cascade.cost, teachers):
        return None
    both = f"{cascade.lm}, else {cascade.teacher}"
    said = [
        f"Switch to {both}. No student holds alone, but {cascade.student} does with the teacher behind it, which "
        f"answers the {100 * (cascade.escalated or 0):.0f} % of requests that it is unsure of. "
        f"{cascade.certificate.reason}"
    ]
    return Recommendation(both, cascade.candidate, " ".join([*said, *_change(teachers, cascade.cost)]))


def _dollars(cost: Cost | None) -> float:
    return float("inf") if cost is None or cost.usd_per_1000 is None else cost.usd_per_1000


def _dearer(cost: Cost | None, teachers: Cost | None) -> bool:
    return _dollars(teachers) < _dollars(cost) < float("inf")


def _sentence(work: Distilling, chosen: Moved, teachers: Cost | None, spent: Spend) -> str:
    said = [f"Switch to {chosen.name}. {chosen.reason}"]
    said += _change(teachers, chosen.cost)
    if teachers and chosen.cost:
        if teachers.usd_per_month is not None and chosen.cost.usd_per_month is not None:
            saved, requests = teachers.usd_per_month - chosen.cost.usd_per_month, work.config.requests_per_month
            said.append(f"At {requests:,} requests a month that saves {saved:,.2f} dollars.")
        if chosen.pays_after is not None and spent.usd:
            paid = f"paid for after {chosen.pays_after:,} requests"
            said.append(f"Finding it cost {float(spent.usd):.2f} dollars, {paid}.")
    return " ".join(said)


def _change(teachers: Cost | None, cost: Cost | None) -> Iterator[str]:
    """What a switch does to the cost, in a sentence where both costs are known."""
    if teachers and cost and teachers.usd_per_1000 is not None and cost.usd_per_1000 is not None:
        times = factor(teachers, cost)
        by = f", by a factor of {times:.3g}" if times else ""
        yield f"Cost goes from {teachers.usd_per_1000:.4g} to {cost.usd_per_1000:.4g} dollars per 1,000 requests{by}."


def _remarks(found: Findings, students: Sequence[Moved], teachers: Cost | None) -> Iterator[str]:
    """What a reader must know besides."""
    work = found.heard.work
    yield from (trust.sentence for trust in trust_in(work.job.metric, work.job.base))
    if missing := sum(one.value is None for one in found.arms[work.job.baseline.id].rollouts):
        yield f"The teacher has no score on {missing:,} of the sealed rows."
    for one in students:
        if one.eligible and _dearer(one.cost, teachers):
            yield f"{one.name} holds the teacher's quality and costs more, so it is not recommended."
    sensitive = found.assay is not None and found.assay.holds
    if sensitive and work.config.cascade is None and not any(one.eligible for one in students):
        yield "No student holds alone. With `cascade: {}` one would answer where it is sure, and the teacher elsewhere."
    if not (planned := power(replace(work, opening=found.opening))).enough:
        yield planned.sentence
    elif found.opening > 1:
        yield f"The test rows were{opened_before(found.opening)}."
    costs = [(work.teacher.lm, teachers), *((one.lm, one.cost) for one in students)]
    for lm in dict.fromkeys(lm for lm, cost in costs if cost and cost.usd_per_1000 is None):
        yield (
            f"What {lm} costs is not known: give lms.{lm}.price in dollars per million tokens, or for a machine of "
            f"your own lms.{lm}.usd_per_hour."
        )
