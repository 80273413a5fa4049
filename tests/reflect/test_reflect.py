"""What the reflection model is shown, and the strict reading of what it answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptopt.core.candidate import Candidate, Component
from promptopt.core.edit import AddLines, Brief, Evidence, Rewrite, SetDemos
from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.core.search import Propose
from promptopt.lm.message import Reply
from promptopt.reflect.operator import Refused
from promptopt.reflect.operators.demos import LabelledDemos
from promptopt.reflect.operators.rewrite import FullRewrite
from promptopt.reflect.operators.rules import AddRules
from promptopt.reflect.operators.tips import TIPS, AddTip
from promptopt.reflect.proposer import Proposer
from promptopt.reflect.showing import fill, messages
from promptopt.testing.scripted import ScriptedModel

TEXT = "Name the intent of {text}."
SAYING = "one two three four five six seven eight nine ten eleven"


def brief(text: str = TEXT, *, row: str = "where is my card", feedback: str = "wanted card_arrival",
          rejected: tuple[str, ...] = (), max_bytes: int = 4000) -> Brief:  # fmt: skip
    train = tuple(Example(f"r{i}", {"text": f"{row} {i}"}, f"label{i % 3}") for i in range(9))
    rollout = Rollout("c", "r0", output="hello", score=Score(0.0, feedback, {"form": 0.5}))
    component = Component("system", text, "system prompt", ("text",) if "{text}" in text else ())
    return Brief(Candidate({"system": text}), component, (Evidence(train[0], rollout),), train, ("prompt",), 6,
                 max_bytes, rejected, (0, 1))  # fmt: skip


def test_the_request_shows_text_row_reply_feedback_sub_scores_and_rejected_edits() -> None:
    shown = messages("<curr_param> <side_info> <rejected> <placeholders>", brief(rejected=("add to system: be nice",)))
    content = shown[0]["content"]
    for part in (TEXT, "where is my card 0", "hello", "wanted card_arrival", "form 0.50", "be nice", "{text}"):
        assert part in content


@given(st.text(), st.text())
def test_templates_are_filled_in_one_pass(value: str, other: str) -> None:
    assert fill("<a>|<b>", {"a": value, "b": other}) == f"{value}|{other}"


@given(st.text(alphabet="abc=<> \n`{}", max_size=80))
def test_a_row_cannot_end_the_fence_it_stands_in(row: str) -> None:
    content = messages("<side_info>", brief(row=row))[0]["content"]
    begins = [line for line in content.splitlines() if line.startswith("=== ") and line.endswith(" begins ===")]
    assert len(begins) == 1
    assert content.endswith(begins[0].replace("begins", "ends"))


def test_a_rewrite_is_read_from_the_one_fenced_block_only() -> None:
    answer = "Certainly! Here it is:\n```text\nSay the intent of {text}.\n```\nHope it helps"
    assert FullRewrite().read(answer, brief()) == Rewrite("system", "Say the intent of {text}.")


def test_the_marks_around_the_current_text_do_not_come_back_in_the_new_one() -> None:
    answer = "```\n=== 0123abcd begins ===\nSay the intent of {text}.\n=== 0123abcd ends ===\n```"
    assert FullRewrite().read(answer, brief()) == Rewrite("system", "Say the intent of {text}.")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Certainly! Say the intent of {text}.", "no fenced block"),
        ("```\na {text}\n```\n```\nb {text}\n```", "several fenced blocks"),
        ("```\n\n```", "empty text"),
        (f"```\n{TEXT}\n```", "unchanged"),
        ("```\nSay the intent.\n```", "lost placeholder"),
        ("```\n{text} " + "long " * 900 + "\n```", "too long"),
        (f"```\n{{text}} is like {SAYING}\n```", "copied a row"),
    ],
)
def test_an_answer_that_cannot_stand_is_refused_by_its_reason(answer: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        FullRewrite().read(answer, brief(row=SAYING))
    assert refused.value.reason == reason


def test_feedback_may_be_copied() -> None:
    answer = f"```\n{{text}}: {SAYING}\n```"
    assert isinstance(FullRewrite().read(answer, brief(row=SAYING, feedback=f"note: {SAYING}")), Rewrite)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Sure! rules: be nice", "not JSON"),
        ('{"why": "x", "rules": []}', "no rules"),
        ('{"why": "x", "rules": [3]}', "no rules"),
        ('{"why": "x", "rules": ["use {label}"]}', "unknown placeholder"),
        ('{"why": "x", "rules": ["' + "a" * 300 + '"]}', "too long"),
        ('{"rules": ["- be nice"]}', "unchanged"),
    ],
)
def test_rules_that_cannot_stand_are_refused_by_their_reason(answer: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        AddRules().read(answer, brief("Name {text}.\n- be nice"))
    assert refused.value.reason == reason


def test_rules_become_lines_and_at_most_three_of_them() -> None:
    edit = AddRules().read('{"why": "x", "rules": ["a rule", "- b rule", "c\\nrule", "d rule"]}', brief())
    assert edit == AddLines("system", ("- a rule", "- b rule", "- c rule"))
    assert edit.apply(Candidate({"system": TEXT})).components["system"] == f"{TEXT}\n- a rule\n- b rule\n- c rule"


def test_tips_are_drawn_until_none_is_left() -> None:
    rejected: list[str] = []
    for _ in TIPS:
        edit = AddTip().draw(brief(rejected=tuple(rejected)))
        rejected.append(edit.note)
    assert len(set(rejected)) == len(TIPS)
    with pytest.raises(Refused):
        AddTip().draw(brief(rejected=tuple(rejected)))


def test_demos_show_every_label_when_they_can() -> None:
    edit = LabelledDemos().draw(brief())
    assert isinstance(edit, SetDemos)
    assert {demo.output for demo in edit.demos} == {"label0", "label1", "label2"}
    assert LabelledDemos().draw(brief()) == edit


async def test_a_refused_answer_is_asked_again_a_bounded_number_of_times_and_counted() -> None:
    model = ScriptedModel(["no block", Reply("```\ncut", "length", 10, 5)])
    proposer = Proposer(("rewrite",), lambda key, step: model.session("reflection"), None)
    proposal = await proposer.propose(Propose("rewrite", brief()), 3)
    assert proposal.edit is None
    assert proposal.refused == {"no fenced block": 1, "cut off": 1}
    assert proposal.tokens > 0
    assert "Not usable" in model.requests[1].messages[-1]["content"]
