"""From what a config or a Python caller says to a metric."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from promptopt.errors import ConfigError, did_you_mean
from promptopt.execute.user_code import load
from promptopt.judges.asking import Asking
from promptopt.judges.external import PACKAGES, judges_of, package_of
from promptopt.judges.judge import Judge
from promptopt.judges.library import LIBRARY
from promptopt.judges.pairwise import Pairwise
from promptopt.lm.spec import LM
from promptopt.metrics.exact import ExactMatch
from promptopt.metrics.json_fields import JsonMatch
from promptopt.metrics.metric import Metric
from promptopt.metrics.numeric import Numeric
from promptopt.metrics.own import Own
from promptopt.metrics.pattern import Regex
from promptopt.metrics.python import PythonMetric, load_metric
from promptopt.metrics.text import Contains, TokenF1
from promptopt.metrics.weighted import Part, Weighted, leaves

Options = Mapping[str, Any]

_PLAIN: Mapping[str, type[Any]] = {
    kind.type: kind for kind in (ExactMatch, Contains, Regex, Numeric, TokenF1, JsonMatch, Judge, Pairwise, Own)
}
DSPY = "dspy"
TYPES = (*_PLAIN, *LIBRARY, Weighted.type, PythonMetric.type, DSPY, *PACKAGES)
"""Every word that `metric: {type: ...}` knows."""


AnyMetric = Metric | Callable[..., Any] | str | Options
"""Whatever may be given for a metric from Python."""


def as_metric(
    metric: AnyMetric,
    base: Path = Path("."),
    of_function: Callable[[Callable[..., Any]], Metric] = PythonMetric,
) -> Metric:
    """`metric` itself, the built-in with that name, a function as a metric, or what a mapping says as in YAML."""
    if isinstance(metric, str | Mapping):
        return build(cast("str | Options", metric), base)
    if package := package_of(metric):
        return judges_of(package).taken(metric)
    if isinstance(metric, type) and hasattr(metric, "score"):
        raise ConfigError(f"metric is the class {metric.__name__}; pass one of it, as in {metric.__name__}()")
    if hasattr(metric, "score") and hasattr(metric, "fingerprint") and hasattr(metric, "binary"):
        return cast(Metric, metric)
    if callable(metric):
        return of_function(metric)
    raise ConfigError(f"metric is a {type(metric).__name__}; pass a metric, a function, a name or a mapping")


def build(config: Options | str, base: Path, key: str = "metric") -> Metric:
    """The metric that `config` describes; a name alone stands for `{type: name}`, and files are relative to `base`.

    Raises ConfigError, with the nearest valid word, for an unknown type or option and for a wrong value. `key` is
    where the config stands in its file.
    """
    options: dict[str, Any] = {"type": config} if isinstance(config, str) else dict(config)
    if "type" not in options:
        raise ConfigError(f"{key}.type is missing; it is one of {', '.join(TYPES)}", key=f"{key}.type")
    kind = options.pop("type")
    if kind not in TYPES:
        raise ConfigError(f"{key}.type: {kind!r} is not a metric. {did_you_mean(kind, TYPES)}", key=f"{key}.type")
    if kind == PythonMetric.type:
        return _python(options, base, key)
    if kind == DSPY:
        return _dspy(options, base, key)
    if kind in PACKAGES:
        return _external(kind, options, base, key)
    if kind == Weighted.type:
        return _weighted(options, base, key)
    if kind in LIBRARY:
        return _from_library(kind, options, key)
    if kind == JsonMatch.type and isinstance(options.get("schema"), str):
        options["schema"] = _schema_file(options["schema"], base, key)
    kind_class = _PLAIN[kind]
    _only(options, [f.name for f in fields(kind_class)], key)
    try:
        return kind_class(**options)
    except ValidationError as error:
        raise _explained(error, key) from None


def judges_in(metric: Metric) -> tuple[Asking, ...]:
    """Every judge that scores a rollout under `metric`, in the order they are asked; empty where no model is."""
    return tuple(leaf for leaf in leaves(metric) if isinstance(leaf, Asking))


def models_in(metric: Metric) -> tuple[LM, ...]:
    """Every model that is called to score a rollout under `metric`, as far as it says."""
    return tuple(lm for leaf in leaves(metric) for lm in getattr(leaf, "lms", ()))


def unforeseen(metric: Metric) -> tuple[LM, ...]:
    """The models that scoring asks, and nobody can tell in advance how often."""
    return tuple(lm for leaf in leaves(metric) if not isinstance(leaf, Asking) for lm in getattr(leaf, "lms", ()))


def _from_library(name: str, options: Options, key: str) -> Metric:
    template = LIBRARY[name]
    _only(options, template.options, key)
    if "lm" not in options:
        raise ConfigError(f"{key}.lm is missing: the model that judges", key=f"{key}.lm")
    try:
        return template(**options)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}", key=f"{key}.{error.key}") from error
    except ValidationError as error:
        raise _explained(error, key) from None


def _python(options: Options, base: Path, key: str) -> Metric:
    _only(options, ["path", "timeout"], key)
    path, timeout = _path(options, key), options.get("timeout", 60.0)
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0):
        raise ConfigError(f"{key}.timeout must be seconds above 0 or null, got {timeout!r}", key=f"{key}.timeout")
    try:
        return load_metric(path, base, timeout)
    except ConfigError as error:
        raise ConfigError(f"{key}.path: {error}", key=f"{key}.path") from error


def _dspy(options: Options, base: Path, key: str) -> Metric:
    from promptopt.metrics.dspy_metric import DSPyMetric

    _only(options, ["path", "lm", "lm_args"], key)
    path, lm, lm_args = _path(options, key), options.get("lm"), options.get("lm_args", {})
    if not isinstance(lm, str | None) or not isinstance(lm_args, Mapping):
        raise ConfigError(
            f"{key}.lm must name the model of the metric's own calls, and lm_args their arguments", key=key
        )
    try:
        return DSPyMetric(load(path, base), LM(lm, **cast("Mapping[str, Any]", lm_args)) if lm else None)
    except ConfigError as error:
        raise ConfigError(f"{key}.path: {error}", key=f"{key}.path") from error


def _external(package: str, options: Options, base: Path, key: str) -> Metric:
    with _under(key):
        judges = judges_of(package)
    _only(options, [option.name for option in fields(judges.Settings)], key)
    with _under(key):
        return judges.named(judges.Settings(**options), base)


@contextmanager
def _under(key: str) -> Generator[None]:
    """What is said of an option inside is said of an option of `key`."""
    try:
        yield
    except ConfigError as error:
        if error.key is None:
            raise
        raise ConfigError(f"{key}.{error}", key=f"{key}.{error.key}") from error
    except ValidationError as error:
        raise _explained(error, key) from None


def _path(options: Options, key: str) -> str:
    path = options.get("path")
    if not isinstance(path, str):
        raise ConfigError(f'{key}.path must name a function, as in "my_metric.py:score"', key=f"{key}.path")
    return path


def _weighted(options: Options, base: Path, key: str) -> Metric:
    _only(options, ["parts"], key)
    said = options.get("parts")
    if not isinstance(said, Mapping) or not said:
        raise ConfigError(f"{key}.parts must name at least one metric", key=f"{key}.parts")
    parts = {str(name): _part(part, base, f"{key}.parts.{name}") for name, part in cast(Options, said).items()}
    return Weighted(parts)


def _part(said: Any, base: Path, key: str) -> Part:
    if not isinstance(said, Mapping) or "metric" not in said:
        raise ConfigError(f"{key} must be {{metric: ..., weight: 1}}", key=key)
    options = cast(Options, said)
    _only(options, ["metric", "weight"], key)
    metric, weight = options["metric"], options.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
        raise ConfigError(f"{key}.weight must be a number above 0, got {weight!r}", key=f"{key}.weight")
    if not isinstance(metric, str | Mapping):
        raise ConfigError(f"{key}.metric must be a metric's name or mapping", key=f"{key}.metric")
    return Part(build(cast("Options | str", metric), base, f"{key}.metric"), float(weight))


def _schema_file(name: str, base: Path, key: str) -> Any:
    try:
        return json.loads((base / name).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{key}.schema: cannot read {base / name}: {error.strerror}", key=f"{key}.schema") from None
    except ValueError as error:
        raise ConfigError(f"{key}.schema: {base / name} is not JSON ({error})", key=f"{key}.schema") from None


def _only(options: Options, known: Iterable[str], key: str) -> None:
    names = list(known)
    for option in options:
        if option not in names:
            raise ConfigError(f"{key}.{option} is not a setting. {did_you_mean(option, names)}", key=f"{key}.{option}")


def _explained(error: ValidationError, key: str) -> ConfigError:
    faults = error.errors()
    first = faults[0]
    place = ".".join([key, *(str(step) for step in first["loc"] if step != "[key]")])
    if first["type"] == "missing":
        return ConfigError(f"{place} is missing", key=place)
    hint = ""
    if any(isinstance(fault["input"], bool) and fault["type"].startswith("string") for fault in faults):
        hint = ". YAML reads a bare yes, no, on or off as true or false: put it in quotes"
    message = first["msg"].removeprefix("Value error, ")
    got = str(first["input"])[:200]
    return ConfigError(f"{place}: {message[:1].lower()}{message[1:]}, got {got!r}{hint}", key=place)
