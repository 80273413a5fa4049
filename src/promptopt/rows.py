"""Raw rows of files and frames, each with the place it stands at.

Every reader is a generator of numbered rows that raises DataError at the first thing that is wrong. CSV is read by the
csv module rather than pandas: it never guesses types, and it knows the line of a row after quoted newlines.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast

from promptopt.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pandas  # pyright: ignore[reportMissingTypeStubs]

Row = Mapping[str, Any]
Numbered = Iterator[tuple[int, Row]]
"""Rows, each with the line it starts on, or its number from 1 where there are no lines."""

_UNSPENT = "Nothing was spent."


@dataclass(frozen=True, slots=True)
class Place:
    """Where rows come from, for messages."""

    file: str | None = None
    unit: Literal["line", "row"] = "row"

    def error(self, message: str, row: int | None = None, column: str | None = None) -> DataError:
        return DataError(message, file=self.file, row=row, column=column, unit=self.unit)


@dataclass(frozen=True, slots=True)
class Format:
    """How one kind of file is read, and what its rows are counted in."""

    rows: Callable[[Path, Place], Numbered]
    unit: Literal["line", "row"]

    def open(self, path: str | Path) -> tuple[Numbered, Place]:
        """The file's rows, still unread. Raises DataError where there is no file or nothing in it."""
        path, place = Path(path), Place(str(path), self.unit)
        if path.is_dir():
            raise place.error("this is a directory. Name a file in it.")
        if not path.exists():
            raise place.error(f"there is no such file. {_similar_file(path)}")
        if path.stat().st_size == 0:
            raise place.error(f"the file is empty. {_UNSPENT}")
        return self.rows(path, place), place


def format_of(path: str | Path) -> Format:
    """The format that a file's ending stands for."""
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        what = f"the ending {ending!r} is not known" if ending else "the name has no ending"
        raise DataError(f"{what}. Known are {', '.join(FORMATS)}.", file=str(path))
    return FORMATS[ending]


def delimited(path: Path, place: Place, delimiter: str) -> Numbered:
    """Rows of text under a header."""
    records = csv.reader(_lines(path, place), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    start = 1
    try:
        for fields in records:
            if fields and header is None:
                header = fields
                _require_distinct(header, place)
            elif fields and header is not None:
                if len(fields) != len(header):
                    raise place.error(
                        f"{len(fields)} fields where the header has {len(header)}. A text that holds a "
                        f"{'tab' if delimiter == chr(9) else 'comma'}, a quote or a newline must stand in quotes.",
                        start,
                    )
                yield start, dict(zip(header, fields, strict=True))
            start = records.line_num + 1
    except csv.Error as error:
        raise place.error(
            f"not valid CSV ({error}). Close every quote and double the quotes inside a text; "
            f"texts above {csv.field_size_limit():,} characters belong in JSONL or Parquet. {_UNSPENT}",
            start,
        ) from None


def json_lines(path: Path, place: Place) -> Numbered:
    """One object a line; blank lines are skipped."""
    for number, line in enumerate(_lines(path, place), 1):
        if text := line.strip():
            row = _parsed(text, place, number)
            if not isinstance(row, dict):
                raise place.error(f"not a JSON object but {_kind(row)}. Each line needs the form {_FORM}.", number)
            yield number, cast(Row, row)


def json_array(path: Path, place: Place) -> Numbered:
    """An array of objects."""
    text = "".join(_lines(path, place))
    body = _parsed(text, place)
    if not isinstance(body, list):
        raise place.error(f"an array of objects is needed, [{_FORM}, ...], and this is {_kind(body)}.")
    yield from objects(cast("list[object]", body), place)


def parquet(path: Path, place: Place) -> Numbered:
    """Rows of a Parquet file, a few thousand in memory at a time."""
    arrow, parquet_files = cast(Any, import_module("pyarrow")), cast(Any, import_module("pyarrow.parquet"))
    number = 0
    try:
        with parquet_files.ParquetFile(path) as file:
            _require_distinct(file.schema_arrow.names, place)
            for batch in file.iter_batches(batch_size=4096):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (arrow.ArrowException, OSError) as error:
        raise place.error(f"not a readable Parquet file ({str(error).splitlines()[0]}). {_UNSPENT}") from None


def frame(rows: pandas.DataFrame, place: Place) -> Numbered:
    """Rows of a DataFrame, without its index."""
    names = [str(name) for name in cast("Iterable[object]", rows.columns)]
    _require_distinct(names, place)
    for number, values in enumerate(rows.itertuples(index=False, name=None), 1):
        yield number, dict(zip(names, values, strict=True))


def objects(rows: Iterable[object], place: Place) -> Numbered:
    """Mappings, as they are."""
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise place.error(f"not an object but {_kind(row)}. Each row needs the form {_FORM}.", number)
        yield number, cast(Row, row)


FORMATS: Mapping[str, Format] = {
    ".csv": Format(partial(delimited, delimiter=","), "line"),
    ".tsv": Format(partial(delimited, delimiter="\t"), "line"),
    ".jsonl": Format(json_lines, "line"),
    ".ndjson": Format(json_lines, "line"),
    ".json": Format(json_array, "row"),
    ".parquet": Format(parquet, "row"),
}
_FORM = '{"text": "...", "label": "..."}'


def _lines(path: Path, place: Place) -> Iterator[str]:
    """The file's lines with their ends, a byte order mark left out."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, line in enumerate(file, 1):
                if "\0" in line:
                    raise DataError(
                        f"a NUL byte: not plain text. Save the file as UTF-8. {_UNSPENT}", file=place.file, row=number
                    )
                yield line
    except UnicodeDecodeError:
        _tell_encoding(path, place)
    except OSError as error:
        raise place.error(f"cannot be read ({error.strerror})") from None


def _tell_encoding(path: Path, place: Place) -> NoReturn:
    """Find the first line that is not UTF-8, which a decoder of large blocks cannot name."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                message = f"not UTF-8: byte 0x{line[error.start]:02x} at position {error.start + 1} of the line"
                raise DataError(f"{message}. Save the file as UTF-8. {_UNSPENT}", file=place.file, row=number) from None
    raise place.error("not UTF-8. Save the file as UTF-8.")


def _parsed(text: str, place: Place, number: int | None = None) -> object:
    """The JSON value of a line, or of a whole file when `number` is None."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        hint = ""
        if number is None and error.msg == "Extra data":
            hint = " If every line is an object, name the file .jsonl."
        message = f"not valid JSON ({error.msg.removesuffix(' delimiter')} at column {error.colno}). {_UNSPENT}{hint}"
        raise DataError(message, file=place.file, row=number or error.lineno) from None
    except (RecursionError, ValueError) as error:
        raise place.error(f"JSON that cannot be read ({error}). {_UNSPENT}", number) from None


def _kind(value: object) -> str:
    names = {"dict": "an object", "list": "an array", "str": "a text", "bool": "true or false", "NoneType": "null"}
    return names.get(
        type(value).__name__, f"a number ({value})" if isinstance(value, int | float) else "something else"
    )


def _require_distinct(names: Sequence[str], place: Place) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        told = ", ".join(map(repr, twice))
        raise place.error(f"columns are named twice: {told}. Rename one of each.", column=twice[0])


def _similar_file(path: Path) -> str:
    names = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    return did_you_mean(path.name, names, "Check the path.", path.with_name)
