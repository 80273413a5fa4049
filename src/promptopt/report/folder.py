"""The runs that a folder holds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from promptopt.errors import PromptoptError, UserError
from promptopt.report.advice import Condition
from promptopt.result import INTERRUPTED, Result, read_result, reading
from promptopt.store.run_dir import LEDGER, in_use


@dataclass(frozen=True)
class Run:
    """One run directory: its result, or why it cannot be read."""

    name: str
    """Its path below the folder."""
    age: float
    """Seconds since it last wrote."""
    result: Result | None
    condition: Condition = "finished"
    problem: str = ""


def runs_below(folder: Path) -> list[Run]:
    """Every run directory at or below `folder`, the latest first. Raises UserError where no folder is."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder. Runs are kept in runs/ beside the config.")
    return sorted((_run(directory, folder) for directory in _directories(folder)), key=lambda run: run.age)


def condition_of(result: Result) -> Condition:
    """Whether the run has ended, is at work in a live process, or was interrupted."""
    if result.stop_reason != INTERRUPTED:
        return "finished"
    return "running" if in_use(result.directory) else "interrupted"


def _directories(folder: Path) -> Iterator[Path]:
    for path, below, files in os.walk(folder):
        below[:] = [name for name in below if not name.startswith(".")]
        if LEDGER in files:
            yield Path(path)


def _run(directory: Path, folder: Path) -> Run:
    name = str(directory.relative_to(folder)) if directory != folder else directory.name
    try:
        with reading(directory) as ledger:
            result, age = read_result(ledger, directory), time.time() - ledger.last_write()
    except PromptoptError as error:
        age = time.time() - (directory / LEDGER).stat().st_mtime
        return Run(name, max(0.0, age), None, problem=str(error))
    return Run(name, max(0.0, age), result, condition_of(result))
