"""The command line: one function a command.

What a command finds goes to standard output, what happens meanwhile to standard error. Exit codes: 0 done, 2 a config
or data error, 3 the required verdict was not reached, 130 interrupted, 1 anything else.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

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

app = typer.Typer(
    help="Searches for better prompts under hard budgets, and proves on unseen rows that they are better.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models = typer.Typer(help="Local models, for names such as local/qwen2.5-coder-0.5b.", no_args_is_help=True)
app.add_typer(models, name="models")

judges = typer.Typer(help="Judges: how far they agree with people, and how to bring them nearer.", no_args_is_help=True)
app.add_typer(judges, name="judge")

C = TypeVar("C", bound=Callable[..., None])
F = TypeVar("F", bound="FileSettings")

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="The job's YAML file.", show_default=False)]
JudgeFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="A judge and labels, in YAML.", show_default=False)]
RunDir = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A run directory.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as budget.rollouts=60. Repeatable."),
]


def main() -> None:
    """The entry point of `promptopt`."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a prompt may hold what the terminal cannot show
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def command(group: typer.Typer, name: str) -> Callable[[C], C]:
    """Register a command that answers every error with one message and its exit code."""

    def register(function: C) -> C:
        @wraps(function)
        def answering(*args: object, **options: object) -> None:
            try:
                function(*args, **options)
            except KeyboardInterrupt:
                _tell("interrupted")
                raise typer.Exit(INTERRUPTED) from None
            except (typer.Exit, BrokenPipeError):
                raise
            except Exception as error:
                if os.environ.get(DEBUG):
                    raise
                raise typer.Exit(_explained(error)) from None

        group.command(name)(answering)
        return function

    return register


@command(app, "optimize")
def optimize(
    config: ConfigFile,
    set_: Overrides = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="The run directory, in place of run.dir.", show_default=False)
    ] = None,
    require: Annotated[
        Literal["promote"] | None, typer.Option(help="Exit with 3 unless the verdict is PROMOTE.", show_default=False)
    ] = None,
) -> None:
    """Search for a better prompt and judge it on the sealed test; goes on with a run that stands there."""
    from promptopt.api import optimize_job
    from promptopt.config import Config
    from promptopt.job import Job
    from promptopt.report import terminal
    from promptopt.report.folder import condition_of

    with _settings(config, set_, Config) as settings, _watched(settings.name) as watch:
        job = Job.from_config(settings)
        job = job if run_dir is None else replace(job, directory=run_dir)
        _fetch_models(job)
        result = optimize_job(job, watch)
    out, condition = _out(), condition_of(result)
    out.print((terminal.report if out.is_terminal else terminal.summary)(result, condition))
    if condition != "finished":
        raise typer.Exit(INTERRUPTED)
    if require == "promote" and result.verdict != "PROMOTE":
        raise typer.Exit(NOT_REACHED)


@command(app, "plan")
def plan(config: ConfigFile, set_: Overrides = None) -> None:
    """Say what a run would do and spend at most, and what its test can show. Spends nothing."""
    from promptopt import api
    from promptopt.config import Config
    from promptopt.report import tables

    with _settings(config, set_, Config) as settings:
        made = api.plan(settings)
    _out().print(tables.plan(made))


@command(app, "evaluate")
def evaluate(
    config: ConfigFile,
    candidate: Annotated[
        Path | None,
        typer.Option(metavar="FILE|RUN_DIR", help="An exported candidate, or a run; by default the current prompt."),
    ] = None,
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="The rows to score.")] = "val",
    set_: Overrides = None,
) -> None:
    """Score one candidate. Scoring test rows opens them, which makes later verdicts on them stricter."""
    from promptopt import api
    from promptopt.config import Config
    from promptopt.job import Job
    from promptopt.report import tables

    with _settings(config, set_, Config) as settings:
        _fetch_models(Job.from_config(settings))
        made = api.evaluate(settings, candidate, split)
    _out().print(tables.evaluation(made))


