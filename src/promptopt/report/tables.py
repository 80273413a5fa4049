"""What the shorter commands print: a plan, an evaluation, a comparison, the runs of a folder, the local models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from promptopt.comparison import Comparison, Evaluation
from promptopt.core.budget import Spend
from promptopt.core.guard import p_value
from promptopt.core.sealed import opened_before
from promptopt.distillation.plan import DistillPlan
from promptopt.lm.catalogue import LICENCE, LocalModel
from promptopt.planning import Plan, Proposal
from promptopt.report.distilled import Distilled, Underway
from promptopt.report.figures import count, dollars, duration, gain, interval, line, said, score
from promptopt.report.folder import Found, Run
from promptopt.report.scores import OPTIMISTIC, known, level, mean
from promptopt.result import Result


def table(*columns: str, words: int = 1) -> Table:
    """A table whose first `words` columns are words and whose others are figures."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    for number, name in enumerate(columns):
        figures = number >= words
        made.add_column(name, justify="right" if figures else "left", no_wrap=figures)
    return made


def plan(made: Plan | DistillPlan) -> Group:
    """Rows, the worst case of each part, and what the test can show."""
    rows = ", ".join(f"{name} {rows:,}" for name, rows in made.rows.items())
    parts: list[RenderableType] = [Text(f"Rows: {rows}" + _duplicates(made))]
    parts += [Text.assemble(("warning: ", "yellow"), said(warning)) for warning in made.warnings]
    worst = table("at most, each call tried once", "rollouts", "calls", "tokens", "dollars")
    if isinstance(made, DistillPlan):
        steps = [(part.name, part.spend) for part in made.parts]
    else:
        steps = [
            ("the current prompt on val", made.baseline),
            ("one proposal", made.step),
            ("the sealed test, set aside", made.test),
        ]
    for name, spend in steps:
        _add(worst, name, spend)
    _add(worst, "the whole run", made.whole, "bold")
    shows = made.power.sentence if isinstance(made, DistillPlan) else _power(made)
    parts += [Text(), worst, Text(), Text(shows)]
    if isinstance(made, Plan) and made.proposal is not None:
        parts.append(Text(_more_power(made.proposal)))
    return Group(*parts)


def _duplicates(made: Plan | DistillPlan) -> str:
    return f"; {count(made.duplicates, 'exact duplicate')}, kept on one side" if made.duplicates else ""


def _add(worst: Table, name: str, spend: Spend, style: str = "") -> None:
    worst.add_row(name, f"{spend.rollouts:,}", f"{spend.calls:,}", f"{spend.tokens:,}", dollars(spend.usd), style=style)


def _power(made: Plan) -> str:
    rows = count(made.rows["test"], "test row")
    if not made.rows["test"]:
        return "There are no test rows, so the verdict will be INCONCLUSIVE."
    before = f" They were{opened_before(made.opening)}." if made.opening > 1 else ""
    if made.detectable is None:
        return f"{rows} can show no gain any more.{before} Take others."
    shows = f"{rows} show a gain of {made.detectable:.2f} or more 4 times in 5; smaller ones are likely INCONCLUSIVE."
    return shows + before


def _more_power(better: Proposal) -> str:
    sizes = f"{{train: {better.train}, val: {better.val}, test: {better.test}}}"
    shows = f", and would show {better.detectable:.2f}" if better.detectable else ""
    return f"The data has more rows: data.split: {sizes} would use all of them{shows}."


def evaluation(made: Evaluation) -> Group:
    """One candidate's score on one split."""
    value = Text.assemble((score(made.mean), "bold"), f" on {count(made.rows, made.split + ' row')}")
    if made.ci is not None:
        value.append(f", 95 % interval {made.ci[0]:.3f} to {made.ci[1]:.3f}")
    parts: list[RenderableType] = [value]
    if made.split != "test":
        parts.append(Text(f"{OPTIMISTIC}, if the candidate was made or chosen with these rows", style="dim"))
    for kind, rows in made.failures.items():
        message = next(r.failure.message for r in made.rollouts if r.failure and r.failure.kind == kind)
        parts.append(Text.assemble(f"{count(rows, 'row')} without a score: ", said(f"{kind}: {line(message)}")))
    spent = made.spent
    cost = f"{spent.rollouts:,} rollouts, {spent.calls:,} calls, {spent.tokens:,} tokens, {dollars(spent.usd)}"
    parts.append(Text(f"candidate {made.candidate.id}; spent on evaluations so far: {cost}", style="dim"))
    return Group(*parts)


def comparison(made: Comparison) -> Group:
    """The second run's candidate against the first's."""
    found, (first, second) = made.result, made.names
    rows = table("", "score")
    rows.add_row(said(first), score(found.baseline))
    rows.add_row(said(second), score(found.best))
    shown = f"difference {gain(found.diff)}, {level(found)} {interval(found.ci)} ({found.method}; {p_value(found)})"
    kind = "unseen in the search" if made.split == "test" else OPTIMISTIC
    where = f"on {count(found.n, made.split + ' row')} that both have scored ({kind})"
    return Group(rows, Text(), Text(shown, style="bold"), Text(f"{where}. Exploratory: no verdict.", style="dim"))


def runs(found: Sequence[Run]) -> Table:
    """A folder's runs, the latest first."""
    made = table("run", "state", "val", "test", "rollouts", "dollars", "age", words=2)
    for run in found:
        made.add_row(said(run.name), *_run(run), duration(run.age))
    return made


def _run(run: Run) -> Iterator[RenderableType]:
    if run.found is None:
        yield said(line(run.problem, 60), "red")
        yield from [""] * 4
        return
    state, val, test, spent = _figures(run.found)
    yield Text(state if run.condition == "finished" else run.condition)
    yield val
    yield test
    yield f"{spent.rollouts:,}"
    yield dollars(spent.usd)


def _figures(found: Found) -> tuple[str, str, str, Spend]:
    """How the run ended, its scores on val and test, and what it cost; of a distillation those of the model chosen."""
    match found:
        case Result():
            val, test = mean(known(found, found.leader)), found.test["best"] if found.test else None
            return found.verdict, score(val), score(test), found.spent
        case Distilled():
            return found.word, "", score(found.use), found.spent.spend
        case Underway():
            return "", score(found.attempts[0].val), "", found.spent


def models(known: Iterable[tuple[LocalModel, bool]]) -> Table:
    """Local models, and whether each is on this machine."""
    made = table("model", "licence", "here", "size", "about", words=3)
    made.columns[-1].justify, made.columns[-1].no_wrap = "left", False
    for model, here in known:
        place = Text("yes", style="green") if here else Text("no", style="dim")
        made.add_row(f"local/{model.name}", LICENCE, place, f"{model.size / 1e6:,.0f} MB", model.about)
    return made
