"""Train, val and test: which rows teach, which select and which judge.

A split depends on what the rows say and a seed, never on their order in the file. Rows of one group stay on one side,
and so do rows with equal inputs; where answers are labels, every part gets the label mix of the whole.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from promptopt.core import overlap
from promptopt.core.example import Example, are_labels
from promptopt.core.overlap import Pair
from promptopt.core.record import Record, examples_of
from promptopt.errors import ConfigError, DataError

PARTS = ("train", "val", "test")
_SHOWN = 10
_TOLERANCE = 0.1

Rows = tuple[Example, ...]
Given = Sequence[Example] | Sequence[Record]
"""A part as users have it: our examples, or DSPy's."""


@dataclass(frozen=True, slots=True, repr=False)
class Split:
    """Reflection reads train only, val selects, test is sealed and judges once."""

    train: Rows
    val: Rows
    test: Rows
    duplicates: int = 0
    """Rows whose inputs repeat those of another row of the data."""
    warnings: tuple[str, ...] = ()
    unused: int = 0
    """Rows of the data that are in no part."""

    @property
    def parts(self) -> dict[str, Rows]:
        """The three parts by name."""
        return {"train": self.train, "val": self.val, "test": self.test}

    @staticmethod
    def given(train: Given, val: Given, test: Given | None = None) -> Split:
        """Three parts as the user made them, such as `Split.given(a.examples, b.examples, c.examples)`.

        A part may also be a list of DSPy's examples. Raises DataError when a part is empty or when inputs of one part
        stand in another.
        """
        return given(examples_of(train), examples_of(val), examples_of(test or ()))

    def __repr__(self) -> str:
        return f"Split(train={len(self.train)}, val={len(self.val)}, test={len(self.test)})"


def digest(examples: Iterable[Example]) -> str:
    """A hash of all that the rows say, in any order: another value in any column gives another hash."""
    return _hash("\n".join(sorted(f"{example.digest} {example.id}" for example in examples)))


def inputs_digest(examples: Iterable[Example]) -> str:
    """A hash of the rows' inputs, in any order: it stays the same when ids, answers or other columns are edited."""
    return _hash("\n".join(sorted(example.inputs_digest for example in examples)))


def split(examples: Sequence[Example], *, train: float, val: float, test: float, seed: int) -> Split:
    """Draw three parts from one set of rows; numbers below 1 are shares of the data, others are numbers of rows.

    Without groups and duplicates, sizes are exact and each part holds each label within 1 row of its share. Rows that
    must stay together are placed first, so that single rows can even things out; a part that is still more than 10 %
    off is said in the warnings.

    Raises ConfigError for a size that cannot be meant, DataError when the rows do not suffice.
    """
    sizes = _sizes(len(examples), {"train": train, "val": val, "test": test})
    rows = _shuffled(examples, seed)
    inputs = [row.inputs_digest for row in rows]
    units = _units(rows, inputs)
    parts = _deal(units, _labels(rows), [*sizes, len(rows) - sum(sizes)])[:3]
    warnings = [*_misfits(parts, sizes, max(map(len, units))), *_contradictions(rows, inputs)]
    in_train, in_val, in_test = (tuple(rows[i] for i in sorted(part)) for part in parts)
    unused = len(rows) - len(in_train) - len(in_val) - len(in_test)
    return Split(in_train, in_val, in_test, len(rows) - len(set(inputs)), tuple(warnings), unused)


def given(
    train: Sequence[Example],
    val: Sequence[Example],
    test: Sequence[Example] | None = None,
    names: Sequence[str] = PARTS,
) -> Split:
    """Three parts as the user made them, `names` being their files. No test rows is allowed.

    Each part is put into an order of its own, so that a file sorted by label does not matter. Ids that occur in
    several parts get the part's name in front.

    Raises DataError when a part is empty or when inputs of one part stand in another.
    """
    parts = [train, val, test or ()]
    for part, name in zip(parts[:2], names, strict=False):
        if not part:
            raise DataError("there are no rows", file=name)
    if pairs := overlap.exact(parts):
        told = " ".join(_overlaps(pairs, names, "equal"))
        raise DataError(f"{told} Remove them from one of the two: a row that taught or selected cannot judge.")
    rows = [row for part in parts for row in part]
    inputs = [row.inputs_digest for row in rows]
    warnings = [*_overlaps(overlap.near(parts), names, "nearly equal"), *_contradictions(rows, inputs)]
    in_train, in_val, in_test = map(_shuffled, _with_distinct_ids(parts))
    return Split(in_train, in_val, in_test, len(rows) - len(set(inputs)), tuple(warnings))


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _shuffled(rows: Iterable[Example], seed: int = 0) -> Rows:
    """The rows in an order that is drawn from their inputs and the seed: new answers or columns do not change it."""
    return tuple(sorted(rows, key=lambda row: (_hash(f"{seed} {row.inputs_digest}"), row.id)))


