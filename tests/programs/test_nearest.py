"""The demos that are nearest to an input: which they are, in what order, and that no row is shown its own answer."""

from __future__ import annotations

from pathlib import Path

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptopt.api import evaluate
from promptopt.config import Config, load
from promptopt.core.candidate import Candidate, Demo
from promptopt.core.example import Example
from promptopt.core.selection import BYTES_A_TOKEN, demo_bytes, longest_prompt_bytes, prompt_bytes, prompt_tokens
from promptopt.errors import ConfigError
from promptopt.job import Job
from promptopt.programs.dspy_parts import put
from promptopt.programs.nearest import nearest
from promptopt.programs.prompt import Prompt
from world import write_job

POOL = tuple(
    Demo(str(number), {"text": text}, label)
    for number, (text, label) in enumerate(
        [
            ("When does my new card arrive?", "delivery"),
            ("I forgot my PIN", "pin"),
            ("The transfer was declined twice", "declined"),
            ("Top up by cheque", "top_up"),
        ]
    )
)
words = st.sampled_from(["card", "arrive", "arrival", "PIN", "transfer", "déjà", "カード", "?!", ""])
texts = st.lists(words, max_size=5).map(" ".join)
pools = st.lists(texts, min_size=1, max_size=8).map(
    lambda rows: tuple(Demo(str(number), {"text": text, "n": 1}, f"label {number}") for number, text in enumerate(rows))
)


@given(pools, texts, st.integers(1, 9))
def test_of_any_pool_as_many_as_asked_for_are_shown_and_never_the_row_itself(
    pool: tuple[Demo, ...], text: str, count: int
) -> None:
    inputs = {"n": 1, "text": text}
    shown = nearest(pool, inputs, count)
    others = [demo for demo in pool if demo.inputs["text"] != text]
    assert len(shown) == len(set(map(id, shown))) == min(count, len(others))
    assert all(demo in others for demo in shown)
    assert nearest(pool, inputs, count) == shown
    assert nearest(pool, inputs, 1) == shown[-1:]


@given(pools, texts, st.integers(1, 9), st.text(max_size=20))
def test_no_prompt_is_longer_than_the_longest_that_is_counted(
    pool: tuple[Demo, ...], text: str, count: int, system: str
) -> None:
    candidate = Candidate({"system": system, "user": ""}).with_demos("prompt", pool, count)
    shown = nearest(pool, {"n": 1, "text": text}, count)
    bare = prompt_bytes(candidate.with_demos("prompt", ()))
    assert bare + sum(map(demo_bytes, shown)) <= longest_prompt_bytes(candidate)
    assert prompt_bytes(candidate) <= longest_prompt_bytes(candidate)


def test_other_forms_of_a_word_are_near_and_the_nearest_stands_last() -> None:
    shown = nearest(POOL, {"text": "Arrival of cards, or declining them"}, 2)
    assert [demo.output for demo in shown] == ["declined", "delivery"]


def test_where_nothing_is_near_the_first_demos_stand_for_all() -> None:
    assert [demo.example_id for demo in nearest(POOL, {"text": "xyzzy"}, 2)] == ["1", "0"]


def test_every_row_of_a_prompt_has_its_own_demos() -> None:
    prompt = Prompt("openai/x", system="Sort.", user="{text}")
    candidate = Candidate({"system": "Sort.", "user": "{text}"}).with_demos("prompt", POOL, 1)

    def turns(text: str) -> list[str]:
        return [message["content"] for message in prompt.preview(candidate, Example("v", {"text": text}))]

    assert turns("My PIN is gone") == ["Sort.", "I forgot my PIN", "pin", "My PIN is gone"]
    assert turns("Is a cheque fine?") == ["Sort.", "Top up by cheque", "top_up", "Is a cheque fine?"]
    assert turns("I forgot my PIN")[2] != "pin"


def test_a_prompt_counts_as_long_as_it_is_on_average() -> None:
    demos = tuple(Demo(str(size), {"text": "x" * size}, "") for size in (10, 20, 60))
    candidate = Candidate({"system": "s" * 40}).with_demos("prompt", demos, 2)
    assert (prompt_bytes(candidate), longest_prompt_bytes(candidate)) == (40 + 60, 40 + 80)
    assert prompt_tokens(candidate) == 100 // BYTES_A_TOKEN
    assert (candidate.n_demos, candidate.with_demos("prompt", demos).n_demos) == (2, 3)


def test_a_candidate_comes_back_from_its_file_and_is_another_than_the_one_that_shows_all() -> None:
    all_of_them = Candidate({"system": "Sort."}).with_demos("prompt", POOL)
    some = all_of_them.with_demos("prompt", POOL, 2)
    assert Candidate.from_json(some.to_json()) == some
    assert some.id != all_of_them.id
    assert "nearest" not in all_of_them.to_json()
    assert some.with_demos("prompt", ()) == Candidate({"system": "Sort."})


@pytest.mark.parametrize("wrong", [{"prompt": 0}, {"prompt": True}, {"prompt": "4"}, {"other": 2}])
def test_a_count_that_means_nothing_is_refused(wrong: dict[str, object]) -> None:
    body = Candidate({"system": "Sort."}).with_demos("prompt", POOL).to_json()
    with pytest.raises(ValueError, match="a whole number from 1"):
        Candidate.from_json({**body, "nearest": wrong})


def test_what_varies_with_the_input_is_for_prompts_and_refused_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def answer(components, example, context): return 'red'\n", encoding="utf-8")
    function = {"type": "function", "path": "mine.py:answer", "components": {"system": "Sort."}}

    def job(**changes: object) -> Config:
        return load(write_job(tmp_path, "http://127.0.0.1:9/v1", **changes))

    assert "nearest" in Job.from_config(job()).operators
    assert "nearest" not in Job.from_config(job(strategy={"operators": ["tips"]})).operators
    assert "nearest" not in Job.from_config(job(program=function)).operators
    with pytest.raises(ConfigError, match="only a prompt can"):
        Job.from_config(job(program=function, strategy={"operators": ["nearest"]}))
    with pytest.raises(ConfigError, match="only a prompt can"):
        evaluate(job(program=function), Candidate({"system": "Sort."}).with_demos("prompt", POOL, 2))
    with pytest.raises(ConfigError, match="a DSPy module cannot"):
        put(dspy.Predict("text -> label"), Candidate({}).with_demos("self", POOL, 2))