@command(app, "compare")
def compare(run_a: RunDir, run_b: RunDir) -> None:
    """Compare two runs' recommended candidates on the rows that both have scored."""
    from promptopt.comparison import compare as compare_runs
    from promptopt.report import tables

    _out().print(tables.comparison(compare_runs(run_a, run_b)))


@command(app, "report")
def report(
    run_dir: RunDir,
    json_: Annotated[bool, typer.Option("--json", help="As in result.json.")] = False,
) -> None:
    """Say what happened in a run, also while it is at work; rebuilt from its ledger."""
    from promptopt.report import terminal
    from promptopt.report.folder import condition_of
    from promptopt.result import rebuild

    result = rebuild(run_dir)
    if json_:
        print(json.dumps(result.to_json(), indent=2))
    else:
        _out().print(terminal.report(result, condition_of(result)))


@command(app, "runs")
def runs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to look, and in what is below.")] = Path("runs"),
) -> None:
    """List the runs of a folder."""
    from promptopt.report import tables
    from promptopt.report.folder import runs_below

    found = runs_below(folder)
    if found:
        _out().print(tables.runs(found))
    else:
        _tell(f"there are no runs below {folder}")


@command(app, "export")
def export(
    run_dir: RunDir,
    format_: Annotated[
        Literal["text", "json", "dspy", "optuna"],
        typer.Option(
            "--format",
            help="For people, for programs, as the state that a DSPy module loads, or a joint search's trials as an "
            "Optuna study in a new SQLite file (--out study.db).",
        ),
    ] = "text",
    output: Annotated[
        Path | None,
        typer.Option("--output", "--out", help="Write to this file, in place of standard output.", show_default=False),
    ] = None,
    candidate: Annotated[
        str,
        typer.Option(
            help="recommended: the new prompt on PROMOTE, else the current one; best: the champion of val; baseline; "
            "or a candidate's id."
        ),
    ] = "recommended",
) -> None:
    """Print the prompt that a run recommends. On a screen or in a pipe it is cleaned of terminal controls."""
    from promptopt.report.export import as_dspy, as_json, as_text
    from promptopt.report.figures import clean
    from promptopt.result import rebuild

    if format_ == "optuna":
        _export_study(run_dir, output)
        return
    result = rebuild(run_dir)
    chosen = result.candidate(candidate)
    if candidate == "recommended" and chosen.id == result.baseline.id:
        _tell(f"{result.verdict}: this is the current prompt; --candidate best takes the champion of val")
    text = {"text": as_text, "json": as_json, "dspy": partial(as_dspy, run_dir)}[format_](chosen)
    if format_ == "dspy" and chosen.settings:
        said = ", ".join(f"{name}={value}" for name, value in chosen.settings.items())
        _tell(
            f"settings found: {said}. They are in the file where your code makes the dspy.LM; else give them to yours"
        )
    if output is not None:
        _write(output, text)
        _tell(f"written to {output}")
    else:
        print(clean(text))


def _export_study(run_dir: Path, output: Path | None) -> None:
    from promptopt.report.study import export_study

    if output is None:
        raise UserError("--format optuna writes a SQLite file: name a new one with --out study.db")
    trials = export_study(run_dir, output)
    _tell(f"{trials} trials written to {output}; optuna-dashboard sqlite:///{output} shows them")


@command(judges, "calibrate")
def calibrate(
    config: JudgeFile,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where calibration.json goes; by default run.dir.")
    ] = None,
    set_: Overrides = None,
) -> None:
    """Measure how far a judge agrees with people's labels; the certificate is for this very judge."""
    from promptopt.api import calibrate_job
    from promptopt.config import JudgeConfig
    from promptopt.judge_job import measuring
    from promptopt.judges.trust import CALIBRATION
    from promptopt.report.calibration import calibration

    with _settings(config, set_, JudgeConfig) as settings, _watched(settings.name) as watch:
        work = measuring(settings, out)
        _fetch_models(work.job)
        made = calibrate_job(work, watch)
    _out().print(calibration(made))
    _tell(f"written to {work.job.directory / CALIBRATION}")


