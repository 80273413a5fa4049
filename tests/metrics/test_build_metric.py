from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from promptopt.errors import ConfigError
from promptopt.judges.judge import Judge
from promptopt.judges.library import LIBRARY
from promptopt.metrics.build import TYPES, as_metric, build, judges_in
from promptopt.metrics.exact import ExactMatch
from promptopt.metrics.numeric import Numeric
from promptopt.metrics.python import PythonMetric
from promptopt.metrics.weighted import Part, Weighted

HERE = Path(".")


def from_yaml(text: str, base: Path = HERE):
    return build(yaml.safe_load(text), base)


def test_yaml_and_python_say_the_same():
    assert from_yaml("{type: exact_match, normalise: false}") == ExactMatch(normalise=False)
    assert from_yaml("{type: numeric, relative: 0.01}") == Numeric(relative=0.01)
    assert as_metric("exact_match") == as_metric({"type": "exact_match"}) == as_metric(ExactMatch()) == ExactMatch()
    assert from_yaml("{type: judge, lm: m, rubric: r, answer: 1-5}") == Judge(lm="m", rubric="r", answer="1-5")
    assert from_yaml(
        "{type: weighted, parts: {a: {metric: exact_match, weight: 2}, n: {metric: {type: numeric}}}}"
    ) == (Weighted({"a": Part(ExactMatch(), 2.0), "n": Part(Numeric())}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "metric.type is missing; it is one of exact_match"),
        ("{type: exact}", "metric.type: 'exact' is not a metric. Did you mean exact_match?"),
        ("{type: 7}", "metric.type: 7 is not a metric. Known: exact_match"),
        ("{type: exact_match, normalize: true}", "metric.normalize is not a setting. Did you mean normalise?"),
        ("{type: exact_match, normalise: 7}", "metric.normalise: input should be a valid boolean"),
        ("{type: numeric, tolerance: -1}", "metric.tolerance: input should be greater than or equal to 0"),
        ("{type: regex, pattern: '('}", "metric.pattern: '(' is not a regular expression"),
        ("{type: judge, lm: m}", "metric.rubric: it must say what is asked about the output"),
        ("{type: judge, rubric: r}", "metric.lm is missing"),
        ("{type: judge, lm: m, rubric: r, answer: 5-1}", "metric.answer: the range 5-1 must go up"),
        ("{type: judge, lm: m, rubric: r, answer: [no, yes]}", "YAML reads a bare yes, no, on or off as true or false"),
        ("{type: judge, lm: m, rubric: r, scale: 1-5}", "metric.scale is not a setting"),
        ("{type: judge, lm: m, rubric: r, samples: 0}", "metric.samples: input should be greater than or equal to 1"),
        ("{type: judge, lm: m, criteria: {a: {answer: 1-5}}}", "metric.criteria.a.rubric is missing"),
        ("{type: judge, lm: m, criteria: {a: {rubric: r, answer: five}}}", "metric.criteria.a.answer: an answer is"),
        ("{type: judge, lm: m, criteria: {a: {rubric: r}}, answer: 1-5}", "metric.answer: each criterion has its own"),
        ("{type: judge, lm: m, rubric: r, calibration: ''}", "metric.calibration: string should have at least 1"),
        ("{type: pairwise, lm: m}", "metric.rubric is missing"),
        ("{type: judge, lm: m, rubric: r, lm_args: {model: x}}", "metric.lm_args: must not set model"),
        ("{type: python}", "metric.path must name a function"),
        ("{type: python, path: 'a.py:f', timeout: 0}", "metric.timeout must be seconds above 0"),
        ("{type: python, path: 'gone.py:f'}", "metric.path: 'gone.py:f': there is no file"),
        ("{type: weighted}", "metric.parts must name at least one metric"),
        ("{type: weighted, parts: {a: exact_match}}", "metric.parts.a must be {metric: ..., weight: 1}"),
        (
            "{type: weighted, parts: {a: {metric: contains, weight: 0}}}",
            "metric.parts.a.weight must be a number above 0",
        ),
        ("{type: weighted, parts: {a: {metric: {type: contain}}}}", "metric.parts.a.metric.type: 'contain' is not"),
        ("{type: json_match, schema: gone.json}", "metric.schema: cannot read gone.json"),
        ("{type: json_match, schema: {type: objekt}}", "metric.schema: not a JSON schema"),
    ],
)
def test_a_wrong_setting_is_one_clear_message(text, message):
    with pytest.raises(ConfigError) as caught:
        from_yaml(text)
    assert message in str(caught.value)


