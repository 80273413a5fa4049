"""What the search did, in words and rows, for every kind of report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from promptopt.core.search import CAP
from promptopt.core.state import State, Told
from promptopt.core.strategies.drawing import MERGE
from promptopt.report.changes import Changes, short_changes
from promptopt.report.figures import clean, count, gain, line
from promptopt.result import INTERRUPTED, Result

OPERATOR_COLUMNS = ("", "tries", "wins", "gain on val", "tokens")
OPERATOR_NOTE = "Gain: what wins gained over their rivals, summed. Tokens: of reflections and rollouts."
CANDIDATE_ID = re.compile(r"\b[0-9a-f]{12}\b")


@dataclass(frozen=True, slots=True)
class Advance:
    """One step on the way from the current prompt to the new one."""

    title: str
    """Its number, its operator, and how its race ended."""
    changes: Changes
    """What it changed, in short."""


def lineage(result: Result) -> list[Advance]:
    """Every step from the current prompt to the leader, the first one first."""
    advances: list[Advance] = []
    told = result.origins.get(result.leader.id)
    while told is not None and told.candidate is not None and told.parent is not None:
        parent = result.state.candidates[told.parent]
        advances.append(Advance(_title(told, result), short_changes(parent, told.candidate)))
        told = result.origins.get(told.parent)
    return advances[::-1]


def _title(told: Told, result: Result) -> str:
    merged = f" of {by_step(told.note, result)}" if told.operator == MERGE.name else ""
    return f"step {told.step}, {told.operator}{merged}: {line(told.reason)}"


def operator_rows(state: State) -> Iterator[tuple[str, ...]]:
    """Every operator that was tried, the one that gained most first; of equals the one that won more, for less."""
    tallies = sorted(state.tallies.items(), key=lambda item: (-item[1].gain, -item[1].wins, item[1].tokens, item[0]))
    for name, tally in tallies:
        won = gain(tally.gain) if tally.wins else gain(None)
        yield clean(name), f"{tally.tries:,.0f}", f"{tally.wins:,.0f}", won, f"{tally.tokens:,.0f}"


def racing(result: Result) -> str:
    """What it saved that no candidate runs on all val rows before it has earned them; empty where nothing raced."""
    candidates = result.state.candidates
    if len(candidates) < 2:
        return ""
    whole = len(candidates) * result.val_rows
    run = sum(len(result.state.val[name]) for name in candidates)
    scored, rows = count(len(candidates), "candidate"), count(result.val_rows, "val row")
    share = f"{100 * (whole - run) / whole:.0f} %"
    return (
        f"{scored} were scored. On all {rows} each, that would have been {count(whole, 'rollout')}; "
        f"{run:,} were run, so racing saved {whole - run:,} ({share})."
    )


def ending(reason: str) -> str:
    """Why the search stopped, in a sentence."""
    kind, _, how = reason.partition(": ")
    match kind:
        case _ if reason.startswith(CAP):
            return f"The search used up its share of budget.{reason.removeprefix(CAP)}."
        case "target":
            return f"The search met strategy.target: {how}."
        case "patience":
            return f"The search lost patience (strategy.patience): {how}."
        case "reflection":
            return f"The search ended because the reflection model was of no use: {how}."
        case "no new proposals":
            return f"The search ran out of ideas: {how}."
        case _:
            return "The search was interrupted." if reason == INTERRUPTED else f"The search ended: {reason}."


def memory(result: Result) -> Iterator[tuple[str, str]]:
    """Edits that did not help, and why, as the reflection model is told; the newest first."""
    for note, why in reversed(list(result.state.rejected.items())):
        yield by_step(note, result), why


def by_step(note: str, result: Result) -> str:
    """A note with steps in place of candidates' ids: people know a candidate by the step that it came from."""

    def known(found: re.Match[str]) -> str:
        origin = result.origins.get(found[0])
        return f"step {origin.step}" if origin else found[0]

    return CANDIDATE_ID.sub(known, note)
