"""What the reflection model is shown."""

from __future__ import annotations

import re
from typing import Any

import pytest
from briefs import TEXT, TRAIN, brief, seen
from hypothesis import given
from hypothesis import strategies as st

from promptopt.core.edit import Brief, Evidence
from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.reflect.operator import Asked
from promptopt.reflect.operators.contrast import Contrast
from promptopt.reflect.operators.rewrite import FullRewrite
from promptopt.reflect.operators.rules import AddRules
from promptopt.reflect.operators.shorten import Shorten
from promptopt.reflect.showing import KEPT_ROWS, MOST_ROWS, SHOWN, fill, messages

ASKED = (FullRewrite(), AddRules(), Contrast(), Shorten())
NASTY = st.text(alphabet="abc=<>_ \n`{}", max_size=80)


def request(operator: Asked, brief: Brief) -> str:
    return operator.ask(brief).messages[0]["content"]


def shown(brief: Brief) -> str:
    return messages("<side_info>", brief)[0]["content"]


def test_the_request_shows_text_row_reply_feedback_sub_scores_and_what_must_stay() -> None:
    row = Evidence(TRAIN[0], Rollout("c", "r0", output="hello", score=Score(0, "wanted card_arrival", {"form": 0.5})))
    content = request(FullRewrite(), brief(evidence=[row]))
    for part in (TEXT, "where is my card 0", "hello", "wanted card_arrival", "form 0.50", "{text}", "system prompt"):
        assert part in content


@pytest.mark.parametrize("operator", ASKED, ids=lambda operator: type(operator).__name__)
def test_every_request_shows_the_current_text_whole_and_the_rejected_edits_with_why(operator: Asked) -> None:
    text = "\n".join([f"{{text}} rule {i} says <side_info>" for i in range(60)])
    given_brief = brief(text, evidence=[seen(TRAIN[0], "x", 0.0)], rejected={"add to system: be nice": "-0.120 on val"})
    content = request(operator, given_brief)
    assert text in content
    assert "add to system: be nice (-0.120 on val)" in content


def test_blank_lines_of_the_text_stay_as_they_are() -> None:
    text = "Answer {text}.\n\n\n\nBe brief."
    assert text in request(FullRewrite(), brief(text, evidence=[seen(TRAIN[0], "x", 0.0)]))


def test_only_the_newest_rejected_edits_are_shown() -> None:
    content = messages("<rejected>", brief(rejected={f"note {i}": "" for i in range(20)}))[0]["content"]
    assert "note 19" in content
    assert "note 3\n" not in content


def test_what_the_metric_says_to_one_component_is_shown_where_it_is_mended_and_nowhere_else() -> None:
    score = Score(0, "to all", feedback_for={"system": "to the system prompt", "user": "to the user message"})
    content = shown(brief(evidence=[Evidence(TRAIN[0], Rollout("c", "r0", output="hello", score=score))]))
    assert "Feedback: to all\nto the system prompt" in content
    assert "to the user message" not in content


def test_failures_come_first_and_a_few_successes_last() -> None:
    scores = [1.0, 0.0, 1.0, 0.5, None, 1.0]
    evidence = [seen(row, f"reply {row.id}", score) for row, score in zip(TRAIN, scores, strict=False)]
    content = shown(brief(evidence=evidence))
    rows = [line.removeprefix("text: ") for line in content.splitlines() if line.startswith("text: ")]
    assert rows == [f"where is my card {i}" for i in (1, 3, 4, 0, 2)]
    assert "Failure: too slow" in content


@given(st.lists(st.sampled_from([0.0, 0.4, 1.0, None]), max_size=40))
def test_at_most_ten_rows_are_shown_and_successes_only_a_few(scores: list[float | None]) -> None:
    evidence = [seen(Example(f"e{i}", {"text": f"row {i}"}), "reply", score) for i, score in enumerate(scores)]
    content = shown(brief(evidence=evidence))
    failures = sum(score != 1.0 for score in scores)
    successes = min(KEPT_ROWS, len(scores) - failures)
    assert content.count("text: row") == min(MOST_ROWS, failures + successes)
    assert content.count("(score 1.00 of 1)") == successes


