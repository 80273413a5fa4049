"""Outputs of a sealed test for people to judge, blind to which prompt made them, and what they said of them.

A judge's mistakes do not favour both prompts alike. People's labels on a random part of the test rows say how far they
favour one, and the verdict is corrected by that much (prediction-powered inference, see `stats.ppi`).
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random

from promptopt.core.example import Example, text_of
from promptopt.core.rollout import Rollout
from promptopt.core.sealed import PeopleScores
from promptopt.data import Dataset
from promptopt.errors import DataError, UserError
from promptopt.judges.answers import Answer
from promptopt.judges.judge import Judge
from promptopt.metrics.metric import Metric

LINE, OUTPUT, LABEL, REASON = "line", "output", "label", "reason"
"""Columns of a sheet beside the row's inputs: what identifies a line, what is judged, and what people fill in."""

_FORMULA = re.compile(r"[=@\t\r]|[+-](?!\s*[\d.,]+\s*$)")
"""How a cell begins that a spreadsheet takes for a formula; a number with a sign is none."""

FEWEST_LABELS = 10
"""Rows with labels of both outputs below which nothing is corrected."""


def scale_of(metric: Metric) -> Answer:
    """What people may write: what the judge may answer; a number from 0 to 1 where several things make the score."""
    return metric.asked[""].scale if isinstance(metric, Judge) and not metric.criteria else Answer.of("number")


def sheet(rows: Sequence[Example], rollouts: Iterable[Rollout], most: int, seed: int) -> str:
    """A CSV with both prompts' outputs on `most` rows that are drawn at random, in random order.

    Raises UserError where there are no rows on which both have an output.
    """
    outputs: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        if rollout.failure is None:
            outputs.setdefault(rollout.example_id, []).append(rollout)
    both = [row for row in rows if len(outputs.get(row.id, ())) == 2]
    if not both:
        raise UserError("there is nothing to label: the sealed test has not run, or every row of it failed")
    rng = Random(f"{seed}/sheet")
    chosen = rng.sample(both, min(most, len(both)))
    lines = [(row, rollout) for row in chosen for rollout in outputs[row.id]]
    rng.shuffle(lines)
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow([LINE, *(f"input: {name}" for name in rows[0].inputs), OUTPUT, LABEL, REASON])
    for row, rollout in lines:
        shown = [_inert(text_of(value)) for value in (*row.inputs.values(), rollout.output)]
        table.writerow([line_of(rollout), *shown, "", ""])
    return written.getvalue()


def _inert(text: str) -> str:
    """`text` as a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def read_sheet(path: Path, answer: Answer, rollouts: Iterable[Rollout], baseline: str) -> PeopleScores:
    """What people said, as scores of the rows whose both outputs they judged.

    Raises DataError, with the row, for a line of another run and a label that is no answer; UserError for no label.
    """
    known = {line_of(rollout): rollout for rollout in rollouts}
    found: dict[str, dict[bool, float]] = {}
    rows = Dataset.read(path, inputs=LINE).examples
    if not any(LABEL in row.meta for row in rows):
        raise DataError(f"there is no column {LABEL!r} with what people say", file=str(path), column=LABEL)
    for number, row in enumerate(rows, 1):
        label = text_of(row.meta.get(LABEL, "")).strip()
        rollout = known.get(str(row.inputs[LINE]))
        if rollout is None:
            raise DataError(
                f"{row.inputs[LINE]!r} is no line of this run's sheet", file=str(path), row=number, unit="row"
            )
        if not label:
            continue
        try:
            value = answer.score(answer.from_cell(label))
        except ValueError as error:
            raise DataError(f"the label is no answer: {error}", file=str(path), row=number, unit="row") from None
        said = found.setdefault(rollout.example_id, {})
        if said.setdefault(rollout.candidate_id == baseline, value) != value:
            raise DataError(f"{row.inputs[LINE]!r} has another label above", file=str(path), row=number, unit="row")
    scores = {row: (said[True], said[False]) for row, said in found.items() if len(said) == 2}
    if not scores:
        raise UserError(f"{path} has no row whose two outputs both have a label")
    return scores


def line_of(rollout: Rollout) -> str:
    """What a line of a sheet is called: it does not tell which prompt made the output, and no spreadsheet takes it for
    a number, as it would 123456789e12."""
    digest = hashlib.blake2b(f"{rollout.candidate_id}/{rollout.example_id}".encode(), digest_size=6)
    return f"line-{digest.hexdigest()}"
