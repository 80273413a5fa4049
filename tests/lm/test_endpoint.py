"""The loopback endpoint, as the openai client and an agent framework see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import openai
import pytest
from aiohttp import ClientSession
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from promptopt.core.budget import Budget
from promptopt.errors import BudgetExhausted, ModelDown
from promptopt.lm.gateway import Gateway
from promptopt.lm.message import CallFailed, Scope
from promptopt.lm.session import Endpoint, Session
from promptopt.lm.settings import ModelSettings
from promptopt.testing import faulty
from promptopt.testing.books import MemoryBook
from promptopt.testing.faulty import FaultyServer, reply

SIM, OTHER = "openai/sim", "openai/other"
HELLO = [{"role": "user", "content": "hello"}]


@dataclass
class Rollout:
    """A gateway before a server, and one session's endpoint of it."""

    server: FaultyServer
    book: MemoryBook
    gate: Gateway
    session: Session
    at: Endpoint

    @property
    def client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=self.at.base_url, api_key=self.at.api_key)


@pytest.fixture
async def rollout() -> AsyncIterator[Rollout]:
    async with FaultyServer() as server:
        settings = ModelSettings(api_base=server.base_url, retries=1, timeout=5, max_tokens=50)
        book = MemoryBook(Budget(calls=20))
        async with Gateway({SIM: settings, OTHER: settings}, book) as gate:
            session = Session(gate, Scope("program", "work"), SIM, {"temperature": 0}, max_calls=10)
            yield Rollout(server, book, gate, session, gate.open_endpoint(session))


async def test_an_openai_client_is_answered_traced_and_charged(rollout: Rollout) -> None:
    rollout.server.script = [reply("north", tokens_in=7, tokens_out=2)]
    answer = await rollout.client.chat.completions.create(
        model=SIM, messages=HELLO, user="someone", seed=3, extra_body={"store": True, "api_base": "http://elsewhere"}
    )
    assert answer.choices[0].message.content == "north"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 2)
    assert [turn.reply for turn in rollout.session.trace] == ["north"]
    assert (rollout.book.spent.calls, rollout.book.spent.tokens) == (1, 9)
    [sent] = rollout.server.bodies
    assert sent == {"messages": HELLO, "model": "sim", "temperature": 0, "seed": 3, "max_tokens": 50}


async def test_a_synchronous_client_in_a_thread_is_answered(rollout: Rollout) -> None:
    def work() -> str | None:
        client = openai.OpenAI(base_url=rollout.at.base_url, api_key=rollout.at.api_key)
        return client.chat.completions.create(model=rollout.at.model, messages=HELLO).choices[0].message.content

    assert await asyncio.to_thread(work) == "ok"


async def test_a_repeated_rollout_pays_for_no_call_twice(rollout: Rollout) -> None:
    for _ in range(2):
        at = rollout.gate.open_endpoint(Session(rollout.gate, rollout.session.scope, SIM))
        client = openai.AsyncOpenAI(base_url=at.base_url, api_key=at.api_key)
        for _ in range(2):
            await client.chat.completions.create(model=SIM, messages=HELLO)
    assert rollout.server.calls == 2
    assert rollout.book.spent.cached == 2


