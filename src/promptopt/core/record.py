"""Rows of other libraries as examples: whatever knows its inputs and its labels, as DSPy's examples do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from promptopt.core.example import Example, with_ids
from promptopt.core.plain import plain_value
from promptopt.errors import DataError

_INTERNAL = "dspy_"
"""What DSPy's loaders put in front of fields of their own, which differ from load to load."""


class Fields(Protocol):
    """Named values."""

    def toDict(self) -> dict[str, Any]: ...


class Record(Protocol):
    """A row that knows which of its fields go in."""

    def inputs(self) -> Fields:
        """What a program is given. Raises ValueError where nobody has said what that is."""
        ...

    def labels(self) -> Fields:
        """All other fields."""
        ...


def examples_of(rows: Iterable[Example] | Iterable[Record]) -> tuple[Example, ...]:
    """The rows as examples, with ids made from their content; rows that are examples stay as they are.

    A single label is the expected answer itself, several are a mapping. Values are brought to what JSON can hold: a
    pydantic model becomes a mapping.

    Raises DataError, with the row's number, for a row that does not say its inputs and a value that JSON cannot hold.
    """
    given: list[Example | Record] = list(rows)
    examples = tuple(row for row in given if isinstance(row, Example))
    if len(examples) == len(given):
        return examples
    return tuple(with_ids(_example(row, number) for number, row in enumerate(given, 1)))


def _example(row: Example | Record, number: int) -> Example:
    if isinstance(row, Example) or not callable(getattr(row, "inputs", None)):
        kind = type(row).__name__
        raise DataError(f"{kind} where a dspy.Example with inputs and labels belongs", row=number, unit="row")
    try:
        inputs, labels = row.inputs(), row.labels()
    except ValueError:
        raise DataError("its inputs are not named; call with_inputs(...) on it", row=number, unit="row") from None
    given, answers = _plain_fields(inputs, number), _plain_fields(labels, number)
    if not given:
        raise DataError("it has none of the fields that with_inputs(...) names", row=number, unit="row")
    expected = next(iter(answers.values())) if len(answers) == 1 else answers or None
    return Example("", given, expected, meta=answers)


def _plain_fields(fields: Fields, number: int) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in fields.toDict().items():
        if not name.startswith(_INTERNAL):
            try:
                plain[name] = plain_value(value)
            except (ValueError, RecursionError) as error:
                reason = error if isinstance(error, ValueError) else "is nested too deeply"
                raise DataError(f"field {name!r} {reason}. Turn it into text.", row=number, unit="row") from None
    return plain