@command(judges, "align")
def align(
    config: JudgeFile,
    run_dir: Annotated[
        Path | None, typer.Option(help="The run directory, in place of run.dir with -align.", show_default=False)
    ] = None,
    set_: Overrides = None,
) -> None:
    """Improve a judge's own rubric against people's labels, and test it on labels that nobody looked at."""
    from promptopt.api import align_job
    from promptopt.config import JudgeConfig
    from promptopt.judge_job import aligning
    from promptopt.report.calibration import alignment
    from promptopt.report.folder import condition_of

    with _settings(config, set_, JudgeConfig) as settings, _watched(settings.name) as watch:
        work = aligning(settings, run_dir)
        _fetch_models(work.job)
        made = align_job(work, watch)
    condition = condition_of(made.result)
    _out().print(alignment(made, condition))
    if condition != "finished":
        raise typer.Exit(INTERRUPTED)


@command(app, "init")
def init(directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder, made if need be.")]) -> None:
    """Write a starting config with comments, and rows to try it on."""
    from promptopt.init import init as write_templates

    for path in write_templates(directory):
        _out().print(str(path), soft_wrap=True)
    _tell(f"next: promptopt plan {directory / 'start.yaml'}")


@command(models, "list")
def list_models() -> None:
    """List the local models, and say which are on this machine."""
    from promptopt.lm.catalogue import CATALOGUE
    from promptopt.lm.pull import models_folder, pulled
    from promptopt.report import tables

    _out().print(tables.models((model, pulled(model.name) is not None) for model in CATALOGUE))
    _tell(f"kept in {models_folder()}; PROMPTOPT_MODELS names another folder")


@command(models, "pull")
def pull_model(name: Annotated[str, typer.Argument(metavar="NAME", help="Such as qwen2.5-coder-0.5b.")]) -> None:
    """Fetch a local model, or finish fetching it, and check it."""
    from promptopt.report.progress import pull_shown

    _out().print(str(pull_shown(name)), soft_wrap=True)


@app.callback(invoke_without_command=True)
def promptopt(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        from importlib.metadata import version as version_of

        print(f"promptopt {version_of('promptopt-engine')}")
        raise typer.Exit


@contextmanager
def _settings(path: Path, overrides: list[str] | None, kind: type[F]) -> Generator[F]:
    """The config at `path`. An error about one of its settings that the block raises gets its file and line."""
    from promptopt.config import load

    config = load(path, overrides or (), kind=kind)
    try:
        yield config
    except ConfigError as error:
        raise config.located(error) if error.key else error from None


@contextmanager
def _watched(name: str) -> Generator[Watch]:
    """A display of a run's progress; Ctrl-C lets what is in flight finish."""
    from promptopt.execute.interrupt import Interruptible
    from promptopt.report.progress import watching

    with watching(Console(stderr=True), name) as shown, Interruptible(shown) as watch:
        yield watch


def _fetch_models(job: Job) -> None:
    """Pull what `job` needs and this machine lacks, so that a run does not begin with an hour's silence."""
    from promptopt.lm.provider import LOCAL
    from promptopt.lm.pull import pulled
    from promptopt.report.progress import pull_shown

    for lm in job.lms.values():
        if lm.name.startswith(LOCAL) and pulled(lm.name) is None:
            pull_shown(lm.name)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def _explained(error: Exception) -> int:
    """Say what went wrong, once, and return the exit code."""
    if isinstance(error, PromptoptError):
        _tell(f"error: {error}")
        return USER_ERROR if isinstance(error, UserError) else FAILED
    _tell(f"error: {type(error).__name__}: {error}. This should not happen; {DEBUG}=1 shows where it does.")
    return FAILED


def _tell(message: str) -> None:
    from promptopt.report.figures import clean

    print(clean(message), file=sys.stderr, flush=True)


def _out() -> Console:
    return Console(highlight=False, markup=False, emoji=False)
