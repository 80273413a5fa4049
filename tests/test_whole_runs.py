"""Whole runs against a real HTTP endpoint: the same result whatever the timing, nothing paid twice, caps that hold."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import re
import signal
import sqlite3
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import promptopt
from promptopt.api import optimize
from promptopt.config import load
from promptopt.core.state import Told
from promptopt.errors import BaselineFailed, BudgetExhausted, ConfigError, ModelDown, RunChanged
from promptopt.execute.optimization import TEST_STEP
from promptopt.execute.progress import Running, Silent
from promptopt.result import Result, rebuild
from promptopt.testing.faulty import (
    Behaviour,
    Body,
    FaultyServer,
    empty,
    hang,
    html,
    rate_limited,
    refuse,
    reply,
    server_error,
    truncated_json,
)
from world import SEED_PROMPT, same, world, write_job

RUN = "import sys; from promptopt.api import optimize; optimize(sys.argv[1])"


async def run(job: Path, *overrides: str) -> Result:
    """The job, in a thread so that the server of this loop can answer."""
    return await asyncio.to_thread(optimize, load(job, overrides))


async def start(job: Path) -> asyncio.subprocess.Process:
    """The job in a process of its own."""
    return await asyncio.create_subprocess_exec(sys.executable, "-c", RUN, str(job), stderr=asyncio.subprocess.PIPE)


def result_of(folder: Path, name: str = "tickets") -> dict[str, Any]:
    return json.loads((folder / "runs" / name / "result.json").read_text())


def calls_in(folder: Path) -> Counter[str]:
    """The ledger's calls by state."""
    with contextlib.closing(sqlite3.connect(folder / "runs" / "tickets" / "ledger.sqlite")) as db:
        return Counter(dict(db.execute("SELECT state, count(*) FROM calls GROUP BY state").fetchall()))


async def test_a_run_finds_a_better_prompt_and_says_so(tmp_path: Path) -> None:
    async with FaultyServer(world()) as server:
        result = await run(write_job(tmp_path, server.base_url))
    assert result.verdict == "PROMOTE"
    assert result.test is not None
    assert result.test["best"] > result.test["baseline"] + 0.2
    assert "goes to" in result.best.components["system"]
    assert result.spent.rollouts <= 500
    written = result_of(tmp_path)
    assert written["recommended"] == "best"
    assert written["val"]["optimistic"] is True
    assert same(rebuild(tmp_path / "runs" / "tickets").to_json()) == same(written)


async def test_the_result_is_the_same_at_any_concurrency(tmp_path: Path) -> None:
    results: list[dict[str, Any]] = []
    for concurrency, seconds in ((1, 0.0), (8, 0.003), (64, 0.01)):
        folder = tmp_path / str(concurrency)
        folder.mkdir()
        async with FaultyServer(world(seconds)) as server:
            job = write_job(folder, server.base_url, run={"dir": "runs/tickets", "concurrency": concurrency})
            await run(job)
        results.append(result_of(folder))
    assert same(results[0]) == same(results[1]) == same(results[2])
    assert all(400 < r["spent"]["rollouts"] <= 500 for r in results)


