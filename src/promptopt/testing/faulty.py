"""A loopback endpoint that misbehaves as scripted, for testing whatever calls models.

    async with FaultyServer(rate_limited(retry_after=0.2), server_error(), reply("lane north")) as server:
        ...                          # the first call gets a 429, the second a 500, every later one the answer
        assert server.calls == 3

Each behaviour answers one request; the last one of a script repeats. The server counts what arrived and how much of
it at once, which is the only honest count of calls.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from aiohttp import web

Body = Mapping[str, Any]
Behaviour = Callable[[web.Request, Body], Awaitable[web.StreamResponse]]


class FaultyServer:
    """An OpenAI-compatible server on 127.0.0.1 that follows a script, one behaviour a request."""

    def __init__(self, *script: Behaviour) -> None:
        self.script = list(script) or [reply()]
        self.bodies: list[Body] = []
        """What was asked, in the order of arrival."""
        self.called = asyncio.Event()
        """Set when the first request arrives."""
        self.in_flight = 0
        self.max_in_flight = 0
        self.base_url = ""

    @property
    def calls(self) -> int:
        """How many requests arrived."""
        return len(self.bodies)

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_post("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.base_url = f"http://{host}:{port}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        behave = self.script[min(self.calls, len(self.script) - 1)]
        self.bodies.append(body)
        self.called.set()
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            return await behave(request, body)
        finally:
            self.in_flight -= 1


def completion(
    text: str | None,
    *,
    finish_reason: str = "stop",
    tool_calls: Sequence[Mapping[str, Any]] | None = None,
    usage: Mapping[str, Any] | None = None,
    logprobs: Sequence[float] | None = None,
) -> dict[str, Any]:
    """A well-formed chat completion that says `text`; `logprobs` are those of its tokens."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if tool_calls:
        message["tool_calls"] = list(tool_calls)
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish_reason, "message": message}
    if logprobs is not None:
        tokens = [
            {"token": "?", "logprob": logprob, "bytes": None, "top_logprobs": list[Any]()} for logprob in logprobs
        ]
        choice["logprobs"] = {"content": tokens, "refusal": None}
    body: dict[str, Any] = {
        "id": "faulty",
        "object": "chat.completion",
        "created": 0,
        "model": "faulty",
        "choices": [choice],
    }
    return body if usage is None else {**body, "usage": dict(usage)}


def used(tokens_in: int, tokens_out: int, cached: int = 0) -> dict[str, Any]:
    """A `usage` block; `cached` of the input tokens came from the provider's cache."""
    counts = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    return {**counts, "prompt_tokens_details": {"cached_tokens": cached}} if cached else counts


def reply(
    text: str = "ok", *, seconds: float = 0.0, tokens_in: int = 10, tokens_out: int = 2, finish_reason: str = "stop"
) -> Behaviour:
    """Answer `text` after `seconds`."""
    return answer(completion(text, finish_reason=finish_reason, usage=used(tokens_in, tokens_out)), seconds=seconds)


def answer(
    body: Any, *, status: int = 200, seconds: float = 0.0, headers: Mapping[str, str] | None = None
) -> Behaviour:
    """Send `body` as JSON, whatever it is."""

    async def behave(_request: web.Request, _asked: Body) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.json_response(body, status=status, headers=headers)

    return behave


def refuse(
    status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
) -> Behaviour:
    """An error as OpenAI writes it."""
    return answer({"error": {"message": message, "type": code, "code": code}}, status=status, headers=headers)


def rate_limited(retry_after: float | str | None = None) -> Behaviour:
    """A 429; `retry_after` is seconds or an HTTP date."""
    headers = None if retry_after is None else {"Retry-After": str(retry_after)}
    return refuse(429, "slow down", code="rate_limit_exceeded", headers=headers)


def crowded(most: int, otherwise: Behaviour, retry_after: float = 0.05) -> Behaviour:
    """A 429 for whoever comes while `most` others are being answered."""
    inside = 0

    async def behave(request: web.Request, asked: Body) -> web.StreamResponse:
        nonlocal inside
        if inside >= most:
            return await rate_limited(retry_after)(request, asked)
        inside += 1
        try:
            return await otherwise(request, asked)
        finally:
            inside -= 1

    return behave


def out_of_funds() -> Behaviour:
    """A 429 that no waiting mends."""
    return refuse(429, "You exceeded your current quota, please check your plan", code="insufficient_quota")


def server_error(status: int = 500) -> Behaviour:
    return refuse(status, "something broke")


def unauthorized(echo: str) -> Behaviour:
    """A 401 that quotes the key it was given, as real ones do."""
    return refuse(401, f"Incorrect API key provided: {echo}", code="invalid_api_key")


def html(status: int = 200) -> Behaviour:
    """A web page where JSON should be, as a proxy's login page."""

    async def behave(_request: web.Request, _asked: Body) -> web.StreamResponse:
        page = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in</body></html>"
        return web.Response(text=page, content_type="text/html", status=status)

    return behave


def truncated_json() -> Behaviour:
    """A body that ends in the middle of a word."""

    async def behave(_request: web.Request, _asked: Body) -> web.StreamResponse:
        text = json.dumps(completion("an answer that never ends", usage=used(10, 5)))
        return web.Response(text=text[: len(text) // 2], content_type="application/json")

    return behave


def empty(text: str | None = None) -> Behaviour:
    """A success without content."""
    return answer(completion(text, usage=used(10, 1)))


def hang() -> Behaviour:
    """Takes the request and never answers."""

    async def behave(_request: web.Request, _asked: Body) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    return behave


def drip(every: float = 0.05) -> Behaviour:
    """Sends a byte now and then for ever, which defeats timeouts between bytes."""

    async def behave(request: web.Request, _asked: Body) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(every)

    return behave


def half_open() -> Behaviour:
    """Promises a body, sends its first byte and falls silent with the connection open."""

    async def behave(request: web.Request, _asked: Body) -> web.StreamResponse:
        assert request.transport is not None
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"
        request.transport.write(head)  # type: ignore[attr-defined]
        await asyncio.Event().wait()
        raise AssertionError

    return behave


def hang_up() -> Behaviour:
    """Reads the request and drops the connection."""

    async def behave(request: web.Request, _asked: Body) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()  # type: ignore[attr-defined]
        return web.Response()

    return behave


def sometimes(faults: Mapping[Behaviour, float], otherwise: Behaviour, seed: int = 0) -> Behaviour:
    """Each fault with its probability, `otherwise` the rest of the time."""
    rng = random.Random(seed)

    async def behave(request: web.Request, asked: Body) -> web.StreamResponse:
        options = [*faults, otherwise]
        weights = [*faults.values(), max(0.0, 1.0 - sum(faults.values()))]
        return await rng.choices(options, weights)[0](request, asked)

    return behave
