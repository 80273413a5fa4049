"""Several questions asked of the same rows."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given: those at most α may all be called significant at α together.

    Raises ValueError for a value outside [0, 1].
    Source: Holm (1979), Scand. J. Stat. 6:65.
    """
    _check(p_values)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values, in the order given: of those at most q, a share q is expected to be mistaken.

    Weaker than `holm` and more telling, for looking at many things rather than claiming one.

    Raises ValueError for a value outside [0, 1].
    Source: Benjamini & Hochberg (1995), JRSS B 57:289.
    """
    _check(p_values)
    adjusted, smallest = [0.0] * len(p_values), 1.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: -p_values[i])):
        smallest = min(smallest, p_values[index] * len(p_values) / (len(p_values) - rank))
        adjusted[index] = smallest
    return adjusted


def _check(p_values: Sequence[float]) -> None:
    if not all(0.0 <= p <= 1.0 for p in p_values):
        raise ValueError(f"p values lie in [0, 1], got {list(p_values)}")
