"""The pool of which each input is shown the nearest demos: what is in it, and what other operators do with it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from briefs import TRAIN, brief, labelled, seen
from hypothesis import given
from hypothesis import strategies as st

from promptopt.core.candidate import Demo
from promptopt.core.edit import Brief, SetDemos
from promptopt.core.example import Example
from promptopt.core.selection import longest_prompt_bytes, prompt_bytes
from promptopt.reflect.demo_rows import POOL, POOL_BYTES
from promptopt.reflect.operator import Refused
from promptopt.reflect.operators.bootstrap import BootstrappedDemos
from promptopt.reflect.operators.demos import LabelledDemos
from promptopt.reflect.operators.nearest import COUNTS, NearestDemos


def drawn(given_brief: Brief) -> SetDemos:
    edit = NearestDemos().draw(given_brief)
    assert isinstance(edit, SetDemos)
    return edit


def retrieving(given_brief: Brief, demos: tuple[Demo, ...], count: int) -> Brief:
    return replace(given_brief, parent=given_brief.parent.with_demos("prompt", demos, count))


def test_all_labelled_rows_are_the_pool_at_every_step_and_counts_differ() -> None:
    edits = [drawn(brief(step=step)) for step in range(20)]
    assert all(edit.demos == edits[0].demos for edit in edits)
    assert {demo.example_id for demo in edits[0].demos} == {row.id for row in TRAIN}
    assert {edit.nearest for edit in edits} == {2, 4}


def test_a_large_pool_is_capped_in_rows_and_in_bytes_and_says_how_many_it_has() -> None:
    train = [Example(f"r{i}", {"text": f"row {i}"}, f"label{i % 7}") for i in range(1000)]
    edit = drawn(brief(train=train))
    assert len(edit.demos) == POOL
    assert edit.note.startswith(f"the {edit.nearest} nearest of {POOL} demos in prompt: ")
    assert {demo.output for demo in edit.demos} == {f"label{i}" for i in range(7)}
    long = [Example(f"r{i}", {"text": "x" * 5000}, f"label{i}") for i in range(300)]
    edit = drawn(brief(train=long, max_bytes=100_000))
    assert POOL_BYTES - 6000 < sum(len(str(demo.inputs["text"])) for demo in edit.demos) <= POOL_BYTES


def test_a_teacher_s_reply_stands_for_its_row_before_the_label() -> None:
    replies = tuple(Demo(row.id, dict(row.inputs), f"Because of {row.id}") for row in TRAIN[:5])
    edit = drawn(replace(brief(), labelled={"prompt": (*replies, *map(labelled, TRAIN))}))
    assert len(edit.demos) == len(TRAIN)
    assert set(map(str, edit.demos)) >= set(map(str, replies))


def test_the_program_s_own_replies_make_a_pool_where_rows_have_no_labels() -> None:
    own = tuple(Demo(f"u{i}", {"text": str(i)}, f"So: {i}") for i in range(3))
    unlabelled = [Example("u", {"text": "x"})]
    edit = drawn(brief(train=unlabelled, demos=own))
    assert (set(map(str, edit.demos)), edit.nearest) == (set(map(str, own)), 2)
    with pytest.raises(Refused, match="no pool"):
        NearestDemos().draw(brief(train=unlabelled, demos=own[:2]))


def test_what_was_rejected_or_is_there_already_is_not_drawn_again() -> None:
    first = drawn(brief())
    assert drawn(brief(rejected={first.note: "-0.1"})).nearest != first.nearest
    both = {drawn(brief(step=step)).note: "no" for step in range(20)}
    with pytest.raises(Refused, match="no pool"):
        NearestDemos().draw(brief(rejected=both))
    there = retrieving(brief(rejected=dict(list(both.items())[:1])), first.demos, first.nearest or 0)
    with_both = replace(there, rejected={note: "no" for note in both if note != first.note})
    with pytest.raises(Refused, match="no pool"):
        NearestDemos().draw(with_both)


@given(st.integers(0, 8), st.integers(0, 400), st.lists(st.integers(0, 300), min_size=1, max_size=9))
def test_the_limits_hold_for_whatever_is_nearest(max_demos: int, room: int, lengths: list[int]) -> None:
    train = [Example(f"r{i}", {"text": "x" * length}, f"label{i % 3}") for i, length in enumerate(lengths)]
    bare = brief(train=train)
    limit = prompt_bytes(bare.parent) + room
    try:
        edit = drawn(brief(train=train, max_demos=max_demos, max_bytes=limit))
    except Refused:
        return
    child = edit.apply(bare.parent)
    assert child.n_demos == edit.nearest <= max_demos
    assert edit.nearest in COUNTS
    assert longest_prompt_bytes(child) <= limit


def test_single_rows_of_a_pool_are_left_alone() -> None:
    pool = tuple(map(labelled, TRAIN))
    edits = [LabelledDemos().draw(retrieving(brief(step=step), pool, 2)) for step in range(20)]
    assert all(isinstance(edit, SetDemos) and edit.nearest is None for edit in edits)


def test_good_replies_join_a_pool_of_their_kind_beyond_what_a_prompt_shows() -> None:
    own = tuple(Demo(f"o{i}", {"text": str(i)}, f"Because {i}") for i in range(12))
    given_brief = retrieving(brief(evidence=[seen(TRAIN[0], "It asks, so label0", 1.0)]), own, 4)
    child = BootstrappedDemos().draw(given_brief).apply(given_brief.parent)
    assert ([*child.demos["prompt"][:12]], child.demos["prompt"][12].example_id) == ([*own], "r0")
    assert (child.nearest, child.n_demos) == ({"prompt": 4}, 4)
