"""One piece of work's view of the models."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Protocol

from promptopt.core.rollout import Failure, Invocation, Score, Turn
from promptopt.errors import PromptoptError, RunError
from promptopt.lm.message import CallFailed, Message, Reply, Request, Scope


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a client that takes a base URL finds the gateway; valid while its rollout runs."""

    base_url: str
    api_key: str
    model: str


class Caller(Protocol):
    """What a session needs of the gateway."""

    async def complete(self, request: Request, scope: Scope) -> Reply:
        """The model's answer, from the ledger or paid; raises CallFailed, BudgetExhausted or ModelDown."""
        ...

    def open_endpoint(self, session: Session) -> Endpoint: ...

    def close_endpoint(self, endpoint: Endpoint) -> None: ...


@dataclass
class Session:
    """Every call made through it is traced, capped, cached and paid for under one scope.

    A rollout that is tried again gets a new session, so that its calls find their paid answers by the same count.
    """

    caller: Caller
    scope: Scope
    model: str
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Parameters for every call, such as temperature; a call's own win."""
    max_calls: int | None = None
    """A rollout that asks for more calls than this fails, which bounds loops and worst cases."""
    trace: list[Turn] = field(default_factory=list[Turn])
    invocations: list[Invocation] = field(default_factory=list[Invocation])
    """What the program's parts did, as far as the program tells."""
    own: Score | None = None
    """What the program thinks of its work, where it says so."""
    usd: Decimal = Decimal(0)
    """What its answers cost, in US dollars."""
    certainty: float | None = None
    """Of its last answer, which in a rollout of several calls is the one that the output rests on."""
    error: CallFailed | PromptoptError | None = None
    """Why the last failed call failed. A client behind the endpoint sees only an HTTP status, and may hide it."""
    asked: Counter[str] = field(default_factory=Counter[str])
    """How often each request was made, by its digest."""

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        model: str | None = None,
        component: str = "",
        schema: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> Reply:
        """Ask `model`, or the session's own, and remember the turn. Raises CallFailed when there is no answer."""
        request = Request(model or self.model, tuple(messages), {**self.params, **params}, schema)
        try:
            reply = await self.caller.complete(request, self._next(request))
        except (CallFailed, PromptoptError) as error:
            self.failed(error)
            raise
        self.paid(reply)
        called: Sequence[Mapping[str, Any]] = reply.message.get("tool_calls") or ()
        said = reply.text or json.dumps(called or "", ensure_ascii=False)
        tools: Sequence[Mapping[str, Any]] = request.params.get("tools") or ()
        self.trace.append(Turn(request.messages, said, reply.finish_reason, component, tuple(called), tuple(tools)))
        return reply

    def paid(self, reply: Reply) -> None:
        """Take over what an answer cost, and how sure it is."""
        self.usd += reply.usd
        self.certainty = reply.certainty

    def failed(self, error: CallFailed | PromptoptError) -> None:
        """Remember why a call failed; what ends the whole run stays, whatever fails after it."""
        if not isinstance(self.error, RunError):
            self.error = error

    def check(self) -> None:
        """Raise what ends the run, where the code that called a model hid it behind something of its own."""
        if isinstance(self.error, RunError):
            raise self.error

    def _next(self, request: Request) -> Scope:
        if self.max_calls is not None and self.asked.total() >= self.max_calls:
            raise CallFailed(Failure("program", f"it asked for more than {self.max_calls} model calls in one rollout"))
        nth = self.asked[request.digest]
        self.asked[request.digest] += 1
        return replace(self.scope, nth=nth)
