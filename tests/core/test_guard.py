"""The verdict on the sealed test: when it promotes, when it refuses to say, and what it tells a manager."""

import json
import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptopt.core import guard
from promptopt.core.guard import Verdict, judge_test, no_test_rows, nothing_better, smallest_gain
from promptopt.core.sealed import Pair, level_of
from promptopt.stats.paired import mcnemar_mid_p, tango_interval
from promptopt.stats.power import detectable_gain


def counted(wins: int, losses: int, both: int, neither: int) -> list[Pair]:
    scores = [(0.0, 1.0)] * wins + [(1.0, 0.0)] * losses + [(1.0, 1.0)] * both + [(0.0, 0.0)] * neither
    return [Pair(f"row-{i}", old, new) for i, (old, new) in enumerate(scores)]


def graded(differences, group=None) -> list[Pair]:
    return [
        Pair(f"row-{i}", 0.5, 0.5 + float(d), None if group is None else group(i)) for i, d in enumerate(differences)
    ]


def without(pairs: list[Pair], rows: int, arm: str) -> list[Pair]:
    return [
        Pair(p.example_id, None if arm == "baseline" else p.baseline, None if arm == "best" else p.best, p.group)
        if i < rows
        else p
        for i, p in enumerate(pairs)
    ]


def said(verdict: Verdict) -> str:
    return " ".join(verdict.reasons)


GAIN = counted(40, 9, 60, 41)
UNCLEAR = counted(5, 3, 38, 14)


class TestBinaryScores:
    def test_a_clear_gain_is_promoted_by_mcnemar_and_tango(self):
        verdict = judge_test(GAIN, binary=True)
        assert verdict.outcome == "PROMOTE"
        assert verdict.test.p == mcnemar_mid_p(40, 9)
        assert verdict.test.ci == tango_interval(40, 9, 150, 0.95)
        assert (verdict.test.n, verdict.test.baseline, verdict.test.best) == (150, 69 / 150, 100 / 150)
        assert verdict.test.method == "McNemar mid-p, Tango interval"

    def test_a_clear_loss_is_rejected(self):
        verdict = judge_test(counted(9, 40, 60, 41), binary=True)
        assert verdict.outcome == "REJECT"
        assert "loss is larger than chance explains" in said(verdict)

    def test_a_small_difference_is_inconclusive_and_says_what_would_show_it(self):
        verdict = judge_test(UNCLEAR, binary=True)
        assert verdict.outcome == "INCONCLUSIVE"
        assert verdict.reasons == (
            "the new prompt scored 0.72 against 0.68 on 60 unseen rows "
            "(difference +0.03, 95 % interval -0.07 to +0.14).",
            "60 rows can show a difference of about 0.13; 1,200 would show 0.03. "
            "Keep the current prompt or add test rows.",
        )

    def test_no_discordant_pair_is_inconclusive_with_an_interval_of_some_width(self):
        verdict = judge_test(counted(0, 0, 38, 22), binary=True)
        assert verdict.outcome == "INCONCLUSIVE"
        assert verdict.test.ci[0] < -0.05
        assert verdict.test.ci[1] > 0.05
        assert "scored the same on all 60 rows" in said(verdict)

    def test_where_test_and_interval_disagree_nothing_is_claimed(self):
        verdict = judge_test(counted(4, 0, 30, 6), binary=True)
        assert verdict.test.ci[0] > 0
        assert verdict.test.p == 0.0625
        assert verdict.outcome == "INCONCLUSIVE"
        assert "do not agree" in said(verdict)

    def test_too_few_rows_to_show_anything_say_so(self):
        verdict = judge_test(counted(3, 0, 0, 0), binary=True)
        assert verdict.outcome == "INCONCLUSIVE"
        assert "3 rows can show no difference at all" in said(verdict)

    def test_a_declared_binary_metric_with_a_half_point_is_treated_as_graded(self):
        verdict = judge_test([*GAIN, Pair("half", 0.0, 0.5)], binary=True)
        assert verdict.test.binary is False
        assert verdict.test.method == "sign-flip permutation, studentised interval"

    def test_zeros_and_ones_of_a_graded_metric_stay_graded(self):
        verdict = judge_test(GAIN, binary=False)
        assert verdict.outcome == "PROMOTE"
        assert verdict.test.binary is False


