"""Does a certificate still hold? Teacher and student run again: on fresh rows, or with a model that has changed since.

The prompts, the margin and the teacher are those of the certificate, and a cascade's threshold; what may be new is the
rows and the student's model. The same rows opened once more are tested more strictly, as every further opening is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from promptopt.core.binding import Binding
from promptopt.core.budget import Spend
from promptopt.core.cascade import Threshold
from promptopt.core.certificate import Certificate, certify
from promptopt.core.example import Example
from promptopt.core.split import digest, inputs_digest
from promptopt.data import Dataset, columns_of
from promptopt.distill_job import Distilling, Student, student_of
from promptopt.distillation.binding import bind
from promptopt.distillation.contest import Standing
from promptopt.distillation.cost import Cost, factor, timely
from promptopt.distillation.escalation import Planned
from promptopt.distillation.mixed import cascade_pairs, cascaded
from promptopt.distillation.sweep import Findings, Sweep
from promptopt.distillation.teacher import check_teacher, hear
from promptopt.distillation.verdicts import average, cost_in, tested
from promptopt.errors import DataError, UserError
from promptopt.execute.progress import Watch
from promptopt.lm.pricing import check_model, require_price
from promptopt.metrics.preflight import check_rows
from promptopt.report.distilled import VERIFIED, Distilled, Verified, is_distillation, read_distillation
from promptopt.report.distilled import Student as Certified
from promptopt.result import spent_json
from promptopt.running import in_time, open_ledger, runner_for
from promptopt.store.ledger import Ledger
from promptopt.store.run_dir import count_opening, locked, reading, write_json

CONFIG_FILE = "config file"
"""The ledger's name for where the config stands, seen from the run directory."""
BELOW = "verify"
"""The folder of a run directory that keeps its verifications."""


