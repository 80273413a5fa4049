"""Whether a model can be called, what a call costs and what it can cost at most: all known before anything is spent."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Any, cast

from promptopt.core.budget import Spend
from promptopt.errors import ConfigError
from promptopt.lm.catalogue import local_model
from promptopt.lm.message import Request
from promptopt.lm.provider import LOCAL, key_from, load_litellm
from promptopt.lm.settings import ModelSettings, Price

MILLION = Decimal(1_000_000)
FREE = Price(input=Decimal(0), output=Decimal(0))

_TIER = re.compile(r"input_cost_per_token_above_(\d+)k_tokens")

TOKENS_A_MESSAGE, TOKENS_A_CALL = 16, 32
"""What a provider's chat template adds at most, beyond a token for every byte."""
TOKENS_A_PICTURE = 50_000
"""What a picture or file counts at least, which may be named by its address alone."""


def price(model: str, settings: ModelSettings, tokens_in: int = 0) -> Price | None:
    """The price of a call with `tokens_in` input tokens (long ones cost more at some models); None when unknown.

    The user's own price comes first, local models are free, the rest stands in litellm's table.
    """
    if settings.price is not None:
        return settings.price
    if model.startswith(LOCAL):
        return FREE
    return next((price for above, price in _listed(model) if tokens_in > above), None)


def priced(model: str, settings: ModelSettings) -> bool:
    """Whether anybody says what a model's tokens cost: of a local one, only the user, for its machine is not free."""
    return settings.price is not None if model.startswith(LOCAL) else price(model, settings) is not None


def require_price(model: str, settings: ModelSettings, capped: bool) -> None:
    """Raises ConfigError when dollars are `capped` and the model has no known price."""
    if capped and price(model, settings) is None:
        raise ConfigError(
            f"budget.usd caps dollars, but the price of {model} is not known. Give it in dollars per million tokens as "
            f"lms.{model}.price: {{input: ..., output: ...}}, or cap tokens instead.",
            key=f"lms.{model}.price",
        )


def check_model(model: str, settings: ModelSettings) -> None:
    """Raises ConfigError for a model that cannot be called: its name is unknown or its key is missing."""
    if settings.api_key_env is not None:
        key_from(model, settings.api_key_env)
    if model.startswith(LOCAL):
        local_model(model.removeprefix(LOCAL))
        return
    litellm = load_litellm()
    try:
        litellm.get_llm_provider(model)
    except Exception:
        raise ConfigError(
            f"{model} is not a model that can be called: its provider is not known. Name it as provider/model, such as "
            f"openai/{model}, or local/NAME for a model on this machine (promptopt models list).",
            key=f"lms.{model}",
        ) from None
    if settings.api_base or settings.api_key_env or settings.api_key:
        return
    missing = [name for name in litellm.validate_environment(model)["missing_keys"] if name.endswith("_API_KEY")]
    if missing:
        raise ConfigError(
            f"{model} needs a key: set {' or '.join(missing)}, or name the variable that holds it as "
            f"lms.{model}.api_key_env.",
            key=f"lms.{model}.api_key_env",
        )


def worst_case(request: Request, settings: ModelSettings) -> Spend:
    """The most that one try of `request` can cost; 0 dollars where the price is unknown."""
    tokens_in, tokens_out = input_bound(request), max_tokens(request, settings)
    found = price(request.model, settings, tokens_in)
    return max((spend(found, tokens_in, tokens_out, cached) for cached in (0, tokens_in)), key=lambda one: one.usd)


def spend(price: Price | None, tokens_in: int, tokens_out: int, cached_in: int = 0) -> Spend:
    """One call of so many tokens, `cached_in` of the input among them from the provider's cache."""
    usd = Decimal(0)
    if price:
        cached = price.input if price.cached is None else price.cached
        usd = ((tokens_in - cached_in) * price.input + cached_in * cached + tokens_out * price.output) / MILLION
    return Spend(calls=1, tokens_in=tokens_in, tokens_out=tokens_out, usd=usd)


def input_bound(request: Request) -> int:
    """An upper bound on the input tokens: no tokenizer makes more tokens than there are bytes."""
    asked = [list(map(dict, request.messages)), request.schema]
    asked += [request.params[name] for name in ("tools", "functions", "response_format") if name in request.params]
    text = json.dumps(asked, ensure_ascii=False, default=str)
    pictures = sum(map(_pictures, request.messages))
    extra = TOKENS_A_CALL + TOKENS_A_MESSAGE * len(request.messages) + TOKENS_A_PICTURE * pictures
    return len(text.encode(errors="surrogatepass")) + extra


def _pictures(message: Mapping[str, Any]) -> int:
    content = message.get("content")
    parts = cast("list[Any]", content) if isinstance(content, list) else []
    return sum(not (isinstance(part, dict) and cast("dict[str, Any]", part).get("type") == "text") for part in parts)


def max_tokens(request: Request, settings: ModelSettings) -> int:
    """The most output tokens that the call allows itself, or what is sent where it names no limit."""
    named = [request.params.get(name) for name in ("max_tokens", "max_completion_tokens")]
    return max((n for n in named if n is not None), default=settings.max_tokens)


@cache
def _listed(model: str) -> tuple[tuple[int, Price], ...]:
    """litellm's prices of a model as (above so many input tokens, price), dearest tier first; () where it has none."""
    litellm = load_litellm()
    try:
        row = litellm.model_cost[litellm.get_model_info(model)["key"]]
    except Exception:  # litellm raises a bare Exception for a model that it does not list
        return ()
    if "input_cost_per_token" not in row or "output_cost_per_token" not in row:
        return ()
    tiers = {int(tier[1]) * 1000: f"_above_{tier[1]}k_tokens" for tier in filter(None, map(_TIER.fullmatch, row))}
    return tuple((above, _tier(row, suffix)) for above, suffix in sorted({-1: "", **tiers}.items(), reverse=True))


def _tier(row: Mapping[str, Any], suffix: str) -> Price:
    rates = {
        name: row.get(f"{name}_cost_per_token{suffix}", row[f"{name}_cost_per_token"]) for name in ("input", "output")
    }
    thinking = row.get("output_cost_per_reasoning_token") or 0
    cached = row.get(f"cache_read_input_token_cost{suffix}")
    rates |= {"thinking": thinking, "cached": rates["input"] if cached is None else cached}
    dollars = {name: Decimal(str(rate)) * MILLION for name, rate in rates.items()}
    return Price(input=dollars["input"], output=max(dollars["output"], dollars["thinking"]), cached=dollars["cached"])
