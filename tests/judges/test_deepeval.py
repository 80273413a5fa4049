"""DeepEval's metrics as metrics, against the installed package."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from deepeval.metrics import (
    AnswerRelevancyMetric,
    BaseConversationalMetric,
    BaseMetric,
    ExactMatchMetric,
    FaithfulnessMetric,
    GEval,
    JsonCorrectnessMetric,
    ToolCorrectnessMetric,
)
from deepeval.models import DeepEvalBaseLLM, OpenAIModel
from deepeval.telemetry import telemetry_opt_out
from deepeval.test_case import ConversationalTestCase, LLMTestCase, SingleTurnParams
from pydantic import BaseModel

import foreign_judges
from foreign_judges import ANSWERED, DOCS, ROLLOUT, ROW, TALK, judge, said
from promptopt.core.example import Example
from promptopt.core.rollout import Failure, Rollout, Score
from promptopt.errors import BudgetExhausted, ConfigError, DataError
from promptopt.judges.external.deepeval import DeepEvalMetric
from promptopt.judges.external.deepeval_lm import GatewayLLM
from promptopt.lm.message import CallFailed
from promptopt.lm.spec import LM
from promptopt.metrics.build import as_metric, build, models_in
from promptopt.metrics.preflight import check_rows
from promptopt.testing.scripted import ScriptedModel

STEPS = ["Is the actual output the expected output?"]


def metric(name: str, **options: Any) -> DeepEvalMetric:
    made = build({"type": "deepeval", "metric": name, "lm": "openai/judge", **options}, Path())
    assert isinstance(made, DeepEvalMetric)
    return made


scored = partial(foreign_judges.scored, DeepEvalMetric)


class TestOneTurn:
    async def test_answer_relevancy_is_asked_through_the_session(self) -> None:
        model = judge(reason="It answers.")
        relevancy = metric("AnswerRelevancyMetric", lm_args={"max_tokens": 77})
        assert await scored(relevancy, model) == Score(1.0, "AnswerRelevancyMetric: It answers.")
        assert len(model.requests) == 3
        assert {request.model for request in model.requests} == {"openai/judge"}
        assert {request.params["max_tokens"] for request in model.requests} == {77}
        assert {scope.purpose for scope in model.scopes} == {"judge"}
        assert "It takes five days." in said(model.requests[0])

    async def test_a_low_score_is_what_the_model_found(self) -> None:
        verdicts = [{"verdict": "yes"}, {"verdict": "no", "reason": "It is about the weather."}]
        score = await scored(metric("AnswerRelevancyMetric"), judge(verdicts=verdicts))
        assert score.value == 0.5

    async def test_faithfulness_reads_documents_from_a_column(self) -> None:
        model = judge()
        assert (await scored(metric("FaithfulnessMetric", fields=DOCS), model)).value == 1.0
        assert "Cards come by post." in said(model.requests[0])

    async def test_g_eval_asks_for_steps_and_a_grade(self) -> None:
        options = {"name": "polite", "criteria": "Politeness.", "evaluation_params": ["input", "actual_output"]}
        model = judge(score=7, reason="Polite enough.")
        assert await scored(metric("GEval", options=options), model) == Score(0.7, "GEval: Polite enough.")
        assert len(model.requests) == 2
        given = {**options, "evaluation_steps": STEPS, "rubric": [{"score_range": [0, 10], "expected_outcome": "kind"}]}
        del given["criteria"]
        model = judge(score=10)
        assert (await scored(metric("GEval", options=given), model)).value == 1.0
        assert len(model.requests) == 1

    @pytest.mark.parametrize(
        "name", ["BiasMetric", "ToxicityMetric", "ContextualPrecisionMetric", "PromptAlignmentMetric"]
    )
    async def test_others_run_too(self, name: str) -> None:
        options = {"prompt_instructions": ["Be kind."]} if name == "PromptAlignmentMetric" else {}
        score = await scored(metric(name, fields=DOCS, options=options), judge())
        assert 0.0 <= score.value <= 1.0
        assert score.feedback.startswith(name)

    async def test_metrics_without_a_model_ask_nobody(self) -> None:
        class Answer(BaseModel):
            days: int

        shaped = as_metric(JsonCorrectnessMetric(Answer, model=GatewayLLM(None), include_reason=False))
        assert (await scored(shaped, rollout=replace(ROLLOUT, output='{"days": 5}'))).value == 1.0
        assert (await scored(shaped, rollout=replace(ROLLOUT, output='{"days": "?"}'))).value == 0.0
        same = build({"type": "deepeval", "metric": "ExactMatchMetric"}, Path())
        assert (await scored(same, rollout=replace(ROLLOUT, output="Five days."))).value == 1.0
        assert models_in(same) == models_in(shaped) == ()

    async def test_tools_that_the_rollout_called_are_compared_with_the_rows(self) -> None:
        made = build(
            {"type": "deepeval", "metric": "ToolCorrectnessMetric", "fields": {"expected_tools": "tools"}}, Path()
        )
        assert (await scored(made)).value == 1.0
        wanted = replace(ROW, meta={"tools": [{"name": "refund", "arguments": {"order": 7}}]})
        assert (await scored(made, example=wanted)).value == 0.0

    async def test_a_sync_metric_of_the_users_is_given_the_case(self, tmp_path: Path) -> None:
        (tmp_path / "my.py").write_text(
            "from deepeval.metrics import BaseMetric\n"
            "class Short(BaseMetric):\n"
            "    def __init__(self, limit, threshold=0.5):\n"
            "        self.limit, self.threshold, self.async_mode = limit, threshold, False\n"
            "    def measure(self, test_case):\n"
            "        self.score = float(len(test_case.actual_output) <= self.limit)\n"
            "        self.reason = f'at most {self.limit}, in answer to {test_case.input}'\n"
            "        return self.score\n"
        )
        said = {"metric": "my.py:Short", "options": {"limit": 5}, "fields": {"input": "question"}}
        made = build({"type": "deepeval", **said}, tmp_path)
        assert await scored(made) == Score(0.0, "Short: at most 5, in answer to Where is my card?")

    async def test_several_inputs_are_shown_as_json(self) -> None:
        seen: list[LLMTestCase] = []

        class Look(BaseMetric):
            threshold = 0.5

            async def a_measure(self, test_case: LLMTestCase, _show_indicator: bool = True) -> float:
                seen.append(test_case)
                self.score = 1.0
                return self.score

        await scored(
            Look(), example=Example("r", {"a": 1, "b": "two"}, expected={"x": 1}), rollout=Rollout("c", "r", output=3)
        )
        (case,) = seen
        assert (case.input, case.actual_output, case.expected_output) == ('{"a": 1, "b": "two"}', "3", '{"x": 1}')


class TestConversations:
    @pytest.mark.parametrize(
        "name",
        ["RoleAdherenceMetric", "KnowledgeRetentionMetric", "ConversationCompletenessMetric", "TurnRelevancyMetric"],
    )
    async def test_a_conversation_is_the_recorded_turns_and_what_the_output_adds(self, name: str) -> None:
        model = judge()
        score = await scored(metric(name, conversation="turns"), model, TALK, ANSWERED)
        assert 0.0 <= score.value <= 1.0
        shown = "\n".join(map(said, model.requests))
        assert "I am Bob" in shown
        assert "You are Bob." in shown or name == "KnowledgeRetentionMetric"  # which judges questions, not answers

    async def test_conversational_g_eval_grades_it(self) -> None:
        options = {"name": "memory", "evaluation_steps": STEPS, "evaluation_params": ["role", "content"]}
        made = metric("ConversationalGEval", options=options, conversation="turns")
        assert (await scored(made, judge(score=4), TALK, ANSWERED)).value == 0.4

    async def test_turns_roles_and_tool_calls_are_passed(self) -> None:
        seen: list[ConversationalTestCase] = []

        class Look(BaseConversationalMetric):
            threshold = 0.5

            async def a_measure(self, test_case: ConversationalTestCase) -> float:
                seen.append(test_case)
                self.score, self.reason = 1.0, ""
                return self.score

        call = {"id": "c1", "type": "function", "function": {"name": "who", "arguments": '{"id": 3}'}}
        turns = [
            *TALK.inputs["turns"],
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "Bob"},
        ]
        await scored(Look(), example=replace(TALK, inputs={"turns": turns}), rollout=ANSWERED, conversation="turns")
        (case,) = seen
        assert case.chatbot_role == "You are a bank clerk."
        assert [turn.role for turn in case.turns] == ["user", "assistant", "user", "assistant", "assistant"]
        (tool,) = case.turns[3].tools_called or []
        assert (tool.name, tool.input_parameters, tool.output) == ("who", {"id": 3}, "Bob")
        assert case.turns[-1].content == "You are Bob."


class TestModels:
    async def test_a_model_that_a_metric_holds_is_taken_over_with_its_endpoint(self) -> None:
        held = OpenAIModel("gpt-own", api_key="sk-secret", base_url="http://127.0.0.1:9/v1", temperature=0.5)
        made = as_metric(AnswerRelevancyMetric(model=held))
        (lm,) = models_in(made)
        assert (lm.name, lm.args) == ("openai/gpt-own", {"temperature": 0.5})
        assert lm.settings is not None
        assert (lm.settings.api_base, lm.settings.api_key) == ("http://127.0.0.1:9/v1", "sk-secret")
        assert "sk-secret" not in made.fingerprint
        model = judge()
        assert (await scored(made, model)).value == 1.0
        assert model.requests[0].model == "openai/gpt-own"
        assert made.metric.model is held

    async def test_a_model_of_the_users_own_class_is_called_as_it_is_and_that_is_told(self) -> None:
        class Own(DeepEvalBaseLLM):
            def load_model(self) -> Any:
                return self

            def get_model_name(self) -> str:
                return "own"

            def generate(self, prompt: str, schema: Any = None) -> Any:
                raise NotImplementedError

            async def a_generate(self, prompt: str, schema: Any = None) -> Any:
                return schema(score=10, reason="because")

        graded = GEval("g", [SingleTurnParams.INPUT], evaluation_steps=STEPS, model=Own())
        made = DeepEvalMetric(graded)
        assert models_in(made) == ()
        assert any("GEval asks Own own by code of its own: its calls are not counted" in said for said in made.caveats)
        assert (await scored(made)).value == 1.0
        ours = DeepEvalMetric(graded, "openai/judge")
        assert (await scored(ours, judge(score=5))).value == 0.5
        assert not any("not counted" in said for said in ours.caveats)

    async def test_rollouts_side_by_side_do_not_meet(self) -> None:
        models = [judge(score=grade) for grade in range(10)]
        graded = metric("GEval", options={"name": "g", "evaluation_steps": STEPS, "evaluation_params": ["input"]})
        scores = await asyncio.gather(*(scored(graded, model) for model in models))
        assert [score.value for score in scores] == [grade / 10 for grade in range(10)]


class Broken(BaseMetric):
    """A metric that does what it is told."""

    threshold = 0.5
    async_mode = False

    def __init__(self, returned: Any) -> None:
        self.returned = returned

    def measure(self, test_case: LLMTestCase) -> Any:
        if isinstance(self.returned, Exception):
            raise self.returned
        self.score = self.returned
        return self.score


class TestFailures:
    """A failure is missing, never 0."""

    @pytest.mark.parametrize(
        ("returned", "fault"),
        [
            (None, "gave no score"),
            (float("nan"), "a score must be a finite number"),
            (7, "a score must be a finite number in .*got 7"),
            ([1, 0], "a score must be a number in .*got list"),
            ("0.5", "a score must be a number"),
            (KeyError("no such label"), r"raised KeyError: 'no such label' \(test_deepeval.py:\d+\)"),
        ],
    )
    async def test_what_is_no_score_is_told_with_its_row(self, returned: Any, fault: str) -> None:
        with pytest.raises(ValueError, match=rf"row 'r1': Broken {fault}"):
            await scored(Broken(returned))

    async def test_a_field_that_the_metric_needs_is_told(self) -> None:
        fault = r"row 'r1': FaithfulnessMetric needs retrieval_context; name the column under metric\.fields"
        with pytest.raises(ValueError, match=fault):
            await scored(metric("FaithfulnessMetric"), judge())
        with pytest.raises(ValueError, match=r"has no column 'dox', which metric\.fields\.retrieval_context names"):
            await scored(metric("FaithfulnessMetric", fields={"retrieval_context": "dox"}), judge())
        with pytest.raises(ValueError, match="a conversation is a list"):
            await scored(metric("KnowledgeRetentionMetric", conversation="question"), judge())

    async def test_rows_that_lack_a_field_are_found_before_anything_is_spent(self) -> None:
        with pytest.raises(
            DataError, match=r"1 of 1 rows cannot be scored.* needs retrieval_context.* Nothing was spent"
        ):
            await check_rows(metric("FaithfulnessMetric"), [ROW])
        await check_rows(metric("FaithfulnessMetric", fields=DOCS), [ROW])
        await check_rows(metric("KnowledgeRetentionMetric", conversation="turns"), [TALK])

    async def test_a_model_that_fails_keeps_its_kind_and_is_asked_once(self) -> None:
        model = ScriptedModel(lambda _: Failure("rate_limit", "slow down"))
        with pytest.raises(CallFailed) as error:
            await scored(metric("AnswerRelevancyMetric"), model)
        assert error.value.failure.kind == "rate_limit"
        assert len(model.requests) == 1

    async def test_a_budget_that_ends_is_not_hidden(self) -> None:
        with pytest.raises(BudgetExhausted):
            await scored(metric("AnswerRelevancyMetric"), ScriptedModel(lambda _: BudgetExhausted("calls")))

    @pytest.mark.parametrize("prose", ["I would rather not say.", "", '{"statements": 3}', "[]"])
    async def test_prose_in_place_of_json_is_a_failure(self, prose: str) -> None:
        with pytest.raises(ValueError, match="row 'r1': AnswerRelevancyMetric raised"):
            await scored(metric("AnswerRelevancyMetric"), ScriptedModel(lambda _: prose))

    async def test_json_in_a_fence_is_read(self) -> None:
        model = judge(score=5)
        inner = model._answer  # pyright: ignore[reportPrivateUsage]
        model._answer = lambda request: f"```json\n{inner(request)}\n```"  # pyright: ignore[reportPrivateUsage]
        options = {"name": "g", "evaluation_steps": STEPS, "evaluation_params": ["input"]}
        assert (await scored(metric("GEval", options=options), model)).value == 0.5

    async def test_a_metric_that_hangs_is_left_at_the_deadline(self) -> None:
        class Slow(BaseMetric):
            threshold = 0.5
            async_mode = False

            def measure(self, test_case: LLMTestCase) -> float:
                time.sleep(1)
                return 1.0

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await scored(Slow())

    async def test_no_output_is_worth_nothing_and_asks_nobody(self) -> None:
        silent = replace(ROLLOUT, output=None)
        assert (await scored(metric("AnswerRelevancyMetric"), rollout=silent)).value == 0.0


class TestInAConfig:
    @pytest.mark.parametrize(
        ("said", "fault"),
        [
            (
                {"metric": "FaithfulnesMetric"},
                r"metric\.metric: .*no metric 'FaithfulnesMetric'. Did you mean Faithfulness",
            ),
            (
                {"metric": "FaithfulnessMetric", "lm": None},
                r"metric\.lm is missing: the model that FaithfulnessMetric asks",
            ),
            (
                {"metric": "FaithfulnessMetric", "options": {"treshold": 1}},
                r"options\.treshold is not known to .*mean threshold\?",
            ),
            ({"metric": "FaithfulnessMetric", "options": {"model": "x"}}, r"options\.model: say the model as lm"),
            (
                {"metric": "FaithfulnessMetric", "fields": {"contxt": "a"}},
                r"fields\.contxt is not known to .* mean context\?",
            ),
            ({"metric": "GEval", "options": {"evaluation_params": ["x"]}}, r"metric\.options: 'x' is not a valid"),
            ({"metric": "GEval"}, r"metric\.options: GEval cannot be made of them: .*name"),
            ({"metrics": "GEval"}, r"metric\.metrics is not a setting. Did you mean metric\?"),
            ({}, r"metric\.metric is missing"),
            ({"metric": "my.py:Nobody"}, r"metric\.metric: .*there is no file"),
        ],
    )
    def test_what_is_wrong_is_told_with_its_key(self, tmp_path: Path, said: dict[str, Any], fault: str) -> None:
        with pytest.raises(ConfigError, match=fault):
            build({"type": "deepeval", "lm": "openai/judge", **said}, tmp_path)

    def test_the_fingerprint_tells_what_decides_a_score(self) -> None:
        def graded(**options: Any) -> DeepEvalMetric:
            return metric("GEval", options={"name": "g", "evaluation_params": ["input"], **options})

        made = [
            graded(criteria="a"),
            graded(criteria="b"),
            graded(criteria="b", strict_mode=True),
            metric("AnswerRelevancyMetric"),
            metric("AnswerRelevancyMetric", lm="openai/other"),
            metric("AnswerRelevancyMetric", lm_args={"temperature": 1}),
            metric("FaithfulnessMetric"),
            metric("FaithfulnessMetric", fields=DOCS),
            metric("ExactMatchMetric"),
            DeepEvalMetric(Broken(1)),
            DeepEvalMetric(Broken(2)),
        ]
        assert len({one.fingerprint for one in made}) == len(made)
        assert graded(criteria="a").fingerprint == made[0].fingerprint
        assert as_metric(FaithfulnessMetric(model=GatewayLLM(LM("openai/judge")))).fingerprint == made[6].fingerprint

    async def test_scoring_does_not_change_the_fingerprint_or_the_metric(self) -> None:
        held = AnswerRelevancyMetric(model=GatewayLLM(LM("openai/judge")))
        before = DeepEvalMetric(held).fingerprint
        await scored(held, judge())
        assert held.score is None
        assert DeepEvalMetric(held).fingerprint == before

    @pytest.mark.slow
    def test_the_fingerprint_holds_in_another_process(self) -> None:
        code = (
            "from promptopt.metrics.build import build; from pathlib import Path; "
            "said = {'type': 'deepeval', 'metric': 'FaithfulnessMetric', 'lm': 'openai/judge'}; "
            "print(build(said, Path()).fingerprint)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == metric("FaithfulnessMetric").fingerprint

    def test_what_is_no_metric_is_told(self) -> None:
        with pytest.raises(ConfigError, match="metric is the class ExactMatchMetric; pass one of it"):
            as_metric(ExactMatchMetric)
        assert isinstance(as_metric(ToolCorrectnessMetric(model=GatewayLLM(None))), DeepEvalMetric)

    def test_strict_metrics_are_binary(self) -> None:
        assert metric("AnswerRelevancyMetric", options={"strict_mode": True}).binary
        assert not metric("AnswerRelevancyMetric").binary


class TestManners:
    def test_loading_it_writes_nothing_reads_no_dotenv_and_reports_to_nobody(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("OPENAI_API_KEY=from-a-file\n")
        code = (
            "import os; from pathlib import Path; from promptopt.metrics.build import build\n"
            "build({'type': 'deepeval', 'metric': 'ExactMatchMetric'}, Path())\n"
            "print(sorted(os.listdir()), os.environ.get('OPENAI_API_KEY'))"
        )
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("DEEPEVAL", "OPENAI"))}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
        )
        assert done.stdout.strip() == "['.env'] None"
        assert telemetry_opt_out()

    async def test_scoring_writes_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        await scored(metric("AnswerRelevancyMetric"), judge())
        assert os.listdir(tmp_path) == []

    def test_without_the_package_it_says_what_to_install(self) -> None:
        code = (
            "import sys; sys.modules['deepeval'] = None\n"
            "from pathlib import Path; from promptopt.metrics.build import build\n"
            "try: build({'type': 'deepeval', 'metric': 'GEval'}, Path())\n"
            "except Exception as error: print(type(error).__name__, error)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("ConfigError metric.type deepeval needs the package deepeval: pip install")
