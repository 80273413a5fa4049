"""Binds a certificate to what was tested.

Behind a model's name its maker may put another version any day. So what each endpoint called itself is kept with every
answer, and `promptopt distill --verify` says what of all this is no longer as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from promptopt.core.binding import Binding, Served
from promptopt.core.candidate import Candidate
from promptopt.core.example import Example
from promptopt.core.split import digest
from promptopt.distill_job import Distilling
from promptopt.distillation.outcome import Distillation
from promptopt.job import Job
from promptopt.lm.pricing import price
from promptopt.store.ledger import Ledger


def bind(work: Distilling, student: Candidate, rows: Sequence[Example], ledger: Ledger) -> Binding:
    """What a test of `student` on `rows` is bound to, by what the ledger's calls were answered with."""
    return Binding(
        teacher=_served(work.teacher.lm, work.job, ledger),
        student=_served(student.settings["lm"], work.job, ledger),
        prompt=student.id,
        data=digest(rows),
        margin=work.config.margin,
    )


def bound(made: Distillation, work: Distilling, ledger: Ledger) -> Distillation:
    """The distillation with every student's certificate bound."""
    rows = work.job.split.test
    students = (replace(one, binding=bind(work, one.candidate, rows, ledger)) for one in made.students)
    return replace(made, students=tuple(students))


def _served(lm: str, job: Job, ledger: Ledger) -> Served:
    known = price(lm, job.settings_of(lm))
    dollars = None if known is None else {"input": float(known.input), "output": float(known.output)}
    return Served(lm, ledger.reported(lm), dollars)
