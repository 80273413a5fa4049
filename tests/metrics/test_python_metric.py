from __future__ import annotations

import asyncio
import functools
import time

import numpy
import pytest

from promptopt.core.rollout import Failure, Rollout, Score
from promptopt.errors import ConfigError
from promptopt.lm.message import CallFailed
from promptopt.metrics.build import build
from promptopt.metrics.python import PythonMetric


@pytest.fixture
def metric_file(tmp_path):
    """Writes my_metric.py and gives the metric that YAML would make of its function `score`."""

    def write(source: str, **options) -> PythonMetric:
        (tmp_path / "my_metric.py").write_text(source)
        return build({"type": "python", "path": "my_metric.py:score", **options}, tmp_path)

    return write


@pytest.mark.parametrize(
    ("returned", "score"),
    [
        (True, Score(1.0)),
        (0.25, Score(0.25)),
        ((0.5, "half right"), Score(0.5, "half right")),
        (Score(0.5, "so", {"a": 1.0}), Score(0.5, "so", {"a": 1.0})),
        (numpy.float32(0.5), Score(0.5)),
    ],
)
async def test_it_may_return_a_number_a_bool_a_pair_or_a_score(scored, returned, score):
    assert await scored(PythonMetric(lambda example, output: returned), "x") == score


@pytest.mark.parametrize("returned", [float("nan"), float("inf"), 1.5, -0.1, None, "1", (0.5, None), [1]])
async def test_any_other_value_is_an_error_that_names_the_row(scored, returned):
    with pytest.raises(ValueError, match=r"row 'r1': the metric <lambda> returned no score: .* in \[0, 1\]"):
        await scored(PythonMetric(lambda example, output: returned), "x")


async def test_it_reads_the_rows_columns_as_attributes(scored, metric_file):
    metric = metric_file("def score(example, output):\n    return output == example.text\n")
    assert (await scored(metric, "a question")).value == 1.0


async def test_an_asynchronous_function_works_too(scored, metric_file):
    metric = metric_file(
        "import asyncio\nasync def score(example, output):\n    await asyncio.sleep(0)\n    return 1\n"
    )
    assert (await scored(metric, "x")).value == 1.0


async def test_a_third_parameter_receives_the_rollout_or_its_trace(scored):
    def with_rollout(example, output, rollout):
        return isinstance(rollout, Rollout)

    def with_optional_rollout(example, output, rollout=None):
        return isinstance(rollout, Rollout)

    def with_trace(example, output, trace):
        return trace == ()

    def like_dspys(example, output, trace=None):
        return trace is None

    for function in (with_rollout, with_optional_rollout, with_trace, like_dspys):
        assert (await scored(PythonMetric(function), "x")).value == 1.0


def test_a_function_of_another_shape_is_refused():
    def score(example):
        return 1

    with pytest.raises(ConfigError, match=r"the metric score\(example\) must be score\(example, output\) or"):
        PythonMetric(score)


async def test_an_exception_says_what_was_raised_and_where(scored, metric_file):
    metric = metric_file("import json\n\ndef score(example, output):\n    return json.loads(output)\n")
    with pytest.raises(ValueError, match=r"row 'r1': the metric raised JSONDecodeError: .* \(my_metric\.py:4\)"):
        await scored(metric, "not json")


@pytest.mark.parametrize("ending", ["raise SystemExit(3)", "raise KeyboardInterrupt", "raise StopIteration", "exit()"])
async def test_nothing_a_metric_raises_ends_the_run(scored, metric_file, ending):
    metric = metric_file(f"def score(example, output):\n    {ending}\n")
    with pytest.raises(ValueError, match=r"row 'r1': the metric raised RuntimeError: it raised"):
        await scored(metric, "x")


async def test_a_failed_model_call_inside_keeps_its_kind(scored):
    def score(example, output):
        raise CallFailed(Failure("timeout", "no answer"))

    with pytest.raises(CallFailed):
        await scored(PythonMetric(score), "x")


async def test_a_metric_that_hangs_is_abandoned(scored):
    def hang(example, output):
        time.sleep(5)

    began = time.monotonic()
    with pytest.raises(ValueError, match=r"row 'r1': the metric hang took longer than 0\.1 s; metric\.timeout"):
        await scored(PythonMetric(hang, timeout=0.1), "x")
    assert time.monotonic() - began < 2


async def test_slow_metrics_run_side_by_side(scored):
    def slow(example, output):
        time.sleep(0.2)
        return 1

    began = time.monotonic()
    await asyncio.gather(*(scored(PythonMetric(slow), "x") for _ in range(20)))
    assert time.monotonic() - began < 2


def test_the_fingerprint_follows_the_source_or_the_version(metric_file):
    first = metric_file("def score(example, output):\n    return 1\n")
    changed = metric_file("def score(example, output):\n    return 0\n")
    again = metric_file("def score(example, output):\n    return 1\n")
    assert first.fingerprint == again.fingerprint != changed.fingerprint
    kept = {metric_file(f"def score(e, o):\n    return {n}\nscore.version = 'v1'\n").fingerprint for n in (0, 1)}
    assert len(kept) == 1


def test_callable_objects_and_partials_have_a_fingerprint():
    class Scorer:
        def __call__(self, example, output):
            return 1

    def score(strict, example, output):
        return 1

    assert "Scorer" in PythonMetric(Scorer()).fingerprint
    assert '"score"' in PythonMetric(functools.partial(score, True)).fingerprint
