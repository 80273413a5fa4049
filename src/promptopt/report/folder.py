"""The runs that a folder holds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from promptopt.errors import PromptoptError, UserError
from promptopt.report.advice import Condition
from promptopt.report.distilled import Distilled, Underway, is_distillation, read_distillation
from promptopt.result import INTERRUPTED, Result, read_result
from promptopt.store.ledger import Ledger
from promptopt.store.run_dir import LEDGER, in_use, reading

Found = Result | Distilled | Underway
"""What a run has come to."""


@dataclass(frozen=True)
class Run:
    """One run directory: what it has come to, or why it cannot be read."""

    name: str
    """Its path below the folder."""
    age: float
    """Seconds since it last wrote."""
    found: Found | None
    condition: Condition = "finished"
    problem: str = ""


def runs_below(folder: Path) -> list[Run]:
    """Every run directory at or below `folder`, the latest first. Raises UserError where no folder is."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder. Runs are kept in runs/ beside the config.")
    return sorted((_run(directory, folder) for directory in _directories(folder)), key=lambda run: run.age)


def look_into(directory: Path) -> Found:
    """What the run in `directory` has come to, from its ledger alone; it may still be going on.

    Raises LedgerCorrupt for a torn or foreign ledger and UserError where no run is.
    """
    with reading(directory) as ledger:
        return _read(ledger, directory)


def condition_of(found: Found) -> Condition:
    """Whether the run has ended, is at work in a live process, or was interrupted."""
    if isinstance(found, Distilled) or (isinstance(found, Result) and found.stop_reason != INTERRUPTED):
        return "finished"
    return "running" if in_use(found.directory) else "interrupted"


def _read(ledger: Ledger, directory: Path) -> Found:
    return (read_distillation if is_distillation(ledger) else read_result)(ledger, directory)


def _directories(folder: Path) -> Iterator[Path]:
    for path, below, files in os.walk(folder):
        below[:] = [name for name in below if not name.startswith(".") and LEDGER not in files]
        if LEDGER in files:
            yield Path(path)


def _run(directory: Path, folder: Path) -> Run:
    name = str(directory.relative_to(folder)) if directory != folder else directory.name
    try:
        with reading(directory) as ledger:
            found, age = _read(ledger, directory), time.time() - ledger.last_write()
    except PromptoptError as error:
        age = time.time() - (directory / LEDGER).stat().st_mtime
        return Run(name, max(0.0, age), None, problem=str(error))
    return Run(name, max(0.0, age), found, condition_of(found))
