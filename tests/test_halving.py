"""How students share one budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from promptopt.distillation.halving import FIRST, likely_gap, rounds


@given(st.integers(1, 30), st.integers(0, 50_000), st.integers(1, 200))
def test_all_rounds_together_stay_within_the_budget(students: int, rollouts: int, val: int) -> None:
    assert sum(rounds(students, rollouts, val)) <= rollouts


def test_the_first_round_takes_a_tenth_where_that_is_long_enough() -> None:
    assert rounds(4, 20_000, 40)[0] == FIRST * 20_000
    assert rounds(4, 1_000, 40)[0] == 4 * 3 * 40


def test_each_round_halves_who_is_left() -> None:
    assert [len(rounds(students, 10_000, 40)) for students in (1, 2, 3, 4, 8)] == [2, 2, 3, 3, 4]
    assert rounds(0, 10_000, 40) == []


def test_a_student_that_wins_back_nothing_far_behind_is_not_expected_to_catch_up() -> None:
    assert likely_gap(0.6, 0.6, 100, 1000) > 0.35
    assert likely_gap(0.6, 0.4, 100, 1000) < 0
    assert likely_gap(0.1, 0.1, 100, 1000) < 0.05
