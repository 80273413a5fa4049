"""The sentences and rows of a distillation, for every kind of report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from promptopt.core.budget import Spend
from promptopt.core.example import text_of
from promptopt.report.changes import Changes, changes
from promptopt.report.distilled import Arm, Cascade, Distilled, Regression, Student, Underway, Verified
from promptopt.report.figures import clean, count, dollars, gain, interval, line, score

QUALITY_COLUMNS = ("sealed test", "verdict", "before", "after", "difference", "interval")
COST_COLUMNS = ("measured", "$ per 1,000", "$ a month", "factor", "tokens in", "out", "p50", "p95")
SLICE_COLUMNS = ("slice", "rows", "teacher", "student", "difference", "p, corrected")
SLICE_NOTE = (
    "The surest losses first. Exploratory: p values are corrected over a student's slices, and certify nothing."
)
REGRESSION_COLUMNS = ("row", "asked", "right", "teacher", "student")
CERTIFICATE_COLUMNS = ("", "teacher", "student", "prompt", "test rows")
CERTIFICATE_NOTE = "Another model version, prompt or kind of rows: promptopt distill --verify RUN_DIR tests it again."
SLICES = 8
"""Slices of a student that are shown."""
ATTEMPT_COLUMNS = ("with the teacher's prompt", "val", "rows", "steps of search")
VERIFIED_COLUMNS = ("on these rows", "score", "$ per 1,000", "p95")
UNKNOWN = "–"


@dataclass(frozen=True, slots=True)
class QualityRow:
    """One model, as shown."""

    name: str
    lm: str
    """Where the name does not say it."""
    cells: tuple[str, str, str, str]
    verdict: str
    chosen: bool = False


def headline(made: Distilled) -> tuple[str, str]:
    """What to do, and what that rests on."""
    if made.assay and not made.assay.holds:
        return (
            "Nothing can be certified",
            "The rows cannot tell a good prompt from a stripped one: stay with the teacher.",
        )
    if made.recommendation is None:
        return "Stay with the teacher", "No student is shown to do the job as well at no higher cost."
    lead = f"Switch to {made.chosen.name if made.chosen else made.recommendation.lm}"
    return lead, made.recommendation.sentence.removeprefix(lead).lstrip(". ")


def quality_rows(made: Distilled) -> Iterator[QualityRow]:
    """The teacher's and every student's score, and the difference with its interval."""
    yield QualityRow("teacher", line(made.teacher.lm, 60), ("", score(made.teacher.test), "", ""), "")
    for one in made.students:
        found = interval(one.ci) if one.ci else UNKNOWN
        cells = score(one.before), score(one.after), gain(one.diff), found
        yield QualityRow(_name(one), _lm(one), cells, one.verdict, one is made.chosen)
    if (two := made.cascade) and two.verdict:
        cells = "", score(two.test), gain(two.diff), interval(two.ci) if two.ci else UNKNOWN
        yield QualityRow(_pair(two), "", cells, two.verdict, made.recommendation is not None and made.chosen is None)


def cost_rows(made: Distilled) -> Iterator[tuple[str, ...]]:
    """What a request costs and how long it takes, in the cells of COST_COLUMNS."""
    yield "teacher", *_cost(made.teacher, "1")
    for one in made.students:
        yield _name(one), *_cost(one, f"{one.cost_factor:.3g}" if one.cost_factor else UNKNOWN)
    if (two := made.cascade) and two.verdict:
        yield _pair(two), *_cost(two, f"{two.cost_factor:.3g}" if two.cost_factor else UNKNOWN)


def reasons(made: Distilled) -> Iterator[tuple[str, str]]:
    """By student, what its verdict rests on and what else is to be known."""
    for one in made.students:
        said = [one.reason]
        if one.note:
            said.append(f"It was not searched further: {one.note}.")
        yield _name(one), clean(" ".join(filter(None, said)))
    if two := made.cascade:
        sent = "" if two.escalated is None else f"The teacher answers {100 * two.escalated:.0f} % of the requests."
        yield _pair(two), clean(" ".join(filter(None, [two.reason, sent, two.note])))


def notes(made: Distilled) -> Iterator[str]:
    """How far the rows and the teacher itself can be trusted."""
    if made.assay:
        word = "can" if made.assay.holds else "CANNOT"
        scores = f"{made.assay.teacher:.3f} on val, a stripped prompt {made.assay.weak:.3f}"
        yield f"The rows {word} tell good from bad: the teacher scores {scores} (p = {made.assay.p:.2g})."
    if made.teacher.self_agreement is not None:
        same = f"{100 * made.teacher.self_agreement:.0f} %"
        yield f"Asked again, the teacher answers {same} of val rows alike; no student can agree with it more."
    yield from map(clean, made.remarks)


def slice_rows(made: Distilled) -> Iterator[tuple[str, ...]]:
    """By student, the slices with the surest losses, in the cells of SLICE_COLUMNS."""
    for one in made.students:
        for part in one.slices[:SLICES]:
            name = f"{_name(one)}, {line(part.column, 24)}: {line(part.value, 40)}"
            diff = gain(part.student - part.teacher)
            yield name, f"{part.n:,}", score(part.teacher), score(part.student), diff, f"{part.p:.2g}"


def regressions(made: Distilled, most: int | None = None) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """By student and how many there are, the rows that it does worse, at most so many, as REGRESSION_COLUMNS says."""
    for one in made.students:
        if shown := one.regressions[:most]:
            listed = f", the worst {len(shown)}" if one.worse_on > len(shown) else ""
            yield f"{_name(one)}: {count(one.worse_on, 'row')}{listed}", [_regression(row) for row in shown]


def _regression(row: Regression) -> tuple[str, ...]:
    asked = "; ".join(text_of(value) for value in row.inputs.values())
    right = UNKNOWN if row.expected is None else line(text_of(row.expected), 200)
    return line(row.id, 24), line(asked, 300), right, line(row.teacher, 300), line(row.student, 300)


def certificate_rows(made: Distilled) -> Iterator[tuple[str, ...]]:
    """What each certificate is bound to, in the cells of CERTIFICATE_COLUMNS."""
    for one in made.students:
        if bound := one.certificate:
            models = (line(", ".join(model.reported) or model.lm, 60) for model in (bound.teacher, bound.student))
            yield _name(one), *models, bound.prompt, bound.data[:12]


def changed(made: Verified) -> tuple[str, ...]:
    """What is no longer as it was certified, in sentences."""
    return made.changed or ("Models, prices and rows are as they were certified.",)


def verified_rows(made: Verified) -> Iterator[tuple[str, ...]]:
    """Teacher and student as they were tested again, in the cells of VERIFIED_COLUMNS."""
    behind = "" if made.escalated is None else f", else the teacher ({100 * made.escalated:.0f} %)"
    yield "teacher", score(made.teacher), _dollars(made.teacher_usd_per_1000), _wait(made.teacher_latency_p95)
    yield f"{line(made.student, 48)}{behind}", score(made.after), _dollars(made.usd_per_1000), _wait(made.latency_p95)


def verified_note(made: Verified) -> str:
    """How often the rows were opened, and what that cost."""
    opening = "opened once" if made.opening == 1 else f"opening {made.opening} of these rows, tested more strictly"
    return f"{opening}; {spending(made.spent.spend)}"


def prompts(made: Distilled) -> Iterator[tuple[str, Changes]]:
    """By student, what its prompt says that the teacher's does not."""
    if made.baseline is None:
        return
    for one in made.students:
        found = changes(made.baseline, one.candidate)
        if found.texts or found.demos:
            yield _name(one), found


