"""How sure a model is of its answer, by the log-probabilities that its endpoint tells: read once, and kept."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from math import log, nan
from pathlib import Path

import pytest

from promptopt.core.budget import Budget
from promptopt.core.rollout import Rollout
from promptopt.lm.failures import refuses_logprobs
from promptopt.lm.gateway import Gateway
from promptopt.lm.health import MISSED
from promptopt.lm.local import LocalServers
from promptopt.lm.message import CallFailed, Request, Scope
from promptopt.lm.session import Session
from promptopt.lm.settings import ModelSettings, Price
from promptopt.store.ledger import Ledger
from promptopt.testing.books import MemoryBook
from promptopt.testing.faulty import FaultyServer, answer, completion, refuse, reply, used

SIM, SCOPE = "openai/sim", Scope("program", "work")
HELLO = ({"role": "user", "content": "hi"},)
A_DOLLAR = Price(input=Decimal(1_000_000), output=Decimal(1_000_000))


def models(server: FaultyServer, model: str = SIM) -> dict[str, ModelSettings]:
    return {model: ModelSettings(api_base=server.base_url, price=A_DOLLAR, retries=0)}


def telling(logprobs: Sequence[float] | None) -> FaultyServer:
    return FaultyServer(answer(completion("north", usage=used(10, 2), logprobs=logprobs)))


@pytest.mark.parametrize(
    ("logprobs", "certainty"),
    [
        ([log(0.9), log(0.4)], 0.6),
        ([log(0.5)] * 7, 0.5),
        ([1e-7], 1.0),
        ([-9999.0], 0.0),
        ([], None),
        (None, None),
        ([0.7], None),
        ([nan], None),
    ],
)
async def test_a_certainty_is_the_geometric_mean_of_the_tokens_probabilities(
    logprobs: list[float] | None, certainty: float | None
) -> None:
    async with telling(logprobs) as server, Gateway(models(server), MemoryBook()) as gate:
        found = await gate.complete(Request(SIM, HELLO, {"logprobs": True}), SCOPE)
    assert server.bodies[0]["logprobs"] is True
    assert found.text == "north"
    assert found.certainty == (None if certainty is None else pytest.approx(certainty))


async def test_the_ledger_keeps_it_with_the_answer_and_with_the_rollout(tmp_path: Path) -> None:
    Ledger.create(tmp_path / "ledger.sqlite", {})
    with closing(Ledger(tmp_path / "ledger.sqlite", Budget())) as ledger:
        async with telling([log(0.25)]) as server, Gateway(models(server), ledger) as gate:
            await gate.complete(Request(SIM, HELLO, {"logprobs": True}), SCOPE)
            found = await gate.complete(Request(SIM, HELLO, {"logprobs": True}), SCOPE)
            assert server.calls == 1
        assert found.cached
        assert found.certainty == pytest.approx(0.25)
        ledger.record("key", Rollout("c", "e", output="north", certainty=0.25), step=0, split="val")
        kept = ledger.rollout("key")
    assert kept is not None
    assert kept.certainty == 0.25


async def test_of_several_calls_the_last_one_counts() -> None:
    told, silent = ([log(0.5)], None)
    script = [answer(completion("a", usage=used(10, 1), logprobs=said)) for said in (silent, told, silent)]
    async with FaultyServer(*script) as server, Gateway(models(server), MemoryBook()) as gate:
        session = Session(gate, SCOPE, SIM, {"logprobs": True})
        seen: list[float | None] = []
        for _ in script:
            await session.complete(HELLO)
            seen.append(session.certainty)
    assert seen == [None, pytest.approx(0.5), None]


@pytest.mark.parametrize(
    ("status", "message"),
    [(403, "You are not allowed to request logprobs from this model"), (400, "'logprobs' is not supported")],
)
async def test_an_endpoint_that_refuses_them_still_answers_everything_else(status: int, message: str) -> None:
    refused = [refuse(status, message)] * (MISSED + 1)
    async with FaultyServer(*refused, reply("north")) as server, Gateway(models(server), MemoryBook()) as gate:
        for number in range(MISSED + 1):
            with pytest.raises(CallFailed) as caught:
                await gate.complete(Request(SIM, HELLO, {"logprobs": True, "seed": number}), SCOPE)
            assert refuses_logprobs(caught.value.failure)
        assert (await gate.complete(Request(SIM, HELLO), SCOPE)).text == "north"


async def test_a_model_that_is_known_to_have_none_is_not_asked_and_costs_nothing() -> None:
    book, model = MemoryBook(), "openai/o1"
    async with FaultyServer() as server, Gateway(models(server, model), book) as gate:
        with pytest.raises(CallFailed) as caught:
            await gate.complete(Request(model, HELLO, {"logprobs": True}), SCOPE)
    assert refuses_logprobs(caught.value.failure)
    assert (server.calls, book.spent.usd) == (0, 0)


@pytest.mark.slow
async def test_a_local_model_tells_how_sure_it_is() -> None:
    with closing(LocalServers()) as local:
        async with Gateway({}, MemoryBook(), local) as gate:
            params = {"logprobs": True, "temperature": 0, "max_tokens": 4}
            found = await gate.complete(Request("local/smollm2-135m", HELLO, params), SCOPE)
    assert found.certainty is not None
    assert 0 < found.certainty < 1