@dataclass(frozen=True)
class Verification:
    """A certificate tested again."""

    student: str
    certificate: Certificate
    teacher: float | None
    """Its mean on the rows of this test."""
    after: float | None
    """The student's, or the cascade's."""
    teacher_cost: Cost | None
    cost: Cost | None
    escalated: float | None
    """Share of the rows that the teacher answers behind the student; None where the student was tested alone."""
    opening: int
    binding: Binding
    changed: tuple[str, ...]
    """What is no longer as it was certified, in sentences."""
    spent: Spend
    seconds: float

    @property
    def verdict(self) -> str:
        return self.certificate.outcome

    @property
    def view(self) -> Verified:
        """What reports show of it."""
        return Verified.model_validate(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The contract of verify.json."""
        test = self.certificate.test
        return {
            "student": self.student,
            "escalated": self.escalated,
            "verdict": self.verdict,
            "reason": self.certificate.reason,
            "teacher": self.teacher,
            "after": self.after,
            "diff": test.diff if test else None,
            "ci": list(test.ci) if test else None,
            "p": self.certificate.p,
            "n": test.n if test else 0,
            "missing": self.certificate.missing,
            "opening": self.opening,
            "teacher_usd_per_1000": self.teacher_cost.usd_per_1000 if self.teacher_cost else None,
            "usd_per_1000": self.cost.usd_per_1000 if self.cost else None,
            "cost_factor": factor(self.teacher_cost, self.cost),
            "teacher_latency_p95": self.teacher_cost.latency_p95 if self.teacher_cost else None,
            "latency_p95": self.cost.latency_p95 if self.cost else None,
            "certificate": self.binding.to_json(),
            "changed": list(self.changed),
            "spent": spent_json(self.spent, self.seconds),
        }


@dataclass(frozen=True)
class Claim:
    """What is to be tested again, and on what."""

    work: Distilling
    """Its job holds the rows as the test and a run directory of its own."""
    run: Path
    """The distillation's."""
    certified: Certified
    student: Student
    threshold: Threshold | None
    """Of the cascade that was certified; None: the student alone."""
    sensitive: bool
    """Whether the rows of the distillation could tell good from bad."""


def claim(work: Distilling, *, data: Path | None = None, student: str | None = None, lm: str | None = None) -> Claim:
    """The certificate of the run in `work`'s directory: of what it recommends, or of the student of this name.

    `data` brings fresh rows, `lm` another model for the student's prompt. Raises UserError where there is no such
    certificate or the program, the metric, the references, the margin or the cascade are others now, and DataError for
    rows that have taught or were tested before.
    """
    job = work.job
    with reading(job.directory) as ledger:
        if not is_distillation(ledger):
            raise UserError(f"{job.directory} is no run of promptopt distill, so it has no certificate")
        made, config = read_distillation(ledger, job.directory), ledger.meta("identity")["config"]
    if not isinstance(made, Distilled):
        raise UserError(f"{job.directory} has not ended, so it has no certificate: run promptopt distill to its end")
    certified, threshold = _certified(made, student)
    _require_same(config, work, ("margin", "references", "cascade") if threshold else ("margin", "references"))
    model = lm or certified.lm
    check_model(model, job.settings_of(model))
    require_price(model, job.settings_of(model), job.budget.usd is not None)
    candidate = replace(certified.candidate, settings={**certified.candidate.settings, "lm": model})
    rows = job.split.test if data is None else _fresh(work, data)
    directory = _unfinished(job.directory / BELOW, f"{candidate.id} {threshold and threshold.value} {digest(rows)}")
    job = replace(job, split=replace(job.split, test=rows), directory=directory)
    return Claim(
        work=replace(work, job=job),
        run=made.directory,
        certified=certified,
        student=student_of(certified.name, model, candidate, job),
        threshold=threshold,
        sensitive=made.assay is not None and made.assay.holds,
    )


async def verify(asked: Claim, watch: Watch) -> Verification:
    """Run both on the rows and test the difference. What an earlier session has paid for is not paid again.

    Raises Halted when interrupted, and the errors of RunError's tree; both can be resumed.
    """
    work, job = asked.work, asked.work.job
    await check_rows(job.metric, [row for row in job.split.test if not work.config.taught(row)])
    with locked(job.directory), closing(open_ledger(job, watch)) as ledger:
        opening = count_opening(asked.run, inputs_digest(job.split.test), ledger.meta("run_id"))
        async with runner_for(job, ledger, watch) as runner, in_time(job, ledger):
            sweep = Sweep(work, runner.scored_by, ledger, watch, "sealed test")
            found = await _again(asked, opening, sweep)
        made = _judged(asked, found, ledger)
    for folder in (job.directory, asked.run):
        write_json(folder / VERIFIED, made.to_json())
    return made


async def _again(asked: Claim, opening: int, sweep: Sweep) -> Findings:
    """Teacher and student on the rows, and nothing else; where the teacher is what counts as right, it is heard first.

    Raises UserError where a cascade cannot be asked as it was.
    """
    job, standing = asked.work.job, Standing(asked.student, asked.student.start)
    bare = replace(job, split=replace(job.split, train=(), val=()))
    heard = await hear(replace(asked.work, job=bare), sweep.shown)
    rows, runner = heard.work.job.split.test, sweep.shown(heard.metric)
    arms = {job.baseline.id: await sweep.arm(runner, job.baseline, rows, 0, heard.sample)}
    check_teacher(arms[job.baseline.id].rollouts)
    found = Findings(heard, (standing,), (), None, arms, opening, Planned(standing.student.name, asked.threshold))
    if asked.threshold is None:
        return replace(found, arms={**arms, standing.best.id: await sweep.arm(runner, standing.best, rows, 1)})
    found = await sweep.cascaded(found, standing)
    if not found.asked:
        raise UserError(f"the cascade cannot be tested: {found.cascade.note}")
    return found


def _judged(asked: Claim, found: Findings, ledger: Ledger) -> Verification:
    work, student, standing = asked.work, asked.student, found.standings[0]
    teacher, alone = found.arms[work.job.baseline.id], found.arms.get(standing.best.id)
    certificate = certify(
        {student.name: tested(found, standing) if asked.threshold is None else cascade_pairs(found)},
        work.config.margin,
        binary=work.job.metric.binary,
        sensitive=asked.sensitive,
        opening=found.opening,
        seed=work.job.run.seed,
    )[student.name]
    teacher_cost, binding = cost_in(work, teacher, work.teacher), bind(work, student.start, work.job.split.test, ledger)
    made = Verification(
        student=student.name,
        certificate=certificate,
        teacher=average(teacher.rollouts),
        after=average(alone.rollouts) if alone else None,
        teacher_cost=teacher_cost,
        cost=cost_in(work, alone, student) if alone else None,
        escalated=None,
        opening=found.opening,
        binding=binding,
        changed=tuple(_changed(asked.certified.certificate, binding)),
        spent=ledger.spent(),
        seconds=ledger.seconds(),
    )
    if asked.threshold and (both := cascaded(found, certificate, teacher_cost)):
        made = replace(made, after=both.test, cost=both.cost, escalated=both.escalated)
    return replace(made, certificate=timely(certificate, made.cost, work.config.max_latency_p95_ms))


def _certified(made: Distilled, name: str | None) -> tuple[Certified, Threshold | None]:
    """The student of this name, else what is recommended: a student, or one with the threshold of its cascade."""
    names = ", ".join(one.name for one in made.students)
    threshold = None
    if name is None and made.recommendation and made.cascade and not made.chosen:
        name, threshold = made.cascade.student, made.cascade.val
    if name is None:
        if made.chosen is None:
            raise UserError(f"{made.directory} recommends no student; name the one to test with --student: {names}")
        return made.chosen, None
    found = next((one for one in made.students if one.name == name), None)
    if found is None:
        raise UserError(f"{made.directory} has no student {name}; there are {names}")
    return found, threshold


def _unfinished(folder: Path, asked: str) -> Path:
    """Where a verification of this runs: one that was begun and has not ended, or else a new one."""
    name = hashlib.blake2b(asked.encode(), digest_size=6).hexdigest()
    return next(one for n in count(1) if not ((one := folder / f"{name}-{n}") / VERIFIED).exists())


def _require_same(certified: dict[str, Any], work: Distilling, settings: Iterable[str]) -> None:
    """A certificate says nothing of another program or metric, or of other settings."""
    for name in ("program", "metric"):
        if certified.get(name) != work.job.identity.get(name):
            raise UserError(f"the config's {name} is not the one that was certified: undo the change, or distill anew")
    for name in settings:
        was, now = certified["distill"][name], work.job.identity["distill"][name]
        if was != now:
            raise UserError(f"{name} was {was} when the certificate was made, and stays that; the config has {now}")


def _fresh(work: Distilling, path: Path) -> tuple[Example, ...]:
    """The rows of a file with the columns that the config names, none of which the run has seen."""
    data, split = work.config.data, work.job.split
    rows = Dataset.read(path, **columns_of(data, work.config.unanswered)).examples
    if n := _shared(rows, (*split.train, *split.val)):
        raise DataError(f"{n} rows stand in train or val too: a row that taught cannot judge", file=str(path))
    if n := _shared(rows, split.test):
        raise DataError(
            f"{n} of the {len(rows)} rows are test rows of the run, which has opened them. Leave them out; or leave "
            "--data out, and the test rows are all opened once more, and tested more strictly.",
            file=str(path),
        )
    return rows


def _shared(rows: Sequence[Example], others: Sequence[Example]) -> int:
    """How many of `rows` are among `others`, by id or by what they ask."""
    ids, inputs = {row.id for row in others}, {row.inputs_digest for row in others}
    return sum(row.id in ids or row.inputs_digest in inputs for row in rows)


def _changed(before: Binding | None, now: Binding) -> Iterator[str]:
    """What a reader of the certificate must know to be different."""
    if before is None:
        yield "The certificate does not say what it was bound to."
        return
    for who, was, is_ in (("teacher", before.teacher, now.teacher), ("student", before.student, now.student)):
        if was.lm != is_.lm:
            yield f"The {who} is {is_.lm} now; it was {was.lm}."
        elif was.reported != is_.reported:
            yield f"The {who}'s endpoint calls itself {_names(is_.reported)} now; it was {_names(was.reported)}."
        if was.price != is_.price:
            yield f"The {who}'s price is {_price(is_.price)} now; it was {_price(was.price)}."
    if before.data != now.data:
        yield "The rows are others."


def _names(reported: Sequence[str]) -> str:
    return ", ".join(reported) or "nothing"


def _price(known: dict[str, float] | None) -> str:
    return "unknown" if known is None else f"{known['input']:g} and {known['output']:g} dollars per million tokens"
