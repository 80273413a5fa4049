"""Drives a search by hand over a scripted world: as the engine does it, but in any order and without any call."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from random import Random

from promptopt.core.candidate import Candidate, Component
from promptopt.core.edit import AddLines, Proposal
from promptopt.core.example import Example
from promptopt.core.rollout import Failure, Rollout, Score
from promptopt.core.search import (
    OUT_OF_ROLLOUTS,
    Ask,
    AwaitTurn,
    Evaluate,
    Propose,
    Search,
    Steps,
    Strategy,
    Turn,
    Work,
)
from promptopt.core.state import State, Told
from promptopt.core.strategies.drawing import OperatorPrior
from promptopt.core.strategies.racer import Limits, Task
from promptopt.core.strategies.reflective import Reflective

RULES = OperatorPrior("rules", 0.4, 1.2, needs_evidence=True, asks=True)
SCAN = OperatorPrior("scan", 0.4, 1.2, needs_evidence=True, asks=True, calls=3)
TIPS = OperatorPrior("tips", 0.4, 1.0, needs_evidence=False, asks=False)
FEEDBACK = OperatorPrior("feedback", 0.4, 1.2, needs_evidence=True, asks=False, reads_all=True)
TEACHER = OperatorPrior("teacher", 0.4, 1.2, needs_evidence=True, asks=False, demos=True, by_teacher=True)

TOKENS = 100
"""What a rollout reads and writes."""
LESSONS = 12
"""Lessons there are to learn; every row is about one of them."""


@dataclass(frozen=True)
class World:
    """What rollouts score and what operators propose; pure functions, so that equal work has equal answers."""

    score: Callable[[Candidate, Example], float | None]
    propose: Callable[[Propose], Proposal] = lambda request: Proposal(None, refused={"nothing to say": 1})
    blame: Callable[[Candidate, Example], Mapping[str, str]] = lambda candidate, example: {}
    """What the metric tells single components."""


@dataclass
class Running:
    """A step under way, with what it has seen."""

    steps: Steps
    work: Work | None
    seen: dict[str, dict[str, dict[str, float | None]]]
    rollouts: int = 0
    paid: int = 0
    """Those that no step had run before."""
    most: int | None = None
    """Rollouts that it may have run when its race is over; None before its turn."""


class Drive:
    """Runs the steps of a search by hand: each `advance` lets one of them do one piece of work."""

    def __init__(self, search: Search, world: World) -> None:
        self.search, self.world = search, world
        self.running: dict[int, Running] = {}
        self.done: dict[int, Told] = {}
        self.paid: set[tuple[str, str]] = set()
        """Every rollout that ran, also those of steps that were cut short."""
        self.overrun: set[int] = set()
        """Steps that ran more rollouts than a step may before its turn, or than its turn gave them."""
        self.asked: list[Propose] = []
        """Every proposal asked for, in the order in which it happened."""

    def add(self, asks: list[Ask]) -> None:
        for ask in asks:
            self.running[ask.number] = Running(ask.work, None, {"val": {}, "train": {}})
            self._send(ask.number, None)

    def rebuild(self, tolds: Iterable[Told]) -> None:
        """Fold what was told before, as a ledger keeps it; steps that were in flight then start again."""
        pending: dict[int, Ask] = {}
        for told in tolds:
            pending |= {ask.number: ask for ask in self.search.ask()}
            del pending[told.step]
            self.search.tell(Told.from_json(told.step, json.loads(json.dumps(told.to_json()))))
        self.add(list(pending.values()))

    def ready(self) -> list[int]:
        return [
            number
            for number, step in self.running.items()
            if not isinstance(step.work, AwaitTurn) or self.search.has_turn(number)
        ]

    def advance(self, number: int) -> None:
        self._send(number, self._answer(number, self.running[number]))

    def _send(self, number: int, answer: tuple[Rollout, ...] | Proposal | Turn | None) -> None:
        step = self.running[number]
        try:
            step.work = step.steps.send(answer)
        except StopIteration as stop:
            told: Told = stop.value
            tokens = told.tokens + TOKENS * step.rollouts
            self.done[number] = replace(told, tokens=tokens, val=step.seen["val"], train=step.seen["train"])
            del self.running[number]

    def cut(self) -> None:
        """End every step in flight, whatever it has done so far."""
        for number in self.search.in_flight:
            self.running.pop(number, None)
            self.done[number] = Told(number, "", "no_room", reason=OUT_OF_ROLLOUTS)

    def play(self, order: Random, most: int = 10**6) -> list[Told]:
        """Drive the search to its end, or for `most` folds, and return what was told."""
        tolds: list[Told] = []
        while len(tolds) < most:
            self.add(self.search.ask())
            if self.search.stop_reason == OUT_OF_ROLLOUTS and not self.search.finishing:
                self.cut()
            if not self.search.in_flight:
                break
            oldest = self.search.state.folded
            while oldest not in self.done:
                self.advance(order.choice(self.ready()))
            tolds.append(self.done.pop(oldest))
            self.search.tell(tolds[-1])
        return tolds

    def _answer(self, number: int, step: Running) -> tuple[Rollout, ...] | Proposal | Turn | None:
        match step.work:
            case Evaluate(candidate, examples):
                rollouts = tuple(_rollout(self.world, candidate, example) for example in examples)
                scores = {rollout.example_id: rollout.value for rollout in rollouts}
                of_split = step.seen["val" if examples[0].id.startswith("v") else "train"]
                of_split[candidate.id] = {**of_split.get(candidate.id, {}), **scores}
                new = {(candidate.id, example.id) for example in examples} - self.paid
                step.rollouts += len(examples)
                step.paid += len(new)
                before_turn = self.search.strategy.start_cost if number and not self.search.finishing else step.paid
                if step.paid > (before_turn if step.most is None else step.most):
                    self.overrun.add(number)
                self.paid |= new
                return rollouts
            case Propose() as request:
                self.asked.append(request)
                return self.world.propose(request)
            case _:
                turn = self.search.turn(number)
                step.most = step.paid + turn.room if turn else None
                return turn


def _rollout(world: World, candidate: Candidate, example: Example) -> Rollout:
    value = world.score(candidate, example)
    if value is None:
        return Rollout(candidate.id, example.id, failure=Failure("timeout", "too slow"))
    score = Score(value, feedback_for=world.blame(candidate, example))
    return Rollout(candidate.id, example.id, output="?", score=score)


def chance(*parts: object) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def rows(split: str, n: int) -> tuple[Example, ...]:
    """`n` rows whose ids begin with the first letter of their split; each needs a lesson."""
    return tuple(
        Example(f"{split[0]}{i}", {"lesson": f"lesson {int(chance('lesson', split, i) * LESSONS)}."}, "x")
        for i in range(n)
    )


def score(candidate: Candidate, example: Example) -> float:
    """Right where the text states the row's lesson, and by luck otherwise; a text that misleads loses some rows."""
    text = candidate.components["p"]
    if any(line.startswith("mislead") and chance(line, example.id) < 0.3 for line in text.split("\n")):
        return 0.0
    return float(example.inputs["lesson"] in text or chance("luck", example.id) < 0.3)


