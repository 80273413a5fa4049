"""The search is a fold: whatever finishes first, the same steps give the same state."""

from __future__ import annotations

from random import Random

import pytest
from driving import Drive, World, search_of
from hypothesis import given, settings
from hypothesis import strategies as st

from promptopt.core.candidate import Candidate
from promptopt.core.example import Example
from promptopt.core.search import IDLE_LIMIT, OUT_OF_ROLLOUTS, AwaitTurn, Evaluate, Search, Steps, Turn
from promptopt.core.state import State, Told, replay

VAL = tuple(Example(f"v{i}", {"x": i}) for i in range(6))
FIRST = Candidate({"p": ""})


def better(candidate: Candidate) -> bool:
    return Random(candidate.id).random() < 0.5


def score(candidate: Candidate, _example: Example) -> float:
    """The more steps a text has, the better; half of all texts are bad."""
    if candidate == FIRST:
        return 0.5
    return 0.5 + 0.001 * len(candidate.components["p"]) if better(candidate) else 0.4


class Counting:
    """A strategy whose children get longer each step, and win or lose by a hash of their text."""

    start_cost, least_race = 2, 3

    def race_cost(self, state: State) -> int:
        return len(VAL)

    def finish_cost(self, state: State) -> int:
        return len(VAL) - self.least_race

    def baseline(self) -> Steps:
        yield Evaluate(FIRST, VAL)
        return Told(0, "baseline", "baseline", FIRST)

    def step(self, number: int, state: State) -> Steps:
        yield Evaluate(state.candidates[state.incumbent], (Example(f"t{number}", {}),))
        turn: Turn | None = yield AwaitTurn()
        if turn is None:
            return Told(number, "grow", "no_room")
        rival = turn.state.candidates[turn.state.incumbent]
        child = Candidate({"p": f"{rival.components['p']}.{number}/{state.folded}"})
        rows = VAL[: min(turn.room, len(VAL))]
        yield Evaluate(child, rows)
        return Told(number, "grow", "won" if better(child) else "lost", child, rival.id, note=child.components["p"])

    def finish(self, number: int, state: State, room: int | None) -> Steps | None:
        left = tuple(example for example in VAL if example.id not in state.val[state.incumbent])
        return self._finish(number, state, left) if left and (room is None or len(left) <= room) else None

    def _finish(self, number: int, state: State, left: tuple[Example, ...]) -> Steps:
        yield Evaluate(state.candidates[state.incumbent], left)
        return Told(number, "finalist", "completed", state.candidates[state.incumbent])

    def ready(self, number: int, state: State) -> bool:
        return True

    def enough(self, state: State) -> str | None:
        return None


def run(order: Random, *, pipeline: int, rebase: int, cap: int | None, steps: int = 10**6) -> tuple[list[Told], Drive]:
    drive = Drive(search_of(Counting(), pipeline=pipeline, rebase=rebase, cap=cap), World(score))
    return drive.play(order, steps), drive


def begun(pipeline: int = 4) -> Search:
    """A search whose baseline is folded."""
    search = search_of(Counting(), pipeline=pipeline)
    Drive(search, World(score)).play(Random(0), 1)
    search.ask()
    return search


def winner(step: int, name: str, value: float, parent: str) -> Told:
    candidate = Candidate({"p": name})
    return Told(step, "grow", "won", candidate, parent, gain=0.1, val={candidate.id: {e.id: value for e in VAL}})


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 4), st.one_of(st.none(), st.integers(20, 200)))
@settings(max_examples=60)
def test_the_order_in_which_steps_finish_does_not_change_what_is_found(
    seed: int, pipeline: int, rebase: int, cap: int | None
) -> None:
    first, one = run(Random(0), pipeline=pipeline, rebase=rebase, cap=cap, steps=20)
    other, two = run(Random(seed), pipeline=pipeline, rebase=rebase, cap=cap, steps=20)
    assert first == other
    assert one.search.state == two.search.state == replay(first)


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(20, 300))
@settings(max_examples=60)
def test_the_rollout_cap_is_never_passed_and_mostly_used(seed: int, pipeline: int, cap: int) -> None:
    _, drive = run(Random(seed), pipeline=pipeline, rebase=2, cap=cap)
    assert drive.search.stop_reason == OUT_OF_ROLLOUTS
    assert drive.search.state.rollouts <= len(drive.paid) <= cap
    assert len(drive.paid) > cap - (Counting.start_cost * 2 + Counting.least_race * 2)


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(20, 300))
@settings(max_examples=60)
def test_when_the_cap_ends_a_search_its_best_candidate_is_complete(seed: int, pipeline: int, cap: int) -> None:
    _, drive = run(Random(seed), pipeline=pipeline, rebase=2, cap=cap)
    state = drive.search.state
    assert drive.search.finishing
    assert len(state.val[state.incumbent]) == len(VAL)


