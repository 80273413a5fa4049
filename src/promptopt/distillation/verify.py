"""Does a certificate still hold? Teacher and student run again: on fresh rows, or with a model that has changed since.

The prompts, the margin and the teacher are those of the certificate; what may be new is the rows and the student's
model. The same rows opened once more are tested more strictly, as every further opening is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from promptopt.core.budget import Spend
from promptopt.core.certificate import Certificate, certify
from promptopt.core.example import Example
from promptopt.core.overlap import exact
from promptopt.core.rollout import Rollout
from promptopt.core.split import digest, inputs_digest
from promptopt.data import Dataset
from promptopt.distill_job import Distilling, Student, student_of
from promptopt.distillation.binding import Binding, bind
from promptopt.distillation.cost import Cost, factor, timely
from promptopt.distillation.references import Traced
from promptopt.distillation.sweep import Arm
from promptopt.distillation.teacher import TRACES, answered, check_teacher
from promptopt.distillation.verdicts import average, cost_in, paired
from promptopt.errors import DataError, UserError
from promptopt.execute.progress import Watch
from promptopt.lm.pricing import check_model, require_price
from promptopt.metrics.preflight import check_rows
from promptopt.report.distilled import Bound, Distilled, is_distillation, read_distillation
from promptopt.report.distilled import Student as Certified
from promptopt.result import reading, spent_json
from promptopt.running import in_time, open_ledger, runner_for
from promptopt.store.ledger import Ledger
from promptopt.store.run_dir import count_opening, locked, write_json

VERIFIED = "verify.json"
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
    """Means on the rows of this test."""
    after: float | None
    teacher_cost: Cost | None
    cost: Cost | None
    opening: int
    binding: Binding
    changed: tuple[str, ...]
    """What is no longer as it was certified, in sentences."""
    spent: Spend
    seconds: float

    @property
    def verdict(self) -> str:
        return self.certificate.outcome

    def to_json(self) -> dict[str, Any]:
        """The contract of verify.json."""
        test = self.certificate.test
        return {
            "student": self.student,
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
    sensitive: bool
    """Whether the rows of the distillation could tell good from bad."""


def claim(work: Distilling, *, data: Path | None = None, student: str | None = None, lm: str | None = None) -> Claim:
    """The certificate of the run in `work`'s directory: of the recommended student, or the one of this name.

    `data` brings fresh rows, `lm` another model for the student's prompt. Raises UserError where there is no such
    certificate or the program, the metric, the references or the margin are others now, and DataError for rows that
    have taught.
    """
    job = work.job
    with reading(job.directory) as ledger:
        if not is_distillation(ledger):
            raise UserError(f"{job.directory} is no run of promptopt distill, so it has no certificate")
        made = read_distillation(ledger, job.directory)
        _require_same(ledger.meta("identity")["config"], work)
    if not isinstance(made, Distilled):
        raise UserError(f"{job.directory} has not ended, so it has no certificate: run promptopt distill to its end")
    certified = _certified(made, student)
    candidate, model = certified.candidate.candidate, lm or certified.lm
    check_model(model, job.settings_of(model))
    require_price(model, job.settings_of(model), job.budget.usd is not None)
    candidate = replace(candidate, settings={**candidate.settings, "lm": model})
    rows = job.split.test if data is None else _fresh(work, data)
    directory = _unfinished(job.directory / BELOW, f"{candidate.id} {digest(rows)}")
    job = replace(job, split=replace(job.split, test=rows), directory=directory)
    return Claim(
        work=replace(work, job=job),
        run=made.directory,
        certified=certified,
        student=student_of(certified.name, model, candidate, job),
        sensitive=made.assay is not None and made.assay.holds,
    )


async def verify(asked: Claim, watch: Watch) -> Verification:
    """Run both on the rows and test the difference. What an earlier session has paid for is not paid again."""
    work, job = asked.work, asked.work.job
    candidate, rows = asked.student.start, job.split.test
    await check_rows(job.metric, [row for row in rows if not work.config.taught(row)])
    with locked(job.directory), closing(open_ledger(job, watch)) as ledger:
        opening = count_opening(asked.run, inputs_digest(rows), ledger.meta("run_id"))
        teacher, student = await _both(asked, ledger, watch)
        certificate = certify(
            {asked.student.name: paired(teacher, student, rows)},
            work.config.margin,
            binary=job.metric.binary,
            sensitive=asked.sensitive,
            opening=opening,
            seed=job.run.seed,
        )[asked.student.name]
        binding, cost = bind(work, candidate, rows, ledger), _cost(work, asked.student, student, ledger, 2)
        made = Verification(
            student=asked.student.name,
            certificate=timely(certificate, cost, work.config.max_latency_p95_ms),
            teacher=average(teacher),
            after=average(student),
            teacher_cost=_cost(work, work.teacher, teacher, ledger, 1),
            cost=cost,
            opening=opening,
            binding=binding,
            changed=tuple(_changed(asked.certified.certificate, binding)),
            spent=ledger.spent(),
            seconds=ledger.seconds(),
        )
    for folder in (job.directory, asked.run):
        write_json(folder / VERIFIED, made.to_json())
    return made


async def _both(asked: Claim, ledger: Ledger, watch: Watch) -> tuple[tuple[Rollout, ...], tuple[Rollout, ...]]:
    """The teacher's and the student's rollouts; where the teacher is what counts as right, it is heard first."""
    job, rows = asked.work.job, asked.work.job.split.test
    async with runner_for(job, ledger, watch) as runner, in_time(job, ledger):
        lacking = [row for row in rows if asked.work.config.taught(row)]
        heard = await runner.scored_by(Traced()).evaluate(job.baseline, lacking, step=0, split=TRACES)
        answers = {one.example_id: one for one in heard if one.failure is None}
        rows = answered(rows, answers)
        teacher = await runner.evaluate(job.baseline, rows, step=1, split="test", sample=1 if answers else 0)
        check_teacher(teacher)
        return teacher, await runner.evaluate(asked.student.start, rows, step=2, split="test")


def _cost(work: Distilling, model: Student, rollouts: tuple[Rollout, ...], ledger: Ledger, step: int) -> Cost | None:
    return cost_in(work, Arm(rollouts, ledger.spent("program", step), ledger.busy("program", step)), model)


def _certified(made: Distilled, name: str | None) -> Certified:
    if name is None:
        if made.chosen is None:
            names = ", ".join(one.name for one in made.students)
            raise UserError(f"{made.directory} recommends no student; name the one to test with --student: {names}")
        return made.chosen
    found = next((one for one in made.students if one.name == name), None)
    if found is None:
        names = ", ".join(one.name for one in made.students)
        raise UserError(f"{made.directory} has no student {name}; there are {names}")
    return found


def _unfinished(folder: Path, asked: str) -> Path:
    """Where a verification of this runs: one that was begun and has not ended, or else a new one."""
    name = hashlib.blake2b(asked.encode(), digest_size=6).hexdigest()
    return next(one for n in count(1) if not ((one := folder / f"{name}-{n}") / VERIFIED).exists())


def _require_same(certified: dict[str, Any], work: Distilling) -> None:
    """A certificate says nothing of another program, metric, margin or of other references."""
    for name in ("program", "metric"):
        if certified.get(name) != work.job.identity.get(name):
            raise UserError(f"the config's {name} is not the one that was certified: undo the change, or distill anew")
    said = certified["distill"]
    if said["margin"] != work.config.margin:
        raise UserError(f"the margin was {said['margin']:g}, fixed beforehand, and stays that")
    if said["references"] != work.config.references:
        raise UserError(f"what counts as right was references: {said['references']}, and stays that")


def _fresh(work: Distilling, path: Path) -> tuple[Example, ...]:
    """The rows of a file with the columns that the config names, none of which has taught or selected."""
    data, split = work.config.data, work.job.split
    rows = Dataset.read(path, inputs=data.inputs, expected=data.expected, id=data.id, group=data.group).examples
    if known := exact([[*split.train, *split.val], rows]):
        raise DataError(f"{len(known)} rows stand in train or val too: a row that taught cannot judge", file=str(path))
    return rows


def _changed(before: Bound | None, now: Binding) -> Iterator[str]:
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
