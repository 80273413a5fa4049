"""How often intervals of agreement, and of people's mean by a judge's help, contain the truth that they claim.

    python benchmarks/agreement.py [--runs 1000]

Every figure is the share of simulated samples whose 95 % interval holds the population's true value, and the interval's
mean width. The populations include the hard ones: agreement near 1, labels of which one is rare, judges at chance.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from promptopt.stats import agreement, bias, ppi
from promptopt.stats.bounded import student_interval
from promptopt.stats.estimate import Estimate

SIZES = (30, 100, 300)
Array = np.ndarray[Any, np.dtype[Any]]
Judge = Callable[[np.random.Generator, int], tuple[Array, Array]]


@dataclass(frozen=True)
class Population:
    """A true value, and what is estimated of it from a sample of n rows (or groups)."""

    name: str
    truth: float
    sample: Callable[[np.random.Generator, int], Estimate]


@dataclass(frozen=True)
class Coverage:
    share: float
    """Of the samples that define the coefficient, those whose interval contains the truth."""
    width: float
    defined: float


def coverage(population: Population, n: int, runs: int, seed: int = 0) -> Coverage:
    rng = np.random.default_rng(seed)
    intervals = [found.ci for _ in range(runs) if (found := population.sample(rng, n)).ci is not None]
    holds = [low <= population.truth <= high for low, high in intervals]
    width = float(np.mean([min(high, 1) - max(low, -1) for low, high in intervals]))
    return Coverage(float(np.mean(holds)), width, len(intervals) / runs)


def beyond_chance(joint: Array, distance: Array) -> float:
    """1 - observed / expected disagreement of a table of probabilities."""
    return 1 - float((joint * distance).sum() / (np.outer(joint.sum(1), joint.sum(0)) * distance).sum())


def apart(positions: Sequence[float] | Array, power: int) -> Array:
    distance = np.abs(np.subtract.outer(positions, positions)).astype(float)
    return (distance > 0).astype(float) if power == 0 else distance**power


def copied(shares: Sequence[float], agreement: float) -> Array:
    """Both raters have these shares; this part of the rows is copied, the others are drawn anew: it is the kappa."""
    p = np.array(shares) / np.sum(shares)
    return agreement * np.diag(p) + (1 - agreement) * np.outer(p, p)


def near(shares: Sequence[float], spread: float) -> Array:
    """The judge says a label the likelier the nearer it is to that of people."""
    p, ranks = np.array(shares) / np.sum(shares), np.arange(len(shares))
    likely = np.exp(-apart(ranks, 1) / spread)
    return p[:, None] * likely / likely.sum(axis=1, keepdims=True)


TABLES = {
    "two even labels, kappa 0.6": copied([1, 1], 0.6),
    "two even labels, kappa 0.9": copied([1, 1], 0.9),
    "two even labels, kappa 0.98": copied([1, 1], 0.98),
    "two even labels, chance": copied([1, 1], 0.0),
    "10 % against 90 %, kappa 0.6": copied([9, 1], 0.6),
    "10 % against 90 %, kappa 0.9": copied([9, 1], 0.9),
    "5 % against 95 %, kappa 0.8": copied([19, 1], 0.8),
    "5 % against 95 %, chance": copied([19, 1], 0.0),
    "lenient judge": np.array([[0.70, 0.25], [0.01, 0.04]]).T,
    "three labels, kappa 0.7": copied([6, 3, 1], 0.7),
    "ten labels, kappa 0.95": copied([1] * 10, 0.95),
}
ORDERED = {
    "1-5, close": near([1, 2, 3, 2, 1], 0.7),
    "1-5, very close": near([1, 2, 3, 2, 1], 0.25),
    "1-5, 80 % fives": near([1, 1, 1, 5, 30], 0.5),
    "1-5, 94 % fives": near([1, 1, 1, 1, 60], 0.4),
    "1-5, 80 % fives, chance": copied([1, 1, 1, 5, 30], 0.0),
}


def pairs(joint: Array, estimator: Callable[..., Estimate], truth: float, name: str, **options: Any) -> Population:
    """Rows of people's label (down the table) and the judge's (across)."""

    def sample(rng: np.random.Generator, n: int) -> Estimate:
        people, judge = np.divmod(rng.choice(joint.size, n, p=joint.ravel() / joint.sum()), len(joint))
        return estimator(judge.tolist(), people.tolist(), rng, **options)

    return Population(name, truth, sample)


def many_raters(shares: Sequence[float], spread: float, scale: Any, name: str) -> Population:
    """Three raters, each of whom misses a row in five, around a row's true category."""
    table = near(shares, spread)
    p, said = table.sum(axis=1), table / table.sum(axis=1, keepdims=True)
    margin = p @ said
    positions = np.cumsum(margin) - margin / 2 if scale == "ordinal" else np.arange(len(p))
    joint = np.einsum("t,ti,tj->ij", p, said, said)

    def sample(rng: np.random.Generator, n: int) -> Estimate:
        true = rng.choice(len(p), n, p=p)
        ratings = (rng.random((n, 3, 1)) > said.cumsum(axis=1)[true][:, None, :]).sum(axis=2)
        missing = rng.random((n, 3)) < 0.2
        rows = [
            [None if gone else value for value, gone in zip(*row, strict=True)]
            for row in zip(ratings.tolist(), missing.tolist(), strict=True)
        ]
        return agreement.krippendorff_alpha(rows, rng, scale=scale, options=range(len(p)))

    return Population(f"alpha, {name}", beyond_chance(joint, apart(positions, 0 if scale == "nominal" else 2)), sample)


