"""Which operator proposes next: drawn by what it has gained for what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random

from promptopt.core.state import Tally

USUAL_GAIN = 0.1
"""What a win is taken to gain on val before there was one."""


@dataclass(frozen=True, slots=True)
class OperatorPrior:
    """What is known of an operator before it is tried: `wins` of `tries` imaginary proposals."""

    name: str
    wins: float
    tries: float
    needs_evidence: bool
    """Whether it reads a minibatch of the parent's rollouts; those that do not cost no rollouts before the race."""
    asks: bool
    """Whether it needs the run's reflection model; an operator that asks a model of its own says no."""
    shortens: bool = False
    """Whether it only takes away, which is of no use before the search has added something."""
    demos: bool = False
    """Whether it changes demos; the others change a text."""
    calls: int = 1
    """Proposals asked side by side, each on other evidence, and put together: attention is finite."""
    reads_all: bool = False
    """Whether it reads all that the parent or an ancestor is known to make of train, in place of a new minibatch."""
    by_teacher: bool = False
    """Whether it reads what the task's teacher makes of the parent's prompt, in place of the program's own model."""


MERGE = OperatorPrior("merge", 0.4, 0.8, needs_evidence=False, asks=False)
"""The operator that is the strategy's own: it needs no reflection, only two candidates."""


def draw(operators: Iterable[OperatorPrior], form: Mapping[str, Tally], rng: Random) -> OperatorPrior:
    """Thompson sampling of gain per token from each operator's `form`, in which old tries fade (Raj & Kalyani, 2017).

    An untried operator is taken to gain and to cost the average; none is taken to cost less than half of it, for a
    proposal that is refused at no cost still takes a place in the pipeline.

    A search has 15 to 40 proposals, which cannot teach a bandit much: the priors decide first, and weigh little.
    """
    tried = [tally for tally in form.values() if tally.tries]
    cost = max(1.0, sum(tally.tokens for tally in tried) / max(1, sum(tally.tries for tally in tried)))
    gain = (USUAL_GAIN + sum(tally.gain for tally in tried)) / (1 + sum(tally.wins for tally in tried))

    def promise(operator: OperatorPrior) -> float:
        tally = form.get(operator.name, Tally())
        wins, tries = operator.wins + tally.wins, operator.tries + tally.tries
        gained = (gain + tally.gain) / (1 + tally.wins)
        costs = max(cost / 2, (2 * cost + tally.tokens) / (2 + tally.tries))
        return rng.betavariate(wins, tries - wins) * gained / costs

    return max(operators, key=promise)