class TestGradedScores:
    def test_a_clear_gain_is_promoted(self):
        differences = np.random.default_rng(1).normal(0.1, 0.15, 80).clip(-0.5, 0.5)
        verdict = judge_test(graded(differences), binary=False)
        assert verdict.outcome == "PROMOTE"
        assert verdict.test.diff == pytest.approx(differences.mean())

    def test_equal_scores_everywhere_are_inconclusive(self):
        verdict = judge_test(graded([0.0] * 60), binary=False)
        assert verdict.outcome == "INCONCLUSIVE"
        assert verdict.test.ci[0] < 0 < verdict.test.ci[1]


class TestGroups:
    def test_are_averaged_first_and_counted_once(self):
        differences = np.random.default_rng(2).normal(0.12, 0.15, 160).clip(-0.5, 0.5)
        verdict = judge_test(graded(differences, lambda i: f"session {i // 8}"), binary=False)
        assert verdict.outcome == "PROMOTE"
        assert verdict.test.groups == 20
        assert "160 unseen rows in 20 groups" in said(verdict)
        assert verdict.test.diff == pytest.approx(differences.reshape(20, 8).mean(axis=1).mean())

    def test_under_ten_are_inconclusive_however_large_the_gain(self):
        verdict = judge_test(graded([0.4] * 90, lambda i: f"session {i // 10}"), binary=False)
        assert verdict.outcome == "INCONCLUSIVE"
        assert "9 groups; at least 10 are needed" in said(verdict)

    def test_of_one_row_each_are_rows(self):
        pairs = [Pair(p.example_id, p.baseline, p.best, f"customer {i}") for i, p in enumerate(GAIN)]
        assert judge_test(pairs, binary=True) == judge_test(GAIN, binary=True)

    def test_a_row_without_one_stands_alone(self):
        pairs = graded(np.linspace(-0.2, 0.4, 30), lambda i: "shared" if i < 10 else None)
        assert judge_test(pairs, binary=False).test.groups == 21

    def test_many_rows_of_few_lucky_sessions_do_not_promote(self):
        lucky = [0.3] * 40 + [0.0] * 160
        rows = judge_test(graded(lucky), binary=False)
        sessions = judge_test(graded(lucky, lambda i: f"session {i // 20}"), binary=False)
        assert rows.outcome == "PROMOTE"
        assert sessions.outcome == "INCONCLUSIVE"


class TestMissingScores:
    def test_only_rows_with_both_scores_are_compared(self):
        verdict = judge_test(without(GAIN, 10, "best"), binary=True)
        assert (verdict.test.n, verdict.test.missing) == (140, 10)
        assert verdict.test.p == mcnemar_mid_p(30, 9)
        assert verdict.outcome == "PROMOTE"

    def test_above_the_allowed_share_nothing_is_claimed(self):
        verdict = judge_test(without(GAIN, 16, "best"), binary=True)
        assert verdict.outcome == "INCONCLUSIVE"
        assert "11 % of the rows lack a score, and at most 10 % may" in said(verdict)

    def test_the_bounds_count_missing_scores_at_their_worst_and_best(self):
        pairs = [Pair("a", 0.5, None), Pair("b", None, 0.5), Pair("c", None, None), Pair("d", 0.25, 0.75)]
        verdict = judge_test(pairs, binary=False)
        low, high = (-0.5 - 0.5 - 1 + 0.5) / 4, (0.5 + 0.5 + 1 + 0.5) / 4
        assert verdict.test.worst_case == pytest.approx((low, high))
        assert f"{low:+.2f} and {high:+.2f}" in said(verdict)

    def test_there_are_no_bounds_where_nothing_is_missing(self):
        assert judge_test(GAIN, binary=True).test.worst_case is None

    def test_a_judge_that_is_down_neither_promotes_nor_rejects(self):
        verdict = judge_test(without(GAIN, 150, "best"), binary=True)
        assert (verdict.outcome, verdict.test) == ("INCONCLUSIVE", None)
        assert "none of the 150 test rows" in said(verdict)


