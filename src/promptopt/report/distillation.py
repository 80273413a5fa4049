"""The report of a distillation, for a terminal: what to switch to, and what that rests on."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from promptopt.distill.cost import Cost
from promptopt.distill.outcome import Distillation, Moved
from promptopt.report.figures import clean, dollars, gain, interval, line, said, score
from promptopt.report.tables import table

COLOURS = {"NON-INFERIOR": "green", "INFERIOR": "red", "INCONCLUSIVE": "yellow"}


def distillation(made: Distillation) -> Group:
    """The recommendation, then quality, cost and every student's reason."""
    parts: list[RenderableType] = [_headline(made), Text(), _quality(made), Text(), _cost(made), Text()]
    return Group(*parts, *_reasons(made))


def _headline(made: Distillation) -> Panel:
    chosen = made.recommendation
    text = said(
        chosen.sentence if chosen else "Stay with the teacher: no student is shown to do the job as well.", "bold"
    )
    return Panel(text, border_style="green" if chosen else "yellow")


def _quality(made: Distillation) -> RenderableType:
    rows = table("on the sealed test", "before", "after", "difference", "interval", "verdict")
    rows.add_row(f"teacher {line(made.teacher, 40)}", score(made.test), "", "", "", "")
    for student in made.students:
        test, verdict = student.certificate.test, student.certificate.outcome
        rows.add_row(
            line(student.name, 48),
            score(student.before),
            score(student.after),
            gain(test.diff) if test else "–",
            interval(test.ci) if test else "–",
            Text(verdict, style=COLOURS[verdict]),
        )
    return rows


def _cost(made: Distillation) -> RenderableType:
    rows = table("measured a request", "dollars per 1,000", "factor", "tokens in", "out", "p50", "p95")
    rows.add_row("teacher", *_cells(made.cost, "1"))
    for student in made.students:
        rows.add_row(
            line(student.name, 48), *_cells(student.cost, f"{student.cost_factor:.3g}" if student.cost_factor else "–")
        )
    return rows


def _cells(cost: Cost | None, factor: str) -> tuple[str, ...]:
    if cost is None:
        return ("–",) * 6
    price = "–" if cost.usd_per_1000 is None else dollars(cost.usd_per_1000)
    tokens = f"{cost.tokens_in:,.0f}", f"{cost.tokens_out:,.0f}"
    return price, factor, *tokens, f"{cost.latency_p50:,.0f} ms", f"{cost.latency_p95:,.0f} ms"


def _reasons(made: Distillation) -> Iterator[RenderableType]:
    if made.assay:
        word = "can" if made.assay.holds else "CANNOT"
        scores = f"{made.assay.teacher:.3f} on val, a stripped prompt {made.assay.weak:.3f}"
        yield Text(f"The rows {word} tell good from bad: the teacher scores {scores} (p = {made.assay.p:.2g}).")
    if made.self_agreement is not None:
        yield Text(f"Asked again, the teacher gives the same answer on {100 * made.self_agreement:.0f} % of val rows.")
    for student in made.students:
        yield Text.assemble((f"{clean(student.name)}: ", "bold"), said(_reason(student)))
    yield Text(f"spent: {made.spent.rollouts:,} rollouts, {made.spent.calls:,} calls, {dollars(made.spent.usd)}", "dim")


def _reason(student: Moved) -> str:
    said_ = [student.certificate.reason]
    if student.note:
        said_.append(f"It was not searched further: {student.note}.")
    if student.too_slow:
        said_.append("It is slower than max_latency_p95_ms allows, so it is not recommended.")
    if student.regressions:
        said_.append(f"The teacher alone is right on rows {', '.join(student.regressions[:5])}.")
    return " ".join(said_)
