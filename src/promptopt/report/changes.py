"""What the new prompt says that the old one did not."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from promptopt.core.candidate import Candidate
from promptopt.report.figures import clean


@dataclass(frozen=True, slots=True)
class TextChange:
    """One component's text, before and after."""

    component: str
    lines: tuple[str, ...]
    """A unified diff: each line behind "+ ", "- " or two spaces, and "…" where lines were left out."""


@dataclass(frozen=True, slots=True)
class DemoChange:
    """The worked examples of one slot, by example id."""

    slot: str
    added: tuple[str, ...]
    removed: tuple[str, ...]


def text_changes(before: Candidate, after: Candidate) -> Iterator[TextChange]:
    """The components whose text differs, in the program's order."""
    for component in {**before.components, **after.components}:
        old, new = (clean(one.components.get(component, "")).split("\n") for one in (before, after))
        _, _, *hunks = difflib.unified_diff(old, new, n=2, lineterm="") if old != new else ("", "")
        if hunks:
            from_the_top = hunks[0].startswith(("@@ -1,", "@@ -1 "))
            yield TextChange(clean(component), tuple(map(_shown, hunks[from_the_top:])))


def _shown(line: str) -> str:
    return "…" if line.startswith("@@") else f"{line[:1]} {line[1:]}"


def demo_changes(before: Candidate, after: Candidate) -> Iterator[DemoChange]:
    """The slots whose demos differ."""
    for slot in {**before.demos, **after.demos}:
        old, new = (one.demos.get(slot, ()) for one in (before, after))
        added = tuple(demo.example_id for demo in new if demo not in old)
        removed = tuple(demo.example_id for demo in old if demo not in new)
        if added or removed:
            yield DemoChange(slot, added, removed)
