"""DSPy modules of every shape run as programs, with each of DSPy's adapters."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import dspy
import pytest
from aiohttp import web

from dspy_world import ADAPTERS, SHAPES, Awaited, Twins, dspy_model, lm_at, run, sessions
from promptopt.core.candidate import Candidate, Demo
from promptopt.core.example import Example
from promptopt.programs.dspy_module import DSPyModule
from promptopt.testing.faulty import FaultyServer, refuse

QUESTION = {"question": "What is 3 plus 4?"}


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("shape", SHAPES)
async def test_every_shape_runs_with_every_adapter_and_tells_which_predictor_did_what(shape: str, adapter: str) -> None:
    make, slots = SHAPES[shape]
    inputs = {**QUESTION, "context": ["sums"]} if shape == "several fields" else QUESTION
    async with FaultyServer(dspy_model()) as server:
        with dspy.context(lm=lm_at(server), adapter=ADAPTERS[adapter]()):
            program = DSPyModule(make())
        output, invocations, trace = await run(program, inputs)
    assert int(output["answer"]) == 7
    assert [invocation.slot for invocation in invocations] == slots
    assert sorted(turn.component for turn in trace) == sorted(slots)
    assert server.calls == len(slots)
    assert {component.slot for component in program.components} == set(program.demo_slots) == set(slots)
    assert all("question" in invocation.inputs and json.loads(invocation.output) for invocation in invocations)


async def test_typed_outputs_are_plain_values() -> None:
    async with FaultyServer(dspy_model()) as server:
        program = DSPyModule(SHAPES["typed"][0](), lm=lm_at(server))
        output, invocations, _ = await run(program, QUESTION)
    assert output == {"answer": 7, "parity": "odd", "sum": {"total": 7, "terms": [3, 4]}}
    assert json.loads(invocations[0].output) == output


async def test_predictors_with_equal_signatures_are_never_confused() -> None:
    async with FaultyServer(dspy_model()) as server:
        program = DSPyModule(Twins(), lm=lm_at(server))
        candidate = Candidate(
            {"check": "Check the sum."}, {"draft": (Demo("1", {"question": "1 plus 1"}, '{"answer": "two"}'),)}
        )
        _, invocations, _ = await run(program, QUESTION, candidate)
    draft, check = (json.dumps(body["messages"]) for body in server.bodies)
    assert "Check the sum." in check
    assert "Check the sum." not in draft
    assert "two" in draft
    assert "two" not in check
    assert [run.inputs["question"] for run in invocations] == [
        QUESTION["question"],
        QUESTION["question"] + " Was it 7?",
    ]


class Stateful(dspy.Module):
    """Remembers what it was asked, and holds something that cannot be copied."""

    def __init__(self) -> None:
        self.step = dspy.Predict("question -> answer")
        self.seen: list[str] = []
        self.lock = threading.Lock()

    def forward(self, question: str) -> dspy.Prediction:
        with self.lock:
            self.seen.append(question)
        self.step.demos.append(dspy.Example(question=question, answer="its own"))
        self.step(question=question)
        return dspy.Prediction(seen=list(self.seen), demos=len(self.step.demos), instance=id(self))


async def test_rollouts_side_by_side_share_nothing_and_leave_the_student_as_it_was() -> None:
    student = Stateful()
    async with FaultyServer(dspy_model(seconds=0.05)) as server:
        lm = lm_at(server)
        with dspy.context(lm=lm):
            program = DSPyModule(student)
        before, heard = student.dump_state(), len(lm.history)
        async with sessions(program) as session:
            questions = [f"What is {n} plus 1?" for n in range(20)]
            work = [program.run(Candidate({}), Example(q, {"question": q}), session(q)) for q in questions]
            outputs: list[Any] = await asyncio.gather(*work)
    assert server.max_in_flight > 1
    assert [output["seen"] for output in outputs] == [[question] for question in questions]
    assert {output["demos"] for output in outputs} == {1}
    assert student.seen == []
    assert student.dump_state() == before
    assert student.step.demos == []
    assert len(lm.history) == heard
    assert dspy.settings.lm is None


class OnTheWay(dspy.Module):
    """Makes a predictor of its own in every call, with DSPy's current model."""

    def __init__(self) -> None:
        self.step = dspy.Predict("question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        return dspy.Predict("question -> note")(question=self.step(question=question).answer)


async def test_a_predictor_made_on_the_way_is_traced_without_a_name() -> None:
    async with FaultyServer(dspy_model()) as server:
        program = DSPyModule(OnTheWay(), lm=lm_at(server))
        _, invocations, trace = await run(program, QUESTION)
    assert [turn.component for turn in trace] == ["step", ""]
    assert [run.slot for run in invocations] == ["step"]


async def test_an_asynchronous_module_runs_many_rollouts_at_once() -> None:
    async with FaultyServer(dspy_model(seconds=0.05)) as server:
        program = DSPyModule(Awaited(), lm=lm_at(server))
        async with sessions(program) as session:
            questions = [f"What is {n} plus 1?" for n in range(12)]
            work = [program.run(Candidate({}), Example(q, {"question": q}), session(q)) for q in questions]
            outputs = await asyncio.gather(*work)
    assert [int(output["answer"]) for output in outputs] == list(range(1, 13))
    assert server.max_in_flight > 1


async def test_a_model_that_takes_a_schema_is_given_one_and_is_asked_again_without_when_it_refuses() -> None:
    async def behave(request: web.Request, body: Any) -> web.StreamResponse:
        if "response_format" in body:
            return await refuse(400, "response_format json_schema is not supported")(request, body)
        return await dspy_model()(request, body)

    async with FaultyServer(behave) as server:
        with dspy.context(adapter=dspy.JSONAdapter()):
            program = DSPyModule(dspy.Predict("question -> answer: int"), lm=lm_at(server, "openai/gpt-4o-mini"))
        output, _, _ = await run(program, QUESTION)
    assert output == {"answer": 7}
    assert ["response_format" in body for body in server.bodies] == [True, False]
    assert server.bodies[0]["response_format"]["json_schema"]["schema"]["properties"]["answer"]["type"] == "integer"
