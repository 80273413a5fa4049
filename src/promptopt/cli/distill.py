"""`promptopt distill`: from a dear model to a cheaper one, with a certificate, and whether that still holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from promptopt.cli.command import Overrides, console, fetch_models, opened, tell, watched
from promptopt.errors import UserError


def distill(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="CONFIG", help="The job's YAML file; --verify knows it.", show_default=False),
    ] = None,
    set_: Overrides = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="The run directory, in place of run.dir.", show_default=False)
    ] = None,
    verify: Annotated[
        Path | None,
        typer.Option(metavar="RUN_DIR", help="Test the certificate of a run again.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Fresh rows for --verify; else the test rows again, more strictly."),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Whose certificate --verify tests; else that of what is recommended."),
    ] = None,
    lm: Annotated[
        str | None, typer.Option(metavar="MODEL", help="For --verify: the student's model now, such as a new version.")
    ] = None,
) -> None:
    """Move a program to the cheapest model that does its job as well; goes on with a run that stands there."""
    if verify is not None:
        _verify(config or _config_of(verify), set_, verify, data, student, lm)
    elif config is None:
        raise UserError("name the job's YAML file: promptopt distill CONFIG")
    elif data is not None or student is not None or lm is not None:
        raise UserError("--data, --student and --lm go with --verify RUN_DIR")
    else:
        _distill(config, set_, run_dir)


def _distill(config: Path, set_: list[str] | None, run_dir: Path | None) -> None:
    from promptopt.config.distill import DistillConfig
    from promptopt.distill_api import distill_job
    from promptopt.distill_job import distilling
    from promptopt.report.distillation import distillation

    with opened(config, set_, DistillConfig) as settings, watched(settings.name) as watch:
        work = distilling(settings, run_dir)
        fetch_models(work.job, *(student.lm for student in work.students))
        made = distill_job(work, watch)
    console().print(distillation(made.view))


def _verify(
    config: Path, set_: list[str] | None, run_dir: Path, data: Path | None, student: str | None, lm: str | None
) -> None:
    from promptopt.config.distill import DistillConfig
    from promptopt.distill_api import verify_claim
    from promptopt.distill_job import distilling
    from promptopt.distillation.verify import claim
    from promptopt.report.distillation import verification
    from promptopt.report.distilled import VERIFIED

    with opened(config, set_, DistillConfig) as settings, watched(settings.name) as watch:
        asked = claim(distilling(settings, run_dir), data=data, student=student, lm=lm)
        fetch_models(asked.work.job, asked.student.lm)
        made = verify_claim(asked, watch)
    console().print(verification(made.view))
    tell(f"written to {run_dir / VERIFIED}")


def _config_of(run_dir: Path) -> Path:
    """The config that the run was made with."""
    from promptopt.distillation.verify import CONFIG_FILE
    from promptopt.store.run_dir import reading

    with reading(run_dir) as ledger:
        known = ledger.meta(CONFIG_FILE)
    if known is None or not (run_dir / known).is_file():
        raise UserError(
            f"{run_dir}: its config is not where it was; name it: promptopt distill CONFIG --verify RUN_DIR"
        )
    return (run_dir / known).resolve()
