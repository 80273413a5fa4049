"""Whole runs promote what is better and not what only looks better."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from scipy.stats import binom
from verdicts import TEST, verdict

from promptopt.stats.power import detectable_gain

RUNS = 120


def promoted(folder: Path, gain: float) -> int:
    return Counter(verdict(folder, number, gain) for number in range(RUNS))["PROMOTE"]


@pytest.mark.slow
def test_a_metric_that_no_prompt_moves_is_promoted_in_at_most_five_percent_of_runs(tmp_path: Path) -> None:
    assert promoted(tmp_path, 0.0) <= binom.ppf(0.999, RUNS, 0.05)


@pytest.mark.slow
def test_a_planted_gain_is_promoted_at_about_the_planned_power(tmp_path: Path) -> None:
    planned = detectable_gain(TEST)
    assert planned is not None
    assert promoted(tmp_path, planned) >= binom.ppf(0.001, RUNS, 0.7)
