"""Few-shot demos by random search: the classic baseline (BootstrapFewShotWithRandomSearch; Khattab et al., 2023).

Every step draws a set of demos, of random size and in random order, and races it against the incumbent: train rows with
their labels, or with what the program as it is made of them where that passed.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from random import Random
from typing import Any

from promptopt.core.candidate import Candidate, Demo
from promptopt.core.edit import Evidence
from promptopt.core.rollout import Rollout
from promptopt.core.search import Evaluate, Steps, Work
from promptopt.core.state import State, Told
from promptopt.core.strategies.drawing import OperatorPrior
from promptopt.core.strategies.racer import Limits, Racer, Task

Shown = Mapping[str, Demo]
"""What one train row shows, by demo slot."""


class Bootstrap(Racer):
    """Searches demos alone; the texts stay as they are, and no reflection model is asked."""

    uses = ("demos", "bootstrap")
    """The operators that a program must allow: both do here what their names say, though none is asked."""

    def __init__(self, task: Task, operators: Sequence[OperatorPrior], limits: Limits, seed: int) -> None:
        super().__init__(task, operators, limits, seed)
        self._train = Random(f"{seed}/train").sample(task.train, len(task.train))
        by_row: dict[str, dict[str, Demo]] = {row.id: {} for row in self._train}
        for slot, demos in task.labelled.items():
            for demo in demos:
                by_row[demo.example_id][slot] = demo
        self._labelled: list[Shown] = [shown for shown in by_row.values() if shown]

    @property
    def start_cost(self) -> int:
        return min(self.limits.minibatch, len(self._train))

    def enough(self, state: State) -> str | None:
        return self.met(state) or self.impatient(state)

    def step(self, number: int, state: State) -> Steps:
        """The largest set of either kind first, then any."""
        rng = Random(f"{self.seed}/{number}")
        labelled = bool(self._labelled) and (number == 1 or (number > 2 and rng.random() < 0.5))
        rows = self._labelled if labelled else (yield from self._passed(state))
        kind = "labelled" if labelled else "bootstrapped"
        if not rows:
            return Told(number, kind, "refused", reason="no row passed", refused={"no row passed": 1})
        most = min(len(rows), max(1, self.limits.max_demos // len(self.task.labelled)))
        chosen = rng.sample(rows, most if number <= 2 else rng.randint(1, most))
        told = Told(number, kind, "refused", note=f"{len(chosen)} {kind} rows as demos")
        return (yield from self.race_in_turn(told, lambda rival: self._showing(chosen, rival)))

    def _passed(self, state: State) -> Generator[Work, Any, list[Shown]]:
        """What the baseline makes of rows that it gets right: the known ones, and while they are few, some more."""
        teacher = state.candidates[state.baseline]
        known = state.train.get(teacher.id, {})
        rows = [row for row in self._train if (known.get(row.id) or 0) >= 1]
        if len(rows) < self.limits.max_demos:
            rows += [row for row in self._train if row.id not in known][: self.limits.minibatch]
        rollouts: Sequence[Rollout] = (yield Evaluate(teacher, tuple(rows))) if rows else ()
        right = [Evidence(row, made) for row, made in zip(rows, rollouts, strict=True) if (made.value or 0) >= 1]
        shown = [{slot: demo for slot in self.task.labelled if (demo := row.demo(slot))} for row in right]
        return [demos for demos in shown if demos]

    def _showing(self, rows: Sequence[Shown], rival: Candidate) -> Candidate:
        """`rival` with these demos in place of its own, as many as its length allows."""
        slots = {slot: tuple(row[slot] for row in rows if slot in row) for slot in self.task.labelled}
        child = Candidate(rival.components, {slot: demos for slot, demos in slots.items() if demos}, rival.settings)
        return self._showing(rows[:-1], rival) if self.fault(child) and len(rows) > 1 else child
