"""Whole runs in which the reflection model shows the program's steps how it would do them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy
import pytest
from aiohttp import web

from dspy_world import examples, lm_at, say
from promptopt.core.candidate import Candidate, Demo
from promptopt.core.example import Example
from promptopt.core.split import Split
from promptopt.dspy_optimizer import DSPyOptimizer
from promptopt.job import Job, from_objects
from promptopt.lm.spec import LM
from promptopt.programs.dspy_module import DSPyModule
from promptopt.testing.faulty import Body, FaultyServer, completion, used
from world import ANIMALS, draw, rows, team_of

STUDENT, TEACHER = "openai/sim", "openai/teacher"


class Steps(dspy.Module):
    """Its first step has no labels: nothing in the data says what a note should be."""

    def __init__(self) -> None:
        self.find = dspy.Predict("text -> note")
        self.sort = dspy.Predict("note -> team")

    def forward(self, text: str) -> dspy.Prediction:
        return self.sort(note=self.find(text=text).note)


def metric(gold: Any, pred: Any, trace: object = None) -> Any:
    return dspy.Prediction(score=gold.team == pred.team, feedback=f"Wanted {gold.team}.")


async def model(_request: web.Request, body: Body) -> web.StreamResponse:
    """The student notes the animal only where it was shown such a note; as a reflection model the other is useless."""
    if "Your output fields are" not in str(body["messages"][0]["content"]):
        return web.json_response(completion("I do not know.", usage=used(10, 5)))
    shown = any(
        message["role"] == "assistant" and any(animal in message["content"] for animal in ANIMALS)
        for message in body["messages"]
    )
    knows = "teacher" in body["model"] or shown

    def brain(field: str, _system: str, user: str) -> str:
        animal = next((animal for animal in ANIMALS if animal in user), None)
        if field == "note":
            return f"it is of the {animal}" if knows else "a ticket"
        return team_of(animal) if animal else f"none {draw(user)}"

    return web.json_response(completion(say(body, brain), usage=used(10, 5)))


async def compiled(server: FaultyServer, folder: Path, **changes: Any) -> Any:
    def compile_it() -> Any:
        optimizer = DSPyOptimizer(
            metric=metric,
            budget={"rollouts": 150},
            run_dir=folder,
            **{"reflection_lm": lm_at(server, TEACHER, max_tokens=300), **changes},
        )
        with dspy.context(lm=lm_at(server, STUDENT, temperature=0)):
            return optimizer.compile(Steps(), trainset=examples(16, 0), valset=examples(16, 1000))

    return await asyncio.to_thread(compile_it)


async def test_a_step_without_labels_is_shown_what_the_teacher_replied(tmp_path: Path) -> None:
    """Its own replies teach nothing, for none of them leads to a right answer."""
    async with FaultyServer(model) as server:
        after = await compiled(server, tmp_path / "run")
        assert after.promptopt.val["best"] == 1.0
        assert "it is of the" in json.dumps([demo.toDict() for demo in after.find.demos])
        asked = [body for body in server.bodies if "teacher" in body["model"]]
        by_the_program = [body for body in asked if "Your output fields are" in body["messages"][0]["content"]]
        assert by_the_program
        assert all(body["max_tokens"] == 300 and body["temperature"] == 0 for body in by_the_program)
        assert "lm" not in after.promptopt.best.settings
        calls = server.calls
        again = await compiled(server, tmp_path / "run")
        assert again.dump_state() == after.dump_state()
        assert server.calls == calls


async def test_what_it_learns_is_the_same_at_any_concurrency(tmp_path: Path) -> None:
    async with FaultyServer(model) as server:
        states = [
            (await compiled(server, tmp_path / str(at_once), concurrency=at_once)).dump_state() for at_once in (1, 8)
        ]
    assert states[0] == states[1]


class TestWhoTeaches:
    """The settings under which a teacher runs the program, none where there is nothing to learn."""

    @pytest.fixture
    def job(self) -> Job:
        with dspy.context(lm=dspy.LM(STUDENT, api_base="http://127.0.0.1:9/v1", api_key="any")):
            program = DSPyModule(Steps())
        split = [tuple(Example(row["id"], {"text": row["text"]}, row["team"]) for row in rows(8, at)) for at in (0, 50)]
        return from_objects(
            program,
            Split(*split, ()),
            metric,
            reflection=LM("local/qwen2.5-coder-1.5b", max_tokens=300),
            budget={"rollouts": 50},
            strategy=None,
            run=None,
        )

    def test_the_reflection_model_with_its_own_arguments(self, job: Job) -> None:
        assert job.teacher == {"lm": "local/qwen2.5-coder-1.5b", "max_tokens": 300}
        assert "teacher" in job.operators

    def test_not_the_program_s_own_model(self, job: Job) -> None:
        alone = replace(job, reflection=LM(STUDENT))
        assert not alone.teacher
        assert "teacher" not in alone.operators
        student = Candidate(job.baseline.components, settings={"lm": "local/qwen2.5-coder-1.5b"})
        assert not replace(job, start=student).teacher

    def test_nobody_where_there_is_no_reflection_model(self, job: Job) -> None:
        assert not replace(job, reflection=None).teacher

    def test_nobody_where_labels_say_what_every_step_replies(self, job: Job) -> None:
        demo = Demo("r", {"text": "a"}, "b")
        assert not replace(job, demos={"find": (demo,), "sort": (demo,)}).teacher
