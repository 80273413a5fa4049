"""Where a judge leans: counts by hand, symmetries, and no false alarm in many slices."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from promptopt.stats.bias import bias_by_slice, position_bias
from promptopt.stats.paired import tango_interval

outcomes = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=30
)


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


class TestPositionBias:
    def test_counts_the_pairs_that_a_place_wins_in_both_orders(self):
        shown_first, shown_second = [1, 1, 1, 0, 1, 0, 0, 0.5, 1, 1], [0, 0, 0, 1, 1, 0, 0, 0.5, 0.5, 1]
        found = position_bias(shown_first, shown_second, rng())
        assert (found.pairs, found.first, found.second, found.same) == (10, 0.3, 0.1, 0.5)
        assert found.net == pytest.approx(0.25)

    def test_without_ties_the_interval_is_tangos_and_p_that_of_the_sign_test(self):
        shown_first, shown_second = [1] * 8 + [0] * 2 + [1] * 20, [0] * 8 + [1] * 2 + [1] * 20
        found = position_bias(shown_first, shown_second, rng())
        assert found.ci == tango_interval(8, 2, 30)
        assert found.p == pytest.approx(stats.binomtest(8, 10).pvalue)

    @settings(max_examples=40)
    @given(outcomes)
    def test_swapping_the_orders_mirrors_it(self, pairs):
        first, second = zip(*pairs, strict=True)
        there, back = position_bias(first, second, rng()), position_bias(second, first, rng())
        assert (there.first, there.same, there.net, there.p) == (back.second, back.same, -back.net, back.p)
        assert there.ci == pytest.approx((-back.ci[1], -back.ci[0]))
        assert there.ci[0] <= there.net <= there.ci[1]

    def test_a_judge_who_looks_at_the_text_alone_has_none(self):
        found = position_bias([1, 0] * 40, [1, 0] * 40, rng())
        assert (found.net, found.same, found.p) == (0.0, 1.0, 1.0)
        assert found.ci[0] < 0 < found.ci[1]

    def test_no_pairs_tell_nothing(self):
        assert position_bias([], [], rng()) is None

    def test_refuses_orders_of_different_pairs_and_what_is_no_outcome(self):
        with pytest.raises(ValueError, match="both orders, got 2 and 1"):
            position_bias([1, 0], [1], rng())
        for odd in (0.7, math.nan):
            with pytest.raises(ValueError, match="wins"):
                position_bias([1, odd], [1, 0], rng())


class TestBiasBySlice:
    def test_finds_the_slice_that_the_judge_favours_and_no_other(self):
        source = np.random.default_rng(3)
        people = source.choice([0.25, 0.5, 0.75], 300)
        judge = people + source.choice([-0.25, 0.0, 0.0, 0.25], 300)
        judge[:60] = people[:60] + source.choice([0.0, 0.25], 60)
        slices = {"long answers": range(60), "short answers": range(60, 300), "German": range(0, 300, 3)}
        found = {each.name: each for each in bias_by_slice(judge, people, slices, rng())}
        assert found["long answers"].bias == pytest.approx(float((judge - people)[:60].mean()))
        assert found["long answers"].p < 0.01
        assert found["long answers"].ci[0] > 0.05
        assert found["short answers"].p > 0.05
        assert found["German"].rows == 100

    def test_p_is_holms_over_the_slices_that_are_large_enough_to_test(self):
        judge, people = [1.0] * 12 + [0.5] * 6, [0.5] * 12 + [0.5] * 6
        alone = bias_by_slice(judge, people, {"a": range(12)}, rng())[0]
        found = bias_by_slice(judge, people, {"a": range(12), "b": range(12, 18), "few": range(5), "none": []}, rng())
        assert [each.name for each in found] == ["a", "b", "few"]
        assert found[0].p == pytest.approx(2 * alone.p)
        assert (found[1].p, found[2].p) == (1.0, None)

    def test_rows_of_a_group_count_once(self):
        groups = [f"session {i}" for i in range(8) for _ in range(10)]
        judge, people = [0.75] * 80, [0.5, 0.6] * 40
        found = bias_by_slice(judge, people, {"all": range(80)}, rng(), groups=groups)[0]
        eight = bias_by_slice([0.75] * 8, [0.55] * 8, {"all": range(8)}, rng())[0]
        assert (found.bias, found.p, found.rows) == (pytest.approx(eight.bias), eight.p, 80)
        assert found.ci == pytest.approx(eight.ci)

    def test_a_fair_judge_is_accused_in_one_table_of_twenty_at_most(self):
        source, alarms, runs = np.random.default_rng(5), 0, 40
        for _ in range(runs):
            people = source.choice([0.25, 0.5, 0.75], 40)
            judge = people + source.choice([-0.25, 0.0, 0.25], 40)
            slices = {str(k): range(10 * k, 10 * k + 10) for k in range(4)}
            found = bias_by_slice(judge, people, slices, source)
            alarms += any(each.p <= 0.05 for each in found)
        assert alarms <= stats.binom.ppf(0.9999, runs, 0.05)

    def test_refuses_scores_of_different_rows_and_outside_the_scale(self):
        with pytest.raises(ValueError, match="2 scores of the judge, 1 of people"):
            bias_by_slice([0.5, 0.5], [0.5], {"all": [0]}, rng())
        with pytest.raises(ValueError, match="differences of scores"):
            bias_by_slice([4.0, 5.0], [1.0, 2.0], {"all": [0, 1]}, rng())
