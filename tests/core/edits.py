"""Candidates and edits for hypothesis to draw."""

from __future__ import annotations

from hypothesis import strategies as st

from promptopt.core.candidate import Candidate, Demo
from promptopt.core.edit import AddLines, ChangeDemos, RemoveText, Rewrite, SetDemos, Together

NAMES = ("system", "user")
SLOTS = ("first", "second")

lines = st.sampled_from([f"- rule number {number}." for number in range(8)])
texts = st.lists(lines, min_size=1, max_size=6, unique=True).map("\n".join)
any_text = st.text(max_size=40)
demos = st.builds(
    Demo,
    st.sampled_from([f"t{number}" for number in range(6)]),
    st.dictionaries(st.sampled_from(["x", "y"]), st.one_of(any_text, st.integers(), st.none()), max_size=2),
    any_text,
)
slots = st.dictionaries(st.sampled_from(SLOTS), st.lists(demos, min_size=1, max_size=3).map(tuple), max_size=2)
counts = st.one_of(st.none(), st.integers(1, 3))
settings = st.dictionaries(st.sampled_from(["temperature", "lm"]), st.one_of(st.integers(), any_text), max_size=2)


@st.composite
def candidates(draw: st.DrawFn, text: st.SearchStrategy[str] = texts) -> Candidate:
    """Candidates of one program with two components and two demo slots."""
    candidate = Candidate(draw(st.fixed_dictionaries(dict.fromkeys(NAMES, text))), settings=draw(settings))
    for slot, rows in draw(slots).items():
        candidate = candidate.with_demos(slot, rows, draw(counts))
    return candidate


_component = st.sampled_from(NAMES)
_rows = st.lists(demos, max_size=3).map(tuple)
simple_edits = st.one_of(
    st.builds(Rewrite, _component, any_text, any_text),
    st.builds(AddLines, _component, st.lists(any_text, max_size=3).map(tuple)),
    st.builds(RemoveText, _component, st.text(min_size=1, max_size=20)),
    st.builds(SetDemos, st.sampled_from(SLOTS), _rows, counts),
    st.builds(ChangeDemos, st.sampled_from(SLOTS), st.lists(st.sampled_from(["t0", "t1"])).map(tuple), _rows),
)
edits = st.recursive(
    simple_edits, lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda some: Together(tuple(some)))
)
