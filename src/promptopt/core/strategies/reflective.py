"""The first strategy: one parent, evidence from train, an operator's edit, a paired race on val."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from promptopt.core.candidate import Candidate, Component
from promptopt.core.edit import Brief, Evidence, Proposal
from promptopt.core.example import Example
from promptopt.core.racing import blocks, futile
from promptopt.core.rollout import Rollout
from promptopt.core.search import AwaitTurn, Evaluate, Outcome, Propose, State, Steps, Told, Work, paired_gain
from promptopt.core.selection import prompt_bytes


@dataclass(frozen=True, slots=True)
class OperatorPrior:
    """What is known of an operator before it is tried: `wins` of `tries` imaginary proposals."""

    name: str
    wins: float
    tries: float
    needs_evidence: bool
    """Whether it reads a minibatch of the parent's rollouts; those that do not cost no rollouts before the race."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is being optimized, as far as a strategy may know it."""

    seed_candidate: Candidate
    components: tuple[Component, ...]
    """The optimizable ones."""
    slots: tuple[str, ...]
    train: tuple[Example, ...]
    val: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes of what a step may do."""

    minibatch: int = 8
    block: int = 16
    max_demos: int = 16
    max_bytes: int = 8000


class Reflective:
    """Improves the incumbent by one edit a step; operators are drawn by how often they won (Thompson sampling)."""

    def __init__(self, task: Task, operators: Sequence[OperatorPrior], limits: Limits, seed: int) -> None:
        self.task, self.operators, self.limits, self.seed = task, tuple(operators), limits, seed
        self._blocks = blocks(task.val, limits.block, Random(f"{seed}/val"))
        self._val_ids = [example.id for example in task.val]

    @property
    def start_cost(self) -> int:
        return min(self.limits.minibatch, len(self.task.train))

    @property
    def race_cost(self) -> int:
        return len(self.task.val)

    def baseline(self) -> Steps:
        candidate = self.task.seed_candidate
        rollouts = yield Evaluate(candidate, self.task.val)
        return Told(0, "baseline", "baseline", candidate, scores=values(rollouts), note="the program as it is")

    def step(self, number: int, state: State) -> Steps:
        rng = Random(f"{self.seed}/{number}")
        operator = self._draw(state, rng)
        parent = state.candidates[state.incumbent]
        component = self._component(parent, rng)
        evidence = yield from self._evidence(parent, rng) if operator.needs_evidence else nothing()
        proposal: Proposal = yield Propose(operator.name, self._brief(number, state, component, evidence))

        told = Told(
            number,
            operator.name,
            "refused",
            parent=parent.id,
            note=proposal.edit.note if proposal.edit else "",
            reason=", ".join(proposal.refused),
            refused=proposal.refused,
            tokens=proposal.tokens,
        )
        if proposal.edit is None:
            return told
        now: State | None = yield AwaitTurn()
        if now is None:
            return replace(told, outcome="no_room", reason="no room for a race within the budget")
        rival = now.candidates[now.incumbent]
        child = proposal.edit.apply(rival)
        if child.id in now.candidates:
            return replace(told, outcome="repeat", reason="the candidate was scored before")
        if prompt_bytes(child) > self.limits.max_bytes:
            return replace(told, reason="too long", refused={**proposal.refused, "too long": 1})
        scores, stopped = yield from self._race(child, now.val[rival.id])
        gain = paired_gain(scores, now.val[rival.id])
        outcome: Outcome = "behind" if stopped else "won" if gain > 0 else "lost"
        told = replace(told, outcome=outcome, candidate=child, parent=rival.id, scores=scores)
        return replace(told, reason=stopped or f"{gain:+.3f} on val")

    def _race(
        self, child: Candidate, rival: Mapping[str, float | None]
    ) -> Generator[Work, Any, tuple[dict[str, float | None], str | None]]:
        scores: dict[str, float | None] = {}
        for block in self._blocks:
            rollouts = yield Evaluate(child, block)
            scores |= values(rollouts)
            stopped = futile(scores, rival, self._val_ids)
            if stopped:
                return scores, stopped
        return scores, None

    def _draw(self, state: State, rng: Random) -> OperatorPrior:
        def promise(operator: OperatorPrior) -> float:
            tally = state.tallies.get(operator.name)
            wins = operator.wins + (tally.wins if tally else 0)
            tries = operator.tries + (tally.tries if tally else 0)
            return rng.betavariate(wins, tries - wins)

        return max(self.operators, key=promise)

    def _component(self, parent: Candidate, rng: Random) -> Component:
        chosen = rng.choice(self.task.components)
        text = parent.components[chosen.name]
        return Component(chosen.name, text, chosen.role, chosen.placeholders)

    def _evidence(self, parent: Candidate, rng: Random) -> Generator[Work, Any, tuple[Evidence, ...]]:
        shown = {demo.example_id for demos in parent.demos.values() for demo in demos}
        rows = [example for example in self.task.train if example.id not in shown] or list(self.task.train)
        batch = tuple(rng.sample(rows, min(self.limits.minibatch, len(rows))))
        rollouts: Sequence[Rollout] = yield Evaluate(parent, batch)
        return tuple(Evidence(example, rollout) for example, rollout in zip(batch, rollouts, strict=True))

    def _brief(self, number: int, state: State, component: Component, evidence: tuple[Evidence, ...]) -> Brief:
        return Brief(
            parent=state.candidates[state.incumbent],
            component=component,
            evidence=evidence,
            train=self.task.train,
            slots=self.task.slots,
            max_demos=self.limits.max_demos,
            max_bytes=self.limits.max_bytes,
            rejected=state.rejected,
            seed=(self.seed, number),
        )


def values(rollouts: Sequence[Rollout]) -> dict[str, float | None]:
    """Scores by example id, None where one is missing."""
    return {rollout.example_id: rollout.value for rollout in rollouts}


def nothing() -> Generator[Work, Any, tuple[Evidence, ...]]:
    """No evidence, at no cost."""
    return ()
    yield
