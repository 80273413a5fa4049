"""What a combination is likely to be worth, by those that share its choices.

A Gaussian process whose covariance is a product over the dimensions (an ANOVA kernel: Durrande et al., 2012): effects
of single choices, of pairs and of whole combinations, each order smaller than the one before. Races run on different
rows, so a score counts by how it compares with the others' on its row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

from promptopt.core.racing import Scores

Numbers = tuple[int, ...]
"""A combination: the number of the choice in each dimension."""

SPREAD = 0.15
"""Standard deviation of what one choice does to the score."""
SHARED = 0.15
"""How much of that a second shared choice adds."""
ROW_VARIANCE = 0.2
"""Of one row's score about what is expected of it."""
PRIOR_ROWS = 2.0
"""Scores at the mean of all that each row is taken to have had before its first."""


def likeliest(options: Sequence[Numbers], known: Mapping[Numbers, Scores], rng: Random) -> Numbers:
    """The best of `options` in a draw of what all of them may be worth, which tries what is uncertain too.

    Thompson sampling: an option is drawn as often as it is the best, as far as `known` tells.
    """
    tried = {numbers: above for numbers, above in _above_their_rows(known).items() if above}
    if not tried:
        return rng.choice(options)
    asked, seen = np.array(options), np.array(list(tried))
    means = np.array([sum(above) / len(above) for above in tried.values()])
    noise = np.diag([ROW_VARIANCE / len(above) for above in tried.values()])
    cross = _covariance(asked, seen)
    solved = np.linalg.solve(_covariance(seen, seen) + noise, np.column_stack([means - means.mean(), cross.T]))
    spread = _covariance(asked, asked) - cross @ solved[:, 1:] + 1e-9 * np.eye(len(asked))
    generator = np.random.default_rng(rng.getrandbits(32))
    worth = generator.multivariate_normal(cross @ solved[:, 0], spread, method="cholesky", check_valid="ignore")
    return options[int(np.argmax(worth))]


def _above_their_rows(known: Mapping[Numbers, Scores]) -> dict[Numbers, list[float]]:
    """Each combination's scores, less what its rows score on average; a missing one counts as nothing."""
    by_row: dict[str, list[float]] = {}
    for scores in known.values():
        for row, value in scores.items():
            if value is not None:
                by_row.setdefault(row, []).append(value)
    every = [value for row in by_row.values() for value in row]
    mean = sum(every) / max(1, len(every))
    usual = {row: (sum(found) + PRIOR_ROWS * mean) / (len(found) + PRIOR_ROWS) for row, found in by_row.items()}
    return {
        numbers: [value - usual[row] for row, value in scores.items() if value is not None]
        for numbers, scores in known.items()
    }


def _covariance(some: NDArray[np.int_], others: NDArray[np.int_]) -> NDArray[np.float64]:
    """Between combinations, one a row."""
    shared = some[:, None, :] == others[None, :, :]
    return SPREAD**2 * ((1 + SHARED * shared).prod(axis=2) - 1) / SHARED
