"""How well raters agree: a judge with people, people with each other, a judge with itself.

Every coefficient is an `Estimate`, undefined where the labels cannot tell. Its interval is a Bayesian bootstrap's with
a pseudo-row or two that agree and disagree, spread over the categories; with two categories that is Jeffreys' prior. A
plain bootstrap of 30 rows covers the truth as rarely as one time in six where agreement is high or one label rare.

Labels are compared as they are: 1 and "1" differ. Where only the order of categories counts, they are given as ranks.
`options` are the labels that could have been given, if there are a few: without them an interval knows only those seen.
All coefficients raise ValueError when lengths differ or the level is outside (0, 1).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from promptopt.stats.bounded import Floats
from promptopt.stats.estimate import UNDEFINED, Estimate, PseudoRows, estimate

Label = str | int | float
Groups = Sequence[str] | None
"""The group of each row, where rows come in groups (sessions, customers, documents)."""
PSEUDO_CATEGORIES = 10
"""Pseudo-rows are spread over at most so many categories, evenly spaced among all: numbers can have hundreds."""


def accuracy(
    judge: Sequence[Label],
    people: Sequence[Label],
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    groups: Groups = None,
) -> Estimate:
    """The share of rows on which the judge says what people say; undefined without rows."""
    first, second, _ = _coded(judge, people)
    return _mean((first == second).astype(np.float64), rng, level, groups)


def balanced_accuracy(
    judge: Sequence[Label],
    people: Sequence[Label],
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    groups: Groups = None,
) -> Estimate:
    """Mean recall: of each label that people gave, the share of its rows on which the judge says the same.

    Undefined where people gave fewer than two labels.
    """
    first, second, _ = _coded(judge, people)
    seen = np.unique(second)
    k = len(seen)
    if k < 2:
        return UNDEFINED
    of_label = (second[:, None] == seen).astype(np.float64)
    rows = np.hstack([of_label * (first == second)[:, None], of_label])
    each = np.eye(k)
    pseudo = PseudoRows(np.block([[each, each], [np.zeros((k, k)), each]]), np.full(2 * k, 1 / k))

    def mean_recall(sums: Floats) -> Floats:
        return (sums[:, :k] / sums[:, k:]).mean(axis=1)

    return estimate(mean_recall, rows, pseudo, rng, level=level, groups=groups)


def cohens_kappa(
    judge: Sequence[Label],
    people: Sequence[Label],
    rng: np.random.Generator,
    *,
    options: Sequence[Label] | None = None,
    level: float = 0.95,
    groups: Groups = None,
) -> Estimate:
    """Cohen's kappa: 1 is perfect agreement, 0 what two raters with these frequencies of labels reach by chance.

    0 where one always says the same and the other does not; undefined where both say one and the same throughout.
    Source: Cohen (1960), Educ. Psychol. Meas. 20:37.
    """
    first, second, values = _coded(judge, people, options)
    return _kappa(first, second, 1.0 - np.eye(len(values)), rng, level, groups)


def weighted_kappa(
    judge: Sequence[float],
    people: Sequence[float],
    rng: np.random.Generator,
    *,
    options: Sequence[float] | None = None,
    level: float = 0.95,
    groups: Groups = None,
) -> Estimate:
    """Cohen's kappa in which a disagreement weighs as its distance squared.

    Of numbers, this is Lin's concordance correlation; of two categories, the unweighted kappa.

    Raises ValueError for labels that are no finite numbers, too.
    Source: Cohen (1968), Psychol. Bull. 70:213.
    """
    first, second, values = _coded(judge, people, options)
    return _kappa(first, second, _squared_distances(_numbers(values)), rng, level, groups)


def krippendorff_alpha(
    ratings: Sequence[Sequence[Label | None]],
    rng: np.random.Generator,
    *,
    scale: Literal["nominal", "ordinal", "interval"] = "nominal",
    options: Sequence[Label] | None = None,
    level: float = 0.95,
    groups: Groups = None,
) -> Estimate:
    """Krippendorff's alpha: one sequence a row, in it the ratings it got, None where a rater gave none.

    The order of a row's ratings does not matter. Rows with fewer than two say nothing. Undefined where no row has two,
    or all ratings are the same. The interval takes the ranks of an ordinal scale as the sample has them.

    Raises ValueError for ratings on an ordinal or interval scale that are no finite numbers, too.
    Source: Krippendorff (2011), Computing Krippendorff's Alpha-Reliability.
    """
    rated = [[rating for rating in row if rating is not None] for row in ratings]
    paired = [row for row in rated if len(row) > 1]
    values = _categories(itertools.chain.from_iterable(paired), options)
    positions = np.arange(len(values), dtype=np.float64) if scale == "nominal" else _numbers(values)
    if not paired:
        return UNDEFINED
    code = {value: i for i, value in enumerate(values)}
    counts = np.array([np.bincount([code[rating] for rating in row], minlength=len(code)) for row in paired], float)
    sizes, totals = counts.sum(axis=1), counts.sum(axis=0)
    if scale == "ordinal":
        positions = np.cumsum(totals) - totals / 2
    distance = 1.0 - np.eye(len(values)) if scale == "nominal" else _squared_distances(positions)
    observed = ((counts @ distance) * counts).sum(axis=1) / (sizes - 1)
    rows = np.column_stack([observed, counts, counts])
    return _beyond_chance(rows, distance, rng, level, _of_repeated(groups, rated), pairs=1 - 1 / float(totals.sum()))


def self_consistency(
    answers: Sequence[Sequence[Label]], rng: np.random.Generator, *, level: float = 0.95, groups: Groups = None
) -> Estimate:
    """How often two answers to one row are the same: the mean over rows of the share of their pairs that agree.

    Rows with fewer than two answers say nothing; undefined where no row has two.
    """
    shares = [
        sum(one == other for one, other in itertools.combinations(row, 2)) / math.comb(len(row), 2)
        for row in answers
        if len(row) > 1
    ]
    return _mean(np.array(shares), rng, level, _of_repeated(groups, answers))


def rows_for_width(seen: Estimate, n: int, half_width: float) -> int | None:
    """About how many rows in place of `n` would give an interval of ± `half_width`; None where undefined.

    Raises ValueError unless the half width is positive.
    """
    if half_width <= 0:
        raise ValueError(f"half the width of an interval is more than 0, got {half_width}")
    return None if seen.ci is None else math.ceil(n * ((seen.ci[1] - seen.ci[0]) / 2 / half_width) ** 2 - 1e-9)


def _mean(shares: Floats, rng: np.random.Generator, level: float, groups: Groups) -> Estimate:
    """The mean of numbers in [0, 1]."""
    if not len(shares):
        return UNDEFINED
    pseudo = PseudoRows(np.array([[0.0, 1.0], [1.0, 1.0]]), np.ones(2))
    rows = np.column_stack([shares, np.ones(len(shares))])
    return estimate(lambda sums: sums[:, 0] / sums[:, 1], rows, pseudo, rng, level=level, groups=groups)


def _kappa(
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    distance: Floats,
    rng: np.random.Generator,
    level: float,
    groups: Groups,
) -> Estimate:
    each = np.eye(len(distance))
    rows = np.column_stack([distance[first, second], each[first], each[second]])
    return _beyond_chance(rows, distance, rng, level, groups)


def _beyond_chance(
    rows: Floats, distance: Floats, rng: np.random.Generator, level: float, groups: Groups, *, pairs: float = 1.0
) -> Estimate:
    """1 - observed / expected disagreement; undefined where none can be expected.

    A row is its disagreement, then how often each category occurs in it on either side, shape (n, 1 + 2k). Expected is
    the mean distance between a label of one side and one of the other; `pairs` is the share of such pairs that are
    possible, less than 1 where both sides are the same ratings and none meets itself.
    """
    k = len(distance)

    def coefficient(sums: Floats) -> Floats:
        first, second = sums[:, 1 : 1 + k], sums[:, 1 + k :]
        chance = ((first @ distance) * second).sum(axis=1) / (first.sum(axis=1) * pairs)
        return 1.0 - sums[:, 0] / chance

    if np.count_nonzero(rows[:, 1 : 1 + k].sum(axis=0) + rows[:, 1 + k :].sum(axis=0)) < 2:
        return UNDEFINED
    size = rows[:, 1:].sum() / 2 / len(rows)
    return estimate(coefficient, rows, _pseudo_pairs(distance, float(size)), rng, level=level, groups=groups)


def _pseudo_pairs(distance: Floats, size: float) -> PseudoRows:
    """One pseudo-row of disagreement, spread over the pairs of categories, and as much agreement as such a pair gets.

    Each holds `size` labels a side. A disagreement is as likely as it is near, else far ones would drown what was seen;
    agreement gets no more, else that in categories that were hardly seen would pass a guess for a judge.
    """
    k = len(distance)
    some = np.unique(np.linspace(0, k - 1, min(k, PSEUDO_CATEGORIES)).round().astype(np.intp))
    first, second = (side.ravel() for side in np.meshgrid(some, some, indexing="ij"))
    apart = distance[first, second]
    nearness = np.divide(1.0, apart, out=np.zeros_like(apart), where=apart > 0)
    weights = np.where(first == second, 1 / np.count_nonzero(apart), nearness / nearness.sum())
    each = np.eye(k)
    return PseudoRows(size * np.column_stack([apart, each[first], each[second]]), weights)


def _coded(
    judge: Sequence[Label], people: Sequence[Label], options: Sequence[Label] | None = None
) -> tuple[NDArray[np.intp], NDArray[np.intp], list[Label]]:
    """Both raters' labels as numbers of categories, and the categories in order."""
    if len(judge) != len(people):
        raise ValueError(f"judge and people must label the same rows, got {len(judge)} and {len(people)} labels")
    values = _categories([*judge, *people], options)
    code = {value: i for i, value in enumerate(values)}
    first, second = (np.array([code[label] for label in said], dtype=np.intp) for said in (judge, people))
    return first, second, values


def _categories(labels: Iterable[Label], options: Sequence[Label] | None) -> list[Label]:
    """The options, or without them the labels: numbers in order, then texts in order."""
    seen = set(labels)
    if options is not None and (unknown := seen.difference(options)):
        raise ValueError(f"{min(unknown, key=str)!r} is not one of the labels {list(options)}")
    return sorted(seen if options is None else set(options), key=lambda label: (isinstance(label, str), label))


def _numbers(values: Sequence[Label]) -> Floats:
    if any(isinstance(value, str) or not math.isfinite(value) for value in values):
        raise ValueError(f"where distances or ranks count, labels are finite numbers, got {values}")
    return np.array(values, dtype=np.float64)


def _squared_distances(positions: Floats) -> Floats:
    return (positions[:, None] - positions) ** 2


def _of_repeated(groups: Groups, rows: Sequence[Sequence[object]]) -> Groups:
    """The groups of the rows that have two entries or more."""
    if groups is not None and len(groups) != len(rows):
        raise ValueError(f"there are {len(rows)} rows and the groups of {len(groups)}")
    return None if groups is None else [group for group, row in zip(groups, rows, strict=True) if len(row) > 1]
