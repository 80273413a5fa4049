"""`promptopt export`: what a run recommends, in the form that it will live in."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from promptopt.cli.command import RunDir, tell, write
from promptopt.errors import UserError

if TYPE_CHECKING:
    from promptopt.report.export import Choice


def export(
    run_dir: RunDir,
    format_: Annotated[
        Literal["text", "json", "dspy", "optuna", "finetune"],
        typer.Option(
            "--format",
            help="For people, for programs, as the state that a DSPy module loads, a joint search's trials as an "
            "Optuna study in a new SQLite file (--out study.db), or accepted traces as chats to tune a model on "
            "(--out FOLDER).",
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
            "or a candidate's id. Of a distillation: recommended, or baseline, which is the teacher's prompt."
        ),
    ] = "recommended",
    student: Annotated[
        str | None,
        typer.Option(help="Of a distillation: this student's prompt, recommended or not.", show_default=False),
    ] = None,
    least: Annotated[
        float, typer.Option("--min-score", min=0, max=1, help="finetune: the least score of a trace that is taken.")
    ] = 1.0,
    with_val: Annotated[bool, typer.Option("--with-val", help="finetune: take val rows as well.")] = False,
) -> None:
    """Print the prompt that a run recommends. On a screen or in a pipe it is cleaned of terminal controls."""
    from promptopt.report.export import as_dspy, as_json, as_text, choice
    from promptopt.report.figures import clean

    if format_ == "optuna":
        _export_study(run_dir, output)
        return
    if format_ == "finetune":
        _export_chats(run_dir, choice(run_dir, candidate, student, or_teacher=True), output, least, with_val)
        return
    chosen = choice(run_dir, candidate, student)
    if chosen.remark:
        tell(chosen.remark)
    text = {"text": as_text, "json": as_json, "dspy": partial(as_dspy, run_dir)}[format_](chosen.candidate)
    if format_ == "dspy" and chosen.candidate.settings:
        said = ", ".join(f"{name}={value}" for name, value in chosen.candidate.settings.items())
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


def _export_chats(run_dir: Path, chosen: Choice, output: Path | None, least: float, with_val: bool) -> None:
    from promptopt.distillation.weights import FEWEST, fine_tuning

    if output is None:
        raise UserError("--format finetune writes two files and a prompt: name a folder with --out FOLDER")
    made = fine_tuning(run_dir, chosen.traced, chosen.candidate, least=least, with_val=with_val)
    made.save(output)
    tell(
        f"{len(made.train)} chats to train on and {len(made.valid)} to validate with are in {output}; {made.refused} "
        f"traces did not pass. Ask the tuned model with {output / 'candidate.json'}"
    )
    if len(made.train) < FEWEST:
        tell(f"OpenAI takes no fewer than {FEWEST}")
