"""A `dspy.LM` taken over as our LM, and a session given to DSPy as the engine of a `dspy.LM`.

DSPy 3.4 lets an LM have an engine of its own, which is given a canonical request and returns a canonical response.
Ours hands each request to a session, so that budget, ledger, retries and deadlines are the gateway's; what DSPy would
do of this itself, its cache and its retries, is off.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Generator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import dspy
from dspy.clients.lm15_boundary import request_kwargs
from dspy.lm15 import ContextLengthError, Request, Response, response_from_openai_chat
from dspy.utils.exceptions import LMError

from promptopt.errors import ConfigError
from promptopt.lm.message import CallFailed, Reply
from promptopt.lm.provider import LOCAL, load_litellm
from promptopt.lm.session import Session
from promptopt.lm.settings import ModelSettings
from promptopt.lm.spec import LM
from promptopt.lm.wire import Wire, schema_in

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
"""DSPy downloads litellm's table of models on first use, unless told otherwise."""

_CLIENT = frozenset({"api_base", "base_url", "api_key", "timeout"})
"""Parameters of a `dspy.LM` that have a setting here."""
_OF_DSPY = frozenset({"n", "num_generations", "prompt_cache", "rollout_id"})
"""Parameters that say what DSPy does, not what a model is asked."""
_TOO_LONG = re.compile(
    r"context[ _](window|length|size)|maximum context|prompt is too long|too many tokens", re.IGNORECASE
)
"""How providers say that a prompt does not fit."""


def taken_over(lm: dspy.BaseLM) -> LM:
    """The model that a user's `dspy.LM` calls, with its endpoint, key, retries and parameters; the key in memory only.

    Raises ConfigError for an LM whose calls cannot go through the gateway.
    """
    if not isinstance(lm, dspy.LM) or type(lm).forward is not dspy.LM.forward or not isinstance(lm.engine, str):
        raise ConfigError(
            f"{type(lm).__name__} {lm.model} calls its model by code of its own, past every cap. Use a dspy.LM "
            "without engine=, or point one at an OpenAI-compatible server with api_base=."
        )
    if lm.model_type == "text":
        raise ConfigError(f"dspy.LM({lm.model!r}) has model_type 'text'; only chat models can be called")
    given = {name: value for name, value in lm.kwargs.items() if value is not None and name not in _OF_DSPY}
    args = {name: value for name, value in given.items() if name not in _CLIENT}
    return LM(lm.model, settings=_settings(lm, given), **args)


def _settings(lm: dspy.LM, given: Mapping[str, Any]) -> ModelSettings:
    key, timeout = given.get("api_key"), given.get("timeout")
    if key is not None and not isinstance(key, str):
        raise ConfigError(f"dspy.LM({lm.model!r}): api_key must be text, not {type(key).__name__}")
    if timeout is not None and not isinstance(timeout, int | float):
        raise ConfigError(f"dspy.LM({lm.model!r}): timeout must be seconds, not {type(timeout).__name__}")
    try:
        settings = ModelSettings(
            api_base=given.get("api_base") or given.get("base_url"),
            timeout=float(timeout) if timeout else None,
            retries=lm.num_retries,
        )
    except ValueError:  # its text would quote the endpoint, and a key in it
        raise ConfigError(f"dspy.LM({lm.model!r}): api_base must be an http(s) address without a key in it") from None
    return settings.with_key(key)


def with_settings(lm: dspy.LM, settings: Mapping[str, Any]) -> dspy.LM:
    """A copy of a user's LM with a candidate's settings, among which `lm` is another model of the same endpoint."""
    return lm.copy(**{"model" if name == "lm" else name: value for name, value in settings.items()})


