"""A session as a model of MLflow's: the URI `promptopt:/NAME` asks the model NAME as the judge of the rollout at hand.

MLflow hands the models of providers that it does not know to litellm, and litellm takes providers from anybody. So
this needs no environment variable and no address, and rollouts that run side by side do not meet: the session is that
of the context, which MLflow carries into the threads it starts.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from promptopt.judges.external import load
from promptopt.lm.endpoint import PASSED_ON
from promptopt.lm.provider import load_litellm
from promptopt.lm.spec import LM
from promptopt.lm.wire import Wire, schema_in

_utils: Any = load("mlflow.genai.judges.utils")

PROVIDER = "promptopt"
DEFAULT = "default"
"""The name in a URI that stands for the metric's own model."""

_DEFAULT_VARIABLE = "MLFLOW_GENAI_JUDGE_DEFAULT_MODEL"
_BEYOND = frozenset({"get_span_image", "get_traces_in_session", "search_traces"})
"""Tools of MLflow's judges that look into the tracking store, where this rollout is not and other rows may be."""

_asking: ContextVar[tuple[Wire, LM | None] | None] = ContextVar("promptopt_mlflow_asking", default=None)


@contextmanager
def asking(wire: Wire, lm: LM | None) -> Generator[None]:
    """What asks a model of ours from here on, in this context, asks through `wire`; `lm` is the metric's own model."""
    _register()
    token = _asking.set((wire, lm))
    try:
        with _default if lm else nullcontext():
            yield
    finally:
        _asking.reset(token)


def uri(name: str) -> str:
    """MLflow's URI of a model of ours."""
    return f"{PROVIDER}:/{name}"


def default_model() -> str:
    """The URI of the model that MLflow asks where nobody names one, outside of any scoring."""
    return _default.of_the_user


class _Provider:
    """What litellm calls for `promptopt/NAME`."""

    def completion(
        self, *, model: str, messages: list[Any], model_response: Any, optional_params: Mapping[str, Any], **_: Any
    ) -> Any:
        litellm, at_hand = load_litellm(), _asking.get()
        if at_hand is None:
            raise litellm.AuthenticationError(f"{uri(model)} is answered only while promptopt scores", PROVIDER, model)
        wire, lm = at_hand
        name = lm.name if model == DEFAULT and lm else model
        params = _params(optional_params)
        schema = schema_in(params)
        args = lm.args if lm and lm.name == name else {}
        session = replace(wire.session, model=name, params=args)
        try:
            reply = wire.ask(session, [_plain(message) for message in messages], params, schema).result()
        except Exception as error:  # as one that nobody tries again: the gateway has done so
            raise litellm.AuthenticationError(str(error), PROVIDER, model) from error
        message = litellm.Message(**{"role": "assistant", "content": reply.text or None, **reply.message})
        model_response.choices = [litellm.Choices(index=0, finish_reason=reply.finish_reason, message=message)]
        total = reply.tokens_in + reply.tokens_out
        model_response.usage = litellm.Usage(reply.tokens_in, reply.tokens_out, total)
        return model_response


def _params(given: Mapping[str, Any]) -> dict[str, Any]:
    params = {name: value for name, value in given.items() if name in PASSED_ON and value is not None}
    if tools := [tool for tool in params.pop("tools", ()) if not _is_beyond(tool)]:
        return {**params, "tools": tools}
    params.pop("tool_choice", None)
    return params


def _is_beyond(tool: Mapping[str, Any]) -> bool:
    return str(tool["function"]["name"]).lstrip("_") in _BEYOND


def _plain(message: Any) -> dict[str, Any]:
    said: dict[str, Any] = dict(message) if isinstance(message, dict) else message.model_dump()  # pyright: ignore
    return {"content": None, **{name: value for name, value in said.items() if value is not None}}


def _register() -> None:
    known: list[Any] = load_litellm().custom_provider_map
    if not any(item["provider"] == PROVIDER for item in known):
        known.append({"provider": PROVIDER, "custom_handler": _Provider()})


class _Default:
    """MLflow's default model is ours, for as long as anybody scores; what the user has set comes back.

    It is what scorers ask that name no model; there is no place to say it but the environment of the process.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._variable: str | None = None
        self._model = ""

    @property
    def of_the_user(self) -> str:
        with self._lock:
            return self._model if self._inside else _utils.get_default_model()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._model, self._variable = _utils.get_default_model(), os.environ.get(_DEFAULT_VARIABLE)
                os.environ[_DEFAULT_VARIABLE] = uri(DEFAULT)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                del os.environ[_DEFAULT_VARIABLE]
                if self._variable is not None:
                    os.environ[_DEFAULT_VARIABLE] = self._variable


_default = _Default()
