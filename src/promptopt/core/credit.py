"""Which component of a program to change next: the one that failures point at, and whose changes have paid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from promptopt.core.candidate import Component
from promptopt.core.edit import Evidence
from promptopt.core.state import Tally

UNBLAMED = 0.25
"""Failures that a component is taken to have where others are blamed: blame may be wrong."""
WINS, TRIES = 0.4, 1.2
"""What is believed of a component before its first try, as of an operator."""


def to_mend(
    components: Sequence[Component], evidence: Sequence[Evidence], credit: Mapping[str, Tally], rng: Random
) -> Component:
    """Thompson sampling of the share of a component's changes that paid, times the blame that the evidence lays on it.

    So blame that falls on all alike, as of metrics that have a word for every component, decides nothing.
    """

    def promise(component: Component) -> float:
        tally = credit.get(component.name, Tally())
        wins, tries = WINS + tally.wins, TRIES + tally.tries
        return (UNBLAMED + blame(component, evidence)) * rng.betavariate(wins, tries - wins)

    return max(components, key=promise)


def blame(component: Component, evidence: Sequence[Evidence]) -> int:
    """Rows that went wrong and name the component: in the metric's feedback, or by a reply that could not be read."""
    rows = [row.rollout for row in evidence if row.rollout.value is None or row.rollout.value < 1]
    names = {component.name, component.slot} - {""}
    return sum(
        bool(rollout.score and names & rollout.score.feedback_for.keys())
        or any(run.fault and run.slot in names for run in rollout.invocations)
        for rollout in rows
    )
