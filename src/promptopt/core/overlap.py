"""Rows that ask the same thing, exactly or nearly, in different parts of the data.

Two texts are *nearly equal* when, after case, punctuation and spacing are folded away, they share nine tenths of
their runs of three words. A number or an id (any word with a digit) is never folded: rows that differ in one are not
nearly equal. Runs that many rows share are boilerplate and say nothing, so they are left out.

The search is exact and far from quadratic: runs are put in one fixed order, and sets with a Jaccard similarity of at
least t must meet among the first (1 - t) of each.
Source: Chaudhuri, Ganti & Kaushik (2006), "A primitive operator for similarity joins in data cleaning", ICDE.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from promptopt.core.example import Example, text_of

_RUN = 3
_BOILERPLATE = 50
"""A run of words in more texts than this, or in more than a tenth of them, is boilerplate."""
_APOSTROPHES = {ord("'"): None, ord("’"): None}
_PUNCTUATION = re.compile(r'[\s.,;:!?…"‘“”«»()\[\]{}\-–—_¿¡。、「」『』]+')
_DIGIT = re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows of two different parts, the earlier part first."""

    parts: tuple[int, int]
    """By position."""
    rows: tuple[str, str]
    """By id."""

    @staticmethod
    def of(part: int, row: str, other_part: int, other_row: str) -> Pair:
        (a, x), (b, y) = sorted([(part, row), (other_part, other_row)])
        return Pair((a, b), (x, y))


def exact(parts: Sequence[Sequence[Example]]) -> list[Pair]:
    """Rows whose inputs also stand in an earlier part, each with the first such row of each earlier part."""
    firsts: list[dict[str, str]] = []
    pairs: list[Pair] = []
    for part, rows in enumerate(parts):
        own: dict[str, str] = {}
        for row in rows:
            inputs = row.inputs_digest
            pairs += [Pair.of(part, row.id, at, seen[inputs]) for at, seen in enumerate(firsts) if inputs in seen]
            own.setdefault(inputs, row.id)
        firsts.append(own)
    return pairs


def near(parts: Sequence[Sequence[Example]]) -> list[Pair]:
    """Rows that are nearly equal to a row of another part, each with the first such row of each other part.

    A pair is found from its row in the larger part. The largest part's texts are never held in memory.
    """
    smallest_first = sorted(range(len(parts)), key=lambda part: (len(parts[part]), part))
    index = _Index(_boilerplate([parts[part] for part in smallest_first[:-1]]))
    pairs: list[Pair] = []
    for part in smallest_first:
        for row in parts[part]:
            runs = index.distinctive(row)
            pairs += [Pair.of(part, row.id, *other) for other in index.near(runs) if other[0] != part]
            if part != smallest_first[-1]:
                index.add(part, row.id, runs)
    return pairs


@dataclass(slots=True)
class _Index:
    """Texts by the first of their runs."""

    boilerplate: frozenset[int]
    texts: list[tuple[int, str, array[int]]] = field(default_factory=list[tuple[int, str, "array[int]"]])
    postings: dict[int, list[int]] = field(default_factory=dict[int, list[int]])

    def distinctive(self, row: Example) -> array[int]:
        """The row's runs in the order that all texts share, without boilerplate."""
        return array("q", sorted(_runs(row) - self.boilerplate))

    def add(self, part: int, row: str, runs: array[int]) -> None:
        for run in _first(runs):
            self.postings.setdefault(run, []).append(len(self.texts))
        self.texts.append((part, row, runs))

    def near(self, runs: array[int]) -> Iterator[tuple[int, str]]:
        """Part and id of the first nearly equal text of each part."""
        candidates = sorted({at for run in _first(runs) for at in self.postings.get(run, ())})
        own, found = frozenset(runs), set[int]()
        for part, row, others in (self.texts[at] for at in candidates):
            if part not in found and _alike(own, others):
                found.add(part)
                yield part, row


def _first(runs: array[int]) -> array[int]:
    """The runs of which two nearly equal texts must share one."""
    return runs[: len(runs) - _nine_tenths(len(runs)) + 1]


def _alike(a: frozenset[int], b: array[int]) -> bool:
    """Whether the Jaccard similarity is at least 0.9."""
    if min(len(a), len(b)) < _nine_tenths(max(len(a), len(b))):
        return False
    missing = len(b) - _nine_tenths(len(b))
    head = b[: 2 * missing + 1]  # unrelated texts are told apart here, at a fifth of the cost
    if len(a.intersection(head)) < len(head) - missing:
        return False
    shared = len(a.intersection(b))
    return shared >= _nine_tenths(len(a) + len(b) - shared)


def _nine_tenths(n: int) -> int:
    return -(-9 * n // 10)


def _runs(row: Example) -> set[int]:
    """Hashes of the row's runs of words, each bound to all its numbers and ids; a short text is one run."""
    text = " ".join(text_of(row.inputs[name]) for name in sorted(row.inputs))
    text = unicodedata.normalize("NFKC", text).casefold().translate(_APOSTROPHES)
    words = _PUNCTUATION.sub(" ", text).split()
    numbers = hash(tuple(token.strip('.,;:!?()[]{}"') for token in text.split() if _DIGIT.search(token)))
    if len(words) < _RUN:
        return {hash((numbers, *words))} if words else set()
    return {hash((numbers, *run)) for run in zip(words, words[1:], words[2:], strict=False)}


def _boilerplate(parts: Sequence[Sequence[Example]]) -> frozenset[int]:
    """Runs that are in too many different texts to tell two of them apart."""
    import numpy as np

    texts: set[int] = set()

    def runs_of_new_texts() -> Iterator[int]:
        for row in chain.from_iterable(parts):
            runs = frozenset(_runs(row))
            if hash(runs) not in texts:
                texts.add(hash(runs))
                yield from runs

    runs, counts = np.unique(np.fromiter(runs_of_new_texts(), dtype=np.int64), return_counts=True)
    limit = min(_BOILERPLATE, max(2, len(texts) // 10))
    return frozenset(int(run) for run in runs[counts > limit])
