"""The search is a fold: whatever finishes first, the same steps give the same state."""

from __future__ import annotations

from collections.abc import Generator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptopt.core.candidate import Candidate
from promptopt.core.example import Example
from promptopt.core.search import Ask, AwaitTurn, Evaluate, Search, State, Steps, Told, Work

VAL = tuple(Example(f"v{i}", {"x": i}) for i in range(6))


class Counting:
    """A strategy whose children get longer each step, and win or lose by a hash of their text."""

    start_cost, race_cost = 2, len(VAL)

    def baseline(self) -> Steps:
        yield Evaluate(Candidate({"p": ""}), VAL)
        return Told(0, "baseline", "baseline", Candidate({"p": ""}), scores={e.id: 0.5 for e in VAL})

    def step(self, number: int, state: State) -> Steps:
        parent = state.candidates[state.incumbent]
        yield Evaluate(parent, (Example(f"t{number}", {}),))
        now: State | None = yield AwaitTurn()
        if now is None:
            return Told(number, "grow", "no_room")
        rival = now.candidates[now.incumbent]
        child = Candidate({"p": f"{rival.components['p']}.{number}/{state.folded}"})
        yield Evaluate(child, VAL)
        better = Random(child.id).random() < 0.5
        scores: dict[str, float | None] = {e.id: 0.5 + 0.01 * number if better else 0.4 for e in VAL}
        return Told(number, "grow", "won" if better else "lost", child, rival.id, scores)


class Drive:
    """Runs steps by hand, in any order: each `advance` lets one of them do one piece of work."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.running: dict[int, tuple[Generator[Work, Any, Told], Work | None, list[tuple[str, str]]]] = {}
        self.done: dict[int, Told] = {}

    def add(self, asks: list[Ask]) -> None:
        for ask in asks:
            self.running[ask.number] = (ask.work, ask.work.send(None), [])

    def ready(self) -> list[int]:
        return [
            n for n, (_, work, _) in self.running.items() if not isinstance(work, AwaitTurn) or self.search.has_turn(n)
        ]

    def advance(self, number: int) -> None:
        steps, work, rolled = self.running.pop(number)
        if isinstance(work, Evaluate):
            rolled += [(work.candidate.id, example.id) for example in work.examples]
        answer = self.search.turn(number) if isinstance(work, AwaitTurn) else ()
        try:
            self.running[number] = (steps, steps.send(answer), rolled)
        except StopIteration as stop:
            told: Told = stop.value
            self.done[number] = Told(told.step, told.operator, told.outcome, told.candidate, told.parent, told.scores,
                                     rolled=tuple(rolled))  # fmt: skip


def run(order: Random, *, pipeline: int, rebase: int, cap: int | None, steps: int) -> list[State]:
    search = Search(Counting(), pipeline=pipeline, rebase=rebase, max_rollouts=cap)
    drive, states = Drive(search), [search.state]
    drive.add(search.ask())
    while search.in_flight and search.state.folded < steps:
        while search.state.folded not in drive.done:
            drive.advance(order.choice(drive.ready()))
        search.tell(drive.done.pop(search.state.folded))
        states.append(search.state)
        drive.add(search.ask())
    return states


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 4), st.one_of(st.none(), st.integers(20, 200)))
@settings(max_examples=60, deadline=None)
def test_the_order_in_which_steps_finish_does_not_change_what_is_found(
    seed: int, pipeline: int, rebase: int, cap: int | None
) -> None:
    first = run(Random(0), pipeline=pipeline, rebase=rebase, cap=cap, steps=20)
    other = run(Random(seed), pipeline=pipeline, rebase=rebase, cap=cap, steps=20)
    assert first == other


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(14, 300))
@settings(max_examples=60, deadline=None)
def test_the_rollout_cap_is_never_passed_and_mostly_used(seed: int, pipeline: int, cap: int) -> None:
    last = run(Random(seed), pipeline=pipeline, rebase=2, cap=cap, steps=10**6)[-1]
    assert last.rollouts <= cap
    assert last.rollouts >= cap - (Counting.race_cost + Counting.start_cost) * 2 - pipeline


def test_steps_are_folded_in_their_order_only() -> None:
    search = Search(Counting(), pipeline=4, rebase=2, max_rollouts=None)
    search.ask()
    with pytest.raises(ValueError, match="step 3 told before step 0"):
        search.tell(Told(3, "grow", "lost"))


def test_a_search_without_new_proposals_ends() -> None:
    search = Search(Counting(), pipeline=2, rebase=1, max_rollouts=None)
    drive = Drive(search)
    drive.add(search.ask())
    drive.advance(0)
    search.tell(drive.done.pop(0))
    while search.ask():
        search.tell(Told(search.state.folded, "grow", "refused"))
        if search.state.folded > 100:
            break
    while search.in_flight:
        search.tell(Told(search.state.folded, "grow", "refused"))
        search.ask()
    assert search.stop_reason is not None
    assert search.stop_reason.startswith("no new proposals")
    assert search.state.folded < 60


def test_of_two_winners_that_raced_side_by_side_the_better_stays() -> None:
    search = Search(Counting(), pipeline=4, rebase=2, max_rollouts=None)
    drive = Drive(search)
    drive.add(search.ask())
    drive.advance(0)
    search.tell(drive.done.pop(0))
    search.ask()

    def winner(step: int, value: float) -> Told:
        candidate = Candidate({"p": f"winner {step}"})
        return Told(step, "grow", "won", candidate, search.state.baseline, {e.id: value for e in VAL})

    search.tell(winner(1, 0.9))
    search.ask()
    search.tell(winner(2, 0.8))
    assert search.state.candidates[search.state.incumbent].components["p"] == "winner 1"


def test_told_reads_back_what_it_wrote() -> None:
    candidate = Candidate({"p": "text"})
    told = Told(3, "rules", "behind", candidate, "abc", {"v1": 1.0, "v2": None}, "note", "why", {"cut off": 1}, 7,
                (("abc", "v1"),))  # fmt: skip
    assert Told.from_json(3, told.to_json()) == told