def attempt_rows(made: Underway) -> Iterator[tuple[str, ...]]:
    """How far each model of an unfinished distillation has come, in the cells of ATTEMPT_COLUMNS."""
    for one in made.attempts:
        yield line(one.name, 48), score(one.val), f"{one.rows:,}", f"{one.steps:,}" if one.steps else ""


def spending(spent: Spend) -> str:
    """What was spent, in a line."""
    return f"{count(spent.rollouts, 'rollout')}, {count(spent.calls, 'call')}, {dollars(spent.usd)}"


def _name(student: Student) -> str:
    return line(student.name, 48)


def _pair(cascade: Cascade) -> str:
    return f"{line(cascade.student, 40)}, else the teacher" if cascade.student else "a cascade"


def _lm(student: Student) -> str:
    return "" if student.name == student.lm else line(student.lm, 60)


def _cost(arm: Arm, factor: str) -> tuple[str, ...]:
    prices = map(_dollars, (arm.usd_per_1000, arm.usd_per_month))
    tokens = (UNKNOWN if figure is None else f"{figure:,.0f}" for figure in (arm.tokens_in, arm.tokens_out))
    return *prices, factor, *tokens, *map(_wait, (arm.latency_p50, arm.latency_p95))


def _dollars(usd: float | None) -> str:
    return UNKNOWN if usd is None else dollars(usd)


def _wait(milliseconds: float | None) -> str:
    return UNKNOWN if milliseconds is None else f"{milliseconds:,.0f} ms"