def _sizes(n: int, wanted: Mapping[str, int | float]) -> list[int]:
    """How many rows each part gets of `n`."""
    for part, size in wanted.items():
        if isinstance(size, bool) or not 0 <= size < float("inf") or (size > 1 and size != int(size)):
            raise ConfigError(
                f"data.split.{part} must be a number of rows or a share below 1, not {size}", key=f"data.split.{part}"
            )
        if size == 0 and part != "test":
            raise ConfigError(f"data.split.{part} must not be 0; only test may be", key=f"data.split.{part}")
    shares = [size * n if size < 1 else 0.0 for size in wanted.values()]
    if sum(shares) > n + 1e-6:
        told = " + ".join(f"{size}" for size in wanted.values() if size < 1)
        raise ConfigError(f"the shares in data.split add up to more than 1 ({told})", key="data.split")
    of_shares = _apportion(shares, int(sum(shares) + 1e-6))
    sizes = [share if size < 1 else int(size) for size, share in zip(wanted.values(), of_shares, strict=True)]
    if sum(sizes) > n:
        fits = ", ".join(f"{part} {size}" for part, size in zip(wanted, _apportion(sizes, n), strict=True))
        asked = ", ".join(f"{part} {size}" for part, size in zip(wanted, sizes, strict=True))
        raise DataError(f"the split asks for {sum(sizes)} rows ({asked}) and there are {n}. What would fit: {fits}")
    for part, size in zip(wanted, sizes, strict=True):
        if size == 0 and wanted[part] > 0:
            raise DataError(f"data.split.{part}: {wanted[part]} of {n} rows is less than one row")
    return sizes


def _apportion(weights: Sequence[float], total: int) -> list[int]:
    """`total` seats by weight, by largest remainder; all zero when the weights are."""
    whole = sum(weights)
    if not whole:
        return [0] * len(weights)
    exact = [weight * total / whole for weight in weights]
    seats = [int(share + 1e-9) for share in exact]
    neediest = sorted(range(len(weights)), key=lambda i: (seats[i] - exact[i], i))
    for i in neediest[: total - sum(seats)]:
        seats[i] += 1
    return seats


def _units(rows: Sequence[Example], inputs: Sequence[str]) -> list[list[int]]:
    """Rows that must stay together: of one group, with equal inputs, or linked by a chain of both."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for row, own in zip(rows, inputs, strict=True):
        if row.group is not None:
            parent[root(f"inputs {own}")] = root(f"group {row.group}")
    units: defaultdict[str, list[int]] = defaultdict(list)
    for i, own in enumerate(inputs):
        units[root(f"inputs {own}")].append(i)
    return list(units.values())


def _labels(rows: Sequence[Example]) -> list[str]:
    """Each row's label, or the same for all where answers are not labels: texts of their own, or not plain values."""
    answers = [row.expected for row in rows]
    if all(isinstance(answer, str | int | float) for answer in answers):
        labels = [f"{type(answer).__name__} {answer}" for answer in answers]
        if are_labels(labels):
            return labels
    return [""] * len(rows)


def _deal(units: Sequence[list[int]], labels: Sequence[str], sizes: Sequence[int]) -> list[list[int]]:
    """Units into parts of about these sizes, which add up to all rows, with the label mix of the whole in each."""
    parts = _placed([unit for unit in units if len(unit) > 1], labels, sizes)
    singles: defaultdict[str, list[int]] = defaultdict(list)
    for unit in units:
        if len(unit) == 1:
            singles[labels[unit[0]]].append(unit[0])
    counts = [len(alike) for alike in singles.values()]
    room = [max(0, size - len(part)) for size, part in zip(sizes, parts, strict=True)]
    for alike, shares in zip(singles.values(), _rounded(counts, _apportion(room, sum(counts))), strict=True):
        rest = iter(alike)
        for part, share in zip(parts, shares, strict=True):
            part += islice(rest, share)
    return _none_empty(parts, sizes, units)


