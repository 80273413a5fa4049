"""A distillation as reports show it: its result.json with types, or how far it has come, both from its ledger alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from promptopt.core.binding import Binding
from promptopt.core.budget import Spend
from promptopt.core.candidate import Candidate
from promptopt.core.cascade import Threshold
from promptopt.core.certificate import Assay, Outcome
from promptopt.core.slices import Slice
from promptopt.report.figures import count
from promptopt.result import INTERRUPTED, spent_json
from promptopt.store.ledger import DISTILLED, Ledger

if TYPE_CHECKING:
    import pandas

Interval = tuple[float, float]
Prompt = Annotated[Candidate, BeforeValidator(Candidate.from_json)]
VERIFIED = "verify.json"
"""The file in a run directory that says what its certificate came to when it was last tested again."""


class _Read(BaseModel):
    """What a newer version says besides is not shown."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Arm(_Read):
    """A model with a prompt, as its requests were measured."""

    lm: str
    usd_per_1000: float | None = None
    usd_per_month: float | None = None
    tokens_in: float | None = None
    tokens_out: float | None = None
    latency_p50: float | None = None
    """Milliseconds."""
    latency_p95: float | None = None


class Teacher(Arm):
    """The program as it runs today."""

    test: float | None
    self_agreement: float | None = None


class Regression(_Read):
    """A row that the student does worse than the teacher."""

    id: str
    inputs: dict[str, Any]
    expected: Any
    teacher: str
    student: str


class Student(Arm):
    """A model that may take the teacher's place."""

    name: str
    before: float | None
    """Its score on the sealed rows with the teacher's prompt."""
    after: float | None
    """With its own."""
    diff: float | None
    """Of `after` to the teacher, on the rows that both have a score for."""
    ci: Interval | None
    margin: float | None
    p: float | None
    n: int
    missing: int = 0
    method: str | None = None
    verdict: Outcome
    reason: str = ""
    rows_needed: int | None = None
    cost_factor: float | None = None
    note: str = ""
    slices: tuple[Slice, ...] = ()
    regressions: tuple[Regression, ...] = ()
    """The worst first."""
    worse_on: int = 0
    """Rows that it does worse than the teacher, those listed and all others."""
    certificate: Binding | None = None
    candidate: Prompt


class Cascade(Arm):
    """A student with the teacher behind it; where none was planned or tested, a note says why."""

    lm: str = ""
    student: str = ""
    val: Threshold | None = None
    """Its threshold, and what val said of it."""
    escalated: float | None = None
    """Share of the requests that the teacher answers."""
    test: float | None = None
    diff: float | None = None
    ci: Interval | None = None
    verdict: Outcome | None = None
    reason: str | None = None
    cost_factor: float | None = None
    note: str = ""


class Recommended(_Read):
    """The student to switch to."""

    lm: str
    sentence: str
    candidate: Prompt


class Spent(_Read):
    """What the distillation itself cost."""

    rollouts: int
    calls: int
    cached: int = 0
    tokens_in: int
    tokens_out: int
    usd: float
    seconds: float

    @property
    def spend(self) -> Spend:
        return Spend(self.rollouts, self.calls, self.cached, self.tokens_in, self.tokens_out, Decimal(str(self.usd)))


class Verified(_Read):
    """A certificate that was tested again: verify.json."""

    student: str
    escalated: float | None = None
    """Share of the rows that the teacher answers behind it; None where it was tested alone."""
    verdict: Outcome
    reason: str
    teacher: float | None
    """Its mean on the rows of this test."""
    after: float | None
    """The student's, or the cascade's."""
    teacher_usd_per_1000: float | None = None
    usd_per_1000: float | None = None
    teacher_latency_p95: float | None = None
    latency_p95: float | None = None
    opening: int
    """Which opening of these rows it was."""
    changed: tuple[str, ...]
    """What is no longer as it was certified, in sentences."""
    spent: Spent


