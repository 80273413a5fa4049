"""Coefficients of agreement: against oracles, by their symmetries, and by how often their intervals hold the truth."""

import itertools
import math

import krippendorff
import numpy as np
import pytest
from agreement import SIZES, coverage, populations
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa as statsmodels_kappa

from promptopt.stats.agreement import (
    accuracy,
    balanced_accuracy,
    cohens_kappa,
    krippendorff_alpha,
    rows_for_width,
    self_consistency,
    weighted_kappa,
)
from promptopt.stats.estimate import UNDEFINED, Estimate

labelled = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)
rated = st.lists(st.lists(st.sampled_from([None, 0, 1, 2, 3]), min_size=3, max_size=3), min_size=1, max_size=25)
POPULATIONS = {population.name: population for population in populations()}
PAIRWISE = (accuracy, balanced_accuracy, cohens_kappa, weighted_kappa)
NAMES = {0: "poor", 1: "fair", 2: "good", 3: "best"}


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def sides(pairs):
    judge, people = zip(*pairs, strict=True)
    return list(judge), list(people)


def some_ratings(raters: int, rows: int, missing: float, seed: int) -> np.ndarray:
    """Shape (raters, rows), NaN where missing, as the krippendorff package takes them."""
    source = np.random.default_rng(seed)
    true = source.choice(5, rows, p=[0.1, 0.2, 0.4, 0.2, 0.1])
    said = (true + source.choice([-1, 0, 0, 0, 1], (raters, rows))).clip(0, 4).astype(float)
    said[source.random((raters, rows)) < missing] = np.nan
    return said


def as_rows(ratings: np.ndarray) -> list[list[float | None]]:
    return [[None if math.isnan(rating) else float(rating) for rating in row] for row in ratings.T]


