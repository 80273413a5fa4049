"""Three-way merges keep what either side did."""

from __future__ import annotations

from edits import any_text, candidates, lines, slots, texts
from hypothesis import given
from hypothesis import strategies as st

from promptopt.core.candidate import Candidate
from promptopt.core.merge import merge, merge_text

some = st.one_of(candidates(), candidates(any_text))


@given(some, some)
def test_what_only_one_side_changed_is_taken_whole(base: Candidate, changed: Candidate) -> None:
    assert merge(base, base, changed) == changed
    assert merge(base, changed, base) == changed


@given(some, some)
def test_what_both_sides_did_alike_is_done_once(base: Candidate, changed: Candidate) -> None:
    assert merge(base, changed, changed) == changed


@given(texts, st.lists(lines, max_size=4), st.lists(lines, max_size=4))
def test_lines_added_on_both_sides_are_both_there_once(base: str, mine: list[str], theirs: list[str]) -> None:
    added = [[line for line in dict.fromkeys(new) if line not in base] for new in (mine, theirs)]
    ours, other = ("\n".join([base, *new]) for new in added)
    merged = merge_text(base, ours, other).split("\n")
    assert set(merged) == {*base.split("\n"), *added[0], *added[1]}
    assert len(merged) == len(set(merged))
    assert merged[: len(base.split("\n"))] == base.split("\n")


@given(st.lists(lines, min_size=3, max_size=8, unique=True), lines, st.data())
def test_a_line_that_one_side_removed_stays_out_while_the_other_adds(
    had: list[str], new: str, data: st.DataObject
) -> None:
    out = data.draw(st.sampled_from(had))
    without, more = [line for line in had if line != out], list(dict.fromkeys([*had, f"{new} Always."]))
    for ours, theirs in ((without, more), (more, without)):
        merged = merge_text(*("\n".join(part) for part in (had, ours, theirs))).split("\n")
        assert sorted(merged) == sorted(line for line in more if line != out)


@given(texts, texts, texts)
def test_changes_of_different_components_are_both_kept(base: str, one: str, other: str) -> None:
    start = Candidate({"system": base, "user": base})
    merged = merge(start, start.with_text("system", one), start.with_text("user", other))
    assert merged.components == {"system": one, "user": other}


@given(slots, slots, texts)
def test_demos_of_one_side_and_the_text_of_the_other_are_both_kept(had: dict, new: dict, text: str) -> None:
    start = Candidate({"system": "Sort the mail."}, had)
    shown, told = Candidate(start.components, new), start.with_text("system", text)
    assert merge(start, shown, told) == merge(start, told, shown) == Candidate({"system": text}, new)


@given(candidates(), candidates(), candidates())
def test_where_both_sides_changed_a_slot_theirs_stands(base: Candidate, ours: Candidate, theirs: Candidate) -> None:
    merged = merge(base, ours, theirs)
    for slot in ("first", "second"):
        if theirs.filling(slot) != base.filling(slot):
            assert merged.filling(slot) == theirs.filling(slot)


def test_a_text_that_was_written_anew_is_not_mixed_with_the_old_one() -> None:
    assert merge_text("one\ntwo\nthree", "uno\ndue\ntre", "one\ntwo\nthree\nfour") == "one\ntwo\nthree\nfour"