def sessions(name: str, estimator: Callable[..., Estimate], truth: float) -> Population:
    """n groups of five rows; the judge copies the label in some, and is right on two rows in three in the others."""

    def sample(rng: np.random.Generator, n: int) -> Estimate:
        people, easy = rng.integers(2, size=(n, 5)), rng.random((n, 1)) < 0.5
        judge = np.where(easy | (rng.random((n, 5)) < 2 / 3), people, 1 - people)
        groups = [str(i) for i in range(n) for _ in range(5)]
        return estimator(judge.ravel().tolist(), people.ravel().tolist(), rng, groups=groups)

    return Population(f"{name}, groups of five", truth, sample)


def repeats(first: float, second: float) -> Population:
    """Three answers a row, of which each is yes with a probability that differs by row."""

    def sample(rng: np.random.Generator, n: int) -> Estimate:
        sure = rng.beta(first, second, n)
        return agreement.self_consistency((rng.random((n, 3)) < sure[:, None]).tolist(), rng)

    mean, total = first / (first + second), first + second
    square = mean * (1 - mean) / (total + 1) + mean**2
    return Population(f"self-consistency, beta({first:g}, {second:g})", 1 - 2 * mean + 2 * square, sample)


def places(shares: Sequence[float], name: str) -> Population:
    """How a text does shown first less how it does shown second: -1, -0.5, 0, 0.5 or 1."""
    both = {-1.0: (0.0, 1.0), -0.5: (0.0, 0.5), 0.0: (1.0, 1.0), 0.5: (1.0, 0.5), 1.0: (1.0, 0.0)}
    leaning = np.array(list(both))

    def sample(rng: np.random.Generator, n: int) -> Estimate:
        first, second = zip(*[both[lean] for lean in rng.choice(leaning, n, p=shares)], strict=True)
        found = bias.position_bias(first, second, rng)
        return agreement.UNDEFINED if found is None else Estimate(found.net, found.ci)

    return Population(f"position bias, {name}", float(leaning @ np.array(shares)), sample)


def one_slice() -> Population:
    """A judge that is one point of five above people on two rows in five, and below on one in ten."""

    def sample(rng: np.random.Generator, n: int) -> Estimate:
        people = rng.choice([0.25, 0.5, 0.75], n)
        judge = people + rng.choice([-0.25, 0.0, 0.25], n, p=[0.1, 0.5, 0.4])
        found = bias.bias_by_slice(judge.tolist(), people.tolist(), {"all": range(n)}, rng)[0]
        return Estimate(found.bias, found.ci)

    return Population("bias of a slice", 0.075, sample)


def populations() -> list[Population]:
    found: list[Population] = []
    for name, joint in TABLES.items():
        right = float(np.trace(joint))
        recalls = float((np.diag(joint) / joint.sum(axis=1)).mean())
        kappa = beyond_chance(joint, apart(range(len(joint)), 0))
        found.append(pairs(joint, agreement.accuracy, right, f"accuracy, {name}"))
        found.append(pairs(joint, agreement.balanced_accuracy, recalls, f"balanced accuracy, {name}"))
        found.append(pairs(joint, agreement.cohens_kappa, kappa, f"kappa, {name}", options=range(len(joint))))
    for name, joint in ORDERED.items():
        truth, options = beyond_chance(joint, apart(range(len(joint)), 2)), range(len(joint))
        found.append(pairs(joint, agreement.weighted_kappa, truth, f"quadratic kappa, {name}", options=options))
    for scale in ("nominal", "ordinal", "interval"):
        found.append(many_raters([1, 2, 3, 2, 1], 0.7, scale, f"{scale}, 1-5"))
        found.append(many_raters([1, 2, 3, 2, 1], 0.25, scale, f"{scale}, 1-5, raters very close"))
        found.append(many_raters([1, 1, 1, 5, 30], 0.5, scale, f"{scale}, 1-5, 80 % fives"))
    found.append(many_raters([9, 1], 0.3, "nominal", "nominal, 10 % against 90 %"))
    found.append(sessions("accuracy", agreement.accuracy, 5 / 6))
    found.append(sessions("kappa", agreement.cohens_kappa, 2 / 3))
    found += [repeats(8, 1), repeats(40, 1), repeats(2, 2)]
    found.append(places([0.03, 0, 0.82, 0, 0.15], "no ties"))
    found.append(places([0.02, 0.04, 0.8, 0.08, 0.06], "ties"))
    return [*found, one_slice()]


