"""Is a student as good as its teacher, but for a margin that was fixed before anything ran?

"Not significantly different" is no answer: the fewer the rows, the more often a worse student passes for equal. Here
the burden lies the other way round: a student is held to be worse by the margin until the rows rule it out. Differences
are student minus teacher on the same rows; tests are one-sided.

Scores of 0 or 1 are counted: the score test with its exact p value. Graded scores, and means of groups, are bet on:
where losses are rare and large, Student's t passes up to 19 % of students that are worse by the margin, and up to 36 %
where whole groups are lost (`benchmarks/noninferiority.py`). No method that holds there can pass a student on fewer
rows or groups than `rows_to_pass`, 59 at a margin of 0.05; a bet takes some 5 % more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from promptopt.stats.betting import MOST_STAKED, betting_bound, betting_p
from promptopt.stats.bounded import Floats, check_level, ordered
from promptopt.stats.clustered import group_means

LEVEL = 0.05
"""One-sided: how often a student that is worse by the margin may pass."""
SHARES = 80
"""Values of the nuisance parameter at which the exact p value is looked up, before and again around the highest."""
NEGLIGIBLE = 1e-15
"""Probability of a number of losses below which it is left out of the sum."""
CAUTION = 0.05
"""Share of its rows that a bet loses because its stakes start low; fitted to simulated power."""


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """A student against its teacher, with p values ready for Holm over several students."""

    diff: float
    """Mean of student minus teacher."""
    ci: tuple[float, float]
    """Two-sided at 1 - 2 · level, 90 % unless told otherwise: each end is a one-sided bound at 1 - level."""
    margin: float
    p: float
    """Of "the student is worse by the margin or more": small means NON-INFERIOR."""
    p_inferior: float
    """Of "the student is worse by the margin at most": small means INFERIOR."""
    method: Literal["score", "betting"]
    n: int
    """Rows, or groups where rows come in groups."""
    differing: int
    """How many of them the two score differently."""
    spread: float
    """Standard deviation of the differences."""

    @property
    def lower(self) -> float:
        """One-sided bound: above -margin where `p` is at most the level."""
        return self.ci[0]


def noninferiority_of_counts(wins: int, losses: int, n: int, margin: float, *, level: float = LEVEL) -> NonInferiority:
    """For scores of 0 or 1: `wins` and `losses` count the rows that only the student, or only the teacher, gets right.

    Raises ValueError for counts that do not fit among n >= 1 rows, or a margin or level outside (0, 1).
    Sources: as `score_p`.
    """
    check_margin(margin)
    check_level(level)
    _check_counts(wins, losses, n)
    mean = (wins - losses) / n
    return NonInferiority(
        diff=mean,
        ci=(_score_bound(wins, losses, n, level), -_score_bound(losses, wins, n, level)),
        margin=margin,
        p=score_p(wins, losses, n, -margin),
        p_inferior=score_p(losses, wins, n, margin),
        method="score",
        n=n,
        differing=wins + losses,
        spread=math.sqrt((wins + losses) / n - mean**2),
    )


def noninferiority_of_scores(
    differences: Sequence[float] | Floats, margin: float, rng: np.random.Generator, *, level: float = LEVEL
) -> NonInferiority:
    """For graded scores in [0, 1], one difference a row.

    The rows' order does not matter: `rng` draws one to bet in, so its seed is fixed with the margin, beforehand.

    Raises ValueError when a difference is not a finite number in [-1, 1], there are none, or the margin or level is
    outside (0, 1).
    Sources: as `promptopt.stats.betting`.
    """
    check_margin(margin)
    values = rng.permutation(ordered(differences))
    return NonInferiority(
        diff=float(values.mean()),
        ci=(betting_bound(values, level), -betting_bound(-values, level)),
        margin=margin,
        p=betting_p(values, -margin, level),
        p_inferior=betting_p(-values, margin, level),
        method="betting",
        n=values.size,
        differing=int(np.count_nonzero(values)),
        spread=float(values.std()),
    )


def noninferiority_of_groups(
    student: Sequence[float],
    teacher: Sequence[float],
    groups: Sequence[str],
    margin: float,
    rng: np.random.Generator,
    *,
    level: float = LEVEL,
) -> NonInferiority:
    """For rows that come in groups, binary or graded: every group's mean counts once, and `n` counts groups.

    Raises ValueError when the lengths differ, and as `noninferiority_of_scores`.
    Source: Donner & Klar (2000), Design and Analysis of Cluster Randomization Trials: cluster-level analysis.
    """
    differences = group_means(student, groups) - group_means(teacher, groups)
    return noninferiority_of_scores(differences, margin, rng, level=level)


def score_p(wins: int, losses: int, n: int, null: float) -> float:
    """Exact one-sided p value against "wins - losses is at most `null` of all rows", by Tango's score statistic.

    The chance of a statistic at least as high, at the discordance where that chance is highest: the normal
    approximation passes up to 6.9 % where 5 % are allowed. Without a discordant pair it is about (1 - margin)ⁿ at a
    null of -margin, and never less.

    Raises ValueError for counts that do not fit among n >= 1 rows, or a null outside (-1, 1).
    Sources: Tango (1998), Stat. Med. 17:891, the statistic; Hsueh, Liu & Chen (2001), Biometrics 57:478, its exact
    test, whose p value is found at the edge of the null.
    """
    _check_counts(wins, losses, n)
    if not -1.0 < null < 1.0:
        raise ValueError(f"the difference to test against lies between -1 and 1, got {null}")
    needed = _wins_needed(n, null, float(_statistic(np.array(wins), np.array(losses), n, null)))
    least, most = max(0.0, -null), (1 - null) / 2
    shares = least + (most - least) * (1 - np.cos(np.linspace(0, math.pi, SHARES))) / 2  # dense where peaks are sharp
    chances = _chances(needed, shares, n, null)
    best = int(chances.argmax())
    lowest, highest = float(shares[max(best - 1, 0)]), float(shares[min(best + 1, SHARES - 1)])
    nearby = _chances(needed, np.linspace(lowest, highest, SHARES), n, null)
    return min(1.0, float(max(chances.max(), nearby.max())))


def _score_bound(wins: int, losses: int, n: int, level: float) -> float:
    """The largest difference, to 1e-6, below which `score_p` rejects at `level`."""
    rejected, accepted = -1.0, (wins - losses) / n
    while accepted - rejected > 1e-6:
        middle = (rejected + accepted) / 2
        if score_p(wins, losses, n, middle) <= level:
            rejected = middle
        else:
            accepted = middle
    return rejected


def _statistic(wins: Floats, losses: Floats, n: int, null: float) -> Floats:
    """Tango's statistic; infinite where the counts cannot occur under `null`, and 0 where they must."""
    excess = wins - losses - n * null
    deviation = np.sqrt(np.maximum(n * (2 * _share_lost(wins / n, losses / n, null) + null * (1 - null)), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.abs(excess) < 1e-9, 0.0, excess / deviation)


def _share_lost(won: Floats, lost: Floats, null: float) -> Floats:
    """Most likely share of losses where wins - losses is `null`, from the shares seen."""
    linear = (2 - won + lost) * null - won - lost
    return (np.sqrt(np.maximum(linear**2 + 8 * lost * null * (1 - null), 0.0)) - linear) / 4


def _wins_needed(n: int, null: float, statistic: float) -> Floats:
    """For 0 to n losses, the fewest wins that reach `statistic`; n - losses + 1, one too many, where none do."""
    losses = np.arange(n + 1.0)
    short, enough = np.full(n + 1, -1.0), n - losses + 1
    while np.any(enough - short > 1):
        middle = np.floor((short + enough) / 2)
        reached = (middle >= 0) & (_statistic(middle, losses, n, null) >= statistic - 1e-9)
        short, enough = np.where(reached, short, middle), np.where(reached, middle, enough)
    return enough


def _chances(needed: Floats, shares: Floats, n: int, null: float) -> Floats:
    """Probability of at least the `needed` wins, for each of `shares` lost, where won - lost is `null`."""
    from scipy.special import betainc, gammaln, xlog1py, xlogy  # pyright: ignore

    losses = np.flatnonzero(needed <= n - np.arange(n + 1))
    fewest, rest = needed[losses], n - losses
    ways = gammaln(n + 1) - gammaln(losses + 1) - gammaln(rest + 1)

    def chance(lost: float) -> float:
        weight = np.exp(ways + xlogy(losses, lost) + xlog1py(rest, -lost))
        at = np.flatnonzero(weight > NEGLIGIBLE)
        won = min(max((lost + null) / (1 - lost), 0.0), 1.0)
        tail = betainc(np.maximum(fewest[at], 0.5), rest[at] - fewest[at] + 1, won)
        return float(weight[at] @ np.where(fewest[at] == 0, 1.0, tail))

    return np.array([chance(lost) for lost in shares.tolist()])


def rows_to_pass(margin: float, *, level: float = LEVEL) -> int:
    """Rows without which not even an identical student passes: (1 - margin)ⁿ falls to `level`.

    A student that loses everything on a share `margin` of the rows shows no loss as often as that, so no test that
    holds can ask for less. At margins above 0.1 the score test may ask for one row more.

    Raises ValueError for a margin or level outside (0, 1).
    """
    check_margin(margin)
    check_level(level)
    return math.ceil(math.log(level) / math.log1p(-margin))


def rows_for_margin(
    margin: float, discordance: float, *, true_diff: float = 0.0, power: float = 0.8, level: float = LEVEL
) -> int | None:
    """Rows on which a student of `true_diff` passes with `power`, scores of 0 or 1; None if no number would do.

    `discordance` is the share of rows that only one of the two gets right; it counts as at least the difference.

    Raises ValueError for a margin, level or power outside (0, 1), a discordance outside [0, 1] or a true difference
    outside [-1, 1].
    Source: Nam (1997), Biometrics 53:1422.
    """
    check_margin(margin)
    _check_plan(discordance, true_diff, power, level)
    if true_diff <= -margin:
        return None
    discordance = max(discordance, abs(true_diff))
    won, lost = (discordance + true_diff) / 2, (discordance - true_diff) / 2
    at_margin = 2 * float(_share_lost(np.array(won), np.array(lost), -margin)) - margin * (1 + margin)
    rows = _normal_rows(margin + true_diff, at_margin, discordance - true_diff**2, power, level)
    return max(math.ceil(rows), rows_to_pass(margin, level=level))


def rows_for_margin_graded(
    margin: float, spread: float, *, true_diff: float = 0.0, power: float = 0.8, level: float = LEVEL
) -> int | None:
    """The same for graded scores whose differences have the standard deviation `spread`, and for means of groups.

    The rows of the normal test, plus those that a bet needs where nothing varies, and `CAUTION` of these: what its
    simulated power comes to.

    Raises ValueError as `rows_for_margin`, `spread` in the place of `discordance`.
    """
    check_margin(margin)
    _check_plan(spread, true_diff, power, level)
    if true_diff <= -margin:
        return None
    rows = _normal_rows(margin + true_diff, spread**2, spread**2, power, level)
    growth = math.log1p(MOST_STAKED * (margin + true_diff) / (1 - margin))
    return math.ceil(rows + (1 + CAUTION) * math.log(1 / level) / growth)


def smallest_margin(
    n: int, discordance: float, *, true_diff: float = 0.0, power: float = 0.8, level: float = LEVEL
) -> float | None:
    """The smallest margin that `n` rows can carry, scores of 0 or 1; None when they can carry none.

    The inverse of `rows_for_margin`, with the same assumptions and errors.
    """
    return _smallest(n, lambda m: rows_for_margin(m, discordance, true_diff=true_diff, power=power, level=level))


def smallest_margin_graded(
    n: int, spread: float, *, true_diff: float = 0.0, power: float = 0.8, level: float = LEVEL
) -> float | None:
    """The inverse of `rows_for_margin_graded`, with the same assumptions and errors."""
    return _smallest(n, lambda m: rows_for_margin_graded(m, spread, true_diff=true_diff, power=power, level=level))


def _normal_rows(distance: float, at_margin: float, truly: float, power: float, level: float) -> float:
    """Rows at which a normal test finds `distance`, from the variances of one row at the margin and in truth."""
    z_level, z_power = NormalDist().inv_cdf(1 - level), NormalDist().inv_cdf(power)
    return ((z_level * math.sqrt(at_margin) + z_power * math.sqrt(truly)) / distance) ** 2


def _smallest(n: int, rows: Callable[[float], int | None]) -> float | None:
    """The smallest margin, to 1e-6, for which `rows` asks for no more than `n`."""
    too_small, enough = 0.0, 1.0
    while enough - too_small > 1e-6:
        margin = (too_small + enough) / 2
        needed = rows(margin)
        if needed is None or needed > n:
            too_small = margin
        else:
            enough = margin
    return enough if enough < 1.0 else None


def check_margin(margin: float) -> None:
    """Raises ValueError unless `margin` lies strictly between 0 and 1."""
    if not 0.0 < margin < 1.0:
        raise ValueError(f"a margin lies between 0 and 1, got {margin}")


def _check_counts(wins: int, losses: int, n: int) -> None:
    if wins < 0 or losses < 0 or n < 1 or wins + losses > n:
        raise ValueError(f"wins and losses must be counts among n >= 1 rows, got {wins} and {losses} among {n}")


def _check_plan(share: float, true_diff: float, power: float, level: float) -> None:
    check_level(level)
    if not 0.0 < power < 1.0:
        raise ValueError(f"power lies between 0 and 1, got {power}")
    if not 0.0 <= share <= 1.0 or not -1.0 <= true_diff <= 1.0:
        raise ValueError(f"discordance and spread lie in [0, 1], a difference in [-1, 1]; got {share} and {true_diff}")
