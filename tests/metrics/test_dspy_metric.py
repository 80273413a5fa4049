"""DSPy metrics as their authors wrote them."""

from __future__ import annotations

import json
from typing import Any

import dspy
import pytest
from dspy.evaluate import SemanticF1, answer_exact_match

from promptopt.core.example import Example
from promptopt.core.rollout import Failure, Invocation, Rollout, Score
from promptopt.errors import ConfigError
from promptopt.lm.message import CallFailed, Request
from promptopt.metrics.build import as_metric, build, models_in
from promptopt.metrics.dspy_metric import DSPyMetric
from promptopt.testing.scripted import ScriptedModel

ROW = Example("r1", {"question": "2 + 2?"}, expected="4", meta={"answer": "4", "source": "school"})
RIGHT, WRONG = {"reasoning": "add", "answer": "4"}, {"reasoning": "guess", "answer": "5"}
SILENT = ScriptedModel([])


def invocation(slot: str, **fields: Any) -> Invocation:
    return Invocation(slot, {"question": "2 + 2?"}, json.dumps(fields))


async def scored(metric: Any, output: Any = RIGHT, *ran: Invocation, row: Example = ROW) -> Score:
    return await DSPyMetric(metric).score(row, Rollout("c", row.id, output=output, invocations=ran), SILENT.session())


async def test_a_plain_metric_reads_gold_and_prediction_as_dspy_has_them() -> None:
    def metric(gold: dspy.Example, pred: dspy.Prediction) -> bool:
        assert gold.inputs().toDict() == {"question": "2 + 2?"}
        assert gold.labels().toDict() == {"answer": "4", "source": "school"}
        return gold.answer == pred.answer == pred["answer"]

    assert (await scored(metric)).value == 1.0
    assert (await scored(metric, WRONG)).value == 0.0


async def test_an_expected_answer_without_a_column_is_called_expected() -> None:
    bare = Example("r2", {"question": "2 + 2?"}, expected="4")
    assert (await scored(lambda gold, pred: gold.expected == pred.answer, row=bare)).value == 1.0
    several = Example("r3", {"question": "2 + 2?"}, expected={"answer": "4", "unit": None})
    assert (await scored(lambda gold, pred: gold.answer == pred.answer, row=several)).value == 1.0


async def test_a_metric_is_given_no_trace_that_would_make_it_strict() -> None:
    def metric(gold: Any, pred: Any, trace: Any = None) -> float:
        return 0.5 if trace is None else float("nan")

    def wants_one(gold: Any, pred: Any, trace: Any) -> float:
        return 0.5 if trace is None else float("nan")

    assert (await scored(metric)).value == (await scored(wants_one)).value == 0.5


@pytest.mark.parametrize(
    ("returned", "value", "feedback"),
    [
        (True, 1.0, ""),
        (0, 0.0, ""),
        (0.25, 0.25, ""),
        (dspy.Prediction(score=0.25, feedback="Show the sum."), 0.25, "Show the sum."),
        (dspy.Prediction(score=True), 1.0, ""),
        ({"score": 0.25, "feedback": None}, 0.25, ""),
        ((0.25, "Show the sum."), 0.25, "Show the sum."),
    ],
)
async def test_what_dspy_metrics_return_is_understood(returned: Any, value: float, feedback: str) -> None:
    assert await scored(lambda gold, pred: returned) == Score(value, feedback)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "a score must be a number in [0, 1], got NoneType"),
        ("good", "a score must be a number in [0, 1], got str 'good'"),
        (85, "a score must be a finite number in [0, 1], got 85.0"),
        (float("nan"), "got nan"),
        (dspy.Prediction(feedback="fine"), "it has no score, only feedback"),
        (dspy.Prediction(score="high"), "got str 'high'"),
    ],
)
async def test_a_wrong_return_is_told_with_row_and_metric(returned: Any, said: str) -> None:
    def judge_it(gold: Any, pred: Any) -> Any:
        return returned

    with pytest.raises(ValueError, match=r"row 'r1': the metric judge_it returned no score: ") as error:
        await scored(judge_it)
    assert said in str(error.value)


def test_a_wrong_arity_is_told_with_the_forms_that_fit() -> None:
    with pytest.raises(ConfigError, match=r"the metric one\(gold\) must be metric\(gold, pred\), metric\(gold, pred,"):
        DSPyMetric(one)
    with pytest.raises(ConfigError, match=r"the metric four\(a, b, c, d\) must be"):
        DSPyMetric(four)


def one(gold: Any) -> float:
    return 1.0


def four(a: Any, b: Any, c: Any, d: Any) -> float:
    return 1.0


