"""Rows from files, frames and lists, as examples.

Text files keep their text: a CSV cell `007` stays "007" and an empty one "". JSON and Parquet keep their types, turned
into plain JSON values. Whatever is wrong with a file is a DataError that says where, before anything is spent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Required, TypedDict, Unpack

from promptopt import rows
from promptopt.config.settings import DataSettings
from promptopt.core.example import Example, with_ids
from promptopt.core.plain import plain_value
from promptopt.core.record import Record, examples_of
from promptopt.core.split import Split, given, split
from promptopt.errors import DataError, did_you_mean
from promptopt.rows import Format, Numbered, Place, Row

if TYPE_CHECKING:
    import pandas  # pyright: ignore[reportMissingTypeStubs]

Names = str | Sequence[str] | Mapping[str, str]
"""A column, several, or the name each gets in the program with the column it is read from."""

_SHOWN = 5


class Columns(TypedDict, total=False):
    """What the columns of the data are for."""

    inputs: Required[Names]
    """What the program is given; `{name}` in a prompt."""
    expected: Names | None
    """The wanted answer: one column's value, or a mapping when given as a list or mapping."""
    id: str | None
    """A column of unique ids. Without one, ids are made from the rows' content."""
    group: str | None
    """What rows have in common that must not be split: a session, a customer, a document."""
    unanswered: bool
    """Whether rows may lack the wanted answer, or leave it blank: it is None then."""


@dataclass(frozen=True, slots=True, repr=False)
class Dataset:
    """Examples, and the name of what they were read from."""

    examples: tuple[Example, ...]
    source: str = "a list"

    @staticmethod
    def read(path: str | Path, **columns: Unpack[Columns]) -> Dataset:
        """Read a file by its ending: .csv, .tsv, .jsonl, .ndjson, .json (an array of objects) or .parquet."""
        return _read(path, rows.format_of(path), columns)

    @staticmethod
    def from_csv(path: str | Path, **columns: Unpack[Columns]) -> Dataset:
        """Read a comma-separated file with a header, whatever its ending."""
        return _read(path, rows.FORMATS[".csv"], columns)

    @staticmethod
    def from_jsonl(path: str | Path, **columns: Unpack[Columns]) -> Dataset:
        """Read a file with one JSON object a line, whatever its ending."""
        return _read(path, rows.FORMATS[".jsonl"], columns)

    @staticmethod
    def from_json(path: str | Path, **columns: Unpack[Columns]) -> Dataset:
        """Read a file that holds one array of JSON objects, whatever its ending."""
        return _read(path, rows.FORMATS[".json"], columns)

    @staticmethod
    def from_parquet(path: str | Path, **columns: Unpack[Columns]) -> Dataset:
        """Read a Parquet file, whatever its ending."""
        return _read(path, rows.FORMATS[".parquet"], columns)

    @staticmethod
    def from_frame(frame: pandas.DataFrame, **columns: Unpack[Columns]) -> Dataset:
        """Take the rows of a pandas DataFrame; its index is not used."""
        return Dataset(_examples(rows.frame(frame, Place()), _Roles.of(**columns), Place()), "a frame")

    @staticmethod
    def from_rows(dicts: Iterable[Row], **columns: Unpack[Columns]) -> Dataset:
        """Take dictionaries, one a row."""
        return Dataset(_examples(rows.objects(dicts, Place()), _Roles.of(**columns), Place()))

    @staticmethod
    def from_dspy(examples: Iterable[Record]) -> Dataset:
        """Take DSPy's examples; `with_inputs` says what goes in, and the other fields are the wanted answer."""
        return Dataset(examples_of(examples), "a list of DSPy's examples")

    def split(self, *, train: float, val: float, test: float, seed: int = 0) -> Split:
        """Draw train, val and test: numbers below 1 are shares of the data, others are numbers of rows.

        See `promptopt.core.split.split` for what stays together.
        """
        return split(self.examples, train=train, val=val, test=test, seed=seed)

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]

    def __repr__(self) -> str:
        return f"Dataset({len(self.examples)} rows of {self.source})"


@dataclass(frozen=True, slots=True)
class _Roles:
    """Columns, with every form that `Columns` allows brought to one."""

    inputs: Mapping[str, str]
    expected: str | Mapping[str, str] | None
    id: str | None
    group: str | None
    needed: tuple[str, ...]
    optional: frozenset[str]
    """Those of the needed columns that a row may lack or leave blank."""

    @staticmethod
    def of(
        inputs: Names,
        expected: Names | None = None,
        id: str | None = None,
        group: str | None = None,
        unanswered: bool = False,
    ) -> _Roles:
        named = _by_name(inputs)
        answers = expected if expected is None or isinstance(expected, str) else _by_name(expected)
        if not named or answers == {}:
            raise DataError(f"{'expected' if named else 'inputs'} names no column")
        wanted = tuple(answers.values()) if isinstance(answers, Mapping) else (answers,) if answers else ()
        needed = tuple(column for column in (*named.values(), *wanted, id, group) if column is not None)
        return _Roles(named, answers, id, group, needed, frozenset(wanted if unanswered else ()))

    def example(self, row: Row) -> Example:
        """The row as an example, with an empty id where no column gives one."""
        return Example(
            id=str(row[self.id]) if self.id else "",
            inputs={name: row[column] for name, column in self.inputs.items()},
            expected=self._answer(row),
            group=str(row[self.group]) if self.group else None,
            meta={column: value for column, value in row.items() if column not in self.inputs},
        )

    def _answer(self, row: Row) -> Any:
        if self.expected is None:
            return None
        if isinstance(self.expected, str):
            answer = row.get(self.expected)
            return None if self.optional and _blank(answer) else answer
        answers = {name: row.get(column) for name, column in self.expected.items()}
        return None if self.optional and all(map(_blank, answers.values())) else answers


