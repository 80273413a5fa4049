"""Few-shot demos by random search."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from driving import LESSONS, Drive, World, chance, rows, search_of

from promptopt.core.candidate import Candidate, Component, Demo
from promptopt.core.example import Example
from promptopt.core.rollout import Rollout
from promptopt.core.state import Told
from promptopt.core.strategies.bootstrap import Bootstrap
from promptopt.core.strategies.racer import Limits, Task

TRAIN, VAL = rows("train", 40), rows("val", 40)
LABELLED = {"p": tuple(Demo(row.id, dict(row.inputs), "x") for row in TRAIN)}


def luck(example: Example) -> bool:
    return chance("luck", example.id) < 0.3


def score(candidate: Candidate, example: Example) -> float:
    """Right where a demo shows the row's lesson, and by luck otherwise."""
    shown = {str(demo.inputs["lesson"]) for demos in candidate.demos.values() for demo in demos}
    return float(example.inputs["lesson"] in shown or luck(example))


def bootstrap(labelled: dict[str, tuple[Demo, ...]] | None = None, **limits: int) -> Bootstrap:
    task = Task(Candidate({"p": "Answer."}), (Component("p", "Answer."),), labelled or LABELLED, TRAIN, VAL)
    return Bootstrap(task, (), replace(Limits(), **limits), 0)


def played(strategy: Bootstrap, cap: int = 500, pipeline: int = 8, seed: int = 0) -> tuple[Drive, list[Told]]:
    drive = Drive(search_of(strategy, cap=cap, pipeline=pipeline), World(score))
    return drive, drive.play(Random(seed))


def demos_of(told: Told) -> list[Demo]:
    return [demo for demos in told.candidate.demos.values() for demo in demos] if told.candidate else []


def test_demos_are_found_that_beat_the_baseline_and_no_text_changes() -> None:
    drive, tolds = played(bootstrap())
    state = drive.search.state
    assert state.mean(state.incumbent) > state.mean(state.baseline) + 0.3
    assert {told.candidate.components["p"] for told in tolds if told.candidate} == {"Answer."}
    assert not drive.asked


def test_sets_of_both_kinds_several_sizes_and_orders_are_tried() -> None:
    _, tolds = played(bootstrap(), cap=900)
    assert {told.operator for told in tolds} >= {"labelled", "bootstrapped"}
    assert len({len(demos_of(told)) for told in tolds}) > 4
    orders = [[demo.example_id for demo in demos_of(told)] for told in tolds if demos_of(told)]
    assert all(order != sorted(order) for order in orders if len(order) > 5)


def test_only_runs_that_passed_become_demos() -> None:
    _, tolds = played(bootstrap(), cap=900)
    made = [demo for told in tolds if told.operator == "bootstrapped" for demo in demos_of(told)]
    passed = {row.id for row in TRAIN if luck(row)}
    assert made
    assert {demo.example_id for demo in made} <= passed
    assert {demo.output for demo in made} == {"?"}, "the program's own reply, not the label"


def test_no_set_is_larger_than_the_limits_and_no_step_costs_more_than_a_minibatch() -> None:
    drive, tolds = played(bootstrap(max_demos=5, minibatch=3))
    assert max(len(demos_of(told)) for told in tolds) == 5
    assert len(drive.paid) <= 500
    known: set[str] = set()
    for told in tolds:
        new = {row for scores in told.train.values() for row in scores} - known
        assert len(new) <= 3
        known |= new
    small, told_small = played(bootstrap(max_bytes=60))
    assert all(len(demos_of(told)) < 6 for told in told_small)
    assert small.search.state.folded > 3


@pytest.mark.parametrize("pipeline", [1, 8])
def test_the_order_in_which_work_is_done_decides_nothing(pipeline: int) -> None:
    assert played(bootstrap(), pipeline=pipeline, seed=1)[1] == played(bootstrap(), pipeline=pipeline, seed=2)[1]


def test_a_program_that_passes_nothing_ends_the_search() -> None:
    drive = Drive(search_of(bootstrap({"p": ()}), cap=900), World(lambda *_: 0.0))
    tolds = drive.play(Random(0))
    assert {told.reason for told in tolds[1:-1]} == {"no row passed"}
    assert "no new proposals" in (drive.search.stop_reason or "")


def test_each_part_of_a_pipeline_shows_its_own_runs() -> None:
    """Two slots: what the row's rollout did in each."""
    from promptopt.core.edit import Evidence
    from promptopt.core.rollout import Invocation

    runs = tuple(Invocation(slot, {"q": number}, f"{slot} {number}") for number in (1, 2) for slot in ("a", "b"))
    row = Evidence(
        TRAIN[0], Rollout("c", TRAIN[0].id, output="x", invocations=(*runs, Invocation("b", {}, "?", "bad")))
    )
    assert row.demo("a") == Demo(TRAIN[0].id, {"q": 2}, "a 2")
    assert row.demo("b") == Demo(TRAIN[0].id, {"q": 2}, "b 2")
    assert row.demo("c") is None


def test_the_world_has_lessons_to_learn() -> None:
    assert len({row.inputs["lesson"] for row in TRAIN}) == LESSONS
