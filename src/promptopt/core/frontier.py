"""The frontier of val rows: which candidates win where the incumbent loses.

A candidate counts with what is known of it so far, so one that trailed on average, and was dropped early, still shows
where it was better. Such candidates make parents, and partners to merge with (after GEPA's Pareto selection, Agrawal
et al., 2025, which asks for complete vectors).
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from promptopt.core.state import State


def wins_beyond(state: State) -> Mapping[str, float]:
    """By how much, summed over rows, each candidate that is best somewhere beats the incumbent there.

    Candidates that beat it nowhere, and the incumbent's own ancestors, are left out: what they had, it was given.
    """
    lead = state.val[state.incumbent]
    best: dict[str, float] = {}
    for scores in state.val.values():
        for row, value in scores.items():
            if value is not None and value > best.get(row, 0.0):
                best[row] = value
    ancestors = set(state.lineage(state.incumbent))
    wins: dict[str, float] = {}
    for name, scores in state.val.items():
        if name in ancestors:
            continue
        ahead = (value - mine for row, value in scores.items()
                 if value is not None and (mine := lead.get(row)) is not None and value == best.get(row))  # fmt: skip
        total = sum(gap for gap in ahead if gap > 0)
        if total > 0:
            wins[name] = total
    return wins


def drawn(wins: Mapping[str, float], rng: Random) -> str:
    """One candidate, each as likely as its wins."""
    names = sorted(wins)
    return rng.choices(names, [wins[name] for name in names])[0]
