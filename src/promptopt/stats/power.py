"""What a number of rows can show: the smallest gain that a paired, two-sided test finds with a given power.

Scores of 0 or 1 are described by their *discordance*, the share of rows on which only one arm is right. Graded scores
are described by the standard deviation of their paired differences. Both are unknown before the test; the defaults
are stated where they stand.
"""

from __future__ import annotations

import math
from statistics import NormalDist

DISCORDANCE = 0.25
"""Assumed before anything is known: the baseline is right on half the rows, and the arms' answers correlate at 0.5."""
SPREAD = 0.35
"""Assumed standard deviation of paired differences of graded scores: 0.35 in each arm, correlated at 0.5."""


def discordance_at(baseline: float, correlation: float = 0.5) -> float:
    """Discordance of two arms that are equally often right, 2p(1 - p)(1 - correlation), for a baseline score p.

    Raises ValueError for a baseline or correlation outside [0, 1].
    """
    if not 0.0 <= baseline <= 1.0 or not 0.0 <= correlation <= 1.0:
        raise ValueError(f"baseline and correlation lie in [0, 1], got {baseline} and {correlation}")
    return 2 * baseline * (1 - baseline) * (1 - correlation)


def rows_needed(gain: float, discordance: float = DISCORDANCE, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Rows on which McNemar's test finds `gain` with `power`. The discordance counts as at least the gain.

    Raises ValueError for a gain outside (0, 1], a discordance outside [0, 1], or an alpha or power outside (0, 1).
    Source: Miettinen (1968), Biometrics 24:339, unconditional variance; Connor (1987), Biometrics 43:207.
    """
    _check(alpha, power, gain=gain, discordance=discordance)
    return max(math.ceil(_mcnemar_rows(gain, discordance, alpha, power)), _fewest_discordant(alpha))


def detectable_gain(
    n: int, discordance: float = DISCORDANCE, *, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The smallest gain that McNemar's test on `n` rows finds with `power`; None when `n` rows can show nothing.

    The inverse of `rows_needed`, with the same assumptions and errors.
    """
    _check(alpha, power, discordance=discordance)
    if n < _fewest_discordant(alpha):
        return None
    too_small, enough = 0.0, 1.0
    for _ in range(50):
        gain = (too_small + enough) / 2
        if _mcnemar_rows(gain, discordance, alpha, power) > n:
            too_small = gain
        else:
            enough = gain
    return enough


def rows_needed_graded(gain: float, spread: float = SPREAD, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Rows on which the paired test of graded scores finds `gain` with `power`.

    Raises ValueError for a gain outside (0, 1], a spread outside [0, 1], or an alpha or power outside (0, 1).
    Source: Guenther (1981), Am. Stat. 35:243: the normal formula plus z² / 2 for the estimated variance.
    """
    _check(alpha, power, gain=gain, spread=spread)
    z_alpha, z_power = _quantiles(alpha, power)
    return max(math.ceil(((z_alpha + z_power) * spread / gain) ** 2 + z_alpha**2 / 2), _fewest_signs(alpha))


def detectable_gain_graded(n: int, spread: float = SPREAD, *, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """The smallest gain that the paired test of `n` graded scores finds with `power`; None when it can show nothing.

    The inverse of `rows_needed_graded`, with the same assumptions and errors.
    """
    _check(alpha, power, spread=spread)
    z_alpha, z_power = _quantiles(alpha, power)
    if n < _fewest_signs(alpha):
        return None
    gain = (z_alpha + z_power) * spread / math.sqrt(n - z_alpha**2 / 2)
    return gain if gain <= 1 else None


def _mcnemar_rows(gain: float, discordance: float, alpha: float, power: float) -> float:
    z_alpha, z_power = _quantiles(alpha, power)
    discordance = max(discordance, gain)
    return ((z_alpha * math.sqrt(discordance) + z_power * math.sqrt(discordance - gain**2)) / gain) ** 2


def _quantiles(alpha: float, power: float) -> tuple[float, float]:
    return NormalDist().inv_cdf(1 - alpha / 2), NormalDist().inv_cdf(power)


def _fewest_discordant(alpha: float) -> int:
    """With fewer rows not even wins on all of them reach `alpha`: their mid-p is 2⁻ⁿ."""
    return math.ceil(-math.log2(alpha))


def _fewest_signs(alpha: float) -> int:
    """The same for sign flips, whose smallest p is 2¹⁻ⁿ."""
    return _fewest_discordant(alpha) + 1


def _check(alpha: float, power: float, *, gain: float = 1.0, discordance: float = 0.0, spread: float = 0.0) -> None:
    if not 0.0 < alpha < 1.0 or not 0.0 < power < 1.0:
        raise ValueError(f"alpha and power lie between 0 and 1, got {alpha} and {power}")
    if not 0.0 < gain <= 1.0:
        raise ValueError(f"a gain lies in (0, 1], got {gain}")
    if not 0.0 <= discordance <= 1.0 or not 0.0 <= spread <= 1.0:
        raise ValueError(f"discordance and spread lie in [0, 1], got {discordance} and {spread}")
