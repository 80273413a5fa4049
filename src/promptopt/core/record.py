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

    def toDict(self) -> dict[str, Any]: ...  # noqa: N802


class Record(Protocol):
    """A row that knows which of its fields go in."""

    def inputs(self) -> Fields:
        """What a program is given. Raises ValueError where nobody has said what that is."""
        ...

    def labels(self) -> Fields:
        """All other fields."""
        ...


def examples_of(rows: Iterable[Example | Record]) -> tuple[Example, ...]:
    """The rows as examples, with ids made from their content; what is an example already stays as it is.

    A single label is the expected answer itself, several are a mapping. Values are brought to what JSON can hold: a
    pydantic model becomes a mapping.

    Raises DataError, with the row's number, for a row that does not say its inputs and for a value that JSON cannot hold.
    """
    known: dict[int, Example] = {}
    made: dict[int, Example] = {}
    for number, row in enumerate(rows, 1):
        if isinstance(row, Example):
            known[number] = row
        else:
            made[number] = _example(row, number)
    made = dict(zip(made, with_ids(made.values()), strict=True))
    return tuple(example for _, example in sorted({**known, **made}.items()))


def _example(row: Record, number: int) -> Example:
    if not callable(getattr(row, "inputs", None)) or not callable(getattr(row, "labels", None)):
        raise DataError(f"{type(row).__name__} is no example; give dspy.Example or promptopt.Example", row=number, unit="row")
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
