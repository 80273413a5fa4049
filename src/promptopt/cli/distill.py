"""`promptopt distill`: from a dear model to a cheaper one, with a certificate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from promptopt.cli.command import ConfigFile, Overrides, console, fetch_models, opened, watched


def distill(
    config: ConfigFile,
    set_: Overrides = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="The run directory, in place of run.dir.", show_default=False)
    ] = None,
) -> None:
    """Move a program to the cheapest model that does its job as well; goes on with a run that stands there."""
    from promptopt.config.distill import DistillConfig
    from promptopt.distill_api import distill_job
    from promptopt.distill_job import distilling
    from promptopt.report.distillation import distillation

    with opened(config, set_, DistillConfig) as settings, watched(settings.name) as watch:
        work = distilling(settings)
        if run_dir is not None:
            work = replace(work, job=replace(work.job, directory=run_dir))
        fetch_models(work.job)
        made = distill_job(work, watch)
    console().print(distillation(made))
