from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptopt.metrics.json_fields import SCHEMA_PART, JsonMatch, read_json, same

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
EXPECTED = {"city": "Paris", "people": 2_100_000, "river": "Seine"}


async def test_the_score_is_the_share_of_right_fields_and_each_is_a_part(scored):
    reply = '```json\n{"city": "paris", "people": "2100000", "mayor": "?"}\n```'
    score = await scored(JsonMatch(), reply, EXPECTED)
    assert score.value == pytest.approx(2 / 3)
    assert score.parts == {"city": 1.0, "people": 1.0, "river": 0.0}
    assert score.feedback == 'river: wanted "Seine", it is missing.'


async def test_only_named_fields_count(scored):
    score = await scored(JsonMatch(fields=("city",)), {"city": "Paris"}, json.dumps(EXPECTED))
    assert (score.value, score.parts) == (1.0, {"city": 1.0})


@pytest.mark.parametrize(
    "reply",
    ["Here it is: {}", "{} {}", "```json\n{}\n```\n```json\n{}\n```", "[1]", "7", "", '{"a": NaN}', '{"a":1,"a":2}'],
)
async def test_anything_but_one_object_scores_0_and_is_told_so(scored, reply):
    score = await scored(JsonMatch(), reply, EXPECTED)
    assert score.value == 0.0
    assert score.parts == dict.fromkeys(EXPECTED, 0.0)
    assert "must be one JSON object and nothing else" in score.feedback


async def test_a_broken_schema_scores_0_but_the_fields_are_still_seen(scored):
    schema = {"type": "object", "properties": {"people": {"type": "integer"}}, "additionalProperties": False}
    reply = {"city": "Paris", "people": "2100000", "river": "Seine"}
    broken = await scored(JsonMatch(fields=("city",), schema=schema), reply, EXPECTED)
    assert broken.value == 0.0
    assert broken.parts == {"city": 1.0, SCHEMA_PART: 0.0}
    assert "The reply breaks the schema" in broken.feedback
    kept = await scored(JsonMatch(schema=schema), '{"people": 3}', None)
    assert (kept.value, kept.parts) == (1.0, {SCHEMA_PART: 1.0})


async def test_a_schema_never_fetches_another_document(scored):
    with pytest.raises(Exception, match="nresolvable"):
        await scored(JsonMatch(schema={"$ref": "http://127.0.0.1:9/schema.json"}), "{}", None)


def test_a_schema_that_is_none_is_refused_at_once():
    with pytest.raises(ValueError, match="not a JSON schema"):
        JsonMatch(schema={"type": "objekt"})


@pytest.mark.parametrize(
    ("expected", "says"),
    [("Paris", "is not JSON"), ([1], "is not an object"), ({"town": 1}, "has no field 'city'")],
)
async def test_an_expected_answer_that_cannot_be_compared_is_an_error(scored, expected, says):
    with pytest.raises(ValueError, match=f"row 'r1': the expected answer .*{says}"):
        await scored(JsonMatch(fields=("city",)), "{}", expected)


@given(values)
def test_reading_back_what_json_wrote_gives_the_same(value):
    text = json.dumps(value)
    assert read_json(text) == value
    assert read_json(f"\n```json\n{text}\n```\n") == value


@given(st.text())
def test_what_is_not_json_raises_value_error_only(text):
    with contextlib.suppress(ValueError):
        read_json(text)


def test_a_deep_nest_is_refused_without_a_crash():
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json("[" * 100_000)


@given(values, st.booleans())
def test_every_value_is_the_same_as_itself(value, normalised):
    assert same(value, value, normalised)


def test_strict_comparison_keeps_types_apart():
    assert not same(True, 1, normalised=False)
    assert not same("1", 1, normalised=False)
    assert same(1.0, 1, normalised=False)
    assert not same("null", None, normalised=True)
    assert not same([1, 2], [2, 1], normalised=True)
