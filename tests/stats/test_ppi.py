"""People's mean by a judge's help: against the published estimator, by its symmetries, and by its coverage."""

import math

import numpy as np
import pytest
from agreement import JUDGES, powered
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from promptopt.stats.bounded import student_interval, unseen_interval
from promptopt.stats.ppi import prediction_powered_mean

steps = st.sampled_from([-1.0, -0.5, 0.0, 0.0, 0.25, 1.0])
rows = st.lists(st.tuples(steps, st.one_of(st.none(), steps)), min_size=3, max_size=40).filter(
    lambda drawn: sum(told is not None for _, told in drawn) >= 3
)


def graded(labelled: int, unlabelled: int, noise: float = 0.2, lift: float = 0.05):
    """The judge's differences, and people's with None on the later rows."""
    source = np.random.default_rng(4)
    people = source.normal(lift, 0.3, labelled + unlabelled).clip(-1, 1)
    judge = (people + 0.07 + source.normal(0, noise, len(people))).clip(-1, 1)
    return judge.tolist(), [*people[:labelled].tolist(), *[None] * unlabelled]


class TestEstimator:
    def test_is_that_of_ppi_plus_plus(self):
        """Angelopoulos, Duchi & Zrnic (2023), example 6.1: the mean, with λ that minimises its variance."""
        judge, people = graded(400, 2600, lift=0.01)
        truth, seen, unseen = np.array(people[:400]), np.array(judge[:400]), np.array(judge[400:])
        weight = np.cov(truth, seen)[0, 1] / ((1 + 400 / 2600) * np.var(judge, ddof=1))
        mean = truth.mean() + weight * (unseen.mean() - seen.mean())
        error = math.sqrt(np.var(truth - weight * seen) / 400 + weight**2 * np.var(judge) / 2600)
        found = prediction_powered_mean(judge, people)
        assert found.weight == pytest.approx(weight)
        assert found.mean == pytest.approx(mean)
        assert found.ci == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=0.002)
        assert found.p == pytest.approx(2 * stats.norm.sf(mean / error), rel=0.1)

    def test_a_judge_that_says_what_people_say_is_worth_all_its_rows(self):
        judge, people = graded(400, 2600, noise=0.0)
        found = prediction_powered_mean(judge, people)
        assert found.mean == pytest.approx(np.mean(judge) - 0.07, abs=0.01)
        labels_alone = student_interval(people[:400], 0.95)
        assert found.ci[1] - found.ci[0] < 0.45 * (labels_alone[1] - labels_alone[0])

    def test_a_judge_that_never_differs_leaves_the_labels_alone(self):
        _, people = graded(100, 400)
        found = prediction_powered_mean([0.2] * 500, people)
        alone = student_interval(people[:100], 0.95)
        assert found.weight == 0.0
        assert found.mean == pytest.approx(np.mean(people[:100]))
        assert found.ci == pytest.approx(alone, abs=0.002)

    def test_a_judge_that_says_the_opposite_is_not_listened_to(self):
        judge, people = graded(100, 400)
        assert prediction_powered_mean([-x for x in judge], people).weight == 0.0

    def test_where_all_rows_are_labelled_the_judge_is_not_needed(self):
        judge, people = graded(200, 0)
        found = prediction_powered_mean(judge, people)
        assert (found.weight, found.unlabelled) == (0.0, 0)
        assert found.mean == pytest.approx(np.mean(people))

    def test_where_nobody_sees_any_difference_the_interval_still_has_a_width(self):
        found = prediction_powered_mean([0.0] * 300, [0.0] * 40 + [None] * 260)
        assert (found.mean, found.p) == (0.0, 1.0)
        assert found.ci == unseen_interval([0.0] * 40, 0.95)

    def test_labels_that_bear_out_a_perfect_judge_do_not_make_it_certain(self):
        judge = [1.0, -1.0, 0.0, 0.0] * 75
        found = prediction_powered_mean(judge, [*judge[:40], *[None] * 260])
        certain = student_interval(judge, 0.95)
        assert 1.05 < (found.ci[1] - found.ci[0]) / (certain[1] - certain[0]) < 1.5


