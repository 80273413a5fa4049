"""A run's directory: its lock, its ledger, and the log of test openings beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from promptopt.errors import RunLocked, UserError

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
        with FileLock(directory / "lock", timeout=0.2):  # `in_use` holds it for a moment
            owner.write_text(str(os.getpid()))
            yield
    except Timeout:
        pid = owner.read_text() if owner.exists() else "unknown"
        raise RunLocked(f"{directory} is in use by process {pid}. Wait for it, or choose another --run-dir.") from None


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
    opened already and keeps its number.
    """
    log = directory.absolute().parent / OPENINGS
    with FileLock(log.with_suffix(".lock")):
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        runs = [entry["run"] for entry in map(json.loads, lines) if entry["test"] == test_hash]
        if run_id not in runs:
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"test": test_hash, "run": run_id, "directory": directory.name}) + "\n")
            runs.append(run_id)
    return runs.index(run_id) + 1


def write_json(path: Path, body: Mapping[str, Any]) -> None:
    """Write `body`, whole or not at all."""
    draft = path.with_suffix(f".{os.getpid()}.new")
    draft.write_text(json.dumps(body, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    draft.replace(path)
