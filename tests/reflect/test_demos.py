"""Demos: fresh sets, one move at a time, and the program's own good replies."""

from __future__ import annotations

from dataclasses import replace

import pytest
from briefs import TRAIN, brief, labelled, seen
from hypothesis import given
from hypothesis import strategies as st

from promptopt.core.candidate import Candidate, Demo
from promptopt.core.edit import Brief, ChangeDemos, Edit, Evidence, SetDemos
from promptopt.core.example import Example
from promptopt.core.rollout import Invocation, Rollout, Score
from promptopt.core.selection import prompt_bytes
from promptopt.reflect.operator import Refused
from promptopt.reflect.operators.bootstrap import BootstrappedDemos
from promptopt.reflect.operators.demos import LabelledDemos

PRESENT = tuple(map(labelled, TRAIN[:3]))
REASONED = "It asks where a card is, so label0"


def ids(edit: Edit, brief: Brief) -> list[str]:
    return [demo.example_id for demo in edit.apply(brief.parent).demos.get("prompt", ())]


def moves(given_brief: Brief, steps: int = 60) -> list[Edit]:
    """What different steps draw from the same brief."""
    changed = [brief_at(given_brief, step) for step in range(steps)]
    return [LabelledDemos().draw(each) for each in changed]


def brief_at(given_brief: Brief, step: int) -> Brief:
    return brief(
        evidence=given_brief.evidence,
        train=given_brief.train,
        demos=given_brief.parent.demos.get("prompt", ()),
        max_demos=given_brief.max_demos,
        step=step,
    )


def test_a_fresh_set_shows_every_label_when_it_can_and_is_the_same_for_the_same_step() -> None:
    edit = LabelledDemos().draw(brief())
    assert isinstance(edit, SetDemos)
    assert {demo.output for demo in edit.demos} == {"label0", "label1", "label2"}
    assert LabelledDemos().draw(brief()) == edit


def test_without_demos_only_fresh_sets_are_drawn_and_larger_ones_more_often() -> None:
    drawn = moves(brief())
    sizes = [len(ids(edit, brief())) for edit in drawn]
    assert all(isinstance(edit, SetDemos) for edit in drawn)
    assert set(sizes) == {4, 6}
    assert sizes.count(6) > sizes.count(4)


def test_present_demos_are_added_to_dropped_swapped_and_reordered() -> None:
    given_brief = brief(demos=PRESENT)
    had = ["r0", "r1", "r2"]
    seen_moves: set[str] = set()
    for edit in moves(given_brief):
        now = ids(edit, given_brief)
        if isinstance(edit, SetDemos):
            seen_moves.add("reorder" if sorted(now) == had else "fresh")
        elif not edit.add:
            assert len(now) == 2
            seen_moves.add("drop")
        elif edit.drop:
            assert len(now) == 3
            seen_moves.add("swap")
        else:
            assert now[:3] == had
            seen_moves.add("add")
    assert seen_moves == {"fresh", "add", "drop", "swap", "reorder"}


def test_newcomers_are_rows_with_the_answers_shown_least() -> None:
    two_labels = tuple(demo for demo in PRESENT if demo.output != "label1")
    adds = [e for e in moves(brief(demos=two_labels)) if isinstance(e, ChangeDemos) and e.add]
    assert all(edit.add[0].output == "label1" for edit in adds)


@given(
    shown=st.integers(0, 6),
    max_demos=st.integers(0, 8),
    room=st.integers(0, 200),
    long=st.integers(0, 120),
    step=st.integers(0, 999),
)
def test_the_limits_on_number_and_length_hold_for_every_move(
    shown: int, max_demos: int, room: int, long: int, step: int
) -> None:
    train = [Example(f"r{i}", {"text": "x" * (long if i % 2 else 10)}, f"label{i % 3}") for i in range(9)]
    demos = tuple(map(labelled, train[: min(shown, max_demos)]))
    start = brief(train=train, demos=demos, max_demos=max_demos, step=step)
    limit = prompt_bytes(start.parent) + room
    given_brief = brief(train=train, demos=demos, max_demos=max_demos, max_bytes=limit, step=step)
    try:
        edit = LabelledDemos().draw(given_brief)
    except Refused:
        return
    child = edit.apply(given_brief.parent)
    assert child != given_brief.parent
    assert child.n_demos <= max_demos
    assert prompt_bytes(child) <= limit


def test_what_was_rejected_is_not_drawn_again() -> None:
    rejected: dict[str, str] = {}
    train = TRAIN[:1]
    rejected[LabelledDemos().draw(brief(train=train)).note] = "-0.1 on val"
    with pytest.raises(Refused, match="no demos left"):
        LabelledDemos().draw(brief(train=train, rejected=rejected))


def test_rows_without_an_expected_answer_are_no_labelled_demos() -> None:
    with pytest.raises(Refused, match="no labelled rows"):
        LabelledDemos().draw(brief(train=[Example("u", {"text": "x"})]))


