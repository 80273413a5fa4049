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
from promptopt.core.candidate import Candidate
from promptopt.core.state import Told
from promptopt.report.advice import Condition, next_steps
from promptopt.report.changes import Changes, TextChange, changes
from promptopt.report.figures import clean, count, dollars, duration, line, said, score
from promptopt.report.history import (
    OPERATOR_COLUMNS,
    OPERATOR_NOTE,
    by_step,
    ending,
    lineage,
    memory,
    operator_rows,
    racing,
)
from promptopt.report.scores import FRONT_COLUMNS, front_rows, known, level, mean, method, score_rows
from promptopt.report.tables import table
from promptopt.result import Result

COLOURS = {"PROMOTE": "green", "REJECT": "red", "INCONCLUSIVE": "yellow", "RUNNING": "cyan", "INTERRUPTED": "yellow"}
OUTCOMES = {"baseline": "bold", "won": "green", "lost": "red", "behind": "red"}
TREE_SIZE = 40
"""Candidates that the tree shows; of more, those that won come first."""
MEMORY_SIZE = 8
"""Edits that did not help which are shown; of more, the newest."""


def report(result: Result, condition: Condition = "finished") -> Group:
    """Everything there is to say of a run."""
    sections: list[RenderableType] = [verdict(result, condition)]
    sections += _section("Scores", _scores(result))
    sections += _section("The front: none beats these in score, length and price at once", *_front(result))
    sections += _section("The prompt: what changed", *_changes(result))
    sections += _section("How it came about, step by step", *_lineage(result))
    sections += _section("Spent", _spent(result, condition))
    sections += _section("Rollouts without a score", *_failures(result))
    sections += _section("Operators", *_operators(result))
    sections += _section("What racing saved", *filter(None, [racing(result)]))
    sections += _section("Refused proposals", *_refused(result.state.refused))
    sections += _section("Edits that did not help, as the reflection model is told", *_memory(result))
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


def _front(result: Result) -> Iterator[RenderableType]:
    found = list(front_rows(result))
    if not found:
        return
    rows = table(*FRONT_COLUMNS)
    for cells in found:
        rows.add_row(*cells)
    _note(rows, f"All of val each, which is optimistic. promptopt export {result.directory} --candidate ID takes one.")
    yield rows


def _note(below: Table, text: str) -> None:
    below.caption, below.caption_justify = Text(text, style="dim"), "left"


def _changes(result: Result) -> Iterator[RenderableType]:
    new = result.leader
    yield from _diffs(changes(result.baseline, new))
    if new.id == result.baseline.id:
        yield Text("Nothing: no candidate is ahead of the current prompt on val.")
    elif new.id != result.best.id:
        yield Text("It leads so far. The champion is chosen when the search is over.", style="dim")
    elif result.recommended.id == result.baseline.id:
        yield Text("Not recommended: this is the champion of val, shown for comparison.", style="dim")


def _diffs(changed: Changes) -> Iterator[RenderableType]:
    yield from map(_diff, changed.texts)
    for change in changed.demos:
        yield Text(change.summary)


def _diff(change: TextChange) -> Group:
    styles = {"+": "green", "-": "red", "…": "dim"}
    lines = Table.grid(padding=(0, 1))
    for each in change.lines:
        style = styles.get(each[:1], "")
        lines.add_row(Text(each[:1], style=style), Text(each[2:], style=style))
    return Group(Text(f"{change.component}:"), lines)


def _lineage(result: Result) -> Iterator[RenderableType]:
    advances = lineage(result)
    if advances:
        yield Text("the current prompt", style="bold")
    for advance in advances:
        yield said(advance.title, "bold")
        yield Padding(Group(*_diffs(advance.changes)), (0, 0, 0, 2))


def _spent(result: Result, condition: Condition) -> Table:
    rows = table("", "rollouts", "calls", "cached", "tokens in", "out", "dollars")

    def add(name: str, spend: Spend, rollouts: str, cached: str, style: str = "") -> None:
        figures = (f"{spend.calls:,}", cached, f"{spend.tokens_in:,}", f"{spend.tokens_out:,}", dollars(spend.usd))
        rows.add_row(name, rollouts, *figures, style=style)

    for purpose, spend in result.by_purpose.items():
        if spend.calls:
            add(purpose, spend, "", "")
    add("the whole run", result.spent, f"{result.spent.rollouts:,}", f"{result.spent.cached:,}", "bold")
    ended = f" {clean(ending(result.stop_reason))}" if condition == "finished" else ""
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
    found = list(operator_rows(result.state))
    if not found:
        return
    rows = table(*OPERATOR_COLUMNS)
    for cells in found:
        rows.add_row(*map(Text, cells))
    yield rows
    yield Text(OPERATOR_NOTE, style="dim")


def _memory(result: Result) -> Iterator[RenderableType]:
    edits = list(memory(result))
    if not edits:
        return
    rows = Table.grid(padding=(0, 1))
    for note, why in edits[:MEMORY_SIZE]:
        rows.add_row("•", Text.assemble(line(note), (f" ({line(why)})", "dim")))
    yield rows
    if len(edits) > MEMORY_SIZE:
        yield Text(f"… and {len(edits) - MEMORY_SIZE:,} before them.", style="dim")


def _candidates(result: Result) -> Iterator[RenderableType]:
    scored = list(result.origins.values())
    if not scored:
        return
    ranked = sorted(scored, key=lambda told: (told.outcome not in ("baseline", "won"), told.step))
    shown = sorted(ranked[:TREE_SIZE], key=lambda told: told.step)
    tree, places = Tree(""), dict[str, Tree]()
    tree.hide_root = True
    for told in shown:
        assert told.candidate is not None
        above = places.get(told.parent or "", tree)
        places[told.candidate.id] = above.add(_candidate(told, told.candidate, result))
    yield tree
    idle = sum(told.candidate is None for told in result.steps)
    rest = [f"{len(scored) - len(shown):,} more candidates are in the ledger"] if len(scored) > len(shown) else []
    rest += [f"{count(idle, 'step')} led to no candidate (refused, repeated, or no room left)"] if idle else []
    if rest:
        yield Text(f"{'; '.join(rest)}.", style="dim")


def _candidate(told: Told, candidate: Candidate, result: Result) -> Text:
    """A candidate by its race: scores of different rows do not compare."""
    text = Text(no_wrap=True, overflow="ellipsis")
    scores = known(result, candidate)
    value = f"{score(mean(scores))} on {count(len(scores), 'row')}"
    if told.outcome == "baseline":
        return text.append("current prompt", style=OUTCOMES["baseline"]).append(f" {value}")
    text.append(told.outcome, style=OUTCOMES.get(told.outcome, ""))
    if candidate.id == result.leader.id:
        standing = "champion" if candidate.id == result.best.id else "leads so far"
        text.append(f" ({standing}, {value})", style="bold green")
    text.append(f", step {told.step}, {clean(told.operator)}: {line(told.reason)}")
    return text.append(f"  {line(by_step(told.note, result))}", style="dim")


def _advice(result: Result, condition: Condition) -> Iterator[RenderableType]:
    steps = Table.grid(padding=(0, 1))
    for sentence, command in next_steps(result, condition):
        text = said(sentence)
        if command:
            text.append("\n").append(clean(command), style="cyan")
        text.overflow = "fold"
        steps.add_row("•", text)
    yield steps
