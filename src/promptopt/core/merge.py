"""Three-way merges: what one candidate changed, brought over to another.

`theirs` grew out of `base`; the merge is `ours` with that change. It serves rebased rewrites and the joining of
candidates that win on different rows or improved different components.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from promptopt.core.candidate import Candidate

T = TypeVar("T")


def merge(base: Candidate, ours: Candidate, theirs: Candidate) -> Candidate:
    """`ours` with what `theirs` changed since `base`: text by lines, demos by slot, settings one by one."""
    texts = {
        name: merge_text(base.components[name], text, theirs.components[name]) for name, text in ours.components.items()
    }
    slots = _keys(ours.demos, theirs.demos)
    names = _keys(ours.settings, theirs.settings)
    settings: dict[str, Any] = {
        name: _newer(base.settings.get(name), ours.settings.get(name), theirs.settings.get(name)) for name in names
    }
    merged = Candidate(texts, settings={name: value for name, value in settings.items() if value is not None})
    for slot in slots:
        merged = merged.with_demos(slot, *_newer(base.filling(slot), ours.filling(slot), theirs.filling(slot)))
    return merged


def merge_text(base: str, ours: str, theirs: str) -> str:
    """`theirs` with the lines that `ours` added to `base`, and without those that it removed.

    Where `ours` kept less than half of `base` there is nothing to merge with, and `theirs` stands alone.
    """
    if base == ours or theirs == ours:
        return theirs
    if base == theirs:
        return ours
    before, mine, new = (_lines(text) for text in (base, ours, theirs))
    removed = set(before) - set(mine)
    if len(removed) * 2 > len(set(before)):
        return theirs
    kept = [line for line in new if line not in removed]
    return "\n".join([*kept, *(line for line in mine if line not in before and line not in new)])


def _lines(text: str) -> list[str]:
    return text.rstrip().split("\n") if text.strip() else []


def _newer(base: T, ours: T, theirs: T) -> T:
    return ours if theirs == base else theirs


def _keys(*mappings: Mapping[str, Any]) -> Iterable[str]:
    return dict.fromkeys(name for mapping in mappings for name in mapping)
