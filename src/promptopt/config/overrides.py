"""`--set key=value`: one setting of a document, replaced from the command line."""

from __future__ import annotations

from typing import Any, cast

from promptopt.config.document import Document, KeyPath, dotted, kind, read_value
from promptopt.errors import ConfigError


def apply(document: Document, override: str) -> None:
    """Replace what `override` names in `document`; its value is read as YAML.

    A key is dotted, a list's item is its index, and where names hold dots themselves (`lms.local/qwen2.5.price`) the
    longest name that the document has wins. Raises ConfigError for an override that fits nowhere.
    """
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {key}: must be key=value, such as budget.rollouts=60")
    try:
        value = read_value(text)
        path = _path(document.values, key, value)
    except ConfigError as error:
        raise ConfigError(f"--set {key}: {error}", key=key) from None
    inside: Any = document.values
    for part in path[:-1]:
        if isinstance(part, str) and inside.get(part) is None:
            inside[part] = {}
        inside = inside[part]
    inside[path[-1]] = value
    for stale in [at for at in document.lines if at[: len(path)] == path]:
        del document.lines[stale]
    document.overrides[path] = key


def _path(values: dict[str, Any], key: str, value: Any) -> KeyPath:
    path: KeyPath = ()
    inside: Any = values
    rest = key
    while rest:
        if isinstance(inside, list):
            part, rest = _index(cast("list[Any]", inside), path, rest)
            inside = cast("list[Any]", inside)[part]
        elif inside is None or isinstance(inside, dict):
            known = cast("dict[str, Any]", inside or {})
            part = _new_model(rest, value) if path == ("lms",) else rest.partition(".")[0]
            part = max((name for name in known if name and f"{rest}.".startswith(f"{name}.")), key=len, default=part)
            rest = rest[len(part) + 1 :]
            inside = known.get(part)
        else:
            raise ConfigError(f"{dotted(path)} is {kind(inside)} and holds no settings")
        path = (*path, part)
    return path


def _new_model(rest: str, value: Any) -> str:
    """The name in `rest` of a model that `lms` does not hold yet: all but the setting at its end."""
    for price in (".price", ".price.input", ".price.output"):
        if rest.endswith(price):
            return rest.removesuffix(price)
    return rest if isinstance(value, dict) else rest.rpartition(".")[0] or rest


def _index(items: list[Any], path: KeyPath, rest: str) -> tuple[int, str]:
    text, _, rest = rest.partition(".")
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) >= len(items):
        last = f"0 to {len(items) - 1}" if items else "none: it is empty"
        raise ConfigError(f"{dotted(path)} is a list; {text!r} is none of its places ({last})")
    return int(text), rest
