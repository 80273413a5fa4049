"""A user's function as a program: any client runs under the run's caps, ledger and cache."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from promptopt.api import optimize
from promptopt.config import load
from promptopt.errors import ConfigError
from promptopt.programs.function import Function
from promptopt.testing.faulty import FaultyServer
from world import ANIMALS, SEED_PROMPT, team_of, world, write_job

OPENAI = """
from openai import OpenAI

def run(components, example, context):
    client = OpenAI(base_url=context.base_url, api_key=context.api_key)
    messages = [{"role": "system", "content": components["rules"]}, {"role": "user", "content": example.text}]
    return client.chat.completions.create(model=context.model, messages=messages).choices[0].message.content
"""

ASYNC = """
from openai import AsyncOpenAI

async def run(components, example, context):
    async with AsyncOpenAI(base_url=context.base_url, api_key=context.api_key) as client:
        messages = [{"role": "system", "content": components["rules"]}, {"role": "user", "content": example.text}]
        reply = await client.chat.completions.create(model=context.model, messages=messages)
        return reply.choices[0].message.content
"""

AGENT = """
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

def run(components, example, context):
    provider = OpenAIProvider(base_url=context.base_url, api_key=context.api_key)
    agent = Agent(OpenAIChatModel(context.model, provider=provider), system_prompt=components["rules"])
    return agent.run_sync(example.text).output
"""


def function_job(folder: Path, base_url: str, code: str, **changes: object) -> Path:
    (folder / "program.py").write_text(code)
    program = {"type": "function", "path": "program.py:run", "lm": "openai/student", "lm_args": {"max_tokens": 8},
               "components": {"rules": SEED_PROMPT}, "max_calls": 2}  # fmt: skip
    return write_job(folder, base_url, program=program, **changes)


@pytest.mark.parametrize("code", [OPENAI, ASYNC, AGENT], ids=["openai client", "async openai client", "pydantic-ai"])
async def test_whatever_client_it_uses_a_function_is_optimized_under_the_caps(tmp_path: Path, code: str) -> None:
    async with FaultyServer(world()) as server:
        job = function_job(tmp_path, server.base_url, code, budget={"rollouts": 400, "calls": 450})
        result = await asyncio.to_thread(optimize, load(job))
    assert result.verdict == "PROMOTE"
    assert any(f"{animal} goes to {team_of(animal)}" in result.best.components["rules"] for animal in ANIMALS)
    assert result.spent.calls == server.calls <= 450
    assert result.spent.rollouts <= 400


@pytest.mark.parametrize("cap", [14_000, 17_000, 20_000])
async def test_a_tight_cap_on_tokens_leaves_a_function_enough_for_its_sealed_test(tmp_path: Path, cap: int) -> None:
    """Nobody knows in advance what a function calls: its share is what its rollouts have cost."""
    async with FaultyServer(world()) as server:
        job = function_job(tmp_path, server.base_url, OPENAI, budget={"tokens": cap})
        result = await asyncio.to_thread(optimize, load(job))
    assert result.verdict == "PROMOTE"
    assert result.test is not None
    assert (result.test["n"], result.test["missing"]) == (60, 0)
    assert result.spent.tokens <= cap
    assert result.stop_reason == "budget: tokens"


async def test_a_function_that_swallows_a_refused_call_cannot_go_on_spending(tmp_path: Path) -> None:
    swallowing = OPENAI.replace("    return client", "    try:\n        return client").replace(
        ".choices[0].message.content", ".choices[0].message.content\n    except Exception:\n        return 'none'"
    )
    async with FaultyServer(world()) as server:
        job = function_job(tmp_path, server.base_url, swallowing, budget={"calls": 450})
        result = await asyncio.to_thread(optimize, load(job))
    assert server.calls <= 450
    assert result.stop_reason == "budget: calls"
    wrong = [told for told in result.steps if told.outcome == "no_room"]
    assert wrong


async def test_a_function_that_asks_for_too_many_calls_fails_its_rollouts(tmp_path: Path) -> None:
    greedy = OPENAI.replace("    return client", "    for _ in range(3):\n        reply = client")
    greedy = greedy.replace(".choices[0].message.content", "\n    return reply.choices[0].message.content")
    async with FaultyServer(world()) as server:
        job = function_job(tmp_path, server.base_url, greedy)
        with pytest.raises(Exception, match="more than 2 model calls"):
            await asyncio.to_thread(optimize, load(job))


def test_an_unknown_component_to_optimize_is_refused() -> None:
    with pytest.raises(ConfigError, match="no component 'b'; there are a"):
        Function(json.dumps, components={"a": "text"}, optimize=["b"])
