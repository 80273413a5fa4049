"""What is wrong with a config, said to the person who wrote it: place, key, what it must be, the nearest valid key."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from promptopt.config.document import Document, KeyPath, dotted, kind
from promptopt.config.settings import Config
from promptopt.errors import ConfigError

MAX_SHOWN = 5
"""Complaints in one error; the rest are counted."""

_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "decimal_type": "a number",
    "decimal_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than_equal": "at most {le:g}",
    "literal_error": "{expected}",
}
"""How "must be ..." goes on, by pydantic's type of error."""
_SECRET = ("api_key", "api_key_env", "password", "secret")
"""Settings whose values are never repeated: a key may stand there by mistake."""


@dataclass(frozen=True, slots=True)
class _Trouble:
    """One of pydantic's errors, found in the document and in the settings."""

    details: ErrorDetails
    path: KeyPath
    around: list[Any]
    """The groups of settings, one of which holds the last key of `path`."""
    root: type[BaseModel]
    """What the whole document is to be."""


def explain(
    error: ValidationError, document: Document, group: str | None = None, root: type[BaseModel] = Config
) -> ConfigError:
    """`error` as one ConfigError with a line for each complaint.

    `group` is the part of `document` it is about, `root` what the whole document is to be.
    """
    start = () if group is None else (group,)
    complaints: dict[KeyPath, list[_Trouble]] = {}
    for details in error.errors(include_url=False):
        trouble = _find(details, (*start, *details["loc"]), document.values, root)
        complaints.setdefault(trouble.path, []).append(trouble)
    for path in [path for path in complaints if any(other[: len(path)] == path != other for other in complaints)]:
        del complaints[path]  # the same trouble, told again for the other branch of a union
    said = [document.error(path, _sentence(path, found)) for path, found in complaints.items()]
    said.sort(key=lambda complaint: complaint.line or 0)
    shown = [str(complaint) for complaint in said[:MAX_SHOWN]]
    if len(said) > MAX_SHOWN:
        shown.append(f"and {len(said) - MAX_SHOWN} more")
    first = said[0]
    joined = ConfigError("\n".join(shown), key=first.key)
    joined.file, joined.line = first.file, first.line
    return joined


def _sentence(path: KeyPath, found: Sequence[_Trouble]) -> str:
    trouble, details = found[0], found[0].details
    key = dotted(path) or "the config"
    match details["type"]:
        case "missing":
            return f"{key} is missing"
        case "extra_forbidden":
            near = _nearest(trouble)
            known = ", ".join(sorted({name for part in trouble.around for name in _names(part)}))
            return f"{key} is not a setting. " + (f"Did you mean {near}?" if near else f"There are {known}.")
        case "value_error":
            return f"{key} {details.get('ctx', {})['error']}"
        case "union_tag_not_found":
            return f"{key} is missing; it is one of {_tags(trouble)}"
        case "union_tag_invalid":
            return f"{key} must be one of {_tags(trouble)}, got {kind(details['input'].get('type'))}"
        case "string_too_short" | "too_short":
            return f"{key} must not be empty"
        case _:
            wanted = _wanted([one.details for one in found])
            got = "" if path and path[-1] in _SECRET else f", got {kind(details['input'])}"
            return f"{key} must be {wanted}{got}" if wanted else f"{key}: {details['msg']}"


def _wanted(found: Sequence[ErrorDetails]) -> str:
    """What the value must be, by all branches of its type: `text, a list or a mapping`."""
    words = [_WANTED[one["type"]].format(**one.get("ctx", {})) for one in found if one["type"] in _WANTED]
    choices = [word for word in dict.fromkeys(words) if word != "a whole number" or "a number" not in words]
    return " or ".join([", ".join(choices[:-1]), choices[-1]] if len(choices) > 1 else choices)


def _nearest(trouble: _Trouble) -> str | None:
    """The valid key that an unknown one most likely means, beside it or anywhere else."""
    *above, wrong = trouble.path
    close = difflib.get_close_matches(str(wrong), [name for part in trouble.around for name in _names(part)], 1)
    if close:
        return dotted((*above, close[0]))
    sections = [(name, part) for name, field in trouble.root.model_fields.items() for part in _parts(field.annotation)]
    return next((dotted((name, wrong)) for name, part in sections if wrong in _names(part) and [name] != above), None)


def _find(details: ErrorDetails, loc: KeyPath, values: Any, root: type[BaseModel]) -> _Trouble:
    """Where the trouble is: pydantic's location without its marks for the branches of a union."""
    path: KeyPath = ()
    around: list[Any] = []
    here: list[Any] = [root]
    for key in loc:
        tagged = [part for part in here if key in _tag_of(part)]
        if len(here) > 1 and tagged:
            here = tagged
        elif _has(values, key) or any(key in _names(part) for part in here):
            path, around = (*path, key), here
            here = [inner for part in here for inner in _step(part, key)]
            values = values[key] if _has(values, key) else None
    if details["type"].startswith("union_tag"):
        path, around = (*path, "type"), here
    return _Trouble(details, path, around, root)


def _has(values: Any, key: str | int) -> bool:
    if isinstance(values, list):
        return isinstance(key, int) and key < len(cast("list[Any]", values))
    return isinstance(values, Mapping) and key in values


def _step(part: Any, key: str | int) -> Iterator[Any]:
    if isinstance(part, type) and issubclass(part, BaseModel):
        if key in part.model_fields:
            yield from _parts(part.model_fields[str(key)].annotation)
    elif get_origin(part) is dict:
        yield from _parts(get_args(part)[1])
    elif get_origin(part) is list and isinstance(key, int):
        yield from _parts(get_args(part)[0])


def _parts(annotation: Any) -> Iterator[Any]:
    """The alternatives of a type, without None and annotations."""
    if get_origin(annotation) is Annotated:
        yield from _parts(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for alternative in get_args(annotation):
            yield from _parts(alternative)
    elif annotation is not type(None):
        yield annotation


def _names(part: Any) -> list[str]:
    return list(part.model_fields) if isinstance(part, type) and issubclass(part, BaseModel) else []


def _tag_of(part: Any) -> tuple[Any, ...]:
    if "type" in _names(part):
        annotation = part.model_fields["type"].annotation
        return get_args(annotation) if get_origin(annotation) is Literal else ()
    return ()


def _tags(trouble: _Trouble) -> str:
    return ", ".join(str(tag) for part in trouble.around for tag in _tag_of(part))
