"""YAML text as plain values that remember the line they were written on.

Scalars follow YAML 1.2's core schema: `yes`, `no`, `on`, dates and `1:30` are text, and `1e3` is a number. Nothing in a
file can name a Python type, repeat a key, or grow without bound through aliases.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from promptopt.errors import ConfigError

KeyPath = tuple[str | int, ...]

MAX_BYTES = 1_000_000
MAX_VALUES = 10_000
"""Values in one file, aliases spelled out; checked while it is read."""
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Document:
    """A config's values, and where each of them was said."""

    values: dict[str, Any]
    source: str
    lines: dict[KeyPath, int] = field(default_factory=dict[KeyPath, int])
    overrides: dict[KeyPath, str] = field(default_factory=dict[KeyPath, str])
    """The keys of `--set` arguments as they were typed, by the path they decided."""

    def path(self, key: str) -> KeyPath:
        """The path of a dotted key, as far as the document has it."""
        known = [at for at in (*self.lines, *self.overrides) if f"{key}.".startswith(f"{dotted(at)}.")]
        return max(known, key=len, default=())

    def error(self, path: KeyPath, message: str) -> ConfigError:
        """A ConfigError that points at `path`, or at the nearest thing around it that was written."""
        key = dotted(path)
        for end in range(len(path), 0, -1):
            here = path[:end]
            typed = [override for at, override in self.overrides.items() if at[:end] == here]
            if typed and (here == path or here in self.overrides or here not in self.lines):
                return _located(ConfigError(f"--set {typed[-1]}: {message}", key=key))
            if here in self.lines:
                return _located(ConfigError(message, file=self.source, key=key, line=self.lines[here]))
        return _located(ConfigError(message, file=self.source, key=key))


def _located(error: ConfigError) -> ConfigError:
    error.located = True
    return error


def dotted(path: KeyPath) -> str:
    """`path` as people write it: `program.messages.0.role`."""
    return ".".join(str(part) for part in path)


def read(path: Path) -> Document:
    """The document in the file at `path`; raises ConfigError for a file that cannot be one."""
    source = str(path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError("there is no such file. `promptopt init DIR` writes one to start from", file=source) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise ConfigError(f"cannot be read ({reason or error})", file=source) from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"has {len(raw)} bytes; a config has at most {MAX_BYTES}. Is it a data file?", file=source)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError("not UTF-8 text; save the file as UTF-8", file=source, line=line) from None
    return read_text(text, source)


def read_text(text: str, source: str) -> Document:
    """The document that `text` spells; `source` names it in errors."""
    reader = _Reader(source)
    values = reader.value(reader.compose(text))
    if values is None:
        raise ConfigError("is empty", file=source)
    if not isinstance(values, dict):
        raise ConfigError(f"must hold settings as `key: value` lines, but it is {kind(values)}", file=source)
    return Document(cast("dict[str, Any]", values), source, reader.lines)


def read_value(text: str) -> Any:
    """A single value, as after the `=` of an override."""
    reader = _Reader(None)
    return reader.value(reader.compose(text))


def kind(value: object) -> str:
    """What sort of thing `value` is, in the words of a config's author."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    short = text if len(text) <= 60 else text[:57] + "..."
    return repr(short) if isinstance(value, str) else short


class _Loader(yaml.SafeLoader):
    """Parses and composes; scalars are typed by YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML keeps its table on the class)


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:[0-9]{1,18}|[0-9]{1,3}(?:_[0-9]{3}){1,5})|0x[0-9a-fA-F]{1,15}", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", list("-+.")),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern})$"), _first)  # pyright: ignore[reportUnknownMemberType]


class _Reader:
    """Builds plain values from one text, noting the line of each."""

    def __init__(self, source: str | None) -> None:
        self.source = source
        self.lines: dict[KeyPath, int] = {}
        self._open: list[yaml.Node] = []
        self._count = 0

    def compose(self, text: str) -> yaml.Node | None:
        """The tree that `text` spells; None when it says nothing."""
        try:
            loader = _Loader(text)
            try:
                return loader.get_single_node()
            finally:
                loader.dispose()  # pyright: ignore[reportUnknownMemberType]
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            reason = error.problem or error.context or "it cannot be read"
            raise ConfigError(f"not valid YAML ({reason})", file=self.source, line=mark and mark.line + 1) from None
        except yaml.YAMLError as error:
            raise ConfigError(f"not valid YAML ({str(error).splitlines()[0]})", file=self.source) from None
        except RecursionError:
            raise ConfigError("is nested too deeply", file=self.source) from None

    def value(self, node: yaml.Node | None, path: KeyPath = ()) -> Any:
        """The plain value of `node`, which stands at `path`."""
        if node is None:
            return None
        self._count += 1
        if self._count > MAX_VALUES:
            raise self._error(node, f"more than {MAX_VALUES} values, aliases spelled out")
        if any(node is outer for outer in self._open):
            raise self._error(node, f"{dotted(path)} contains itself through an alias")
        self.lines.setdefault(path, node.start_mark.line + 1)
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
                items = cast("list[yaml.Node]", node.value)
                return [self.value(item, (*path, index)) for index, item in enumerate(items)]
            return self._scalar(node)
        finally:
            self._open.pop()

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(key_node, "a key must be plain text")
            key = cast(str, key_node.value)
            here = (*path, key)
            if key == "<<" and key_node.style is None:
                raise self._error(key_node, "merging with << is not supported; repeat the settings")
            if key in found:
                first = self.lines[here]
                raise self._error(key_node, f"{dotted(here)} is said twice; the first time on line {first}")
            self.lines[here] = key_node.start_mark.line + 1
            found[key] = self.value(value_node, here)
        return found

    def _scalar(self, node: yaml.Node) -> Any:
        text = str(node.value)
        try:
            match node.tag.removeprefix(_TAG):
                case "str":
                    return text
                case "null":
                    return None
                case "bool":
                    return {"true": True, "false": False}[text.lower()]
                case "int":
                    return int(text, 16 if text.lower().startswith("0x") else 10)
                case "float":
                    return self._number(node, text)
                case _:
                    raise self._error(node, f"the tag {node.tag.replace(_TAG, '!!')} is not allowed in a config")
        except (ValueError, KeyError):
            what = node.tag.replace(_TAG, "!!")
            raise self._error(node, f"{kind(text)} cannot be read as {what}") from None

    def _number(self, node: yaml.Node, text: str) -> float | int:
        number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        if not math.isfinite(number):
            raise self._error(node, f"{text} is not a finite number")
        whole = "e" in text.lower() and number.is_integer() and abs(number) < 2**53
        return int(number) if whole else number

    def _error(self, node: yaml.Node, message: str) -> ConfigError:
        return ConfigError(message, file=self.source, line=node.start_mark.line + 1)