def test_a_schema_can_stand_in_a_file_beside_the_config(tmp_path):
    (tmp_path / "answer.json").write_text('{"type": "object"}')
    assert from_yaml("{type: json_match, schema: answer.json}", tmp_path).schema == {"type": "object"}
    (tmp_path / "answer.json").write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        from_yaml("{type: json_match, schema: answer.json}", tmp_path)


def test_python_callers_may_pass_a_function_but_not_a_class():
    assert isinstance(as_metric(lambda example, output: 1), PythonMetric)
    with pytest.raises(ConfigError, match=r"pass one of it, as in ExactMatch\(\)"):
        as_metric(ExactMatch)
    with pytest.raises(ConfigError, match="metric is a int"):
        as_metric(7)


def test_a_fingerprint_holds_every_option():
    prints = {
        build(config, HERE).fingerprint
        for config in [
            {"type": "exact_match"},
            {"type": "exact_match", "normalise": False},
            {"type": "contains"},
            {"type": "regex", "pattern": "a"},
            {"type": "regex", "pattern": "b"},
            {"type": "weighted", "parts": {"a": {"metric": "contains"}}},
            {"type": "weighted", "parts": {"a": {"metric": "contains", "weight": 2}}},
            {"type": "judge", "lm": "m", "rubric": "r"},
            {"type": "judge", "lm": "m", "rubric": "s"},
            {"type": "judge", "lm": "n", "rubric": "r"},
            {"type": "pairwise", "lm": "n", "rubric": "r"},
            {"type": "pairwise", "lm": "n", "rubric": "r", "against": "old"},
        ]
    }
    assert len(prints) == 12
    assert build("exact_match", HERE).fingerprint == ExactMatch().fingerprint


def test_judges_are_found_wherever_they_stand():
    judge = Judge(lm="m", rubric="r")
    nested = Weighted({"a": Part(ExactMatch()), "b": Part(Weighted({"c": Part(judge)}))})
    assert judges_in(nested) == (judge,)
    assert judges_in(ExactMatch()) == ()


async def test_a_weighted_score_is_the_mean_of_its_parts(scored):
    metric = Weighted({"right": Part(ExactMatch(), 3), "words": Part(as_metric("token_f1"), 1)})
    score = await scored(metric, "black cat", "the black cat")
    assert score.value == pytest.approx(0.25)
    assert score.parts == {"right": 0.0, "words": 1.0}
    assert score.feedback.startswith("right (0.00): Wanted")


async def test_parts_of_parts_keep_their_names(scored):
    metric = Weighted({"fields": Part(as_metric("json_match"))})
    assert (await scored(metric, {"a": 1}, {"a": 1, "b": 2})).parts == {"fields": 0.5, "fields.a": 1.0, "fields.b": 0.0}


async def test_a_part_that_cannot_score_leaves_the_whole_missing(scored):
    def broken(example, output):
        raise RuntimeError("no connection")

    metric = Weighted({"a": Part(ExactMatch()), "b": Part(as_metric(broken))})
    with pytest.raises(ValueError, match="RuntimeError: no connection"):
        await scored(metric, "x", "x")


@pytest.mark.parametrize("weights", [(0.1, 0.2, 0.3), (1e-9, 1e9, 7), (1, 1, 1)])
async def test_perfect_parts_make_a_perfect_whole_whatever_their_weights(scored, weights):
    metric = Weighted({str(i): Part(ExactMatch(), weight) for i, weight in enumerate(weights)})
    assert (await scored(metric, "x", "x")).value == pytest.approx(1.0)


def test_every_type_in_the_list_is_known():
    plain = {"exact_match", "contains", "regex", "numeric", "token_f1", "json_match"}
    others = {"weighted", "python", "judge", "pairwise", "dspy", "own", "mlflow", "deepeval"}
    assert {*plain, *LIBRARY, *others} == {*TYPES}
