"""What every command has in common: its arguments, how its errors are told, where its words go."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console

from promptopt.errors import ConfigError, PromptoptError, UserError

if TYPE_CHECKING:
    from promptopt.config.settings import FileSettings
    from promptopt.execute.progress import Watch
    from promptopt.job import Job

FAILED, USER_ERROR, NOT_REACHED, INTERRUPTED = 1, 2, 3, 130
"""Exit codes other than 0."""
DEBUG = "PROMPTOPT_DEBUG"

C = TypeVar("C", bound=Callable[..., None])
F = TypeVar("F", bound="FileSettings")

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="The job's YAML file.", show_default=False)]
RunDir = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A run directory.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as budget.rollouts=60. Repeatable."),
]


def command(group: typer.Typer, name: str) -> Callable[[C], C]:
    """Register a command that answers every error with one message and its exit code."""

    def register(function: C) -> C:
        @wraps(function)
        def answering(*args: object, **options: object) -> None:
            try:
                function(*args, **options)
            except KeyboardInterrupt:
                tell("interrupted")
                raise typer.Exit(INTERRUPTED) from None
            except (typer.Exit, BrokenPipeError):
                raise
            except Exception as error:
                if os.environ.get(DEBUG):
                    raise
                raise typer.Exit(explained(error)) from None

        group.command(name)(answering)
        return function

    return register


@contextmanager
def opened(path: Path, overrides: list[str] | None, kind: type[F]) -> Generator[F]:
    """The config at `path`. An error about one of its settings that the block raises gets its file and line."""
    from promptopt.config import load

    config = load(path, overrides or (), kind=kind)
    try:
        yield config
    except ConfigError as error:
        raise config.located(error) if error.key else error from None


@contextmanager
def watched(name: str) -> Generator[Watch]:
    """A display of a run's progress; Ctrl-C lets what is in flight finish."""
    from promptopt.execute.interrupt import Interruptible
    from promptopt.report.progress import watching

    with watching(Console(stderr=True), name) as shown, Interruptible(shown) as watch:
        yield watch


def fetch_models(job: Job, *others: str) -> None:
    """Pull what `job` and `others` need and this machine lacks, so that a run does not begin with an hour's silence."""
    from promptopt.lm.provider import LOCAL
    from promptopt.lm.pull import pulled
    from promptopt.report.progress import pull_shown

    for name in dict.fromkeys([*(lm.name for lm in job.lms.values()), *others]):
        if name.startswith(LOCAL) and pulled(name) is None:
            pull_shown(name)


def write(path: Path, text: str) -> None:
    """Write a text file with one newline at its end. Raises UserError where that cannot be."""
    try:
        path.write_text(text + "\n", encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def explained(error: Exception) -> int:
    """Say what went wrong, once, and return the exit code."""
    if isinstance(error, PromptoptError):
        tell(f"error: {error}")
        return USER_ERROR if isinstance(error, UserError) else FAILED
    tell(f"error: {type(error).__name__}: {error}. This should not happen; {DEBUG}=1 shows where it does.")
    return FAILED


def tell(message: str) -> None:
    """Say something beside what was asked for."""
    from promptopt.report.figures import clean

    print(clean(message), file=sys.stderr, flush=True)


def console() -> Console:
    """Where what a command finds goes."""
    return Console(highlight=False, markup=False, emoji=False)
