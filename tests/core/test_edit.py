"""Edits: they change their own part only, are harmless when applied twice, and rebased without loss."""

from __future__ import annotations

from edits import SLOTS, any_text, candidates, demos, edits, lines, simple_edits, texts
from hypothesis import given
from hypothesis import strategies as st

from promptopt.core.candidate import Candidate, Demo
from promptopt.core.edit import (
    AddLines,
    ChangeDemos,
    Edit,
    RemoveText,
    Rewrite,
    SetDemos,
    Together,
)


@given(candidates(any_text), edits)
def test_a_note_is_one_line_and_applying_changes_the_edits_own_part_only(candidate: Candidate, edit: Edit) -> None:
    after = edit.apply(candidate)
    assert "\n" not in edit.note
    assert len(edit.note) < 220
    assert after.settings == candidate.settings
    if isinstance(edit, Rewrite | AddLines | RemoveText):
        assert after.demos == candidate.demos
        assert all(after.components[name] == text for name, text in candidate.components.items()
                   if name != edit.component)  # fmt: skip
    if isinstance(edit, SetDemos | ChangeDemos):
        assert after.components == candidate.components


@given(candidates(any_text), st.lists(any_text, max_size=4))
def test_adding_lines_twice_adds_them_once(candidate: Candidate, new: list[str]) -> None:
    edit = AddLines("system", tuple(new))
    once = edit.apply(candidate)
    assert edit.apply(once) == once
    assert all(line.rstrip() in once.components["system"] for line in new)


def test_a_line_is_new_unless_it_stands_there_whole() -> None:
    text = "- Answer yes or no  \nBe brief. Say so.\n- Round to 3.5 digits."
    lines = ("- Answer yes", "Be brief.", "- Answer yes or no", "- Round to 3.")
    after = AddLines("p", lines).apply(Candidate({"p": text}))
    assert after.components["p"] == f"{text}\n- Answer yes\n- Round to 3."


@given(candidates(), lines)
def test_a_passage_is_removed_once_and_nothing_else_is(candidate: Candidate, passage: str) -> None:
    edit = RemoveText("system", passage)
    once = edit.apply(candidate)
    before = candidate.components["system"].split("\n")
    assert edit.apply(once) == once
    assert once.components["system"].split("\n") == ([line for line in before if line != passage] or before)


@given(candidates(), st.lists(lines, unique=True, max_size=4), texts)
def test_lines_that_were_added_meanwhile_survive_a_rewrite(
    candidate: Candidate, meanwhile: list[str], text: str
) -> None:
    rewrite = Rewrite("system", text, candidate.components["system"])
    now = AddLines("system", tuple(meanwhile)).apply(candidate)
    rebased = rewrite.apply(now).components["system"].split("\n")
    assert {*text.split("\n")} <= {*rebased}
    assert {*now.components["system"].split("\n")} - {*candidate.components["system"].split("\n")} <= {*rebased}


@given(candidates(), texts)
def test_a_rewrite_of_the_very_text_it_was_written_from_is_taken_as_it_stands(candidate: Candidate, text: str) -> None:
    assert Rewrite("system", text, candidate.components["system"]).apply(candidate).components["system"] == text


@given(candidates(), st.lists(demos, max_size=3).map(tuple), st.sampled_from(SLOTS))
def test_setting_demos_to_none_leaves_a_candidate_as_if_it_never_had_any(
    candidate: Candidate, new: tuple[Demo, ...], slot: str
) -> None:
    bare = SetDemos(slot, ()).apply(candidate)
    assert slot not in bare.demos
    assert SetDemos(slot, ()).apply(SetDemos(slot, new).apply(bare)).id == bare.id


@given(candidates(), st.sampled_from(SLOTS), st.lists(demos, max_size=3, unique_by=lambda demo: demo.example_id))
def test_demos_that_are_dropped_go_and_those_that_are_added_come_once_and_last(
    candidate: Candidate, slot: str, new: list[Demo]
) -> None:
    drop = ("t0", "t3")
    edit = ChangeDemos(slot, drop, tuple(new))
    once = edit.apply(candidate)
    shown = once.demos.get(slot, ())
    assert shown[len(shown) - len(new) :] == tuple(new)
    assert not {demo.example_id for demo in shown[: len(shown) - len(new)]} & {*drop, *(d.example_id for d in new)}
    assert edit.apply(once) == once


@given(candidates(any_text), st.lists(simple_edits, min_size=1, max_size=3))
def test_edits_together_are_the_same_edits_one_after_the_other(candidate: Candidate, some: list[Edit]) -> None:
    step_by_step = candidate
    for edit in some:
        step_by_step = edit.apply(step_by_step)
    assert Together(tuple(some)).apply(candidate) == step_by_step
