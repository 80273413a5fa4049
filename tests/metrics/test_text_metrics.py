from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout
from promptopt.metrics.answer_text import answered, mentions, normalise, quote
from promptopt.metrics.exact import ExactMatch
from promptopt.metrics.json_fields import JsonMatch
from promptopt.metrics.numeric import Numeric
from promptopt.metrics.pattern import Regex
from promptopt.metrics.text import Contains, TokenF1, token_f1
from promptopt.testing.scripted import ScriptedModel

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
texts_with_traps = st.text() | st.from_regex(r'[-$0-9.,#%eE "{}:`\[\]n]{0,30}', fullmatch=True)


@given(st.text())
def test_normalising_twice_changes_nothing_more(text):
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("  Card_Arrival.\n", "card_arrival"),
        ("`card  arrival`", "Card arrival"),
        ("**Yes**!", "yes"),
        ("(B)", "b"),
        ("“Straße”", "strasse"),
        ("?", "?"),
    ],
)
async def test_case_spacing_wrapping_and_closing_punctuation_do_not_matter(scored, reply, answer):
    assert (await scored(ExactMatch(), reply, answer)).value == 1.0
    assert (await scored(ExactMatch(normalise=False), reply, answer)).value == float(reply == answer)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("-5", "5"),
        (".5", "5"),
        ("C++", "C"),
        ("C#", "C"),
        ("50%", "50"),
        ("?", "!"),
        ("", "?"),
        ("()", ""),
        ("a b", "ab"),
    ],
)
async def test_what_carries_meaning_does_matter(scored, reply, answer):
    assert (await scored(ExactMatch(), reply, answer)).value == 0.0


async def test_outputs_that_are_not_text_are_compared_as_json(scored):
    assert (await scored(ExactMatch(), {"b": 1, "a": [2]}, {"a": [2], "b": 1})).value == 1.0
    assert (await scored(ExactMatch(), "72", 72.0)).value == 1.0
    assert (await scored(ExactMatch(), True, "true")).value == 1.0


@pytest.mark.parametrize(
    ("metric", "reply", "says"),
    [
        (ExactMatch(), "The label is: refund.", "contains the wanted answer"),
        (ExactMatch(), "refundable", 'Wanted "refund", got "refundable"'),
        (ExactMatch(), "", "the reply is empty"),
        (ExactMatch(), None, "there was no output"),
        (ExactMatch(normalise=False), "Refund", "differs in case"),
        (ExactMatch(labels=("refund", "top up")), "Top up.", "Wrong label"),
        (ExactMatch(labels=("refund", "top up")), "money", "is not one of the labels"),
    ],
)
async def test_the_feedback_says_what_to_mend(scored, metric, reply, says):
    score = await scored(metric, reply, "refund")
    assert score.value == 0.0
    assert says in score.feedback


async def test_a_long_reply_is_quoted_shortened_with_both_its_ends(scored):
    feedback = (await scored(ExactMatch(), "start " + "x" * 5000 + " end", "refund")).feedback
    assert len(feedback) < 400
    assert '"start' in feedback
    assert ' end"' in feedback


@pytest.mark.parametrize("metric", [ExactMatch(), Contains(), TokenF1(), Numeric(), Regex(), JsonMatch()])
async def test_a_row_without_an_expected_answer_is_an_error_that_names_it(scored, metric):
    with pytest.raises(ValueError, match=r"row 'r1' has no expected answer; name its column"):
        await scored(metric, "something", None)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (ExactMatch(), "a"),
        (ExactMatch(normalise=False, labels=("a", "")), "a"),
        (Contains(), "a"),
        (Contains(whole_words=False), "("),
        (Regex(pattern=r"(?P<answer>\w+)\s*$"), "a"),
        (Numeric(tolerance=0.5, relative=0.1), "#### 1,000"),
        (TokenF1(), "a b"),
        (JsonMatch(), {"a": 1, "b": [None, {"c": "x"}]}),
        (JsonMatch(normalise=False, schema={"type": "object", "required": ["a"]}), '{"a": null}'),
    ],
    ids=lambda value: type(value).__name__,
)
@given(output=any_json | texts_with_traps)
def test_no_output_makes_a_metric_raise_or_leave_the_unit_interval(scored, metric, expected, output):
    score = asyncio.run(scored(metric, output, expected))
    assert 0.0 <= score.value <= 1.0
    assert not metric.binary or score.value in (0.0, 1.0)
    score.feedback.encode()


@given(st.text(min_size=1))
def test_a_text_mentions_itself(text):
    assert mentions(text, text)


def test_a_quote_can_be_written_anywhere():
    assert quote("a\ud800\nb") == '"a? b"'


