"""What to do after a run, depending on how it ended."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Literal

from promptopt.core.search import CAP
from promptopt.result import Result

Condition = Literal["finished", "running", "interrupted"]
"""Whether a run has come to its end, is at work, or stopped before its end."""


Advice = tuple[str, str]
"""A sentence, and the command that does it; empty where there is none."""


def next_steps(result: Result, condition: Condition) -> Iterator[Advice]:
    """The most useful first."""
    place = shlex.quote(str(result.directory))
    match condition, result.verdict:
        case "running", _:
            yield "Wait for it. To see how far it is:", f"promptopt report {place}"
        case "interrupted", _:
            yield "Run the same command again: it goes on from here, and nothing is paid for twice.", ""
        case _, "PROMOTE":
            yield "Take the new prompt:", f"promptopt export {place} --format text"
            yield "Or for a program to read:", f"promptopt export {place} --format json --output prompt.json"
        case _, _ if result.test_rows and not result.opened:
            yield from _search_harder(result, place)
            yield "The test is still sealed: the next run can use the same rows.", ""
        case _, "REJECT":
            yield "Keep the current prompt. More val rows make it less likely that a worse prompt is chosen.", ""
        case _:
            yield from _learn_more(result, place)


def _search_harder(result: Result, place: str) -> Iterator[Advice]:
    kind = result.stop_reason.partition(": ")[0]
    if result.stop_reason.startswith(CAP):
        cap = result.stop_reason.removeprefix(CAP)
        yield f"The search used up budget.{cap}: raise it, and give the new run its own --run-dir.", ""
    elif kind in ("target", "patience"):
        yield f"To search on, raise strategy.{kind} and give the new run its own --run-dir.", ""
    if result.state.refused:
        yield "A stronger reflection model gives fewer refused proposals. Which were:", f"promptopt report {place}"
    yield "Look at what fails: more telling feedback from the metric gives the reflection model more to work with.", ""


def _learn_more(result: Result, place: str) -> Iterator[Advice]:
    test = result.judged.test
    if result.failures:
        yield "Mend what made rollouts fail (see above), then run again with a new --run-dir.", ""
    if test is not None:
        yield "Add test rows, or search longer for a larger gain, and run again with a new --run-dir.", ""
        yield f"The same test rows opened again are tested at {test.alpha / 2:.3g} instead of {test.alpha:.3g}.", ""
    elif not result.opened:
        yield "Set test rows aside (data.split.test, or a test file) and run again with a new --run-dir.", ""
    if result.best.id != result.baseline.id:
        yield "To look at the new prompt anyway:", f"promptopt export {place} --candidate best"
