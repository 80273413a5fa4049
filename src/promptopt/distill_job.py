"""From a distillation's config to what it runs: the teacher's job, and the students as candidates of its program."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal

from promptopt.config.distill import DistillConfig, StudentSettings
from promptopt.core.candidate import Candidate
from promptopt.errors import ConfigError
from promptopt.job import Job
from promptopt.lm.pricing import check_model, price, require_price
from promptopt.metrics.build import judges_in

_SENTENCE = re.compile(r".+?(?:[.!?:](?=\s|$)|$)", re.DOTALL)
_FORM = re.compile(r"\b(answer|repl(?:y|ies)|respond|output|return|format|json|only)\b", re.IGNORECASE)
"""Words of a sentence that says what form an answer has."""


@dataclass(frozen=True)
class Student:
    """A model that may take the teacher's place."""

    name: str
    lm: str
    start: Candidate
    """The teacher's prompt on this model."""
    priced: bool
    usd_per_hour: Decimal | None


@dataclass(frozen=True)
class Distilling:
    """Everything that one distillation needs."""

    config: DistillConfig
    job: Job
    """The program on the teacher, with all rows and caps."""
    students: tuple[Student, ...]
    weak: Candidate
    """The stripped prompt that the teacher must beat."""

    @property
    def teacher(self) -> Student:
        assert self.job.program.lm is not None
        return _student("teacher", self.job.program.lm.name, self.job.baseline, self.job)


def distilling(config: DistillConfig) -> Distilling:
    """Read the data and check every model. Raises ConfigError and DataError before anything is spent."""
    job = Job.from_config(config)
    try:
        return _distilling(config, job)
    except ConfigError as error:
        raise config.located(error) from error


def _distilling(config: DistillConfig, job: Job) -> Distilling:
    if job.program.lm is None:
        raise ConfigError("the program names no model, so none can be exchanged: give program.lm", key="program.lm")
    if config.references == "judge" and not judges_in(job.metric):
        raise ConfigError("references: judge needs a judge as the metric", key="references")
    if not job.split.test:
        raise ConfigError("a certificate needs test rows: set data.split.test, or give a test file", key="data")
    students = tuple(_candidate(student, job) for student in config.students)
    for number, student in enumerate(students):
        lm, settings = student.lm, job.settings_of(student.lm)
        check_model(lm, settings)
        require_price(lm, settings, job.budget.usd is not None)
        if student.start.settings == {"lm": job.program.lm.name}:
            raise ConfigError(f"students.{number}.lm is the teacher's own model", key="students")
    keys = {"teacher", "students", "margin", "references", "weak", "repeats"}
    identity = {**job.identity, "distill": config.model_dump(mode="json", include=keys)}
    return Distilling(config, replace(job, identity=identity), students, weak(job, config.weak))


def weak(job: Job, said: str | None) -> Candidate:
    """The program with little of its prompt: `said` as its first text, or the texts' first sentence and answer form.

    Texts with placeholders stay as they are, for they bring the inputs in.
    """
    candidate, optimizable = job.baseline, [one for one in job.program.components if one.optimize]
    for number, component in enumerate(optimizable):
        if said is not None and number == 0:
            candidate = candidate.with_text(component.name, said)
        elif said is None and not component.placeholders:
            candidate = candidate.with_text(component.name, _stripped(component.text))
    if candidate.id == job.baseline.id:
        raise ConfigError(
            "the prompt has nothing to strip, so the teacher cannot be compared with a weaker one: give weak:",
            key="weak",
        )
    return candidate


def _stripped(text: str) -> str:
    """The first sentence, and those that say what form an answer has."""
    sentences = [found[0].strip() for found in _SENTENCE.finditer(text) if found[0].strip()]
    return " ".join(dict.fromkeys([*sentences[:1], *(one for one in sentences if _FORM.search(one))]))


def _candidate(student: StudentSettings, job: Job) -> Student:
    start = Candidate(job.baseline.components, job.baseline.demos, {"lm": student.lm, **student.lm_args})
    return _student(student.name, student.lm, start, job)


def _student(name: str, lm: str, start: Candidate, job: Job) -> Student:
    settings = job.settings_of(lm)
    return Student(name, lm, start, price(lm, settings) is not None, settings.usd_per_hour)