def _placed(units: Sequence[list[int]], labels: Sequence[str], sizes: Sequence[int]) -> list[list[int]]:
    """Each unit in turn to the part that has room and still lacks most of its share of the unit's labels."""
    mix = Counter(labels)
    parts: list[list[int]] = [[] for _ in sizes]
    held = [Counter[str]() for _ in sizes]

    def lacking(part: int, unit: Counter[str]) -> float:
        """1 at the start, 0 when the part has its share."""
        share = sizes[part] / len(labels)
        return sum(k * (1 - held[part][label] / (mix[label] * share)) for label, k in unit.items()) / unit.total()

    for unit in units:
        own = Counter(labels[i] for i in unit)
        room = [size - len(part) for size, part in zip(sizes, parts, strict=True)]
        fitting = [part for part, free in enumerate(room) if free >= len(unit)]
        chosen = max(fitting, key=lambda part: (lacking(part, own), room[part]), default=room.index(max(room)))
        parts[chosen] += unit
        held[chosen].update(own)
    return parts


def _none_empty(parts: Sequence[list[int]], sizes: Sequence[int], units: Iterable[list[int]]) -> list[list[int]]:
    """The parts, where one that got nothing takes the unit of the nearest size from the spare rows, which come last."""
    *wanted, spare = map(list, parts)
    for part, size in zip(wanted, sizes, strict=False):
        if size and not part and spare:
            part += min((unit for unit in units if unit[0] in spare), key=lambda unit: abs(len(unit) - size))
            spare = [i for i in spare if i not in part]
    return [*wanted, spare]


def _rounded(counts: Sequence[int], sizes: Sequence[int]) -> list[list[int]]:
    """A table with these row and column sums, each cell being its share rounded down or one more.

    Counts and sizes have the same sum. Each row of the table gives its leftovers to the columns that lack most, which
    always comes out even.
    Source: Gale (1957) and Ryser (1957) for tables of 0 and 1; Bacharach (1966), Management Science 12:732, for
    rounding a table so that its sums hold.
    """
    n = sum(sizes)
    table = [[count * size // n for size in sizes] for count in counts]
    lacking = [size - sum(column) for size, column in zip(sizes, zip(*table, strict=True), strict=False)]
    for count, cells in zip(counts, table, strict=True):
        neediest = sorted(range(len(sizes)), key=lambda i: (-lacking[i], -(count * sizes[i] % n), i))
        for i in neediest[: count - sum(cells)]:
            cells[i] += 1
            lacking[i] -= 1
    return table


def _misfits(parts: Sequence[Sequence[int]], sizes: Sequence[int], largest: int) -> Iterator[str]:
    """Says which parts are far from the size that was asked for. Raises DataError for a part that got nothing."""
    together = f"rows of one group or with equal inputs stay together; the largest such set has {largest} rows"
    for name, part, size in zip(PARTS, parts, sizes, strict=True):
        if size and not part:
            remedy = "Ask for other sizes, drop repeated rows, or group more finely."
            raise DataError(f"no rows are left for {name}: {together}. {remedy}")
        if abs(len(part) - size) > _TOLERANCE * size:
            yield f"{name} has {len(part)} rows where {size} were asked for: {together}."


def _contradictions(rows: Sequence[Example], inputs: Sequence[str]) -> Iterator[str]:
    """Says which rows have equal inputs and different answers: no prompt can get both right."""
    answers: dict[str, tuple[str, Any]] = {}
    pairs: list[tuple[str, str]] = []
    for row, own in zip(rows, inputs, strict=True):
        first, answer = answers.setdefault(own, (row.id, row.expected))
        if row.expected != answer:
            pairs.append((first, row.id))
    if pairs:
        yield f"Equal inputs with different answers are in {_listed(pairs)}."


def _overlaps(pairs: Iterable[Pair], names: Sequence[str], how: str) -> Iterator[str]:
    """One sentence for each two parts that overlap."""
    by_parts: defaultdict[tuple[int, int], list[tuple[str, str]]] = defaultdict(list)
    for pair in pairs:
        by_parts[pair.parts].append(pair.rows)
    for (a, b), rows in sorted(by_parts.items()):
        yield f"{names[a]} and {names[b]} have {how} inputs in {_listed(rows)}."


def _with_distinct_ids(parts: Sequence[Sequence[Example]]) -> list[list[Example]]:
    """The parts, with the part's name before each id where two parts use the same id."""
    ids = [row.id for part in parts for row in part]
    if len(set(ids)) == len(ids):
        return [list(part) for part in parts]
    return [[replace(row, id=f"{name}/{row.id}") for row in part] for name, part in zip(PARTS, parts, strict=True)]


def _listed(pairs: Sequence[tuple[str, str]]) -> str:
    shown = ", ".join(f"{a} and {b}" for a, b in pairs[:_SHOWN])
    more = f", and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
    return f"{len(pairs)} pair{'s' if len(pairs) > 1 else ''} of rows ({shown}{more})"
