"""What a certificate is bound to: both models as their endpoints name themselves, the prompt, the rows, the price.

Behind a model's name its maker may put another version any day. So what each endpoint called itself is kept with every
answer, and `promptopt distill --verify` says what of all this is no longer as it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from promptopt.core.candidate import Candidate
from promptopt.core.example import Example
from promptopt.core.split import digest
from promptopt.distill_job import Distilling
from promptopt.distillation.outcome import Distillation
from promptopt.job import Job
from promptopt.lm.pricing import price
from promptopt.store.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Served:
    """A model as it answered."""

    lm: str
    reported: tuple[str, ...]
    """What its endpoint called itself; empty where it says nothing."""
    price: dict[str, float] | None
    """US dollars per million tokens, `input` and `output`; None where nobody knows."""


@dataclass(frozen=True)
class Binding:
    """All that a certificate holds for."""

    teacher: Served
    student: Served
    prompt: str
    """The id of the student's candidate, which is a hash of its content."""
    data: str
    """A hash of all that the tested rows say."""
    margin: float

    @cached_property
    def hash(self) -> str:
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {"hash": self.hash, **asdict(self)}


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
