"""How often a student passes for as good as its teacher: one that is worse by just the margin, and one that is equal.

    python benchmarks/noninferiority.py [--margin 0.05] [--rows 50 100 200 400 800] [--draws 10000]

The first may pass 5 times in 100. Scores of 0 or 1 are enumerated, by the share of rows that only one of the two gets
right; graded scores and groups are drawn. *Rare* is a total loss on a few rows among small gains or ties; groups are of
8 rows scored 0 or 1, where *lost sessions* fail as a whole. Beside ours stand what we do not use: Student's t, and
"not significantly different" (two-sided, 0.05), which calls the student equal.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import stats

from promptopt.stats.betting import peak_log_capital
from promptopt.stats.bounded import Floats
from promptopt.stats.noninferiority import LEVEL, rows_for_margin, rows_for_margin_graded, score_p

Population = Callable[[np.random.Generator, tuple[int, int], float], Floats]
"""Differences of shape (rows, draws) with the given mean, at most 0."""
Passed = NDArray[np.bool_]
GROUP = 8
DISCORDANCES = (0.02, 0.05, 0.1, 0.16, 0.25, 0.4)


def fewest_wins(n: int, margin: float, most_losses: int) -> list[int]:
    """For 0 losses and up, the fewest wins with which a student passes; ends where no number does."""
    fewest: list[int] = []
    wins = 0
    for losses in range(most_losses + 1):
        while wins + losses <= n and score_p(wins, losses, n, -margin) > LEVEL:
            wins += 1
        if wins + losses > n:
            break
        fewest.append(wins)
    return fewest


def passing(fewest: list[int], n: int, won: float, lost: float) -> float:
    """Probability that a student passes that alone wins and loses these shares of rows."""
    losses, wins = np.arange(len(fewest)), np.array(fewest)
    return float(stats.binom.pmf(losses, n, lost) @ stats.binom.sf(wins - 1, n - losses, won / (1 - lost)))


def normal(spread: float) -> Population:
    def draw(rng: np.random.Generator, shape: tuple[int, int], mean: float) -> Floats:
        return mean + rng.normal(0, spread, shape).clip(-1 - mean, 1 + mean)

    return draw


def mostly_tied(rng: np.random.Generator, shape: tuple[int, int], mean: float) -> Floats:
    """85 % ties; else anything from -1 to 1, with total losses for the mean's sake."""
    u = rng.random(shape)
    return np.where(u < -mean, -1.0, np.where(u > 0.85, rng.uniform(-1, 1, shape), 0.0))


def rare_among_ties(rng: np.random.Generator, shape: tuple[int, int], mean: float) -> Floats:
    return np.where(rng.random(shape) < -mean, -1.0, 0.0)


def rare_among_gains(rng: np.random.Generator, shape: tuple[int, int], mean: float) -> Floats:
    """Gains of 0.01 on average, and total losses."""
    share = (0.01 - mean) / 1.01
    return np.where(rng.random(shape) < share, -1.0, rng.uniform(0, 0.02, shape))


def sessions(rng: np.random.Generator, shape: tuple[int, int], mean: float) -> Floats:
    """Means of groups that differ in how much they lose; one row in four or more is discordant."""
    lean = mean + rng.normal(0, 0.08, shape).clip(-0.2, 0.2)
    win, loss = 0.12 + lean.clip(min=0.0), 0.12 - lean.clip(max=0.0)
    won = rng.binomial(GROUP, win)
    return (won - rng.binomial(GROUP - won, loss / (1 - win))) / GROUP


def lost_sessions(rng: np.random.Generator, shape: tuple[int, int], mean: float) -> Floats:
    """Means of groups that are lost as a whole or not at all, but for a row won or lost."""
    other = (rng.binomial(1, 0.1, shape) - rng.binomial(1, 0.1, shape)) / GROUP
    return np.where(rng.random(shape) < -mean, -1.0, other)


GRADED: dict[str, Population] = {
    "spread 0.1": normal(0.1),
    "spread 0.2": normal(0.2),
    "spread 0.35": normal(0.35),
    "mostly tied": mostly_tied,
    "rare, ties": rare_among_ties,
    "rare, gains": rare_among_gains,
}
GROUPED: dict[str, Population] = {"sessions": sessions, "lost sessions": lost_sessions}


