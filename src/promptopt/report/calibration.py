"""What `promptopt judge` prints: how far a judge agrees with people, and what aligning it brought."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from promptopt.calibration import NEAR, Alignment, Calibration, Measured
from promptopt.core.guard import MIN_GROUPS
from promptopt.judges.answers import Value
from promptopt.judges.labels import ONLY
from promptopt.judges.trust import GOOD
from promptopt.report.advice import Condition
from promptopt.report.figures import clean, count, dollars, interval, line, said
from promptopt.report.tables import table
from promptopt.report.terminal import summary
from promptopt.stats.estimate import Estimate

SHOWN = 10
"""Disagreements that are shown; calibration.json has them all."""
FIGURES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "kappa": "Cohen's kappa",
    "weighted_kappa": "weighted kappa",
    "alpha": "Krippendorff's alpha, judge and people",
    "people_alpha": "Krippendorff's alpha, people alone",
    "consistency": "asked again, says the same",
    "bias": "scores higher than people by",
}


def calibration(made: Calibration) -> Group:
    """The judge against people: figures with intervals, the confusion, where it is off, what they disagree on."""
    parts: list[RenderableType] = [_headline(made), Text()]
    for name, measured in made.by_criterion.items():
        if name != ONLY:
            parts.append(Text(f"\n{name}", style="bold"))
        parts += _measured(measured)
    spent = made.spent
    parts.append(Text(f"\nspent: {spent.calls:,} calls, {spent.tokens:,} tokens, {dollars(spent.usd)}", style="dim"))
    return Group(*parts)


def alignment(made: Alignment, condition: Condition) -> Group:
    """The verdict on the aligned rubric, and the agreement on held-out labels before and after."""
    parts: list[RenderableType] = [summary(made.result, condition)]
    for name, after in made.after.items():
        if name not in made.before:
            continue
        rows = table("" if name == ONLY else name, "before", "95 % interval", "after", "95 % interval")
        for figure, label in FIGURES.items():
            pair = [getattr(one, figure) for one in (made.before[name], after)]
            if all(one.value is not None for one in pair):
                rows.add_row(label, *(cell for one in pair for cell in _cells(one)))
        parts += [Text(f"\nAgreement on {count(after.n, 'held-out label')}", style="bold"), rows]
    return Group(*parts)


def _headline(made: Calibration) -> Text:
    groups = next(iter(made.by_criterion.values())).groups
    left_out = [f"{made.missing:,} without an answer of the judge"] if made.missing else []
    left_out += [f"{made.tied:,} on which people are divided"] if made.tied else []
    text = Text.assemble(
        (clean(made.judge.lm), "bold"),
        f" against {count(made.raters, 'rater')} on {count(made.n, 'row')}",
        f" in {count(groups, 'group')}, which the intervals count" if groups is not None else "",
        f"; left out: {', '.join(left_out)}" if left_out else "",
    )
    for kind, rows in made.failures.items():
        text.append(f"\n{count(rows, 'row')} failed: {clean(kind)}")
    return text


def _measured(measured: Measured) -> Iterator[RenderableType]:
    rows = table("", "", "95 % interval")
    for figure, label in FIGURES.items():
        estimate: Estimate = getattr(measured, figure)
        if estimate.value is not None:
            rows.add_row(label, *_cells(estimate))
    yield rows
    if measured.position is not None:
        net, ends = measured.position.net, interval(measured.position.ci)
        yield Text(f"A text does better when it stands first, by {net:+.3f} ({ends}).")
    yield Text(_meaning(measured), style="bold")
    if measured.confusion:
        yield Text("\nPeople's answer by row, the judge's by column")
        yield Padding(_confusion(measured.confusion), (0, 0, 0, 2))
    yield from _slices(measured)
    yield from _disagreements(measured)


def _cells(estimate: Estimate) -> tuple[str, str]:
    ends = "" if estimate.ci is None else f"{estimate.ci[0]:.3f} to {estimate.ci[1]:.3f}"
    return f"{estimate.value:.3f}", ends


def _meaning(measured: Measured) -> str:
    """What the figures come to, in a sentence or two."""
    kappa = measured.decisive
    if not measured.n:
        return "There is nothing to compare: on no row is there a usable answer of the judge and one of people."
    if kappa.value is None:
        return "Kappa cannot be told: people or the judge gave one and the same answer throughout. Label more rows."
    settle = measured.rows_to_settle
    more = f" {settle:,} labelled rows would tell kappa to within 0.1." if settle and settle > measured.n else ""
    if measured.groups is not None and measured.groups < MIN_GROUPS:
        more += f" {count(measured.groups, 'group')} tell little: label rows of at least {MIN_GROUPS}."
    if kappa.ci is not None and kappa.ci[0] >= GOOD:
        return f"It agrees with people clearly more than chance would.{more}"
    if kappa.ci is not None and kappa.ci[1] < GOOD:
        return f"It agrees with people hardly more than chance would: do not optimize against it.{more}"
    return f"How far it agrees with people is not settled.{more}"


def _confusion(confusion: Mapping[str, Mapping[str, int]]) -> Table:
    rows = table("", *(line(option, 24) for option in confusion))
    for people, row in confusion.items():
        rows.add_row(line(people, 24), *(f"{times:,}" for times in row.values()))
    return rows


def _slices(measured: Measured) -> Iterator[RenderableType]:
    for column, slices in measured.bias_by_slice.items():
        rows = table(line(column, 24), "rows", "scores higher than people by", "95 % interval", "p, corrected")
        for one in slices:
            p = "–" if one.p is None else f"{one.p:.2g}"
            rows.add_row(line(one.name, 40), f"{one.rows:,}", f"{one.bias:+.3f}", interval(one.ci), p)
        yield Text()
        yield rows


def _disagreements(measured: Measured) -> Iterator[RenderableType]:
    found = measured.disagreements
    if not found:
        return
    far = f" by more than {NEAR:g}" if isinstance(found[0].people, float) else ""
    yield Text(f"\nPeople and the judge disagree{far} on {count(len(found), 'row')}", style="bold")
    rows = Table.grid(padding=(0, 2))
    for one in found[:SHOWN]:
        shown = "; ".join(f"{name}: {value}" for name, value in one.inputs.items())
        rows.add_row(
            line(one.id, 16), f"people {_answer(one.people)}", f"judge {_answer(one.judge)}", said(line(shown))
        )
    yield rows
    if len(found) > SHOWN:
        yield Text(f"… and {len(found) - SHOWN:,} more in calibration.json.", style="dim")


def _answer(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else line(value, 20)
