"""Votes, thresholds and the claim that a cascade holds: chosen on val, tested on rows that had no part in it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptopt.core.cascade import (
    LEAST_CHANCE,
    THRESHOLDS,
    Routed,
    best_possible,
    escalated,
    fit,
    pairs,
    thresholds,
    vote,
)
from promptopt.core.certificate import certify
from promptopt.stats.noninferiority import score_p

ANSWERS = st.lists(st.sampled_from(["red", "green", None]), min_size=1, max_size=9)
LEVEL = 0.05


def routed(kept: Sequence[tuple[float, float | None, float]]) -> list[Routed]:
    """Rows from (confidence, the student's score, the teacher's)."""
    return [Routed(f"r{number}", *row) for number, row in enumerate(kept)]


@given(ANSWERS)
def test_the_most_frequent_answer_is_taken_and_its_share_is_the_confidence(answers: list[str | None]) -> None:
    found = vote(answers)
    if found.chosen is None:
        assert (set(answers), found.confidence) == ({None}, 0.0)
    else:
        counts = {answer: answers.count(answer) for answer in answers if answer is not None}
        assert counts[answers[found.chosen] or ""] == max(counts.values())
        assert found.confidence == max(counts.values()) / len(answers)


def test_where_answers_are_as_frequent_the_first_is_taken_which_is_the_student_s_own() -> None:
    assert vote(["red", "green", "blue"]).chosen == 0
    assert vote(["red", "green", "green", "red"]).chosen == 0
    assert vote([None, "green", "red"]).chosen == 1


def test_an_unsure_row_has_the_teacher_s_very_score_and_a_sure_one_the_student_s() -> None:
    rows = [*routed([(1.0, 0.0, 1.0), (0.3, 0.0, 1.0), (0.3, 1.0, 0.0)]), Routed("failed", 0.0, None, 1.0)]
    assert [(pair.baseline, pair.best) for pair in pairs(rows, 0.5)] == [(1, 0), (1, 1), (0, 0), (1, 1)]
    assert escalated(rows, 0.5) == {"r1", "r2", "failed"}


def test_the_threshold_keeps_what_the_student_is_sure_of_where_it_is_right() -> None:
    rows = routed([(1.0, 1.0, 1.0)] * 60 + [(1 / 3, 0.0, 1.0)] * 20)
    found = fit(rows, 0.05, student_cost=0.2, test_rows=300, level=LEVEL)
    assert found is not None
    assert found.value == 1.0
    assert found.escalated == 0.25
    assert found.diff == 0.0
    assert found.saving == pytest.approx(0.55)


def test_no_threshold_is_chosen_where_none_saves_anything() -> None:
    unsure = routed([(1 / 3, 0.0, 1.0)] * 40 + [(1.0, 1.0, 1.0)] * 5)
    assert fit(unsure, 0.05, student_cost=1.0, test_rows=300, level=LEVEL) is None
    assert fit(routed([(1.0, 1.0, 1.0)] * 40), 0.05, student_cost=1.0, test_rows=300, level=LEVEL) is None


def test_a_student_without_an_answer_never_goes_without_the_teacher() -> None:
    rows = routed([(0.0, None, 1.0)] * 4 + [(1.0, 1.0, 1.0)] * 36)
    found = fit(rows, 0.5, student_cost=0.1, test_rows=300, level=LEVEL)
    assert found is not None
    assert found.value == 1.0
    assert [pair.best for pair in pairs(rows, found.value)] == [1.0] * 40


def test_no_threshold_is_chosen_that_never_asks_the_teacher() -> None:
    """That would be the student alone, which is tested anyway."""
    sure = routed([(0.9, 1.0, 1.0)] * 80 + [(1.0, 1.0, 1.0)] * 20)
    found = fit(sure, 0.05, student_cost=0.1, test_rows=300, level=LEVEL)
    assert found is not None
    assert (found.value, found.escalated) == (1.0, 0.8)
    assert fit(sure[:80], 0.05, student_cost=0.1, test_rows=300, level=LEVEL) is None


def test_no_threshold_is_chosen_that_can_hardly_be_certified() -> None:
    wrong = routed([(1.0, 1.0, 1.0)] * 60 + [(1.0, 0.0, 1.0)] * 20 + [(1 / 3, 0.0, 1.0)] * 20)
    assert fit(wrong, 0.05, student_cost=0.1, test_rows=300, level=LEVEL) is None
    found = fit(wrong, 0.3, student_cost=0.1, test_rows=300, level=LEVEL)
    assert found is not None
    assert found.chance >= LEAST_CHANCE


def test_one_lucky_val_row_more_or_less_is_allowed_for() -> None:
    """Nothing lost on few rows promises less than nothing lost on many."""
    few, many = (
        fit(
            routed([(1.0, 1.0, 1.0)] * n + [(1 / 3, 1.0, 1.0)] * (n // 5)),
            0.05, student_cost=0.1, test_rows=400, level=LEVEL,
        )
        for n in (30, 300)
    )  # fmt: skip
    assert few is not None
    assert many is not None
    assert few.chance < 0.7 < 0.95 < many.chance


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_few_thresholds_are_tried_and_the_lowest_and_highest_are_among_them(seen: list[float]) -> None:
    found = thresholds(seen)
    assert len(found) <= THRESHOLDS
    assert {min(seen), max(seen)} <= set(found) <= set(seen)


def test_no_router_saves_more_than_one_that_knows_where_the_student_loses() -> None:
    teacher = {"a": 1.0, "b": 1.0, "c": 0.0, "d": None}
    student = {"a": 1.0, "b": 0.0, "c": 1.0, "d": 1.0}
    assert best_possible(student, teacher, cost=0.1) == pytest.approx(1 - 0.1 - 1 / 3)


def draw(rng: np.random.Generator, n: int, lost: dict[float, float]) -> list[Routed]:
    """Rows whose student loses with a probability that depends on its confidence; the teacher is always right."""
    confidences = rng.choice([1 / 3, 2 / 3, 1.0], p=[0.2, 0.2, 0.6], size=n)
    return [Routed(f"r{i}", float(c), float(rng.random() >= lost[float(c)]), 1.0) for i, c in enumerate(confidences)]


def passed(lost: dict[float, float], margin: float, runs: int, test_rows: int) -> float:
    """How often a cascade whose threshold was chosen on other rows is certified."""
    found = 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        chosen = fit(draw(rng, 80, lost), margin, student_cost=0.1, test_rows=test_rows, level=LEVEL)
        if chosen is not None:
            tested = [both for pair in pairs(draw(rng, test_rows, lost), chosen.value) if (both := pair.scores)]
            differences = [cascade - teacher for teacher, cascade in tested]
            wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
            found += score_p(wins, losses, test_rows, -margin) <= LEVEL
    return found / runs


@pytest.mark.slow
def test_a_cascade_that_loses_the_margin_at_every_threshold_passes_in_one_of_twenty() -> None:
    """At the highest threshold it loses just the margin, 0.1 = 0.6 · 1/6, and more at every lower one."""
    runs = 600
    share = passed({1 / 3: 0.3, 2 / 3: 0.2, 1.0: 1 / 6}, margin=0.1, runs=runs, test_rows=150)
    assert share <= LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / runs)


def test_a_cascade_that_is_right_where_it_is_sure_is_certified_where_its_student_is_not() -> None:
    lost = {1 / 3: 0.5, 2 / 3: 0.4, 1.0: 0.005}
    assert passed(lost, margin=0.05, runs=40, test_rows=300) >= 0.8
    alone = pairs(draw(np.random.default_rng(0), 300, lost), 0.0)
    assert certify({"student": alone}, 0.05, binary=True, sensitive=True)["student"].outcome == "INFERIOR"