def _blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _read(path: str | Path, format: Format, columns: Columns) -> Dataset:
    roles = _Roles.of(**columns)
    numbered, place = format.open(path)
    return Dataset(_examples(numbered, roles, place), str(path))


def _by_name(names: Names) -> dict[str, str]:
    if isinstance(names, Mapping):
        return dict(names)
    return {name: name for name in ([names] if isinstance(names, str) else names)}


def _examples(numbered: Numbered, roles: _Roles, place: Place) -> tuple[Example, ...]:
    examples: list[Example] = []
    numbers: list[int] = []
    unseen = set(roles.optional)
    for number, row in numbered:
        unseen.difference_update(row)
        examples.append(roles.example(_checked(row, roles, place, number, first=not examples)))
        numbers.append(number)
    if not examples:
        raise place.error("there are no rows. Nothing was spent.")
    if unseen:
        raise place.error(_no_column(min(unseen), {**examples[0].inputs, **examples[0].meta}), None, min(unseen))
    if roles.id is None:
        return tuple(with_ids(examples))
    _require_distinct(examples, numbers, roles.id, place)
    return tuple(examples)


def _checked(row: Row, roles: _Roles, place: Place, number: int, *, first: bool) -> dict[str, Any]:
    """The row in plain JSON values, with every needed column there and filled.

    Other columns are more lenient: a value that JSON cannot hold is left out.
    """
    plain: dict[str, Any] = {}
    for column, value in row.items():
        try:
            plain[str(column)] = value if type(value) is str and value.isascii() else plain_value(value)
        except (ValueError, RecursionError) as error:
            if column in roles.needed:
                reason = error if isinstance(error, ValueError) else "is nested too deeply"
                raise place.error(f"column {column!r} {reason}. Turn it into text.", number, column) from None
    for column in roles.needed:
        if column in roles.optional and plain.get(column) is None:
            continue
        if column not in plain:
            raise place.error(_no_column(column, plain), None if first else number, column)
        if plain[column] is None:
            remedy = "Fill it in or leave the row out."
            raise place.error(f"column {column!r} is empty (null or NaN). {remedy}", number, column)
    for column in (roles.id, roles.group):
        if column and (plain[column] == "" or isinstance(plain[column], dict | list)):
            what = "an id" if column == roles.id else "a group"
            raise place.error(f"column {column!r} must hold {what}, not {plain[column]!r}", number, column)
    return plain


def _no_column(column: str, present: Mapping[str, Any]) -> str:
    lower = {name.lower().strip(): name for name in present}
    hint = did_you_mean(column.lower(), lower, "", lambda name: repr(lower[name]))
    return f"there is no column {column!r}.{hint and f' {hint}'} There are: {', '.join(present)}"


def _require_distinct(examples: Sequence[Example], numbers: Sequence[int], column: str, place: Place) -> None:
    first: dict[str, int] = {}
    repeats = [
        (example.id, first[example.id], number)
        for example, number in zip(examples, numbers, strict=True)
        if first.setdefault(example.id, number) != number
    ]
    if repeats:
        told = ", ".join(f"{id!r} on {place.unit}s {one} and {two}" for id, one, two in repeats[:_SHOWN])
        more = f" and {len(repeats) - _SHOWN} more" if len(repeats) > _SHOWN else ""
        remedy = f"Make column {column!r} unique, or leave id out to have ids made from the content."
        raise place.error(f"ids repeat: {told}{more}. {remedy}", repeats[0][2], column)


def columns_of(data: DataSettings, unanswered: bool) -> Columns:
    """What the columns of these rows are for."""
    return {
        "inputs": data.inputs,
        "expected": data.expected,
        "id": data.id,
        "group": data.group,
        "unanswered": unanswered,
    }


def split_of(data: DataSettings, base: Path, unanswered: bool) -> Split:
    """The rows that a config's `data` names, `unanswered` where they may lack the wanted answer.

    Raises DataError for files that cannot be read or split.
    """
    columns = columns_of(data, unanswered)
    if data.path is not None and data.split is not None:
        rows = Dataset.read(base / data.path, **columns)
        sizes = data.split
        return split(rows.examples, train=sizes.train, val=sizes.val, test=sizes.test, seed=sizes.seed)
    files = [path for path in (data.train, data.val, data.test) if path is not None]
    parts: Sequence[Dataset] = [Dataset.read(base / path, **columns) for path in files]
    return given(*(part.examples for part in parts), names=files)
