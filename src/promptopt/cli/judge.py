"""`promptopt judge`: how far a judge agrees with people, and how to bring it nearer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from promptopt.cli.command import (
    INTERRUPTED,
    ConfigFile,
    Overrides,
    command,
    console,
    fetch_models,
    opened,
    tell,
    watched,
    write,
)
from promptopt.errors import UserError

judges = typer.Typer(help="Judges: how far they agree with people, and how to bring them nearer.", no_args_is_help=True)

JudgeFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="A judge and labels, in YAML.", show_default=False)]


@command(judges, "calibrate")
def calibrate(
    config: JudgeFile,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where calibration.json goes; by default run.dir.")
    ] = None,
    set_: Overrides = None,
) -> None:
    """Measure how far a judge agrees with people's labels; the certificate is for this very judge."""
    from promptopt.config import JudgeConfig
    from promptopt.judge_api import calibrate_job
    from promptopt.judge_job import measuring
    from promptopt.judges.trust import CALIBRATION
    from promptopt.report.calibration import calibration
    from promptopt.report.progress import watching

    # no search whose steps could be drained: Ctrl-C cancels the rows in flight
    with opened(config, set_, JudgeConfig) as settings, watching(Console(stderr=True), settings.name) as watch:
        work = measuring(settings, out)
        fetch_models(work.job)
        made = calibrate_job(work, watch)
    console().print(calibration(made))
    tell(f"written to {work.job.directory / CALIBRATION}")


@command(judges, "align")
def align(
    config: JudgeFile,
    run_dir: Annotated[
        Path | None, typer.Option(help="The run directory, in place of run.dir with -align.", show_default=False)
    ] = None,
    set_: Overrides = None,
) -> None:
    """Improve a judge's own rubric against people's labels, and test it on labels that nobody looked at."""
    from promptopt.config import JudgeConfig
    from promptopt.judge_api import align_job
    from promptopt.judge_job import aligning
    from promptopt.report.calibration import alignment
    from promptopt.report.folder import condition_of

    with opened(config, set_, JudgeConfig) as settings, watched(settings.name) as watch:
        work = aligning(settings, run_dir)
        fetch_models(work.job)
        made = align_job(work, watch)
    condition = condition_of(made.result)
    console().print(alignment(made, condition))
    if condition != "finished":
        raise typer.Exit(INTERRUPTED)


@command(judges, "sheet")
def label_sheet(
    config: ConfigFile,
    output: Annotated[Path, typer.Option("--out", help="The CSV file to write.", show_default=False)],
    rows: Annotated[int, typer.Option(help="Test rows, drawn at random; each stands there twice.", min=1)] = 100,
    set_: Overrides = None,
) -> None:
    """Write outputs of a finished run's test for people to label, without saying which prompt made them."""
    from promptopt import judge_api
    from promptopt.config import Config

    with opened(config, set_, Config) as settings:
        if output.is_file():
            raise UserError(f"{output} is there already, perhaps with people's labels: name another file")
        write(output, judge_api.label_sheet(settings, rows).removesuffix("\n"))
    tell(f"written to {output}; fill in label, then: promptopt judge correct {config} {output}")


@command(judges, "correct")
def correct(
    config: ConfigFile,
    labels: Annotated[Path, typer.Argument(metavar="SHEET", help="The labelled sheet.", show_default=False)],
    set_: Overrides = None,
) -> None:
    """Correct a finished run's verdict by people's labels on a part of its test."""
    from promptopt import judge_api
    from promptopt.config import Config
    from promptopt.report import terminal

    with opened(config, set_, Config) as settings:
        result = judge_api.correct(settings, labels)
    console().print(terminal.summary(result))
