"""One row of data, as every program and metric sees it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str).encode


@dataclass(frozen=True, slots=True)
class Example:
    """One row: what goes in, what should come out, and everything else the row says.

    Columns are also attributes and items (`example.text`, `example["text"]`), which is how a Python metric reads them.
    A column that is called like a field below is reached as an item only. Equal examples have equal fields; the hash
    is that of the id.
    """

    id: str
    inputs: Mapping[str, Any]
    expected: Any = None
    """The wanted answer: one column's value, or a mapping when several columns are expected."""
    group: str | None = None
    """Rows of one session, customer or document share it; splits and intervals keep them together."""
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Every column of the row that is not named in `inputs`."""

    def __getitem__(self, column: str) -> Any:
        return self.inputs[column] if column in self.inputs else self.meta[column]

    def __getattr__(self, column: str) -> Any:
        if column.startswith("__") or column in Example.__slots__:  # a field is missing only while being unpickled
            raise AttributeError(column)
        try:
            return self[column]
        except KeyError:
            known = ", ".join([*self.inputs, *self.meta])
            raise AttributeError(f"the row has no column {column!r}; it has {known}") from None

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def digest(self) -> str:
        """A hash of all the row says, without its id: what a paid call or a score is keyed by."""
        return _hash([dict(self.inputs), self.expected, self.group, dict(self.meta)])

    @property
    def inputs_digest(self) -> str:
        """A hash of the inputs alone: equal for exact duplicates, whatever answer or group they carry."""
        return _hash(dict(self.inputs))


def text_of(value: Any) -> str:
    """A column's value as a model reads it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def are_labels(answers: Sequence[str]) -> bool:
    """Whether answers are a choice among few: each stands there twice and more in the mean."""
    return bool(answers) and 2 * len(set(answers)) <= len(answers)


def with_ids(examples: Iterable[Example]) -> Iterator[Example]:
    """Ids made from content: they stay when rows are reordered or others are added."""
    seen: Counter[str] = Counter()
    for example in examples:
        short = example.digest[:12]
        seen[short] += 1
        yield replace(example, id=short if seen[short] == 1 else f"{short}-{seen[short]}")


def _hash(content: object) -> str:
    return hashlib.blake2b(_canonical(content).encode(), digest_size=16).hexdigest()
