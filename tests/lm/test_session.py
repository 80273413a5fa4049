"""A session, and what copies of it on other models tell the one that its work is counted on."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import dataclass, field, replace
from decimal import Decimal

import pytest

from promptopt.core.rollout import Failure
from promptopt.errors import BudgetExhausted
from promptopt.lm.message import CallFailed, Reply, Request, Scope
from promptopt.lm.session import Endpoint, Session
from promptopt.lm.wire import Wire

Outcome = Reply | CallFailed | BudgetExhausted
ASKED = ({"role": "user", "content": "hello"},)


@dataclass
class Scripted:
    """A gateway that answers or fails as it was told."""

    script: list[Outcome] = field(default_factory=list[Outcome])

    async def complete(self, request: Request, scope: Scope) -> Reply:
        outcome = self.script.pop(0)
        if isinstance(outcome, Reply):
            return outcome
        raise outcome

    def open_endpoint(self, session: Session) -> Endpoint:
        raise NotImplementedError

    def close_endpoint(self, endpoint: Endpoint) -> None:
        raise NotImplementedError


def session(*script: Outcome) -> Session:
    return Session(Scripted(list(script)), Scope("program", "work", 0, "c"), "openai/sim")


def reply(usd: str, certainty: float) -> Reply:
    return Reply("hi", "stop", 1, 1, usd=Decimal(usd), certainty=certainty)


async def test_what_ends_the_run_is_not_hidden_by_what_fails_after_it() -> None:
    asked = session(BudgetExhausted("calls"), CallFailed(Failure("program", "too many calls")))
    for expected in (BudgetExhausted, CallFailed):
        with pytest.raises(expected):
            await asked.complete(ASKED)
    with pytest.raises(BudgetExhausted):
        asked.check()


async def test_calls_of_another_model_are_counted_on_the_rollout_s_session() -> None:
    main = session(reply("0.01", 0.5), reply("5", 0.9))
    with closing(Wire(main)) as wire:
        for model in ("openai/sim", "openai/other"):
            asking = main if model == main.model else replace(main, model=model)
            await asyncio.wrap_future(await asyncio.to_thread(wire.ask, asking, ASKED, {}))
    assert (main.usd, main.certainty) == (Decimal("5.01"), 0.9)
    assert len(main.trace) == 2
