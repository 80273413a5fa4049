"""Races: which rows, in which order, and when a child is dropped."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from promptopt.core.racing import (
    FIRST_LOOK,
    LEAST_ROWS,
    LEAST_TO_SHRINK,
    Race,
    Scores,
    deep_enough,
    paired_gain,
    race_rows,
    standard_error,
)

ROWS = [f"v{i:02}" for i in range(40)]
EXACT = 1e-9

binary = st.sampled_from([0.0, 1.0])
graded = st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.875, 1.0])
"""Scores whose sums are exact in every order."""


@st.composite
def races(draw: st.DrawFn, *, missing: bool = False) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """An incumbent's scores and a child's on the same rows; every race has one row with a score at least."""
    value = draw(st.sampled_from([binary, graded]))
    one = st.one_of(st.none(), value) if missing else value
    rows = ROWS[: draw(st.integers(1, 40))]
    incumbent, child = ({row: draw(one) for row in rows} for _ in range(2))
    assume(any(score is not None for score in incumbent.values()))
    return incumbent, child


def run_of(race: Race, child: Scores) -> dict[str, float | None]:
    """The child's scores on all rows of the race."""
    return {row: child[row] for block in race.blocks for row in block}


# the rows


@given(races(missing=True), st.integers(1, 20), st.booleans())
def test_blocks_hold_every_scored_row_of_the_incumbent_once(
    scores: tuple[Scores, Scores], block: int, shrinking: bool
) -> None:
    incumbent, _ = scores
    race = Race(incumbent, block, shrinking=shrinking)
    assert sorted(row for rows in race.blocks for row in rows) == [
        row for row, value in sorted(incumbent.items()) if value is not None
    ]
    assert len(race.blocks[0]) <= FIRST_LOOK
    assert all(len(rows) == block for rows in race.blocks[1:-1])


@given(races(), st.integers(1, 20))
def test_a_race_opens_with_rows_that_leave_room_and_no_less_than_any_other(
    scores: tuple[dict[str, float], Scores], block: int
) -> None:
    incumbent, _ = scores
    assume(any(value < 1 for value in incumbent.values()))
    race = Race(incumbent, block)
    mean = sum(incumbent.values()) / len(incumbent)
    assert all(incumbent[row] < 1 and incumbent[row] <= mean + EXACT for row in race.blocks[0])


@given(races(), st.integers(1, 20))
def test_a_shrinking_child_opens_on_the_rows_that_it_might_break(
    scores: tuple[dict[str, float], Scores], block: int
) -> None:
    incumbent, _ = scores
    race = Race(incumbent, block, shrinking=True)
    best = max(incumbent.values())
    assume(min(incumbent.values()) < best)
    mean = sum(incumbent.values()) / len(incumbent)
    assert all(incumbent[row] > mean or incumbent[row] == 1 for row in race.blocks[0])


