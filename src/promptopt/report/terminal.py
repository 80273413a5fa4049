"""The report of a run, for a terminal: the verdict first, then what it rests on, then what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from promptopt.core.budget import Spend
from promptopt.core.search import Told
from promptopt.report.advice import Condition, next_steps
from promptopt.report.changes import DemoChange, TextChange, demo_changes, text_changes
from promptopt.report.figures import clean, count, dollars, duration, line, said, score
from promptopt.report.scores import level, method, score_rows
from promptopt.report.tables import table
from promptopt.result import Result

COLOURS = {"PROMOTE": "green", "REJECT": "red", "INCONCLUSIVE": "yellow", "RUNNING": "cyan", "INTERRUPTED": "yellow"}
OUTCOMES = {"baseline": "bold", "won": "green", "lost": "red", "behind": "red"}
TREE_SIZE = 40
"""Candidates that the tree shows; of more, those that won come first."""


def report(result: Result, condition: Condition = "finished") -> Group:
    """Everything there is to say of a run."""
    sections: list[RenderableType] = [verdict(result, condition)]
    sections += _section("Scores", _scores(result))
    sections += _section("The prompt: what changed", *_changes(result))
    sections += _section("Spent", _spent(result, condition))
    sections += _section("Rollouts without a score", *_failures(result))
    sections += _section("Refused proposals", *_refused(result.state.refused))
    sections += _section("Operators", *_operators(result))
    sections += _section("Candidates", *_candidates(result))
    sections += _section("What to do next", *_advice(result, condition))
    return Group(*sections)


def summary(result: Result, condition: Condition = "finished") -> Group:
    """The verdict, the scores and what to do next: for logs."""
    next_up = _section("What to do next", *_advice(result, condition))
    return Group(verdict(result, condition), *_section("Scores", _scores(result)), *next_up)


def verdict(result: Result, condition: Condition = "finished") -> Panel:
    """The outcome in a sentence, and the reasons."""
    if condition == "finished":
        word, (first, *rest) = result.verdict, result.reasons
    else:
        word, rest = condition.upper(), list[str]()
        first = f"{count(len(result.steps), 'step')} so far; the test is still sealed, so there is no verdict yet."
        if result.opened:
            first = "the sealed test is open and not all of its rows have run, so there is no verdict yet."
    text = Text.assemble((word, f"bold {COLOURS[word]}"), ": ", said(first, "bold"))
    for reason in rest:
        text.append("\n").append_text(said(reason))
    return Panel(text, title=Text(line(result.name, 40)), title_align="left", border_style=COLOURS[word])


def _section(title: str, *body: RenderableType) -> list[RenderableType]:
    if not body:
        return []
    return [Text(f"\n{title}", style="bold"), *(Padding(part, (0, 0, 0, 2)) for part in body)]


def _scores(result: Result) -> Table:
    test = result.judged.test
    rows = table("", "current", "new", "difference", level(test))
    for number, row in enumerate(score_rows(result)):
        strong = "bold" if test is not None and number == 0 else ""
        label = Text.assemble((row.label, strong), (f"\n{row.note}" if row.note else "", "dim"))
        rows.add_row(label, row.current, Text(row.new, style=strong), row.difference, row.interval)
    if test is not None:
        _note(rows, method(test))
    return rows


def _note(below: Table, text: str) -> None:
    below.caption, below.caption_justify = Text(text, style="dim"), "left"


def _changes(result: Result) -> Iterator[RenderableType]:
    for change in text_changes(result.baseline, result.best):
        yield _diff(change)
    for change in demo_changes(result.baseline, result.best):
        yield Text(demo_line(change))
    if result.best.id == result.baseline.id:
        yield Text("Nothing: no candidate is ahead of the current prompt on val.")
    elif result.recommended.id == result.baseline.id:
        yield Text("Not recommended: this is the champion of val, shown for comparison.", style="dim")


def _diff(change: TextChange) -> Group:
    styles = {"+": "green", "-": "red", "…": "dim"}
    lines = Table.grid(padding=(0, 1))
    for each in change.lines:
        style = styles.get(each[:1], "")
        lines.add_row(Text(each[:1], style=style), Text(each[2:], style=style))
    return Group(Text(f"{change.component}:"), lines)


def demo_line(change: DemoChange) -> str:
    """One slot's change in a line."""
    parts = [
        f"{count(len(ids), 'demo')} {verb} ({line(', '.join(ids[:5]), 100)}{', …' if len(ids) > 5 else ''})"
        for verb, ids in (("added", change.added), ("removed", change.removed))
        if ids
    ]
    return f"{clean(change.slot)}: {'; '.join(parts)}"


