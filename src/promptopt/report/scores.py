"""The score table's rows, for every kind of report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from promptopt.core.guard import p_value
from promptopt.core.sealed import TestResult
from promptopt.core.selection import prompt_tokens
from promptopt.report.figures import count, gain, interval, score
from promptopt.result import Result

OPTIMISTIC = "selection score, optimistic"
"""What a score on val is: the best of many always looks better than it is."""


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One line, as shown."""

    label: str
    note: str
    current: str
    new: str
    difference: str
    interval: str = ""


def score_rows(result: Result) -> Iterator[ScoreRow]:
    """The sealed test, val and the prompts' lengths, as far as they are known."""
    test, best, state = result.judged.test, result.best, result.state
    changed = best.id != result.baseline.id
    if test is not None:
        groups = f"in {count(test.groups, 'group')}" if test.groups is not None else ""
        label = f"sealed test, {count(test.n, 'unseen row')}"
        yield ScoreRow(label, groups, score(test.baseline), score(test.best), gain(test.diff), interval(test.ci))
    if state.baseline:
        old, new = result.val["baseline"], result.val["best"] if changed else None
        label = f"val, {count(len(state.val[state.baseline]), 'row')}"
        yield ScoreRow(label, OPTIMISTIC, score(old), score(new), gain(None if new is None else new - old))
    if changed:
        before, after = prompt_tokens(result.baseline), prompt_tokens(best)
        yield ScoreRow("prompt tokens, about", "", f"{before:,}", f"{after:,}", f"{after - before:+,}")


def level(test: TestResult | None) -> str:
    """The heading of the intervals: `95 % interval`; empty before there is a test."""
    return f"{100 * (1 - test.alpha):.4g} % interval" if test else ""


def method(test: TestResult) -> str:
    """How the test was made, in a line."""
    opening = "opened once" if test.opening == 1 else f"opening {test.opening} of these rows"
    missing = f"; {count(test.missing, 'row')} left out" if test.missing else ""
    return f"Test: {test.method}; {p_value(test)}; {opening}{missing}."
