"""The models of a DSPy program: whose endpoint, key and parameters its calls have, and which LMs are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any, cast

import dspy
import pytest
from aiohttp import web
from dspy.utils.dummies import DummyLM

from dspy_world import KEY, SOMEWHERE, Twins, add, dspy_model, lm_at, run, sessions, unused
from promptopt.core.candidate import Candidate
from promptopt.core.example import Example
from promptopt.errors import ConfigError
from promptopt.lm.dspy_lm import Abilities
from promptopt.lm.message import CallFailed
from promptopt.lm.spec import LM
from promptopt.programs.dspy_module import DSPyModule
from promptopt.testing.faulty import Body, FaultyServer, answer, completion, reply, used

QUESTION = {"question": "What is 3 plus 4?"}


@contextmanager
def configured(**settings: Any) -> Generator[None]:
    """DSPy configured for all threads, as at the top of a script."""
    before = {name: dspy.settings[name] for name in settings}
    dspy.configure(**settings)
    yield
    dspy.configure(**before)


async def test_the_users_endpoint_key_and_parameters_are_used() -> None:
    seen: list[str] = []

    async def behave(request: web.Request, body: Body) -> web.StreamResponse:
        seen.append(request.headers["Authorization"])
        return await dspy_model()(request, body)

    async with FaultyServer(behave) as server:
        with dspy.context(lm=lm_at(server, temperature=0.25, max_tokens=77, top_p=0.5)):
            program = DSPyModule(dspy.Predict("question -> answer", stop=["END"]))
        await run(program, QUESTION)
    assert seen == [f"Bearer {KEY}"]
    assert {name: server.bodies[0][name] for name in ("model", "temperature", "max_tokens", "top_p", "stop")} == {
        "model": "sim", "temperature": 0.25, "max_tokens": 77, "top_p": 0.5, "stop": ["END"],
    }  # fmt: skip


async def test_a_limit_is_sent_where_the_user_gave_none() -> None:
    async with FaultyServer(dspy_model()) as server:
        await run(DSPyModule(dspy.Predict("question -> answer"), lm=lm_at(server)), QUESTION)
    assert server.bodies[0]["max_tokens"] == 1024


async def test_a_predictors_own_model_has_its_own_endpoint_and_none_of_the_others_parameters() -> None:
    async with FaultyServer(dspy_model()) as first, FaultyServer(dspy_model()) as second:
        student = Twins()
        student.check.lm = lm_at(second, "openai/other", top_p=0.9)
        program = DSPyModule(student, lm=lm_at(first, temperature=0.1))
        _, _, trace = await run(program, QUESTION)
    assert [server.calls for server in (first, second)] == [1, 1]
    assert first.bodies[0]["temperature"] == 0.1
    assert second.bodies[0]["model"] == "other"
    assert "temperature" not in second.bodies[0]
    assert second.bodies[0]["top_p"] == 0.9
    assert [turn.component for turn in trace] == ["draft", "check"]
    assert set(program.models) == {"openai/sim", "openai/other"}


async def test_a_candidates_settings_reach_every_predictor_of_the_main_model() -> None:
    async with FaultyServer(dspy_model()) as server:
        student = Twins()
        student.set_lm(lm_at(server, temperature=0.1))
        program = DSPyModule(student.deepcopy())
        async with sessions(program) as session:
            one = session("row")
            one.params = {**one.params, "temperature": 0.9}
            await program.run(Candidate({}, settings={"temperature": 0.9}), Example("row", QUESTION), one)
    assert [body["temperature"] for body in server.bodies] == [0.9, 0.9]


async def test_a_built_module_asks_with_the_candidates_settings_by_itself() -> None:
    async with FaultyServer(dspy_model()) as server:
        student = Twins()
        student.check.lm = lm_at(server, "openai/other", top_p=0.9, cache=False)
        program = DSPyModule(student, lm=lm_at(server, temperature=0.1, cache=False))
        built = program.build(Candidate({}, settings={"temperature": 0.7, "lm": "openai/small"}))
        await asyncio.to_thread(built, **QUESTION)
        assert student.draft.lm is None
    asked = [{name: body.get(name) for name in ("model", "temperature", "top_p")} for body in server.bodies]
    assert asked == [
        {"model": "small", "temperature": 0.7, "top_p": None},
        {"model": "other", "temperature": None, "top_p": 0.9},
    ]
    saved = built.dump_state()["draft"]["lm"]
    assert (saved["model"], saved["temperature"]) == ("openai/small", 0.7)


async def test_a_predictor_asks_for_several_answers_one_by_one() -> None:
    async with FaultyServer(dspy_model()) as server:
        program = DSPyModule(dspy.Predict("question -> answer", n=2), lm=lm_at(server, temperature=1.0))
        output, _, _ = await run(program, QUESTION)
    assert server.calls == 2
    assert output == {"answer": "7"}


def test_a_key_is_in_no_repr_dump_or_fingerprint() -> None:
    program = DSPyModule(dspy.Predict("question -> answer"), lm=unused(api_key=KEY))
    settings = program.models["openai/sim"]
    assert settings.api_key == KEY
    shown = [repr(settings), str(settings.model_dump()), settings.model_dump_json(), repr(program.lm)]
    assert not any(KEY in text for text in [*shown, program.fingerprint, repr(vars(program.lm))])


def test_what_a_config_says_changes_what_an_lm_said() -> None:
    taken = LM.of(unused(api_key=KEY)).settings
    other = LM("openai/sim", settings={"retries": 0}).settings
    named = LM("openai/sim", settings={"api_key_env": "SIM_KEY"}).settings
    assert taken is not None
    assert other is not None
    assert named is not None
    changed = taken.changed_by(other)
    assert (changed.api_base, changed.api_key, changed.retries) == (SOMEWHERE, KEY, 0)
    assert taken.changed_by(named).api_key is None


@pytest.mark.parametrize(
    ("second", "what"), [({"api_base": "http://127.0.0.1:8/v1"}, "endpoints"), ({"api_key": "another"}, "keys")]
)
def test_one_name_for_two_endpoints_or_keys_is_refused(second: dict[str, str], what: str) -> None:
    student = Twins()
    student.draft.lm = unused(api_key=KEY)
    student.check.lm = unused(**{"api_key": KEY, **second})
    with pytest.raises(ConfigError, match=f"two LMs are called openai/sim but have different {what}"):
        DSPyModule(student)


@pytest.mark.parametrize(
    ("lm", "why"),
    [
        (DummyLM([{"answer": "1"}]), "DummyLM dummy calls its model by code of its own"),
        (dspy.LM("openai/x", model_type="text"), "only chat models"),
        (unused(headers={"X-Key": KEY}), "must not set headers"),
        (unused(api_base=f"http://me:{KEY}@127.0.0.1:9/v1"), "without a key in it"),
    ],
)
def test_an_lm_that_cannot_be_taken_over_is_refused(lm: dspy.BaseLM, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        DSPyModule(dspy.Predict("question -> answer"), lm=lm)
    assert KEY not in str(caught.value)


async def test_an_lm_made_on_the_way_fails_the_rollout() -> None:
    class Stray(dspy.Module):
        def __init__(self) -> None:
            self.step = dspy.Predict("question -> answer")

        def forward(self, question: str) -> Any:
            with dspy.context(lm=lm_at(stray, "openai/stray", cache=False)):
                return self.step(question=question)

    async with FaultyServer(dspy_model()) as server, FaultyServer(dspy_model()) as stray:
        program = DSPyModule(Stray(), lm=lm_at(server))
        with pytest.raises(CallFailed, match="the module called openai/stray past the run"):
            await run(program, QUESTION)


async def test_a_thread_of_the_modules_own_that_loses_the_runs_model_fails_the_rollout() -> None:
    class Threaded(dspy.Module):
        def __init__(self) -> None:
            self.step = dspy.Predict("question -> answer")

        def forward(self, question: str) -> Any:
            with ThreadPoolExecutor() as pool:
                return pool.submit(self.step, question=question).result()

    async with FaultyServer(dspy_model()) as server, FaultyServer(dspy_model()) as stray:
        with dspy.context(lm=lm_at(server)):
            program = DSPyModule(Threaded())
        with (
            configured(lm=lm_at(stray, "openai/stray", cache=False)),
            pytest.raises(CallFailed, match="past the run"),
        ):
            await run(program, QUESTION)
        student = Threaded()
        student.set_lm(lm_at(server))
        output, invocations, _ = await run(DSPyModule(student), QUESTION)  # its own model is found in any thread
    assert output == {"answer": "7"}
    assert [done.slot for done in invocations] == ["step"]


async def test_an_adapters_own_model_is_taken_over_too() -> None:
    async with FaultyServer(reply("seven")) as first, FaultyServer(dspy_model(lambda *_: 7)) as second:
        adapter = dspy.TwoStepAdapter(lm_at(second, "openai/extracting"))
        cast(Any, adapter).lock = Lock()  # which cannot be copied
        with dspy.context(lm=lm_at(first), adapter=adapter):
            program = DSPyModule(dspy.Predict("question -> answer: int"))
        output, _, trace = await run(program, QUESTION)
    assert output == {"answer": 7}
    assert len(trace) == first.calls + second.calls == 2


async def test_tools_are_called_natively_where_the_model_can() -> None:
    class Calling(dspy.Module):
        def __init__(self) -> None:
            self.step = dspy.Predict("question, tools: list[dspy.Tool] -> calls: dspy.ToolCalls")
            self.tools = [dspy.Tool(add)]

        def forward(self, question: str) -> Any:
            calls = self.step(question=question, tools=self.tools).calls
            return dspy.Prediction(results=[call.execute(self.tools) for call in calls.tool_calls])

    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 3, "b": 4}'}}
    body = completion(None, finish_reason="tool_calls", tool_calls=[call], usage=used(10, 5))
    async with FaultyServer(answer(body)) as server:
        with dspy.context(adapter=dspy.JSONAdapter()):
            program = DSPyModule(Calling(), lm=lm_at(server, "openai/gpt-4o-mini"))
        output, (done,), _ = await run(program, QUESTION)
    assert output == {"results": [7]}
    assert server.bodies[0]["tools"][0]["function"]["name"] == "add"
    assert '"name": "add"' in done.output


async def test_a_model_by_name_is_called_like_any_other() -> None:
    async with FaultyServer(dspy_model()) as server:
        lm = LM("openai/sim", settings={"api_base": server.base_url}, temperature=0.3)
        output, _, _ = await run(DSPyModule(dspy.Predict("question -> answer"), lm=lm), QUESTION)
    assert output == {"answer": "7"}
    assert server.bodies[0]["temperature"] == 0.3


def test_local_models_are_known_to_follow_a_schema() -> None:
    abilities = Abilities.listed("local/anything")
    assert abilities.response_schema
    assert "response_format" in abilities.params