def failing(share: float) -> Callable[[Candidate, Example], float | None]:
    """Scores of which a share is missing."""

    def scored(candidate: Candidate, example: Example) -> float | None:
        return None if chance("fails", candidate.id, example.id) < share else score(candidate, example)

    return scored


def teach(request: Propose) -> Proposal:
    """Lessons from the failures that the briefs show, one of them now and then misleading; tips teach nothing."""
    seen = [row for brief in request.briefs for row in brief.evidence]
    text, seed = request.briefs[0].parent.components["p"], request.briefs[0].seed
    if not seen:
        return Proposal(AddLines("p", (f"tip {int(chance('tip', seed) * 5)}",)))
    wrong = [str(row.example.inputs["lesson"]) for row in seen if row.rollout.value == 0.0]
    lines = [line for line in dict.fromkeys(wrong) if line not in text][:2]
    if chance("mislead", seed) < 0.4:
        lines.append(f"mislead {int(chance('kind', seed) * 10)}")
    if not lines:
        return Proposal(None, refused={"nothing to mend": 1}, tokens=10, asked=True)
    return Proposal(AddLines("p", tuple(lines)), tokens=100, asked=True)


def reflective(
    val: int = 40,
    train: int = 40,
    operators: tuple[OperatorPrior, ...] = (RULES, TIPS),
    seed: int = 0,
    **limits: object,
) -> Reflective:
    """The real strategy on the scripted rows; `limits` are fields of Limits."""
    parts = (Component("p", "Answer the question."),)
    task = Task(Candidate({"p": "Answer the question."}), parts, {}, rows("train", train), rows("val", val))
    return Reflective(task, operators, replace(Limits(), **limits), seed)  # type: ignore[arg-type]


def search_of(strategy: Strategy, *, pipeline: int = 8, rebase: int = 2, cap: int | None = None) -> Search:
    return Search(strategy, pipeline=pipeline, rebase=rebase, max_rollouts=cap)


def complete(state: State, name: str, n_val: int) -> bool:
    """Whether a candidate ran on all val rows."""
    return len(state.val[name]) == n_val
