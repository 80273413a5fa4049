"""A DSPy module as a program: its texts and demos, its models, what goes wrong, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest

from dspy_world import KEY, Loop, Twins, add, dspy_model, lm_at, run, sessions, unused
from promptopt.core.budget import Budget
from promptopt.core.candidate import Candidate, Demo
from promptopt.core.example import Example
from promptopt.errors import BudgetExhausted, ConfigError
from promptopt.lm.message import CallFailed
from promptopt.programs.dspy_module import DSPyModule
from promptopt.programs.program import Unreadable
from promptopt.testing.faulty import FaultyServer, hang, refuse, reply

QUESTION = {"question": "What is 3 plus 4?"}


def react() -> dspy.Module:
    return dspy.ReAct("question -> answer", tools=[add])


def stepping(**methods: Any) -> dspy.Module:
    """A module of one predictor, `step`, with these methods."""

    class Stepping(dspy.Module):
        def __init__(self) -> None:
            self.step = dspy.Predict("question -> answer")

    return type("Stepping", (Stepping,), methods)()


class TestTextsAndDemos:
    def test_instructions_are_components_named_by_their_predictor(self) -> None:
        program = DSPyModule(Twins(), lm=unused())
        assert [(c.name, c.slot, c.optimize) for c in program.components] == [
            ("draft", "draft", True),
            ("check", "check", True),
        ]
        assert "makes answer from question" in program.components[0].role
        assert program.demo_slots == ("draft", "check")

    def test_field_descriptions_and_tools_are_components_where_they_are_asked_for(self) -> None:
        program = DSPyModule(react(), lm=unused(), optimize=["fields", "tools"])
        texts = {component.name: component for component in program.components}
        assert texts["react.tools.add"].text == "Adds two numbers."
        assert texts["react.fields.next_thought"].text == "${next_thought}"
        assert not texts["react"].optimize
        assert texts["react"].placeholders == ("tool_add",)
        assert program.demo_slots == ()

    def test_a_built_module_has_the_candidates_texts_and_the_student_keeps_its_own(self) -> None:
        student = react()
        before = student.dump_state()
        program = DSPyModule(student, lm=unused(), optimize=["instructions", "fields", "tools"])
        texts = {component.name: component.text for component in program.components}
        texts |= {"react.tools.add": "Sums.", "extract.predict.fields.answer": "one word", "extract.predict": "Answer."}
        built = program.build(Candidate(texts))
        assert isinstance(built, dspy.ReAct)
        assert "<desc>Sums.</desc>" in built.react.signature.instructions
        assert "Adds two" not in built.react.signature.instructions
        assert "(2) finish" in built.react.signature.instructions
        assert built.tools["add"].desc == "Sums."
        assert built.extract.predict.signature.output_fields["answer"].json_schema_extra["desc"] == "one word"
        assert built.extract.predict.signature.instructions == "Answer."
        assert student.dump_state() == before
        assert student.tools["add"].desc == "Adds two numbers."

    def test_the_program_as_it_starts_builds_the_student(self) -> None:
        student = react()
        student.extract.predict.demos = [dspy.Example(question="1 plus 1", trajectory="", reasoning="", answer="2")]
        for optimize in (["instructions", "demos"], ["instructions", "demos", "fields", "tools"]):
            program = DSPyModule(student, lm=unused(), optimize=optimize)
            start = Candidate({component.name: component.text for component in program.components})
            assert program.build(start).dump_state() == student.dump_state()

    def test_the_students_demos_stay_until_a_candidate_has_others_for_their_predictor(self) -> None:
        student = Twins()
        own = [dspy.Example(question="own", answer="own")]
        student.draft.demos = list(own)
        student.check.demos = list(own)
        demo = Demo("7", {"question": "1 plus 1"}, '{"answer": "2"}')
        built = DSPyModule(student, lm=unused()).build(Candidate({}, {"draft": (demo,)}))
        assert [dict(demo) for demo in built.draft.demos] == [
            {"augmented": True, "question": "1 plus 1", "answer": "2"},
        ]
        assert built.check.demos == own
        assert student.draft.demos == own

    def test_a_row_makes_a_demo_of_the_fields_that_it_has(self) -> None:
        program = DSPyModule(dspy.ChainOfThought("question, hint -> answer: int"), lm=unused())
        row = Example("1", {"question": "1 plus 1"}, 2, meta={"answer": 2, "source": "book"})
        demo = program.labelled("predict", row)
        assert demo == Demo("1", {"question": "1 plus 1"}, '{"answer": 2}')
        assert "augmented" not in program.build(Candidate({}, {"predict": (demo,)})).predict.demos[0]
        assert program.labelled("predict", Example("2", {"question": "?"}, 2)) is None
        assert program.labelled("predict", Example("3", {"text": "?"}, 2, meta={"answer": 2})) is None

    async def test_an_invocation_becomes_a_demo_as_it_is(self) -> None:
        async with FaultyServer(dspy_model()) as server:
            program = DSPyModule(dspy.ChainOfThought("question -> answer: int"), lm=lm_at(server))
            _, (done,), _ = await run(program, QUESTION)
            demo = Demo("row", done.inputs, done.output)
            await run(program, {"question": "1 plus 1"}, Candidate({}, {done.slot: (demo,)}))
        assert [message["role"] for message in server.bodies[1]["messages"]] == ["system", "user", "assistant", "user"]
        assert "7 it is" in server.bodies[1]["messages"][2]["content"]


class TestWhatGoesWrong:
    async def test_a_reply_that_no_adapter_can_read_is_kept_and_named(self) -> None:
        async with FaultyServer(reply("I would say seven.")) as server:
            program = DSPyModule(dspy.ChainOfThought("question -> answer: int"), lm=lm_at(server))
            async with sessions(program) as session:
                one = session("row")
                with pytest.raises(Unreadable) as caught:
                    await program.run(Candidate({}), Example("row", QUESTION), one)
        assert server.calls == 2  # in sections, then as JSON
        assert caught.value.reply == "I would say seven."
        assert "The reply of predict could not be read" in caught.value.feedback
        assert "I would say seven." in caught.value.feedback
        assert [turn.reply for turn in one.trace] == ["I would say seven."] * 2
        (unread,) = one.invocations
        assert (unread.slot, unread.output) == ("predict", "I would say seven.")
        assert "expects the fields reasoning, answer" in unread.fault

    async def test_a_reply_that_the_second_adapter_can_read_is_no_fault(self) -> None:
        async with FaultyServer(reply("seven"), reply('{"answer": 7}')) as server:
            output, (done,), trace = await run(
                DSPyModule(dspy.Predict("question -> answer: int"), lm=lm_at(server)), QUESTION
            )
        assert output == {"answer": 7}
        assert done.fault == ""
        assert [turn.reply for turn in trace] == ["seven", '{"answer": 7}']

    async def test_a_call_that_fails_comes_out_as_itself_and_is_not_asked_again_by_the_adapter(self) -> None:
        async with FaultyServer(refuse(400, "no such thing")) as server:
            program = DSPyModule(react(), lm=lm_at(server))
            with pytest.raises(CallFailed) as caught:
                await run(program, QUESTION)
        assert caught.value.failure.kind == "bad_request"
        assert server.calls == 1

    async def test_a_cap_ends_the_rollout_with_the_budgets_own_error(self) -> None:
        async with FaultyServer(dspy_model()) as server:
            program = DSPyModule(Loop(), lm=lm_at(server))
            async with sessions(program, Budget(calls=2)) as session:
                with pytest.raises(BudgetExhausted):
                    await program.run(Candidate({}), Example("row", QUESTION), session("row"))
        assert server.calls == 2

    @pytest.mark.parametrize("asynchronous", [False, True])
    async def test_a_module_that_returns_nothing_has_failed(self, asynchronous: bool) -> None:
        def forward(self: Any, question: str) -> None:
            self.step(question=question)

        async def aforward(self: Any, question: str) -> None:
            await self.step.acall(question=question)

        module = stepping(aforward=aforward) if asynchronous else stepping(forward=forward)
        async with FaultyServer(dspy_model()) as server:
            with pytest.raises(CallFailed, match=r"returned None: does its forward end with a return\?") as caught:
                await run(DSPyModule(module, lm=lm_at(server)), QUESTION)
        assert caught.value.failure.kind == "program"

    async def test_a_rollout_that_asks_too_often_fails(self) -> None:
        async with FaultyServer(dspy_model()) as server:
            with pytest.raises(CallFailed, match="more than 2 model calls"):
                await run(DSPyModule(Loop(), lm=lm_at(server), max_calls=2), QUESTION)
        assert server.calls == 2

    async def test_a_prompt_that_does_not_fit_is_known_to_dspy(self) -> None:
        class Patient(dspy.Module):
            def __init__(self) -> None:
                self.step = dspy.Predict("question -> answer")

            def forward(self, question: str) -> Any:
                try:
                    return self.step(question=question * 1000)
                except dspy.ContextWindowExceededError:
                    return self.step(question=question)

        long = refuse(400, "This model's maximum context length is 8192 tokens")
        async with FaultyServer(long, dspy_model()) as server:
            output, _, _ = await run(DSPyModule(Patient(), lm=lm_at(server)), QUESTION)
        assert output == {"answer": "7"}
        async with FaultyServer(long) as server:
            with pytest.raises(CallFailed, match="maximum context length"):
                await run(DSPyModule(dspy.Predict("question -> answer"), lm=lm_at(server)), QUESTION)

    async def test_an_adapter_that_raises_fails_the_rollout_with_its_own_error(self) -> None:
        class Broken(dspy.ChatAdapter):
            def parse(self, signature: Any, completion: str) -> dict[str, Any]:
                raise KeyError("no such section")

        async with FaultyServer(dspy_model()) as server:
            with dspy.context(adapter=Broken()):
                program = DSPyModule(dspy.Predict("question -> answer"), lm=lm_at(server))
            async with sessions(program) as session:
                one = session("row")
                with pytest.raises(KeyError, match="no such section"):
                    await program.run(Candidate({}), Example("row", QUESTION), one)
        assert server.calls == 1
        assert one.invocations[0].fault == "KeyError: 'no such section'."
        assert "[[ ## answer ## ]]" in one.invocations[0].output

    @pytest.mark.parametrize("asynchronous", [False, True])
    async def test_an_abandoned_rollout_asks_for_nothing_more(self, asynchronous: bool) -> None:
        def forward(self: Any, question: str) -> Any:
            for _ in range(3):
                try:
                    return self.step(question=question)
                except Exception:
                    continue
            return None

        async def aforward(self: Any, question: str) -> Any:
            for _ in range(3):
                try:
                    return await self.step.acall(question=question)
                except Exception:
                    continue
            return None

        module = stepping(aforward=aforward) if asynchronous else stepping(forward=forward)
        async with FaultyServer(hang()) as server:
            program = DSPyModule(module, lm=lm_at(server))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await run(program, QUESTION)
            await asyncio.sleep(0.3)
            assert server.calls == 1
            assert server.in_flight == 0


class TestBadInput:
    def test_a_module_without_predictors(self) -> None:
        class Empty(dspy.Module):
            def forward(self) -> None: ...

        with pytest.raises(ConfigError, match="Empty has no predictors"):
            DSPyModule(Empty(), lm=unused())

    def test_what_is_no_module(self) -> None:
        with pytest.raises(ConfigError, match=r"must be an instance of a dspy.Module, which Twins is not"):
            DSPyModule(Twins, lm=unused())  # type: ignore[arg-type]

    def test_an_unknown_kind_of_text(self) -> None:
        with pytest.raises(ConfigError, match="'prompts' is not one of instructions, demos, fields, tools"):
            DSPyModule(Twins(), lm=unused(), optimize=["prompts"])

    def test_no_model_at_all(self) -> None:
        with pytest.raises(ConfigError, match="no model for draft, check"):
            DSPyModule(Twins())

    def test_a_model_that_nothing_would_call(self) -> None:
        student = Twins()
        student.set_lm(unused())
        with pytest.raises(ConfigError, match="lm would never be called"):
            DSPyModule(student, lm="openai/other")

    @pytest.mark.parametrize(
        ("demo", "why"),
        [
            (
                Demo("1", {"query": "?"}, '{"answer": "1"}'),
                "has the fields query, but the predictor is question -> answer",
            ),
            (Demo("1", {"question": "?"}, '{"reply": "1"}'), "has the fields reply"),
            (Demo("1", {"question": "?"}, "{}"), "lacks inputs or outputs"),
            (Demo("1", {"question": "?"}, "seven"), "no JSON object of output fields: 'seven'"),
        ],
    )
    def test_a_demo_whose_fields_are_gone(self, demo: Demo, why: str) -> None:
        with pytest.raises(ConfigError, match=f"demo 1 of draft .*{why}"):
            DSPyModule(Twins(), lm=unused()).build(Candidate({}, {"draft": (demo,)}))

    def test_texts_and_demos_for_predictors_that_are_gone(self) -> None:
        program = DSPyModule(Twins(), lm=unused())
        with pytest.raises(ConfigError, match=r"text for 'drafts', which the module does not have. Did you mean draft"):
            program.build(Candidate({"drafts": "Do."}))
        demo = Demo("1", {"question": "?"}, '{"answer": "1"}')
        with pytest.raises(ConfigError, match=r"demos for 'xyz'.*Its predictors are draft, check"):
            program.build(Candidate({}, {"xyz": (demo,)}))

    def test_columns_that_forward_does_not_take(self) -> None:
        program = DSPyModule(Twins(), lm=unused())
        program.check(["question"])
        with pytest.raises(
            ConfigError, match=r"the module takes question, but data.inputs has text: question is missing"
        ):
            program.check(["text"])
        with pytest.raises(ConfigError, match="leave context out"):
            program.check(["question", "context"])
        DSPyModule(dspy.Predict("question -> answer"), lm=unused()).check(["anything"])

    def test_a_changed_signature_demo_or_parameter_is_another_program(self) -> None:
        def prints(change: Any = None, **kwargs: Any) -> str:
            student = dspy.ReAct("question -> answer", tools=[add], max_iters=kwargs.pop("max_iters", 5))
            if change:
                change(student)
            return DSPyModule(student, lm=unused(**kwargs)).fingerprint

        def with_demo(student: Any) -> None:
            student.react.demos = [dspy.Example(question="?", next_thought="!")]

        def with_type(student: Any) -> None:
            student.extract.predict.signature = student.extract.predict.signature.with_updated_fields(
                "answer", type_=int
            )

        changed = [prints(with_demo), prints(with_type), prints(max_iters=6), prints(temperature=0.5)]
        assert prints() == prints()
        assert prints() == prints(api_key=KEY)
        assert len({prints(), *changed}) == 5
        with dspy.context(adapter=dspy.JSONAdapter()):
            assert prints() not in changed