def half_points(rng: np.random.Generator, n: int) -> Array:
    """Changes of a yes/no score between two arms that agree on two rows in three."""
    return rng.choice([-1.0, 0.0, 1.0], n, p=[0.13, 0.67, 0.2])


def lenient(share: float, lean: float) -> Judge:
    """People's differences, and those of a judge who sees that share of them and adds `lean` on average."""

    def draw(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
        people = half_points(rng, n)
        judge = np.where(rng.random(n) < share, people, half_points(rng, n))
        up = rng.random(n) < lean / (1 - judge.mean())
        return people, np.where(up, 1.0, judge)

    return draw


def graded(noise: float) -> Judge:
    def draw(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
        people = rng.normal(0.03, 0.25, n).clip(-1, 1)
        return people, (people + 0.07 + rng.normal(0, noise, n)).clip(-1, 1)

    return draw


def mostly_tied(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """People change their score on one row in eight; the judge is wrong on one in fourteen, always upwards."""
    people = np.where(rng.random(n) < 0.125, rng.choice([-1.0, 1.0, 1.0], n), 0.0)
    return people, np.where(rng.random(n) < 0.07, 1.0, people)


JUDGES: dict[str, Judge] = {
    "good judge, 7 points lenient": lenient(0.9, 0.07),
    "fair judge, 7 points lenient": lenient(0.6, 0.07),
    "judge that guesses, 7 points lenient": lenient(0.0, 0.07),
    "graded, good, 7 points lenient": graded(0.1),
    "graded, poor, 7 points lenient": graded(0.5),
    "mostly tied, rare errors, all upwards": mostly_tied,
}


@dataclass(frozen=True)
class Powered:
    """Of simulated test sets with n labels among N rows: share of intervals that hold the truth, and mean widths."""

    share: float
    width: float
    labels: float
    labels_width: float
    judge: float


def powered(draw: Judge, rows: int, labels: int, runs: int, seed: int = 0, size: int = 1) -> Powered:
    """With a `size`, `rows` and `labels` count groups, of whose rows most are as the first, and three get labels."""
    rng = np.random.default_rng(seed)
    truth = float(draw(rng, 2_000_000)[0].mean())
    found: list[tuple[bool, float, bool, float, bool]] = []
    for _ in range(runs):
        people, judge = (side.reshape(rows, size) for side in draw(rng, rows * size))
        alike = rng.random((rows, size)) < 0.7
        people, judge = (np.where(alike, side[:, :1], side) for side in (people, judge))
        known: list[float | None] = [None] * (rows * size)
        for row in (i * size + k for i in range(labels) for k in range(min(size, 3))):
            known[row] = float(people.flat[row])
        groups = [str(i) for i in range(rows) for _ in range(size)] if size > 1 else None
        low, high = ppi.prediction_powered_mean(judge.ravel().tolist(), known, groups=groups).ci
        alone = student_interval(people[:labels, :3].mean(axis=1), 0.95)
        judged = student_interval(judge.mean(axis=1), 0.95)
        holds = [a <= truth <= b for a, b in ((low, high), alone, judged)]
        found.append((holds[0], high - low, holds[1], alone[1] - alone[0], holds[2]))
    return Powered(*(float(mean) for mean in np.mean(np.array(found, dtype=float), axis=0)))


def agreements(runs: int) -> Table:
    table = Table("interval of", "truth", *(f"n = {n}" for n in SIZES), title="share that hold the truth / mean width")
    for population in populations():
        cells: list[str] = []
        for n in SIZES:
            seen = coverage(population, n, runs)
            rare = f" ({seen.defined:.0%} defined)" if seen.defined < 0.95 else ""
            cells.append(f"{seen.share:.1%} / {seen.width:.2f}{rare}")
        table.add_row(population.name, f"{population.truth:.2f}", *cells)
    return table


def corrections(runs: int) -> Table:
    title = "people's mean by a judge's help: share that hold the truth / mean width"
    table = Table("judge", "rows", "labels", "with the judge", "labels alone", "judge alone", title=title)
    for name, draw in JUDGES.items():
        for rows, labels, size in ((300, 30, 1), (300, 100, 1), (1000, 100, 1), (1000, 300, 1), (200, 60, 5)):
            seen = powered(draw, rows, labels, runs, size=size)
            unit = f" groups of {size}" if size > 1 else ""
            both = (f"{seen.share:.1%} / {seen.width:.3f}", f"{seen.labels:.1%} / {seen.labels_width:.3f}")
            table.add_row(name, f"{rows}{unit}", str(labels), *both, f"{seen.judge:.1%}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    console = Console(width=140)
    error = stats.norm.ppf(0.975) * np.sqrt(0.95 * 0.05 / runs)
    console.print(f"{runs} samples a figure: a share of 95 % is known to ± {error:.1%}.")
    console.print(corrections(runs), agreements(runs))


if __name__ == "__main__":
    main()
