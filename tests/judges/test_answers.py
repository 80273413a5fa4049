from __future__ import annotations

import json
import math

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from promptopt.judges.answers import Answer

words = st.lists(
    st.text(min_size=1).filter(lambda word: word.strip()),
    min_size=2,
    max_size=6,
    unique_by=lambda w: w.strip().casefold(),
)
said = st.one_of(
    st.just("yes_no"),
    st.just("number"),
    st.tuples(st.integers(-50, 50), st.integers(1, 100)).map(lambda ends: f"{ends[0]}-{ends[0] + ends[1]}"),
    words,
)


@pytest.mark.parametrize(
    ("form", "level", "options", "worths"),
    [
        ("yes_no", "binary", ("no", "yes"), (0.0, 1.0)),
        ("1-5", "ordinal", (1, 2, 3, 4, 5), (0.0, 0.25, 0.5, 0.75, 1.0)),
        ("0-1", "binary", (0, 1), (0.0, 1.0)),
        ("-2 - 2", "ordinal", (-2, -1, 0, 1, 2), (0.0, 0.25, 0.5, 0.75, 1.0)),
        ("[bad, fair, good]", "ordinal", ("bad", "fair", "good"), (0.0, 0.5, 1.0)),
        ("[unsafe, safe]", "binary", ("unsafe", "safe"), (0.0, 1.0)),
        ("{good: 1, bad: 0, fair: 0.8}", "ordinal", ("bad", "fair", "good"), (0.0, 0.8, 1.0)),
        ("{none: 1, resolved: 1, unresolved: 0}", "nominal", ("unresolved", "none", "resolved"), (0.0, 1.0, 1.0)),
        ("number", "interval", None, ()),
    ],
)
def test_yaml_says_an_answer_in_five_ways(form, level, options, worths):
    answer = Answer.of(yaml.safe_load(form))
    assert (answer.level, answer.options, answer.worths) == (level, options, worths)
    assert Answer.of(answer) is answer


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("yes", "not True. YAML reads a bare yes, no, on or off as true or false"),
        ("[no, yes]", 'put it in quotes, as in "yes", or say yes_no'),
        ("{no: 0, yes: 1}", "YAML reads a bare yes"),
        ("[low, null]", "YAML reads a bare null or ~ as nothing"),
        ("[1, 2, 3]", "put it in quotes, or write whole numbers as 1-5"),
        ("{1: 0, 2: 1}", "put it in quotes"),
        ("5", "an answer is yes_no, LOW-HIGH such as 1-5"),
        ("null", "an answer is yes_no"),
        ("1..5", "LOW-HIGH such as 1-5, number, a list of words from worst to best, or {word: score}; not '1..5'"),
        ("binary", "not 'binary'"),
        ("''", "not ''"),
        ("5-1", "the range 5-1 must go up"),
        ("3-3", "must go up"),
        ("1-999", "by at most 100 steps"),
        ("[only]", "at least two words"),
        ("[]", "at least two words"),
        ("{}", "at least two words"),
        ("[Good, bad, good]", "'Good' comes twice; upper and lower case are the same"),
        ("[good, ' ']", "an empty text"),
        ("{a: 0, b: 2}", "the score of the answer 'b' must be a number from 0 to 1, not 2"),
        ("{a: 0, b: true}", "the score of the answer 'b'"),
        ("{a: 0, b: .nan}", "the score of the answer 'b'"),
        ("{a: 1, b: 1}", "every answer has the same score"),
    ],
)
def test_what_is_no_answer_is_one_clear_message(form, message):
    with pytest.raises(ValueError, match=r".") as caught:
        Answer.of(yaml.safe_load(form))
    assert message in str(caught.value)


@given(said)
def test_every_option_is_read_back_and_scores_rise_from_0_to_1(form):
    answer = Answer.of(form)
    for option in answer.options or (0.0, 0.25, 1.0):
        assert answer.read(option) == option
        assert answer.from_cell(str(option)) == option
        assert answer.read(json.loads(json.dumps(option))) == option
    scores = [answer.score(option) for option in answer.options or (0.0, 1.0)]
    assert (scores[0], scores[-1]) == (0.0, 1.0)
    assert scores == sorted(scores)


@given(said, st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()))
def test_whatever_is_read_is_an_option_or_a_number_from_0_to_1(form, value):
    answer = Answer.of(form)
    try:
        read = answer.read(value)
    except ValueError:
        return
    assert 0 <= answer.score(read) <= 1
    assert answer.options is None or read in answer.options


@pytest.mark.parametrize(
    ("form", "value", "read"),
    [
        ("yes_no", "Yes ", "yes"),
        ("yes_no", True, "yes"),
        ("yes_no", np.bool_(False), "no"),
        ("1-5", 4.0, 4),
        ("1-5", np.int64(4), 4),
        ("number", 1, 1.0),
        ("number", np.float64(0.5), 0.5),
    ],
)
def test_people_and_tables_write_the_same_answer_in_several_ways(form, value, read):
    found = Answer.of(form).read(value)
    assert found == read
    assert type(found) is type(read)


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("yes_no", "maybe"), ("yes_no", 1), ("yes_no", None), ("yes_no", ["yes"]), ("yes_no", "yes."),
        ("1-5", "4"), ("1-5", 0), ("1-5", 6), ("1-5", 4.5), ("1-5", True), ("1-5", math.nan), ("1-5", math.inf),
        ("number", "0.5"), ("number", 1.01), ("number", -0.1), ("number", math.nan), ("number", True),
        (["bad", "good"], 1), (["bad", "good"], True), (["bad", "good"], {"good": 1}),
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_what_it_should_have_been(form, value):
    answer = Answer.of(form)
    with pytest.raises(ValueError, match="is not") as caught:
        answer.read(value)
    assert answer.wording in str(caught.value)


@pytest.mark.parametrize(
    ("form", "text", "read"),
    [
        ("yes_no", "TRUE", "yes"), ("yes_no", " no", "no"), ("yes_no", "1", "yes"), ("1-5", " 4 ", 4),
        ("1-5", "4.0", 4), ("number", "0.5", 0.5), (["bad", "good"], "GOOD", "good"),
        ("yes_no", 1, "yes"), ("yes_no", 0.0, "no"), ("yes_no", True, "yes"), ("yes_no", np.int64(0), "no"),
        ("1-5", 4.0, 4), ("1-5", np.int64(4), 4), ("number", 1, 1.0), (["1", "2"], 2, "2"),
    ],
)  # fmt: skip
def test_a_cell_of_a_table_is_text_or_typed(form, text, read):
    assert Answer.of(form).from_cell(text) == read


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("yes_no", "2"),
        ("1-5", "four"),
        ("1-5", ""),
        ("1-5", "4.5"),
        ("1-5", "nan"),
        ("number", "50 %"),
        ("number", "2"),
        ("yes_no", 2),
        ("yes_no", ["yes"]),
        ("1-5", True),
        ("number", None),
    ],
)
def test_a_cell_that_is_no_answer_says_so(form, text):
    with pytest.raises(ValueError, match=r'is not (a|"no" or "yes")'):
        Answer.of(form).from_cell(text)


@given(said)
def test_the_schema_allows_exactly_the_options(form):
    answer = Answer.of(form)
    if answer.options is not None:
        assert answer.schema["enum"] == list(answer.options)
        assert answer.schema["type"] == ("integer" if isinstance(answer.options[0], int) else "string")
