"""Hypotheses: causes of the failures are stated first, then checked side by side, each by an edit of its own.

A step asks for labelled hypotheses; as many steps follow, and each races the text with one of them against the
incumbent. A refuted label is not taken up again. When nothing wins for long, hypotheses are about another parent: the
baseline, or a candidate that is best on some rows. After VISTA (Liu et al., 2026, arXiv:2603.18388), which mends
defective prompts that reflection on one text after the other makes worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from random import Random

from promptopt.core.candidate import Candidate
from promptopt.core.edit import Hypothesis, Together
from promptopt.core.frontier import wins_beyond
from promptopt.core.search import Steps
from promptopt.core.state import State, Told
from promptopt.core.strategies.drawing import OperatorPrior
from promptopt.core.strategies.racer import Limits, Racer, Task
from promptopt.errors import ConfigError

ASK, CHECK = "hypotheses", "check"
"""The operators of the two kinds of steps; only the first one calls the reflection model."""
STUCK = 6
"""Proposals in a row without a win after which hypotheses are about another parent."""


class Hypotheses(Racer):
    """Asks, then checks what was answered, then asks again."""

    uses = (ASK,)

    def __init__(self, task: Task, operators: Sequence[OperatorPrior], limits: Limits, seed: int) -> None:
        super().__init__(task, operators, limits, seed)
        asking = [operator for operator in operators if operator.name == ASK]
        if not asking:
            raise ConfigError(f"strategy.operators: this strategy needs {ASK} among them", key="strategy.operators")
        self._asking = asking[0]

    def ready(self, number: int, state: State) -> bool:
        """What stands behind the next question waits for its answer."""
        asked, stated = _latest(state)
        return number <= asked + len(stated) + 1 or state.folded == number

    def step(self, number: int, state: State) -> Steps:
        if self._at_goal(state):
            return self.complete_incumbent(number)
        asked, stated = _latest(state)
        place = number - asked - 1
        return self._check(number, *stated[place], state) if place < len(stated) else self._ask(number, state)

    def _ask(self, number: int, state: State) -> Steps:
        rng = Random(f"{self.seed}/{number}")
        parent = self._parent(state, rng)
        told, edit = yield from self.propose(number, self._asking, parent, state, rng)
        edits = edit.edits if isinstance(edit, Together) else (edit,)
        stated = [asdict(one) for one in edits if isinstance(one, Hypothesis) and not _refuted(one, state)]
        if not stated:
            return told
        off_line = parent.id if parent.id != state.incumbent else None
        return replace(told, outcome="pooled", component="", params={"hypotheses": stated, "parent": off_line})

    def _check(self, number: int, hypothesis: Hypothesis, parent: str | None, state: State) -> Steps:
        told = Told(number, CHECK, "repeat", parent=parent, component=hypothesis.component, note=hypothesis.note)
        if _refuted(hypothesis, state):
            return replace(told, reason="it was refuted since the question was asked")
        on = state.candidates[parent] if parent else None
        return (yield from self.race_in_turn(told, lambda rival: hypothesis.apply(on or rival)))

    def _parent(self, state: State, rng: Random) -> Candidate:
        """The incumbent; when it is stuck, one of those that may know better."""
        names = [state.incumbent]
        if state.since_win >= STUCK:
            names = sorted({*names, state.baseline, *wins_beyond(state)})
        return state.candidates[rng.choice(names)]


def _refuted(hypothesis: Hypothesis, state: State) -> bool:
    return any(note.startswith(f"{hypothesis.name}:") for note in state.rejected)


def _latest(state: State) -> tuple[int, Sequence[tuple[Hypothesis, str | None]]]:
    """The latest step that asked, and its hypotheses, each with the parent that it is about (None: the incumbent)."""
    for told in reversed(state.history):
        if told.operator == ASK:
            stated = told.params.get("hypotheses", ())
            return told.step, [(Hypothesis(**one), told.params["parent"]) for one in stated]
    return 0, ()
