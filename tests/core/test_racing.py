"""Races: when a child is dropped, and which candidate goes to the test."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from promptopt.core.candidate import Candidate, Demo
from promptopt.core.racing import blocks, futile
from promptopt.core.search import State
from promptopt.core.selection import champion, prompt_bytes

ROWS = [f"v{i}" for i in range(40)]
scores = st.lists(st.sampled_from([0.0, 1.0]), min_size=40, max_size=40)


@given(scores, scores, st.integers(1, 40))
def test_a_child_dropped_by_the_exact_bound_could_not_have_led(a: list[float], b: list[float], n: int) -> None:
    child, rival = dict(zip(ROWS[:n], a[:n], strict=True)), dict(zip(ROWS, b, strict=True))
    stopped = futile(child, rival, ROWS)
    if stopped and "cannot catch up" in stopped:
        best_end = sum(child.values()) + (40 - n)
        assert best_end <= sum(rival.values())


@given(scores)
def test_a_child_that_leads_on_every_row_is_never_dropped(b: list[float]) -> None:
    rival = dict(zip(ROWS, b, strict=True))
    if sum(b) == len(b):
        return
    order = sorted(ROWS, key=rival.__getitem__)
    for n in range(1, 41):
        assert futile(dict.fromkeys(order[:n], 1.0), rival, ROWS) is None


def test_a_child_whose_calls_fail_is_dropped() -> None:
    child = {row: None if i < 5 else 1.0 for i, row in enumerate(ROWS[:16])}
    assert futile(child, dict.fromkeys(ROWS, 0.0), ROWS) == "5 of 16 rows failed"


@given(st.integers(1, 50), st.integers(1, 20), st.integers())
def test_blocks_hold_every_row_once(n: int, size: int, seed: int) -> None:
    cut = blocks(list(range(n)), size, Random(seed))
    assert sorted(row for block in cut for row in block) == list(range(n))
    assert all(len(block) == size for block in cut[:-1])


def state(**val: list[float]) -> State:
    """A state whose candidates are named by their text; `base` is the baseline."""
    candidates = {name: Candidate({"p": name}) for name in val}
    return State(
        candidates={c.id: c for c in candidates.values()},
        val={candidates[name].id: dict(zip(ROWS, scores, strict=False)) for name, scores in val.items()},
        baseline=candidates["base"].id,
        incumbent=candidates["base"].id,
    )


def test_the_shortest_within_one_paired_standard_error_is_chosen() -> None:
    base, best = [0.0] * 40, [1.0] * 30 + [0.0] * 10
    close = [1.0] * 28 + [0.0] * 2 + [1.0] + [0.0] * 9
    found = champion(state(base=base, long_and_best=best, brief=close), 40, "one_se")
    assert found.components["p"] == "brief"
    assert champion(state(base=base, long_and_best=best, brief=close), 40, "best").components["p"] == "long_and_best"


def test_only_complete_candidates_that_beat_the_baseline_are_chosen() -> None:
    base = [1.0] * 20 + [0.0] * 20
    found = champion(state(base=base, partial=[1.0] * 30, worse=[0.0] * 40), 40, "one_se")
    assert found.components["p"] == "base"


def test_demos_count_in_the_length_of_a_prompt() -> None:
    bare = Candidate({"p": "text"})
    assert prompt_bytes(bare.with_demos("prompt", (Demo("r1", {"x": "ééé"}, "yes"),))) == prompt_bytes(bare) + 6 + 3