@pytest.mark.parametrize("value", [0.0, 0.1, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("shrinking", [False, True])
def test_an_incumbent_whose_rows_are_all_equal_can_be_raced(value: float, shrinking: bool) -> None:
    incumbent = dict.fromkeys(ROWS[:13], value)
    race = Race(incumbent, 5, shrinking=shrinking)
    assert [len(rows) for rows in race.blocks] == [8, 5]
    assert race.won(incumbent) == shrinking
    if value < 1:
        assert race.won(dict.fromkeys(ROWS[:13], 1.0))


@given(races(missing=True), st.integers(), st.sampled_from([LEAST_ROWS, LEAST_TO_SHRINK]))
def test_a_field_is_deep_enough_where_the_known_rows_are_and_never_larger_than_needed(
    scores: tuple[Scores, Scores], seed: int, least: int
) -> None:
    known, _ = scores
    rows = dict(race_rows(known, Random(seed), least))
    assert rows.items() <= known.items()
    if deep_enough(known, least):
        assert deep_enough(rows, least)
        rows.popitem()
        assert not deep_enough(rows, least)
    else:
        assert rows == known


# the standing


@given(races(), st.integers(1, 20), st.booleans())
def test_on_all_rows_the_stratified_gain_is_the_plain_paired_mean(
    scores: tuple[Scores, Scores], block: int, shrinking: bool
) -> None:
    incumbent, child = scores
    now = Race(incumbent, block, shrinking=shrinking).standing(child)
    assert now.n == len(incumbent)
    assert now.gain == pytest.approx(paired_gain(child, incumbent), abs=EXACT)


def test_a_standing_weighs_each_stratum_by_its_share_of_the_race() -> None:
    incumbent = {**dict.fromkeys(ROWS[:8], 0.0), **dict.fromkeys(ROWS[8:40], 1.0)}
    race = Race(incumbent, 8)
    child = {**dict.fromkeys(ROWS[:4], 1.0), **dict.fromkeys(ROWS[4:8], 0.0), **dict.fromkeys(ROWS[8:12], 1.0)}
    now = race.standing(child)
    assert now.n == 12
    assert now.gain == pytest.approx(0.2 * 0.5)
    assert now.error == pytest.approx(0.2 * standard_error([1.0] * 4 + [0.0] * 4))


@given(races(missing=True), st.booleans())
def test_rows_without_a_score_count_for_nobody(scores: tuple[Scores, Scores], shrinking: bool) -> None:
    incumbent, child = scores
    race = Race(incumbent, 8, shrinking=shrinking)
    scored = {row: value for row, value in child.items() if value is not None}
    assert race.standing(child) == race.standing(scored)
    assert race.won(child) == race.won(scored)


# the end


@given(races(), st.integers(1, 12), st.integers(0, 40), st.booleans())
@example((dict.fromkeys(ROWS[:3], 0.5), {ROWS[0]: 0.5, ROWS[1]: 0.25, ROWS[2]: 0.5}), 1, 2, False)
def test_a_child_that_cannot_catch_up_would_not_have_won_with_full_marks_on_the_rest(
    scores: tuple[Scores, Scores], block: int, n: int, shrinking: bool
) -> None:
    incumbent, child = scores
    race = Race(incumbent, block, shrinking=shrinking)
    order = [row for rows in race.blocks for row in rows]
    so_far = {row: child[row] for row in order[:n]}
    stopped = race.futile(so_far)
    at_best = race.standing({**dict.fromkeys(order, 1.0), **so_far}).gain
    if stopped and "cannot catch up" in stopped:
        assert at_best < EXACT
    elif stopped is None:
        assert at_best > -EXACT


@given(races(), st.integers(1, 12))
def test_a_child_that_leads_on_every_row_with_room_is_never_dropped(scores: tuple[Scores, Scores], block: int) -> None:
    incumbent, _ = scores
    assume(any(value is not None and value < 1 for value in incumbent.values()))
    race = Race(incumbent, block)
    ran: dict[str, float | None] = {}
    for rows in race.blocks:
        ran |= dict.fromkeys(rows, 1.0)
        assert race.futile(ran) is None
    assert race.standing(ran).gain > 0


@given(races(missing=True), st.integers(1, 12))
def test_a_child_that_mends_nothing_is_dropped_after_the_first_block(scores: tuple[Scores, Scores], block: int) -> None:
    incumbent, _ = scores
    race = Race(incumbent, block)
    opening = {row: incumbent[row] for row in race.blocks[0]}
    assert race.futile(opening) == f"mends none of {len(opening)} rows"


@given(races(), st.integers(1, 12))
def test_a_shorter_child_that_is_as_good_wins_and_is_never_dropped(scores: tuple[Scores, Scores], block: int) -> None:
    incumbent, _ = scores
    race = Race(incumbent, block, shrinking=True)
    ran: dict[str, float | None] = {}
    for rows in race.blocks:
        ran |= {row: incumbent[row] for row in rows}
        assert race.futile(ran) is None
    assert race.won(ran)
    assert not Race(incumbent, block).won(ran)


def test_a_shorter_child_that_breaks_one_row_more_than_it_mends_loses() -> None:
    incumbent = {**dict.fromkeys(ROWS[:10], 0.0), **dict.fromkeys(ROWS[10:20], 1.0)}
    race = Race(incumbent, 8, shrinking=True)
    assert race.won({**incumbent, "v00": 1.0, "v10": 0.0})
    assert not race.won({**incumbent, "v10": 0.0})


def test_a_lead_within_half_a_standard_error_is_not_a_win() -> None:
    incumbent = {**dict.fromkeys(ROWS[:20], 0.0), **dict.fromkeys(ROWS[20:40], 1.0)}
    race = Race(incumbent, 8)
    mended, broken = dict.fromkeys(ROWS[:10], 1.0), dict.fromkeys(ROWS[20:29], 0.0)
    assert race.standing({**incumbent, **mended, **broken}).gain == pytest.approx(1 / 40)
    assert not race.won({**incumbent, **mended, **broken})
    assert race.won({**incumbent, **mended})


@pytest.mark.parametrize("shrinking", [False, True])
def test_a_child_whose_calls_fail_is_dropped(shrinking: bool) -> None:
    race = Race(dict.fromkeys(ROWS, 0.0), 8, shrinking=shrinking)
    child = {row: None if i < 5 else 1.0 for i, row in enumerate(ROWS[:16])}
    assert race.futile(child) == "5 of 16 rows failed"
    one = {row: None if i < 1 else 1.0 for i, row in enumerate(ROWS[:4])}
    assert race.futile(one) is None


def test_a_child_without_any_score_never_wins() -> None:
    for shrinking in (False, True):
        assert not Race(dict.fromkeys(ROWS, 0.5), 8, shrinking=shrinking).won(dict.fromkeys(ROWS, None))
