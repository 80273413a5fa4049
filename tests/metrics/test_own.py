"""The score that a program gives itself."""

from __future__ import annotations

from typing import cast

import pytest

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.lm.session import Session
from promptopt.metrics.build import as_metric
from promptopt.metrics.own import Own
from promptopt.metrics.weighted import Part, Weighted

ROW = Example("r", {"text": "x"}, "y")
NO_MODEL = cast(Session, None)
SCORED = Rollout("c", "r", output="z", own=Score(0.25, "half of it", {"form": 0.5}, {"find": "look closer"}))


async def test_the_program_s_own_score_is_taken_over_whole() -> None:
    metric = as_metric("own")
    assert await metric.score(ROW, SCORED, NO_MODEL) == SCORED.own
    assert metric == Own()


async def test_a_program_that_says_nothing_of_itself_cannot_be_scored_so() -> None:
    with pytest.raises(ValueError, match="the program gives itself no score; choose another metric than own"):
        await Own().score(ROW, Rollout("c", "r", output="z"), NO_MODEL)


async def test_among_other_metrics_what_it_says_to_one_component_stays_with_it() -> None:
    both = Weighted({"own": Part(Own()), "exact": Part(as_metric("exact_match"), 3)})
    score = await both.score(ROW, SCORED, NO_MODEL)
    assert score.value == pytest.approx(0.0625)
    assert score.feedback_for == {"find": "own (0.25): look closer"}
    assert score.parts["own.form"] == 0.5


def test_it_is_kept_with_the_rollout() -> None:
    assert Rollout.from_json(SCORED.to_json()) == SCORED
    assert Rollout.from_json(Rollout("c", "r").to_json()).own is None