async def killed_again_and_again(folder: Path, kills: int, seed: int) -> tuple[FaultyServer, dict[str, Any]]:
    """Run a job, kill it with SIGKILL at random calls `kills` times, and let it end."""
    rng = random.Random(seed)
    async with FaultyServer(world(0.004)) as server:
        job = write_job(folder, server.base_url)
        for _ in range(kills):
            process = await start(job)
            until = server.calls + rng.randint(1, 1000 // kills)
            while process.returncode is None and server.calls < until:  # noqa: ASYNC110 - a process has no event
                await asyncio.sleep(0.002)
            if process.returncode is not None:
                break
            process.send_signal(signal.SIGKILL)
            await process.wait()
        process = await start(job)
        _, said = await process.communicate()
        assert process.returncode == 0, said.decode()
    return server, result_of(folder)


def assert_nothing_was_paid_twice(server: FaultyServer, folder: Path) -> None:
    """Every request that arrived is a call in the ledger, and only calls that were lost were asked again."""
    calls = calls_in(folder)
    assert server.calls <= calls.total()
    asked = Counter(json.dumps([body["model"], body["messages"]], sort_keys=True) for body in server.bodies)
    assert sum(count - 1 for count in asked.values()) <= calls["open"]


async def test_a_killed_run_resumes_to_the_same_result_and_pays_for_no_finished_call_twice(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    async with FaultyServer(world()) as server:
        await run(write_job(tmp_path / "whole", server.base_url))
    server, result = await killed_again_and_again(tmp_path / "killed", kills=3, seed=1)
    assert same(result) == same(result_of(tmp_path / "whole"))
    assert_nothing_was_paid_twice(server, tmp_path / "killed")


@pytest.mark.slow
async def test_twenty_kills_at_random_moments_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    async with FaultyServer(world()) as server:
        await run(write_job(tmp_path / "whole", server.base_url))
    server, result = await killed_again_and_again(tmp_path / "killed", kills=20, seed=2)
    assert same(result) == same(result_of(tmp_path / "whole"))
    assert_nothing_was_paid_twice(server, tmp_path / "killed")


@pytest.mark.parametrize(
    ("cap", "limit", "floor"),
    [("rollouts", 403, 0.85), ("calls", 400, 0.85), ("tokens", 75_000, 0.7), ("usd", 0.075, 0.7)],
)
async def test_no_cap_is_ever_passed_with_64_calls_in_flight(
    tmp_path: Path, cap: str, limit: float, floor: float
) -> None:
    async with FaultyServer(world(0.01)) as server:
        job = write_job(tmp_path, server.base_url, budget={cap: limit}, run={"dir": "runs/tickets", "concurrency": 64})
        result = await run(job)
    spent = float(getattr(result.spent, cap))
    assert spent <= limit
    assert spent >= floor * limit
    assert result.stop_reason == f"budget: {cap}"
    assert result.test is not None
    assert result.test["missing"] == 0
    if cap in ("rollouts", "calls"):
        assert server.calls <= limit + (len(result.steps) if cap == "rollouts" else 0)
    tokens = [sum(len(m["content"]) for m in body["messages"]) // 4 for body in server.bodies]
    assert sum(tokens) <= result.spent.tokens


async def test_sealed_rows_that_are_longer_than_those_of_val_are_set_aside_for_as_such(tmp_path: Path) -> None:
    async with FaultyServer(world(0.01)) as server:
        settings = {"budget": {"tokens": 110_000}, "run": {"dir": "runs/tickets", "concurrency": 8, "seed": 4}}
        job = write_job(tmp_path, server.base_url, **settings)
        rows = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
        longer = [{**row, "text": f"{row['text']}{' thank you' * 30}"} for row in rows]
        (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, longer)) + "\n")
        result = await run(job)
    assert result.stop_reason == "budget: tokens"
    assert result.test is not None
    assert result.test["missing"] == 0


async def test_a_run_that_was_killed_before_its_sealed_test_opens_it_when_it_goes_on(tmp_path: Path) -> None:
    """What is set aside for the test is known as well after a kill as before, so that no champion is barred."""
    async with FaultyServer(world()) as server:
        job = write_job(tmp_path, server.base_url, budget={"tokens": 120_000})
        whole = same((await run(job)).to_json())
        with contextlib.closing(sqlite3.connect(tmp_path / "runs" / "tickets" / "ledger.sqlite")) as db:
            db.execute("DELETE FROM events WHERE kind IN ('stop', 'opened', 'finished')")
            for table in ("calls", "rollouts"):
                db.execute(f"DELETE FROM {table} WHERE step = ?", (TEST_STEP,))
            db.commit()
        assert same((await run(job)).to_json()) == whole


async def test_the_time_cap_ends_the_search_early_enough_for_the_test(tmp_path: Path) -> None:
    async with FaultyServer(world(0.05)) as server:
        job = write_job(tmp_path, server.base_url, budget={"minutes": 0.15})
        result = await run(job)
    assert result.seconds < 0.15 * 60 + 1
    assert result.stop_reason == "budget: minutes"
    assert result.test is None or result.test["missing"] <= 6


def often_broken(share: float, seed: int, seconds: float = 0.0) -> Behaviour:
    """The world with each fault on its share of the tries; the same question fails at most twice."""
    rng, tries = random.Random(seed), Counter[str]()
    faults = [rate_limited(retry_after=0.05), server_error(), hang(), html(), truncated_json(), empty()]
    fine = world(seconds)

    async def behave(request: Any, body: Any) -> Any:
        asked = json.dumps([body["model"], body["messages"]], sort_keys=True)
        tries[asked] += 1
        chosen = int(rng.random() / share)
        return await (faults[chosen] if chosen < len(faults) and tries[asked] <= 2 else fine)(request, body)

    return behave


async def test_faults_that_pass_leave_the_result_as_it_is(tmp_path: Path) -> None:
    for name in ("fine", "faulty"):
        (tmp_path / name).mkdir()
    async with FaultyServer(world()) as server:
        await run(write_job(tmp_path / "fine", server.base_url))
    async with FaultyServer(often_broken(0.05, seed=3)) as server:
        job = write_job(tmp_path / "faulty", server.base_url, run={"dir": "runs/tickets", "concurrency": 32})
        models = json.loads(job.read_text())["lms"]
        quick = {name: {**model, "timeout": 2, "retries": 3} for name, model in models.items()}
        result = await run(write_job(tmp_path / "faulty", server.base_url, lms=quick,
                                     run={"dir": "runs/tickets", "concurrency": 32}))  # fmt: skip
    asked = Counter(json.dumps([body["model"], body["messages"]], sort_keys=True) for body in server.bodies)
    assert max(asked.values()) <= 4
    assert same(result_of(tmp_path / "faulty")) == same(result_of(tmp_path / "fine"))
    assert server.calls <= result.spent.calls


async def test_a_changed_job_is_refused_with_a_diff(tmp_path: Path) -> None:
    async with FaultyServer(world()) as server:
        job = write_job(tmp_path, server.base_url)
        await run(job)
        calls = server.calls
        with pytest.raises(RunChanged, match=r"budget.rollouts: 500 -> 600"):
            await run(job, "budget.rollouts=600")
        (tmp_path / "val.jsonl").write_text((tmp_path / "val.jsonl").read_text().replace("Ticket 1001", "Ticket 9001"))
        with pytest.raises(RunChanged, match=r"data.val.content"):
            await run(job)
        assert server.calls == calls


@pytest.mark.parametrize(
    ("behaviour", "error", "message"),
    [
        (refuse(401, "bad key sk-1234567890abcdef1234"), ModelDown, "401|refus|key"),
        (refuse(404, "no such model"), ModelDown, "404|not found|no such model"),
        (html(), (ModelDown, BaselineFailed), "HTML|JSON|malformed"),
        (empty(), (ModelDown, BaselineFailed), "empty"),
    ],
)
async def test_an_endpoint_that_cannot_work_ends_the_run_with_one_message(
    tmp_path: Path, behaviour: Behaviour, error: type[Exception] | tuple[type[Exception], ...], message: str
) -> None:
    async with FaultyServer(behaviour) as server:
        job = write_job(tmp_path, server.base_url)
        with pytest.raises(error, match=message) as raised:
            await run(job, "lms.openai/student.retries=0")
        assert "sk-1234567890" not in str(raised.value)
    async with FaultyServer(world()) as server:
        result = await run(job, f"lms.openai/student.api_base={server.base_url}",
                           f"lms.openai/reflect.api_base={server.base_url}")  # fmt: skip
    assert result.verdict == "PROMOTE"


async def test_a_metric_that_raises_ends_the_run_with_its_row_and_can_be_mended(tmp_path: Path) -> None:
    metric = tmp_path / "metric.py"
    metric.write_text("def score(example, output):\n    return float('nan')\n")
    async with FaultyServer(world()) as server:
        job = write_job(tmp_path, server.base_url, metric={"type": "python", "path": "metric.py:score"})
        with pytest.raises(BaselineFailed, match="finite number"):
            await run(job)
        calls = server.calls
        metric.write_text('def score(example, output):\n    return output == example.team, f"wanted {example.team}"\n')
        result = await run(job)
        assert result.verdict == "PROMOTE"
        assert calls_in(tmp_path)["answered"] == server.calls
    assert calls == 40


async def test_a_budget_too_small_for_baseline_test_and_one_step_says_what_would_do(tmp_path: Path) -> None:
    job = write_job(tmp_path, "http://127.0.0.1:9/v1", budget={"rollouts": 100})
    with pytest.raises(ConfigError, match=r"budget.rollouts is 100, but 216 are needed"):
        optimize(load(job))
    assert not (tmp_path / "runs").exists()


async def test_interrupting_leaves_a_run_that_resumes_to_the_same_result(tmp_path: Path) -> None:
    for name in ("whole", "interrupted"):
        (tmp_path / name).mkdir()
    async with FaultyServer(world(0.004)) as server:
        await run(write_job(tmp_path / "whole", server.base_url))
    async with FaultyServer(world(0.004)) as server:
        job = write_job(tmp_path / "interrupted", server.base_url)

        class Impatient(Silent):
            def began(self, running: Running) -> None:
                asyncio.get_running_loop().call_later(0.7, running.interrupt)

        first = await asyncio.to_thread(optimize, load(job), watch=Impatient())
        assert first.stop_reason == "interrupted"
        assert first.verdict == "INCONCLUSIVE"
        await run(job)
    assert same(result_of(tmp_path / "interrupted")) == same(result_of(tmp_path / "whole"))
    assert_nothing_was_paid_twice(server, tmp_path / "interrupted")


async def test_an_interrupt_while_reflections_run_waits_for_them_and_ends(tmp_path: Path) -> None:
    quick, reflections = world(), itertools.count()

    async def slow_reflections(request: web.Request, body: Body) -> web.StreamResponse:
        if "reflect" in body["model"] and next(reflections):
            await asyncio.sleep(1.0)
        return await quick(request, body)

    class Impatient(Silent):
        def began(self, running: Running) -> None:
            self.running = running

        def folded(self, told: Told) -> None:
            if told.step == 1:
                self.running.interrupt()

    async with FaultyServer(slow_reflections) as server:
        job = load(write_job(tmp_path, server.base_url, strategy={"operators": ["rewrite"]}))
        ended = await asyncio.wait_for(asyncio.to_thread(optimize, job, watch=Impatient()), 15)
    assert ended.stop_reason == "interrupted"


@pytest.mark.parametrize("key", ["function", "reflection"])
async def test_half_a_character_from_a_model_does_no_harm(tmp_path: Path, key: str) -> None:
    """A lone surrogate is legal in JSON, and neither a file nor a request can hold it."""
    quick = world()

    async def halved(request: web.Request, body: Body) -> web.StreamResponse:
        if ("reflect" in body["model"]) == (key == "reflection"):
            text = '{"why": "x", "rules": ["Watch \\ud83d tickets"]}' if key == "reflection" else "red \ud83d"
            return await reply(text)(request, body)
        return await quick(request, body)

    async with FaultyServer(halved) as server:
        result = await asyncio.wait_for(run(write_job(tmp_path, server.base_url, budget={"calls": 350})), 60)
    assert result.stop_reason != "interrupted"
    assert calls_in(tmp_path)["open"] == 0


async def test_the_time_cap_ends_a_step_that_hangs(tmp_path: Path) -> None:
    async with FaultyServer(hang()) as server:
        job = write_job(tmp_path, server.base_url, budget={"minutes": 0.05})
        with pytest.raises(BudgetExhausted, match="minutes"):
            await asyncio.wait_for(run(job, "lms.openai/student.timeout=30"), 12)


WITHOUT_TEST = {"train": "train.jsonl", "val": "val.jsonl", "inputs": ["text"], "expected": "team", "id": "id"}


def reflecting(behaviour: Behaviour, otherwise: Behaviour | None = None) -> Behaviour:
    """The world with another reflection model."""
    fine = otherwise or world()

    async def behave(request: web.Request, body: Body) -> web.StreamResponse:
        return await (behaviour if "reflect" in body["model"] else fine)(request, body)

    return behave


def reflections(server: FaultyServer) -> int:
    return sum("reflect" in body["model"] for body in server.bodies)


async def test_a_search_that_scored_nothing_else_does_not_reject(tmp_path: Path) -> None:
    async with FaultyServer(reflecting(reply("Certainly!"))) as server:
        result = await run(write_job(tmp_path, server.base_url, strategy={"operators": ["rewrite"]}))
    assert result.verdict == "INCONCLUSIVE"
    assert "no other candidate was scored" in result.reasons[0]
    assert result.state.refused["no fenced block"] > 1
    assert result.stop_reason is not None
    assert re.search(r"reflection: nothing usable \d+ times in a row \(no fenced block: \d+\)", result.stop_reason)
    assert reflections(server) <= 2 * (8 + 8)


async def test_the_other_operators_go_on_where_the_reflection_model_is_of_no_use(tmp_path: Path) -> None:
    async with FaultyServer(reflecting(reply("Certainly! Below is the new instruction:\nBe good."))) as server:
        job = write_job(tmp_path, server.base_url, data=WITHOUT_TEST, budget={"rollouts": 400})
        result = await run(job)
    asked = [told for told in result.steps if told.asked]
    assert 8 <= len(asked) <= 8 + 8
    assert result.state.useless >= 8
    assert result.state.refused["not JSON"] > 1
    assert [
        told for told in result.steps if told.step > asked[-1].step and told.operator in ("tips", "demos", "remove")
    ]
    assert all("Certainly" not in c.components["system"] for c in result.state.candidates.values())


async def test_a_reflection_model_that_repeats_itself_is_scored_once_and_then_given_up(tmp_path: Path) -> None:
    async with FaultyServer(reflecting(reply(f"```\n{SEED_PROMPT} Be sure.\n```"))) as server:
        job = write_job(tmp_path, server.base_url, data=WITHOUT_TEST, strategy={"operators": ["rewrite"]})
        result = await run(job)
    assert result.stop_reason is not None
    assert result.stop_reason.startswith("reflection: nothing usable")
    assert "always the same text" in result.stop_reason
    assert len(result.state.candidates) == 2
    assert reflections(server) <= 3 * 8
    assert result.spent.rollouts <= 2 * 40 + 40


async def test_a_reflection_model_that_is_down_stops_the_run_which_goes_on_once_it_is_back(tmp_path: Path) -> None:
    down = True

    async def moody(request: web.Request, body: Body) -> web.StreamResponse:
        return await (server_error() if down else world())(request, body)

    async with FaultyServer(reflecting(moody)) as server:
        job = write_job(tmp_path, server.base_url, budget={"rollouts": 400})
        with pytest.raises(ModelDown, match=r"openai/reflect.*has not answered 8 calls in a row") as raised:
            await run(job, "lms.openai/reflect.retries=0")
        assert "run the same command again" in str(raised.value)
        assert reflections(server) <= 8 + 8 * 3
        paid = server.calls - reflections(server)
        down = False
        result = await run(job)
    assert paid > 16
    assert result.verdict == "PROMOTE"
    assert result.spent.rollouts <= 400
    asked = Counter(json.dumps([b["model"], b["messages"]]) for b in server.bodies if "reflect" not in b["model"])
    assert max(asked.values()) == 1


async def test_a_baseline_that_meets_the_target_ends_the_run_before_anything_is_proposed(tmp_path: Path) -> None:
    async with FaultyServer(world()) as server:
        result = await run(write_job(tmp_path, server.base_url, strategy={"target": 0.1}))
    assert result.stop_reason is not None
    assert result.stop_reason.startswith("target: the starting prompt has 0.")
    assert result.verdict == "INCONCLUSIVE"
    assert result.test is None
    assert server.calls == result.spent.rollouts == 40


def test_a_split_whose_parts_share_rows_is_refused() -> None:
    rows = promptopt.Dataset.from_rows([{"x": str(i), "y": "a"} for i in range(20)], inputs="x", expected="y").examples
    prompt = promptopt.Prompt("local/smollm2-135m", system="Say a.", user="{x}")
    for split in (promptopt.Split(rows, rows, rows), promptopt.Split(rows[:8], rows[8:], rows[7:9])):
        with pytest.raises(promptopt.DataError, match="share rows or ids"):
            promptopt.optimize(prompt, split, "exact_match", budget={"rollouts": 100})


def test_a_key_among_a_models_arguments_is_refused_before_it_can_reach_a_file() -> None:
    with pytest.raises(promptopt.ConfigError, match="api_key_env"):
        promptopt.LM("openai/x", api_key="sk-SUPERSECRET12345")
