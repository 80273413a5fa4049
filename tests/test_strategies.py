"""Whole runs of the smaller strategies against a real HTTP endpoint."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from promptopt.api import optimize
from promptopt.config import load
from promptopt.errors import ConfigError
from promptopt.testing.faulty import Behaviour, FaultyServer, completion, used
from world import ANIMALS, TEAMS, answer, draw, same, team_of, world, write_job


def stating() -> Behaviour:
    """The world, whose reflection model states hypotheses: of three, one is true."""

    async def behave(_request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        text = body["messages"][0]["content"]
        said = hypotheses(text) if "reflect" in body["model"] else answer(body)
        return web.json_response(completion(said, usage=used(100, 20)))

    return behave


def hypotheses(text: str) -> str:
    seen = sorted(
        {animal for animal in re.findall(r"about the (\w+)", text) if f"{animal} goes to" not in text} or ANIMALS
    )
    animal = seen[int(draw("which", text) * len(seen))]
    others = [one for one in ANIMALS if one != animal][:2]
    wrong = [f"{one} goes to {TEAMS[(TEAMS.index(team_of(one)) + 1) % len(TEAMS)]}" for one in others]
    stated = [("the " + animal, f"{animal} goes to {team_of(animal)}"), *zip(("haste", "order"), wrong, strict=True)]
    items = [{"label": label, "cause": "it is not said", "passage": "", "rule": rule} for label, rule in stated]
    return json.dumps({"hypotheses": items})


async def test_hypotheses_are_stated_checked_and_learnt(tmp_path: Path) -> None:
    async with FaultyServer(stating()) as server:
        job = write_job(tmp_path, server.base_url, strategy={"name": "hypotheses"}, budget={"rollouts": 350})
        result = await asyncio.to_thread(optimize, load(job))
    asked = [told for told in result.steps if told.operator == "hypotheses"]
    checked = [told for told in result.steps if told.operator == "check" and told.candidate]
    assert asked
    assert any(told.outcome == "won" for told in checked)
    assert {told.note.partition(":")[0] for told in checked} >= {"haste in system", "order in system"}
    assert result.val["best"] > result.val["baseline"]
    assert result.spent.rollouts <= 350


async def test_demos_are_searched_at_random_the_same_at_any_concurrency(tmp_path: Path) -> None:
    results: list[Any] = []
    async with FaultyServer(world()) as server:
        for concurrency in (1, 16):
            folder = tmp_path / str(concurrency)
            folder.mkdir()
            job = write_job(folder, server.base_url, strategy={"name": "bootstrap"}, budget={"rollouts": 240},
                            run={"dir": "runs/tickets", "concurrency": concurrency})  # fmt: skip
            results.append(await asyncio.to_thread(optimize, load(job)))
    first, second = results
    assert same(first.to_json()) == same(second.to_json())
    raced = [told for told in first.steps if told.operator in ("labelled", "bootstrapped") and told.candidate]
    assert {told.operator for told in raced} == {"labelled", "bootstrapped"}
    assert all(told.candidate.demos for told in raced)
    assert not any(told.asked for told in first.steps)


async def test_demos_for_a_program_that_takes_none_are_refused_before_anything_is_spent(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("def run(components, example, context):\n    return 'red'\n")
    program = {"type": "function", "path": "program.py:run", "components": {"rules": "x"}}
    job = write_job(tmp_path, "http://127.0.0.1:9/v1", program=program, strategy={"name": "bootstrap"})
    with pytest.raises(ConfigError, match="nothing can propose: give a reflection model, a program that takes demos"):
        await asyncio.to_thread(optimize, load(job))