class TestSymmetries:
    @settings(max_examples=80)
    @given(rows, st.randoms(use_true_random=False))
    def test_row_order_does_not_matter_and_swapping_the_arms_mirrors_it(self, sample, shuffler):
        judge, people = zip(*sample, strict=True)
        found = prediction_powered_mean(judge, people)
        assert -1 <= found.ci[0] <= found.mean <= found.ci[1] <= 1
        assert 0 <= found.weight <= 1
        assert 0 <= found.p <= 1
        shuffled = prediction_powered_mean(*zip(*shuffler.sample(sample, len(sample)), strict=True))
        assert shuffled.ci == pytest.approx(found.ci)
        mirrored = prediction_powered_mean([-x for x in judge], [None if x is None else -x for x in people])
        assert mirrored.ci == pytest.approx((-found.ci[1], -found.ci[0]))
        assert mirrored.p == pytest.approx(found.p)

    @settings(max_examples=80)
    @given(rows, st.floats(0.5, 0.99))
    def test_p_and_interval_say_the_same(self, sample, level):
        found = prediction_powered_mean(*zip(*sample, strict=True), level=level)
        if abs(found.p - (1 - level)) > 1e-9:
            assert (found.p < 1 - level) == (not found.ci[0] <= 0 <= found.ci[1])

    @settings(max_examples=60)
    @given(rows)
    def test_a_group_for_each_row_changes_nothing(self, sample):
        judge, people = zip(*sample, strict=True)
        alone = prediction_powered_mean(judge, people)
        grouped = prediction_powered_mean(judge, people, groups=[f"row {i}" for i in range(len(judge))])
        assert grouped.ci == pytest.approx(alone.ci)

    def test_rows_that_share_a_group_count_as_one_draw(self):
        judge, people = graded(30, 70)
        alone = prediction_powered_mean(judge, people)
        groups = [f"session {i}" for i in range(100) for _ in range(8)]
        copied = prediction_powered_mean(np.repeat(judge, 8), [x for x in people for _ in range(8)], groups=groups)
        assert copied.ci == pytest.approx(alone.ci)
        assert (copied.labelled, copied.unlabelled) == (30, 70)

    def test_a_group_is_what_its_labelled_rows_say(self):
        judge, people = [0.5, -1.0, 0.0, 0.2, 0.3], [0.25, None, 0.0, 0.5, None]
        found = prediction_powered_mean(judge, people, groups=["a", "a", "b", "c", "d"])
        same = prediction_powered_mean([0.5, 0.0, 0.2, 0.3], [0.25, 0.0, 0.5, None])
        assert found == same


class TestCoverage:
    """Binomial tolerance: a share this low among so many runs has a chance under 1 in 10,000 where 95 % (or the stated
    floor) is true."""

    @pytest.mark.parametrize("name", JUDGES)
    def test_a_hundred_labels_hold_people_s_mean_where_the_judge_is_7_points_off(self, name):
        runs = 250
        seen = powered(JUDGES[name], 600, 100, runs)
        assert seen.share * runs >= stats.binom.ppf(1e-4, runs, 0.945)
        assert seen.judge < 0.6
        assert seen.width < 1.03 * seen.labels_width

    @pytest.mark.parametrize("name", ["good judge, 7 points lenient", "graded, good, 7 points lenient"])
    def test_is_narrower_than_labels_alone_where_the_judge_is_good(self, name):
        few, many = powered(JUDGES[name], 1000, 30, 100), powered(JUDGES[name], 1000, 100, 100)
        assert few.width < 0.75 * few.labels_width
        assert many.width < 0.72 * many.labels_width

    def test_costs_little_where_the_judge_guesses(self):
        guesses = JUDGES["judge that guesses, 7 points lenient"]
        assert powered(guesses, 300, 30, 200).width < 1.06 * powered(guesses, 300, 30, 200).labels_width

    @pytest.mark.slow
    @pytest.mark.parametrize("name", JUDGES)
    @pytest.mark.parametrize(("n", "labels", "size"), [(300, 30, 1), (300, 100, 1), (1000, 300, 1), (200, 60, 5)])
    def test_holds_it_at_all_sizes_and_in_groups(self, name, n, labels, size):
        """With 30 labels and errors that are rare and all one way, 91 %: few samples show one."""
        runs, floor = 2000, 0.90 if labels == 30 else 0.94
        seen = powered(JUDGES[name], n, labels, runs, size=size)
        assert seen.share * runs >= stats.binom.ppf(1e-4, runs, floor)


class TestRefusals:
    def test_sequences_of_different_rows(self):
        with pytest.raises(ValueError, match="got 4 of the judge, 3 of people"):
            prediction_powered_mean([0.0] * 4, [0.0] * 3)
        with pytest.raises(ValueError, match="3 of people and 2 groups"):
            prediction_powered_mean([0.0] * 3, [0.0] * 3, groups=["a", "b"])

    def test_too_few_labels(self):
        with pytest.raises(ValueError, match="at least 3 rows must have labels of people, got 2 of 5"):
            prediction_powered_mean([0.1] * 5, [0.0, 0.0, None, None, None])
        with pytest.raises(ValueError, match="at least 3 groups must have labels of people, got 1 of 2"):
            prediction_powered_mean([0.1] * 5, [0.0] * 4 + [None], groups=["a"] * 4 + ["b"])

    @pytest.mark.parametrize("odd", [math.nan, math.inf, 1.5])
    def test_what_is_no_difference(self, odd):
        with pytest.raises(ValueError, match="finite numbers in"):
            prediction_powered_mean([0.1, 0.2, 0.3, odd], [0.0, 0.0, 0.0, None])
        with pytest.raises(ValueError, match="finite numbers in"):
            prediction_powered_mean([0.1, 0.2, 0.3, 0.0], [0.0, 0.0, odd, None])

    @pytest.mark.parametrize("level", [0.0, 1.0, math.nan])
    def test_levels_that_are_none(self, level):
        with pytest.raises(ValueError, match="level"):
            prediction_powered_mean([0.0] * 3, [0.0] * 3, level=level)
