"""What a distillation found: every student with its certificate and its cost, and which one to switch to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptopt.config.distill import CascadeSettings
from promptopt.core.binding import Binding
from promptopt.core.budget import Spend
from promptopt.core.candidate import Candidate
from promptopt.core.cascade import Threshold
from promptopt.core.certificate import Assay, Certificate
from promptopt.core.sealed import level_of
from promptopt.core.slices import Slice
from promptopt.distillation.cost import Cost
from promptopt.report.distilled import Distilled
from promptopt.result import describe, spent_json, versions

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

NAMED = 5
"""Slices with a clear loss that a reason names."""


@dataclass(frozen=True, slots=True)
class Regression:
    """A row that the student does worse than the teacher, to be read."""

    id: str
    inputs: Mapping[str, Any]
    expected: Any
    teacher: str
    """Its output as a reader sees it, cut where it is long."""
    student: str
    lost: float
    """How much lower the student's score is."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One student, as it is and with its own prompt, on the sealed rows."""

    name: str
    lm: str
    candidate: Candidate
    before: float | None
    after: float | None
    margin: float
    certificate: Certificate
    cost: Cost | None
    cost_factor: float | None
    """How many times dearer the teacher is."""
    pays_after: int | None
    """Requests after which the switch has paid for the distillation; None where it saves nothing that is known, or
    where a model costs by the hour, for the hours of the search are not told apart."""
    too_slow: bool
    note: str
    """Why it was not searched further, where that is so."""
    slices: tuple[Slice, ...]
    """The surest loss first; exploratory."""
    regressions: tuple[Regression, ...]
    """The worst first."""
    worse_on: int
    """Rows that it does worse than the teacher, those listed and all others."""
    binding: Binding | None = None
    """What its certificate holds for."""

    @property
    def eligible(self) -> bool:
        return self.certificate.outcome == "NON-INFERIOR"

    @property
    def reason(self) -> str:
        """Why the certificate says what it says, and where the student loses whatever it says."""
        lost = [f"{one.column} {one.value} ({one.teacher:.2f} to {one.student:.2f})" for one in self.slices if one.lost]
        more = f", and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
        named = f"It clearly loses (exploratory) in {', '.join(lost[:NAMED])}{more}." if lost else ""
        return f"{self.certificate.reason} {named}".strip()

    def to_json(self) -> dict[str, Any]:
        test = self.certificate.test
        return {
            "name": self.name,
            "lm": self.lm,
            "before": self.before,
            "after": self.after,
            "diff": test.diff if test else None,
            "ci": list(test.ci) if test else None,
            "margin": self.margin,
            "p": self.certificate.p,
            "n": test.n if test else 0,
            "missing": self.certificate.missing,
            "method": test.method if test else None,
            "verdict": self.certificate.outcome,
            "reason": self.reason,
            "rows_needed": self.certificate.rows_needed,
            **_cost_json(self.cost),
            "cost_factor": self.cost_factor,
            "pays_after": self.pays_after,
            "too_slow": self.too_slow,
            "note": self.note,
            "slices": [{**asdict(one), "diff": one.diff, "lost": one.lost} for one in self.slices],
            "regressions": [asdict(one) for one in self.regressions],
            "worse_on": self.worse_on,
            "certificate": self.binding.to_json() if self.binding else None,
            "candidate": describe(self.candidate),
        }


@dataclass(frozen=True, slots=True)
class Cascaded:
    """A student with the teacher behind it, on the sealed rows; where none was planned or run, a note says why."""

    student: str = ""
    lm: str = ""
    teacher: str = ""
    settings: CascadeSettings | None = None
    threshold: Threshold | None = None
    candidate: Candidate | None = None
    """The student's."""
    escalated: float | None = None
    """Share of the sealed rows that the teacher answers."""
    test: float | None = None
    certificate: Certificate | None = None
    cost: Cost | None = None
    cost_factor: float | None = None
    """How many times dearer the teacher is alone."""
    too_slow: bool = False
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        shown, said = self.certificate, self.settings
        test = shown.test if shown else None
        if said is None or self.threshold is None:
            return {"note": self.note}
        return {
            "student": self.student,
            "lm": self.lm,
            "teacher": self.teacher,
            "confidence": said.confidence,
            "samples": said.calls,
            "temperature": said.temperature,
            "threshold": self.threshold.value,
            "val": asdict(self.threshold),
            "escalated": self.escalated,
            "test": self.test,
            "diff": test.diff if test else None,
            "ci": list(test.ci) if test else None,
            "p": shown.p if shown else None,
            "n": test.n if test else 0,
            "verdict": shown.outcome if shown else None,
            "reason": shown.reason if shown else None,
            "rows_needed": shown.rows_needed if shown else None,
            **_cost_json(self.cost),
            "cost_factor": self.cost_factor,
            "too_slow": self.too_slow,
            "note": self.note,
            "candidate": describe(self.candidate) if self.candidate else None,
        }


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The cheapest student that holds, or a cascade where none does."""

    lm: str
    candidate: Candidate
    sentence: str


@dataclass(frozen=True)
class Distillation:
    """The outcome of a distillation."""

    name: str
    baseline: Candidate
    """The teacher's prompt."""
    teacher: str
    """The model that the program ran on."""
    test: float | None
    """The teacher's mean on the sealed rows."""
    self_agreement: float | None
    """How often two of its answers to a val row are the same; None where it was asked once."""
    cost: Cost | None
    assay: Assay | None
    students: tuple[Moved, ...]
    cascade: Cascaded | None
    """None where the config wants none."""
    recommendation: Recommendation | None
    remarks: tuple[str, ...]
    """What a reader must know besides, in sentences."""
    opening: int
    """Which opening of the test rows this was."""
    unserved: tuple[str, ...]
    """Students whose endpoint died: the same command goes on with them."""
    spent: Spend
    seconds: float
    seed: int
    directory: Path

    @property
    def stop_reason(self) -> str:
        return f"no answer from {', '.join(self.unserved)}" if self.unserved else "done"

    def to_json(self) -> dict[str, Any]:
        """The contract of a distillation's result.json."""
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
            "cascade": self.cascade.to_json() if self.cascade else None,
            "recommendation": {"lm": chosen.lm, "candidate": describe(chosen.candidate), "sentence": chosen.sentence}
            if chosen
            else None,
            "remarks": list(self.remarks),
            "opening": self.opening,
            "level": level_of(self.opening),
            "spent": spent_json(self.spent, self.seconds),
            "stop_reason": self.stop_reason,
            "seed": self.seed,
            "versions": versions(),
        }

    @cached_property
    def view(self) -> Distilled:
        """What reports show of it."""
        about = {"name": self.name, "baseline": self.baseline.to_json()}
        return Distilled.of(self.to_json(), about, self.directory)

    def to_frame(self) -> pandas.DataFrame:
        """One row a model, the teacher first: scores on the sealed rows, interval, verdict, cost and latency."""
        return self.view.to_frame()

    def plot(self) -> Figure:
        """Quality against what a request costs. Needs matplotlib, which `promptopt-engine[notebook]` brings."""
        from promptopt.report.plot import front

        return front(self.view)

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        from promptopt.report.notebook import distillation_html

        return distillation_html(self.view)

    def __repr__(self) -> str:
        said = self.recommendation.sentence if self.recommendation else "stay with the teacher"
        return f"Distillation({said})"


def _cost_json(cost: Cost | None) -> dict[str, Any]:
    names = ("usd_per_1000", "usd_per_month", "tokens_in", "tokens_out", "latency_p50", "latency_p95")
    return {name: getattr(cost, name) if cost else None for name in names}
