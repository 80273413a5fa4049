"""Whole joint searches against a real HTTP endpoint: one study whatever the timing, and settings priced before use."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from aiohttp import web
from typer.testing import CliRunner

from promptopt.api import optimize, plan
from promptopt.cli import app
from promptopt.config import load
from promptopt.errors import ConfigError, UserError
from promptopt.report.study import export_study
from promptopt.result import Result, rebuild
from promptopt.testing.faulty import Behaviour, FaultyServer, completion, used
from world import TEAMS, answer, draw, same, team_of, write_job

RUN = "import sys; from promptopt.cli import main; sys.argv = ['promptopt', 'optimize', sys.argv[1]]; main()"
STRATEGY = {
    "name": "joint",
    "pool": 3,
    "settings": {"temperature": [0, 0.4, 0.8], "lm": ["openai/student", "openai/big"]},
}
PRICES = {"openai/student": (1.0, 2.0), "openai/big": (10.0, 20.0), "openai/reflect": (1.0, 2.0)}


def reply(body: Mapping[str, Any]) -> str:
    """As the small world answers, but better at temperature 0.4, and better still by the big model."""
    said = answer(body)
    if "reflect" in body["model"]:
        return said
    user = body["messages"][-1]["content"]
    knows = 0.35 * (body.get("temperature") == 0.4) + 0.3 * ("big" in body["model"])
    right = team_of(user.split()[-1].rstrip("."))
    return right if draw("knows", user) < knows else said if said in TEAMS else right


def surface(seconds: float = 0.0) -> Behaviour:
    async def behave(_request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(2 * seconds * draw("wait", json.dumps(body["messages"])))
        size = sum(len(message["content"]) for message in body["messages"]) // 4
        return web.json_response(completion(reply(body), usage=used(size, 2)))

    return behave


def write(folder: Path, base_url: str, strategy: Mapping[str, Any] = STRATEGY, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    lms = {
        name: {"api_base": base_url, "price": {"input": price[0], "output": price[1]}, "timeout": 5.0}
        for name, price in PRICES.items()
    }
    return write_job(folder, base_url, **{"strategy": strategy, "lms": lms, **changes})


def trials(folder: Path, out: Path) -> list[tuple[Any, ...]]:
    """What Optuna itself reads in the exported study."""
    export_study(folder / "runs" / "tickets", out)
    study = optuna.load_study(study_name="tickets", storage=f"sqlite:///{out}")
    return [
        (trial.state.name, trial.params, trial.values, trial.intermediate_values, trial.user_attrs)
        for trial in study.trials
    ]


async def run(job: Path) -> Result:
    return await asyncio.to_thread(optimize, load(job))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a joint run that was never interrupted."""
    folder = tmp_path_factory.mktemp("joint")

    async def go() -> None:
        async with FaultyServer(surface()) as server:
            await run(write(folder, server.base_url))

    asyncio.run(go())
    return folder


def test_a_joint_run_promotes_a_combination_of_text_demos_and_settings(finished: Path) -> None:
    result = rebuild(finished / "runs" / "tickets")
    assert result.verdict == "PROMOTE"
    assert result.best.settings
    assert result.spent.rollouts <= 500
    assert {told.operator for told in result.steps} > {"trial", "demos", "rules"}


async def test_the_study_and_the_result_are_the_same_at_any_concurrency(tmp_path: Path, finished: Path) -> None:
    async with FaultyServer(surface(0.003)) as server:
        for concurrency in (1, 16):
            folder = tmp_path / str(concurrency)
            await run(write(folder, server.base_url, run={"dir": "runs/tickets", "concurrency": concurrency}))
    written = [
        json.loads((folder / "runs/tickets/result.json").read_text())
        for folder in (finished, tmp_path / "1", tmp_path / "16")
    ]
    assert same(written[0]) == same(written[1]) == same(written[2])
    studies = [
        trials(folder, tmp_path / f"{place}.db")
        for place, folder in enumerate((finished, tmp_path / "1", tmp_path / "16"))
    ]
    assert studies[0] == studies[1] == studies[2]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