def bets(values: Floats, margin: float) -> Passed:
    """Which columns pass: `noninferiority_of_scores` on many samples at once."""
    return peak_log_capital(values, np.array(-margin), LEVEL) >= np.log(1 / LEVEL)


def student_t(values: Floats, margin: float) -> Passed:
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return values.mean(axis=0) - stats.t.ppf(1 - LEVEL, len(values) - 1) * error > -margin


def not_different(values: Floats, margin: float) -> Passed:
    """Which columns a two-sided t test at 0.05 does not call worse, whatever the margin."""
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return values.mean(axis=0) + stats.t.ppf(0.975, len(values) - 1) * error >= 0


METHODS = {"ours": bets, "t": student_t, "not different": not_different}


def counted(rows: list[int], margin: float) -> Table:
    """Scores of 0 or 1, without sampling error."""
    table = Table("discordance", *(f"n = {n}" for n in rows), title="0 or 1: worse by the margin, and equal")
    fewest = {n: fewest_wins(n, margin, n // 3) for n in rows}
    for discordance in sorted({margin, *(d for d in DISCORDANCES if d > margin)}):
        cells = [
            f"{passing(fewest[n], n, (discordance - margin) / 2, (discordance + margin) / 2):.1%}"
            f" {passing(fewest[n], n, discordance / 2, discordance / 2):.0%}"
            for n in rows
        ]
        table.add_row(f"{discordance:g}", *cells)
    return table


def drawn(title: str, populations: dict[str, Population], rows: list[int], margin: float, draws: int) -> Table:
    table = Table(
        "differences", "method", *(f"n = {n}" for n in rows), title=f"{title}: worse by the margin, and equal"
    )
    rng = np.random.default_rng(1)
    for name, population in populations.items():
        worse = [population(rng, (n, draws), -margin) for n in rows]
        equal = [population(rng, (n, draws), 0.0) for n in rows]
        for method, passed in METHODS.items():
            cells = [
                f"{passed(w, margin).mean():.1%} {passed(e, margin).mean():.0%}"
                for w, e in zip(worse, equal, strict=True)
            ]
            table.add_row(name, method, *cells, end_section=method == "not different")
    return table


def planned(margin: float, draws: int) -> Table:
    """Power on the rows that the plan asks for, to pass 4 times in 5."""
    table = Table("scores", "true difference", "rows", "power", title=f"planned for a margin of {margin:g}")
    for discordance, diff in ((0.1, 0.0), (0.16, 0.0), (0.25, 0.0), (0.16, 0.02)):
        rows = rows_for_margin(margin, discordance, true_diff=diff) or 0
        won, lost = (discordance + diff) / 2, (discordance - diff) / 2
        power = passing(fewest_wins(rows, margin, rows // 4), rows, won, lost)
        table.add_row(f"0 or 1, discordance {discordance:g}", f"{diff:+.2f}", str(rows), f"{power:.1%}")
    rng = np.random.default_rng(2)
    for spread in (0.05, 0.1, 0.2, 0.35):
        for diff in (0.0, -0.02):
            rows = rows_for_margin_graded(margin, spread, true_diff=diff) or 0
            power = bets(normal(spread)(rng, (rows, draws), diff), margin).mean()
            table.add_row(f"graded, spread {spread:g}", f"{diff:+.2f}", str(rows), f"{power:.1%}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--margin", type=float, default=0.05)
    parser.add_argument("--rows", type=int, nargs="+", default=[50, 100, 200, 400, 800])
    parser.add_argument("--draws", type=int, default=10_000)
    options = parser.parse_args()
    rows, margin, draws = options.rows, options.margin, options.draws
    console = Console()
    console.print(counted(rows, margin))
    console.print(drawn("graded", GRADED, rows, margin, draws))
    console.print(drawn("groups of 8", GROUPED, [20, 40, *rows], margin, draws))
    console.print(planned(margin, draws))


if __name__ == "__main__":
    main()