@dataclass(frozen=True, slots=True)
class Abilities:
    """What DSPy's adapters ask about a model before they decide how to put a request."""

    function_calling: bool = False
    reasoning: bool = False
    response_schema: bool = False
    params: frozenset[str] = frozenset()

    @staticmethod
    def declared(lm: dspy.LM) -> Abilities:
        """As DSPy has them for a user's own LM."""
        with suppress(LMError):  # a model that neither DSPy nor litellm lists
            return Abilities(
                lm.supports_function_calling,
                lm.supports_reasoning,
                lm.supports_response_schema,
                frozenset(lm.supported_params),
            )
        return Abilities()

    @staticmethod
    def listed(model: str) -> Abilities:
        """As litellm's table has them; a local model follows a JSON schema."""
        if model.startswith(LOCAL):
            return Abilities(response_schema=True, params=frozenset({"temperature", "max_tokens", "response_format"}))
        litellm = load_litellm()
        return Abilities(
            bool(litellm.supports_function_calling(model=model)),
            bool(litellm.supports_reasoning(model=model)),
            bool(litellm.supports_response_schema(model=model)),
            frozenset(litellm.get_supported_openai_params(model=model) or ()),
        )


class _Line:
    """One session's end of the wire, with what its model can do, as DSPy looks for it on an engine."""

    def __init__(self, wire: Wire, session: Session, abilities: Abilities) -> None:
        self._ask = partial(_asked, wire, session)
        self.supports_function_calling = abilities.function_calling
        self.supports_reasoning = abilities.reasoning
        self.supports_response_schema = abilities.response_schema
        self.supported_params = abilities.params

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: modules that copy themselves in a rollout (BestOfN, Refine) go on calling as that rollout."""
        return self


class Engine(_Line):
    """The engine of a `dspy.LM` whose calls are made as one session."""

    def complete(self, request: Request) -> Response:
        with _as_dspy_knows_it():
            return _response(request, self._ask(request).result())


class AsyncEngine(_Line):
    """The same for `acall`, in whatever event loop the module runs."""

    async def complete(self, request: Request) -> Response:
        with _as_dspy_knows_it():
            return _response(request, await asyncio.wrap_future(self._ask(request)))


def engine_lm(wire: Wire, session: Session, abilities: Abilities, like: dspy.LM | None = None) -> dspy.LM:
    """A `dspy.LM` whose every call is one of `session`; `like` is the user's own, whose callbacks and `n` it has."""
    lm = dspy.LM(
        session.model,
        engine=Engine(wire, session, abilities),
        async_engine=AsyncEngine(wire, session, abilities),
        callbacks=like.callbacks if like else None,
        cache=False,
        num_retries=0,
    )
    lm.kwargs["temperature"] = session.params.get("temperature")  # not in the call above, where DSPy judges the value
    lm.kwargs |= {name: like.kwargs[name] for name in ("n", "num_generations") if like and name in like.kwargs}
    return lm


def is_ours(lm: object) -> bool:
    """Whether calls of a DSPy LM go through a session."""
    return isinstance(getattr(lm, "engine", None), Engine)


def _asked(wire: Wire, session: Session, request: Request) -> Future[Reply]:
    """The answer to be, to a request as DSPy makes it."""
    messages, params = _as_session_has_it(request_kwargs(request, "chat"), session)
    if request.config.top_k is not None:  # OpenAI's dialect has no such parameter, so DSPy leaves it out
        params.setdefault("top_k", request.config.top_k)
    return wire.ask(session, messages, params, schema_in(params))


def _as_session_has_it(body: Mapping[str, Any], session: Session) -> tuple[list[Any], dict[str, Any]]:
    """A request's messages and parameters. DSPy renames `max_tokens`; a limit must not stand there twice."""
    params = dict(body)
    messages = params.pop("messages")
    limit = params.pop("max_completion_tokens", None) or params.pop("max_tokens", None)
    if limit is not None:
        params["max_completion_tokens" if "max_completion_tokens" in session.params else "max_tokens"] = limit
    return messages, params


def _response(request: Request, reply: Reply) -> Response:
    message = {"role": "assistant", "content": reply.text or None, **reply.message}
    usage = {"prompt_tokens": reply.tokens_in, "completion_tokens": reply.tokens_out}
    choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason}
    return response_from_openai_chat({"choices": [choice], "usage": usage}, model=request.model)


@contextmanager
def _as_dspy_knows_it() -> Generator[None]:
    """A prompt that does not fit is an error of its own in DSPy: ReAct then shortens its trajectory."""
    try:
        yield
    except CallFailed as failed:
        if failed.failure.kind == "bad_request" and _TOO_LONG.search(failed.failure.message):
            raise ContextLengthError(failed.failure.message) from failed
        raise
