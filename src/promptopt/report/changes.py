"""What one prompt says that another did not."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from promptopt.core.candidate import Candidate
from promptopt.core.edit import of_demos
from promptopt.report.figures import clean, count, line

SHORT = 4
"""Passages that went, and as many that came, which a short change shows."""
BETWEEN_SENTENCES = re.compile(r"(?<=[^\W\d][.!?])\s+")


@dataclass(frozen=True, slots=True)
class TextChange:
    """One component's text, before and after."""

    component: str
    lines: tuple[str, ...]
    """A diff: each line behind "+ ", "- " or two spaces, and "…" where lines were left out."""


@dataclass(frozen=True, slots=True)
class DemoChange:
    """The worked examples of one slot, by example id."""

    slot: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    shown: str
    """What a prompt shows now: `the 4 nearest of 200 demos`; empty where that is all of them, as before."""

    @property
    def summary(self) -> str:
        """The change in a line."""
        parts = [
            f"{count(len(ids), 'demo')} {verb} ({line(', '.join(ids[:5]), 100)}{', …' if len(ids) > 5 else ''})"
            for verb, ids in (("added", self.added), ("removed", self.removed))
            if ids
        ]
        parts += [f"each input is shown {self.shown}"] * bool(self.shown)
        return f"{clean(self.slot)}: {'; '.join(parts)}"


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between two candidates: components in the program's order, then slots."""

    texts: tuple[TextChange, ...]
    demos: tuple[DemoChange, ...]


def changes(before: Candidate, after: Candidate) -> Changes:
    """Every line that went or came, with the lines around it."""
    return Changes(tuple(_diffs(before, after)), tuple(_demos(before, after)))


def short_changes(before: Candidate, after: Candidate) -> Changes:
    """The first few lines or sentences that went, and that came."""
    return Changes(tuple(_short_diffs(before, after)), tuple(_demos(before, after)))


def _diffs(before: Candidate, after: Candidate) -> Iterator[TextChange]:
    for component, old, new in _texts(before, after):
        hunks = _hunks(old.split("\n"), new.split("\n"), context=2)
        if hunks:
            from_the_top = hunks[0].startswith(("@@ -1,", "@@ -1 "))
            yield TextChange(component, tuple(map(_shown, hunks[from_the_top:])))


def _short_diffs(before: Candidate, after: Candidate) -> Iterator[TextChange]:
    for component, old, new in _texts(before, after):
        hunks = _hunks(_passages(old), _passages(new), context=0)
        gone, come = ([hunk for hunk in hunks if hunk[0] == sign] for sign in "-+")
        if gone or come:
            shown = [line(_shown(each), 300) for each in (*gone[:SHORT], *come[:SHORT])]
            more = len(gone) + len(come) - len(shown)
            yield TextChange(component, (*shown, f"… and {count(more, 'more line')}") if more else tuple(shown))


def _texts(before: Candidate, after: Candidate) -> Iterator[tuple[str, str, str]]:
    for component in {**before.components, **after.components}:
        old, new = (clean(one.components.get(component, "")) for one in (before, after))
        yield clean(component), old, new


def _hunks(old: Sequence[str], new: Sequence[str], *, context: int) -> list[str]:
    """A unified diff without its head; empty where nothing differs."""
    return list(difflib.unified_diff(old, new, n=context, lineterm=""))[2:]


def _passages(text: str) -> list[str]:
    """A prompt is often one long line: a line is taken apart into its sentences."""
    return [passage for each in text.split("\n") for passage in BETWEEN_SENTENCES.split(each) if passage.strip()]


def _shown(hunk: str) -> str:
    return "…" if hunk.startswith("@@") else f"{hunk[:1]} {hunk[1:]}"


def _demos(before: Candidate, after: Candidate) -> Iterator[DemoChange]:
    for slot in {**before.demos, **after.demos}:
        (old, some), (new, nearest) = (one.filling(slot) for one in (before, after))
        added = tuple(demo.example_id for demo in new if demo not in old)
        removed = tuple(demo.example_id for demo in old if demo not in new)
        if added or removed or nearest != some:
            shown = of_demos((new, nearest)) if nearest or some else ""
            yield DemoChange(slot, added, removed, shown)