async def test_a_stream_carries_the_same_answer(rollout: Rollout) -> None:
    stream = await rollout.client.chat.completions.create(
        model=SIM, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "ok"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == 10


CALL = {"id": "call_1", "type": "function", "function": {"name": "lane_of", "arguments": '{"parcel": "Q7"}'}}
ASKS_FOR_THE_TOOL = faulty.answer(
    faulty.completion(None, finish_reason="tool_calls", tool_calls=[CALL], usage=faulty.used(9, 4))
)


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_agent_framework_uses_its_tool_through_the_gateway(rollout: Rollout, streamed: bool) -> None:
    rollout.server.script = [ASKS_FOR_THE_TOOL, reply("The lane is north.")]
    provider = OpenAIProvider(base_url=rollout.at.base_url, api_key=rollout.at.api_key)
    agent = Agent(OpenAIChatModel(rollout.at.model, provider=provider), system_prompt="Find the lane.")
    seen: list[str] = []

    @agent.tool_plain
    def lane_of(parcel: str) -> str:
        """The lane of a parcel."""
        seen.append(parcel)
        return "north"

    if streamed:
        async with agent.run_stream("Which lane takes Q7?") as result:
            output = await result.get_output()
    else:
        output = (await agent.run("Which lane takes Q7?")).output
    assert output == "The lane is north."
    assert seen == ["Q7"]
    assert rollout.server.bodies[0]["tools"][0]["function"]["name"] == "lane_of"
    assert rollout.server.bodies[1]["messages"][-1]["content"] == "north"
    assert ["lane_of" in turn.reply for turn in rollout.session.trace] == [True, False]
    assert rollout.book.spent.calls == 2


async def test_only_a_running_rollouts_key_is_accepted(rollout: Rollout) -> None:
    stranger = openai.AsyncOpenAI(base_url=rollout.at.base_url, api_key="promptopt-guess")
    with pytest.raises(openai.AuthenticationError):
        await stranger.chat.completions.create(model=SIM, messages=HELLO)
    rollout.gate.close_endpoint(rollout.at)
    with pytest.raises(openai.AuthenticationError, match="no rollout that is running"):
        await rollout.client.chat.completions.create(model=SIM, messages=HELLO)
    assert rollout.server.calls == 0


async def test_closing_an_endpoint_stops_and_settles_what_runs_under_it(rollout: Rollout) -> None:
    rollout.server.script = [faulty.hang()]
    call = asyncio.create_task(rollout.client.chat.completions.create(model=SIM, messages=HELLO))
    await rollout.server.called.wait()
    rollout.gate.close_endpoint(rollout.at)
    await asyncio.sleep(0.05)
    assert rollout.book.spent == rollout.book.entries[0].worst
    call.cancel()


async def test_models_of_the_run_are_listed_and_others_are_not_found(rollout: Rollout) -> None:
    assert [model.id async for model in rollout.client.models.list()] == [OTHER, SIM]
    await rollout.client.chat.completions.create(model=OTHER, messages=HELLO)
    assert rollout.server.bodies[-1]["model"] == "other"
    with pytest.raises(openai.NotFoundError, match="openai/gpt-4o is not a model of this run"):
        await rollout.client.chat.completions.create(model="openai/gpt-4o", messages=HELLO)


async def test_no_failure_is_tried_again_by_the_client(rollout: Rollout) -> None:
    rollout.server.script = [faulty.server_error()]
    with pytest.raises(openai.APIStatusError, match="something broke"):
        await rollout.client.chat.completions.create(model=SIM, messages=HELLO)
    assert rollout.server.calls == 2
    assert isinstance(rollout.session.error, CallFailed)
    assert rollout.session.asked.total() == 1


async def test_an_exhausted_budget_is_final_for_the_client_and_known_to_the_runner(rollout: Rollout) -> None:
    rollout.session.max_calls = None
    for n in range(20):
        await rollout.client.chat.completions.create(model=SIM, messages=[{"role": "user", "content": str(n)}])
    with pytest.raises(openai.APIStatusError) as caught:
        await rollout.client.chat.completions.create(model=SIM, messages=HELLO)
    assert caught.value.status_code == 402
    assert isinstance(rollout.session.error, BudgetExhausted)
    assert rollout.server.calls == 20


async def test_a_model_that_is_down_is_final_for_the_client_and_known_to_the_runner(rollout: Rollout) -> None:
    rollout.server.script = [faulty.unauthorized("x")]
    with pytest.raises(openai.APIStatusError, match="refuses every call"):
        await rollout.client.chat.completions.create(model=SIM, messages=HELLO)
    assert isinstance(rollout.session.error, ModelDown)
    assert rollout.server.calls == 1


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages": []}', b'{"messages": ["hi"]}', b'{"messages": "hi"}'])
async def test_a_body_that_is_no_request_is_refused_with_a_reason(rollout: Rollout, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {rollout.at.api_key}", "Content-Type": "application/json"}
    url = f"{rollout.at.base_url}/chat/completions"
    async with ClientSession() as client, client.post(url, data=body, headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["error"]["message"]


async def test_a_large_conversation_passes(rollout: Rollout) -> None:
    messages = [{"role": "user", "content": "x" * 5_000_000}]
    answer = await rollout.client.chat.completions.create(model=SIM, messages=messages)
    assert answer.choices[0].message.content == "ok"


async def test_a_gateway_that_nobody_asked_for_an_endpoint_opens_no_port() -> None:
    async with Gateway({}, MemoryBook()) as gate:
        assert gate._loopback is None  # pyright: ignore[reportPrivateUsage]
