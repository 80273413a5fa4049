"""Rules and contrast: short lines to add, together and one by one."""

from __future__ import annotations

import json

import pytest
from briefs import TEXT, TRAIN, applied, brief, seen
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import validate

from promptopt.core.edit import AddLines
from promptopt.core.example import Example
from promptopt.reflect.added_lines import LONGEST_LINE
from promptopt.reflect.operator import Refused
from promptopt.reflect.operators.contrast import MOST_CONFUSIONS, Contrast
from promptopt.reflect.operators.rules import MOST_RULES, AddRules

PARCEL = Example("p1", {"text": "Parcel Q00012 holds 4000 lamps"}, "north")
PARCELS = (PARCEL, Example("p2", {"text": "Parcel Q00013 holds 4000 lenses"}, "south"))


def answer(*rules: object) -> str:
    return json.dumps({"rules": [about(rule) for rule in rules]})


def about(rule: object) -> object:
    return {"number": 1, "reply": "x", "wanted": "label0", "rule": rule} if isinstance(rule, str) else rule


def lines(*texts: str) -> AddLines:
    return AddLines("system", texts)


def test_rules_become_lines_and_at_most_three_of_them() -> None:
    edit = AddRules().read(answer("be kind", "- be bold", "be\nquick", "be kind", "be last"), brief())
    assert edit == lines("- be kind", "- be bold", "- be quick")
    assert applied(edit, brief()) == f"{TEXT}\n- be kind\n- be bold\n- be quick"


def test_a_rule_may_come_as_a_plain_text() -> None:
    assert AddRules().read('{"why": "x", "rules": ["be kind"]}', brief()) == lines("- be kind")


