"""docs/gepa.md: its adapter and its config run as they are printed."""

from __future__ import annotations

import ast
import asyncio
import json
import re
from pathlib import Path

import yaml

from promptopt.api import evaluate
from promptopt.config import load
from promptopt.testing.faulty import FaultyServer
from world import student, world, write_job

PAGE = (Path(__file__).parent.parent / "docs" / "gepa.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


async def test_the_page_s_adapter_runs_from_the_page_s_config(tmp_path: Path) -> None:
    adapter, _ = blocks("python")
    (tmp_path / "adapter.py").write_text(adapter, encoding="utf-8")
    (said,) = (yaml.safe_load(block) for block in blocks("yaml"))
    async with FaultyServer(world()) as server:
        path = write_job(tmp_path, server.base_url, **said)
        config = json.loads(path.read_text())
        del config["metric"]
        path.write_text(json.dumps(config))
        scored = await asyncio.to_thread(evaluate, load(path))
    rows = {row["id"]: row for row in map(json.loads, (tmp_path / "val.jsonl").read_text().splitlines())}
    system = said["program"]["components"]["system"]
    for rollout in scored.rollouts:
        row = rows[rollout.example_id]
        assert rollout.value == float(student(system, row["text"]) == row["team"])
    assert server.calls == len(rows)


def test_the_page_s_python_can_be_read() -> None:
    for block in blocks("python"):
        ast.parse(block)
