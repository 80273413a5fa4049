"""The way from a rollout's own thread to its session, which lives in the run's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, cast

from promptopt.core.rollout import Failure
from promptopt.errors import PromptoptError
from promptopt.lm.message import CallFailed, Message, Reply
from promptopt.lm.session import Session


class Wire:
    """Made inside the run's loop, used in any thread. `component` names who is calling, in the thread of the call."""

    def __init__(self, session: Session, component: Callable[[], str] = str) -> None:
        self.session = session
        self._component = component
        self._loop = asyncio.get_running_loop()
        self._calls = set[Future[Reply]]()
        self._closed = False

    def ask(
        self,
        session: Session,
        messages: Sequence[Message],
        params: Mapping[str, Any],
        schema: Mapping[str, Any] | None = None,
    ) -> Future[Reply]:
        """The answer to be, to a request that is made as `session`."""
        if self._closed:
            raise _ended()
        work = self._complete(session, self._component(), messages, params, schema)
        call = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return call

    def close(self) -> None:
        """End what is still being asked, and refuse whatever an abandoned thread asks from now on."""
        self._closed = True
        for call in list(self._calls):
            call.cancel()

    async def _complete(
        self,
        session: Session,
        component: str,
        messages: Sequence[Message],
        params: Mapping[str, Any],
        schema: Mapping[str, Any] | None,
    ) -> Reply:
        if self._closed:
            raise _ended()
        try:
            reply = await session.complete(messages, component=component, schema=schema, **params)
        except (CallFailed, PromptoptError) as error:
            self.session.failed(error)
            raise
        if session is not self.session:
            self.session.paid(reply)
        return reply


def schema_in(params: dict[str, Any]) -> Mapping[str, Any] | None:
    """The JSON schema that `params` ask for, taken out: the gateway knows which models take one."""
    wanted: Any = params.get("response_format")
    if not isinstance(wanted, Mapping) or "json_schema" not in wanted:
        return None
    del params["response_format"]
    return cast("Mapping[str, Any]", wanted["json_schema"])["schema"]


def _ended() -> CallFailed:
    return CallFailed(Failure("program", "the rollout has ended; nothing is asked any more"))
