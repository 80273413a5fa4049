"""The reflective strategy: an edit from evidence on train, rebased on the incumbent, raced against it on val.

Reflective mutation and parents from the frontier are GEPA's (Agrawal et al., 2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from promptopt.core.candidate import Candidate
from promptopt.core.frontier import drawn, wins_beyond
from promptopt.core.merge import merge
from promptopt.core.search import Steps
from promptopt.core.selection import prompt_bytes
from promptopt.core.state import State, Told
from promptopt.core.strategies.drawing import MERGE, OperatorPrior, draw
from promptopt.core.strategies.racer import USELESS, Limits, Racer, Task

OFF_LINE = 0.2
"""Share of proposals whose parent is drawn from the frontier instead of being the incumbent."""
FIRST = 8
"""Operators of the best priors that make the first steps, one each."""
GROWN = 1.5
"""How many times as long as the baseline a prompt must be before it is shortened."""


class Reflective(Racer):
    """Improves the incumbent by one edit a step; operators are drawn by what they gained for what they cost."""

    def __init__(self, task: Task, operators: Sequence[OperatorPrior], limits: Limits, seed: int) -> None:
        super().__init__(task, operators, limits, seed)
        # Each once before anything is known of them, so that no run begins with eight tries of one.
        additive = [operator for operator in self.operators if not operator.shortens]
        self._first = sorted(additive, key=lambda operator: -operator.wins / operator.tries)[:FIRST]

    def step(self, number: int, state: State) -> Steps:
        if self._at_goal(state):
            return (yield from self.complete_incumbent(number))
        rng = Random(f"{self.seed}/{number}")
        wins, partners = wins_beyond(state), dict[str, float]()
        if number <= len(self._first):
            operator = self._first[number - 1]
        else:
            partners = {name: won for name, won in wins.items() if not _merged_before(name, state)}
            operator = draw(self._open_operators(state, mergeable=bool(partners)), state.form, rng)
        if operator is MERGE:
            return (yield from self._merge(number, drawn(partners, rng), state))
        off_line = bool(wins) and rng.random() < OFF_LINE
        parent = state.candidates[drawn(wins, rng) if off_line else state.incumbent]
        told, edit = yield from self.propose(number, operator, parent, state, rng)
        if edit is None:
            return told
        if off_line:  # it keeps its own line: merges bring the two together
            told = replace(told, parent=parent.id)
        return (yield from self.race_in_turn(told, lambda rival: edit.apply(parent if off_line else rival)))

    def _merge(self, number: int, partner: str, state: State) -> Steps:
        told = Told(number, MERGE.name, "refused", note=f"what {partner} changed, on the incumbent")
        return (yield from self.race_in_turn(told, lambda rival: _merged(partner, rival, state)))

    def _open_operators(self, state: State, *, mergeable: bool) -> list[OperatorPrior]:
        """Those that may be drawn: a reflection model that gave nothing usable for long is asked no more."""
        sizes = [prompt_bytes(state.candidates[name]) for name in (state.baseline, state.incumbent)]
        grown = sizes[1] >= GROWN * sizes[0]
        usable = [
            operator
            for operator in self.operators
            if (grown or not operator.shortens) and (state.useless < USELESS or not operator.asks)
        ]
        return [*(usable or self.operators), *([MERGE] if mergeable else [])]


def _merged(partner: str, rival: Candidate, state: State) -> Candidate:
    """The rival with what the partner changed of its parent."""
    return merge(state.candidates[state.parents[partner]], rival, state.candidates[partner])


def _merged_before(partner: str, state: State) -> bool:
    """Whether the incumbent with what the partner changed was scored before."""
    return _merged(partner, state.candidates[state.incumbent], state).id in state.candidates
