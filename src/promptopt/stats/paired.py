"""Two arms on the same rows: is the difference more than chance, and how large is it?

Scores of 0 or 1 are counted: `mcnemar_mid_p` and `tango_interval`. Graded scores in [0, 1] enter as differences, best
minus baseline: `sign_flip_p` and `studentised_interval`. None depends on the order of the rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np

from promptopt.stats.bounded import Floats, check_level, ordered, student_interval, unseen_interval

EXACT_UP_TO = 14
"""Non-zero differences for which all sign patterns are enumerated."""
CELLS = 2_000_000
"""Largest block of random numbers held at once: 16 MB."""


def mcnemar_mid_p(wins: int, losses: int) -> float:
    """Two-sided mid-p value of McNemar's test on discordant pairs.

    `wins` and `losses` count the rows where only the candidate, or only the baseline, was right. Concordant rows
    carry no information and are not needed. Returns 1.0 when there are no discordant pairs.

    Raises ValueError for negative counts.
    Source: Fagerland, Lydersen & Laake (2013), BMC Med. Res. Methodol. 13:91.
    """
    from scipy.special import bdtr  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    if wins < 0 or losses < 0:
        raise ValueError(f"wins and losses are counts, got {wins} and {losses}")
    discordant, fewer = wins + losses, min(wins, losses)
    if discordant == 0:
        return 1.0
    at_most = float(bdtr(fewer, discordant, 0.5))
    below = float(bdtr(fewer - 1, discordant, 0.5)) if fewer else 0.0
    return 1.0 - (at_most - below) / 2 if wins == losses else at_most + below


def tango_interval(wins: int, losses: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval for the difference of two paired proportions, candidate minus baseline.

    `wins` and `losses` count the discordant rows among all `n` rows. Holds its level in small samples and is never of
    width zero: without a discordant pair it is ± z² / (n + z²).

    Raises ValueError for negative counts, n < 1, more discordant rows than rows, or a level outside (0, 1).
    Source: Tango (1998), Stat. Med. 17:891.
    """
    check_level(level)
    if wins < 0 or losses < 0 or n < 1 or wins + losses > n:
        raise ValueError(f"wins and losses must be counts among n >= 1 rows, got {wins} and {losses} among {n}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    return _tango_lower(wins, losses, n, z), -_tango_lower(losses, wins, n, z)


def _tango_lower(wins: int, losses: int, n: int, z: float) -> float:
    """The smallest difference that the score test accepts, by bisection."""
    rejected, accepted = -1.0, (wins - losses) / n
    for _ in range(60):
        middle = (rejected + accepted) / 2
        if wins - losses - n * middle > z * math.sqrt(_tango_variance(middle, wins, losses, n)):
            rejected = middle
        else:
            accepted = middle
    return accepted


def _tango_variance(difference: float, wins: int, losses: int, n: int) -> float:
    """Variance of wins - losses at the restricted maximum likelihood under `difference`."""
    linear = (2 * n - wins + losses) * difference - wins - losses
    constant = -losses * difference * (1 - difference)
    share_lost = (math.sqrt(max(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)
    return max(n * (2 * share_lost + difference * (1 - difference)), 0.0)


def sign_flip_p(differences: Sequence[float] | Floats, rng: np.random.Generator, *, draws: int = 9_999) -> float:
    """Two-sided permutation p value of paired differences: under no effect each one's sign is a coin flip.

    All sign patterns are enumerated for up to 14 non-zero differences; beyond that `draws` random ones are taken and
    p = (1 + hits) / (1 + draws), which never understates. Returns 1.0 when every difference is 0.

    Raises ValueError when a difference is not a finite number in [-1, 1], or there are none.
    Source: Phipson & Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9:39.
    """
    values = ordered(differences)
    sizes = np.sort(np.abs(values[values != 0]))
    if sizes.size == 0:
        return 1.0
    reached = abs(float(values.sum())) - 1e-9
    if sizes.size <= EXACT_UP_TO:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=sizes.size)))
        return float(np.mean(np.abs(signs @ sizes) >= reached))
    hits, total = 0, float(sizes.sum())
    for block in _blocks(draws, sizes.size):
        positive = rng.integers(2, size=(block, sizes.size), dtype=np.int8) @ sizes
        hits += int(np.sum(np.abs(2 * positive - total) >= reached))
    return (1 + hits) / (1 + draws)


def studentised_interval(
    differences: Sequence[float] | Floats, level: float, rng: np.random.Generator, *, draws: int = 10_000
) -> tuple[float, float]:
    """Bootstrap-t interval for the mean of paired differences, within [-1, 1].

    Resamples come in mirrored pairs, so swapping the arms mirrors the interval. Each end is at least as far out as
    Student's, because resamples of mostly tied rows know too little about the short side, and no further than that of
    `unseen_interval`, which also stands in where the sample has no variance.

    Raises ValueError when a difference is not a finite number in [-1, 1], there are none, or the level is outside
    (0, 1).
    Source: Efron & Tibshirani (1993), An Introduction to the Bootstrap, section 12.5.
    """
    check_level(level)
    values = ordered(differences)
    lowest, highest = unseen_interval(values, level)
    if values[0] == values[-1]:
        return lowest, highest
    n, mean = values.size, float(values.mean())
    ratios: list[Floats] = []
    for block in _blocks(draws // 2, n):
        rows = rng.integers(n, size=(block, n))
        ratios += [_t_ratios(values[rows], mean), _t_ratios(values[n - 1 - rows], mean)]
    t, error = np.concatenate(ratios), float(values.std()) / math.sqrt(n)
    student = student_interval(values, level)
    lower = mean - error * float(np.quantile(t, (1 + level) / 2, method="higher"))
    upper = mean - error * float(np.quantile(t, (1 - level) / 2, method="lower"))
    return max(min(lower, student[0]), lowest), min(max(upper, student[1]), highest)


def _t_ratios(resamples: Floats, mean: float) -> Floats:
    """(resample's mean - mean) / its standard error; infinite where a resample off the mean has no spread."""
    off = resamples.mean(axis=1) - mean
    error = resamples.std(axis=1) / math.sqrt(resamples.shape[1])
    off[np.abs(off) < 1e-12] = 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(off == 0.0, 0.0, off / error)


def _blocks(draws: int, width: int) -> Iterator[int]:
    """How many draws of `width` numbers to take at a time, `draws` in all."""
    size = max(1, CELLS // width)
    for start in range(0, draws, size):
        yield min(size, draws - start)
