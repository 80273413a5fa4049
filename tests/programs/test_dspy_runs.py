"""Whole runs of DSPy programs: caps, the ledger, secrets, and what a resumed run notices."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import dspy
import pytest
from aiohttp import web

from dspy_world import KEY, lm_at, say, think
from promptopt.api import optimize
from promptopt.core.example import Example
from promptopt.core.rollout import Score
from promptopt.core.split import Split
from promptopt.errors import RunChanged
from promptopt.programs.dspy_module import DSPyModule
from promptopt.result import Result
from promptopt.testing.faulty import Behaviour, Body, FaultyServer, completion, used
from world import draw

RULE = "Add the two numbers and say the sum."


class Pipeline(dspy.Module):
    """Notes the question, then answers it: right only under instructions that state the rule."""

    def __init__(self, signature: str = "question, note -> answer") -> None:
        self.noting = dspy.Predict("question -> note")
        self.answering = dspy.ChainOfThought(signature)

    def forward(self, question: str) -> dspy.Prediction:
        return self.answering(question=question, note=self.noting(question=question).note)


def simulated(finds: bool = True) -> Behaviour:
    """A student that needs the rule in its second step, and a reflection model that finds it, or never does."""

    def brain(field: str, system: str, user: str) -> Any:
        right = RULE in system or int(user.split(" plus ")[0][-1]) % 3 == 0
        return think(field, system, user) if right or field != "answer" else "no idea"

    async def behave(_request: web.Request, body: Body) -> web.StreamResponse:
        asked = str(body["messages"][-1]["content"])
        rule = RULE if finds else f"Take care with question {draw(asked)}."
        text = f"Better:\n```\n{rule}\n```" if body["model"] == "reflect" else say(body, brain)
        return web.json_response(completion(text, usage=used(len(asked) // 4, 10)))

    return behave


def score(example: Example, output: Any) -> Score:
    right = str(output["answer"]) == str(example["sum"])
    wrong = "" if right else f"Wanted {example['sum']}: add the numbers."
    return Score(float(right), wrong, feedback_for={} if right else {"answering.predict": wrong})


def rows(n: int, start: int) -> list[Example]:
    made: list[Example] = []
    for number in range(start, start + n):
        question = f"What is {number} plus 7?"
        made.append(Example(f"r{number}", {"question": question}, number + 7, meta={"sum": number + 7}))
    return made


def run_it(server: FaultyServer, folder: Path, student: dspy.Module, **changes: Any) -> Result:
    arguments: dict[str, Any] = {
        "reflection": lm_at(server, "openai/reflect", max_tokens=300),
        "budget": {"rollouts": 400, "calls": 1000},
        "run": {"dir": str(folder), "concurrency": 8},
        **changes,
    }
    with dspy.context(lm=lm_at(server)):
        program = DSPyModule(student, max_calls=4)
    data = Split.given(rows(12, 0), rows(12, 100), rows(24, 200))
    return optimize(program, data, score, **arguments)


def secrets_in(folder: Path) -> list[Path]:
    """Files that hold the user's key."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert len(files) > 1
    return [file for file in files if KEY.encode() in file.read_bytes()]


async def test_a_pipeline_is_improved_where_it_fails_under_every_cap_and_no_key_reaches_a_file(tmp_path: Path) -> None:
    student = Pipeline()
    before = student.dump_state()
    async with FaultyServer(simulated()) as server:
        result = await asyncio.to_thread(run_it, server, tmp_path, student)
    assert result.verdict == "PROMOTE"
    assert RULE in result.best.components["answering.predict"]
    assert result.spent.calls == server.calls <= 1000
    assert result.spent.rollouts <= 400
    assert student.dump_state() == before
    assert not secrets_in(tmp_path)
    assert not any(KEY in json.dumps(body) for body in server.bodies)


async def test_the_same_run_again_pays_for_nothing_and_a_changed_signature_is_noticed(tmp_path: Path) -> None:
    async with FaultyServer(simulated()) as server:
        first = await asyncio.to_thread(run_it, server, tmp_path, Pipeline())
        paid = server.calls
        again = await asyncio.to_thread(run_it, server, tmp_path, Pipeline())
        assert server.calls == paid
        assert again.best == first.best
        with pytest.raises(RunChanged, match="program"):
            await asyncio.to_thread(run_it, server, tmp_path, Pipeline("question, note -> answer: int"))
    assert server.calls == paid


async def test_a_prompt_whose_replies_cannot_be_read_is_wrong_and_can_be_mended(tmp_path: Path) -> None:
    """Not missing: what makes replies readable is worth as much as what makes them right."""
    answers = simulated()

    async def behave(request: web.Request, body: Body) -> web.StreamResponse:
        asked = json.dumps(body["messages"])
        if body["model"] == "reflect" or RULE in asked or "answer" not in asked:
            return await answers(request, body)
        return web.json_response(completion("Let me think.", usage=used(10, 5)))

    async with FaultyServer(behave) as server:
        result = await asyncio.to_thread(run_it, server, tmp_path, Pipeline())
        asked = "".join(str(body["messages"]) for body in server.bodies if body["model"] == "reflect")
    assert "could not be read" in asked
    assert "It was: Let me think." in asked
    assert result.verdict == "PROMOTE"
    assert result.test is not None
    assert (result.test["baseline"], result.test["best"], result.test["missing"]) == (0.0, 1.0, 0)
    assert not result.failures


async def test_a_cap_on_calls_holds_whatever_the_adapters_ask(tmp_path: Path) -> None:
    async def behave(request: web.Request, body: Body) -> web.StreamResponse:
        if "JSON object" not in str(body["messages"][0]["content"]) and body["model"] != "reflect":
            return web.json_response(completion("no sections here", usage=used(10, 5)))  # asked again, as JSON
        return await simulated(finds=False)(request, body)

    async with FaultyServer(behave) as server:
        result = await asyncio.to_thread(run_it, server, tmp_path, Pipeline(), budget={"calls": 450})
    assert server.calls <= 450
    assert result.spent.calls == server.calls
    assert result.stop_reason == "budget: calls"


def test_an_lm_by_name_needs_no_dspy() -> None:
    code = (
        "import sys; from promptopt.lm.spec import LM; LM.of('openai/x'); LM.of(LM('y')); print('dspy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
