"""A run's directory: its lock, its ledger, and the log of test openings beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from promptopt.core.budget import Budget
from promptopt.errors import RunLocked, UserError
from promptopt.store.ledger import Ledger

LEDGER = "ledger.sqlite"
RESULT = "result.json"
OPENINGS = "test-openings.jsonl"


@contextmanager
def locked(directory: Path) -> Generator[None]:
    """Own `directory` until the block ends. The lock dies with its process, so a dead owner's is free.

    Raises RunLocked when another live process owns it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{directory} cannot be a run directory: {error.strerror}") from error
    owner = directory / "owner"
    try:
        lock = FileLock(directory / "lock").acquire(timeout=0.2)  # `in_use` holds it for a moment
    except Timeout:
        pid = owner.read_text() if owner.exists() else "unknown"
        raise RunLocked(f"{directory} is in use by process {pid}. Wait for it, or choose another --run-dir.") from None
    except OSError as error:
        raise UserError(f"{directory} cannot be locked: {error.strerror}") from error
    with lock:
        owner.write_text(str(os.getpid()))
        yield


def in_use(directory: Path) -> bool:
    """Whether a live process owns `directory`."""
    lock = directory / "lock"
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # not ours to lock, such as a copy on a read-only disk
        return False


def count_opening(directory: Path, test_hash: str, run_id: str) -> int:
    """Record that this run opens the test rows, and say which opening of these rows it is, from 1.

    The log stands beside the run directories, so that runs which share test rows share it. A run that resumes has
    opened already and keeps its number. A line that cannot be read counts as an opening. Raises UserError when the log
    cannot be written.
    """
    log = _openings_beside(directory)
    with FileLock(log.with_suffix(".lock")):
        text = _text_of(log)
        runs = _runs_that_opened(text, test_hash)
        if run_id not in runs:
            entry = json.dumps({"test": test_hash, "run": run_id, "directory": directory.name})
            with log.open("a", encoding="utf-8") as file:
                file.write(("" if not text or text.endswith("\n") else "\n") + entry + "\n")
            runs.append(run_id)
    return runs.index(run_id) + 1


def begun(directory: Path) -> bool:
    """Whether `directory` has a run that has begun; it may have paid for something."""
    return (directory / LEDGER).exists()


@contextmanager
def reading(directory: Path) -> Generator[Ledger]:
    """The ledger of the run in `directory`, to read only.

    Raises LedgerCorrupt for a torn or foreign ledger and UserError where no run is.
    """
    if not begun(directory):
        raise UserError(f"{directory} is not a run directory: it has no {LEDGER}.")
    with closing(Ledger(directory / LEDGER, Budget(), read_only=True)) as ledger:
        yield ledger


def next_opening(directory: Path, test_hash: str) -> int:
    """Which opening of the test rows the run in `directory` would make, or has made, from 1."""
    runs = _runs_that_opened(_text_of(_openings_beside(directory)), test_hash)
    run_id = _run_id(directory) if runs else None
    return (runs.index(run_id) if run_id in runs else len(runs)) + 1


def _run_id(directory: Path) -> str | None:
    """Of the run in `directory`; None before it began."""
    if not begun(directory):
        return None
    with reading(directory) as ledger:
        return ledger.meta("run_id")


def _text_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""


def _runs_that_opened(text: str, test_hash: str) -> list[str]:
    return [run for line in text.splitlines() if (run := _opened_by(line, test_hash)) is not None]


def check_openings(directory: Path) -> None:
    """Raise UserError when the log of test openings could not be written later, after everything was paid."""
    log = _openings_beside(directory)
    try:
        log.open("a").close()
    except OSError as error:
        raise UserError(
            f"{log} counts how often test rows are opened, and cannot be written: {error.strerror}"
        ) from error


def _openings_beside(directory: Path) -> Path:
    return directory.resolve().parent / OPENINGS


def _opened_by(line: str, test_hash: str) -> str | None:
    """The run that a line of the log names, "" for a torn line, None for other test rows."""
    try:
        entry = json.loads(line)
        return entry["run"] if entry["test"] == test_hash else None
    except (ValueError, KeyError, TypeError):
        return ""


def write_json(path: Path, body: Mapping[str, Any]) -> None:
    """Write `body`, whole or not at all."""
    draft = path.with_suffix(f".{os.getpid()}.new")
    draft.write_text(json.dumps(body, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    draft.replace(path)
