"""The command line: one function a command.

What a command finds goes to standard output, what happens meanwhile to standard error. Exit codes: 0 done, 2 a config
or data error, 3 the required verdict was not reached, 130 interrupted, 1 anything else.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from promptopt.cli.command import (
    INTERRUPTED,
    NOT_REACHED,
    ConfigFile,
    Overrides,
    RunDir,
    command,
    console,
    fetch_models,
    opened,
    tell,
    watched,
    write,
)
from promptopt.cli.distill import distill
from promptopt.cli.judge import judges
from promptopt.errors import UserError

app = typer.Typer(
    help="Searches for better prompts under hard budgets, and proves on unseen rows that they are better.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # which is what makes help start quickly
    context_settings={"help_option_names": ["-h", "--help"]},
)
models = typer.Typer(help="Local models, for names such as local/qwen2.5-coder-0.5b.", no_args_is_help=True)
app.add_typer(models, name="models")
app.add_typer(judges, name="judge")


def main() -> None:
    """The entry point of `promptopt`."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a prompt may hold what the terminal cannot show
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


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

    with opened(config, set_, Config) as settings, watched(settings.name) as watch:
        job = Job.from_config(settings)
        job = job if run_dir is None else replace(job, directory=run_dir)
        fetch_models(job)
        result = optimize_job(job, watch)
    out, condition = console(), condition_of(result)
    out.print((terminal.report if out.is_terminal else terminal.summary)(result, condition))
    if condition != "finished":
        raise typer.Exit(INTERRUPTED)
    if require == "promote" and result.verdict != "PROMOTE":
        raise typer.Exit(NOT_REACHED)


command(app, "distill")(distill)


@command(app, "plan")
def plan(config: ConfigFile, set_: Overrides = None) -> None:
    """Say what a run would do and spend at most, and what its test can show. Spends nothing."""
    from promptopt import api
    from promptopt.config import Config
    from promptopt.report import tables

    with opened(config, set_, Config) as settings:
        made = api.plan(settings)
    console().print(tables.plan(made))


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

    with opened(config, set_, Config) as settings:
        fetch_models(Job.from_config(settings))
        made = api.evaluate(settings, candidate, split)
    console().print(tables.evaluation(made))


@command(app, "compare")
def compare(run_a: RunDir, run_b: RunDir) -> None:
    """Compare two runs' recommended candidates on the rows that both have scored."""
    from promptopt.comparison import compare as compare_runs
    from promptopt.report import tables

    console().print(tables.comparison(compare_runs(run_a, run_b)))


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
        console().print(terminal.report(result, condition_of(result)))


@command(app, "runs")
def runs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to look, and in what is below.")] = Path("runs"),
) -> None:
    """List the runs of a folder."""
    from promptopt.report import tables
    from promptopt.report.folder import runs_below

    found = runs_below(folder)
    if found:
        console().print(tables.runs(found))
    else:
        tell(f"there are no runs below {folder}")


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
        tell(f"{result.verdict}: this is the current prompt; --candidate best takes the champion of val")
    text = {"text": as_text, "json": as_json, "dspy": partial(as_dspy, run_dir)}[format_](chosen)
    if format_ == "dspy" and chosen.settings:
        said = ", ".join(f"{name}={value}" for name, value in chosen.settings.items())
        tell(f"settings found: {said}. They are in the file where your code makes the dspy.LM; else give them to yours")
    if output is not None:
        write(output, text)
        tell(f"written to {output}")
    else:
        print(clean(text))


def _export_study(run_dir: Path, output: Path | None) -> None:
    from promptopt.report.study import export_study

    if output is None:
        raise UserError("--format optuna writes a SQLite file: name a new one with --out study.db")
    trials = export_study(run_dir, output)
    tell(f"{trials} trials written to {output}; optuna-dashboard sqlite:///{output} shows them")


@command(app, "init")
def init(directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder, made if need be.")]) -> None:
    """Write a starting config with comments, and rows to try it on."""
    from promptopt.init import init as write_templates

    for path in write_templates(directory):
        console().print(str(path), soft_wrap=True)
    tell(f"next: promptopt plan {directory / 'start.yaml'}")


@command(models, "list")
def list_models() -> None:
    """List the local models, and say which are on this machine."""
    from promptopt.lm.catalogue import CATALOGUE
    from promptopt.lm.pull import models_folder, pulled
    from promptopt.report import tables

    console().print(tables.models((model, pulled(model.name) is not None) for model in CATALOGUE))
    tell(f"kept in {models_folder()}; PROMPTOPT_MODELS names another folder")


@command(models, "pull")
def pull_model(name: Annotated[str, typer.Argument(metavar="NAME", help="Such as qwen2.5-coder-0.5b.")]) -> None:
    """Fetch a local model, or finish fetching it, and check it."""
    from promptopt.report.progress import pull_shown

    console().print(str(pull_shown(name)), soft_wrap=True)


@app.callback(invoke_without_command=True)
def promptopt(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        from importlib.metadata import version as version_of

        print(f"promptopt {version_of('promptopt-engine')}")
        raise typer.Exit