REJECTED = {AddLines("system", ("- be bold",)).note: "mends none of 6 rows"}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Sure! rules: be nice", "not JSON"),
        ("Certainly!\n" + answer("be kind"), "not JSON"),
        ('["be kind"]', "not JSON"),
        (answer("be kind")[:-3], "not JSON"),
        (answer(), "no rules"),
        (answer(3), "no rules"),
        (answer("  "), "no rules"),
        (answer({"number": 1}), "no rules"),
        ('{"why": "x", "rules": "be kind"}', "no rules"),
        (answer("use {label}"), "unknown placeholder"),
        (answer("a" * (LONGEST_LINE + 1)), "too long"),
        (answer("be nice"), "unchanged"),
        (answer("LABEL0"), "broke off"),
        (answer("to check a card, take these steps: 1. **"), "broke off"),
        (answer("be bold"), "tried before"),
        (answer("billing: it asks about something that was already bought"), "repeated the request"),
        (answer("card: it asks about something that was already sent"), "repeated the request"),
        (answer("Sales are closed at night"), "repeated the request"),
        (answer("The example shows only the form of an answer; give the number"), "repeated the request"),
        (answer("be brave (mends none of 6 rows)"), "repeated the request"),
        (answer("be brave / - be bold"), "repeated the request"),
    ],
)
def test_rules_that_cannot_stand_are_refused_by_their_reason(said: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        AddRules().read(said, brief("Name {text}.\n- be nice", rejected=REJECTED))
    assert refused.value.reason == reason


def test_a_word_of_the_sample_may_stand_in_a_rule_where_the_rows_have_it_too() -> None:
    rows = tuple(Example(f"s{i}", {"text": "about sales"}, "north") for i in range(2))
    assert AddRules().read(answer("Sales go north."), brief(train=rows)) == lines("- Sales go north.")


def test_a_program_that_does_not_choose_among_answers_is_shown_another_sample() -> None:
    sums = tuple(Example(f"s{i}", {"text": f"{i} and {i}?"}, 2 * i) for i in range(4))
    for train, shown in ((TRAIN, "sorts mail"), (sums, "how long a journey takes")):
        asked = AddRules().ask(brief(train=train, evidence=[seen(train[0], "7", 0.0)]))
        assert shown in str(asked.messages[0]["content"])
    with pytest.raises(Refused, match="repeated the request"):
        AddRules().read(answer("Write down the legs of it first"), brief(train=sums))


def test_of_rules_that_were_rejected_together_one_is_still_tried_alone() -> None:
    rejected = {lines("- be kind", "- be bold").note: "-0.1"}
    said = answer("be kind", "be bold")
    assert AddRules().read(said, brief(rejected=rejected)) == lines("- be kind")
    rejected[lines("- be kind").note] = "-0.2"
    assert AddRules().read(said, brief(rejected=rejected)) == lines("- be bold")


def test_a_rule_that_names_one_row_is_memorised_not_learnt() -> None:
    given_brief = brief(evidence=[seen(PARCEL, "south", 0.0)], train=PARCELS)
    edit = AddRules().read(answer("Parcel Q00012 takes lane north.", "Lamps go north."), given_brief)
    assert edit == lines("- Lamps go north.")
    for parcel in ("q00012", "Q00013"):
        with pytest.raises(Refused, match="copied a row"):
            AddRules().read(answer(f"Parcel {parcel} takes lane north."), given_brief)


def test_a_number_that_other_rows_or_the_text_hold_too_names_no_row() -> None:
    given_brief = brief("Q00012 is special. {text}", evidence=[seen(PARCEL, "south", 0.0)], train=PARCELS)
    rules = ("Take care of 4000 and more.", "Q00012 is very special.", "After 2030 all goes north.")
    assert AddRules().read(answer(*rules), given_brief) == lines(*(f"- {rule}" for rule in rules))


def test_a_rule_with_a_long_copy_of_a_row_is_left_out() -> None:
    saying = "one two three four five six seven eight nine ten"
    given_brief = brief(evidence=[seen(Example("r", {"text": saying}), "x", 0.0)])
    assert AddRules().read(answer(f"say {saying}", "be kind"), given_brief) == lines("- be kind")
    with pytest.raises(Refused, match="copied a row"):
        AddRules().read(answer(f"say {saying}"), given_brief)


def test_a_rule_with_a_whole_input_is_left_out_unless_it_is_a_few_words() -> None:
    inputs = ("how long does my transfer take", "why is that")
    given_brief = brief(evidence=[seen(Example(text, {"text": text}), "x", 0.0) for text in inputs])
    said = answer("timing: How long does my transfer take?", "status: Why is that?")
    assert AddRules().read(said, given_brief) == lines("- status: Why is that?")


def test_a_rule_may_show_json() -> None:
    assert AddRules().read(answer('Reply with {"label": 1}.'), brief()) == lines('- Reply with {"label": 1}.')


@given(st.lists(st.text(min_size=8, max_size=LONGEST_LINE), min_size=1, max_size=MOST_RULES))
def test_whatever_fits_the_schema_becomes_bullets_of_one_line_or_is_refused(rules: list[str]) -> None:
    question = AddRules().ask(brief(evidence=[seen(TRAIN[0], "x", 0.0)]))
    assert question.schema is not None
    validate(json.loads(answer(*rules)), dict(question.schema))
    try:
        edit = AddRules().read(answer(*rules), brief())
    except Refused:
        return
    new = applied(edit, brief()).removeprefix(TEXT).split("\n")[1:]
    assert 1 <= len(new) <= MOST_RULES
    assert all(line.startswith("- ") for line in new)


def test_contrast_reads_one_line_for_each_confusion() -> None:
    said = [f"line number {i}" for i in range(MOST_CONFUSIONS + 2)]
    assert Contrast().read(answer(*said), brief()) == lines(*(f"- {line}" for line in said[:MOST_CONFUSIONS]))


def test_there_is_nothing_to_contrast_without_a_failure_that_has_a_wanted_and_a_given_reply() -> None:
    unlabelled = seen(Example("u", {"text": "x"}), "reply", 0.0)
    with pytest.raises(Refused, match="nothing to contrast"):
        Contrast().ask(brief(evidence=[unlabelled, seen(TRAIN[0], "label0", 1.0), seen(TRAIN[1], None, None)]))
