"""Feedback that recurs becomes a line of the text, as it stands."""

from __future__ import annotations

import json
import time

import pytest
from briefs import TEXT, TRAIN, applied, brief, seen
from hypothesis import given
from hypothesis import strategies as st

from promptopt.core.edit import AddLines, Evidence
from promptopt.core.example import Example
from promptopt.reflect.operator import Refused
from promptopt.reflect.operators.feedback import MOST_LINES, QuoteFeedback

DIGITS = "it may hold only digits and signs"
ASK = "Ask for the account number first."


def failed(*feedback: str, reply: str = "no idea") -> list[Evidence]:
    """A wrong row for each feedback."""
    return [seen(row, reply, 0.0, said) for row, said in zip(TRAIN, feedback, strict=False)]


def quoted(evidence: list[Evidence], text: str = TEXT, **known: object) -> str:
    """The text that the operator makes of it."""
    given_brief = brief(text, evidence=evidence, **known)  # type: ignore[arg-type]
    return applied(QuoteFeedback().draw(given_brief), given_brief)


def test_what_follows_a_colon_is_quoted_where_the_words_before_it_are_about_one_row() -> None:
    evidence = failed(f"'2 + 2 = 4' is no sum: {DIGITS}", f"'$3' is no sum: {DIGITS}", "4 is wrong")
    assert quoted(evidence) == f"{TEXT}\n- {DIGITS}"


def test_a_sentence_that_is_repeated_as_a_whole_is_quoted_as_a_whole() -> None:
    rule = "It should have known: refunds take five working days."
    assert quoted(failed(f"Wrong, it is 3. {rule}", f"Wrong, it is 4.\n{rule}")) == f"{TEXT}\n- {rule}"


def test_words_that_introduce_different_rules_are_no_part_of_them() -> None:
    refunds, chairs = "refunds take five working days.", "chairs: they go by ship alone."
    said = [f"It should have known: {rule}" for rule in (refunds, chairs)]
    assert quoted(failed(said[0], said[0], said[1], said[1])).split("\n")[1:] == [f"- {chairs}", f"- {refunds}"]


def test_what_is_said_of_most_rows_comes_first_and_no_more_than_three_lines_are_added() -> None:
    rules = [f"Rule {name} holds for every reply." for name in "abcd"]
    said = [" ".join(rules[:count]) for count in (1, 2, 3, 4, 4)]
    assert quoted(failed(*said)).split("\n")[1:] == [f"- {rule}" for rule in rules[:MOST_LINES]]


@pytest.mark.parametrize(
    "evidence",
    [
        [],
        failed(ASK, "Wrong."),
        failed("Be much shorter.", "Be much shorter."),
        failed("It says nothing of {order}, and it has to.", "It says nothing of {order}, and it has to."),
        failed("The wanted answer here was label0, of course.", "The wanted answer here was label0, of course."),
        failed("The reply no idea is none of them.", "The reply no idea is none of them."),
        [seen(row, [{"fits": "no"}], 0.0, "The judge's answer is no here.") for row in TRAIN],
        [seen(row, "label0", 1.0, ASK) for row in TRAIN],
        [*failed(ASK, ASK), seen(TRAIN[5], "label2", 1.0, ASK)],
        [seen(row, None, None, ASK) for row in TRAIN],
        failed("x" * 300 + " is not what they all want", "x" * 300 + " is not what they all want"),
    ],
    ids=[
        "none",
        "of one row",
        "few words",
        "placeholder",
        "answer",
        "reply",
        "part of a reply",
        "right",
        "praise",
        "failure",
        "long",
    ],
)
def test_nothing_else_is_quoted(evidence: list[Evidence]) -> None:
    with pytest.raises(Refused, match="no feedback to repeat"):
        QuoteFeedback().draw(brief(evidence=evidence))


def test_what_names_a_single_row_is_not_quoted() -> None:
    train = [Example(f"r{i}", {"text": f"where is order A{i}000"}, "late") for i in range(4)]
    evidence = [seen(row, "soon", 0.0, "As was said of A1000, look it up first.") for row in train[:2]]
    with pytest.raises(Refused, match="no feedback to repeat"):
        QuoteFeedback().draw(brief(evidence=evidence, train=train))


def test_what_the_text_has_or_was_tried_is_not_quoted_again() -> None:
    other = "Then say thank you to them."
    evidence = failed(f"{ASK} {other}", f"{ASK} {other}")
    assert quoted(evidence, f"{TEXT} {ASK}") == f"{TEXT} {ASK}\n- {other}"
    tried = {AddLines("system", lines).note: "mends none" for lines in ((f"- {ASK}", f"- {other}"),)}
    assert quoted(evidence, rejected=tried) == f"{TEXT}\n- {ASK}"
    tried |= {AddLines("system", (f"- {ASK}",)).note: "mends none"}
    assert quoted(evidence, rejected=tried) == f"{TEXT}\n- {other}"


def test_data_in_feedback_is_read_at_once() -> None:
    data = json.dumps({f"field {number}": number for number in range(20_000)})
    started = time.monotonic()
    assert quoted(failed(f"{data}\n{ASK}", f"{data}\n{ASK}")) == f"{TEXT}\n- {ASK}"
    assert time.monotonic() - started < 2


SAID = st.sampled_from(["Wrong.", ASK, DIGITS, f"No sum: {DIGITS}.", "Label0 is what it wants, says row one.", "\n"])


@given(st.lists(st.lists(st.one_of(SAID, st.text()), max_size=4).map(" ".join), min_size=2, max_size=9))
def test_every_line_was_said_of_two_wrong_rows(feedback: list[str]) -> None:
    evidence = failed(*feedback, reply="")
    try:
        lines = quoted(evidence).removeprefix(TEXT).split("\n- ")[1:]
    except Refused:
        return
    assert 0 < len(lines) <= MOST_LINES
    for line in lines:
        assert sum(" ".join(line.split()) in " ".join(said.split()) for said in feedback) >= 2