def test_finalists_are_completed_only_once_every_step_is_folded() -> None:
    tolds, drive = run(Random(1), pipeline=5, rebase=2, cap=100)
    assert drive.search.finishing
    assert "completed" not in [told.outcome for told in tolds[:-1]]


def test_a_finish_that_no_budget_is_left_for_ends_the_search() -> None:
    search = begun(pipeline=1)
    child = Candidate({"p": "child"})
    search.tell(Told(1, "grow", "won", child, FIRST.id, val={child.id: {"v0": 1.0}}))
    search.stop("budget: usd")
    (finish,) = search.ask()
    assert search.finishing
    search.tell(Told(finish.number, "", "no_room", reason="budget: usd"))
    assert search.ask() == []
    assert search.finishing


def test_what_steps_that_were_cut_short_may_have_used_is_not_left_to_the_finish() -> None:
    rooms: list[int | None] = []

    class Recording(Counting):
        def finish(self, number: int, state: State, room: int | None) -> Steps | None:
            rooms.append(room)
            return None

    search = search_of(Recording(), pipeline=3, cap=60)
    Drive(search, World(score)).play(Random(0), 1)
    search.ask()
    turns = [search.turn(step) for step in (1, 2, 3) if search.has_turn(step)]
    given = sum(turn.room for turn in turns if turn)
    assert given
    search.stop("budget: minutes")
    for step in (1, 2):
        search.tell(Told(step, "", "no_room", reason="budget: minutes"))
    search.tell(Told(3, "", "no_room", reason="budget: minutes", train={FIRST.id: {"t3": 1.0}}))
    search.ask()
    assert rooms == [60 - len(VAL) - 3 * Counting.start_cost - given]


def test_steps_are_folded_in_their_order_only() -> None:
    search = Search(Counting(), pipeline=4, rebase=2, max_rollouts=None)
    search.ask()
    with pytest.raises(ValueError, match="step 3 told before step 0"):
        search.tell(Told(3, "grow", "lost"))


def test_a_search_without_new_proposals_ends() -> None:
    search = begun(pipeline=2)
    while search.in_flight:
        search.tell(Told(search.state.folded, "grow", "refused"))
        search.ask()
    assert search.stop_reason is not None
    assert search.stop_reason.startswith("no new proposals")
    assert IDLE_LIMIT <= search.state.folded <= IDLE_LIMIT + 3
    assert search.finishing


def test_of_two_winners_that_raced_side_by_side_the_better_stays() -> None:
    search = begun()
    search.tell(winner(1, "first", 0.9, FIRST.id))
    search.ask()
    search.tell(winner(2, "second", 0.8, FIRST.id))
    assert search.state.candidates[search.state.incumbent].components["p"] == "first"
    assert len(search.state.winners) == 2
    search.ask()
    search.tell(winner(3, "third", 0.95, FIRST.id))
    assert search.state.candidates[search.state.incumbent].components["p"] == "third"


def test_what_did_not_help_is_remembered_once_with_the_latest_reason() -> None:
    state = State().fold(Told(0, "baseline", "baseline", FIRST, val={FIRST.id: {"v0": 0.0}}))
    for step, (note, reason) in enumerate([("a", "old"), ("b", "mends none"), ("a", "behind")], 1):
        state = state.fold(Told(step, "grow", "behind", note=note, reason=reason))
    assert list(state.rejected.items()) == [("b", "mends none"), ("a", "behind")]


def test_only_what_was_not_known_counts_as_a_rollout() -> None:
    state = State().fold(Told(0, "baseline", "baseline", FIRST, val={FIRST.id: {"v0": 0.0, "v1": None}}))
    assert state.rollouts == 2
    state = state.fold(Told(1, "grow", "refused", train={FIRST.id: {"t0": 1.0}}, val={FIRST.id: {"v1": None}}))
    assert (state.rollouts, state.idle) == (3, 0)
    state = state.fold(Told(2, "grow", "refused", train={FIRST.id: {"t0": 1.0}}))
    assert (state.rollouts, state.idle) == (3, 1)


def test_told_reads_back_what_it_wrote() -> None:
    candidate = Candidate({"p": "text"})
    told = Told(
        3,
        "rules",
        "behind",
        candidate,
        "abc",
        note="note",
        reason="why",
        refused={"cut off": 1},
        asked=True,
        gain=-0.25,
        saved=8,
        tokens=7,
        val={candidate.id: {"v1": 1.0, "v2": None}, "abc": {"v3": 0.5}},
        train={"abc": {"t1": 0.0}},
    )
    assert Told.from_json(3, told.to_json()) == told
    assert told.scores == {"v1": 1.0, "v2": None}
