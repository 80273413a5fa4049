from __future__ import annotations

import json
from dataclasses import replace

import pytest
from blocks import blocks_of
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout
from promptopt.judges.asking import REASKS
from promptopt.judges.pairwise import OUTCOMES, Pairwise
from promptopt.lm.gateway import Gateway
from promptopt.lm.message import CallFailed, Request, Scope
from promptopt.lm.session import Session
from promptopt.lm.settings import ModelSettings
from promptopt.metrics.preflight import check_rows
from promptopt.testing.books import MemoryBook
from promptopt.testing.faulty import FaultyServer, reply
from promptopt.testing.scripted import ScriptedModel

PAIRWISE = Pairwise(lm="m", rubric="Which answer is more polite?")
EXAMPLE = Example("r7", {"text": "Where is my card?", "old": "No idea."}, expected="It comes tomorrow, I am sorry.")
OUTPUT = "Please wait until tomorrow."


def pick(letter: str, reason: str = "Because.") -> str:
    return json.dumps({"reason": reason, "verdict": letter})


async def compared(*answers: str, judge: Pairwise = PAIRWISE, output: object = OUTPUT):
    return await judge.verdict(EXAMPLE, output, ScriptedModel(answers).session("judge"))


@pytest.mark.parametrize(
    ("shown_first", "shown_second", "answer", "value"),
    [
        ("A", "B", "win", 1.0),
        ("B", "A", "loss", 0.0),
        ("tie", "tie", "tie", 0.5),
        ("A", "A", "tie", 0.5),
        ("B", "B", "tie", 0.5),
        ("A", "tie", "tie", 0.5),
        ("tie", "A", "tie", 0.5),
    ],
)
async def test_it_asks_in_both_orders_and_disagreement_is_a_tie(shown_first, shown_second, answer, value):
    found = await compared(pick(shown_first), pick(shown_second))
    assert (found.answer, found.score.value) == (answer, value)
    assert OUTCOMES.score(found.answer) == value


async def test_both_texts_stand_once_in_each_place_under_letters_that_tell_nothing():
    first, second = (blocks_of(question.messages) for question in PAIRWISE.questions(EXAMPLE, OUTPUT))
    assert (first["text A"], first["text B"]) == (OUTPUT, EXAMPLE.expected)
    assert (second["text A"], second["text B"]) == (EXAMPLE.expected, OUTPUT)
    for shown in (first, second):
        assert list(shown) == ['input "text"', 'input "old"', "text A", "text B"]


async def test_the_other_text_can_be_a_column_which_is_then_shown_as_a_text_alone():
    judge = replace(PAIRWISE, against="old")
    first, _ = judge.questions(EXAMPLE, OUTPUT)
    shown = blocks_of(first.messages)
    assert list(shown) == ['input "text"', "expected answer", "text A", "text B"]
    assert shown["text B"] == "No idea."


async def test_turns_that_came_before_are_shown_with_each_text():
    example = Example("r1", {"turns": [{"role": "user", "content": "Hello?"}]}, expected="Yes?")
    first, _ = replace(PAIRWISE, conversation="turns").questions(example, "Hi!")
    shown = blocks_of(first.messages)
    assert list(shown) == ["text A", "text B"]
    assert "| Hello?" in shown["text A"]
    assert shown["text A"].endswith("| Hi!")
    assert shown["text B"].endswith("| Yes?")


async def test_the_feedback_says_what_it_came_to_and_why():
    won = await compared(pick("A", "A says please."), pick("B"))
    assert won.score.feedback == "Against the expected answer (B), the output (A) is a win: A says please."
    tied = await compared(pick("A", "A says please."), pick("A"))
    assert "is a tie: shown first it is a win, shown second a loss. Shown first: A says please." in tied.score.feedback


async def test_samples_are_asked_both_ways_each_and_their_mean_is_the_score():
    judge = replace(PAIRWISE, samples=3)
    found = await compared(pick("A"), pick("B"), pick("A"), pick("A"), pick("A"), pick("B"), judge=judge)
    assert found.orders == (("win", "win"), ("win", "loss"), ("win", "win"))
    assert found.answer == "win"
    assert found.score.value == pytest.approx(2.5 / 3)


async def test_equal_texts_are_a_tie_without_a_call():
    found = await compared(output=EXAMPLE.expected)
    assert (found.answer, found.score.value, found.orders) == ("tie", 0.5, (("tie", "tie"),))


async def test_no_output_scores_0_without_a_call():
    score = await PAIRWISE.score(EXAMPLE, Rollout("c", "r7"), ScriptedModel([]).session("judge"))
    assert score.value == 0.0


async def test_an_answer_that_cannot_be_used_is_missing_at_a_bounded_cost():
    model = ScriptedModel(lambda request: "A is better")
    with pytest.raises(CallFailed, match="gave no usable verdict"):
        await PAIRWISE.verdict(EXAMPLE, OUTPUT, model.session("judge"))
    assert len(model.requests) == 2 + REASKS == len(PAIRWISE.requests(EXAMPLE, OUTPUT))


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        (replace(PAIRWISE, against="new"), "row 'r9' has no column 'new'"),
        (PAIRWISE, "row 'r9' has no expected answer"),
        (replace(PAIRWISE, against="old"), "row 'r9' has nothing in column 'old' to compare with"),
    ],
)
async def test_a_row_without_the_other_text_is_found_before_anything_is_spent(judge: Pairwise, message: str):
    with pytest.raises(Exception, match=message):
        await check_rows(judge, [Example("r9", {"text": "t", "old": None})])


async def test_through_the_gateway_both_orders_are_in_flight_at_once():
    async with FaultyServer(reply(pick("A"), seconds=0.3)) as server:
        models = {"openai/sim": ModelSettings(api_base=server.base_url, timeout=5)}
        async with Gateway(models, MemoryBook()) as gateway:
            judge = replace(PAIRWISE, lm="openai/sim")
            found = await judge.verdict(EXAMPLE, OUTPUT, Session(gateway, Scope("judge", "r7"), ""))
    assert (found.answer, found.orders) == ("tie", (("win", "loss"),))
    assert server.max_in_flight == 2


def test_what_decides_an_answer_is_its_identity():
    others = [
        replace(PAIRWISE, against="old"),
        replace(PAIRWISE, rubric="Which is shorter?"),
        replace(PAIRWISE, lm="n"),
    ]
    assert len({judge.identity for judge in [PAIRWISE, *others]}) == 4
    assert replace(PAIRWISE, calibration="runs/judge").identity == PAIRWISE.identity
    assert not PAIRWISE.binary


def test_a_rubric_is_needed():
    with pytest.raises(ValidationError, match="rubric"):
        Pairwise(lm="m", rubric="")


@given(st.text(), st.text())
async def test_a_judge_without_position_bias_is_read_the_same_from_both_sides(output: str, other: str):
    def longer(request: Request) -> str:
        shown = blocks_of(request.messages)
        a, b = len(shown["text A"]), len(shown["text B"])
        return pick("A" if a > b else "B" if b > a else "tie")

    example, swapped = (Example("r", {}, expected=text) for text in (other, output))
    there = await PAIRWISE.verdict(example, output, ScriptedModel(longer).session("judge"))
    back = await PAIRWISE.verdict(swapped, other, ScriptedModel(longer).session("judge"))
    assert there.score.value + back.score.value == pytest.approx(1.0)
    assert all(first == second for first, second in there.orders)
