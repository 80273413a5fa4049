"""Which candidate goes to the sealed test."""

from __future__ import annotations

import pytest

from promptopt.core.candidate import Candidate, Demo
from promptopt.core.selection import champion, prompt_bytes
from promptopt.core.state import State

ROWS = [f"v{i}" for i in range(100)]


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


@pytest.mark.parametrize("n", range(5, 100))
def test_a_row_lost_and_none_won_is_not_within_one_error_however_many_rows_there_are(n: int) -> None:
    best = [1.0] * n
    known = state(base=[0.0] * n, long_and_best=best, brief=[0.0, *best[1:]])
    assert champion(known, n, "one_se").components["p"] == "long_and_best"


def test_of_equally_short_ones_the_better_is_chosen() -> None:
    base, best, close = [0.0] * 40, [1.0] * 39 + [0.0], [0.0] * 2 + [1.0] * 38
    for names in (("aaaa", "bbbb"), ("bbbb", "aaaa")):
        found = champion(state(**{"base": base, names[0]: best, names[1]: close}), 40, "one_se")
        assert found.components["p"] == names[0]


def test_only_complete_candidates_that_beat_the_baseline_are_chosen() -> None:
    base = [1.0] * 20 + [0.0] * 20
    found = champion(state(base=base, partial=[1.0] * 30, worse=[0.0] * 40), 40, "one_se")
    assert found.components["p"] == "base"


def test_a_baseline_that_ran_on_few_rows_is_compared_on_those() -> None:
    found = champion(state(base=[1.0] * 6 + [0.0] * 6, better=[1.0] * 7 + [0.0] * 33), 40, "one_se")
    assert found.components["p"] == "better"


def test_a_barred_candidate_leaves_the_place_to_the_next() -> None:
    known = state(base=[0.0] * 40, best=[1.0] * 40, second=[1.0] * 20 + [0.0] * 20)
    assert champion(known, 40, "best", barred=[Candidate({"p": "best"}).id]).components["p"] == "second"


def test_demos_count_in_the_length_of_a_prompt() -> None:
    bare = Candidate({"p": "text"})
    assert prompt_bytes(bare.with_demos("prompt", (Demo("r1", {"x": "ééé"}, "yes"),))) == prompt_bytes(bare) + 6 + 3
