"""What the planned sizes promise is what the tests deliver."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from promptopt.stats.paired import mcnemar_mid_p, sign_flip_p
from promptopt.stats.power import (
    detectable_gain,
    detectable_gain_graded,
    discordance_at,
    rows_needed,
    rows_needed_graded,
)


def exact_power(n: int, gain: float, discordance: float) -> float:
    """Probability that McNemar's mid-p test finds the gain, by enumerating every outcome."""
    total = 0.0
    for discordant in range(n + 1):
        weight = stats.binom.pmf(discordant, n, discordance)
        if weight > 1e-7:
            found = [
                w for w in range(discordant + 1) if 2 * w > discordant and mcnemar_mid_p(w, discordant - w) <= 0.05
            ]
            win = (discordance + gain) / (2 * discordance)
            total += weight * stats.binom.pmf(found, discordant, win).sum()
    return total


@pytest.mark.parametrize("discordance", [0.1, 0.25, 0.42])
@pytest.mark.parametrize("n", [20, 60, 150, 300])
def test_a_detectable_gain_is_found_at_least_four_times_in_five(n, discordance):
    gain = detectable_gain(n, discordance)
    assert 0.795 <= exact_power(n, gain, max(gain, discordance)) <= 0.9


def test_half_the_detectable_gain_is_mostly_missed():
    assert exact_power(60, detectable_gain(60) / 2, 0.25) < 0.4


@pytest.mark.parametrize("n", [15, 60, 200])
def test_a_detectable_graded_gain_is_found_about_four_times_in_five(n):
    source = np.random.default_rng(n)
    samples = source.normal(detectable_gain_graded(n, 0.2), 0.2, (800, n)).clip(-1, 1)
    found = np.mean([sign_flip_p(sample, source, draws=399) <= 0.05 for sample in samples])
    assert 0.75 <= found <= 0.86


def test_the_messages_example_holds():
    assert detectable_gain(60, 0.14) == pytest.approx(0.14, abs=0.01)
    assert rows_needed(0.04, 0.14) == pytest.approx(640, rel=0.1)


@given(st.integers(6, 3000), st.floats(0.01, 0.9), st.sampled_from([0.05, 0.025, 0.0125]))
def test_rows_needed_undoes_detectable_gain(n, discordance, alpha):
    gain = detectable_gain(n, discordance, alpha=alpha)
    assert gain is None or rows_needed(gain, discordance, alpha=alpha) in (n, n + 1, math.ceil(-math.log2(alpha)))


@given(st.integers(7, 3000), st.floats(0.05, 0.9))
def test_the_same_holds_for_graded_scores(n, spread):
    gain = detectable_gain_graded(n, spread)
    assert gain is None or rows_needed_graded(gain, spread) in (n, n + 1)


@given(st.integers(5, 2000), st.integers(1, 500))
def test_more_rows_show_smaller_gains(n, more):
    assert detectable_gain(n + more) <= detectable_gain(n)


def test_too_few_rows_show_nothing_and_say_so():
    assert detectable_gain(4) is None  # four wins of four: p = 0.0625
    assert detectable_gain(5) is not None
    assert detectable_gain_graded(5) is None  # five of one sign: p = 0.0625
    assert detectable_gain(0) is None


def test_discordance_follows_from_baseline_and_correlation():
    assert discordance_at(0.5) == 0.25
    assert discordance_at(0.9, 0.0) == pytest.approx(0.18)
    with pytest.raises(ValueError, match="baseline"):
        discordance_at(1.2)


@pytest.mark.parametrize(
    "call",
    [
        lambda: rows_needed(0.0),
        lambda: rows_needed(0.1, 1.5),
        lambda: detectable_gain(60, alpha=0.0),
        lambda: detectable_gain_graded(60, -0.1),
        lambda: rows_needed_graded(math.nan),
        lambda: rows_needed_graded(0.1, power=1.0),
    ],
)
def test_impossible_plans_are_refused(call):
    with pytest.raises(ValueError, match="lie"):
        call()
