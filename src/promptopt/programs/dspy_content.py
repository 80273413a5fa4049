"""What the values that a module holds are: the same for equal ones in every process, another where one has changed.

Of all but numbers and texts it is a digest, so nothing else that is held can be read from it.
"""

from __future__ import annotations

import copyreg
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, cast

import dspy
import pydantic
from dspy.predict.parameter import Parameter  # pyright: ignore[reportMissingTypeStubs]
from pydantic import TypeAdapter

from promptopt.errors import ConfigError
from promptopt.execute.user_code import source_hash

DEEPEST = 2
"""How many objects within objects have their attributes looked at. Containers and plain data do not count."""

_BY_NAME = {"dspy", *sys.stdlib_module_names}
"""Packages whose code counts by its name: it changes with a version of Python, or of DSPy, which is told."""
_MANAGED = {"callbacks", "history", "promptopt"}
_OF_PARAMETERS = {"stage", "train", "traces"}
"""What DSPy keeps in predictors and retrievers; a `stage` is drawn by chance."""
_SECRET = re.compile("(api_key|token|secret|password)$", re.IGNORECASE)


class Contents:
    """Reads values, each of them once. `elsewhere` are parts that the caller tells about by other means."""

    def __init__(self, elsewhere: Iterable[object] = ()) -> None:
        self._elsewhere = {id(part): part for part in elsewhere}
        self._read: dict[tuple[int, int], tuple[object, str]] = {}  # with the value, so that its id stays its own

    def of(self, value: Any, within: int = 0) -> Any:
        """A number or a text as it is, a digest of anything else. `within` counts the objects around it."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if id(value) in self._elsewhere:
            return ["elsewhere"]
        key = id(value), within
        if key not in self._read:
            self._read[key] = value, "a cycle"
            kind = None if isinstance(value, type) else self.of(type(value))
            self._read[key] = value, _digest(json.dumps([kind, self._parts(value, within)]).encode())
        return [self._read[key][1]]

    def attributes(self, holder: object, held: Mapping[str, Any], within: int = 0) -> dict[str, Any]:
        """What an object holds under public names, but for keys, caches and what DSPy keeps there while it runs."""
        left_out = {name for name in held if isinstance(getattr(type(holder), name, None), cached_property)}
        if any(base.__module__.startswith("dspy.") for base in type(holder).__mro__):
            left_out |= _MANAGED
        if isinstance(holder, Parameter):
            left_out |= _OF_PARAMETERS
        return {
            name: self.of(value, within)
            for name, value in held.items()
            if not name.startswith("_") and not _SECRET.search(name) and name not in left_out
        }

    def _parts(self, value: Any, within: int) -> Any:
        match value:
            case bytes() | bytearray():
                return _digest(value)
            case dict():
                pairs = cast("dict[Any, Any]", value).items()
                return sorted(json.dumps([self.of(name, within), self.of(part, within)]) for name, part in pairs)
            case list() | tuple():
                return [self.of(part, within) for part in cast("list[Any]", value)]
            case set() | frozenset():
                return sorted(json.dumps(self.of(part, within)) for part in cast("set[Any]", value))
            case type():
                return signature_content(value) if issubclass(value, dspy.Signature) else _code(value)
            case FunctionType():
                return self._function(value, within)
            case CodeType():
                return [value.co_code.hex(), self.of(value.co_names), self.of(value.co_consts)]
            case ModuleType():
                return value.__name__
            case dspy.BaseLM():
                return str(value.model)
            case dspy.Example():
                return self.of(dict(cast("Mapping[str, Any]", value)), within)
            case pydantic.BaseModel():
                return self.attributes(value, {**vars(value), **(value.model_extra or {})}, within)
            case _ if is_dataclass(value):
                held = {field.name: getattr(value, field.name, None) for field in fields(value)}
                return self.attributes(value, held, within)
            case _ if hasattr(value, "__wrapped__"):  # as of functools.cache
                return self.of(value.__wrapped__, within)
            case _:
                return self._object(value, min(within, DEEPEST) + 1)

    def _function(self, function: FunctionType, within: int) -> Any:
        """Its source, what tells it from others of the same name there, its defaults and what it closes over."""
        code = _code(function)
        if hasattr(function, "version"):
            return code
        own = None if _known_by_name(function) else self.of(function.__code__)
        closed_over = [_content(cell) for cell in function.__closure__ or ()]
        given = [function.__defaults__, function.__kwdefaults__, closed_over]
        return [code, own, self.of(given, within)]

    def _object(self, value: object, within: int) -> Any:
        """What it would be pickled as; nothing of what cannot be, such as a lock or a connection."""
        try:
            registered: Any = copyreg.dispatch_table.get(type(value))
            pickled = registered(value) if registered else value.__reduce_ex__(4)
        except Exception:
            return None
        if isinstance(pickled, str):
            return pickled
        make, args, state, items, pairs = (*pickled, None, None, None)[:5]
        held = _attributes(state)
        if held is not None:
            state = self.attributes(value, held, within) if within <= DEEPEST else None
        made: list[Any] = [make, args, state, [*(items or ()), *(pairs or ())]]
        return [self.of(part, within) for part in made]


def _attributes(state: Any) -> dict[str, Any] | None:
    """The attributes and slots in what an object pickles of itself; None where it is something else."""
    parts = cast("tuple[Any, ...]", state if isinstance(state, tuple) else (state,))
    if not all(isinstance(part, dict | None) for part in parts):
        return None
    return {str(name): value for part in parts for name, value in cast("dict[str, Any]", part or {}).items()}


def signature_content(signature: Any) -> list[Any]:
    """A signature's texts, and its fields' types."""
    return [signature.dump_state(), {name: _type(field.annotation) for name, field in signature.fields.items()}]


def code_of(code: Any) -> str:
    """A class or function by name, and by its source where that is the user's. Raises ConfigError as `source_hash`."""
    name = str(getattr(code, "__qualname__", type(code).__qualname__))
    return name if _known_by_name(code) else f"{name} {source_hash(code)}"


def _code(code: Any) -> str:
    """`code_of`, by name alone where there is no source to read, as of what is not written in Python."""
    try:
        return code_of(code)
    except ConfigError:
        return str(code.__qualname__)


def _known_by_name(code: object) -> bool:
    return str(getattr(code, "__module__", "")).partition(".")[0] in _BY_NAME


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not set yet
        return None


def _type(annotation: Any) -> Any:
    """A field's type with all that it is made of."""
    try:
        return TypeAdapter(annotation).json_schema()
    except Exception:  # a type without a schema
        return str(annotation)


def _digest(content: bytes | bytearray) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