class TestAgainstOracles:
    @settings(max_examples=40)
    @given(labelled)
    def test_kappas_are_those_of_scikit_learn(self, pairs):
        judge, people = sides(pairs)
        for found, weights in (
            (cohens_kappa(judge, people, rng()), None),
            (weighted_kappa(judge, people, rng()), "quadratic"),
        ):
            if len({*judge, *people}) < 2:
                assert found == UNDEFINED
            else:
                assert found.value == pytest.approx(cohen_kappa_score(judge, people, labels=range(4), weights=weights))

    @settings(max_examples=40)
    @given(labelled)
    def test_balanced_accuracy_is_that_of_scikit_learn(self, pairs):
        judge, people = sides(pairs)
        found = balanced_accuracy(judge, people, rng())
        if len(set(people)) < 2:
            assert found == UNDEFINED
        else:
            known = set(people)
            expected = np.mean([np.mean([j == p for j, p in pairs if p == label]) for label in known])
            assert found.value == pytest.approx(expected)
            if set(judge) <= known:
                assert found.value == pytest.approx(balanced_accuracy_score(people, judge))

    def test_kappa_and_its_interval_come_near_those_of_statsmodels_in_a_large_sample(self):
        table = np.array([[300, 40, 20], [60, 250, 30], [10, 50, 240]])
        people, judge = sides([(i, j) for i, j in np.ndindex(3, 3) for _ in range(table[i, j])])
        expected = statsmodels_kappa(table)
        found = cohens_kappa(judge, people, rng())
        assert found.value == pytest.approx(expected.kappa)
        assert found.ci == pytest.approx((expected.kappa_low, expected.kappa_upp), abs=0.008)

    @pytest.mark.parametrize("scale", ["nominal", "ordinal", "interval"])
    @pytest.mark.parametrize(("raters", "missing"), [(2, 0.0), (3, 0.3), (5, 0.6)])
    def test_alpha_is_that_of_the_krippendorff_package(self, scale, raters, missing):
        ratings = some_ratings(raters, 60, missing, seed=raters)
        expected = krippendorff.alpha(ratings, level_of_measurement=scale)
        assert krippendorff_alpha(as_rows(ratings), rng(), scale=scale).value == pytest.approx(expected)

    @pytest.mark.parametrize(("scale", "expected"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
    def test_alpha_is_that_of_krippendorffs_own_example(self, scale, expected):
        said = [
            "1 2 3 3 2 1 4 1 2 . . .",
            "1 2 3 3 2 2 4 1 2 5 . 3",
            ". 3 3 3 2 3 4 2 2 5 1 .",
            "1 2 3 3 2 4 4 1 2 5 1 .",
        ]
        rows = list(zip(*[[None if word == "." else int(word) for word in line.split()] for line in said], strict=True))
        assert krippendorff_alpha(rows, rng(), scale=scale).value == pytest.approx(expected, abs=5e-4)

    def test_accuracy_has_about_the_interval_of_wilson(self):
        for right, n in ((30, 30), (27, 30), (50, 100), (285, 300)):
            low, high = stats.binomtest(right, n).proportion_ci(method="wilson")
            found = accuracy([1] * n, [1] * right + [0] * (n - right), rng())
            assert found.value == right / n
            assert found.ci == pytest.approx((low, high), abs=0.015)


class TestSymmetries:
    @settings(max_examples=25)
    @given(labelled, st.randoms(use_true_random=False), st.sampled_from(PAIRWISE))
    def test_row_order_does_not_matter_and_the_interval_holds_the_value(self, pairs, shuffler, coefficient):
        found = coefficient(*sides(pairs), rng())
        assert coefficient(*sides(shuffler.sample(pairs, len(pairs))), rng()) == found
        if found.value is not None:
            assert found.ci[0] <= found.value <= found.ci[1]
            assert found.ci[1] - found.ci[0] > 0

    @settings(max_examples=25)
    @given(labelled)
    def test_kappas_do_not_ask_which_rater_is_the_judge(self, pairs):
        judge, people = sides(pairs)
        for coefficient in (accuracy, cohens_kappa, weighted_kappa):
            there, back = coefficient(judge, people, rng()), coefficient(people, judge, rng())
            assert there.value == pytest.approx(back.value)

    @settings(max_examples=25)
    @given(labelled, st.permutations(range(4)))
    def test_names_of_categories_do_not_matter_where_order_does_not_count(self, pairs, renamed):
        judge, people = sides(pairs)
        for coefficient in (accuracy, balanced_accuracy, cohens_kappa):
            named = coefficient([NAMES[renamed[x]] for x in judge], [NAMES[renamed[x]] for x in people], rng())
            assert named.value == pytest.approx(coefficient(judge, people, rng()).value)

    @settings(max_examples=25)
    @given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
    def test_with_two_categories_weights_change_nothing(self, pairs):
        judge, people = sides(pairs)
        plain = cohens_kappa(judge, people, rng())
        assert weighted_kappa(judge, people, rng()) == plain

    @settings(max_examples=25)
    @given(labelled, st.floats(0.1, 9), st.floats(-5, 5))
    def test_the_unit_of_a_scale_does_not_matter(self, pairs, unit, start):
        judge, people = sides(pairs)
        plain = weighted_kappa(judge, people, rng())
        scaled = weighted_kappa([start + unit * x for x in judge], [start + unit * x for x in people], rng())
        assert scaled.value == pytest.approx(plain.value)

    @settings(max_examples=25)
    @given(rated, st.randoms(use_true_random=False))
    def test_alpha_depends_neither_on_row_order_nor_on_who_said_it(self, rows, shuffler):
        for scale in ("nominal", "ordinal", "interval"):
            found = krippendorff_alpha(rows, rng(), scale=scale)
            mixed = [shuffler.sample(row, len(row)) for row in shuffler.sample(rows, len(rows))]
            again = krippendorff_alpha(mixed, rng(), scale=scale)
            assert again == found
            assert found == UNDEFINED or found.ci[0] <= found.value <= found.ci[1]

    @settings(max_examples=25)
    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(2, 4)), min_size=2, max_size=20))
    def test_perfect_agreement_is_one_unless_all_is_of_one_kind(self, rows):
        ratings = [[value] * times for value, times in rows]
        for scale in ("nominal", "ordinal", "interval"):
            found = krippendorff_alpha(ratings, rng(), scale=scale)
            if len({value for value, _ in rows}) < 2:
                assert found == UNDEFINED
            else:
                assert found.value == 1.0
                assert found.ci[1] == 1.0
                assert found.ci[0] < 1.0

    @settings(max_examples=25)
    @given(labelled)
    def test_ordinal_alpha_asks_only_for_order(self, pairs):
        stretched = [[x**3 for x in pair] for pair in pairs]
        found = krippendorff_alpha(pairs, rng(), scale="ordinal")
        assert krippendorff_alpha(stretched, rng(), scale="ordinal") == found

    @pytest.mark.parametrize("copies", [2, 30])
    def test_rows_that_share_a_group_count_as_one_draw(self, copies):
        judge, people = [0, 1, 1, 0, 1], [0, 1, 0, 0, 1]
        groups = [name for name in "abcde" for _ in range(copies)]
        for coefficient in PAIRWISE:
            alone = coefficient(judge, people, rng())
            many = coefficient(
                [x for x in judge for _ in range(copies)],
                [x for x in people for _ in range(copies)],
                rng(),
                groups=groups,
            )
            assert many.value == pytest.approx(alone.value)
            assert many.ci == pytest.approx(alone.ci)

    @settings(max_examples=25)
    @given(labelled, st.floats(0.5, 0.9), st.sampled_from(PAIRWISE))
    def test_intervals_nest_by_level(self, pairs, level, coefficient):
        inner, outer = (coefficient(*sides(pairs), rng(), level=each) for each in (level, level + 0.05))
        if inner.ci is not None:
            assert outer.ci[0] <= inner.ci[0]
            assert inner.ci[1] <= outer.ci[1]


