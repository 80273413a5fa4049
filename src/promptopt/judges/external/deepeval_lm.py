"""A session as a model of DeepEval's, and the models that DeepEval's metrics hold taken over as ours."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from promptopt.judges.external import load
from promptopt.lm.message import Reply
from promptopt.lm.settings import ModelSettings
from promptopt.lm.spec import LM
from promptopt.lm.wire import Wire
from promptopt.metrics.json_fields import read_json

Base: Any = load("deepeval.models").DeepEvalBaseLLM

_PREFIXES = {
    "AnthropicModel": "anthropic/",
    "DeepSeekModel": "deepseek/",
    "GeminiModel": "gemini/",
    "GrokModel": "xai/",
    "LiteLLMModel": "",
    "LocalModel": "openai/",
    "OllamaModel": "ollama/",
    "OpenAIModel": "openai/",
    "OpenRouterModel": "openrouter/",
}
"""How the models of DeepEval's own classes are called here, after the prefix."""


class GatewayLLM(Base):
    """Asks `lm` through `wire`; without a wire it only stands where a model must be named."""

    def __init__(self, lm: LM | None, wire: Wire | None = None) -> None:
        self.lm, self._wire = lm, wire
        Base.__init__(self, lm.name if lm else "none")

    def load_model(self, *_: Any, **__: Any) -> GatewayLLM:
        return self

    def get_model_name(self, *_: Any, **__: Any) -> str:
        return self.lm.name if self.lm else "none"

    def generate(self, prompt: Any, schema: type[BaseModel] | None = None) -> Any:
        return _read(self._ask(prompt, schema).result(), schema)

    async def a_generate(self, prompt: Any, schema: type[BaseModel] | None = None) -> Any:
        return _read(await asyncio.wrap_future(self._ask(prompt, schema)), schema)

    def _ask(self, prompt: Any, schema: type[BaseModel] | None) -> Future[Reply]:
        if self.lm is None or self._wire is None:
            raise RuntimeError("it asks a model, and none is named: give the metric an lm")
        if not isinstance(prompt, str):
            raise TypeError("a prompt that is not text alone cannot be asked through the gateway")
        session = replace(self._wire.session, model=self.lm.name, params=self.lm.args)
        form = schema.model_json_schema() if schema else None
        return self._wire.ask(session, [{"role": "user", "content": prompt}], {}, form)


def is_model(value: object) -> bool:
    return isinstance(value, Base)


def is_ours(model: object) -> bool:
    return isinstance(model, GatewayLLM)


def taken_over(model: Any) -> LM | None:
    """The model that one of DeepEval's own objects calls, with its endpoint, key and temperature; the key in memory
    only. None for an object of another class, which calls its model by code of its own."""
    if is_ours(model):
        return model.lm
    kind = type(model).__name__
    if kind not in _PREFIXES or not type(model).__module__.startswith("deepeval."):
        return None
    key, base = getattr(model, "api_key", None), getattr(model, "base_url", None)
    key = key.get_secret_value() if isinstance(key, SecretStr) else key
    temperature = getattr(model, "temperature", None)
    settings = ModelSettings(api_base=base.rstrip("/") if base else None).with_key(key)
    args = {} if temperature is None else {"temperature": temperature}
    return LM(_PREFIXES[kind] + str(model.name), settings=settings if key or base else None, **args)


def _read(reply: Reply, schema: type[BaseModel] | None) -> Any:
    """The answer as `schema` has it, or as it is: DeepEval then makes of it what it can."""
    if schema is None:
        return reply.text
    try:
        return schema.model_validate(read_json(reply.text))
    except (ValueError, ValidationError):
        return reply.text
