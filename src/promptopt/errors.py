"""Every error this package raises.

PromptoptError
├── UserError              something to mend: a config, a row, a name. The command line exits with 2
│   ├── ConfigError        key, value, file, line and the nearest valid key
│   ├── DataError          file, row, column
│   └── RunChanged         the run directory belongs to another config or other data
└── RunError               the run stopped; what was paid for is in the ledger
    ├── RunLocked          another live process owns the run directory
    ├── LedgerCorrupt      the file is torn, foreign or newer; nothing was changed
    ├── LedgerUnwritable   the disk is full, or the file read-only
    ├── BudgetExhausted    a cap has no room for the next call
    ├── ModelDown          a model's endpoint refuses or never answers
    └── BaselineFailed     too few rows of the starting prompt could be scored
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Literal


class PromptoptError(Exception):
    """Base of all errors of this package; its text is meant for people."""


class UserError(PromptoptError):
    """Something the user can mend before anything is spent."""


class ConfigError(UserError):
    """A setting is missing, unknown or wrong."""

    def __init__(self, message: str, *, file: str | None = None, key: str | None = None, line: int | None = None):
        self.file, self.key, self.line = file, key, line
        self.located = file is not None
        """Whether the message says already where the setting was made."""
        place = f"{file}, line {line}: " if file and line else f"{file}: " if file else ""
        super().__init__(f"{place}{message}")


class DataError(UserError):
    """A data file, or a row of it, cannot be used. `row` counts from 1: lines of a text file, rows of anything else."""

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        row: int | None = None,
        column: str | None = None,
        unit: Literal["line", "row"] = "line",
    ):
        self.file, self.row, self.column = file, row, column
        place = f"{file}, {unit} {row}: " if file and row else f"{file}: " if file else f"row {row}: " if row else ""
        super().__init__(f"{place}{message}")


class RunChanged(UserError):
    """The run directory was started with another config or other data."""


class RunError(PromptoptError):
    """The run stopped; the ledger holds everything that was paid for."""


class RunLocked(RunError):
    """Another live process owns the run directory."""


class LedgerCorrupt(RunError):
    """The ledger is torn, foreign or from a newer version; it was not changed."""


class LedgerUnwritable(RunError):
    """The ledger cannot be written: the disk is full, or the file read-only."""


class BudgetExhausted(RunError):
    """A cap has no room left for the next call; `cap` names it."""

    def __init__(self, cap: str, message: str = ""):
        self.cap = cap
        super().__init__(message or f"the budget's {cap} are used up")


class ModelDown(RunError):
    """The endpoint of `model` refuses every call, or has stopped answering."""

    def __init__(self, message: str, model: str = ""):
        self.model = model
        super().__init__(message)


class BaselineFailed(RunError):
    """Too many rows of the starting prompt gave no score to start from."""


def did_you_mean(
    word: object, known: Iterable[str], otherwise: str | None = None, written: Callable[[str], object] = str
) -> str:
    """A sentence for whoever wrote an unknown `word`: the known one that is near, as it is `written`.

    Where none is near it is `otherwise`, by default a list of all.
    """
    names = list(known)
    if near := get_close_matches(str(word), names, 1):
        return f"Did you mean {written(near[0])}?"
    return f"Known: {', '.join(names) or 'none'}." if otherwise is None else otherwise
