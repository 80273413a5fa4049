"""MLflow's scorers as metrics, against the installed package."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
from mlflow.entities import Feedback, Trace
from mlflow.genai.judges import is_safe, make_judge
from mlflow.genai.scorers import (
    Completeness,
    Correctness,
    Guidelines,
    KnowledgeRetention,
    RelevanceToQuery,
    RetrievalGroundedness,
    Safety,
    Scorer,
    make_scorer_ensemble,
    scorer,
)
from mlflow.telemetry.utils import is_telemetry_disabled

import foreign_judges
from foreign_judges import ANSWERED, DOCS, ROLLOUT, ROW, SILENT, TALK, judge, said
from promptopt.core.rollout import Failure, Score
from promptopt.errors import BudgetExhausted, ConfigError, DataError
from promptopt.judges.external.mlflow import MLflowMetric
from promptopt.lm.message import CallFailed, Reply, Request
from promptopt.lm.spec import LM
from promptopt.metrics.build import as_metric, build, models_in
from promptopt.metrics.preflight import check_rows
from promptopt.testing.scripted import ScriptedModel


def metric(name: str, **options: Any) -> MLflowMetric:
    made = build({"type": "mlflow", "scorer": name, "lm": "openai/judge", **options}, Path())
    assert isinstance(made, MLflowMetric)
    return made


scored = partial(foreign_judges.scored, MLflowMetric)


class TestBuiltIn:
    @pytest.mark.parametrize(
        "name", ["Correctness", "RelevanceToQuery", "Safety", "Completeness", "Fluency", "Equivalence", "Summarization"]
    )
    async def test_one_turn_is_judged_through_the_session(self, name: str) -> None:
        for verdict, value in (("yes", 1.0), ("no", 0.0)):
            model = judge(result=verdict)
            score = await scored(metric(name, lm_args={"max_tokens": 77}), model)
            assert score.value == value
            assert score.feedback.endswith(f": {verdict}. It says so.")
            (request,) = model.requests
            assert (request.model, request.params) == ("openai/judge", {"max_tokens": 77})
            assert "It takes five days." in said(request)
            assert [scope.purpose for scope in model.scopes] == ["judge"]

    async def test_the_expected_answer_and_the_rows_guidelines_are_expectations(self) -> None:
        model = judge()
        await scored(metric("Correctness"), model)
        await scored(metric("ExpectationsGuidelines"), model)
        assert "Five days." in said(model.requests[0])
        assert "Be polite." in said(model.requests[1])

    async def test_a_scorer_is_made_with_its_options(self) -> None:
        model = judge(result="no")
        assert (await scored(metric("Guidelines", options={"guidelines": ["Say hello."]}), model)).value == 0.0
        assert "Say hello." in said(model.requests[0])
        short = build({"type": "mlflow", "scorer": "ResponseLength", "options": {"max_length": 3}}, Path())
        assert models_in(short) == ()
        assert (await scored(short)).value == 0.0

    @pytest.mark.parametrize("name", ["RetrievalGroundedness", "RetrievalSufficiency"])
    async def test_retrieved_documents_come_from_a_column(self, name: str) -> None:
        model = judge()
        assert (await scored(metric(name, fields=DOCS), model)).value == 1.0
        assert "Cards come by post." in said(model.requests[0])
        with pytest.raises(ValueError, match="No retrieval context found in the trace"):
            await scored(metric(name), model)

    async def test_relevance_of_retrieved_documents_is_the_share_of_relevant_ones(self) -> None:
        answers = iter(["yes", "no"])
        model = ScriptedModel(lambda request: json.dumps({"result": next(answers), "rationale": "so"}))
        relevance = metric("RetrievalRelevance", fields=DOCS)
        assert (await scored(relevance, model)).value == 0.5
        assert not relevance.binary

    async def test_tool_calls_of_the_rollout_are_judged(self) -> None:
        called = ScriptedModel(
            lambda request: json.dumps({"tools": []} if "tools" in request.params else {"result": "yes"})
        )
        assert (await scored(metric("ToolCallCorrectness"), called)).value == 1.0
        assert '"order": 7' in said(called.requests[-1]) or "'order': 7" in said(called.requests[-1])

    def test_yes_and_no_are_a_binary_metric(self) -> None:
        assert metric("Correctness").binary
        assert not metric("UserFrustration").binary


class TestSessions:
    @pytest.mark.parametrize(
        "name",
        ["ConversationCompleteness", "ConversationalSafety", "ConversationalRoleAdherence", "KnowledgeRetention"],
    )
    async def test_a_session_is_the_recorded_conversation_and_what_the_output_adds(self, name: str) -> None:
        model = judge()
        score = await scored(metric(name, conversation="turns"), model, TALK, ANSWERED)
        assert score.value == 1.0
        shown = said(model.requests[-1])
        assert [shown.index(text) for text in ("I am Bob", "Hello Bob.", "Who am I?", "You are Bob.")] == sorted(
            shown.index(text) for text in ("I am Bob", "Hello Bob.", "Who am I?", "You are Bob.")
        )

    @pytest.mark.parametrize(("said", "value"), [("none", 1.0), ("resolved", 0.5), ("unresolved", 0.0)])
    async def test_user_frustration_is_ordered(self, said: str, value: float) -> None:
        frustration = metric("UserFrustration", conversation="turns")
        assert (await scored(frustration, judge(result=said), TALK, ANSWERED)).value == value

    async def test_a_scorer_of_sessions_is_given_real_traces_of_one_session(self) -> None:
        seen: list[Trace] = []

        @scorer
        def turns(session: list[Trace]) -> Feedback:
            seen.extend(session)
            return Feedback(value=len(session) / 2, rationale="counted")

        assert (await scored(turns, example=TALK, rollout=ANSWERED, conversation="turns")).value == 1.0
        first, second = seen
        assert isinstance(first, Trace)
        assert first.info.trace_metadata == second.info.trace_metadata == {"mlflow.trace.session": "session-s1"}
        assert first.info.request_time < second.info.request_time
        assert second.data.spans[0].inputs == {"messages": [{"role": "user", "content": "Who am I?"}]}
        assert second.data.spans[0].outputs == "You are Bob."

    async def test_a_judge_of_conversations_made_with_instructions_is_given_the_session(self) -> None:
        model = judge(result=True)
        options = {"instructions": "Is {{ conversation }} polite?", "feedback_value_type": "bool"}
        polite = metric("make_judge", options=options, conversation="turns")
        assert (await scored(polite, model, TALK, ANSWERED)).value == 1.0
        assert "You are Bob." in said(model.requests[0])

    async def test_without_a_column_the_row_is_what_the_user_said(self) -> None:
        model = judge()
        await scored(metric("ConversationCompleteness"), model)
        assert "Where is my card?" in said(model.requests[0])

    async def test_a_column_that_holds_no_conversation_is_told(self) -> None:
        with pytest.raises(ValueError, match="a conversation is a list"):
            await scored(
                metric("ConversationCompleteness", conversation="docs"), judge(), replace(ROW, inputs={"docs": 3})
            )
        with pytest.raises(ValueError, match=r"no input column 'turn', which metric\.conversation names"):
            await scored(metric("ConversationCompleteness", conversation="turn"), judge(), TALK, ANSWERED)


class TestOfUsers:
    def test_words_that_nobody_has_ranked_are_refused_before_anything_is_spent(self) -> None:
        polite = make_judge(
            name="polite", instructions="Is {{ outputs }} ok?", feedback_value_type=Literal["rude", "fair"]
        )
        with pytest.raises(ConfigError, match="says rude, fair, and nothing tells what 'rude' is worth"):
            as_metric(polite)

    async def test_words_are_worth_what_answer_says(self) -> None:
        polite = make_judge(
            name="polite",
            instructions="Is {{ outputs }} polite?",
            model="openai:/own",
            feedback_value_type=Literal["rude", "fair", "kind"],
            inference_params={"temperature": 0.5},
        )
        model = judge(result="fair")
        ranked = MLflowMetric(polite, answer=["rude", "fair", "kind"])
        assert (await scored(ranked, model)).value == 0.5
        assert (model.requests[0].model, model.requests[0].params) == ("openai/own", {"temperature": 0.5})
        assert [lm.name for lm in models_in(ranked)] == ["openai/own"]

    async def test_a_scorer_that_python_holds_is_a_metric_as_it_is(self) -> None:
        model = judge()
        taken = as_metric(Correctness(model="openai:/own"))
        assert (await scored(taken, model)).value == 1.0
        assert model.requests[0].model == "openai/own"

    async def test_a_function_may_take_any_of_what_mlflow_gives(self) -> None:
        @scorer
        def close(inputs: Any, outputs: Any, expectations: Any, trace: Trace) -> Feedback:
            (tool,) = trace.search_spans(span_type="TOOL")
            assert (tool.name, tool.inputs, tool.outputs) == ("track", {"order": 7}, "on its way")
            assert len(trace.search_spans(span_type="CHAT_MODEL")) == 2
            right = expectations["expected_response"].casefold() in outputs.casefold()
            return Feedback(value=right, rationale=f"asked {inputs['question']}")

        assert await scored(close) == Score(1.0, "close: True. asked Where is my card?")

    async def test_a_class_and_an_ensemble_are_scorers_too(self) -> None:
        class Short(Scorer):
            name: str = "short"

            def __call__(self, *, outputs: str) -> float:
                return 1 / len(outputs)

        assert (await scored(Short())).value == pytest.approx(1 / 19)
        both = make_scorer_ensemble(name="both", scorers=[Safety(), RelevanceToQuery()], ensemble_fn="majority_vote")
        model = judge()
        assert (await scored(both, model, lm="openai/judge")).value == 1.0
        assert [request.model for request in model.requests] == ["openai/judge"] * 2

    async def test_a_judge_that_a_function_asks_by_default_is_the_metrics_model(self) -> None:
        @scorer
        def safe(outputs: str) -> Feedback:
            return is_safe(content=outputs)

        model = judge()
        assert (await scored(safe, model, lm=LM("openai/judge", max_tokens=9))).value == 1.0
        assert (model.requests[0].model, model.requests[0].params) == ("openai/judge", {"max_tokens": 9})

    async def test_a_judge_that_looks_into_the_trace_has_only_tools_that_see_this_rollout(self) -> None:
        def look(request: Request) -> str | Reply:
            if len(request.messages) > 2:
                return json.dumps({"result": True, "rationale": "It tracked."})
            call = {"id": "x", "type": "function", "function": {"name": "list_spans", "arguments": "{}"}}
            return Reply("", "tool_calls", 1, 1, message={"role": "assistant", "content": None, "tool_calls": [call]})

        model = ScriptedModel(look)
        options = {"instructions": "Look at {{ trace }}.", "feedback_value_type": "bool"}
        assert (await scored(metric("make_judge", options=options), model)).value == 1.0
        offered = {tool["function"]["name"] for tool in model.requests[0].params["tools"]}
        assert "list_spans" in offered
        assert not {name for name in offered if "session" in name or "search_traces" in name}
        assert "track" in said(model.requests[1])

    async def test_equal_rollouts_make_equal_requests(self) -> None:
        asked: list[str] = []
        for _ in range(2):
            model = judge(result=True)
            options = {"instructions": "Look at {{ trace }}.", "feedback_value_type": "bool"}
            await scored(metric("make_judge", options=options), model)
            asked.append(model.requests[0].digest)
        assert asked[0] == asked[1]

    async def test_rollouts_side_by_side_ask_each_through_its_own_session(self) -> None:
        models = [judge(result=verdict) for verdict in ("yes", "no") * 6]
        correct = metric("Correctness")
        scores = await asyncio.gather(*(scored(correct, model) for model in models))
        assert [score.value for score in scores] == [1.0, 0.0] * 6
        assert [len(model.requests) for model in models] == [1] * 12


class TestFailures:
    """A failure is missing, never 0."""

    @pytest.mark.parametrize(
        ("returned", "fault"),
        [
            (None, "returned no value"),
            (float("nan"), "returned no score: a score must be a finite number"),
            (7, "returned no score: .*metric.answer: 1-5"),
            ("perhaps", 'returned "perhaps"; say what its words are worth as metric.answer'),
            ([Feedback(value=1), Feedback(value=0)], "returned a list of 2 values"),
            ([1, 0], r"list\[int\]"),
            (Feedback(value={"a": 1}), "returned no score"),
            (Feedback(error=RuntimeError("out of order")), "failed: .*out of order"),
        ],
    )
    async def test_what_is_no_score_is_told_with_its_row(self, returned: Any, fault: str) -> None:
        @scorer
        def odd(outputs: str) -> Any:
            return returned

        with pytest.raises(ValueError, match=rf"row 'r1': the scorer odd .*{fault}"):
            await scored(odd)

    async def test_an_exception_is_told_with_its_line(self) -> None:
        @scorer
        def broken(outputs: str) -> bool:
            raise KeyError("no such label")

        with pytest.raises(ValueError, match=r"row 'r1': the scorer broken raised KeyError: .*\(test_mlflow.py:\d+\)"):
            await scored(broken)

    async def test_a_column_that_is_not_there_is_told(self) -> None:
        with pytest.raises(ValueError, match=r"no column 'dox', which metric\.fields\.retrieval_context names"):
            await scored(metric("RetrievalGroundedness", fields={"retrieval_context": "dox"}), judge())

    async def test_rows_that_lack_a_field_are_found_before_anything_is_spent(self) -> None:
        bare = replace(ROW, expected=None, meta={})
        for name, field in (
            ("ExpectationsGuidelines", "guidelines"),
            ("Correctness", "expected_response or expected_facts"),
        ):
            with pytest.raises(DataError, match=rf"the scorer \w+ needs {field}; name the column.* Nothing was spent"):
                await check_rows(metric(name), [bare])
            await check_rows(metric(name), [ROW])

    async def test_a_model_that_fails_keeps_its_kind_and_is_asked_once(self) -> None:
        model = ScriptedModel(lambda _: Failure("rate_limit", "slow down"))
        with pytest.raises(CallFailed) as error:
            await scored(metric("Correctness"), model)
        assert error.value.failure.kind == "rate_limit"
        assert len(model.requests) == 1

    async def test_a_budget_that_ends_is_not_hidden_by_a_scorer_that_goes_on(self) -> None:
        @scorer
        def stubborn(outputs: str) -> bool:
            with contextlib.suppress(Exception):
                is_safe(content=outputs)
            return True

        model = ScriptedModel(lambda _: BudgetExhausted("calls"))
        with pytest.raises(BudgetExhausted):
            await scored(stubborn, model, lm="openai/judge")

    async def test_prose_in_place_of_a_verdict_is_a_failure(self) -> None:
        with pytest.raises(ValueError, match="Failed to parse response"):
            await scored(metric("Correctness"), ScriptedModel(lambda _: "I would rather not say."))

    async def test_a_scorer_that_hangs_is_left_at_the_deadline_and_asks_nothing_more(self) -> None:
        woken = asyncio.Event()
        loop = asyncio.get_running_loop()
        heard: list[str] = []

        @scorer
        def slow(outputs: str) -> bool:
            time.sleep(0.5)
            try:
                is_safe(content=outputs)
            except Exception as error:
                heard.append(str(error))
            loop.call_soon_threadsafe(woken.set)
            return True

        model = judge()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await scored(slow, model, lm="openai/judge")
        await asyncio.wait_for(woken.wait(), 20)
        assert "the rollout has ended" in heard[0]
        assert not model.requests

    async def test_no_output_is_worth_nothing_and_asks_nobody(self) -> None:
        assert (await scored(metric("Correctness"), SILENT, ROW, replace(ROLLOUT, output=None))).value == 0.0


class TestInAConfig:
    @pytest.mark.parametrize(
        ("said", "fault"),
        [
            (
                {"scorer": "Corectness"},
                r"metric\.scorer: MLflow .* has no scorer 'Corectness'. Did you mean Corr",
            ),
            (
                {"scorer": "Guidelines"},
                r"options: Guidelines cannot be made of them: guidelines: Field required",
            ),
            (
                {"scorer": "Guidelines", "options": {"guideline": "x"}},
                r"options\.guideline is not known to .*guidelines\?",
            ),
            ({"scorer": "Safety", "options": {"model": "x"}}, r"metric\.options\.model: say the model as lm"),
            ({"scorer": "Safety", "scrorer": 1}, r"metric\.scrorer is not a setting. Did you mean scorer"),
            ({"scorer": 3}, r"metric\.scorer: .*string"),
            ({}, r"metric\.scorer is missing"),
            ({"scorer": "my.py:nobody"}, r"metric\.scorer: 'my.py:nobody': there is no function nobody"),
            ({"scorer": "my.py:plain"}, r"metric\.scorer is a function, not a scorer"),
            ({"scorer": "Safety", "fields": {"guideline": "text"}}, r"metric\.fields\.guideline is not known to"),
            ({"scorer": "Safety", "answer": "1..5"}, r"metric\.answer: an answer is"),
            ({"scorer": "Safety", "lm_args": {"api_key": "x"}, "lm": "openai/j"}, r"must not set api_key"),
            ({"scorer": "make_judge", "options": {"instructions": "x"}}, r"metric\.lm is missing"),
        ],
    )
    def test_what_is_wrong_is_told_with_its_key(self, tmp_path: Path, said: dict[str, Any], fault: str) -> None:
        (tmp_path / "my.py").write_text("def plain(outputs):\n    return 1\n")
        with pytest.raises(ConfigError, match=fault):
            build({"type": "mlflow", **said}, tmp_path)

    async def test_a_file_names_a_scorer_of_the_users(self, tmp_path: Path) -> None:
        (tmp_path / "my.py").write_text(
            "from mlflow.genai.scorers import scorer\n@scorer\ndef grade(outputs):\n    return 4\n"
        )
        made = build({"type": "mlflow", "scorer": "my.py:grade", "answer": "1-5"}, tmp_path)
        assert (await scored(made)).value == 0.75

    def test_the_fingerprint_tells_what_decides_a_score(self) -> None:
        def judge_of(instructions: str, **options: Any) -> Any:
            return make_judge(name="j", instructions=instructions, model="openai:/own", **options)

        @scorer
        def one(outputs: str) -> bool:
            return True

        made = [
            MLflowMetric(one),
            MLflowMetric(Correctness(), "openai/a"),
            MLflowMetric(Correctness(), "openai/b"),
            MLflowMetric(Correctness(), LM("openai/b", temperature=1)),
            MLflowMetric(Guidelines(guidelines=["a"]), "openai/a"),
            MLflowMetric(Guidelines(guidelines=["b"]), "openai/a"),
            MLflowMetric(judge_of("Is {{ outputs }} a?")),
            MLflowMetric(judge_of("Is {{ outputs }} b?")),
            MLflowMetric(judge_of("Is {{ outputs }} b?", inference_params={"temperature": 1})),
            MLflowMetric(KnowledgeRetention(), "openai/a"),
            MLflowMetric(KnowledgeRetention(), "openai/a", conversation="turns"),
            MLflowMetric(RetrievalGroundedness(), "openai/a", fields=DOCS),
        ]
        assert len({one.fingerprint for one in made}) == len(made)
        again = MLflowMetric(Guidelines(guidelines=["a"]), "openai/a")
        assert again.fingerprint == made[4].fingerprint

    @pytest.mark.slow
    def test_the_fingerprint_holds_in_another_process(self) -> None:
        code = (
            "from promptopt.metrics.build import build; from pathlib import Path; "
            "print(build({'type': 'mlflow', 'scorer': 'KnowledgeRetention', 'lm': 'openai/judge'}, Path()).fingerprint)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == metric("KnowledgeRetention").fingerprint

    def test_a_class_in_place_of_a_scorer_is_told(self) -> None:
        with pytest.raises(ConfigError, match=r"scorer is the class Safety; pass one of it, as in Safety\(\)"):
            as_metric(Safety)


class TestManners:
    def test_a_model_that_only_mlflow_can_reach_is_told_in_the_result(self) -> None:
        served = MLflowMetric(Completeness(model="endpoints:/my-endpoint"))
        assert served.lms == ()
        assert any("endpoints:/my-endpoint" in caveat and "not counted" in caveat for caveat in served.caveats)
        assert not any("not counted" in said for said in MLflowMetric(served.scorer, "openai/judge").caveats)

    async def test_nothing_is_written_and_nobody_is_called(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        await scored(metric("Correctness"), judge())
        await scored(metric("KnowledgeRetention", conversation="turns"), judge(), TALK, ANSWERED)
        assert os.listdir(tmp_path) == []
        assert is_telemetry_disabled()

    async def test_the_users_default_model_is_taken_over_and_comes_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for theirs in ("openai:/theirs", None):
            monkeypatch.delenv("MLFLOW_GENAI_JUDGE_DEFAULT_MODEL", raising=False)
            if theirs:
                monkeypatch.setenv("MLFLOW_GENAI_JUDGE_DEFAULT_MODEL", theirs)
            model = judge()
            await scored(Correctness(), model)
            assert model.requests[0].model == ("openai/theirs" if theirs else "openai/gpt-4.1-mini")
            assert os.environ.get("MLFLOW_GENAI_JUDGE_DEFAULT_MODEL") == theirs

    def test_without_the_package_it_says_what_to_install(self, tmp_path: Path) -> None:
        code = (
            "import sys; sys.modules['mlflow'] = None\n"
            "from pathlib import Path; from promptopt.metrics.build import build\n"
            "try: build({'type': 'mlflow', 'scorer': 'Safety'}, Path())\n"
            "except Exception as error: print(type(error).__name__, error)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("ConfigError metric.type mlflow needs the package mlflow: pip install")