def test_long_values_are_cut() -> None:
    content = shown(brief(evidence=[seen(Example("long", {"text": "x" * 5000}), "y" * 5000, 0.0)]))
    assert content.count("x" * SHOWN) == 1
    assert "[… 3500 more characters]" in content
    assert len(content) < 2 * SHOWN + 400


@given(st.text(), st.text())
def test_templates_are_filled_in_one_pass(value: str, other: str) -> None:
    assert fill("<a>|<b>", {"a": value, "b": other}) == f"{value}|{other}"


@given(row=NASTY, reply=NASTY, feedback=NASTY)
def test_data_cannot_end_the_fence_it_stands_in_nor_be_read_as_a_template(row: str, reply: str, feedback: str) -> None:
    evidence = [seen(Example("e", {"text": row}, "wanted"), reply, 0.0, feedback)]
    for operator in (AddRules(), Contrast()):
        content = request(operator, brief("current {text}", evidence=evidence))
        begins = [line for line in content.split("\n") if line.startswith("=== ") and line.endswith(" begins ===")]
        assert len(begins) == 2
        for line in begins:
            assert content.count(line.replace("begins", "ends")) == 1
        assert content.count("current {text}") == 1


def test_an_output_of_several_fields_is_shown_by_name() -> None:
    output: Any = {"reasoning": "a sum", "answer": 7}
    content = request(FullRewrite(), brief(evidence=[seen(Example("e", {"text": "why"}), output, 0.0)]))
    assert "text: why\nReply:\nreasoning: a sum\nanswer: 7\n" in content


def test_contrast_shows_wanted_beside_given_grouped_by_confusion_most_frequent_first() -> None:
    confusions = [("b", "a"), ("c", "A "), ("c", "A "), ("c", "A ")]
    evidence = [
        seen(Example(f"e{i}", {"text": f"row {i}"}, wanted), reply, 0.0, f"say {wanted}")
        for i, (wanted, reply) in enumerate(confusions)
    ]
    content = request(Contrast(), brief(evidence=evidence))
    first, second = content.split("Wanted: ")[1:]
    assert first.startswith("c\nGiven: A \nInput that wants the first: row 1\nFeedback: say c\n")
    assert second.startswith("b\nGiven: a\nInput that wants the first: row 0\nFeedback: say b\n")
    assert "row 2" in first
    assert "row 3" not in first
    assert "\nLine: c, not A: …\n" in first


def test_contrast_compares_the_field_of_an_output_that_answers() -> None:
    row = Example("e", {"text": "why"}, "c", meta={"label": "c", "day": 3})
    output: Any = {"reasoning": "as I see it", "label": "a"}
    assert "\nLine: c, not a: …\n" in request(Contrast(), brief(evidence=[seen(row, output, 0.0)]))


def test_a_long_reply_does_not_name_a_line_to_complete() -> None:
    rows = [seen(Example("e", {"text": "why"}, "yes"), "no " * 50, 0.0), seen(Example("f", {}, "yes " * 50), "no", 0.0)]
    content = request(Contrast(), brief(evidence=rows))
    assert content.count("\nLine: ") == content.count("\nLine: yes: …\n") == 1


def test_contrast_shows_an_input_that_does_want_the_reply_that_was_given() -> None:
    evidence = [seen(TRAIN[i], "Label1", 0.0) for i in (0, 3)]
    content = request(Contrast(), brief(evidence=evidence))
    (other,) = re.findall(r"does want the second: where is my card (\d)", content)
    assert other in "147"
    assert "where is my card 0" in content
    assert "where is my card 3" not in content


def test_several_inputs_of_a_row_are_shown_by_name() -> None:
    row = Example("e", {"question": "why", "document": ["a", "b"]}, "yes")
    assert 'question: why; document: ["a", "b"]' in request(Contrast(), brief(evidence=[seen(row, "no", 0.0)]))
