"""Whole runs that other people's judges score: what they say is learnt from, and their calls are the run's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import world
from foreign_judges import by_rule
from promptopt.api import optimize, plan
from promptopt.testing.faulty import Behaviour, FaultyServer, completion, used


@dataclass(frozen=True)
class Package:
    """A judge of another package, and how to read and answer what it asks."""

    metric: Mapping[str, Any]
    shows: re.Pattern[str]
    """Finds the output and the expected answer in its prompt."""
    right: Mapping[str, Any]
    wrong: Mapping[str, Any]
    reason: str
    """Its name for the reason."""
    title: str


MLFLOW = Package(
    metric={
        "type": "mlflow",
        "scorer": "make_judge",
        "lm": "openai/judge",
        "options": {
            "name": "team",
            "instructions": "Is {{ outputs }} the team in {{ expectations }}?",
            "feedback_value_type": "bool",
        },
    },
    shows=re.compile(r'outputs: "(\w+)"\s+expectations: \{\s+"expected_response": "(\w+)"'),
    right={"result": True},
    wrong={"result": False},
    reason="rationale",
    title="MLflow's scorer team",
)
DEEPEVAL = Package(
    metric={
        "type": "deepeval",
        "metric": "GEval",
        "lm": "openai/judge",
        "options": {
            "name": "team",
            "evaluation_steps": ["Compare the actual output with the expected output."],
            "evaluation_params": ["actual_output", "expected_output"],
        },
    },
    shows=re.compile(r"Actual Output:\s*(\w+)\s+Expected Output:\s*(\w+)"),
    right={"score": 10},
    wrong={"score": 2},
    reason="reason",
    title="DeepEval's GEval",
)
both = pytest.mark.parametrize("package", [MLFLOW, DEEPEVAL], ids=["mlflow", "deepeval"])


def endpoint(package: Package) -> Behaviour:
    """The world's endpoint, and beside it a model that judges as the package asks it to."""

    def verdict(shown: str) -> Mapping[str, Any]:
        found = package.shows.search(shown)
        assert found is not None, shown
        return {**(package.right if found[1] == found[2] else package.wrong), package.reason: f"Wanted {found[2]}."}

    others, judging = world.world(), by_rule(verdict)

    async def behave(request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        if body["model"] != "judge":
            return await others(request, body)
        return web.json_response(completion(judging(body), usage=used(100, 20)))

    return behave


async def run(package: Package, folder: Path, **changes: Any) -> Any:
    os.makedirs(folder, exist_ok=True)
    async with FaultyServer(endpoint(package)) as server:
        model = {"api_base": server.base_url, "price": {"input": 1.0, "output": 2.0}, "timeout": 5.0}
        lms = {f"openai/{name}": model for name in ("student", "reflect", "judge")}
        job = world.write_job(folder, server.base_url, metric=package.metric, lms=lms, **changes)
        return await asyncio.to_thread(optimize, job), server.bodies


@both
def test_the_plan_says_that_it_leaves_their_calls_out(package: Package, tmp_path: Path) -> None:
    model = {"api_base": "http://127.0.0.1:9/v1"}
    lms = {f"openai/{name}": model for name in ("student", "reflect", "judge")}
    made = plan(world.write_job(tmp_path, model["api_base"], metric=package.metric, lms=lms))
    uncounted, priceless = made.warnings
    assert "the metric asks openai/judge as often as its own code likes" in uncounted
    assert "nobody says what openai/student, openai/reflect, openai/judge costs" in priceless
    assert made.test.calls == 2 * 60


@pytest.mark.slow
@both
async def test_a_whole_run_learns_from_their_reasons_under_its_caps(package: Package, tmp_path: Path) -> None:
    result, bodies = await run(package, tmp_path, budget={"rollouts": 250, "calls": 3000})
    assert result.verdict == "PROMOTE"
    judged = [body for body in bodies if body["model"] == "judge"]
    assert result.by_purpose["judge"].calls == len(judged) > 100
    assert any("Wanted " in str(body["messages"]) for body in bodies if body["model"] == "reflect")
    unchecked = f"Nobody has checked {package.title} (openai/judge) against people"
    assert any(unchecked in why for why in result.reasons)
    with contextlib.closing(sqlite3.connect(tmp_path / "runs" / "tickets" / "ledger.sqlite")) as db:
        models = db.execute("SELECT DISTINCT model FROM calls WHERE purpose = 'judge'").fetchall()
    assert models == [("openai/judge",)]


@pytest.mark.slow
@both
async def test_the_sealed_tests_judgements_are_set_aside(package: Package, tmp_path: Path) -> None:
    result, bodies = await run(package, tmp_path, budget={"rollouts": 2000, "calls": 900})
    assert len(bodies) <= 900
    assert result.test is not None
    assert result.test["missing"] == 0


@pytest.mark.slow
@both
async def test_the_result_is_the_same_at_any_concurrency(package: Package, tmp_path: Path) -> None:
    made: list[dict[str, Any]] = []
    for concurrency in (1, 16):
        folder = tmp_path / str(concurrency)
        await run(package, folder, budget={"rollouts": 250}, run={"dir": "runs/tickets", "concurrency": concurrency})
        made.append(world.same(json.loads((folder / "runs" / "tickets" / "result.json").read_text())))
    assert made[0] == made[1]
