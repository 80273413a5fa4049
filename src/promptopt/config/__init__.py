"""YAML to typed settings: an unknown key is an error that names the file, the line and the nearest valid key.

`load` reads a file, `loaded` where it is one; `parse` takes the same words from Python, and `group` those of one group.
All raise ConfigError and nothing else. `fingerprint` is the part that decides a run's result, `changes` says how two of
them differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, overload

from pydantic import BaseModel, ValidationError

from promptopt.config.complaints import explain
from promptopt.config.document import Document, read
from promptopt.config.document import kind as plain
from promptopt.config.identity import changes, fingerprint
from promptopt.config.judge import JudgeConfig
from promptopt.config.overrides import apply
from promptopt.config.settings import Config, FileSettings
from promptopt.errors import ConfigError

__all__ = ["Config", "JudgeConfig", "changes", "fingerprint", "group", "load", "loaded", "parse"]

S = TypeVar("S", bound=BaseModel)
F = TypeVar("F", bound=FileSettings)


@overload
def load(path: str | Path, overrides: Sequence[str] = ()) -> Config: ...
@overload
def load(path: str | Path, overrides: Sequence[str] = (), *, kind: type[F]) -> F: ...
def load(path: str | Path, overrides: Sequence[str] = (), *, kind: type[FileSettings] = Config) -> FileSettings:
    """The config in the YAML file at `path`, with `key=value` overrides applied in order. Raises ConfigError."""
    document = read(Path(path))
    for override in overrides:
        apply(document, override)
    return _validated(document, Path(path).parent, kind)


def loaded(config: F | str | Path, kind: type[F]) -> F:
    """A config that may be given as the path of its file. Raises ConfigError."""
    if isinstance(config, str | Path):
        return load(config, kind=kind)
    if not isinstance(cast(object, config), kind):
        what = "another kind of config" if isinstance(cast(object, config), FileSettings) else plain(config)
        raise ConfigError(f"a config is needed: the path of its file or a {kind.__name__}, got {what}")
    return config


def parse(document: Mapping[str, Any], source: str = "config", base: str | Path = ".") -> Config:
    """The config that `document` spells; relative paths start from `base`. Raises ConfigError."""
    return _validated(Document(dict(document), source), Path(base), Config)


def group(kind: type[S], words: S | Mapping[str, Any] | None, name: str) -> S:
    """The settings that `words` spell, as the group `name` of a config would. Raises ConfigError."""
    if isinstance(words, kind):
        return words
    if not isinstance(words, Mapping | None):
        raise ConfigError(f"{name} must be a mapping, got {plain(words)}", key=name)
    values = dict(words or {})
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise explain(error, Document({name: values}, ""), name) from None


def _validated(document: Document, base: Path, kind: type[F]) -> F:
    try:
        return kind.model_validate(document.values, context={"document": document, "base": base})
    except ValidationError as error:
        raise explain(error, document, root=kind) from None
