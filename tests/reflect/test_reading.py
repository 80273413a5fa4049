"""The strict reading of rewrites: only a whole, plain instruction becomes a component's text."""

from __future__ import annotations

import contextlib
import re
import time

import pytest
from briefs import TEXT, TRAIN, applied, brief, seen
from hypothesis import given
from hypothesis import strategies as st

from promptopt.core.edit import Rewrite
from promptopt.core.example import Example
from promptopt.reflect.operator import Refused
from promptopt.reflect.operators.rewrite import FullRewrite
from promptopt.reflect.operators.shorten import Shorten
from promptopt.reflect.reading import bare, fenced_block, json_object

SAYING = "one two three four five six seven eight nine ten eleven"
LONG = (
    "Read the message in {text} with care. After that, and only after that, name the one intent that it has, "
    "which is card_arrival or top_up."
)
ROWS = [Example(answer, {"text": "x"}, answer) for answer in ("card_arrival", "top_up", "unheard_of")]


def rewritten(answer: str, **changes: object) -> str:
    given_brief = brief(**changes)  # type: ignore[arg-type]
    return applied(FullRewrite().read(answer, given_brief), given_brief)


def reason(answer: str, **changes: object) -> str:
    with pytest.raises(Refused) as refused:
        rewritten(answer, **changes)
    return refused.value.reason


def fence(text: str) -> str:
    return f"```\n{text}\n```"


def test_a_rewrite_is_read_from_the_one_fenced_block_only() -> None:
    answer = "Certainly! Here it is:\n```text\nSay the intent of {text}.\n```\nHope it helps"
    assert FullRewrite().read(answer, brief()) == Rewrite("system", "Say the intent of {text}.", TEXT)


@given(st.text(alphabet="ab{} \n*-#", min_size=1).map(str.strip).filter(bool))
def test_what_stands_in_the_block_is_taken_as_it_is(text: str) -> None:
    assert fenced_block(f"Thinking aloud.\n{fence(text)}\nDone.") == text


def test_the_marks_around_the_current_text_do_not_come_back_in_the_new_one() -> None:
    answer = "```\n=== 0123abcd begins ===\nSay the intent of {text}.\n=== 0123abcd ends ===\n```"
    assert rewritten(answer) == "Say the intent of {text}."


def test_a_text_with_fences_of_its_own_reaches_from_the_first_fence_to_the_last() -> None:
    current = "Answer {text} like\n```\nyes\n```\nalways"
    new = "Reply to {text} like\n```\nyes\n```\nevery time"
    assert rewritten(fence(new), text=current) == new


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("Certainly! Say the intent of {text}.", "no fenced block"),
        ("```\na {text}\n```\n```\nb {text}\n```", "several fenced blocks"),
        ("```\n\n```", "empty text"),
        (fence(TEXT), "unchanged"),
        (fence("Say the intent."), "lost placeholder"),
        (fence("{text} " + "long " * 900), "too long"),
        (fence(f"{{text}} is like {SAYING}"), "copied a row"),
        (fence("Certainly! Here is the new instruction: say the intent of {text}."), "small talk"),
        (fence("Sure, name the intent of {text}."), "small talk"),
        (fence("Here's the improved prompt:\n\nName the intent of {text}."), "small talk"),
        (fence("I'm sorry to hear that your card {text} is late."), "small talk"),
        (fence("Name the intent of {text}.\n\nFeel free to ask me more."), "small talk"),
        (fence("{text}\nPlease provide a query, and I will classify it."), "small talk"),
        (fence("Name it: {text}\nExample 1 (score 0.00 of 1)\nReply: x"), "copied a row"),
        (fence("Name it: {text}\nIf you have any further questions, let me know."), "small talk"),
        (fence("Name the intent of {text} (behind by 0.50 after 8 rows)."), "repeated the request"),
        (fence("{text}: say exactly what form a reply must have"), "repeated the request"),
        (fence("label0"), "answered an example"),
        (fence("1. label0\n2. top_up"), "answered an example"),
    ],
)
def test_an_answer_that_cannot_stand_is_refused_by_its_reason(answer: str, why: str) -> None:
    row = Example("r0", {"text": SAYING}, "label0")
    rejected = {"rewrite system: Name it.": "behind by 0.50 after 8 rows"}
    assert reason(answer, evidence=[seen(row, "Top_up.", 0.0)], rejected=rejected) == why


@pytest.mark.parametrize(
    "text",
    [
        "Here is a message: {text}. Name its intent.",
        "This is a new customer's message: {text}. Name its intent.",
        "Surely {text} has an intent.",
        "{text}\nPlease provide the intent only.\nSay thank you for nothing.",
    ],
)
def test_an_instruction_is_not_taken_for_small_talk(text: str) -> None:
    assert rewritten(fence(text)) == text