class TestUndefined:
    def test_raters_who_always_say_one_and_the_same_define_no_kappa_and_no_alpha(self):
        same = ["yes"] * 40
        assert cohens_kappa(same, same, rng()) == UNDEFINED
        assert weighted_kappa([1] * 40, [1] * 40, rng()) == UNDEFINED
        assert krippendorff_alpha(list(zip(same, same, strict=True)), rng()) == UNDEFINED
        assert balanced_accuracy(same, same, rng()) == UNDEFINED
        assert accuracy(same, same, rng()).value == 1.0

    def test_a_judge_who_always_says_the_same_has_kappa_zero(self):
        found = cohens_kappa(["yes"] * 40, ["yes"] * 30 + ["no"] * 10, rng())
        assert found.value == pytest.approx(0.0)
        assert found.ci[0] < 0 < found.ci[1]

    def test_raters_who_never_overlap_define_no_alpha(self):
        assert krippendorff_alpha([["a", None], [None, "b"], ["a", None]], rng()) == UNDEFINED

    def test_no_rows_define_nothing(self):
        for coefficient in PAIRWISE:
            assert coefficient([], [], rng()) == UNDEFINED
        assert krippendorff_alpha([], rng()) == UNDEFINED
        assert self_consistency([[1], []], rng()) == UNDEFINED

    @pytest.mark.parametrize("coefficient", PAIRWISE)
    def test_one_row_says_almost_nothing(self, coefficient):
        found = coefficient([1], [0], rng())
        assert found == UNDEFINED or found.ci[1] - found.ci[0] > 0.8


class TestRefusals:
    @pytest.mark.parametrize("coefficient", PAIRWISE)
    def test_raters_of_different_rows(self, coefficient):
        with pytest.raises(ValueError, match="same rows, got 2 and 3"):
            coefficient([1, 0], [1, 0, 1], rng())

    @pytest.mark.parametrize("coefficient", PAIRWISE)
    def test_groups_of_other_rows(self, coefficient):
        with pytest.raises(ValueError, match="2 rows and the groups of 3"):
            coefficient([1, 0], [0, 1], rng(), groups=["a", "b", "c"])

    @pytest.mark.parametrize("coefficient", [krippendorff_alpha, self_consistency])
    def test_groups_of_other_rows_among_several_ratings(self, coefficient):
        with pytest.raises(ValueError, match="2 rows and the groups of 1"):
            coefficient([[1, 0], [0, 1]], rng(), groups=["a"])

    @pytest.mark.parametrize("level", [0.0, 1.0, math.nan])
    def test_levels_that_are_none(self, level):
        with pytest.raises(ValueError, match="level"):
            accuracy([1, 0], [1, 0], rng(), level=level)

    @pytest.mark.parametrize("odd", ["good", math.nan, math.inf])
    def test_distances_between_what_has_none(self, odd):
        with pytest.raises(ValueError, match="finite numbers"):
            weighted_kappa([odd, 1], [2, 1], rng())
        with pytest.raises(ValueError, match="finite numbers"):
            krippendorff_alpha([[odd, 1], [2, 1]], rng(), scale="ordinal")


