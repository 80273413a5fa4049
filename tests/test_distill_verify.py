"""A certificate after the switch: the report of its run, and `promptopt distill --verify`, on a simulated endpoint."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner, Result

import test_cascades
from promptopt.cli import app
from promptopt.distill_api import distill, verify
from promptopt.errors import DataError, RunChanged, UserError
from promptopt.testing.faulty import Behaviour, FaultyServer, completion, used
from world import SEED_PROMPT, TEAMS, command, draw, rows, team_of


def behave(version: str) -> Behaviour:
    """A teacher and a student that know every team, save the student's version of Monday."""

    async def reply(_request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        system, user = (next(m["content"] for m in body["messages"] if m["role"] == who) for who in ("system", "user"))
        text = team_of(re.findall(r"about the (\w+)", user)[-1])
        if SEED_PROMPT not in system or (body["model"] == "cheap" and version == "cheap-monday"):
            text = TEAMS[int(draw("guess", user) * len(TEAMS))]
        named = version if body["model"] == "cheap" else "big-1"
        return web.json_response({**completion(text, usage=used(100, 2)), "model": named})

    return reply


def write(folder: Path, base_url: str, **changes: Any) -> Path:
    for name, n, start in (("train", 10, 0), ("val", 30, 1000), ("test", 60, 2000), ("fresh", 60, 3000)):
        lines = [json.dumps(row) for row in rows(n, start)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    at = {"api_base": base_url, "timeout": 5.0}
    config: dict[str, Any] = {
        "name": "tickets",
        "teacher": {"lm": "openai/big"},
        "students": [{"lm": "openai/cheap"}],
        "margin": 0.2,
        "weak": "Answer with one word.",
        "program": {"type": "prompt", "lm_args": {"max_tokens": 8}, "system": SEED_PROMPT, "user": "{text}"},
        "data": {"train": "train.jsonl", "val": "val.jsonl", "test": "test.jsonl", "inputs": ["text"],
                 "expected": "team", "id": "id"},
        "metric": {"type": "exact_match"},
        "budget": {"rollouts": 400},
        "run": {"dir": "runs/tickets"},
        "lms": {
            "openai/big": {**at, "price": {"input": 10, "output": 30}},
            "openai/cheap": {**at, "price": {"input": 1, "output": 2}},
        },
    }  # fmt: skip
    path = folder / "distill.yaml"
    path.write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return path


@pytest.mark.slow
async def test_a_certificate_is_reported_and_tested_again(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "tickets"
    async with FaultyServer(behave("cheap-1")) as server:
        config = write(tmp_path, server.base_url)
        made = await asyncio.to_thread(distill, config)
        bound = made.to_json()["students"][0]["certificate"]
        assert bound["student"]["reported"] == ("cheap-1",)
        assert bound["student"]["price"] == {"input": 1.0, "output": 2.0}
        fresh = await asyncio.to_thread(verify, config, run, data=tmp_path / "fresh.jsonl")
        assert (fresh.verdict, fresh.opening, fresh.changed) == ("NON-INFERIOR", 1, ("The rows are others.",))
        assert fresh.to_json()["n"] == 60
        assert json.loads((run / "verify.json").read_text())["verdict"] == "NON-INFERIOR"
        with pytest.raises(DataError, match="30 rows stand in train or val too"):
            await asyncio.to_thread(verify, config, run, data=tmp_path / "val.jsonl")
        again = {**rows(1, 2000)[0], "id": "under another id"}
        (tmp_path / "mixed.jsonl").write_text("\n".join(map(json.dumps, [again, *rows(20, 2010), *rows(20, 4000)])))
        with pytest.raises(DataError, match="21 of the 41 rows are test rows of the run"):
            await asyncio.to_thread(verify, config, run, data=tmp_path / "mixed.jsonl")

    async with FaultyServer(behave("cheap-monday")) as server:
        write(tmp_path, server.base_url)
        again = await command("distill", "--verify", run)
        assert again.exit_code == 0, again.output
        assert "tickets: sealed test; caps: 400 rollouts" in again.output
        assert "calls itself cheap-monday now; it was cheap-1" in " ".join(again.output.replace("│", " ").split())
        verified = json.loads((run / "verify.json").read_text())
        assert (verified["verdict"], verified["opening"]) == ("INFERIOR", 2)
        assert verified["certificate"]["data"] == bound["data"]
        assert server.calls == 120

    (run / "result.json").unlink()
    page = tmp_path / "page.html"
    assert cli("report", run, "--html", page).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert "cheap-1" in text
    assert "calls itself cheap-monday now" in text.split("Tested again since")[1]
    assert json.loads(cli("report", run, "--json").stdout)["students"][0]["verdict"] == "NON-INFERIOR"
    assert "Switch to openai/cheap" in cli("report", run).stdout
    listed = [line.split()[:2] for line in cli("runs", tmp_path / "runs").stdout.splitlines()[2:]]
    assert listed == [["tickets", "SWITCH"]]


@pytest.mark.slow
async def test_a_teacher_that_is_right_by_definition_is_tested_by_another_rollout(tmp_path: Path) -> None:
    run, fresh = tmp_path / "runs" / "tickets", tmp_path / "fresh.jsonl"
    async with FaultyServer(behave("cheap-1")) as server:
        config = write(tmp_path, server.base_url, references="teacher")
        made = await asyncio.to_thread(distill, config)
        calls = server.calls
        again = await asyncio.to_thread(verify, config, run, data=fresh)
        assert server.calls == calls + 3 * 60
        assert again.verdict == "NON-INFERIOR"
        assert made.cost is not None
        assert again.teacher_cost is not None
        assert again.teacher_cost.usd_per_1000 == made.cost.usd_per_1000
        hurried = write(tmp_path, server.base_url, references="teacher", max_latency_p95_ms=0.001)
        slow = await asyncio.to_thread(verify, hurried, run, data=fresh)
        assert slow.verdict == "INFERIOR"
        assert "max_latency_p95_ms" in slow.certificate.reason
        with pytest.raises(UserError, match=r"references was teacher when .* and stays that"):
            await asyncio.to_thread(verify, write(tmp_path, server.base_url), run)
        with pytest.raises(RunChanged, match=r"distill.margin: 0.2 -> 0.3"):
            await asyncio.to_thread(distill, write(tmp_path, server.base_url, references="teacher", margin=0.3))


@pytest.mark.slow
async def test_a_cascade_that_is_recommended_is_what_is_tested_again(tmp_path: Path) -> None:
    run, fresh = tmp_path / "runs" / "tickets", tmp_path / "fresh.jsonl"
    fresh.write_text("\n".join(map(json.dumps, rows(60, 5000))), encoding="utf-8")
    async with FaultyServer(test_cascades.behave()) as server:
        config = test_cascades.write(tmp_path, server.base_url)
        made = await asyncio.to_thread(distill, config)
        assert made.cascade is not None
        calls = server.calls
        again = await asyncio.to_thread(verify, config, run, data=fresh)
        assert server.calls == calls + 60 + 3 * 60, "the teacher once, the student three times"
        with pytest.raises(UserError, match=r"cascade was .*'samples': 3.* and stays that"):
            await asyncio.to_thread(verify, test_cascades.write(tmp_path, server.base_url, cascade={"samples": 5}), run)
    hard = [row for row in rows(60, 5000) if draw("hard", row["text"]) < test_cascades.HARD]
    assert again.verdict == "NON-INFERIOR"
    assert again.escalated is not None
    assert 0 < again.escalated <= len(hard) / 60
    assert again.cost is not None
    assert again.teacher_cost is not None
    assert made.cascade.cost is not None
    more = (again.escalated - (made.cascade.escalated or 0)) * (again.teacher_cost.usd_per_1000 or 0)
    assert again.cost.usd_per_1000 == pytest.approx((made.cascade.cost.usd_per_1000 or 0) + more, rel=0.05)
    assert again.changed == ("The rows are others.",)
    assert "small, else the teacher" in cli("report", run).output.split("Tested again since")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "rows.jsonl"], "name the job's YAML file"),
        (["distill.yaml", "--student", "small"], "go with --verify RUN_DIR"),
        (["--verify", "nowhere"], "nowhere is not a run directory"),
    ],
)
def test_options_that_do_not_go_together_are_said(words: list[str], message: str) -> None:
    done = cli("distill", *words)
    assert done.exit_code == 2
    assert message in done.output


def cli(*words: object) -> Result:
    """A command in this process."""
    return CliRunner().invoke(app, [str(word) for word in words])
