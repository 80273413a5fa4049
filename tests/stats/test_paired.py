"""Paired tests and intervals: against oracles, by their symmetries, and by their coverage."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar

from promptopt.stats.paired import mcnemar_mid_p, sign_flip_p, studentised_interval, tango_interval

counts = st.integers(0, 40)
graded = st.lists(st.sampled_from([-1.0, -0.7, -0.3, -0.1, 0.0, 0.0, 0.1, 0.2, 0.5, 1.0]), min_size=1, max_size=30)


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


class TestMcNemarMidP:
    @pytest.mark.parametrize(("wins", "losses"), [(1, 7), (5, 3), (0, 6), (40, 9), (12, 31)])
    def test_is_the_exact_p_less_half_of_what_is_just_as_extreme(self, wins, losses):
        exact = mcnemar([[0, wins], [losses, 0]], exact=True).pvalue
        just_as_extreme = stats.binom.pmf(wins, wins + losses, 0.5)
        assert mcnemar_mid_p(wins, losses) == pytest.approx(exact - just_as_extreme)

    def test_matches_the_published_airway_example(self):
        assert mcnemar_mid_p(1, 7) == pytest.approx(0.0391, abs=5e-5)  # Fagerland et al. (2013)

    def test_balanced_pairs_are_no_evidence(self):
        assert mcnemar_mid_p(4, 4) == pytest.approx(1 - stats.binom.pmf(4, 8, 0.5) / 2)

    def test_no_discordant_pair_gives_one(self):
        assert mcnemar_mid_p(0, 0) == 1.0

    @given(counts, counts)
    def test_is_a_probability_and_blind_to_which_arm_is_which(self, wins, losses):
        p = mcnemar_mid_p(wins, losses)
        assert 0 < p <= 1
        assert p == mcnemar_mid_p(losses, wins)

    @pytest.mark.parametrize("discordance", [0.05, 0.15, 0.3, 0.6])
    @pytest.mark.parametrize("n", [20, 50, 150])
    def test_rejects_a_true_null_about_one_time_in_twenty_at_most(self, n, discordance):
        size = sum(
            stats.binom.pmf(m, n, discordance) * stats.binom.pmf(w, m, 0.5)
            for m in range(n + 1)
            if stats.binom.pmf(m, n, discordance) > 1e-7
            for w in range(m + 1)
            if mcnemar_mid_p(w, m - w) <= 0.05
        )
        assert size <= 0.0525

    def test_refuses_negative_counts(self):
        with pytest.raises(ValueError, match="counts"):
            mcnemar_mid_p(-1, 3)


def score_statistic(difference: float, wins: int, losses: int, n: int) -> float:
    """Tango's statistic with the nuisance parameter found by maximising the multinomial likelihood numerically."""

    def unlikelihood(lost: float) -> float:
        won, same = lost + difference, 1 - 2 * lost - difference
        terms = [(wins, won), (losses, lost), (n - wins - losses, same)]
        return -sum(count * math.log(max(share, 1e-300)) for count, share in terms if count)

    low, high = max(0.0, -difference), (1 - difference) / 2
    lost = optimize.minimize_scalar(unlikelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    variance = (2 * lost + difference - difference**2) / n
    return ((wins - losses) / n - difference) / math.sqrt(variance)


class TestTangoInterval:
    def test_matches_the_published_airway_example(self):
        assert tango_interval(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)  # Fagerland et al. (2014)

    @pytest.mark.parametrize(("wins", "losses", "n"), [(5, 3, 60), (40, 9, 150), (7, 1, 21), (12, 2, 14), (9, 20, 40)])
    def test_its_ends_are_where_the_score_test_turns(self, wins, losses, n):
        low, high = tango_interval(wins, losses, n, 0.9)
        assert score_statistic(low, wins, losses, n) == pytest.approx(stats.norm.ppf(0.95), abs=1e-4)
        assert score_statistic(high, wins, losses, n) == pytest.approx(-stats.norm.ppf(0.95), abs=1e-4)

    def test_without_discordant_pairs_it_still_has_a_width(self):
        z = stats.norm.ppf(0.975)
        assert tango_interval(0, 0, 60) == pytest.approx((-(z**2) / (60 + z**2), z**2 / (60 + z**2)))

    def test_all_wins_reach_one_and_not_zero(self):
        z = stats.norm.ppf(0.975)
        assert tango_interval(30, 0, 30) == pytest.approx(((30 - z**2) / (30 + z**2), 1.0))

    @given(counts, counts, st.integers(1, 60), st.floats(0.5, 0.99))
    def test_contains_the_estimate_mirrors_with_the_arms_and_nests_by_level(self, wins, losses, same, level):
        n = wins + losses + same
        low, high = tango_interval(wins, losses, n, level)
        assert -1 <= low < (wins - losses) / n < high <= 1
        assert tango_interval(losses, wins, n, level) == (-high, -low)
        wider = tango_interval(wins, losses, n, level + 0.005)
        assert wider[0] < low
        assert high < wider[1]

    @pytest.mark.parametrize(("n", "won", "lost"), [(20, 0.2, 0.1), (20, 0.3, 0.3), (50, 0.25, 0.1), (50, 0.4, 0.05)])
    def test_covers_the_truth_about_as_often_as_it_says(self, n, won, lost):
        covered = sum(
            stats.multinomial.pmf([wins, losses, n - wins - losses], n, [won, lost, 1 - won - lost])
            for wins in range(n + 1)
            for losses in range(n + 1 - wins)
            if tango_interval(wins, losses, n)[0] <= won - lost <= tango_interval(wins, losses, n)[1]
        )
        assert 0.94 <= covered <= 0.985

    @pytest.mark.parametrize("arguments", [(-1, 0, 5), (3, 3, 5), (0, 0, 0), (1, 1, 5, 1.0), (1, 1, 5, math.nan)])
    def test_refuses_impossible_counts_and_levels(self, arguments):
        with pytest.raises(ValueError, match=r"counts|level"):
            tango_interval(*arguments)


class TestSignFlipP:
    @pytest.mark.parametrize("n", [2, 5, 9, 13])
    def test_enumerates_small_samples_like_scipy(self, n):
        differences = np.random.default_rng(n).uniform(-0.5, 1, n)
        exact = stats.permutation_test((differences,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
        assert sign_flip_p(differences, rng()) == pytest.approx(exact)

    @pytest.mark.parametrize("shift", [0.03, 0.2])
    def test_draws_close_to_the_exact_p_in_larger_samples(self, shift):
        differences = np.random.default_rng(1).normal(shift, 0.3, 16).clip(-1, 1)
        exact = stats.permutation_test((differences,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
        assert sign_flip_p(differences, rng()) == pytest.approx(exact, abs=4 * math.sqrt(exact / 9_999) + 1e-4)

    def test_rounding_noise_does_not_break_ties(self):
        assert sign_flip_p([0.3 - 0.1, 0.9 - 0.7, 0.5 - 0.7], rng()) == 1.0

    def test_no_difference_gives_one(self):
        assert sign_flip_p([0.0] * 40, rng()) == 1.0

    def test_never_gives_zero(self):
        assert sign_flip_p([0.5] * 500, rng(), draws=999) == 1 / 1000

    @settings(max_examples=60)
    @given(graded, st.randoms(use_true_random=False))
    def test_depends_neither_on_row_order_nor_on_which_arm_is_which(self, differences, shuffler):
        p = sign_flip_p(differences, rng(), draws=199)
        assert 0 < p <= 1
        shuffled = shuffler.sample(differences, len(differences))
        assert sign_flip_p(shuffled, rng(), draws=199) == p
        assert sign_flip_p([-d for d in differences], rng(), draws=199) == p

    def test_rejects_a_true_null_one_time_in_twenty(self):
        samples = np.random.default_rng(3).normal(0, 0.3, (1000, 25)).clip(-1, 1)
        rejected = np.mean([sign_flip_p(sample, rng(), draws=399) <= 0.05 for sample in samples])
        assert 0.03 <= rejected <= 0.07

    @pytest.mark.parametrize("differences", [[], [math.nan], [0.1, math.inf], [1.5], [[0.1], [0.2]]])
    def test_refuses_what_is_no_list_of_differences(self, differences):
        with pytest.raises(ValueError, match="differences"):
            sign_flip_p(differences, rng())


def truncated_normal(source: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return source.normal(0.05, 0.3, size).clip(-1, 1)


def mostly_tied(source: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return np.where(source.random(size) < 0.15, source.beta(2, 1, size) * source.choice([-1, 1, 1], size), 0)


def skewed(source: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return source.beta(0.3, 3, size)


class TestStudentisedInterval:
    @pytest.mark.parametrize("population", [truncated_normal, mostly_tied, skewed])
    @pytest.mark.parametrize("n", [20, 60])
    def test_covers_the_mean_about_as_often_as_it_says(self, population, n):
        source = np.random.default_rng(5)
        truth = population(source, (1, 2_000_000)).mean()
        intervals = [studentised_interval(s, 0.95, source, draws=400) for s in population(source, (600, n))]
        covered = np.mean([low <= truth <= high for low, high in intervals])
        assert 0.92 <= covered <= 0.985

    def test_beats_students_t_on_skewed_scores(self):
        sample = skewed(np.random.default_rng(2), (1, 40))[0]
        student = stats.t.interval(0.95, 39, sample.mean(), stats.sem(sample))
        low, high = studentised_interval(sample, 0.95, rng())
        assert high - sample.mean() > 1.2 * (student[1] - sample.mean())
        assert low == pytest.approx(student[0])

    @settings(max_examples=60)
    @given(graded, st.randoms(use_true_random=False), st.floats(0.6, 0.98))
    def test_holds_the_mean_ignores_row_order_mirrors_and_nests(self, differences, shuffler, level):
        low, high = studentised_interval(differences, level, rng(), draws=400)
        assert -1 <= low <= np.mean(differences) + 1e-9
        assert np.mean(differences) - 1e-9 <= high <= 1
        shuffled = shuffler.sample(differences, len(differences))
        assert studentised_interval(shuffled, level, rng(), draws=400) == (low, high)
        mirrored = studentised_interval([-d for d in differences], level, rng(), draws=400)
        assert mirrored == pytest.approx((-high, -low), abs=1e-9)
        wider = studentised_interval(differences, level + 0.01, rng(), draws=400)
        assert wider[0] <= low
        assert high <= wider[1]

    def test_a_constant_sample_has_a_width_that_shrinks_with_rows(self):
        low, high = studentised_interval([0.0] * 60, 0.95, rng())
        assert low == pytest.approx(-high)
        assert high == pytest.approx(1 - 0.025 ** (1 / 60))
        assert studentised_interval([1.0] * 60, 0.95, rng()) == pytest.approx((1 - 2 * high, 1.0))

    def test_one_row_says_almost_nothing(self):
        low, high = studentised_interval([0.4], 0.95, rng())
        assert high - low > 1.9

    def test_two_wins_among_sixty_ties_do_not_rule_out_chance(self):
        low, high = studentised_interval([0.0] * 58 + [0.5, 0.7], 0.95, rng())
        assert low < 0 < high < 0.2