class TestOpenings:
    def test_each_one_halves_the_level_and_widens_the_interval(self):
        first, third = judge_test(GAIN, binary=True), judge_test(GAIN, binary=True, opening=3)
        assert (first.test.alpha, third.test.alpha) == (0.05, 0.0125)
        assert third.test.ci[0] < first.test.ci[0]
        assert third.test.ci == tango_interval(40, 9, 150, 0.9875)
        assert "98.75 % interval" in said(third)
        assert "opened 3 times" in said(third)
        assert "opened" not in said(first)

    def test_a_gain_that_the_first_would_promote_may_not_pass_the_second(self):
        pairs = counted(16, 6, 30, 30)
        assert judge_test(pairs, binary=True).outcome == "PROMOTE"
        assert judge_test(pairs, binary=True, opening=2).outcome == "INCONCLUSIVE"

    def test_all_of_them_together_stay_under_twice_alpha(self):
        assert sum(level_of(k) for k in range(1, 50)) <= 0.1

    def test_are_counted_from_one(self):
        with pytest.raises(ValueError, match="counted from 1"):
            judge_test(GAIN, binary=True, opening=0)


class TestWithoutATest:
    def test_no_rows_are_inconclusive(self):
        assert judge_test([], binary=True) == no_test_rows()
        assert no_test_rows().outcome == "INCONCLUSIVE"
        assert "no held-out rows" in said(no_test_rows())

    def test_nothing_better_on_val_keeps_the_test_sealed(self):
        assert nothing_better().outcome == "REJECT"
        assert nothing_better().test is None
        assert "no candidate beat the baseline on val" in said(nothing_better())
        assert "sealed" in said(nothing_better())


class TestBadRows:
    def test_a_row_that_comes_twice_is_refused(self):
        with pytest.raises(ValueError, match="'row-0' is in the test twice"):
            judge_test([*GAIN, Pair("row-0", 1.0, 1.0)], binary=True)

    @pytest.mark.parametrize("score", [1.2, -0.1, math.nan, math.inf])
    def test_a_value_that_is_no_score_is_refused_by_row(self, score):
        with pytest.raises(ValueError, match="'bad' has a score outside"):
            judge_test([*GAIN, Pair("bad", 1.0, score)], binary=True)


def test_the_result_file_gets_plain_json_values():
    verdict = judge_test(without(GAIN, 10, "best"), binary=True)
    body = json.loads(json.dumps(verdict.test.to_json(), allow_nan=False))
    assert {"n", "baseline", "best", "diff", "ci", "p", "method", "missing"} <= set(body)
    assert body["ci"] == list(verdict.test.ci)
    assert body["worst_case"] == list(verdict.test.worst_case)


def test_an_interval_that_ends_near_zero_is_printed_finely_enough_to_tell():
    verdict = judge_test(counted(4, 0, 30, 6), binary=True)
    assert "interval +0.004 to" in said(verdict)


unit = st.sampled_from([0.0, 0.2, 0.5, 1.0, None])
rows = st.lists(st.tuples(unit, unit, st.sampled_from([None, "a", "b"])), min_size=1, max_size=30)


@settings(max_examples=60)
@given(rows, st.randoms(use_true_random=False), st.booleans())
def test_row_order_does_not_matter(rows, shuffler, binary):
    pairs = [Pair(f"row-{i}", old, new, group) for i, (old, new, group) in enumerate(rows)]
    assert judge_test(shuffler.sample(pairs, len(pairs)), binary=binary) == judge_test(pairs, binary=binary)


