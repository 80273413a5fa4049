"""Nearly equal texts in different parts."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptopt.core import overlap
from promptopt.core.example import Example


def rows(prefix: str, *texts: object) -> list[Example]:
    return [Example(f"{prefix}{i}", {"text": text}) for i, text in enumerate(texts)]


def near_ids(*parts: list[Example]) -> set[tuple[str, str]]:
    return {pair.rows for pair in overlap.near(parts)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Where is my card?", "where is my card"),
        ("I can't pay.", "I can’t   pay"),
        ("“Hello” – world", "hello world"),
        ("Order 66 is late", "order 66, is late!"),
        ("ＡＢＣ ok", "abc ok"),
        ("カードはどこですか。", "カードはどこですか"),
    ],
)
def test_case_punctuation_and_spacing_do_not_make_a_new_text(one: str, other: str):
    assert near_ids(rows("a", one), rows("b", other)) == {("a0", "b0")}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("My order 1234 has not come", "My order 1235 has not come"),
        ("Refund ticket AB-12", "Refund ticket AB-13"),
        ("It costs 3.5 dollars", "It costs 3,5 dollars"),
        ("Move by -5 degrees", "Move by 5 degrees"),
        ("Is this 2nd?", "Is this 3rd?"),
        ("a + b", "a - b"),
        ("I want my card", "I lost my card"),
        (5, 6),
        ("?", "!"),
    ],
)
def test_another_number_id_or_word_makes_a_new_text(one: object, other: object):
    assert near_ids(rows("a", one), rows("b", other)) == set()


def test_a_long_text_with_one_number_changed_is_a_new_text():
    words = [f"w{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(300)]
    assert near_ids(rows("a", " ".join([*words, "7"])), rows("b", " ".join([*words, "8"]))) == set()


def test_a_long_text_with_one_word_changed_is_nearly_equal():
    words = [f"w{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(100)]
    changed = [*words[:50], "other", *words[51:]]
    assert near_ids(rows("a", " ".join(words)), rows("b", "unrelated", " ".join(changed))) == {("a0", "b1")}


def test_texts_around_the_same_instructions_are_told_apart_by_the_rest():
    instructions = " ".join(f"w{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(200)) + ": "
    asked = [f"{verb} {noun} please" for verb in ("block", "send", "find") for noun in ("card", "money", "pin", "code")]
    val, test = rows("v", *(instructions + a for a in asked[:6])), rows("t", *(instructions + a for a in asked[6:]))
    assert near_ids(val, test) == set()
    again = rows("t", *(instructions + a for a in asked[6:]), instructions + "Block CARD, please!")
    assert near_ids(val, again) == {("v0", "t6")}


def test_a_row_is_paired_with_each_other_part_once_and_never_with_its_own():
    parts = (
        rows("a", "one two three", "other", "more"),
        rows("b", "one two, three", "One two three."),
        rows("c", "one. two three"),
    )
    pairs = overlap.near(parts)
    assert sorted((pair.parts, pair.rows) for pair in pairs) == [
        ((0, 1), ("a0", "b0")),
        ((0, 2), ("a0", "c0")),
        ((1, 2), ("b0", "c0")),
        ((1, 2), ("b1", "c0")),
    ]


def jaccard(one: str, other: str) -> float:
    a, b = (set(zip(*[text.split()[i:] for i in range(3)], strict=False)) for text in (one, other))
    return len(a & b) / len(a | b)


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6))
def test_exactly_the_pairs_of_high_similarity_are_found(seed: int):
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefgh", k=6)) for _ in range(500)]
    originals = [rng.choices(words, k=rng.randint(3, 80)) for _ in range(12)]

    def edited(text: list[str]) -> str:
        text = list(text)
        for _ in range(rng.randint(0, 3)):
            text[rng.randrange(len(text))] = rng.choice(words)
        return " ".join(text[rng.randint(0, 2) or None :] if len(text) > 8 else text)

    one = rows("a", *(" ".join(text) for text in originals))
    other = rows("b", *(edited(text) for text in originals))
    wanted = {(x.id, y.id) for x in one for y in other if jaccard(x.text, y.text) >= 0.9}
    assert near_ids(one, other) == wanted


def test_many_similar_rows_do_not_take_quadratic_time():
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghij", k=5)) for _ in range(40)]
    prompt = " ".join(rng.choices(words, k=60))
    parts = [rows(p, *(f"{prompt} {' '.join(rng.choices(words, k=6))}" for _ in range(4000))) for p in "abc"]
    started = time.process_time()
    overlap.near(parts)
    assert time.process_time() - started < 10


def test_one_endless_word_does_not_take_quadratic_time():
    started = time.process_time()
    assert near_ids(rows("a", "a" * 300_000), rows("b", "b" * 300_000)) == set()
    assert time.process_time() - started < 5
