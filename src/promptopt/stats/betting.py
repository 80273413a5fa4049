"""Tests of a mean by betting: they hold in samples of any size, however rare and large the losses are.

A gambler who stakes money on the mean being higher than `null` cannot expect to win where it is not: the chance that
the capital ever reaches 20 times its start is then at most 1 in 20 (Ville's inequality). No variance has to be known
and no shape assumed; values lie in [-1, 1], and each row or group is drawn independently of the others.

Each stake is what would just reach the target over the rows that remain, at the second moment seen so far. Power is
close to Student's t from about 200 rows on, where t itself cannot be trusted (`benchmarks/noninferiority.py`).

Sources: Waudby-Smith & Ramdas (2024), JRSS B 86:1 (capital as a test); Voráček & Orabona (2025), NeurIPS, STaR-Bets
(stakes that aim at a target by the last row).
"""

from __future__ import annotations

import math

import numpy as np

from promptopt.stats.bounded import Floats, check_level

MOST_STAKED = 0.95
"""Largest share of the capital that one row can lose: the rest is what a single total loss leaves."""
ASSUMED_SQUARE, ASSUMED_ROWS = 0.1, 4
"""The second moment that stakes start from, and the rows that it counts for; both only affect power."""
GRID = 128
"""Candidate means that are tried at once when a bound is sought; two rounds narrow it to 2 / 128²."""


def betting_p(values: Floats, null: float, level: float) -> float:
    """One-sided p value against "the mean is at most `null`", for values in [-1, 1] in an order drawn at random.

    Holds at every level at once, and has the most power at `level`.

    Raises ValueError for a null outside (-1, 1) or a level outside (0, 1).
    """
    check_level(level)
    if not -1.0 < null < 1.0:
        raise ValueError(f"the mean to test against lies between -1 and 1, got {null}")
    return math.exp(-float(peak_log_capital(values, np.array(null), level)))


def betting_bound(values: Floats, level: float) -> float:
    """Lower bound of the mean that fails with probability `level` at most: all means below it are rejected.

    `values` as in `betting_p`. Raises ValueError for a level outside (0, 1).
    """
    check_level(level)
    rejected, accepted = -1.0, float(values.mean())
    if accepted <= rejected:
        return -1.0
    for _ in range(2):
        nulls = np.linspace(rejected, accepted, GRID + 1)
        inner = nulls[1:-1]
        held = peak_log_capital(values, inner, level) < math.log(1 / level)
        first = int(held.argmax()) if held.any() else inner.size
        rejected, accepted = float(nulls[first]), float(nulls[first + 1])
    return rejected


def peak_log_capital(values: Floats, nulls: Floats, level: float) -> Floats:
    """Logarithm of the highest capital on the way through `values`, from a capital of 1, for each of `nulls`.

    Rows run along the first axis of `values`, whose other axes broadcast with `nulls`. The stakes aim at a capital of
    1 / level, and from there at twice as much each time that they arrive.
    """
    rows = len(values)
    limit = MOST_STAKED / (1 + nulls)  # the worst row loses 1 + null for each unit staked
    capital = np.zeros(np.broadcast_shapes(values.shape[1:], nulls.shape))
    peak, squares = capital, np.full_like(capital, ASSUMED_SQUARE * ASSUMED_ROWS)
    target = np.full_like(capital, math.log(1 / level))
    for row, value in enumerate(values):
        gain = value - nulls
        square = squares / (ASSUMED_ROWS + row)
        stake = np.minimum(np.sqrt(2 * (target - capital) / ((rows - row) * square)), limit)
        capital = capital + np.log1p(stake * gain)
        squares = squares + gain**2
        peak = np.maximum(peak, capital)
        target = np.where(capital >= target, capital + math.log(2), target)
    return peak
