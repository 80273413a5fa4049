"""One try at one model: what is sent through litellm, and what is made of what comes back."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from statistics import fmean
from typing import Any, cast

from promptopt.core.budget import Spend
from promptopt.core.rollout import Failure, printable
from promptopt.lm import pricing
from promptopt.lm.arguments import fault
from promptopt.lm.failures import Trouble, read_error, read_message, trouble
from promptopt.lm.message import CallFailed, Reply, Request
from promptopt.lm.provider import Route, load_litellm
from promptopt.lm.settings import ModelSettings

MOST_TOKENS = 10**9
"""No call has more; a provider that says so is mistaken."""
ROUNDING = 1e-3
"""What a mean of log-probabilities may lie above 0."""


def check_request(request: Request) -> None:
    """Raises CallFailed for a request whose cost has no bound, or that would change how calls are made."""
    asked = {name: value for name, value in request.params.items() if value is not None}
    if asked.get("n") == 1:
        del asked["n"]
    if asked.get("stream") is False:
        del asked["stream"]
    if wrong := fault(asked):
        raise CallFailed(Failure("bad_request", f"a call {wrong.replace('lms.MODEL', f'lms.{request.model}')}"))


async def attempt(
    route: Route, request: Request, settings: ModelSettings, worst: Spend, seconds: float, with_schema: bool
) -> tuple[Reply | Trouble, Spend]:
    """Ask once, for at most `seconds` from first byte to last. Returns what came of it, and its true cost.

    What may have been billed without our knowing how much costs its worst case. Raises nothing but CancelledError.
    """
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            response = await _send(route, request, settings, seconds, with_schema)
    except TimeoutError:
        return trouble("timeout", f"no answer within {seconds:g} s"), worst
    except Exception as error:
        lost = read_error(error, [route.api_key or ""])
        return lost, worst if lost.billed else Spend(calls=1)
    if not getattr(response, "choices", None):
        return trouble("malformed", "the answer has no choices"), worst
    said = read_message(response.choices[0])
    true = _cost(response, said, request, settings, worst)
    if isinstance(said, Trouble):
        return said, true
    choice = response.choices[0]
    return Reply(
        printable(said),
        str(choice.finish_reason or "stop"),
        true.tokens_in,
        true.tokens_out,
        true.usd,
        time.monotonic() - began,
        _plain(choice.message),
        printable(str(getattr(response, "model", None) or "")),
        _certainty(choice),
    ), true


async def _send(route: Route, request: Request, settings: ModelSettings, seconds: float, with_schema: bool) -> Any:
    params = {
        name: value for name, value in request.params.items() if value is not None and name not in ("n", "stream")
    }
    if not params.keys() & {"max_tokens", "max_completion_tokens"}:
        params["max_tokens"] = settings.max_tokens
    if request.schema is not None and with_schema:
        params["response_format"] = _response_format(request.schema)
    return await load_litellm().acompletion(
        model=route.model,
        messages=[dict(message) for message in request.messages],
        api_base=route.api_base,
        api_key=route.api_key,
        timeout=seconds,
        max_retries=0,
        num_retries=0,
        caching=False,
        drop_params=False,
        _skip_mcp_handler=True,  # with tools, litellm would import mcp, and might call MCP servers by itself
        **params,
    )


def _response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    named = {"name": "answer", "schema": dict(schema), "strict": _closed(schema)}
    return {"type": "json_schema", "json_schema": named}


def _closed(schema: Any) -> bool:
    """Whether every object in `schema` requires all its properties and no others, as OpenAI's strict mode demands."""
    if isinstance(schema, list):
        return all(map(_closed, cast("list[Any]", schema)))
    if not isinstance(schema, Mapping):
        return True
    body = cast("Mapping[str, Any]", schema)
    if "properties" in body:
        if body.get("additionalProperties") is not False or set(body.get("required", ())) != set(body["properties"]):
            return False
        return all(map(_closed, body["properties"].values()))
    return all(map(_closed, body.values()))


def _cost(response: Any, said: str | Trouble, request: Request, settings: ModelSettings, worst: Spend) -> Spend:
    """What an answer cost: the provider's count where it can be true, else the worst case.

    litellm knows surcharges that a price per token does not (cache writes, searches), so where its own reckoning of a
    listed model is higher, it counts.
    """
    usage = getattr(response, "usage", None)
    counts = [getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens", "total_tokens")]
    tokens_in, tokens_out, total = (min(n, MOST_TOKENS) if isinstance(n, int) and n > 0 else 0 for n in counts)
    cached = min(tokens_in, _cached(usage))
    if tokens_in == 0:
        tokens_in, tokens_out = worst.tokens_in, max(tokens_out, worst.tokens_out)
    tokens_out = max(tokens_out, total - tokens_in)
    if tokens_out <= 0 and not isinstance(said, Trouble):
        tokens_out = worst.tokens_out
    price = pricing.price(request.model, settings, tokens_in)
    true = pricing.spend(price, tokens_in, tokens_out, cached)
    reckoned = getattr(response, "_hidden_params", {}).get("response_cost")
    if settings.price is None and reckoned:
        return replace(true, usd=max(true.usd, Decimal(str(reckoned))))
    return true


def _cached(usage: Any) -> int:
    """Input tokens that the provider had in its cache, as far as it says so."""
    said = getattr(getattr(usage, "prompt_tokens_details", None), "cached_tokens", None)
    return said if isinstance(said, int) and said > 0 else 0


def _certainty(choice: Any) -> float | None:
    """The probability of the answer, normalised by its length: e to the mean of its tokens' log-probabilities.

    None where the endpoint tells none, or numbers that are none.
    Source: Malinin & Gales (2021), Uncertainty Estimation in Autoregressive Structured Prediction.
    """
    told = getattr(getattr(choice, "logprobs", None), "content", None)
    mean = fmean(token.logprob for token in told) if told else math.nan
    return math.exp(min(mean, 0.0)) if mean < ROUNDING else None


def _plain(message: Any) -> dict[str, Any]:
    """The assistant message as JSON values, to be sent back in the next turn of a conversation."""
    content = message.content
    plain: dict[str, Any] = {
        "role": "assistant",
        "content": printable(content) if isinstance(content, str) else content,
    }
    if message.tool_calls:
        plain["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for call in message.tool_calls
        ]
    for name in ("reasoning_content", "thinking_blocks"):
        if value := getattr(message, name, None):
            plain[name] = value
    return plain
