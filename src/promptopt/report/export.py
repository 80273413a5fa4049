"""A candidate in the form that it will live in."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from promptopt.config import group
from promptopt.config.settings import DspySettings
from promptopt.core.candidate import Candidate
from promptopt.core.example import text_of
from promptopt.errors import ConfigError, UserError
from promptopt.programs.build import dspy_module
from promptopt.result import reading


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
        for number, demo in enumerate(demos, 1):
            inputs = "\n".join(f"{name}: {text_of(value)}" for name, value in demo.inputs.items())
            parts.append(f"### {number}\n\n{inputs}\n\nanswer: {demo.output}")
    if candidate.settings:
        settings = "\n".join(f"{name}: {text_of(value)}" for name, value in candidate.settings.items())
        parts.append(f"## settings\n\n{settings}")
    return "\n\n".join(parts)
