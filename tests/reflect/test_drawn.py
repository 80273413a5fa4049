"""Operators that need no model: tips and the removal of lines."""

from __future__ import annotations

import pytest
from briefs import TEXT, TRAIN, applied, brief
from hypothesis import given
from hypothesis import strategies as st

from promptopt.core.edit import RemoveText
from promptopt.core.example import Example
from promptopt.reflect.operator import Refused
from promptopt.reflect.operators.remove import RemoveLine
from promptopt.reflect.operators.tips import ANSWERING, CALCULATING, CHOOSING, WRITING, AddTip

LINES = "Name the intent of {text}.\n\n- be kind\n- be brief\n- be right"


SUMS = tuple(Example(f"r{i}", {"text": f"{i} and {i}?"}, 2 * i) for i in range(9))
NAMES = tuple(Example(f"r{i}", {"text": f"who is {i}?"}, f"person {i}") for i in range(9))
LETTERS = tuple(Example(f"r{i}", {"text": f"write to {i}"}) for i in range(9))
KINDS = pytest.mark.parametrize(
    ("train", "tips"),
    [(TRAIN, CHOOSING), (SUMS, CALCULATING), (NAMES, ANSWERING), (LETTERS, WRITING)],
    ids=["labels", "sums", "names", "letters"],
)


@KINDS
def test_the_tips_of_a_kind_of_program_are_drawn_until_none_is_left(
    train: tuple[Example, ...], tips: tuple[str, ...]
) -> None:
    rejected: dict[str, str] = {}
    for _ in tips:
        rejected[AddTip().draw(brief(train=train, rejected=rejected)).note] = "-0.1 on val"
    assert len(rejected) == len(tips)
    with pytest.raises(Refused, match="no tip left"):
        AddTip().draw(brief(train=train, rejected=rejected))


@KINDS
def test_a_tip_that_the_text_has_is_not_drawn(train: tuple[Example, ...], tips: tuple[str, ...]) -> None:
    with pytest.raises(Refused, match="no tip left"):
        AddTip().draw(brief("\n".join(tips), train=train))


def test_lines_are_removed_until_only_the_one_with_the_placeholder_is_left() -> None:
    text = LINES
    for _ in range(3):
        given_brief = brief(text)
        text = applied(RemoveLine().draw(given_brief), given_brief)
    assert text == "Name the intent of {text}."
    with pytest.raises(Refused, match="nothing to remove"):
        RemoveLine().draw(brief(text))


def test_what_the_user_wrote_is_not_removed() -> None:
    for step in range(20):
        assert RemoveLine().draw(brief(LINES, original=f"{TEXT}\n- be kind\n- be right", step=step)) == (
            RemoveText("system", "- be brief")
        )
    with pytest.raises(Refused, match="nothing to remove"):
        RemoveLine().draw(brief(LINES, original=LINES))


def test_what_was_rejected_is_not_removed_again() -> None:
    rejected: dict[str, str] = {}
    for _ in range(3):
        rejected[RemoveLine().draw(brief(LINES, rejected=rejected)).note] = "-0.1 on val"
    assert len(rejected) == 3
    with pytest.raises(Refused, match="nothing to remove"):
        RemoveLine().draw(brief(LINES, rejected=rejected))


def test_later_lines_are_removed_more_often() -> None:
    drawn = [RemoveLine().draw(brief(LINES, step=step)) for step in range(200)]
    counts = [drawn.count(RemoveText("system", line)) for line in ("- be kind", "- be brief", "- be right")]
    assert 0 < counts[0] < counts[1] < counts[2]


def test_a_text_of_one_line_loses_a_sentence() -> None:
    given_brief = brief("Name the intent of {text}. Be kind at 3.5 stars! Be brief")
    left = {applied(RemoveLine().draw(brief(given_brief.component.text, step=step)), given_brief) for step in range(30)}
    assert left == {
        "Name the intent of {text}. Be kind at 3.5 stars!",
        "Name the intent of {text}. Be brief",
    }


def test_a_line_that_stands_inside_an_earlier_one_is_left_alone() -> None:
    text = "Only: label\nlabel"
    for step in range(20):
        assert applied(RemoveLine().draw(brief(text, step=step)), brief(text)) == "label"


@given(st.lists(st.text(alphabet="ab .{}x", max_size=12), max_size=6), st.integers(0, 50))
def test_removing_takes_out_exactly_one_line_and_never_a_placeholder(lines: list[str], step: int) -> None:
    text = "\n".join([*lines, "keep {x}"])
    try:
        edit = RemoveLine().draw(brief(text, step=step))
    except Refused:
        return
    before = [line for line in text.split("\n") if line.strip()]
    after = [line for line in applied(edit, brief(text)).split("\n") if line.strip()]
    assert applied(edit, brief(text)) != text
    assert "{x}" in applied(edit, brief(text))
    if len(before) > 1:
        assert len(after) == len(before) - 1
