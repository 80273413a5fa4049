from __future__ import annotations

import pytest

from promptopt.core.example import Example
from promptopt.errors import DataError
from promptopt.judges.judge import Judge
from promptopt.metrics.build import build
from promptopt.metrics.exact import ExactMatch
from promptopt.metrics.numeric import Numeric
from promptopt.metrics.pattern import Regex
from promptopt.metrics.preflight import check_rows
from promptopt.metrics.python import PythonMetric
from promptopt.metrics.weighted import Part, Weighted

ROWS = [Example("r1", {"text": "t"}, "72"), Example("r2", {"text": "t"}, "many"), Example("r3", {"text": "t"}, None)]


async def test_rows_that_can_never_be_scored_are_found_and_counted():
    with pytest.raises(
        DataError, match=r"2 of 3 rows cannot be scored, the first because row 'r2': .* holds no number"
    ):
        await check_rows(Weighted({"a": Part(Numeric())}), ROWS)
    with pytest.raises(DataError, match=r"1 of 3 rows .* row 'r3' has no expected answer"):
        await check_rows(ExactMatch(), ROWS)
    with pytest.raises(DataError, match=r"3 of 3 rows .* has no column 'txt'"):
        await check_rows(Judge(lm="m", rubric="r", inputs=("txt",)), ROWS)


async def test_rows_that_a_metric_can_score_pass_without_a_call_or_the_users_code():
    def never(example, output):
        raise AssertionError("the function was run")

    await check_rows(PythonMetric(never), ROWS)
    await check_rows(Judge(lm="m", rubric="r"), ROWS)
    await check_rows(Regex(pattern="a"), ROWS)
    await check_rows(build({"type": "json_match", "schema": {"type": "object"}}, None), ROWS[2:])
