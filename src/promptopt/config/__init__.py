"""YAML to typed settings: an unknown key is an error that names the file, the line and the nearest valid key.

`load` reads a file; `parse` takes the same words from Python, and `group` those of one group. All raise ConfigError and
nothing else. `fingerprint` is the part that decides a run's result, `changes` says how two of them differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from promptopt.config.complaints import explain
from promptopt.config.document import Document, read
from promptopt.config.identity import changes, fingerprint
from promptopt.config.overrides import apply
from promptopt.config.settings import Config

__all__ = ["Config", "changes", "fingerprint", "group", "load", "parse"]

S = TypeVar("S", bound=BaseModel)


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The config in the YAML file at `path`, with `key=value` overrides applied in order. Raises ConfigError."""
    document = read(Path(path))
    for override in overrides:
        apply(document, override)
    return _validated(document, Path(path).parent)


def parse(document: Mapping[str, Any], source: str = "config", base: str | Path = ".") -> Config:
    """The config that `document` spells; relative paths start from `base`. Raises ConfigError."""
    return _validated(Document(dict(document), source), Path(base))


def group(kind: type[S], words: S | Mapping[str, Any] | None, name: str) -> S:
    """The settings that `words` spell, as the group `name` of a config would. Raises ConfigError."""
    if isinstance(words, kind):
        return words
    values = dict(cast("Mapping[str, Any]", words or {}))
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise explain(error, Document({name: values}, ""), name) from None


def _validated(document: Document, base: Path) -> Config:
    try:
        return Config.model_validate(document.values, context={"document": document, "base": base})
    except ValidationError as error:
        raise explain(error, document) from None
