"""litellm, loaded on first use and kept quiet, and where it finds a model."""

from __future__ import annotations

import importlib
import logging
import os
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from promptopt.errors import ConfigError
from promptopt.lm.settings import ModelSettings

if TYPE_CHECKING:
    from promptopt.lm.local import LocalEndpoint

LOCAL = "local/"
_NAME_HERE = "openai/"
"""Local servers speak OpenAI's protocol."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a model's calls go; `model` is the name litellm knows it by."""

    model: str
    api_base: str | None = None
    api_key: str | None = field(default=None, repr=False)


@cache
def load_litellm() -> Any:
    """The litellm module. Importing it takes seconds, so it waits for the first call."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm: Any = importlib.import_module("litellm")
    litellm.telemetry = False
    litellm.suppress_debug_info = True
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)
    return litellm


def remote_route(model: str, settings: ModelSettings) -> Route:
    """The way to a model at its `api_base`, or where litellm finds it. Raises ConfigError when its key is not set.

    A custom OpenAI-compatible endpoint without a key of its own gets a dummy: litellm would send it OPENAI_API_KEY.
    """
    name = _NAME_HERE + model.removeprefix(LOCAL) if model.startswith(LOCAL) else model
    if settings.api_key_env is not None:
        return Route(name, settings.api_base, key_from(model, settings.api_key_env))
    if settings.api_key is not None:
        return Route(name, settings.api_base, settings.api_key)
    provider = load_litellm().get_llm_provider(name)[1] if settings.api_base else None
    return Route(name, settings.api_base, "none" if provider == "openai" else None)


def local_route(model: str, local: LocalEndpoint) -> Route:
    """The way to a model that runs on this machine."""
    load_litellm()
    return Route(_NAME_HERE + model.removeprefix(LOCAL), local.base_url, local.api_key)


def key_from(model: str, variable: str) -> str:
    """The key that the environment holds. Raises ConfigError when it holds none."""
    if key := os.environ.get(variable):
        return key
    raise ConfigError(
        f"lms.{model}.api_key_env names {variable}, which is not set. Set it, or name the variable that holds the key.",
        key=f"lms.{model}.api_key_env",
    )
