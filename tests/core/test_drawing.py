"""Which operator proposes next."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from driving import RULES, SCAN, TIPS, Drive, World, reflective, score, search_of

from promptopt.core.edit import AddLines, Proposal
from promptopt.core.search import Propose
from promptopt.core.state import Tally
from promptopt.core.strategies.drawing import draw


def shares(**tallies: Tally) -> Counter[str]:
    """How often each operator is drawn in 400 draws."""
    return Counter(draw([RULES, SCAN, TIPS], tallies, Random(seed)).name for seed in range(400))


def test_before_anything_is_known_the_priors_decide_and_everyone_gets_a_turn() -> None:
    assert min(shares()[name] for name in ("rules", "scan", "tips")) > 80


def test_an_operator_that_wins_is_drawn_more_often_and_one_that_never_does_less() -> None:
    found = shares(rules=Tally(6, 4, 0.6, 6000), scan=Tally(6, 0, 0.0, 6000), tips=Tally(6, 1, 0.1, 6000))
    assert found["rules"] > 2 * found["tips"] > 2 * found["scan"]


def test_of_two_that_gain_as_much_the_cheaper_is_drawn_more_often() -> None:
    found = shares(rules=Tally(8, 3, 0.3, 4000), scan=Tally(8, 3, 0.3, 40_000), tips=Tally(8, 3, 0.3, 40_000))
    assert found["rules"] > found["scan"] + found["tips"]


@pytest.mark.parametrize("seed", range(6))
def test_an_operator_that_has_run_dry_leaves_the_turn_to_the_others(seed: int) -> None:
    """Tips win at first and are then refused at no cost; rules are dearer and go on helping."""

    def dry_soon(request: Propose) -> Proposal:
        brief = request.briefs[0]
        if request.operator == "rules":
            wrong = [str(row.example.inputs["lesson"]) for row in brief.evidence if row.rollout.value == 0.0]
            return Proposal(AddLines("p", tuple(wrong[:1])), tokens=4000)
        if brief.seed[1] > 4:
            return Proposal(None, refused={"no tip left": 1})
        return Proposal(AddLines("p", (f"lesson {brief.seed[1]}.",)))

    search = search_of(reflective(operators=(RULES, TIPS), seed=seed), pipeline=2, cap=900)
    drive = Drive(search, World(score, dry_soon))
    drive.play(Random(0))
    state = drive.search.state
    assert state.mean(state.incumbent) >= 0.85, drive.search.stop_reason