async def test_an_error_of_the_metric_is_told_with_its_line() -> None:
    with pytest.raises(
        ValueError, match=r"row 'r1': the metric .* raised AttributeError: .*'anwser'.*\(test_dspy_metric.py:"
    ):
        await scored(lambda gold, pred: gold.answer == pred.anwser)


async def test_a_rollout_without_output_scores_nothing_without_asking_the_metric() -> None:
    assert await scored(lambda gold, pred: 1 / 0, None) == Score(0.0, "There was no output.")


async def test_an_asynchronous_metric_is_awaited() -> None:
    async def metric(gold: dspy.Example, pred: dspy.Prediction) -> bool:
        return gold.answer == pred.answer

    assert (await scored(metric)).value == 1.0


@pytest.mark.parametrize(
    "metric",
    [
        lambda gold, pred, trace=None, weight=1.0, strict=False: (trace, weight, strict) == (None, 1.0, False),
        lambda gold, pred, trace, weight=1.0, strict=False: (trace, weight, strict) == (None, 1.0, False),
        lambda gold, pred, trace=None, weight=1.0, *rest: (trace, weight, rest) == (None, 1.0, ()),
        lambda gold, pred, trace=None, pred_name=None, strict=False: (trace, pred_name, strict) == (None, None, False),
        lambda gold, pred, trace, name, steps: (name, len(trace), len(steps)) == ("solve", 1, 1),
        lambda gold, pred, *more: len(more) == 3,
        lambda gold, pred, trace=None, pred_name=None, pred_trace=None, weight=1.0: (
            (pred_name, weight) == ("solve", 1.0)
        ),
    ],
)
async def test_parameters_of_its_own_keep_their_defaults(metric: Any) -> None:
    assert (await scored(metric, RIGHT, invocation("solve", **RIGHT))).value == 1.0