async def test_contains_looks_for_whole_words_unless_told_otherwise(scored):
    assert (await scored(Contains(), "I know.", "no")).value == 0.0
    assert (await scored(Contains(), "The answer is: No.", "no")).value == 1.0
    assert (await scored(Contains(whole_words=False), "答案是东京。", "东京")).value == 1.0
    assert (await scored(Contains(normalise=False), "The answer is: No.", "no")).value == 0.0


async def test_contains_refuses_an_empty_expected_answer(scored):
    with pytest.raises(ValueError, match="row 'r1': the expected answer is empty"):
        await scored(Contains(), "anything", "  ")


async def test_a_pattern_finds_the_answer_or_just_matches(scored):
    finds = Regex(pattern=r"(?i)answer:\s*(?P<answer>.+)")
    assert (await scored(finds, "Answer: first\nAnswer: Paris.", "paris")).value == 1.0
    wrong = await scored(finds, "Answer: London", "Paris")
    assert (wrong.value, wrong.feedback) == (0.0, 'Wanted "Paris", the reply\'s answer is "London".')
    assert (await scored(Regex(pattern=r"^\d{4}$"), "2024", None)).value == 1.0
    assert (await scored(Regex(), "It was in 2024", r"20\d\d")).value == 1.0


async def test_a_catastrophic_pattern_is_a_missing_score_within_seconds(scored):
    with pytest.raises(ValueError, match=r"row 'r1': the pattern .* nested repeats"):
        await scored(Regex(pattern=r"^(?:(?:a|aa)+)+$"), "a" * 40 + "!", None)


async def test_a_broken_pattern_in_a_row_names_the_row(scored):
    with pytest.raises(ValueError, match=r"row 'r1': '\(' is not a regular expression"):
        await scored(Regex(), "anything", "(")


@pytest.mark.parametrize(
    ("got", "want", "f1"),
    [
        ("The cat sat.", "a cat sat", 1.0),
        ("cat", "the black cat", 2 / 3),
        ("cat cat", "cat", 2 / 3),
        ("dog", "cat", 0.0),
        ("", "cat", 0.0),
        ("the", "a", 1.0),
    ],
)
def test_token_f1_is_squads(got, want, f1):
    assert token_f1(got, want)[0] == pytest.approx(f1)


@given(st.text("ab ."), st.text("ab ."))
def test_token_f1_is_symmetric(a, b):
    assert token_f1(a, b)[0] == token_f1(b, a)[0]


async def test_token_f1_says_which_words_are_missing_and_which_too_many(scored):
    feedback = (await scored(TokenF1(), "Paris in Texas", "Paris France")).feedback
    assert 'Missing words: "france"' in feedback
    assert 'Words too many: "in texas"' in feedback


class TestOutputsWithSeveralFields:
    """What is compared of an output that is a mapping, as a DSPy module's is."""

    @pytest.mark.parametrize(
        ("output", "compared"),
        [
            ({"reasoning": "no", "team": "red"}, "red"),
            ({"reasoning": "no", "other": "red"}, "red"),
            ({"trajectory": {}, "reasoning": "no", "other": "red"}, "red"),
            ({"note": "no", "team": "red", "other": "no"}, "red"),
            ({"note": "no", "other": "red"}, {"note": "no", "other": "red"}),
            ({"reasoning": "red"}, {"reasoning": "red"}),
            ({"team": None}, None),
            ("red", "red"),
            (["red"], ["red"]),
        ],
    )
    def test_it_is_the_field_of_the_expected_column_or_the_only_answer(self, output, compared):
        row = Example("r1", {"text": "a ticket"}, "red", meta={"team": "red", "length": 2})
        assert answered(row, Rollout("c", "r1", output=output)) == compared

    def test_an_expected_mapping_is_compared_as_a_whole(self):
        row = Example("r1", {"text": "a ticket"}, {"team": "red"}, meta={"team": "red"})
        assert answered(row, Rollout("c", "r1", output={"team": "red"})) == {"team": "red"}

    @pytest.mark.parametrize("metric", [ExactMatch(), Contains(), TokenF1(), Regex(), Numeric()])
    async def test_every_metric_of_one_answer_compares_it(self, metric):
        row = Example("r1", {"text": "a sum"}, "42", meta={"total": "42"})
        right, wrong = {"reasoning": "41", "total": "42"}, {"reasoning": "42", "total": "41"}
        session = ScriptedModel([]).session()
        assert (await metric.score(row, Rollout("c", "r1", output=right), session)).value == 1.0
        assert (await metric.score(row, Rollout("c", "r1", output=wrong), session)).value == 0.0
