"""The score table's rows, for every kind of report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from promptopt.core.candidate import Candidate
from promptopt.core.guard import p_value
from promptopt.core.racing import paired_gain
from promptopt.core.sealed import TestResult
from promptopt.core.selection import prompt_tokens
from promptopt.report.figures import count, dollars, gain, interval, score
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
    test, new = result.judged.test, result.leader
    if test is not None:
        groups = f"in {count(test.groups, 'group')}" if test.groups is not None else ""
        label = f"sealed test, {count(test.n, 'unseen row')}"
        yield ScoreRow(label, groups, score(test.baseline), score(test.best), gain(test.diff), interval(test.ci))
    if result.state.baseline:
        yield from _val_rows(result)
    if new.id != result.baseline.id:
        before, after = prompt_tokens(result.baseline), prompt_tokens(new)
        yield ScoreRow("prompt tokens, about", "", f"{before:,}", f"{after:,}", f"{after - before:+,}")


FRONT_COLUMNS = ("candidate", "val", "prompt tokens, about", "dollars a rollout")


def front_rows(result: Result) -> Iterator[tuple[str, ...]]:
    """The front in the cells of FRONT_COLUMNS; nothing where one candidate is the best in everything."""
    names = {result.baseline.id: " (current)", result.leader.id: " (new)"}
    for offer in result.front if len(result.front) > 1 else ():
        name = offer.candidate.id
        yield f"{name}{names.get(name, '')}", score(offer.val), f"{offer.prompt_tokens:,}", dollars(offer.usd)


def _val_rows(result: Result) -> Iterator[ScoreRow]:
    """Val on the rows that both prompts have a score for; where one has more, its mean on all of them, alone."""
    old, new = known(result, result.baseline), known(result, result.leader)
    if result.leader.id == result.baseline.id:
        yield ScoreRow(_val(len(old)), OPTIMISTIC, score(mean(old)), score(None), gain(None))
        return
    both = [row for row in old if row in new]
    if both:
        before, after = (mean({row: one[row] for row in both}) for one in (old, new))
        label = _val(len(both)) + (" that both have" if len(both) < result.val_rows else "")
        yield ScoreRow(label, OPTIMISTIC, score(before), score(after), gain(paired_gain(new, old)))
    if len(old) > len(both):
        yield ScoreRow(_val(len(old)), "", score(mean(old)), score(None), gain(None))
    if len(new) > len(both):
        yield ScoreRow(_val(len(new)), "", score(None), score(mean(new)), gain(None))


def _val(rows: int) -> str:
    return f"val, {count(rows, 'row')}"


def known(result: Result, candidate: Candidate) -> dict[str, float]:
    """The candidate's scores on val rows, without the missing ones."""
    scores = result.state.val.get(candidate.id, {})
    return {row: value for row, value in scores.items() if value is not None}


def mean(scores: Mapping[str, float]) -> float | None:
    return sum(scores.values()) / len(scores) if scores else None


def level(test: TestResult | None) -> str:
    """The heading of the intervals: `95 % interval`; empty before there is a test."""
    return f"{100 * (1 - test.alpha):.4g} % interval" if test else ""


def method(test: TestResult) -> str:
    """How the test was made, in a line."""
    opening = "opened once" if test.opening == 1 else f"opening {test.opening} of these rows"
    missing = f"; {count(test.missing, 'row')} left out" if test.missing else ""
    return f"Test: {test.method}; {p_value(test)}; {opening}{missing}."