class Distilled(_Read):
    """A distillation that has ended."""

    name: str = "distillation"
    directory: Path = Path()
    baseline: Candidate | None = None
    """The teacher's prompt, which the students' prompts are shown against."""
    teacher: Teacher
    assay: Assay | None = None
    students: tuple[Student, ...]
    cascade: Cascade | None = None
    recommendation: Recommended | None
    remarks: tuple[str, ...] = ()
    spent: Spent
    verified: Verified | None = None
    """The latest test of its certificate since."""
    body: dict[str, Any]
    """What result.json holds, as it is there."""

    @staticmethod
    def of(body: dict[str, Any], about: dict[str, Any], directory: Path) -> Distilled:
        """What result.json holds in `body`, with the job's name and prompt, and with `directory`'s verify.json."""
        later = directory / VERIFIED
        more = {
            "name": about["name"],
            "directory": directory,
            "baseline": Candidate.from_json(about["baseline"]),
            "verified": json.loads(later.read_bytes()) if later.exists() else None,
        }
        return Distilled.model_validate({**body, **more, "body": body})

    def to_json(self) -> dict[str, Any]:
        return self.body

    @property
    def margin(self) -> float | None:
        """Quality that may be lost; None where nothing could be tested."""
        return next((student.margin for student in self.students if student.margin is not None), None)

    @property
    def chosen(self) -> Student | None:
        """The student that is recommended."""
        wanted = self.recommendation
        return next(
            (one for one in self.students if wanted and (one.lm, one.candidate) == (wanted.lm, wanted.candidate)), None
        )

    @property
    def word(self) -> str:
        """What to do."""
        return "SWITCH" if self.recommendation else "STAY"

    @property
    def use(self) -> float | None:
        """The score on the sealed rows of what is recommended."""
        if self.recommendation is None:
            return self.teacher.test
        return self.chosen.after if self.chosen else self.cascade and self.cascade.test

    def to_frame(self) -> pandas.DataFrame:
        """One row a model, the teacher first: scores on the sealed rows, interval, verdict, cost and latency."""
        import pandas

        measured = ("usd_per_1000", "tokens_in", "tokens_out", "latency_p50", "latency_p95")
        rows = [{"model": "teacher", "lm": self.teacher.lm, "after": self.teacher.test}]
        rows += [
            {
                "model": one.name,
                "lm": one.lm,
                **{name: getattr(one, name) for name in ("before", "after", "diff")},
                "low": one.ci[0] if one.ci else None,
                "high": one.ci[1] if one.ci else None,
                **{name: getattr(one, name) for name in ("p", "n", "verdict", "cost_factor")},
            }
            for one in self.students
        ]
        for row, arm in zip(rows, (self.teacher, *self.students), strict=True):
            row |= {name: getattr(arm, name) for name in measured}
        columns = ("model", "lm", "before", "after", "diff", "low", "high", "p", "n", "verdict", "cost_factor")
        return pandas.DataFrame(rows, columns=[*columns, *measured])


@dataclass(frozen=True, slots=True)
class Attempt:
    """How far one model has come."""

    name: str
    val: float | None
    """Its mean on val with the teacher's prompt, over the rows that have run."""
    rows: int
    steps: int
    """Of its search."""


@dataclass(frozen=True, slots=True)
class Underway:
    """A distillation that has not ended."""

    name: str
    directory: Path
    attempts: tuple[Attempt, ...]
    """The teacher's and the students'."""
    stage: str
    """Where it stands, in a sentence."""
    spent: Spend
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """What `promptopt report --json` says of it."""
        return {
            "stop_reason": INTERRUPTED,
            "stage": self.stage,
            "models": [asdict(one) for one in self.attempts],
            "spent": spent_json(self.spent, self.seconds),
        }


def is_distillation(ledger: Ledger) -> bool:
    """Whether the ledger's run moves a program between models."""
    identity: dict[str, Any] = ledger.meta("identity") or {}
    return "distill" in identity.get("config", {})


def read_distillation(ledger: Ledger, directory: Path) -> Distilled | Underway:
    """What the ledger says of its distillation so far."""
    about: dict[str, Any] = ledger.meta("job")
    ended = ledger.events(DISTILLED)
    return Distilled.of(ended[-1].body, about, directory) if ended else _underway(ledger, about, directory)


def _underway(ledger: Ledger, about: dict[str, Any], directory: Path) -> Underway:
    baseline, searched = Candidate.from_json(about["baseline"]), ledger.searches()
    scores: dict[str, list[float]] = {}
    for rollout in ledger.rollouts("val"):
        if rollout.value is not None:
            scores.setdefault(rollout.candidate_id, []).append(rollout.value)

    def attempt(name: str, start: Candidate) -> Attempt:
        found = scores.get(start.id, [])
        return Attempt(name, fmean(found) if found else None, len(found), searched.get(name, 0))

    students = [
        attempt(said["name"], replace(baseline, settings={"lm": said["lm"], **said["lm_args"]}))
        for said in ledger.meta("identity")["config"]["distill"]["students"]
    ]
    return Underway(
        name=about["name"],
        directory=directory,
        attempts=(attempt("teacher", baseline), *students),
        stage=_stage(ledger, students),
        spent=ledger.spent(),
        seconds=ledger.seconds(),
    )


def _stage(ledger: Ledger, students: Sequence[Attempt]) -> str:
    if ledger.events("opened"):
        done = sum(1 for _ in ledger.rollouts("test"))
        return f"The sealed rows are open, and {count(done, 'rollout')} on them have run."
    if any(one.steps for one in students):
        return "The students' prompts are being searched; the sealed rows are closed."
    if any(one.rows for one in students):
        return "The students are being scored on val as they are, with the teacher's prompt."
    return "The teacher is being heard on train and val."
