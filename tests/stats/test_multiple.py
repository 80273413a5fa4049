"""Adjustments for several questions against statsmodels."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from promptopt.stats.multiple import benjamini_hochberg, holm


@settings(max_examples=20)  # the oracle is slow
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_matches_statsmodels_in_any_order(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())
    assert benjamini_hochberg(p_values) == pytest.approx(multipletests(p_values, method="fdr_bh")[1].tolist())


def test_one_metric_is_left_as_it_is_and_none_gives_none():
    assert holm([0.03]) == [0.03]
    assert holm([]) == benjamini_hochberg([]) == []


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_refuses_what_is_no_probability(p):
    for adjust in (holm, benjamini_hochberg):
        with pytest.raises(ValueError, match="p values"):
            adjust([0.5, p])
