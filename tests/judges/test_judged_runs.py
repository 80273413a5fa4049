"""Whole runs that are scored by a judge, on the simulated endpoint."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from blocks import blocks_of
from rich.console import Console

import world
from promptopt.api import optimize, plan
from promptopt.errors import BaselineFailed, ConfigError, DataError
from promptopt.judges.asking import REASKS
from promptopt.report.terminal import report
from promptopt.testing.faulty import Behaviour, FaultyServer, completion, used

JUDGE = {"type": "judge", "lm": "openai/judge", "rubric": "Does the output name the expected team?"}
TEST_ROWS = 60


def endpoint(bad: float) -> Behaviour:
    """The world's endpoint with a judge, whose first answer to a share of the outputs is prose."""
    others = world.world()

    async def behave(request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        if body["model"] != "judge":
            return await others(request, body)
        messages = body["messages"]
        shown = blocks_of(messages)
        first = len(messages) == 2
        if first and world.draw("prose", messages[1]["content"]) < bad:
            text = "It seems fine to me."
        else:
            right = shown["output to judge"].strip() == shown["expected answer"]
            reason = "It is the right team." if right else f"Wanted {shown['expected answer']}."
            text = json.dumps({"reason": reason, "verdict": "yes" if right else "no"})
        return web.json_response(completion(text, usage=used(100, 20)))

    return behave


def job(folder: Path, base_url: str, metric: Mapping[str, Any], **changes: Any) -> Path:
    model = {"api_base": base_url, "price": {"input": 1.0, "output": 2.0}, "timeout": 30.0, "retries": 0}
    lms = {f"openai/{name}": model for name in ("student", "reflect", "judge")}
    return world.write_job(folder, base_url, metric=metric, lms=lms, **changes)


@pytest.mark.parametrize("samples", [1, 3])
def test_the_plan_reserves_every_answer_and_every_re_ask(tmp_path: Path, samples: int) -> None:
    made = plan(job(tmp_path, "http://127.0.0.1:9/v1", {**JUDGE, "samples": samples}))
    assert made.test.calls == 2 * TEST_ROWS * (1 + samples + REASKS)
    pairwise = {"type": "pairwise", "lm": "openai/judge", "rubric": "Which is better?", "samples": samples}
    made = plan(job(tmp_path, "http://127.0.0.1:9/v1", pairwise))
    assert made.test.calls == 2 * TEST_ROWS * (1 + 2 * samples + REASKS)


def test_a_budget_without_room_for_the_judge_is_refused(tmp_path: Path) -> None:
    path = job(tmp_path, "http://127.0.0.1:9/v1", JUDGE, budget={"rollouts": 500, "calls": 300})
    with pytest.raises(ConfigError, match=r"budget.calls is 300, but [\d,]+ are needed at the worst"):
        plan(path)


def test_a_column_that_the_rows_lack_is_found_before_anything_is_spent(tmp_path: Path) -> None:
    path = job(tmp_path, "http://127.0.0.1:9/v1", {**JUDGE, "inputs": ["txt"]})
    for start in (plan, optimize):
        with pytest.raises(DataError, match=r"has no column 'txt'.* Nothing was spent"):
            start(path)


async def test_reflection_learns_from_the_judge_s_reasons_and_bad_answers_are_mended(tmp_path: Path) -> None:
    async with FaultyServer(endpoint(bad=0.2)) as server:
        result = await asyncio.to_thread(optimize, job(tmp_path, server.base_url, JUDGE, budget={"rollouts": 300}))
    assert result.verdict == "PROMOTE"
    told = [m["content"] for body in server.bodies if body["model"] == "reflect" for m in body["messages"]]
    assert any("Wanted " in text for text in told)
    assert not any("It seems fine to me" in text for text in told)
    judged = [body for body in server.bodies if body["model"] == "judge"]
    assert result.by_purpose["judge"].calls == len(judged)
    assert any(len(body["messages"]) == 4 for body in judged)
    assert result.test is not None
    assert result.test["missing"] == 0
    written = json.loads((tmp_path / "runs/tickets/result.json").read_text())
    assert [known["state"] for known in written["judges"]] == ["never"]
    console = Console(file=io.StringIO(), width=200)
    console.print(report(result))
    for told in (console.file.getvalue(), result._repr_html_(), " ".join(written["reasons"])):
        assert "Nobody has checked the judge (openai/judge) against people" in told
    assert f"of which judges: {len(judged):,} calls" in result._repr_html_()
    assert re.search(rf"judge +{len(judged):,} ", console.file.getvalue())


async def test_a_judge_that_never_gives_a_verdict_ends_the_run_and_scores_nothing(tmp_path: Path) -> None:
    async def prose(request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        if body["model"] != "judge":
            return await world.world()(request, body)
        return web.json_response(completion("I would rather not say.", usage=used(100, 20)))

    async with FaultyServer(prose) as server:
        with pytest.raises(BaselineFailed, match="gave no usable verdict"):
            await asyncio.to_thread(optimize, job(tmp_path, server.base_url, JUDGE))
    asked = sum(body["model"] == "judge" for body in server.bodies)
    assert asked <= 40 * (1 + REASKS)