class TestFeedback:
    async def test_a_metric_of_five_is_asked_once_with_the_predictor_that_ran(self) -> None:
        asked: list[Any] = []

        def metric(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
            asked.append((pred_name, pred_trace))
            ((_, inputs, prediction),) = pred_trace
            assert trace == pred_trace
            return dspy.Prediction(score=0.0, feedback=f"{inputs['question']} is not {prediction.answer}")

        score = await scored(metric, WRONG, invocation("solve.predict", **WRONG))
        assert score == Score(0.0, "2 + 2? is not 5")
        assert [name for name, _ in asked] == ["solve.predict"]

    async def test_where_several_ran_it_is_asked_once_for_the_whole_program(self) -> None:
        asked: list[Any] = []

        def metric(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
            asked.append((pred_name, pred_trace, len(trace)))
            return dspy.Prediction(score=0.5, feedback="Halfway.")

        assert await scored(metric, WRONG, invocation("plan"), invocation("solve", **WRONG)) == Score(0.5, "Halfway.")
        assert asked == [(None, None, 2)]

    async def test_a_prediction_may_name_who_should_learn_what(self) -> None:
        said = dspy.Prediction(score=0.0, feedback="Wrong.", feedback_for={"plan": "Plan the sum."})
        assert await scored(lambda gold, pred: said) == Score(0.0, "Wrong.", feedback_for={"plan": "Plan the sum."})

    async def test_the_trace_has_the_predictors_of_the_module(self) -> None:
        solve = dspy.Predict("question -> answer")

        def metric(gold: Any, pred: Any, trace: Any, pred_name: Any, pred_trace: Any) -> bool:
            return [step[0] for step in trace] == [solve, "other"]

        wrapped = DSPyMetric(metric, predictors={"solve": solve})
        rollout = Rollout("c", "r1", output=WRONG, invocations=(invocation("solve"), invocation("other")))
        assert (await wrapped.score(ROW, rollout, SILENT.session())).value == 1.0


class TestOfDspy:
    async def test_answer_exact_match_works_as_it_is(self) -> None:
        assert (await scored(answer_exact_match)).value == 1.0
        assert (await scored(answer_exact_match, WRONG)).value == 0.0

    async def test_semantic_f1_asks_on_the_judges_account(self) -> None:
        model = ScriptedModel([_read(precision=0.5, recall=1.0)])
        metric = DSPyMetric(SemanticF1(), "openai/judge")
        assert (await metric.score(REPORT, _reported(), model.session("judge"))).value == pytest.approx(2 / 3)
        assert [request.model for request in model.requests] == ["openai/judge"]
        assert [scope.purpose for scope in model.scopes] == ["judge"]
        assert [lm.name for lm in models_in(metric)] == ["openai/judge"]

    async def test_a_model_that_a_metric_module_holds_is_asked_through_the_session_too(self) -> None:
        judge = SemanticF1()
        judge.set_lm(dspy.LM("openai/own", api_base="http://127.0.0.1:9/v1", api_key="secret", temperature=0.5))
        model = ScriptedModel([_read(precision=1.0, recall=1.0)])
        metric = DSPyMetric(judge)
        assert (await metric.score(REPORT, _reported(), model.session("judge"))).value == 1.0
        (request,) = model.requests
        assert (request.model, request.params["temperature"]) == ("openai/own", 0.5)
        assert "secret" not in metric.fingerprint
        assert not judge.module.predict.history

    async def test_a_model_that_fails_keeps_its_kind_of_failure(self) -> None:
        model = ScriptedModel(lambda _: Failure("rate_limit", "slow down"))
        with pytest.raises(CallFailed) as error:
            await DSPyMetric(SemanticF1(), "openai/judge").score(REPORT, _reported(), model.session("judge"))
        assert error.value.failure.kind == "rate_limit"

    async def test_a_function_that_asks_a_module_of_its_own_is_under_the_run(self) -> None:
        grade = dspy.Predict("question, answer -> good: bool")

        def metric(gold: dspy.Example, pred: dspy.Prediction) -> bool:
            return grade(question=gold.question, answer=pred.answer).good

        def answer(request: Request) -> str:
            return "[[ ## good ## ]]\nTrue\n\n[[ ## completed ## ]]"

        model = ScriptedModel(answer)
        rollout = Rollout("c", "r1", output=RIGHT)
        assert (await DSPyMetric(metric, "openai/judge").score(ROW, rollout, model.session("judge"))).value == 1.0
        assert len(model.requests) == 1

    def test_modules_that_are_set_up_differently_are_different_metrics(self) -> None:
        plain, thorough = DSPyMetric(SemanticF1()), DSPyMetric(SemanticF1(decompositional=True))
        assert plain.fingerprint == DSPyMetric(SemanticF1()).fingerprint
        assert len({plain.fingerprint, thorough.fingerprint, DSPyMetric(SemanticF1(), "openai/judge").fingerprint}) == 3

    def test_what_a_metric_holds_and_closes_over_tells_it_from_another(self) -> None:
        class Graded(dspy.Module):
            def __init__(self, table: dict[str, float]) -> None:
                self.table, self.grade = table, dspy.Predict("answer -> good: bool")

            def forward(self, gold: Any, pred: Any) -> float:
                return self.table[pred.answer]

        def graded(table: dict[str, float]) -> Any:
            return lambda gold, pred: table[pred.answer]

        for make in (Graded, graded):
            assert DSPyMetric(make({"4": 1.0})).fingerprint == DSPyMetric(make({"4": 1.0})).fingerprint
            assert DSPyMetric(make({"4": 1.0})).fingerprint != DSPyMetric(make({"4": 0.5})).fingerprint


REPORT = Example("r4", {"question": "Why?"}, expected="Because.", meta={"response": "Because."})


def _reported() -> Rollout:
    return Rollout("c", "r4", output={"response": "Just because."})


def _read(*, precision: float, recall: float) -> str:
    fields = {"reasoning": "they agree", "recall": recall, "precision": precision}
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in {**fields, "completed": ""}.items())


class TestInAConfig:
    def test_a_file_names_one(self, tmp_path: Any) -> None:
        (tmp_path / "my.py").write_text("def metric(gold, pred, trace=None):\n    return gold.answer == pred.answer\n")
        metric = build({"type": "dspy", "path": "my.py:metric", "lm": "openai/judge"}, tmp_path)
        assert isinstance(metric, DSPyMetric)
        assert [lm.name for lm in models_in(metric)] == ["openai/judge"]

    def test_what_is_wrong_is_told_with_its_key(self, tmp_path: Any) -> None:
        (tmp_path / "my.py").write_text("def metric(gold):\n    return 1\n")
        with pytest.raises(ConfigError, match=r"metric.path: the metric metric\(gold\) must be"):
            build({"type": "dspy", "path": "my.py:metric"}, tmp_path)
        with pytest.raises(ConfigError, match=r"metric\.path must name a function"):
            build({"type": "dspy"}, tmp_path)
        with pytest.raises(ConfigError, match=r"metric\.lms is not a setting\. Did you mean lm"):
            build({"type": "dspy", "path": "my.py:metric", "lms": "x"}, tmp_path)

    def test_a_function_is_what_its_program_makes_of_it(self) -> None:
        assert isinstance(as_metric(answer_exact_match, of_function=DSPyMetric), DSPyMetric)


async def test_an_output_without_fields_is_told() -> None:
    with pytest.raises(ValueError, match='a DSPy metric reads fields, and the output is "4"'):
        await scored(answer_exact_match, "4")
