"""A user's own Python function as a program, under the gateway's caps through a loopback endpoint."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from promptopt.core.candidate import Candidate, Component, Demo
from promptopt.core.example import Example
from promptopt.errors import ConfigError
from promptopt.execute.user_code import call, source_hash
from promptopt.lm.message import Message
from promptopt.lm.session import Session
from promptopt.lm.spec import LM


@dataclass(frozen=True, slots=True)
class Context:
    """What a function is given besides its texts and its row.

    Any client or framework that takes a base URL and a key runs under the run's caps, ledger, cache and deadlines when
    pointed at `base_url`. The key is good for this one rollout. All three are empty where the program has no lm.
    """

    base_url: str
    api_key: str
    model: str
    settings: Mapping[str, Any]
    """The candidate's settings, empty unless settings are searched."""

    @property
    def keyed_url(self) -> str:
        """The base URL with the key in it, for code that takes a base URL alone."""
        host, slash, path = self.base_url.rpartition("/")
        return f"{host}{slash}{self.api_key}/{path}"

    def complete(self, messages: Sequence[Message]) -> str:
        """The model's answer as text, for code that takes a callable in place of a model.

        Raises RuntimeError with the reason when there is none.
        """
        address = urlsplit(self.base_url)
        head = {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json"}
        with closing(HTTPConnection(address.netloc)) as connection:
            body = json.dumps({"model": self.model, "messages": list(messages)})
            connection.request("POST", f"{address.path}/chat/completions", body, head)
            answer: Any = json.loads(connection.getresponse().read())
        if "error" in answer:
            raise RuntimeError(answer["error"]["message"])
        return answer["choices"][0]["message"]["content"] or ""


class Function:
    """`function(components, example, context) -> output`, sync or async, run in a thread of its own.

    `components` maps names to the texts it starts with, or to `{text, role, placeholders}`; the function is given the
    candidate's texts under the same names. A rollout that lasts longer than the run's `rollout_timeout` is abandoned:
    Python cannot end a thread, so a function that never returns keeps its thread, but never the run.

    Raises ConfigError for an unknown name in `optimize` and for components without text.
    """

    demo_slots: tuple[str, ...] = ()

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        components: Mapping[str, str | Mapping[str, Any]],
        lm: str | LM | None = None,
        optimize: Sequence[str] | None = None,
        max_calls: int = 16,
    ) -> None:
        self.function = function
        self.lm = LM.of(lm) if lm is not None else None
        self.max_calls = max_calls
        self._components = tuple(_component(name, given, optimize) for name, given in components.items())
        for name in optimize or ():
            if name not in components:
                raise ConfigError(
                    f"program.optimize: there is no component {name!r}; there are {', '.join(components)}",
                    key="program.optimize",
                )

    @property
    def components(self) -> tuple[Component, ...]:
        return self._components

    @property
    def fingerprint(self) -> str:
        lm = [self.lm.name, self.lm.args] if self.lm else None
        return json.dumps(["function", source_hash(self.function), lm], sort_keys=True, default=str)

    def check(self, columns: Sequence[str]) -> None:
        """A function reads its row itself, so no column can be missed before it runs."""

    def labelled(self, slot: str, example: Example) -> Demo | None:
        return None

    def preview(self, candidate: Candidate, example: Example) -> tuple[Message, ...] | None:
        return None

    async def run(self, candidate: Candidate, example: Example, lm: Session) -> Any:
        texts = dict(candidate.components)
        if self.lm is None:
            context = Context("", "", "", candidate.settings)
            return await call(self.function, texts, example, context, timeout=None)
        async with on_endpoint(lm, candidate.settings) as context:
            return await call(self.function, texts, example, context, timeout=None)


@asynccontextmanager
async def on_endpoint(lm: Session, settings: Mapping[str, Any]) -> AsyncGenerator[Context]:
    """A context whose calls are those of `lm`, for as long as it is open."""
    endpoint = lm.caller.open_endpoint(lm)
    try:
        yield Context(endpoint.base_url, endpoint.api_key, endpoint.model, settings)
    finally:
        lm.caller.close_endpoint(endpoint)


def _component(name: str, given: str | Mapping[str, Any], optimize: Sequence[str] | None) -> Component:
    body: Mapping[str, Any] = {"text": given} if isinstance(given, str) else given
    if not isinstance(body.get("text"), str):
        raise ConfigError(f"program.components.{name} needs a text", key=f"program.components.{name}")
    chosen = optimize is None or name in optimize
    return Component(name, body["text"], body.get("role", ""), tuple(body.get("placeholders", ())), chosen)
