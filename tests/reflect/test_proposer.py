"""Asking a bounded number of times, and counting what cannot be used."""

from __future__ import annotations

import json

import pytest
from briefs import TRAIN, brief, seen

from promptopt.core.edit import AddLines, Brief, Proposal, Rewrite, Together
from promptopt.core.rollout import Failure
from promptopt.core.search import Propose
from promptopt.errors import BudgetExhausted
from promptopt.lm.message import Reply
from promptopt.reflect.operator import Asked, Drawn
from promptopt.reflect.operators.rewrite import FullRewrite
from promptopt.reflect.proposer import OPERATORS, TRIES, Proposer
from promptopt.testing.scripted import Answer, ScriptedModel

RULES = json.dumps({"why": "x", "rules": ["be kind", "be brief"]})


async def propose(
    operator: str, answers: list[Answer], *briefs: Brief, template: str | None = None
) -> tuple[Proposal, ScriptedModel]:
    model = ScriptedModel(answers)
    proposer = Proposer(
        {operator: FullRewrite(template) if template else OPERATORS[operator][0]()},
        lambda *_: model.session("reflection"),
    )
    asked = briefs or (brief(evidence=[seen(TRAIN[0], "x", 0.0)]),)
    return await proposer.propose(Propose(operator, asked), 3), model


async def test_a_refused_answer_is_asked_again_a_bounded_number_of_times_and_counted() -> None:
    proposal, model = await propose("rewrite", ["no block", Reply("```\ncut", "length", 10, 5)])
    assert proposal.edit is None
    assert proposal.refused == {"no fenced block": 1, "cut off": 1}
    assert proposal.tokens > 15
    assert len(model.requests) == TRIES
    assert "Not usable" in model.requests[1].messages[-1]["content"]


async def test_a_refused_answer_is_shown_again_unless_it_was_cut_off() -> None:
    _, model = await propose("rewrite", [Reply("```\nfor ever and", "length", 10, 5), "no block"])
    assert "for ever and" not in str(model.requests[1].messages)
    _, model = await propose("rewrite", ["no block", "no block"])
    assert model.requests[1].messages[-2] == {"role": "assistant", "content": "no block"}


async def test_a_second_answer_that_can_be_used_is_taken() -> None:
    proposal, _ = await propose("rules", ["Certainly! Here are some rules.", RULES])
    assert proposal.edit == AddLines("system", ("- be kind", "- be brief"))
    assert proposal.refused == {"not JSON": 1}


async def test_what_several_briefs_bring_is_put_together() -> None:
    other = json.dumps({"rules": ["be quick"]})
    briefs = [brief(evidence=[seen(row, "x", 0.0)], step=step) for step, row in enumerate(TRAIN[:3])]
    proposal, model = await propose("rules", [other, "nothing", "nothing again", RULES], *briefs)
    assert proposal.edit == Together(
        (AddLines("system", ("- be quick",)), AddLines("system", ("- be kind", "- be brief")))
    )
    assert proposal.refused == {"not JSON": 2}
    assert len({request.digest for request in model.requests}) == 4


async def test_an_operator_without_a_model_draws_once_for_each_brief() -> None:
    proposal, model = await propose("demos", [], brief(step=1), brief(step=2))
    assert isinstance(proposal.edit, Together)
    assert len(proposal.edit.edits) == 2
    assert not model.requests


async def test_briefs_that_bring_the_same_count_once() -> None:
    failing = brief(evidence=[seen(TRAIN[0], "x", 0.0)])
    proposal, _ = await propose("rules", [RULES, RULES], failing, failing)
    assert proposal.edit == AddLines("system", ("- be kind", "- be brief"))


async def test_a_stop_is_raised() -> None:
    failing = brief(evidence=[seen(TRAIN[0], "x", 0.0)])
    with pytest.raises(BudgetExhausted):
        await propose("rules", [BudgetExhausted("usd"), RULES], failing, failing)


async def test_a_call_that_failed_is_not_made_again() -> None:
    proposal, model = await propose("rules", [Failure("timeout", "no answer within 60 s")])
    assert proposal.refused == {"call failed: timeout": 1}
    assert len(model.requests) == 1


@pytest.mark.parametrize(
    ("operator", "reason"),
    [
        ("rules", "nothing to mend"),
        ("contrast", "nothing to contrast"),
        ("shorten", "nothing to shorten"),
        ("remove", "nothing to remove"),
    ],
)
async def test_a_brief_that_leaves_nothing_to_propose_costs_no_call(operator: str, reason: str) -> None:
    proposal, model = await propose(operator, [], brief())
    assert proposal == Proposal(None, refused={reason: 1})
    assert not model.requests


async def test_an_operator_that_breaks_on_an_answer_refuses_it_and_stops_nothing() -> None:
    class Breaks(FullRewrite):
        def read(self, answer: str, brief: Brief) -> Rewrite:
            raise KeyError("rule")

    model = ScriptedModel(["once", "twice"])
    proposer = Proposer({"own": Breaks()}, lambda *_: model.session("reflection"))
    proposal = await proposer.propose(Propose("own", (brief(evidence=[seen(TRAIN[0], "x", 0.0)]),)), 3)
    assert proposal.edit is None
    assert proposal.refused == {"KeyError: 'rule'": 2}


async def test_a_template_replaces_the_rewrite_s_own_words() -> None:
    _, model = await propose("rewrite", ["```\nSay {text}.\n```"], template="Mend <curr_param> by <side_info>")
    assert model.requests[0].messages[0]["content"].startswith("Mend ===")


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_is_listed_under_its_name_with_what_is_believed_of_it(name: str) -> None:
    make, prior = OPERATORS[name]
    operator = make()
    assert 0 < prior.wins < prior.tries
    assert isinstance(operator, Asked if prior.asks else Drawn)


async def test_a_model_that_copies_the_sample_is_asked_again_without_it() -> None:
    copied = json.dumps({"rules": ["billing: it asks about something that was already bought"]})
    proposal, model = await propose("rules", [copied, RULES])
    assert proposal.edit == AddLines("system", ("- be kind", "- be brief"))
    assert proposal.refused == {"repeated the request": 1}
    first, second = (str(request.messages) for request in model.requests)
    assert "already bought" in first
    assert "already bought" not in second
    assert model.requests[1].schema == model.requests[0].schema