def test_good_replies_become_demos_with_their_reasoning() -> None:
    evidence = [seen(TRAIN[0], REASONED, 1.0), seen(TRAIN[1], "label0", 0.0), seen(TRAIN[2], None, None)]
    edit = BootstrappedDemos().draw(brief(evidence=evidence))
    assert edit == ChangeDemos("prompt", (), (Demo("r0", TRAIN[0].inputs, REASONED),))


def test_where_nothing_is_perfect_the_best_replies_become_demos() -> None:
    rows = [Example(f"u{i}", {"text": f"row {i}"}) for i in range(4)]
    evidence = [seen(row, f"reply {row.id}", score) for row, score in zip(rows, (0.2, 0.8, 0.1, 0.7), strict=True)]
    edit = BootstrappedDemos().draw(brief(evidence=evidence))
    assert isinstance(edit, ChangeDemos)
    assert {demo.example_id for demo in edit.add} == {"u1", "u3"}


def test_bootstrapped_demos_replace_labelled_ones_and_join_their_own_kind() -> None:
    given_brief = brief(evidence=[seen(TRAIN[0], REASONED, 1.0)], demos=(labelled(TRAIN[3]), Demo("r6", {}, "So: 6")))
    assert ids(BootstrappedDemos().draw(given_brief), given_brief) == ["r6", "r0"]


def in_two_steps(row: Example, score: float = 1.0) -> Evidence:
    """`row` with what a program of two parts replied."""
    steps = (Invocation("read", row.inputs, "a fact"), Invocation("plan", {"facts": "a fact"}, "a plan"))
    return Evidence(row, Rollout("c", row.id, output={"plan": "a plan"}, invocations=steps, score=Score(score)))


def test_every_part_of_a_program_is_shown_what_it_replied_on_the_same_right_rows() -> None:
    evidence = [in_two_steps(TRAIN[0]), in_two_steps(TRAIN[1], 0.0), in_two_steps(TRAIN[2]), in_two_steps(TRAIN[3])]
    given_brief = replace(brief(evidence=evidence, max_demos=4), labelled={"read": (), "plan": ()})
    child = BootstrappedDemos().draw(given_brief).apply(given_brief.parent)
    shown = {slot: [demo.example_id for demo in demos] for slot, demos in child.demos.items()}
    assert shown["read"] == shown["plan"]
    assert len(shown["read"]) == 2
    assert set(shown["read"]) < {"r0", "r2", "r3"}
    assert {demo.output for demo in child.demos["plan"]} == {"a plan"}
    assert dict(child.demos["plan"][0].inputs) == {"facts": "a fact"}


def test_where_both_parts_are_full_the_earliest_demos_make_way() -> None:
    evidence = [in_two_steps(TRAIN[0])]
    had = {slot: tuple(Demo(f"o{i}", {}, f"Because {i}") for i in range(2)) for slot in ("read", "plan")}
    empty = brief(evidence=evidence, max_demos=4)
    full = replace(empty, labelled={"read": (), "plan": ()}, parent=Candidate({"system": "x"}, had))
    child = BootstrappedDemos().draw(full).apply(full.parent)
    assert {slot: [demo.example_id for demo in demos] for slot, demos in child.demos.items()} == {
        "read": ["o1", "r0"],
        "plan": ["o1", "r0"],
    }


def test_what_a_step_has_room_for_is_counted_with_the_demos_of_the_others() -> None:
    given_brief = replace(brief(evidence=[in_two_steps(TRAIN[0])], max_demos=1), labelled={"read": (), "plan": ()})
    assert BootstrappedDemos().draw(given_brief).apply(given_brief.parent).n_demos == 1


def test_bootstrapping_keeps_the_limits() -> None:
    evidence = [seen(row, REASONED, 1.0) for row in TRAIN[:6]]
    own = tuple(Demo(f"o{i}", {}, f"Because {i}") for i in range(5))
    full = brief(evidence=evidence, demos=own)
    assert BootstrappedDemos().draw(full).apply(full.parent).n_demos == full.max_demos
    assert BootstrappedDemos().draw(brief(evidence=evidence, max_demos=2)).apply(brief().parent).n_demos == 2
    with pytest.raises(Refused, match="nothing to bootstrap"):
        BootstrappedDemos().draw(brief(evidence=evidence, max_bytes=40))


@pytest.mark.parametrize(
    "evidence",
    [[], [seen(TRAIN[0], "Label0 ", 1.0)], [seen(TRAIN[0], REASONED, 0.0), seen(TRAIN[1], REASONED, 0.0)]],
    ids=["no evidence", "replies that are only the label", "only failures"],
)
def test_there_is_nothing_to_bootstrap_where_replies_show_nothing_new(evidence: list[object]) -> None:
    with pytest.raises(Refused, match="nothing to bootstrap"):
        BootstrappedDemos().draw(brief(evidence=evidence))  # type: ignore[arg-type]