def _spent(result: Result, condition: Condition) -> Table:
    rows = table("", "rollouts", "calls", "cached", "tokens in", "out", "dollars")

    def add(name: str, spend: Spend, rollouts: str, cached: str, style: str = "") -> None:
        figures = (f"{spend.calls:,}", cached, f"{spend.tokens_in:,}", f"{spend.tokens_out:,}", dollars(spend.usd))
        rows.add_row(name, rollouts, *figures, style=style)

    for purpose, spend in result.by_purpose.items():
        if spend.calls:
            add(purpose, spend, "", "")
    add("the whole run", result.spent, f"{result.spent.rollouts:,}", f"{result.spent.cached:,}", "bold")
    ended = f" The search ended: {clean(result.stop_reason)}." if condition == "finished" else ""
    _note(rows, f"{duration(result.seconds)} of wall-clock.{ended}")
    return rows


def _failures(result: Result) -> Iterator[RenderableType]:
    for failed in result.failures:
        yield Text.assemble(
            f"{failed.rows:,} on {failed.split}: ",
            (clean(failed.kind), "bold"),
            ", such as ",
            said(line(failed.message)),
        )


def _refused(refused: Mapping[str, int]) -> Iterator[RenderableType]:
    if refused:
        most_first = sorted(refused.items(), key=lambda item: (-item[1], item[0]))
        yield Text("; ".join(f"{line(reason, 60)}: {times:,}" for reason, times in most_first))


def _operators(result: Result) -> Iterator[RenderableType]:
    tallies = {name: tally for name, tally in result.state.tallies.items() if name != "baseline" and tally.tries}
    if not tallies:
        return
    rows = table("", "tried", "won", "reflection tokens")
    for name, tally in sorted(tallies.items(), key=lambda item: (-item[1].wins, item[0])):
        rows.add_row(said(name), f"{tally.tries:,}", f"{tally.wins:,}", f"{tally.tokens:,}")
    yield rows


def _candidates(result: Result) -> Iterator[RenderableType]:
    scored = [told for told in result.steps if told.candidate is not None]
    if not scored:
        return
    ranked = sorted(scored, key=lambda told: (told.outcome not in ("baseline", "won"), told.step))
    shown = sorted(ranked[:TREE_SIZE], key=lambda told: told.step)
    tree, places = Tree(""), dict[str, Tree]()
    tree.hide_root = True
    for told in shown:
        above = places.get(told.parent or "", tree)
        name = told.candidate.id if told.candidate else ""
        node = above.add(_candidate(told, name == result.best.id != result.baseline.id))
        places.setdefault(name, node)
    yield tree
    idle = len(result.steps) - len(scored)
    rest = [f"{len(scored) - len(shown):,} more candidates are in the ledger"] if len(scored) > len(shown) else []
    rest += [f"{count(idle, 'step')} led to no candidate (refused, repeated, or no room left)"] if idle else []
    if rest:
        yield Text(f"{'; '.join(rest)}.", style="dim")


def _candidate(told: Told, champion: bool) -> Text:
    known = [value for value in told.scores.values() if value is not None]
    start = told.outcome == "baseline"
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append("current prompt" if start else told.outcome, style=OUTCOMES.get(told.outcome, ""))
    mean = score(sum(known) / len(known) if known else None)
    text.append(f" {mean} on {count(len(told.scores), 'row')}", style="bold" if champion else "")
    if not start:
        text.append(f", step {told.step}, {clean(told.operator)}")
    if champion:
        text.append(" (champion)", style="bold green")
    return text if start else text.append(f"  {line(told.note)}", style="dim")


def _advice(result: Result, condition: Condition) -> Iterator[RenderableType]:
    steps = Table.grid(padding=(0, 1))
    for sentence, command in next_steps(result, condition):
        text = said(sentence)
        if command:
            text.append("\n").append(clean(command), style="cyan")
        text.overflow = "fold"
        steps.add_row("•", text)
    yield steps
