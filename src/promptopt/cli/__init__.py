"""The command line: one function a command.

What a command finds goes to standard output, what happens meanwhile to standard error. Exit codes: 0 done, 2 a config
or data error, 3 the required verdict was not reached, 130 interrupted, 1 anything else.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
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
from promptopt.cli.export import export
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
    from promptopt.config.distill import kind_of
    from promptopt.job import Job
    from promptopt.report import terminal
    from promptopt.report.folder import condition_of

    if kind_of(config) is not Config:
        raise UserError(f"{config} names students, so it is a distillation: promptopt distill {config}")
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
    from promptopt.config.distill import kind_of
    from promptopt.report import tables

    with opened(config, set_, kind_of(config)) as settings:
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
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it as one HTML page.", show_default=False)
    ] = None,
) -> None:
    """Say what happened in a run, also while it is at work; rebuilt from its ledger."""
    from promptopt.report import terminal
    from promptopt.report.distillation import distillation
    from promptopt.report.folder import condition_of, look_into
    from promptopt.result import Result

    found = look_into(run_dir)
    condition = condition_of(found)
    if html is not None:
        from promptopt.report.html import page

        write(html, page(found, condition))
        tell(f"written to {html}")
    if json_:
        print(json.dumps(found.to_json(), indent=2))
    elif html is None:
        shown = terminal.report(found, condition) if isinstance(found, Result) else distillation(found, condition)
        console().print(shown)


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


command(app, "export")(export)


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
