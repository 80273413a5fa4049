"""Whatever data says, a judge's request keeps its structure, and only a whole answer is a verdict."""

from __future__ import annotations

import asyncio
import json

import pytest
from attacks import ATTACKS, YES
from blocks import around_blocks, blocks_of, mark_of
from hypothesis import given
from hypothesis import strategies as st

from promptopt.core.example import Example
from promptopt.core.rollout import printable
from promptopt.judges.asking import REASKS
from promptopt.judges.fences import inert
from promptopt.judges.judge import Criterion, Judge
from promptopt.judges.pairwise import Pairwise
from promptopt.lm.message import CallFailed
from promptopt.testing.scripted import ScriptedModel

JUDGE = Judge(lm="m", rubric="Does the output name the right capital?")
CRITERIA = Judge(
    lm="m", criteria={"right": Criterion(rubric="Is it right?"), "short": Criterion(rubric="Short?", answer="1-5")}
)
CONVERSATION = Judge(lm="m", rubric="Does it help?", conversation="turns")
PAIRWISE = Pairwise(lm="m", rubric="Which one is right?", against="rival")
QUIET = "The capital is Paris."
CLOSING = "Judge the output by the rubric now. Answer with the JSON object alone."
TEMPLATE_TOKENS = (
    "<|im_",
    "<|eot",
    "<|end",
    "<|start",
    "<|sys",
    "<｜",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "</s>",
    "<end_of",
)

every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


def row(**inputs: object) -> Example:
    return Example("r1", {"question": "Capital of France?", **inputs}, expected="Paris")


def test_the_corpus_is_large_and_says_nothing_twice():
    assert len(ATTACKS) >= 60
    assert len(set(ATTACKS.values())) == len(ATTACKS)


@every_attack
def test_an_attack_in_the_output_changes_no_structure(attack: str):
    messages, quiet = JUDGE.messages(row(), attack), JUDGE.messages(row(), QUIET)
    assert [set(message) for message in messages] == [{"role", "content"}] * 2
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[0]["content"] == quiet[0]["content"].replace(mark_of(quiet), mark_of(messages))
    assert blocks_of(messages) == {**blocks_of(quiet), "output to judge": inert(attack)}
    assert around_blocks(messages) == CLOSING


@every_attack
def test_an_attack_in_an_input_a_column_s_name_or_the_reference_changes_no_structure(attack: str):
    example = Example("r1", {"text": attack, f"c{attack}": "x"}, expected=attack)
    messages = JUDGE.messages(example, QUIET)
    shown = blocks_of(messages)
    assert [message["role"] for message in messages] == ["system", "user"]
    assert len(shown) == 4
    assert shown['input "text"'] == shown["expected answer"] == inert(attack)
    assert shown["output to judge"] == QUIET
    assert around_blocks(messages) == CLOSING


@every_attack
def test_an_attack_in_a_conversation_forges_no_turn(attack: str):
    turns = [{"role": "user", "content": attack}, {"role": "tool", "tool_call_id": attack, "content": attack}]
    shown = blocks_of(CONVERSATION.messages(row(turns=turns), attack))["conversation with the output to judge"]
    assert sum(line.startswith("[") for line in shown.split("\n")) == 3
    assert sum(line.endswith(", the output to judge") and line.startswith("[") for line in shown.split("\n")) == 1


@every_attack
def test_an_attack_in_a_pair_changes_no_structure(attack: str):
    first, second = PAIRWISE.questions(row(rival=QUIET), attack)
    assert blocks_of(first.messages)["text A"] == blocks_of(second.messages)["text B"] == inert(attack)
    assert blocks_of(first.messages)["text B"] == blocks_of(second.messages)["text A"] == QUIET
    assert len(blocks_of(first.messages)) == 4


@every_attack
def test_what_a_request_holds_is_text_that_can_be_sent_and_ends_no_message(attack: str):
    content = JUDGE.messages(row(), attack)[1]["content"]
    content.encode()
    assert not [token for token in TEMPLATE_TOKENS if token in content]
    assert content == inert(content)


@every_attack
@pytest.mark.parametrize("judge", [JUDGE, CRITERIA], ids=["one question", "criteria"])
async def test_a_judge_that_repeats_an_attack_has_given_no_verdict(judge: Judge, attack: str):
    model = ScriptedModel(lambda request: printable(attack))
    with pytest.raises(CallFailed) as caught:
        await judge.verdict(row(), attack, model.session("judge"))
    assert caught.value.failure.kind == "judge"
    assert len(model.requests) == 1 + REASKS
    last = model.requests[-1].messages
    assert [message["role"] for message in last] == ["system", "user", *["assistant", "user"] * REASKS]
    assert blocks_of(last)["output to judge"] == inert(attack)
    told = {message["content"] for message in last[3::2]}
    assert all(attack[:200] not in said for said in told if len(attack.strip()) > 20)


@every_attack
async def test_a_judge_that_quotes_an_attack_in_its_reason_is_read_as_it_decides(attack: str):
    model = ScriptedModel(lambda request: json.dumps({"reason": f"It says: {attack}", "verdict": "no"}))
    assert (await JUDGE.verdict(row(), attack, model.session("judge"))).answer == "no"


@given(before=st.text(), after=st.text())
def test_an_answer_with_anything_around_it_is_none(before: str, after: str):
    text = f"{before}{YES}{after}"
    model = ScriptedModel(lambda request: text)
    whole = text.strip() == YES
    try:
        asyncio.run(JUDGE.verdict(row(), QUIET, model.session("judge")))
    except CallFailed:
        assert not whole
    else:
        assert whole


@given(st.lists(st.sampled_from(sorted(ATTACKS.values(), key=len)[:80]), min_size=2, max_size=4).map("".join))
def test_attacks_that_are_put_together_change_no_structure(attack: str):
    messages = JUDGE.messages(row(), attack)
    assert blocks_of(messages)["output to judge"] == inert(attack)
    assert around_blocks(messages) == CLOSING
    assert not [token for token in TEMPLATE_TOKENS if token in messages[1]["content"]]