@settings(max_examples=60)
@given(rows, st.booleans())
def test_swapping_the_arms_mirrors_the_result(rows, binary):
    pairs = [Pair(f"row-{i}", old, new, group) for i, (old, new, group) in enumerate(rows)]
    with mock.patch.object(guard, "MAX_MISSING", 1.0):
        ahead = judge_test(pairs, binary=binary)
        behind = judge_test([Pair(p.example_id, p.best, p.baseline, p.group) for p in pairs], binary=binary)
    assert behind.outcome == {"PROMOTE": "REJECT", "REJECT": "PROMOTE"}.get(ahead.outcome, "INCONCLUSIVE")
    if ahead.test is not None:
        assert behind.test.p == ahead.test.p
        assert behind.test.diff == pytest.approx(-ahead.test.diff)
        assert behind.test.ci == pytest.approx((-ahead.test.ci[1], -ahead.test.ci[0]), abs=1e-9)
        assert ahead.test.ci[0] - 1e-9 <= ahead.test.diff <= ahead.test.ci[1] + 1e-9


def promoted(draw, reps: int, *, binary: bool) -> tuple[float, float]:
    """Shares of PROMOTE and of REJECT over simulated tests; `draw(rng)` gives the two arms' scores."""
    source, outcomes = np.random.default_rng(11), []
    for _ in range(reps):
        old, new = draw(source)
        pairs = [Pair(str(i), float(a), float(b)) for i, (a, b) in enumerate(zip(old, new, strict=True))]
        outcomes.append(judge_test(pairs, binary=binary).outcome)
    return outcomes.count("PROMOTE") / reps, outcomes.count("REJECT") / reps


def answers(n: int, discordance: float, gain: float):
    """Right or wrong answers of two arms with the given discordance and gain."""
    chances = [(discordance + gain) / 2, (discordance - gain) / 2, (1 - discordance) / 2, (1 - discordance) / 2]

    def draw(source: np.random.Generator):
        kind = source.choice(4, p=chances, size=n)
        return np.isin(kind, (1, 2)), np.isin(kind, (0, 2))

    return draw


class TestErrorRates:
    @pytest.mark.parametrize("n", [30, 150])
    def test_equal_prompts_are_promoted_or_rejected_in_one_of_twenty_tests_at_most(self, n):
        better, worse = promoted(answers(n, 0.25, 0.0), 800, binary=True)
        assert better <= 0.025 + 3 * math.sqrt(0.025 / 800)
        assert worse <= 0.025 + 3 * math.sqrt(0.025 / 800)

    def test_the_same_holds_for_graded_scores(self):
        def draw(source: np.random.Generator):
            level = source.random(40)
            return (level + source.normal(0, 0.2, (2, 40))).clip(0, 1)

        better, worse = promoted(draw, 200, binary=False)
        assert better + worse <= 0.05 + 3 * math.sqrt(0.05 / 200)

    @pytest.mark.parametrize("n", [60, 150])
    def test_a_planted_gain_of_the_planned_size_is_promoted_at_about_the_planned_power(self, n):
        gain = smallest_gain(n, binary=True)
        assert gain == detectable_gain(n, 0.25)
        better, _ = promoted(answers(n, 0.25, gain), 600, binary=True)
        assert 0.75 <= better <= 0.89

    def test_the_planned_power_holds_for_graded_scores(self):
        gain = smallest_gain(60, binary=False)

        def draw(source: np.random.Generator):
            shift = source.normal(gain, 0.35, 60).clip(-1, 1) / 2
            return 0.5 - shift, 0.5 + shift

        better, _ = promoted(draw, 120, binary=False)
        assert 0.68 <= better <= 0.92


class TestPlan:
    def test_a_later_opening_and_fewer_rows_show_only_larger_gains(self):
        first = smallest_gain(150, binary=True)
        assert smallest_gain(150, binary=True, opening=2) > first
        assert smallest_gain(60, binary=True) > first

    def test_groups_are_what_counts_and_fewer_than_ten_show_nothing(self):
        assert smallest_gain(200, binary=True, groups=20) == smallest_gain(20, binary=False)
        assert smallest_gain(200, binary=True, groups=9) is None
        assert smallest_gain(200, binary=True, groups=200) == smallest_gain(200, binary=True)
