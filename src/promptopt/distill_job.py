"""From a distillation's config to what it runs: the teacher's job, and the students as candidates of its program."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from promptopt.config.distill import DistillConfig, StudentSettings
from promptopt.core.candidate import Candidate
from promptopt.core.sealed import level_of
from promptopt.core.split import inputs_digest
from promptopt.errors import ConfigError, did_you_mean
from promptopt.job import Job
from promptopt.lm.pricing import check_model, priced, require_price
from promptopt.metrics.build import build, judges_in, models_in
from promptopt.metrics.metric import Metric
from promptopt.store.run_dir import next_opening

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
    """Whether its tokens have a price; those of a machine of one's own have none unless the user gives it."""
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
    confidence: Metric | None = None
    """The judge of a cascade that has one."""
    opening: int = 1
    """Which opening of the test rows this one's is; each is tested more strictly than the one before."""

    @property
    def level(self) -> float:
        """The one-sided level at which all claims together are tested."""
        return level_of(self.opening)

    @property
    def teacher(self) -> Student:
        assert self.job.program.lm is not None
        return student_of("teacher", self.job.program.lm.name, self.job.baseline, self.job)

    @property
    def config_file(self) -> str | None:
        """Where the config stands, seen from the run directory; None where it was spelled in Python."""
        file = self.config.file
        return None if file is None else os.path.relpath(file.resolve(), self.job.directory.resolve())


def distilling(config: DistillConfig, run_dir: str | Path | None = None) -> Distilling:
    """Read the data and check every model; `run_dir` takes the place of the config's.

    Raises ConfigError and DataError before anything is spent.
    """
    job = Job.from_config(config)
    if run_dir is not None:
        job = replace(job, directory=Path(run_dir))
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
    known = dict.fromkeys(name for row in job.split.test for name in (*row.inputs, *row.meta))
    if unknown := next((name for name in config.slices if name not in known), None):
        raise ConfigError(f"slices: the rows have no column {unknown}. {did_you_mean(unknown, known)}", key="slices")
    students = tuple(_candidate(student, job) for student in config.students)
    for number, student in enumerate(students):
        lm, settings = student.lm, job.settings_of(student.lm)
        check_model(lm, settings)
        require_price(lm, settings, job.budget.usd is not None)
        if student.start.settings == {"lm": job.program.lm.name}:
            raise ConfigError(f"students.{number}.lm is the teacher's own model", key="students")
        if twin := next((one for one in students[:number] if one.start.id == student.start.id), None):
            raise ConfigError(
                f"students.{number} is {twin.name} again: the same model with the same arguments", key="students"
            )
    keys = {"teacher", "students", "margin", "references", "weak", "repeats", "cascade"}
    identity = {**job.identity, "distill": config.model_dump(mode="json", include=keys)}
    job = replace(job, identity=identity)
    opening = next_opening(job.directory, inputs_digest(job.split.test))
    return Distilling(config, job, students, weak(job, config.weak), _confidence(config, job), opening)


def _confidence(config: DistillConfig, job: Job) -> Metric | None:
    """The judge of the cascade, checked; None where it has none."""
    if config.cascade is None:
        return None
    own = job.program.lm.args if job.program.lm else {}
    for number, student in enumerate(config.students):
        heat = student.lm_args.get("temperature", own.get("temperature"))
        if config.cascade.calls > 1 and config.cascade.temperature is None and heat == 0:
            raise ConfigError(
                f"students.{number} answers at temperature 0, so its samples would all agree: give cascade.temperature",
                key="cascade.temperature",
            )
    if config.cascade.judge is None:
        return None
    judge = build(config.cascade.judge, config.base, key="cascade.judge")
    if not judges_in(judge):
        raise ConfigError("cascade.judge is no judge: it asks no model", key="cascade.judge")
    for lm in models_in(judge):
        check_model(lm.name, job.settings_of(lm.name))
        require_price(lm.name, job.settings_of(lm.name), job.budget.usd is not None)
    return judge


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
    own = job.program.lm.args if job.program.lm else {}
    other = {name: value for name, value in student.lm_args.items() if value != own.get(name)}
    start = replace(job.baseline, settings={"lm": student.lm, **other})
    return student_of(student.name, student.lm, start, job)


def student_of(name: str, lm: str, start: Candidate, job: Job) -> Student:
    settings = job.settings_of(lm)
    return Student(name, lm, start, priced(lm, settings), settings.usd_per_hour)