def test_a_text_that_began_like_small_talk_may_go_on_so() -> None:
    new = "Sure, {text} is what you read.\nName its intent."
    assert rewritten(fence(new), text="Sure, {text} is what you read.\nName the intent.") == new


def test_feedback_may_be_copied() -> None:
    row = seen(Example("r0", {"text": SAYING}), "x", 0.0, f"note: {SAYING}")
    assert rewritten(fence(f"{{text}}: {SAYING}"), evidence=[row]) == f"{{text}}: {SAYING}"


def test_lines_that_name_one_row_are_left_out_of_a_rewrite() -> None:
    row = Example("r0", {"text": "parcel Q00012 holds ink"}, "north")
    new = "Name the lane of {text}.\nParcel Q00012 takes lane north.\nInk goes north."
    assert rewritten(fence(new), evidence=[seen(row, "south", 0.0)]) == "Name the lane of {text}.\nInk goes north."
    assert reason(fence("{text}: Q00012 takes lane north"), evidence=[seen(row, "south", 0.0)]) == "copied a row"


def test_a_shorter_text_is_taken_when_it_saves_a_tenth() -> None:
    short = "Name the intent of {text}: Card_arrival or top_up."
    assert applied(Shorten().read(fence(short), brief(LONG, train=ROWS)), brief(LONG)) == short


def test_an_echo_as_json_is_no_instruction_unless_the_text_was_json_before() -> None:
    echo = '[{"instruction": "Name the intent of {text}.", "feedback": "Wanted a."}]'
    assert reason(fence(echo)) == "data in place of a text"
    assert rewritten(fence(echo), text='{"task": "{text}"}') == echo


@pytest.mark.parametrize("told", ["{text} / - be brief", "{text} mends none of 6 rows"])
def test_how_an_earlier_edit_was_told_is_no_text_unless_it_stood_there_before(told: str) -> None:
    rejected = {"Be brief.": "mends none of 6 rows"}
    assert reason(fence(told), rejected=rejected) == "repeated the request"
    new = f"{told}\nAnswer in one word."
    assert rewritten(fence(new), text=told, rejected=rejected) == new


@given(st.text("ab 1.)-*_\n"))
def test_an_answer_is_bared_of_numbering_and_wrapping(answer: str) -> None:
    assert bare(answer) == re.sub(r"^\W*(\d+[.):]\s*)?|\W+$", "", answer).casefold()


@pytest.mark.parametrize("line", ["x" + "-" * 3900 + "a", "`" * 3900, " " * 3900 + "b", "1." * 1900, "Q1234 " * 650])
def test_long_odd_lines_are_read_at_once(line: str) -> None:
    began = time.process_time()
    with contextlib.suppress(Refused):
        rewritten(fence(f"{{text}}\n{line}"), evidence=[seen(TRAIN[0], line, 0.0)])
    assert time.process_time() - began < 0.5


def test_a_text_far_beyond_the_limit_is_refused_before_it_is_read() -> None:
    began = time.process_time()
    assert reason(fence("some words about {text} " * 100_000)) == "too long"
    assert time.process_time() - began < 1


@pytest.mark.parametrize("answer", ["[" * 200_000, '{"a":' * 5000])
def test_json_that_is_too_deep_is_no_json(answer: str) -> None:
    with pytest.raises(Refused) as refused:
        json_object(answer)
    assert refused.value.reason == "not JSON"


@pytest.mark.parametrize("before", ["", "Here are the rules:\n\n", "<think>\nA fence:\n```\n{}\n```\n</think>\n"])
@pytest.mark.parametrize("after", ["", "\n\nI hope that helps."])
def test_json_may_stand_in_one_fenced_block_wherever_it_is(before: str, after: str) -> None:
    assert json_object(f'{before}```json\n{{"rules": ["Be brief."]}}\n```{after}') == {"rules": ["Be brief."]}


def test_thoughts_before_an_answer_are_no_part_of_it() -> None:
    assert json_object('<think>Which?</think>{"rules": []}') == {"rules": []}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (LONG.replace("with care", "well"), "not shorter"),
        ("Read {text} with care. Name its intent, card_arrival.", "lost an answer"),
    ],
)
def test_a_text_that_is_not_the_same_in_fewer_words_is_refused(text: str, why: str) -> None:
    with pytest.raises(Refused) as refused:
        Shorten().read(fence(text), brief(LONG, train=ROWS))
    assert refused.value.reason == why


def test_a_text_of_a_few_words_is_not_shortened() -> None:
    with pytest.raises(Refused, match="nothing to shorten"):
        Shorten().ask(brief(evidence=[seen(TRAIN[0], "x", 0.0)]))