async def test_a_search_that_is_killed_and_resumed_gives_the_same_study(
    tmp_path: Path, finished: Path, seed: int
) -> None:
    rng, folder = random.Random(seed), tmp_path / "killed"
    async with FaultyServer(surface(0.004)) as server:
        job = write(folder, server.base_url)
        for _ in range(2):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                RUN,
                str(job),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            until = server.calls + rng.randint(60, 220)
            while process.returncode is None and server.calls < until:  # noqa: ASYNC110 - a process has no event
                await asyncio.sleep(0.002)
            assert process.returncode is None
            process.send_signal(signal.SIGKILL)
            await process.wait()
        await run(job)
    assert trials(folder, tmp_path / "killed.db") == trials(finished, tmp_path / "whole.db")
    results = [json.loads((one / "runs/tickets/result.json").read_text()) for one in (folder, finished)]
    assert same(results[0]) == same(results[1])


def test_the_study_opens_with_optuna_s_own_tools(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "study.db"
    done = CliRunner().invoke(
        app, ["export", str(finished / "runs/tickets"), "--format", "optuna", "--out", str(out)], catch_exceptions=False
    )
    assert done.exit_code == 0
    study = optuna.load_study(study_name="tickets", storage=f"sqlite:///{out}")
    states = {trial.state.name for trial in study.trials}
    assert {"COMPLETE", "PRUNED"} <= states <= {"COMPLETE", "PRUNED", "FAIL"}
    names = {"components.system", "demos.prompt", "settings.temperature", "settings.lm"}
    assert set(study.best_trial.params) == names
    assert set(optuna.importance.get_param_importances(study)) == names
    assert study.best_trial.params["settings.lm"] in ("0: openai/student", "1: openai/big")
    result = rebuild(finished / "runs/tickets")
    assert any(trial.user_attrs["candidate"] == result.best.id for trial in study.trials)
    assert not study.trials_dataframe().empty


def test_an_export_without_a_file_over_a_file_or_without_a_study_says_what_to_do(
    finished: Path, tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, ["export", str(finished / "runs/tickets"), "--format", "optuna"])
    assert done.exit_code == 2
    (tmp_path / "there.db").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        export_study(finished / "runs/tickets", tmp_path / "there.db")
    assert (tmp_path / "there.db").read_text() == "mine"


async def test_a_run_of_another_strategy_has_no_study(tmp_path: Path) -> None:
    async with FaultyServer(surface()) as server:
        await run(write(tmp_path, server.base_url, {"name": "reflective"}, budget={"rollouts": 260}))
    with pytest.raises(UserError, match="tried no combinations"):
        export_study(tmp_path / "runs/tickets", tmp_path / "study.db")


async def test_reflective_joint_evolves_first_and_combines_then(tmp_path: Path) -> None:
    strategy = {**STRATEGY, "name": "reflective+joint"}
    async with FaultyServer(surface()) as server:
        result = await run(write(tmp_path, server.base_url, strategy, budget={"rollouts": 600}))
    trial = next(told.step for told in result.steps if told.operator == "trial")
    assert any(told.outcome == "won" and told.step < trial for told in result.steps)
    assert result.verdict == "PROMOTE"


async def test_several_objectives_end_in_a_front(tmp_path: Path) -> None:
    strategy = {**STRATEGY, "objectives": ["score", "prompt_tokens", "usd"]}
    async with FaultyServer(surface()) as server:
        result = await run(write(tmp_path, server.base_url, strategy))
    offers = result.front
    assert [offer.val for offer in offers] == sorted((offer.val for offer in offers), reverse=True)
    assert len(offers) > 1
    assert not any(one.beats(other) for one in offers for other in offers)
    assert all(offer.usd > 0 for offer in offers)
    written = json.loads((tmp_path / "runs/tickets/result.json").read_text())["front"]
    assert written[0].keys() == {"id", "val", "prompt_tokens", "usd"}
    assert [offer["id"] for offer in written] == [offer.candidate.id for offer in offers]
    shown = CliRunner().invoke(app, ["report", str(tmp_path / "runs/tickets")], env={"COLUMNS": "200"}).output
    assert all(f"{offer.candidate.id} " in shown and f"{offer.prompt_tokens:,}" in shown for offer in offers)
    shortest = min(offers, key=lambda offer: offer.prompt_tokens).candidate
    command = ["export", str(tmp_path / "runs/tickets"), "--format", "json", "--candidate", shortest.id]
    assert json.loads(CliRunner().invoke(app, command).stdout)["components"] == dict(shortest.components)
    export_study(tmp_path / "runs/tickets", tmp_path / "front.db")
    study = optuna.load_study(study_name="tickets", storage=f"sqlite:///{tmp_path / 'front.db'}")
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
    assert study.best_trials


# before anything is spent


def refused(tmp_path: Path, strategy: Mapping[str, Any], message: str, **changes: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(load(write(tmp_path, "http://127.0.0.1:9/v1", strategy, **changes)))


def test_a_model_that_is_searched_is_checked_before_the_first_call(tmp_path: Path) -> None:
    unknown = {"name": "joint", "settings": {"lm": ["openai/student", "nobody/knows"]}}
    refused(tmp_path, unknown, "nobody/knows is not a model that can be called")


def test_a_model_without_a_price_is_refused_under_a_dollar_cap(tmp_path: Path) -> None:
    strategy = {"name": "joint", "settings": {"lm": ["openai/student", "openai/unheard-of"]}}
    lms = {
        name: {"api_base": "http://127.0.0.1:9/v1", "price": {"input": 1.0, "output": 2.0}}
        for name in ("openai/student", "openai/reflect")
    }
    lms["openai/unheard-of"] = {"api_base": "http://127.0.0.1:9/v1"}
    refused(tmp_path, strategy, "the price of openai/unheard-of is not known", budget={"usd": 5.0}, lms=lms)


def test_the_worst_case_is_that_of_the_dearest_model(tmp_path: Path) -> None:
    base = "http://127.0.0.1:9/v1"
    alone = plan(load(write(tmp_path, base, {"name": "joint"})))
    beside = plan(load(write(tmp_path, base, {"name": "joint", "settings": {"lm": ["openai/student", "openai/big"]}})))
    longer = plan(load(write(tmp_path, base, {"name": "joint", "settings": {"max_tokens": [8, 80]}})))
    assert beside.step.usd > 3 * alone.step.usd
    assert beside.test.usd > 4 * alone.test.usd
    assert beside.baseline == alone.baseline
    assert longer.test.tokens_out > 5 * alone.test.tokens_out


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ({"name": "reflective", "settings": {"temperature": [0, 1]}}, "strategy.settings is for a joint search"),
        ({"name": "joint", "settings": {"api_key": ["a"]}}, "api_key"),
        ({"name": "joint", "settings": {"temperature": []}}, "temperature"),
        ({"name": "joint", "settings": {"temperature": [0, 0]}}, "lists a value of temperature twice"),
        ({"name": "joint", "settings": {"lm": [3]}}, "names models under lm"),
        ({"name": "joint", "objectives": ["usd"]}, "must begin with score"),
        ({"name": "joint", "objectives": ["score", "speed"]}, "objectives"),
        ({"name": "reflective", "objectives": ["score", "usd"]}, "strategy.objectives is for a joint search"),
        ({"name": "jiont"}, "Did you mean joint"),
    ],
)
def test_settings_that_cannot_be_searched_are_refused(tmp_path: Path, strategy: dict[str, Any], message: str) -> None:
    refused(tmp_path, strategy, message)


def test_a_program_without_a_model_has_no_settings_to_search(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def run(components, example, context):\n    return 'red'\n")
    program = {"type": "function", "path": "mine.py:run", "components": {"text": "Hello."}}
    strategy = {"name": "joint", "settings": {"temperature": [0, 1]}}
    refused(tmp_path, strategy, "the program names no model", program=program)
