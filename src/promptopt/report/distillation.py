"""The report of a distillation, for a terminal: what to switch to, and what that rests on."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from promptopt.report.advice import Condition
from promptopt.report.distilled import Distilled, Underway, Verified
from promptopt.report.figures import duration, line, said
from promptopt.report.front import front_of
from promptopt.report.sketch import COLOURS, sketch
from promptopt.report.students import (
    ATTEMPT_COLUMNS,
    COST_COLUMNS,
    QUALITY_COLUMNS,
    SLICE_COLUMNS,
    VERIFIED_COLUMNS,
    attempt_rows,
    changed,
    cost_rows,
    headline,
    notes,
    quality_rows,
    reasons,
    regressions,
    slice_rows,
    spending,
    verified_note,
    verified_rows,
)
from promptopt.report.tables import table

SHOWN = 5
"""Rows of a student that are shown; the page that --html writes shows more."""


def distillation(made: Distilled | Underway, condition: Condition = "finished") -> Group:
    """The recommendation, quality, the front, cost and every student's reason; or how far it has come."""
    return _underway(made, condition) if isinstance(made, Underway) else Group(*_sections(made))


def _sections(made: Distilled) -> Iterator[RenderableType]:
    style = "green" if made.recommendation else "yellow"
    lead, rest = headline(made)
    text = Text.assemble(said(lead, f"bold {style}"), ": ", said(rest))
    yield Panel(text, title=Text(line(made.name, 40)), title_align="left", border_style=style)
    yield from _section("Quality", _quality(made), *_reasons(made))
    if front := front_of(made):
        yield from _section("Quality against cost", *sketch(front))
    yield from _section("Cost", _cost(made))
    yield from _section("By slice, the surest losses first; exploratory", *_slices(made))
    yield from _section("Rows that a student does worse, to read", *_regressions(made))
    yield from _section("How far to trust it", *map(Text, notes(made)))
    spent = f"{spending(made.spent.spend)}; {duration(made.spent.seconds)} of wall-clock."
    yield from _section("Spent", Text(spent))
    if made.verified:
        yield from _section("Tested again since", verification(made.verified))


def _section(title: str, *body: RenderableType) -> Iterator[RenderableType]:
    if body:
        yield Text(f"\n{title}", style="bold")
        yield from (Padding(part, (0, 0, 0, 2)) for part in body)


def _quality(made: Distilled) -> RenderableType:
    rows = table(*QUALITY_COLUMNS, words=2)
    rows.columns[0].overflow = "fold"
    for one in quality_rows(made):
        verdict = Text(one.verdict, COLOURS.get(one.verdict, ""))
        rows.add_row(one.name, verdict, *one.cells, style="bold" * one.chosen)
    models = "; ".join(f"{one.name}: {one.lm}" for one in quality_rows(made) if one.lm)
    rows.caption, rows.caption_justify = Text(models, style="dim"), "left"
    return rows


def _reasons(made: Distilled) -> Iterator[RenderableType]:
    for name, reason in reasons(made):
        yield Text.assemble((f"{name}: ", "bold"), said(reason))


def _cost(made: Distilled) -> RenderableType:
    rows = table(*(name.replace("$ ", "$\xa0").replace(" ", "\n") for name in COST_COLUMNS))
    rows.columns[0].overflow, rows.collapse_padding = "fold", True
    for cells in cost_rows(made):
        rows.add_row(*map(Text, cells))
    return rows


def _slices(made: Distilled) -> Iterator[RenderableType]:
    found = list(slice_rows(made))
    if found:
        rows = table(*SLICE_COLUMNS)
        for cells in found:
            rows.add_row(*map(Text, cells))
        yield rows


def _regressions(made: Distilled) -> Iterator[RenderableType]:
    for name, found in regressions(made, SHOWN):
        yield Text(name, "bold")
        rows = Table.grid(padding=(0, 2))
        for row, asked, _, teacher, student in found:
            rows.add_row(row, line(asked, 100), f"teacher {line(teacher, 30)}", f"student {line(student, 30)}")
        yield rows


def _underway(made: Underway, condition: Condition) -> Group:
    word, style = condition.upper(), "cyan" if condition == "running" else "yellow"
    again = "" if condition == "running" else "\nRun the same command again to go on: nothing is paid for twice."
    text = Text.assemble((word, f"bold {style}"), f": {made.stage}{again}")
    rows = table(*ATTEMPT_COLUMNS)
    for cells in attempt_rows(made):
        rows.add_row(*map(Text, cells))
    spent = Text(f"{spending(made.spent)}; {duration(made.seconds)} of wall-clock.", "dim")
    return Group(Panel(text, title=Text(line(made.name, 40)), title_align="left", border_style=style), rows, spent)


def verification(made: Verified) -> Group:
    """Whether a certificate still holds, and what is no longer as it was."""
    style = COLOURS[made.verdict]
    text = Text.assemble((made.verdict, f"bold {style}"), ": ", said(made.reason, "bold"))
    for sentence in changed(made):
        text.append("\n").append_text(said(sentence))
    rows = table(*VERIFIED_COLUMNS)
    for cells in verified_rows(made):
        rows.add_row(*map(Text, cells))
    rows.caption, rows.caption_justify = Text(verified_note(made), style="dim"), "left"
    return Group(Panel(text, title=Text(line(made.student, 40)), title_align="left", border_style=style), rows)
