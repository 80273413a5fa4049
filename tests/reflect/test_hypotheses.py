"""Labelled hypotheses, as the reflection model states them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from briefs import TEXT, TRAIN, applied, brief, seen

from promptopt.core.edit import Hypothesis, Together
from promptopt.reflect.operator import Refused
from promptopt.reflect.operators.hypotheses import MOST, SAMPLES, StateHypotheses

WRONG = [seen(row, "lost", 0.0) for row in TRAIN[:4]]
OPERATOR = StateHypotheses()


def stated(**changes: Any) -> dict[str, Any]:
    return {
        "label": "verb before noun",
        "cause": "c",
        "passage": "",
        "rule": "the verb decides, never the noun",
    } | changes


def read(*hypotheses: Any, text: str = TEXT, rejected: dict[str, str] | None = None) -> Any:
    answer = json.dumps({"hypotheses": list(hypotheses)})
    return OPERATOR.read(answer, brief(text, evidence=WRONG, rejected=rejected))


def test_the_question_shows_what_went_wrong_and_binds_the_answer_to_a_schema() -> None:
    question = OPERATOR.ask(brief(evidence=WRONG, rejected={"haste in system: wait": "behind"}))
    content = question.messages[0]["content"]
    assert "where is my card 0" in content
    assert "haste in system: wait (behind)" in content
    assert question.schema is not None
    item = question.schema["properties"]["hypotheses"]["items"]
    assert set(item["required"]) == {"label", "cause", "passage", "rule"}


def test_where_nothing_went_wrong_nothing_is_asked() -> None:
    with pytest.raises(Refused, match="nothing to mend"):
        OPERATOR.ask(brief(evidence=[seen(TRAIN[0], "label0", 1.0)]))


def test_each_hypothesis_is_an_edit_of_its_own() -> None:
    edit = read(stated(), stated(label="short replies", rule="a reply has one word and no more"))
    assert isinstance(edit, Together)
    assert [one.label for one in edit.edits if isinstance(one, Hypothesis)] == ["verb before noun", "short replies"]
    first = edit.edits[0]
    assert applied(first, brief()) == f"{TEXT}\n- the verb decides, never the noun"
    assert first.note == "verb before noun in system: - the verb decides, never the noun"


def test_a_passage_that_misleads_is_taken_out() -> None:
    text = f"{TEXT}\nAnswer at once."
    assert applied(read(stated(passage="Answer at once."), text=text), brief(text)) == (
        f"{TEXT}\n- the verb decides, never the noun"
    )


@pytest.mark.parametrize("passage", ["what is not there", TEXT, "intent of {text}", None, "  "])
def test_a_passage_that_is_not_there_or_must_stay_stays(passage: str | None) -> None:
    assert applied(read(stated(passage=passage)), brief()).startswith(TEXT)


def test_a_label_that_was_refuted_is_left_out_however_it_is_put() -> None:
    refuted = {"verb before noun in system: - look at the verb": "behind by 0.20 after 8 rows"}
    edit = read(stated(label="Verb before  NOUN"), stated(label="short replies"), rejected=refuted)
    assert edit == Hypothesis("short replies", "system", "- the verb decides, never the noun")
    with pytest.raises(Refused, match="tried before"):
        read(stated(), rejected=refuted)


def test_a_label_of_another_component_says_nothing_of_this_one() -> None:
    assert read(stated(), rejected={"verb before noun in user: - look at the verb": "behind"})


def test_at_most_three_are_taken() -> None:
    many = [stated(label=f"label {i}", rule=f"a rule about thing {i}") for i in range(9)]
    assert len(read(*many).edits) == MOST


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("no idea", "not JSON"),
        ("{}", "no hypotheses"),
        ('{"hypotheses": []}', "no hypotheses"),
        ('{"hypotheses": ["it is all wrong"]}', "no label"),
        (json.dumps({"hypotheses": [stated(label="x" * 60)]}), "no label"),
        (json.dumps({"hypotheses": [stated(rule="")]}), "no rules"),
        (json.dumps({"hypotheses": [stated(rule="r" * 300)]}), "too long"),
        (json.dumps({"hypotheses": [stated(rule="it is about {text} here")]}), "unknown placeholder"),
        (
            json.dumps({"hypotheses": [stated(rule="billing: it asks about something that was already bought")]}),
            "repeated the request",
        ),
    ],
)
def test_what_cannot_be_checked_is_refused(answer: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        OPERATOR.read(answer, brief(evidence=WRONG))


def test_the_example_in_the_request_is_readable_by_its_own_rules() -> None:
    for sample in SAMPLES:
        assert json.loads(sample.answer)["hypotheses"][0].keys() == {"label", "cause", "passage", "rule"}
