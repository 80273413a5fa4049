"""docs/strategies.md: its strategy and its operator run as they are printed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from promptopt.method import STRATEGIES
from promptopt.result import rebuild
from promptopt.testing.faulty import Behaviour, FaultyServer, completion, used
from world import ANIMALS, answer, command, draw, team_of, write_job

PAGE = (Path(__file__).parent.parent / "docs" / "strategies.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def ruling() -> Behaviour:
    """The world, whose reflection model answers with one rule in plain text, and now and then with two."""

    async def behave(_request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        said = answer(body)
        if "reflect" in body["model"]:
            text = body["messages"][0]["content"]
            animals = [one for one in re.findall(r"about the (\w+)", text) if f"{one} goes to" not in text] or ANIMALS
            animal = animals[int(draw("which", text) * len(animals))]
            said = f"{animal} goes to {team_of(animal)}" + "\nand so on" * (draw("two", text) < 0.2)
        return web.json_response(completion(said, usage=used(100, 10)))

    return behave


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the page's code in the file that the page names."""
    code = blocks("python")
    assert [block.split("\n")[0] for block in code] == ["# my_search.py"] * 2
    (tmp_path / "my_search.py").write_text("\n\n".join(code), encoding="utf-8")
    return tmp_path


async def test_the_page_s_strategy_and_operator_find_a_better_prompt(folder: Path) -> None:
    (said,) = (yaml.safe_load(block) for block in blocks("yaml") if "my_search.py" in block)
    async with FaultyServer(ruling()) as server:
        job = write_job(folder, server.base_url, budget={"rollouts": 280}, **said)
        done = await command("optimize", job)
    assert done.exit_code == 0, done.output
    result = rebuild(folder / "runs" / "tickets")
    ran = [told.operator for told in result.steps if told.operator in ("tips", "one_rule")]
    assert set(ran[::2]) == {"one_rule"}
    assert set(ran[1::2]) == {"tips"}
    assert any("goes to" in text for text in result.best.components.values())
    written = json.loads((folder / "runs" / "tickets" / "result.json").read_text())
    assert written["val"]["best"] > written["val"]["baseline"]
    assert written["refused"]["not one line"] > 0


def test_the_page_names_every_strategy_there_is() -> None:
    table = PAGE[: PAGE.index("## A strategy of your own")]
    assert set(re.findall(r"^\| `([\w+]+)` \|", table, re.MULTILINE)) == set(STRATEGIES)


def test_each_of_the_two_fits_on_a_page() -> None:
    assert all(block.count("\n") < 45 for block in blocks("python"))
