"""The joint search on a scripted surface: a pool first, then trials of combinations, the same at any order."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from driving import Drive, World, chance, search_of
from hypothesis import given, settings
from hypothesis import strategies as st

from promptopt.core.candidate import Candidate, Component, Demo
from promptopt.core.edit import Proposal, Rewrite, SetDemos
from promptopt.core.example import Example
from promptopt.core.search import Propose
from promptopt.core.selection import front, prompt_tokens
from promptopt.core.state import State, Told, replay
from promptopt.core.strategies.drawing import OperatorPrior
from promptopt.core.strategies.joint import Joint, ReflectiveJoint
from promptopt.core.strategies.likeness import likeliest
from promptopt.core.strategies.racer import Limits, Task
from promptopt.core.strategies.space import MOST, Space
from promptopt.core.strategies.study import TRIAL, Ending

WRITE = OperatorPrior("write", 0.4, 1.2, needs_evidence=True, asks=True)
SHOW = OperatorPrior("show", 0.4, 1.0, needs_evidence=False, asks=False, demos=True)
BASE = Candidate({"p": "text 0"})
TEMPERATURES = (0.0, 0.5, 1.0)
MOST_STEPS = 300


def examples(split: str, n: int) -> tuple[Example, ...]:
    return tuple(Example(f"{split}{i}", {"x": str(i)}) for i in range(n))


def choice_of(candidate: Candidate) -> tuple[int, int, float]:
    """The numbers of its text and of its demo set, and its temperature."""
    demos = candidate.demos.get("s", ())
    number = int(demos[0].example_id.split("-")[0]) if demos else 0
    return int(candidate.components["p"].split()[1]), number, candidate.settings.get("temperature", 0.0)


BEST = (3, 2, 0.5)


def scored(candidate: Candidate, example: Example) -> float:
    """Right more often with every choice that is that of the best combination."""
    shared = sum(one == best for one, best in zip(choice_of(candidate), BEST, strict=True))
    return float(chance("right", candidate.id, example.id) < (0.25, 0.4, 0.6, 0.95)[shared])


def propose(request: Propose) -> Proposal:
    """One of five texts or four demo sets, by the step."""
    brief = request.briefs[0]
    number = 1 + int(chance("proposal", request.operator, brief.seed) * (5 if request.operator == "write" else 4))
    if request.operator == "write":
        return Proposal(Rewrite("p", f"text {number}", brief.component.text), asked=True, tokens=50)
    slot = next(iter(brief.labelled))
    return Proposal(SetDemos(slot, tuple(Demo(f"{number}-{i}", {"x": "?"}, "!") for i in range(number))))


def joint(make: type[Joint] = Joint, seed: int = 0, val: int = 40, **limits: object) -> Joint:
    task = Task(
        BASE,
        (Component("p", "text 0"),),
        {"s": ()},
        examples("t", 20),
        examples("v", val),
        {"temperature": TEMPERATURES},
    )
    return make(task, (WRITE, SHOW), Limits(**{"pool": 8, **limits}), seed)  # type: ignore[arg-type]


@st.composite
def jobs(draw: st.DrawFn) -> Callable[[], Drive]:
    make, seed = draw(st.sampled_from([Joint, ReflectiveJoint])), draw(st.integers(0, 5))
    cap = draw(st.integers(120, 400))
    pipeline, rebase = draw(st.integers(1, 9)), draw(st.integers(1, 4))
    objectives = draw(st.sampled_from([("score",), ("score", "prompt_tokens")]))
    pool = draw(st.integers(1, 6))

    def drive() -> Drive:
        strategy = joint(make, seed, rollouts=cap, objectives=objectives, pool=pool)
        return Drive(search_of(strategy, pipeline=pipeline, rebase=rebase, cap=cap), World(scored, propose))

    return drive


# the same however it runs


@given(jobs(), st.integers(0, 10**6))
@settings(max_examples=12)
def test_the_study_does_not_depend_on_the_order_in_which_work_ends(make: Callable[[], Drive], seed: int) -> None:
    first, other = make(), make()
    tolds = first.play(Random(0), MOST_STEPS)
    assert other.play(Random(seed), MOST_STEPS) == tolds
    assert first.search.stop_reason == other.search.stop_reason


@given(jobs(), st.integers(0, 10**6))
@settings(max_examples=12)
def test_a_study_that_is_rebuilt_from_what_was_told_goes_on_as_if_nothing_had_happened(
    make: Callable[[], Drive], seed: int
) -> None:
    whole = make().play(Random(0), MOST_STEPS)
    kept = whole[: seed % (len(whole) + 1)]
    resumed = make()
    resumed.rebuild(kept)
    assert kept + resumed.play(Random(seed), MOST_STEPS - len(kept)) == whole


@given(jobs(), st.integers(0, 10**6))
@settings(max_examples=12)
def test_the_cap_on_rollouts_holds(make: Callable[[], Drive], seed: int) -> None:
    drive = make()
    drive.play(Random(seed), MOST_STEPS)
    assert drive.search.max_rollouts is not None
    assert drive.search.state.rollouts <= len(drive.paid) <= drive.search.max_rollouts
    assert not drive.overrun


# the pool, then the trials


@pytest.fixture(scope="module")
def played() -> tuple[Drive, list[Told]]:
    drive = Drive(search_of(joint(), cap=700), World(scored, propose))
    return drive, drive.play(Random(1))


def test_nothing_races_before_the_pool_is_known_and_nothing_is_pooled_after(played: tuple[Drive, list[Told]]) -> None:
    outcomes = ["trial" if told.operator == TRIAL else told.outcome for told in played[1]]
    pool, trials = outcomes[1:17], [one for one in outcomes[17:] if one not in ("completed", "no_room")]
    assert set(pool) == {"pooled", "repeat"}
    assert set(trials) == {"trial"}


def test_the_pool_is_made_for_every_text_and_every_slot(played: tuple[Drive, list[Told]]) -> None:
    operators = [told.operator for told in played[1][1:17]]
    assert operators.count("write") == operators.count("show") == 8


def test_evidence_for_the_pool_is_of_train_rows_only(played: tuple[Drive, list[Told]]) -> None:
    rows = [row for request in played[0].asked for brief in request.briefs for row in brief.evidence]
    assert rows
    assert all(row.example.id.startswith("t") for row in rows)


def test_the_planted_combination_is_found_and_completed(played: tuple[Drive, list[Told]]) -> None:
    state = played[0].search.state
    assert choice_of(state.candidates[state.incumbent]) == BEST
    assert len(state.val[state.incumbent]) == 40


def test_trials_name_their_choices_and_run_what_they_name(played: tuple[Drive, list[Told]]) -> None:
    tolds = played[1]
    first = next(told.step for told in tolds if told.params)
    space = Space.of(replay(tolds[:first]), {"temperature": TEMPERATURES})
    assert {dimension.name for dimension in space.dimensions} == {"components.p", "demos.s", "settings.temperature"}
    for told in tolds:
        if told.candidate and told.params:
            assert space.candidate(told.params) == told.candidate
            assert space.params(told.candidate) == told.params


def test_a_trial_that_is_behind_costs_a_block_and_is_pruned_with_what_it_seemed_worth(
    played: tuple[Drive, list[Told]],
) -> None:
    behind = [told for told in played[1] if told.outcome == "behind"]
    assert behind
    for told in behind:
        ending = Ending.of(told, ("score",))
        assert (ending.state, ending.values, ending.rows) == ("PRUNED", (told.estimate,), len(told.scores))


def test_the_same_combination_is_tried_again_only_to_learn_more(played: tuple[Drive, list[Told]]) -> None:
    rows: dict[str, set[str]] = {}
    for told in played[1]:
        if told.operator == TRIAL and told.candidate:
            before = rows.get(told.candidate.id, set())
            assert not before & set(told.val.get(told.candidate.id, {}))
            rows[told.candidate.id] = before | set(told.scores)


def test_with_several_objectives_every_trial_is_told_in_full() -> None:
    told = Told(9, TRIAL, "behind", BASE, estimate=0.25, usd=0.5, val={BASE.id: {"v1": 0.0}})
    ending = Ending.of(told, ("score", "prompt_tokens", "usd"))
    assert (ending.state, ending.values) == ("COMPLETE", (0.25, float(prompt_tokens(BASE)), 0.5))


def test_a_search_of_settings_alone_stops_when_all_of_them_are_known() -> None:
    task = Task(
        BASE, (Component("p", "text 0"),), {}, examples("t", 4), examples("v", 20), {"temperature": TEMPERATURES}
    )
    drive = Drive(search_of(Joint(task, (), Limits(), 0)), World(scored))
    drive.play(Random(0), MOST_STEPS)
    assert drive.search.stop_reason == "space: nothing is left to learn of its 3 combinations"
    assert {one.settings.get("temperature") for one in drive.search.state.candidates.values()} == {None, 0.5, 1.0}


def test_half_of_the_rollouts_evolve_instructions() -> None:
    drive = Drive(search_of(joint(ReflectiveJoint, rollouts=200), cap=200), World(scored, propose))
    tolds = drive.play(Random(0))
    first = next(told.step for told in tolds if told.outcome == "pooled" or told.reason == "it is in the pool")
    assert 90 <= replay(tolds[:first]).rollouts < 150


def test_patience_counts_trials_only() -> None:
    drive = Drive(search_of(joint(patience=5), cap=700), World(scored, propose))
    tolds = drive.play(Random(0))
    assert (drive.search.stop_reason or "").startswith("patience")
    assert sum(told.operator == TRIAL for told in tolds) >= 5


def test_evolved_instructions_are_in_the_space_beside_the_pool() -> None:
    drive = Drive(search_of(joint(ReflectiveJoint, rollouts=700), cap=700), World(scored, propose))
    tolds = drive.play(Random(0))
    first = next(told.step for told in tolds if told.params)
    raced = [told for told in tolds[1:first] if told.outcome in ("won", "lost", "behind")]
    assert raced
    before = replay(tolds[:first])
    texts = Space.of(before, {}).dimensions[0].choices
    assert {before.candidates[name].components["p"] for name in before.winners} <= set(texts)
    assert {one.components["p"] for one in before.pool} <= set(texts)


# spaces


def test_a_setting_at_the_program_s_own_value_is_no_setting() -> None:
    state = State().fold(Told(0, "baseline", "baseline", BASE, val={BASE.id: {"v0": 1.0}}))
    space = Space.of(state, {"temperature": (None, 0.5)})
    assert space.candidate({"settings.temperature": 0}) == BASE
    assert space.candidate({"settings.temperature": 1}).settings == {"temperature": 0.5}
    assert space.dimensions[0].labels == ("0: as the program has it", "1: 0.5")


def test_a_pool_of_which_some_are_shown_is_another_choice_than_all_of_it() -> None:
    demos = tuple(Demo(f"t{i}", {"x": "?"}, "!") for i in range(9))
    pooled = [BASE.with_demos("s", demos, count) for count in (None, 2, 4)]
    tolds = [Told(0, "baseline", "baseline", BASE, val={BASE.id: {"v0": 1.0}})]
    space = Space.of(replay([*tolds, *(Told(i, "show", "pooled", one) for i, one in enumerate(pooled, 1))]), {})
    assert [space.candidate({"demos.s": number}) for number in range(4)] == [BASE, *pooled]
    assert [space.params(one) for one in (BASE, *pooled)] == [{"demos.s": number} for number in range(4)]
    assert [label.partition(" (")[0] for label in space.dimensions[0].labels] == [
        "0: 0 demos", "1: 9 demos", "2: the 2 nearest of 9 demos", "3: the 4 nearest of 9 demos",
    ]  # fmt: skip


def test_the_baseline_and_the_latest_stay_where_there_are_too_many_choices() -> None:
    tolds = [Told(0, "baseline", "baseline", BASE, val={BASE.id: {"v0": 1.0}})]
    tolds += [Told(i, "write", "pooled", BASE.with_text("p", f"text {i}")) for i in range(1, 31)]
    texts = Space.of(replay(tolds), {}).dimensions[0].choices
    assert len(texts) == MOST
    assert (texts[0], texts[-1]) == ("text 0", "text 30")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=8, unique=True), st.integers())
def test_what_is_tried_next_is_one_of_the_options(options: list[tuple[int, int]], seed: int) -> None:
    known = {(0, 0): {"v0": 1.0, "v1": None}, (1, 1): {"v0": 0.0}, (2, 2): {"v3": None}}
    assert likeliest(options, known, Random(seed)) in options
    assert likeliest(options, {}, Random(seed)) in options


def test_what_shares_choices_with_good_combinations_is_tried_first() -> None:
    rows = [f"v{i}" for i in range(40)]
    known = {(i, j): {row: float(i == 1) for row in rows} for i in range(3) for j in range(3)}
    options = [(0, 3), (1, 3), (2, 3)]
    chosen = [likeliest(options, known, Random(seed)) for seed in range(20)]
    assert chosen.count((1, 3)) >= 18


# the front


def test_the_front_holds_what_nothing_beats_in_score_length_and_price() -> None:
    rows = [f"v{i}" for i in range(4)]

    def told(step: int, candidate: Candidate, right: int, usd: float, n: int = 4) -> Told:
        scores = {row: float(i < right) for i, row in enumerate(rows[:n])}
        outcome = "baseline" if step == 0 else "lost"
        return Told(step, "x", outcome, candidate, estimate=0.5, usd=usd, val={candidate.id: scores})

    good, cheap, worse, part = (Candidate({"p": text}) for text in ("good " * 9, "c", "worse " * 9, "part"))
    state = replay([told(0, BASE, 1, 0.2), told(1, good, 4, 0.2), told(2, cheap, 2, 0.1), told(3, worse, 3, 0.3),
                    told(4, part, 2, 0.0, n=2)])  # fmt: skip
    assert [offer.candidate for offer in front(state, 4)] == [good, cheap]
