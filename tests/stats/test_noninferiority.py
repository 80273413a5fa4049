"""A student that is worse by the margin passes one time in twenty at most, and an equal one as often as planned."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from noninferiority import GRADED, GROUPED, bets, fewest_wins, normal, not_different, passing, student_t
from scipy import optimize, stats

from promptopt.stats.betting import betting_bound, betting_p
from promptopt.stats.clustered import group_means
from promptopt.stats.multiple import holm
from promptopt.stats.noninferiority import (
    noninferiority_of_counts,
    noninferiority_of_groups,
    noninferiority_of_scores,
    rows_for_margin,
    rows_for_margin_graded,
    rows_to_pass,
    score_p,
    smallest_margin,
    smallest_margin_graded,
)
from promptopt.stats.paired import tango_interval

MARGIN = 0.05
counts = st.integers(0, 25)
graded = st.lists(st.sampled_from([-1.0, -0.5, -0.1, 0.0, 0.0, 0.0, 0.1, 0.4, 1.0]), min_size=1, max_size=120)
margins = st.sampled_from([0.02, 0.05, 0.1, 0.2, 0.4])


def rng(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


def by_chance(draws: int) -> float:
    """The largest share of `draws` that one in twenty comes to but one time in a thousand."""
    return float(stats.binom.ppf(0.999, draws, 0.05)) / draws


def score_statistic(wins: int, losses: int, n: int, null: float) -> float:
    """Tango's statistic, the nuisance parameter found by maximising the multinomial likelihood numerically."""

    def unlikelihood(lost: float) -> float:
        terms = [(wins, lost + null), (losses, lost), (n - wins - losses, 1 - 2 * lost - null)]
        return -sum(count * math.log(max(share, 1e-300)) for count, share in terms if count)

    bounds = (max(0.0, -null), (1 - null) / 2)
    lost = optimize.minimize_scalar(unlikelihood, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    return (wins - losses - n * null) / math.sqrt(max(n * (2 * lost + null - null**2), 1e-12))


def enumerated_p(wins: int, losses: int, n: int, null: float) -> float:
    """The exact p value from every table there is, at each of 400 values of the nuisance parameter."""
    tables = [(w, x) for w in range(n + 1) for x in range(n + 1 - w)]
    reached = score_statistic(wins, losses, n, null) - 1e-5
    extreme = [(w, x, n - w - x) for w, x in tables if score_statistic(w, x, n, null) >= reached]
    shares = np.linspace(max(0.0, -null), (1 - null) / 2, 400)
    return max(
        stats.multinomial.pmf(extreme, n, [lost + null, lost, max(1 - 2 * lost - null, 0.0)]).sum() for lost in shares
    )


class TestCounts:
    @pytest.mark.parametrize(
        ("wins", "losses", "n", "null"),
        [(0, 0, 15, -0.1), (2, 1, 15, -0.2), (1, 4, 15, -0.05), (5, 2, 12, 0.1), (3, 3, 20, -0.3), (0, 2, 20, -0.3)],
    )
    def test_the_p_value_is_that_of_enumerating_every_table(self, wins, losses, n, null):
        expected = enumerated_p(wins, losses, n, null)
        assert score_p(wins, losses, n, null) == pytest.approx(expected, rel=2e-3)
        assert score_p(wins, losses, n, null) >= expected - 1e-4

    @pytest.mark.parametrize("margin", [0.02, 0.05, 0.1])
    def test_an_identical_student_passes_on_enough_rows_and_not_on_one_fewer(self, margin):
        enough = rows_to_pass(margin)
        assert (1 - margin) ** enough <= noninferiority_of_counts(0, 0, enough, margin).p + 1e-12 <= 0.05
        assert noninferiority_of_counts(0, 0, enough - 1, margin).p > 0.05
        assert noninferiority_of_counts(0, 0, enough, margin).lower > -margin

    def test_fifty_nine_rows_let_an_identical_student_pass_at_five_points(self):
        assert rows_to_pass(0.05) == 59

    def test_the_normal_approximation_passes_too_many_where_all_rows_but_the_losses_tie(self):
        passed = sum(
            stats.binom.pmf(losses, 52, 0.05) for losses in range(10) if tango_interval(0, losses, 52, 0.9)[0] >= -0.05
        )
        assert passed > 0.069
        assert passing(fewest_wins(52, 0.05, 20), 52, 0.0, 0.05) == 0.0

    @pytest.mark.parametrize(
        "n", [50, 100, *(pytest.param(n, marks=pytest.mark.slow) for n in (52, 53, 75, 200, 400, 800))]
    )
    @pytest.mark.parametrize("margin", [0.02, 0.05, 0.1])
    def test_a_student_worse_by_the_margin_passes_one_time_in_twenty_at_most(self, n, margin):
        fewest = fewest_wins(n, margin, n * 45 // 100)
        for discordance in (margin, margin + 0.01, 0.11, 0.16, 0.25, 0.4, 0.6):
            if discordance >= margin:
                assert passing(fewest, n, (discordance - margin) / 2, (discordance + margin) / 2) <= 0.05
        assert passing(fewest, n, 0.0, 2 * margin) <= 0.05  # worse still

    @settings(max_examples=8, deadline=None)
    @given(counts, counts, st.integers(1, 80), margins)
    def test_the_bound_and_the_p_value_agree(self, wins, losses, same, margin):
        found = noninferiority_of_counts(wins, losses, wins + losses + same, margin)
        assume(abs(found.lower + margin) > 1e-4)
        assert (found.lower > -margin) == (found.p <= 0.05)
        assert (found.ci[1] < -margin) == (found.p_inferior <= 0.05)
        assert found.lower <= found.diff <= found.ci[1]

    @settings(max_examples=5, deadline=None)
    @given(counts, counts, st.integers(1, 80))
    def test_swapping_the_arms_mirrors_the_interval_which_is_close_to_tangos(self, wins, losses, same):
        n = wins + losses + same
        found, swapped = (noninferiority_of_counts(w, x, n, MARGIN) for w, x in ((wins, losses), (losses, wins)))
        assert swapped.ci == (-found.ci[1], -found.ci[0])
        assert swapped.spread == found.spread
        assert found.ci == pytest.approx(tango_interval(wins, losses, n, 0.9), abs=0.25 / math.sqrt(n))

    @settings(max_examples=20, deadline=None)
    @given(counts, counts, st.integers(30, 150), st.sampled_from([(0.02, 0.05), (0.05, 0.1), (0.1, 0.2)]))
    def test_a_wider_margin_and_a_further_win_make_it_easier(self, wins, losses, same, pair):
        n = wins + losses + same
        narrow, wide = (score_p(wins, losses, n, -margin) for margin in pair)
        assert wide <= narrow + 1e-9
        assert score_p(wins + 1, losses, n, -pair[0]) <= narrow + 1e-9

    def test_a_much_worse_student_is_inferior(self):
        found = noninferiority_of_counts(4, 40, 200, MARGIN)
        assert found.p_inferior < 0.05 < found.p
        assert found.ci[1] < -MARGIN

    @pytest.mark.parametrize(
        "arguments", [(-1, 0, 5, 0.1), (3, 3, 5, 0.1), (0, 0, 0, 0.1), (0, 0, 9, 0.0), (0, 0, 9, 1)]
    )
    def test_refuses_impossible_counts_and_margins(self, arguments):
        with pytest.raises(ValueError, match=r"counts|margin"):
            noninferiority_of_counts(*arguments)


class TestScores:
    @pytest.mark.parametrize(("low", "high"), [(-1.0, 0.0), (-1.0, 0.1), (-0.2, 1.0), (-0.3, 0.3)])
    def test_p_values_hold_at_every_level_over_all_samples_of_two_values(self, low, high):
        null, n = -0.1, 12
        chance = (null - low) / (high - low)
        samples = np.array(list(itertools.product((low, high), repeat=n)))
        weights = np.prod(np.where(samples == high, chance, 1 - chance), axis=1)
        p_values = np.array([betting_p(sample, null, 0.2) for sample in samples])
        assert weights.sum() == pytest.approx(1)
        for level in (0.5, 0.2, 0.1, 0.05, 0.02):
            assert weights[p_values <= level].sum() <= level + 1e-12

    @pytest.mark.parametrize("n", [50, 100, 200, *(pytest.param(n, marks=pytest.mark.slow) for n in (400, 800))])
    @pytest.mark.parametrize("population", GRADED)
    def test_a_student_worse_by_the_margin_passes_one_time_in_twenty_at_most(self, population, n):
        values = GRADED[population](rng(n), (n, 4000), -MARGIN)
        assert bets(values, MARGIN).mean() <= by_chance(4000)

    @pytest.mark.slow
    @pytest.mark.parametrize("n", [50, 100, 200, 400, 800])
    @pytest.mark.parametrize("margin", [0.02, 0.05, 0.1])
    @pytest.mark.parametrize("population", GRADED | GROUPED)
    def test_and_so_it_is_in_a_large_simulation(self, population, margin, n):
        values = (GRADED | GROUPED)[population](rng(n), (n, 20_000), -margin)
        assert bets(values, margin).mean() <= by_chance(20_000)

    def test_students_t_does_not_hold_where_losses_are_rare_and_large(self):
        values = GRADED["rare, gains"](rng(), (50, 4000), -MARGIN)
        assert student_t(values, MARGIN).mean() > 0.15

    @pytest.mark.parametrize(("population", "n"), [("spread 0.35", 50), ("rare, gains", 50), ("spread 0.35", 100)])
    def test_not_significantly_different_would_pass_a_worse_student(self, population, n):
        values = GRADED[population](rng(), (n, 4000), -MARGIN)
        assert not_different(values, MARGIN).mean() > 0.6
        assert bets(values, MARGIN).mean() <= by_chance(4000)

    def test_fewer_rows_make_not_significantly_different_worse_and_non_inferiority_harder(self):
        few, many = (normal(0.35)(rng(n), (n, 2000), -MARGIN) for n in (30, 800))
        assert not_different(few, MARGIN).mean() > 0.85 > 0.1 > not_different(many, MARGIN).mean()
        few, many = (normal(0.35)(rng(n), (n, 2000), 0.0) for n in (30, 800))
        assert bets(few, MARGIN).mean() < 0.15 < 0.95 < bets(many, MARGIN).mean()

    @settings(max_examples=60, deadline=None)
    @given(graded, st.randoms(use_true_random=False), margins)
    def test_row_order_does_not_matter(self, differences, shuffler, margin):
        shuffled = shuffler.sample(differences, len(differences))
        found = noninferiority_of_scores(differences, margin, rng())
        assert found == noninferiority_of_scores(shuffled, margin, rng())

    @settings(max_examples=100, deadline=None)
    @given(graded, margins)
    def test_the_bound_and_the_p_value_agree(self, differences, margin):
        found = noninferiority_of_scores(differences, margin, rng())
        assume(abs(found.lower + margin) > 1e-3)
        assume(abs(found.ci[1] + margin) > 1e-3)
        assert (found.lower > -margin) == (found.p <= 0.05)
        assert (found.ci[1] < -margin) == (found.p_inferior <= 0.05)
        assert -1 <= found.lower <= found.diff + 1e-9
        assert found.diff - 1e-9 <= found.ci[1] <= 1

    @settings(max_examples=60, deadline=None)
    @given(graded, st.sampled_from([0.01, 0.05, 0.2]))
    def test_all_means_below_the_bound_are_rejected_and_a_surer_bound_is_lower(self, differences, level):
        values = rng().permutation(np.array(differences))
        bound = betting_bound(values, level)
        assume(bound > -0.98)
        assert all(betting_p(values, null, level) <= level + 1e-9 for null in np.linspace(-0.99, bound - 1e-3, 20))
        assert betting_bound(values, level / 4) <= bound + 0.02

    def test_an_identical_student_passes_on_a_few_rows_more_than_when_counted(self):
        assert noninferiority_of_scores([0.0] * 65, MARGIN, rng()).p <= 0.05
        assert noninferiority_of_scores([0.0] * 58, MARGIN, rng()).p > 0.05

    def test_more_rows_than_needed_bring_the_p_value_down(self):
        assert noninferiority_of_scores([0.0] * 400, MARGIN, rng()).p < 1e-3

    def test_a_much_worse_student_is_inferior(self):
        found = noninferiority_of_scores(rng().normal(-0.2, 0.2, 200).clip(-1, 1), MARGIN, rng())
        assert found.p_inferior < 0.05 < found.p
        assert found.ci[1] < -MARGIN
        assert found.spread == pytest.approx(0.2, abs=0.03)

    def test_three_students_worse_by_the_margin_rarely_see_one_of_them_pass_after_holm(self):
        source = rng()
        passed = 0
        for _ in range(200):
            students = [GRADED["mostly tied"](source, (150, 1), -MARGIN)[:, 0] for _ in range(3)]
            passed += min(holm([noninferiority_p(student, source) for student in students])) <= 0.05
        assert passed / 200 <= by_chance(200)

    @pytest.mark.parametrize("differences", [[], [math.nan], [1.5]])
    def test_refuses_what_is_no_list_of_differences(self, differences):
        with pytest.raises(ValueError, match="differences"):
            noninferiority_of_scores(differences, MARGIN, rng())

    @pytest.mark.parametrize("margin", [0.0, 1.0, -0.1, math.nan])
    def test_refuses_a_margin_that_is_none(self, margin):
        with pytest.raises(ValueError, match="margin"):
            noninferiority_of_scores([0.0], margin, rng())


def noninferiority_p(values: np.ndarray, source: np.random.Generator) -> float:
    return betting_p(source.permutation(values), -MARGIN, 0.05)


class TestGroups:
    def test_every_group_counts_once(self):
        source = rng()
        student, teacher = source.random(200).tolist(), source.random(200).tolist()
        groups = [f"session {i % 25}" for i in range(200)]
        found = noninferiority_of_groups(student, teacher, groups, MARGIN, rng())
        means = group_means(student, groups) - group_means(teacher, groups)
        assert found == noninferiority_of_scores(means, MARGIN, rng())
        assert (found.n, found.method) == (25, "betting")

    @pytest.mark.parametrize("n", [10, 20, 50, 100, 200])
    @pytest.mark.parametrize("population", GROUPED)
    def test_a_student_worse_by_the_margin_passes_one_time_in_twenty_at_most(self, population, n):
        values = GROUPED[population](rng(n), (n, 4000), -MARGIN)
        assert bets(values, MARGIN).mean() <= by_chance(4000)

    def test_students_t_over_groups_does_not_hold_where_whole_sessions_are_lost(self):
        assert student_t(GROUPED["lost sessions"](rng(), (20, 4000), -MARGIN), MARGIN).mean() > 0.25

    def test_rows_of_a_session_do_not_pass_for_independent_ones(self):
        values = np.repeat(GROUPED["lost sessions"](rng(), (20, 4000), -MARGIN), 8, axis=0)
        assert rng().permuted(bets(values, MARGIN)).mean() > 0.2


class TestPlans:
    def test_five_points_take_about_four_hundred_pairs(self):
        assert rows_for_margin(0.05, 0.155) == pytest.approx(400, abs=5)
        assert rows_for_margin(0.05, 0.155, true_diff=-0.02) > 1000

    @pytest.mark.parametrize(
        ("margin", "discordance", "diff"),
        [(0.1, 0.05, 0.0), (0.1, 0.16, 0.0), (0.1, 0.3, -0.02), (0.1, 0.16, 0.02), (0.05, 0.1, 0.0)],
    )
    @pytest.mark.parametrize("power", [0.8, 0.9])
    def test_an_equal_student_passes_as_often_as_planned(self, margin, discordance, diff, power):
        n = rows_for_margin(margin, discordance, true_diff=diff, power=power)
        won, lost = (discordance + diff) / 2, (discordance - diff) / 2
        reached = passing(fewest_wins(n, margin, math.ceil(n * lost + 5 * math.sqrt(n * lost))), n, won, lost)
        assert power - 0.04 <= reached <= power + 0.08

    @pytest.mark.parametrize(("margin", "spread"), [(0.05, 0.05), (0.05, 0.2), (0.05, 0.35), (0.1, 0.1), (0.1, 0.35)])
    @pytest.mark.parametrize("diff", [0.0, -0.02])
    def test_the_same_holds_for_graded_scores(self, margin, spread, diff):
        n = rows_for_margin_graded(margin, spread, true_diff=diff)
        reached = bets(normal(spread)(rng(n), (n, 3000), diff), margin).mean()
        assert 0.77 <= reached <= 0.9

    @given(st.integers(20, 5000), st.floats(0.0, 0.9))
    def test_the_smallest_margin_undoes_the_rows(self, n, discordance):
        margin = smallest_margin(n, discordance)
        assert margin is None or 0.998 * n - 1 <= rows_for_margin(margin, discordance) <= n

    @given(st.integers(20, 5000), st.floats(0.0, 0.9))
    def test_the_same_holds_for_spreads(self, n, spread):
        margin = smallest_margin_graded(n, spread)
        assert margin is None or 0.998 * n - 1 <= rows_for_margin_graded(margin, spread) <= n

    def test_too_few_rows_carry_no_margin(self):
        assert smallest_margin(0, 0.2) is None
        assert smallest_margin_graded(0, 0.2) is None

    def test_no_number_of_rows_passes_a_student_that_is_worse_by_the_margin(self):
        assert rows_for_margin(0.05, 0.2, true_diff=-0.05) is None
        assert rows_for_margin_graded(0.05, 0.2, true_diff=-0.06) is None

    @pytest.mark.parametrize(
        "call",
        [
            lambda: rows_for_margin(0.0, 0.2),
            lambda: rows_for_margin(0.05, 1.2),
            lambda: rows_for_margin(0.05, 0.2, power=1.0),
            lambda: rows_for_margin_graded(0.05, -0.1),
            lambda: rows_for_margin_graded(0.05, 0.1, true_diff=2.0),
            lambda: rows_for_margin_graded(0.05, 0.1, level=0.0),
            lambda: smallest_margin(100, math.nan),
        ],
    )
    def test_impossible_plans_are_refused(self, call):
        with pytest.raises(ValueError, match=r"lies? (in|between)"):
            call()
