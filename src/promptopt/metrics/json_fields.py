"""Fields of a JSON output against the expected ones."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.lm.session import Session
from promptopt.metrics.answer_text import as_text, normalise, quote, wanted
from promptopt.metrics.built_in import STRICT, BuiltIn

_FENCED = re.compile(r"```(?:json|JSON)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL)

SCHEMA_PART = "json schema"
"""The sub-score that says whether the output follows the schema."""


@dataclass(frozen=True, config=STRICT)
class JsonMatch(BuiltIn):
    """The share of expected fields that the output has right; each field is a sub-score of its own.

    The output is an object, or text that is one JSON object and nothing else (a ```json fence around it is allowed).
    Further fields are ignored; forbid them with a schema. An output that breaks the schema scores 0.
    """

    type: ClassVar[str] = "json_match"

    fields: tuple[str, ...] | None = Field(None, min_length=1)
    """The fields that count; None takes all of the row's expected answer, a mapping or the text of a JSON object."""
    normalise: bool = True
    """Compare values as text without case, spacing and wrapping quotes, so that `"42"` equals `42`."""
    schema: Mapping[str, Any] | None = None
    """A JSON schema for the whole output; in YAML also the name of a file. With a schema the rows need no expected
    answer; without one either, the score is whether the schema holds."""

    @field_validator("schema")
    @classmethod
    def _is_a_schema(cls, schema: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        if schema is not None:
            from jsonschema import SchemaError
            from jsonschema.validators import validator_for

            try:
                cast(Any, validator_for(schema)).check_schema(schema)
            except SchemaError as error:
                raise ValueError(f"not a JSON schema: {error.message} at {error.json_path}") from None
        return schema

    @property
    def binary(self) -> bool:
        return False

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        want = {} if example.expected is None and self.schema and not self.fields else self._wanted_fields(example)
        if rollout.output is None:
            return Score(0.0, "Wanted a JSON object, but there was no output.", dict.fromkeys(want, 0.0))
        try:
            got = read_json(rollout.output) if isinstance(rollout.output, str) else rollout.output
            if not isinstance(got, Mapping):
                raise ValueError(f"it is {_kind(got)}, not an object")
        except ValueError as error:
            feedback = f"The reply must be one JSON object and nothing else: {error}. It was {quote(rollout.output)}."
            return Score(0.0, feedback, dict.fromkeys(want, 0.0))
        return self._compare(cast("Mapping[str, Any]", got), want)

    def _wanted_fields(self, example: Example) -> dict[str, Any]:
        expected = wanted(example)
        if isinstance(expected, str):
            try:
                expected = read_json(expected)
            except ValueError as error:
                raise ValueError(f"row {example.id!r}: the expected answer is not JSON: {error}") from None
        if not isinstance(expected, Mapping) or not expected:
            raise ValueError(f"row {example.id!r}: the expected answer {quote(expected)} is not an object with fields")
        known = cast("Mapping[str, Any]", expected)
        if missing := [name for name in self.fields or () if name not in known]:
            raise ValueError(f"row {example.id!r}: the expected answer has no field {missing[0]!r}")
        return {name: known[name] for name in self.fields or known}

    def _compare(self, got: Mapping[str, Any], want: Mapping[str, Any]) -> Score:
        parts = {name: float(name in got and same(got[name], value, self.normalise)) for name, value in want.items()}
        faults = [
            f"{name}: wanted {quote(want[name])}, " + (f"got {quote(got[name])}." if name in got else "it is missing.")
            for name, right in parts.items()
            if not right
        ]
        value = sum(parts.values()) / len(parts) if parts else 1.0
        if self.schema is not None:
            fault = schema_fault(got, self.schema)
            parts[SCHEMA_PART] = float(fault is None)
            if fault is not None:
                value = 0.0
                faults.insert(0, f"The reply breaks the schema: {fault}.")
        return Score(value, " ".join(faults) or "Correct.", parts)


def read_json(text: str) -> Any:
    """The one JSON value that `text` is, bare or in one fenced block, with nothing around it.

    Raises ValueError for anything else, and for what JSON itself leaves open: a key that comes twice, NaN, Infinity.
    """
    stripped = text.strip()
    fenced = _FENCED.fullmatch(stripped)
    try:
        return json.loads(fenced[1] if fenced else stripped, object_pairs_hook=_object, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"the key {quote(twice)} comes twice")
    return fields


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def same(got: Any, want: Any, normalised: bool) -> bool:
    """Whether two JSON values are equal: objects by key, lists in order, and the rest as said by `normalised`."""
    if isinstance(want, Mapping):
        fields = cast("Mapping[str, Any]", want)
        return (
            isinstance(got, Mapping)
            and cast("Mapping[str, Any]", got).keys() == fields.keys()
            and all(same(got[key], value, normalised) for key, value in fields.items())
        )
    if isinstance(want, Sequence) and not isinstance(want, str):
        items = cast("Sequence[Any]", want)
        return (
            isinstance(got, Sequence)
            and not isinstance(got, str)
            and len(cast("Sequence[Any]", got)) == len(items)
            and all(same(a, b, normalised) for a, b in zip(cast("Sequence[Any]", got), items, strict=True))
        )
    if isinstance(got, Mapping | list) or (got is None) != (want is None):
        return False
    if normalised:
        return normalise(as_text(got)) == normalise(as_text(want))
    return isinstance(got, bool) == isinstance(want, bool) and got == want


def schema_fault(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Where `value` breaks `schema`, in words; None where it holds. References to other documents are not fetched."""
    from jsonschema import exceptions
    from jsonschema.validators import validator_for
    from referencing import Registry

    validator = cast(Any, validator_for(schema))(schema, registry=cast(Any, Registry)())
    error = cast(Any, exceptions).best_match(validator.iter_errors(value))
    return None if error is None else f"{error.message[:300]} at {error.json_path}"


def _kind(value: Any) -> str:
    names = {str: "a string", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    kind = cast("type[Any]", type(value))
    return "null" if value is None else names.get(kind, f"a {kind.__name__}")
