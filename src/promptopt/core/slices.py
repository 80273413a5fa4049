"""A student against its teacher in each part of the rows: a loss in a minority must not hide in the mean.

Exploratory: the p values are corrected over the slices of one student by Benjamini and Hochberg's method, which finds
more than Holm's and claims less. What is found here is to be read, and certifies nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from promptopt.core.certificate import lead_p
from promptopt.core.example import Example, text_of
from promptopt.core.sealed import Pair
from promptopt.stats.multiple import benjamini_hochberg

EXPECTED, GROUP = "expected", "group"
"""The slices of all data: by the right answer, and by session, customer or document."""
FEWEST = 4
"""Rows of the smallest slice; fewer show no loss, however large."""
MOST_VALUES = 100
"""Slices of one column; more of them say that it is no category."""
CLEAR = 0.1
"""Corrected p value up to which a loss is named."""

Members = Mapping[tuple[str, str], frozenset[str]]
"""By column and value, the ids of the rows that have it."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The rows with one value in one column."""

    column: str
    value: str
    n: int
    """Rows that both have a score for."""
    teacher: float
    student: float
    p: float
    """One-sided, of "the student loses nothing here", corrected over all slices."""

    @property
    def diff(self) -> float:
        return self.student - self.teacher

    @property
    def lost(self) -> bool:
        """Whether the student clearly loses here."""
        return self.p <= CLEAR and self.diff < 0


def members(rows: Sequence[Example], columns: Sequence[str]) -> Members:
    """The slices of `rows` by these columns, and by right answer and group where these repeat."""
    found: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        values = {EXPECTED: row.expected, GROUP: row.group, **{name: _column(row, name) for name in columns}}
        for name, value in values.items():
            if value is not None:
                found.setdefault((name, text_of(value)), set()).add(row.id)
    kept = {key: frozenset(ids) for key, ids in found.items() if FEWEST <= len(ids) < len(rows)}
    per_column = {name: sum(key[0] == name for key in kept) for name, _ in kept}
    return {key: ids for key, ids in kept.items() if per_column[key[0]] <= MOST_VALUES}


def sliced(pairs: Sequence[Pair], parts: Members, *, binary: bool, seed: int = 0) -> tuple[Slice, ...]:
    """The student (`best`) against the teacher (`baseline`) in each part, the surest loss first."""
    made: list[Slice] = []
    for (column, value), ids in parts.items():
        turned = [_turned(one, column) for one in pairs if one.example_id in ids]
        known = [both for pair in turned if (both := pair.scores)]
        if len(known) >= FEWEST:
            student, teacher = (math.fsum(scores) / len(known) for scores in zip(*known, strict=True))
            made.append(Slice(column, value, len(known), teacher, student, lead_p(turned, binary=binary, seed=seed)))
    corrected = benjamini_hochberg([one.p for one in made])
    told = [replace(one, p=p) for one, p in zip(made, corrected, strict=True)]
    return tuple(sorted(told, key=lambda one: (one.p, one.diff, one.column, one.value)))


def _turned(pair: Pair, column: str) -> Pair:
    """The teacher in the place of the better one; the rows of one group count singly where they are the slice."""
    return Pair(pair.example_id, pair.best, pair.baseline, None if column == GROUP else pair.group)


def _column(row: Example, name: str) -> object:
    return row.inputs.get(name, row.meta.get(name))