class TestOptions:
    def test_labels_that_nobody_gave_leave_the_value_and_mend_the_interval(self):
        judge, people = [5] * 26 + [4] * 4, [5] * 28 + [4] * 2
        seen = weighted_kappa(judge, people, rng())
        known = weighted_kappa(judge, people, rng(), options=[1, 2, 3, 4, 5])
        assert known.value == pytest.approx(seen.value)
        assert known.ci != seen.ci

    def test_alpha_and_kappa_stay_what_they_are(self):
        rows = [["a", "b"], ["a", "a"], ["b", "b"], ["b", "a"], ["a", "a"]]
        for scale in ("nominal", "ordinal"):
            ranked = [[ord(x) for x in row] for row in rows]
            found = krippendorff_alpha(ranked, rng(), scale=scale, options=range(90, 110))
            assert found.value == pytest.approx(krippendorff_alpha(ranked, rng(), scale=scale).value)
        assert cohens_kappa("aab", "abb", rng(), options="abcd").value == cohens_kappa("aab", "abb", rng()).value

    def test_one_label_of_many_that_could_be_defines_nothing(self):
        assert cohens_kappa("aaa", "aaa", rng(), options="abc") == UNDEFINED
        assert krippendorff_alpha(["aa", "aa"], rng(), options="abc") == UNDEFINED

    def test_refuses_a_label_that_could_not_be(self):
        with pytest.raises(ValueError, match="'d' is not one of the labels"):
            cohens_kappa("aab", "abd", rng(), options="abc")
        with pytest.raises(ValueError, match="'d' is not one of the labels"):
            krippendorff_alpha(["ab", "ad"], rng(), options="abc")


class TestSelfConsistency:
    def test_is_the_mean_share_of_pairs_that_agree(self):
        found = self_consistency([["a", "a", "a"], ["a", "b", "a"], ["a", "b", "c"], ["a"]], rng())
        assert found.value == pytest.approx((1 + 1 / 3 + 0) / 3)

    @settings(max_examples=25)
    @given(st.lists(st.lists(st.integers(0, 2), max_size=5), min_size=1, max_size=10))
    def test_is_what_a_count_of_all_pairs_gives(self, answers):
        shares = [np.mean([a == b for a, b in itertools.combinations(row, 2)]) for row in answers if len(row) > 1]
        found = self_consistency(answers, rng())
        assert found.value == (pytest.approx(np.mean(shares)) if shares else None)


class TestRowsToSettle:
    def test_four_times_the_rows_halve_an_interval(self):
        assert rows_for_width(Estimate(0.5, (0.3, 0.7)), 50, 0.1) == 200

    def test_nothing_settles_what_is_undefined(self):
        assert rows_for_width(UNDEFINED, 100, 0.1) is None

    def test_refuses_a_width_of_nothing(self):
        with pytest.raises(ValueError, match="more than 0"):
            rows_for_width(UNDEFINED, 100, 0.0)

    def test_the_rows_it_names_do_settle_it(self):
        """A kappa of 0.8 on 60 rows; so many copies of them as it asks for have about that interval."""
        judge, people = [1] * 30 + [0] * 30, [1] * 24 + [0] * 30 + [1] * 6
        seen = cohens_kappa(judge, people, rng())
        copies = round(rows_for_width(seen, 60, 0.08) / 60)
        low, high = cohens_kappa(judge * copies, people * copies, rng()).ci
        assert (high - low) / 2 == pytest.approx(0.08, abs=0.01)


class TestCoverage:
    """Binomial tolerance: a share this low among so many runs has a chance under 1 in 10,000 at the stated floor."""

    @pytest.mark.parametrize(
        "name",
        [
            "accuracy, two even labels, kappa 0.98",
            "balanced accuracy, 10 % against 90 %, kappa 0.6",
            "kappa, two even labels, kappa 0.98",
            "kappa, 5 % against 95 %, kappa 0.8",
            "quadratic kappa, 1-5, 80 % fives",
            "alpha, ordinal, 1-5, raters very close",
            "self-consistency, beta(40, 1)",
            "kappa, groups of five",
        ],
    )
    def test_thirty_rows_hold_the_truth_where_a_bootstrap_would_not(self, name):
        runs = 100
        seen = coverage(POPULATIONS[name], 30, runs)
        told = round(seen.defined * runs)
        assert seen.share * told >= stats.binom.ppf(1e-4, told, 0.93)

    @pytest.mark.slow
    @pytest.mark.parametrize("n", SIZES)
    @pytest.mark.parametrize("name", POPULATIONS)
    def test_intervals_hold_the_truth_at_every_size(self, name, n):
        """Least where a judge guesses on a scale of which one label takes most rows, or labels have three rows each."""
        runs, hard = 400, "fives, chance" in name or name == "balanced accuracy, ten labels, kappa 0.95"
        floor = {30: 0.88, 100: 0.92, 300: 0.93}[n] if hard else 0.93
        seen = coverage(POPULATIONS[name], n, runs)
        told = round(seen.defined * runs)
        assert seen.share * told >= stats.binom.ppf(1e-4, told, floor)

    def test_intervals_shrink_with_the_root_of_the_rows(self):
        few, many = (coverage(POPULATIONS["kappa, three labels, kappa 0.7"], n, 30).width for n in (75, 300))
        assert few / many == pytest.approx(2, abs=0.2)
