"""The gateway as an OpenAI-compatible endpoint on loopback: one way to every model, for any client.

Each rollout gets a key of its own, and every request under that key is a call of its session: traced, capped, cached
and counted as if our own program had made it. No error is answered with a status that clients try again, because the
gateway has already tried as often as it should.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, cast

from aiohttp import web

from promptopt.errors import BudgetExhausted, PromptoptError
from promptopt.lm.message import CallFailed, Reply
from promptopt.lm.session import Endpoint, Session

LARGEST_BODY = 256 << 20

PASSED_ON = frozenset(
    {
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "max_completion_tokens",
        "max_tokens",
        "min_p",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "reasoning_effort",
        "repetition_penalty",
        "response_format",
        "seed",
        "stop",
        "temperature",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
        "verbosity",
    }
)
"""What a body may say about a call; everything else (user, store, metadata, ...) is dropped."""


@dataclass
class Guest:
    """A client that holds a key."""

    session: Session
    calls: set[asyncio.Task[Any]] = field(default_factory=set[asyncio.Task[Any]])


class Loopback:
    """An HTTP server on 127.0.0.1, at a free port, in the running event loop."""

    def __init__(self, models: Collection[str]) -> None:
        self._models = models
        self._guests: dict[str, Guest] = {}
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        self._runner = web.AppRunner(self._app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
        self._started = asyncio.get_running_loop().create_task(self._start())

    def open(self, session: Session) -> Endpoint:
        """A new key for `session`. The socket listens already; what arrives before the server is up waits in it."""
        key = "promptopt-" + secrets.token_urlsafe(24)
        self._guests[key] = Guest(session)
        return Endpoint(self._base_url, key, session.model)

    def close(self, endpoint: Endpoint) -> None:
        """Forget a key and stop what still runs under it."""
        guest = self._guests.pop(endpoint.api_key, None)
        for call in guest.calls if guest else ():
            call.cancel()

    async def stop(self) -> None:
        """Close the server, ending what still runs."""
        await self._started
        for guest in self._guests.values():
            for call in guest.calls:
                call.cancel()
        await self._runner.cleanup()

    async def _start(self) -> None:
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=LARGEST_BODY)
        for place in ("", "/{key}"):  # in the path for clients that take a base URL alone
            app.router.add_post(f"{place}/v1/chat/completions", self._complete)
            app.router.add_get(f"{place}/v1/models", self._list)
        return app

    def _guest(self, request: web.Request) -> Guest | None:
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        return self._guests.get(request.match_info.get("key", bearer))

    async def _list(self, request: web.Request) -> web.Response:
        guest = self._guest(request)
        if guest is None:
            return _unknown_key()
        names = sorted({guest.session.model, *self._models})
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        guest = self._guest(request)
        if guest is None:
            return _unknown_key()
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        guest.calls.add(task)
        try:
            return await self._answer(request, guest.session)
        finally:
            guest.calls.discard(task)

    async def _answer(self, request: web.Request, session: Session) -> web.StreamResponse:
        body = await _read(request)
        if isinstance(body, str):
            return _error(400, "bad_request", body)
        messages, model = body["messages"], body.get("model") or session.model
        if model != session.model and model not in self._models:
            return _error(
                404, "not_found", f"{model} is not a model of this run; use {session.model} or name it in lms:"
            )
        params = {name: value for name, value in body.items() if name in PASSED_ON and value is not None}
        try:
            reply = await session.complete(messages, model=model, **params)
        except CallFailed as error:
            status = 400 if error.failure.kind == "bad_request" else 424
            return _error(status, error.failure.kind, error.failure.message)
        except PromptoptError as error:
            exhausted = isinstance(error, BudgetExhausted)
            return _error(402 if exhausted else 424, "budget" if exhausted else "model_down", str(error))
        return await _stream(request, body, model, reply) if body.get("stream") else _whole(model, reply)


def _unknown_key() -> web.Response:
    return _error(401, "auth", "this key belongs to no rollout that is running")


def _error(status: int, kind: str, message: str) -> web.Response:
    body = {"error": {"message": message, "type": kind, "code": kind, "param": None}}
    return web.json_response(body, status=status, headers={"x-should-retry": "false"})


async def _read(request: web.Request) -> dict[str, Any] | str:
    """The body of a request for a chat completion, or what is wrong with it."""
    try:
        body: Any = await request.json()
    except ValueError:
        return "the body is not JSON"
    messages: Any = cast("dict[str, Any]", body).get("messages") if isinstance(body, dict) else None
    if not isinstance(messages, list) or not messages:
        return "the body must be a JSON object with a list of messages"
    if not all(isinstance(message, dict) for message in cast("list[Any]", messages)):
        return "every message must be an object"
    return cast("dict[str, Any]", body)


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"id": "promptopt-" + secrets.token_hex(8), "object": kind, "created": int(time.time()), "model": model}


def _usage(reply: Reply) -> dict[str, int]:
    total = reply.tokens_in + reply.tokens_out
    return {"prompt_tokens": reply.tokens_in, "completion_tokens": reply.tokens_out, "total_tokens": total}


def _message(reply: Reply) -> dict[str, Any]:
    return {"role": "assistant", "content": reply.text or None, **reply.message}


def _whole(model: str, reply: Reply) -> web.Response:
    choice = {"index": 0, "finish_reason": reply.finish_reason, "message": _message(reply), "logprobs": None}
    return web.json_response({**_head("chat.completion", model), "choices": [choice], "usage": _usage(reply)})


async def _stream(request: web.Request, body: dict[str, Any], model: str, reply: Reply) -> web.StreamResponse:
    """The whole answer as one server-sent chunk, then the finish, for clients that insist on a stream."""
    delta = _message(reply)
    if calls := delta.get("tool_calls"):
        delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(calls)]
    head = _head("chat.completion.chunk", model)
    events: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reply.finish_reason}]},
    ]
    options: Any = body.get("stream_options")
    if isinstance(options, dict) and cast("dict[str, Any]", options).get("include_usage"):
        events.append({**head, "choices": [], "usage": _usage(reply)})
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    await response.write(text.encode())
    await response.write_eof()
    return response
