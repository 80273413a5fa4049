"""What is inside an MLflow scorer: the models it names, what tells it from a changed one, and how to give it others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from promptopt.errors import ConfigError
from promptopt.execute import user_code
from promptopt.judges.external import load, mlflow_lm

Scorer: Any = load("mlflow.genai.scorers").Scorer
MissingColumns: Any = load("mlflow.genai.scorers.builtin_scorers").MissingColumnsException

_SERVED = ("databricks", "endpoints", "gateway", "typesafe")
"""Providers that are servers of MLflow's own kind, which our gateway cannot reach."""


def check(scorer: object) -> None:
    """Raise ConfigError for anything but a scorer that is ready to be called."""
    if isinstance(scorer, type) and issubclass(scorer, Scorer):
        raise ConfigError(
            f"scorer is the class {scorer.__name__}; pass one of it, as in {scorer.__name__}()", key="scorer"
        )
    if not isinstance(scorer, Scorer):
        raise ConfigError(f"scorer is a {type(scorer).__name__}, not a scorer of MLflow's", key="scorer")


def is_built_in(scorer: Any) -> bool:
    return scorer.kind.value in ("builtin", "guidelines")


def missing(scorer: Any, expectations: Iterable[str]) -> str:
    """What a built-in scorer needs of a row and does not find there; empty where it has all."""
    if not is_built_in(scorer):
        return ""
    try:
        scorer.validate_columns({"inputs", "outputs", "trace", *(f"expectations/{name}" for name in expectations)})
    except MissingColumns as error:
        return " and ".join(sorted(column.replace("expectations/", "") for column in error.missing_columns))
    return ""


def models_of(scorer: Any) -> Iterator[str]:
    """The URIs of the models that a scorer names, or MLflow's default where it takes a model and names none."""
    kind = scorer.kind.value
    if kind == "ensemble":
        for one in scorer._scorers:
            yield from models_of(one)
    elif kind == "third_party":
        if model := scorer.model_dump()["third_party_scorer_data"].get("model"):
            yield model
    elif "model" in _fields(scorer) or kind == "instructions":
        yield scorer.model or mlflow_lm.default_model()
    elif kind == "memory_augmented":
        yield from models_of(scorer._base_judge)


def name_of(uri: str) -> str | None:
    """The name that we know a model by, which MLflow knows by its URI; None for one that only MLflow can reach."""
    provider, found, model = uri.partition(":/")
    if provider == mlflow_lm.PROVIDER:
        return model
    return f"{provider}/{model.lstrip('/')}" if found and provider not in _SERVED else None


def with_models(scorer: Any, uri_of: Callable[[str | None], str | None]) -> Any:
    """The scorer with another model in every place where it names one; `uri_of` maps a URI to its successor."""
    kind = scorer.kind.value
    if kind == "ensemble":
        copy = scorer.model_copy()
        copy._scorers = [with_models(one, uri_of) for one in scorer._scorers]
        return copy
    if kind == "instructions":
        copy = scorer.model_copy()
        if (uri := uri_of(scorer.model)) != scorer.model:
            copy._model, copy._base_url, copy._extra_headers = uri, None, None
        return copy
    if kind == "third_party":
        dump = scorer.model_dump()
        data = dump["third_party_scorer_data"]
        return Scorer.model_validate({**dump, "third_party_scorer_data": {**data, "model": uri_of(data.get("model"))}})
    if is_built_in(scorer) and "model" in _fields(scorer):
        return type(scorer)(**{**_fields(scorer), "model": uri_of(scorer.model)})
    return scorer


def identity(scorer: Any) -> list[Any]:
    """All that decides what a scorer says of an output, but for the models: they are told apart elsewhere.

    Raises ConfigError for a function whose source cannot be read.
    """
    kind, type_ = scorer.kind.value, cast(Any, type(scorer))
    if kind == "decorator":
        return [kind, scorer.name, user_code.source_hash(scorer._original_func)]
    if kind == "ensemble":
        how = scorer._ensemble_fn_name or user_code.source_hash(scorer._ensemble_fn)
        return [kind, scorer.name, how, [identity(one) for one in scorer._scorers]]
    source = None if type_.__module__.startswith("mlflow.") else user_code.source_hash(type_)
    return [kind, scorer.name, type_.__qualname__, source, _hash(_settings(scorer))]


def _settings(scorer: Any) -> dict[str, Any]:
    fields = _fields(scorer)
    if scorer.kind.value in ("instructions", "memory_augmented", "third_party"):
        fields |= scorer.model_dump()
        fields |= {name: getattr(scorer, name, None) for name in ("_generate_rationale_first", "_inference_params")}
    return {name: value for name, value in fields.items() if name not in ("model", "extra_headers", "aggregations")}


def _fields(scorer: Any) -> dict[str, Any]:
    return {name: getattr(scorer, name) for name in cast(Any, type(scorer)).model_fields}


def _hash(settings: Mapping[str, Any]) -> str:
    """In place of the settings themselves: they are long, and may hold what is not for a report."""
    text = json.dumps(settings, sort_keys=True, default=_stable)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _stable(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(map(str, cast("set[Any]", value)))
    return identity(value) if isinstance(value, Scorer) else str(value)


def value_type(scorer: Any) -> Any:
    """The type of the values that a judge declares, None where a scorer declares none."""
    return getattr(scorer, "feedback_value_type", None)


def source_file(scorer: Any) -> Path | None:
    """The user's file that a scorer is written in, to say where it failed."""
    return user_code.source_file(getattr(scorer, "_original_func", None) or cast(Any, type(scorer)))
