"""Groups count once each, and their rows do not pass for independent ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from promptopt.stats.clustered import compare_groups, group_means

rows = st.lists(
    st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from("abcdef")),
    min_size=1,
    max_size=40,
)


def compare(sample, seed=0):
    baseline, best, groups = zip(*sample, strict=True)
    return compare_groups(baseline, best, groups, 0.95, np.random.default_rng(seed))


def test_every_group_counts_once_whatever_its_size():
    found = compare([(0.0, 1.0, "small"), *[(0.5, 0.5, "large")] * 9])
    assert (found.groups, found.baseline, found.best) == (2, 0.25, 0.75)
    assert found.differences.tolist() == [0.0, 1.0]


def test_the_interval_is_students_over_groups():
    source = np.random.default_rng(4)
    baseline, best = source.random(120) * 0.5, source.random(120)
    groups = [f"session {i % 12}" for i in range(120)]
    means = np.array([(best - baseline)[i::12].mean() for i in range(12)])
    expected = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    found = compare_groups(baseline.tolist(), best.tolist(), groups, 0.95, source)
    assert found.interval == pytest.approx((expected.low, expected.high))


@given(rows, st.randoms(use_true_random=False))
def test_row_order_does_not_matter(sample, shuffler):
    found, shuffled = compare(sample), compare(shuffler.sample(sample, len(sample)))
    assert (found.p, found.interval, found.best) == (shuffled.p, shuffled.interval, shuffled.best)
    assert found.groups == len({group for _, _, group in sample})


def test_correlated_rows_keep_size_and_coverage_where_rows_taken_singly_do_not():
    source = np.random.default_rng(6)
    groups = [f"session {i // 8}" for i in range(160)]
    reps, covered, rejected, naive = 400, 0, 0, 0
    for _ in range(reps):
        session = np.repeat(source.normal(0, 0.16, 20), 8)
        difference = (session + source.normal(0, 0.25, 160)).clip(-0.5, 0.5)
        found = compare_groups([0.5] * 160, (0.5 + difference).tolist(), groups, 0.95, source)
        covered += found.interval[0] <= 0 <= found.interval[1]
        rejected += found.p <= 0.05
        naive += stats.ttest_1samp(difference, 0).pvalue <= 0.05
    assert covered / reps >= 0.925
    assert rejected / reps <= 0.075
    assert naive / reps > 0.15


def test_group_means_refuse_rows_without_a_group():
    with pytest.raises(ValueError, match="zip"):
        group_means([0.1, 0.2], ["a"])


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="differences"):
        compare_groups([], [], [], 0.95, np.random.default_rng(0))
