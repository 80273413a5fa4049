"""A candidate in the form that it will live in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from promptopt.config import group
from promptopt.config.settings import DspySettings
from promptopt.core.candidate import Candidate
from promptopt.core.edit import of_demos
from promptopt.core.example import text_of
from promptopt.errors import ConfigError, UserError, did_you_mean
from promptopt.programs.build import dspy_module
from promptopt.programs.nearest import NEARNESS
from promptopt.report.distilled import Distilled, Underway
from promptopt.report.folder import look_into
from promptopt.store.run_dir import reading


@dataclass(frozen=True, slots=True)
class Choice:
    """A candidate of a run that somebody wants to take away."""

    candidate: Candidate
    traced: Candidate
    """Whose traces show how it is done: a distillation's teacher, else the candidate itself."""
    remark: str = ""
    """What should be known of the choice."""


def choice(run_dir: Path, name: str, student: str | None = None, *, or_teacher: bool = False) -> Choice:
    """The candidate `name` of a run, or of a distillation that of a `student`.

    Where a distillation recommends none, `or_teacher` takes the teacher's prompt. Raises UserError where there is no
    such candidate.
    """
    found = look_into(run_dir)
    if isinstance(found, Underway):
        raise UserError(f"{run_dir} has not ended: run `promptopt distill` again to go on, and export then")
    if isinstance(found, Distilled):
        return _of_distillation(found, name, student, or_teacher)
    if student is not None:
        raise UserError(f"{run_dir} is no distillation and has no students: leave --student out")
    chosen = found.candidate(name)
    current = name == "recommended" and chosen.id == found.baseline.id
    said = f"{found.verdict}: this is the current prompt; --candidate best takes the champion of val"
    return Choice(chosen, chosen, said if current else "")


def _of_distillation(found: Distilled, name: str, student: str | None, or_teacher: bool) -> Choice:
    assert found.baseline is not None
    teacher, names = found.baseline, [one.name for one in found.students]
    if student is not None:
        for one in found.students:
            if one.name == student:
                said = "" if one.verdict == "NON-INFERIOR" else f"{one.verdict}: it is not shown to hold the quality"
                return Choice(one.candidate, teacher, said)
        raise UserError(f"there is no student {student}. " + did_you_mean(student, names))
    if name not in ("recommended", "baseline"):
        raise UserError(
            f"a distillation has the candidates recommended and baseline, and not {name}; or name --student"
        )
    if name == "recommended" and (wanted := found.recommendation) is not None:
        said = "" if found.chosen else f"this holds as {wanted.lm}: promptopt.distillation.cascade.Cascade asks them so"
        return Choice(wanted.candidate, teacher, said)
    if name == "recommended" and not or_teacher:
        raise UserError(
            f"no student is recommended, so stay with the teacher; --student exports another one: {', '.join(names)}"
        )
    return Choice(teacher, teacher)


def as_json(candidate: Candidate) -> str:
    """`{components, demos, settings}`, as `promptopt evaluate --candidate` reads it; plain ASCII."""
    return json.dumps(candidate.to_json(), indent=2)


def as_dspy(run_dir: Path, candidate: Candidate) -> str:
    """The state that DSPy's own `module.load` reads, as `module.save` writes it; plain ASCII.

    The module is made again by the code that the run's config names. Raises UserError where the run has no such config,
    and ConfigError where its code no longer makes a module that the candidate fits.
    """
    with reading(run_dir) as ledger:
        program, base = ledger.meta("identity")["config"]["program"], ledger.meta("job").get("base", ".")
    if "type" not in program:
        raise UserError(f"{run_dir} was run from Python, which has the module: call save(...) on what compile returned")
    if program["type"] != "dspy":
        raise UserError(f"{run_dir} is no run of a DSPy module but of a {program['type']}; export it as json or text")
    try:
        module = dspy_module(group(DspySettings, program, "program"), run_dir / base).build(candidate)
    except ConfigError as error:
        raise ConfigError(f"the run's module cannot be made again: {error}") from error
    with TemporaryDirectory() as folder:
        file = Path(folder) / "module.json"
        module.save(file)
        state: Any = json.loads(file.read_text(encoding="utf-8"))
    return json.dumps(state, indent=2)


def as_text(candidate: Candidate) -> str:
    """The texts as they are, each below its name where there are several, and the demos as question and answer."""
    several = len(candidate.components) > 1 or candidate.n_demos > 0 or bool(candidate.settings)
    parts = [f"## {name}\n\n{text}" if several else text for name, text in candidate.components.items()]
    for slot, demos in candidate.demos.items():
        parts.append(f"## demos: {slot}")
        if slot in candidate.nearest:
            parts.append(f"Each input is shown {of_demos(candidate.filling(slot))}, the nearest last: {NEARNESS}.")
        for number, demo in enumerate(demos, 1):
            inputs = "\n".join(f"{name}: {text_of(value)}" for name, value in demo.inputs.items())
            parts.append(f"### {number}\n\n{inputs}\n\nanswer: {demo.output}")
    if candidate.settings:
        settings = "\n".join(f"{name}: {text_of(value)}" for name, value in candidate.settings.items())
        parts.append(f"## settings\n\n{settings}")
    return "\n\n".join(parts)
