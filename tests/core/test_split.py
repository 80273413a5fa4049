"""Drawn and given splits: sizes, sides, label mix, and what is refused."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from random import Random
from statistics import mean

import pytest
from hypothesis import assume, example
from hypothesis import given as for_any
from hypothesis import strategies as st

from promptopt.core.example import Example
from promptopt.core.split import Split, digest, given, inputs_digest, split
from promptopt.errors import ConfigError, DataError


def rows(n: int, labels: int = 0, prefix: str = "r") -> list[Example]:
    return [Example(f"{prefix}{i}", {"text": f"{prefix} {i}"}, f"l{i % labels}" if labels else None) for i in range(n)]


def parts_of(drawn: Split) -> list[tuple[Example, ...]]:
    return [drawn.train, drawn.val, drawn.test]


def side(drawn: Split) -> dict[str, int]:
    return {row.id: number for number, part in enumerate(parts_of(drawn)) for row in part}


counts = st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(0, 60))


@for_any(sizes=counts, spare=st.integers(0, 50), labels=st.integers(0, 9), seed=st.integers(0, 99))
def test_sizes_are_exact_and_parts_disjoint(sizes: tuple[int, int, int], spare: int, labels: int, seed: int):
    drawn = split(rows(sum(sizes) + spare, labels), train=sizes[0], val=sizes[1], test=sizes[2], seed=seed)
    assert tuple(map(len, parts_of(drawn))) == sizes
    assert len(side(drawn)) == sum(sizes)
    assert drawn.duplicates == 0
    assert drawn.warnings == ()


@for_any(
    labels=st.lists(st.sampled_from("aaaabbbccd"), min_size=10, max_size=120),
    weights=st.tuples(*[st.integers(1, 9)] * 2, *[st.integers(0, 9)] * 2),
    seed=st.integers(0, 99),
)
def test_every_part_has_the_label_mix_of_the_whole_within_one_row(
    labels: list[str], weights: tuple[int, int, int, int], seed: int
):
    n = len(labels)
    train, val, test = (weight / sum(weights) for weight in weights[:3])
    assume(all(share * n >= 1 for share in (train, val, test or 1)))
    data = [Example(f"r{i}", {"text": str(i)}, label) for i, label in enumerate(labels)]
    drawn = split(data, train=train, val=val, test=test, seed=seed)
    whole = Counter(labels)
    for part in parts_of(drawn):
        held = Counter(row.expected for row in part)
        assert all(abs(held[label] - count * len(part) / n) <= 1 for label, count in whole.items())


@st.composite
def tangled(draw: st.DrawFn) -> list[Example]:
    """Rows with labels, some in groups, some with inputs that repeat."""
    n = draw(st.integers(12, 80))
    texts = draw(st.lists(st.integers(0, 2 * n), min_size=n, max_size=n))
    groups = draw(st.lists(st.none() | st.integers(0, n), min_size=n, max_size=n))
    labels = draw(st.lists(st.sampled_from("ab"), min_size=n, max_size=n))
    return [
        Example(f"r{i}", {"text": text}, label, None if group is None else f"g{group}")
        for i, (text, label, group) in enumerate(zip(texts, labels, groups, strict=True))
    ]


@for_any(data=tangled(), seed=st.integers(0, 9))
def test_groups_and_equal_inputs_stay_on_one_side(data: list[Example], seed: int):
    try:
        drawn = split(data, train=0.4, val=0.2, test=0.2, seed=seed)
    except DataError:
        assume(False)
        raise
    sides = side(drawn)
    together: defaultdict[object, set[int | None]] = defaultdict(set)
    for row in data:
        together[row["text"]].add(sides.get(row.id))
        if row.group:
            together[row.group].add(sides.get(row.id))
    assert all(len(where) == 1 for where in together.values())
    assert drawn.duplicates == len(data) - len({row["text"] for row in data})


@for_any(data=tangled(), seed=st.integers(0, 9), order=st.randoms(use_true_random=False))
def test_a_split_does_not_depend_on_row_order(data: list[Example], seed: int, order: Random):
    shuffled = list(data)
    order.shuffle(shuffled)
    try:
        drawn = split(data, train=0.4, val=0.2, test=0.2, seed=seed)
    except DataError:
        with pytest.raises(DataError):
            split(shuffled, train=0.4, val=0.2, test=0.2, seed=seed)
        return
    assert split(shuffled, train=0.4, val=0.2, test=0.2, seed=seed) == drawn


def test_the_seed_decides_who_goes_where():
    data = rows(100)
    drawn = [split(data, train=30, val=30, test=40, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1]
    assert sum(side(drawn[0])[row.id] != side(drawn[2])[row.id] for row in data) >= 25


def test_pairs_of_equal_inputs_leave_sizes_exact():
    data = rows(100, labels=4)
    data += [replace(row, id=f"{row.id} again") for row in data[:30]]
    drawn = split(data, train=40, val=30, test=50, seed=3)
    assert list(map(len, parts_of(drawn))) == [40, 30, 50]
    assert drawn.duplicates == 30


def test_groups_fill_parts_about_evenly_with_their_labels():
    data = [
        Example(f"r{i}-{j}", {"text": f"{i} {j}"}, "yes" if i % 4 == 0 else "no", f"session {i}")
        for i in range(200)
        for j in range(1 + i % 7)
    ]
    drawn = split(data, train=0.5, val=0.25, test=0.25, seed=0)
    share = mean(row.expected == "yes" for row in data)
    size = Counter(row.group for row in data)
    typical = mean(size[row.group] for row in data)
    for part, wanted in zip(parts_of(drawn), (0.5, 0.25, 0.25), strict=True):
        assert len(part) == pytest.approx(wanted * len(data), rel=0.03)
        assert mean(row.expected == "yes" for row in part) == pytest.approx(share, abs=0.03)
        assert mean(size[row.group] for row in part) == pytest.approx(typical, abs=0.6), "large groups on one side"
    assert drawn.warnings == ()


def test_a_part_that_groups_leave_far_off_is_said():
    data = [Example(f"r{i}", {"text": str(i)}, group=f"g{i // 30}") for i in range(120)]
    drawn = split(data, train=50, val=30, test=40, seed=0)
    assert sorted(map(len, parts_of(drawn))) == [30, 30, 60]
    assert any("train has 60 rows where 50 were asked for" in text for text in drawn.warnings)


def test_large_groups_do_not_leave_a_small_part_empty():
    data = [Example(f"r{i}", {"text": str(i)}, group=f"g{i // 100}") for i in range(1000)]
    for seed in range(20):
        drawn = split(data, train=60, val=60, test=80, seed=seed)
        assert list(map(len, parts_of(drawn))) == [100, 100, 100]
        assert len(drawn.warnings) == 3


def test_new_answers_and_columns_move_no_row_to_another_part():
    data = rows(60)
    noted = [replace(row, meta={"note": number}) for number, row in enumerate(data)]
    assert side(split(data, train=20, val=20, test=10, seed=0)) == side(split(noted, train=20, val=20, test=10, seed=0))


def test_too_few_groups_for_three_parts_is_an_error():
    data = [Example(f"r{i}", {"text": str(i)}, group=f"g{i // 30}") for i in range(60)]
    with pytest.raises(DataError, match=r"no rows are left for .*the largest such set has 30 rows"):
        split(data, train=20, val=20, test=20, seed=0)


@pytest.mark.parametrize(
    ("asked", "sizes"),
    [
        ((0.6, 0.2, 0.2), [61, 20, 20]),
        ((60, 0.2, 0.2), [60, 20, 20]),
        ((60.0, 1, 0), [60, 1, 0]),
        ((0.1, 0.1, 0), [10, 10, 0]),
        ((0.7, 0.2, 0.1), [71, 20, 10]),
    ],
)
def test_sizes_are_rows_or_shares(asked: tuple[float, float, float], sizes: list[int]):
    drawn = split(rows(101), train=asked[0], val=asked[1], test=asked[2], seed=0)
    assert list(map(len, parts_of(drawn))) == sizes


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((0, 10, 10), "data.split.train must not be 0"),
        ((10, 0, 10), "data.split.val must not be 0"),
        ((10, -5, 10), "data.split.val must be a number of rows or a share below 1, not -5"),
        ((10, 5, 2.5), "data.split.test must be"),
        ((True, 5, 5), "data.split.train must be"),
        ((float("nan"), 5, 5), "data.split.train must be"),
        ((10, 5, float("inf")), "data.split.test must be"),
        ((0.6, 0.3, 0.2), r"add up to more than 1 \(0.6 \+ 0.3 \+ 0.2\)"),
    ],
)
def test_sizes_that_cannot_be_meant_are_config_errors(asked: tuple[float, float, float], message: str):
    with pytest.raises(ConfigError, match=message):
        split(rows(100), train=asked[0], val=asked[1], test=asked[2], seed=0)


def test_asking_for_more_rows_than_there_are_says_what_would_fit():
    with pytest.raises(DataError) as error:
        split(rows(200), train=60, val=60, test=150, seed=0)
    assert str(error.value) == (
        "the split asks for 270 rows (train 60, val 60, test 150) and there are 200. "
        "What would fit: train 45, val 44, test 111"
    )
    with pytest.raises(DataError, match=r"0\.01 of 50 rows is less than one row"):
        split(rows(50), train=0.5, val=0.01, test=0.2, seed=0)


def test_equal_inputs_with_different_answers_are_said():
    data = [*rows(20, labels=2), Example("odd", {"text": "r 4"}, "l1"), Example("even", {"text": "r 6"}, "l0")]
    drawn = split(data, train=10, val=6, test=6, seed=0)
    assert len(drawn.warnings) == 1
    assert "1 pair of rows" in drawn.warnings[0]
    assert "odd" in drawn.warnings[0]
    assert "r4" in drawn.warnings[0]


@example(answers=[{"a": 1}, {"a": 1}] * 10)
@example(answers=[0.1 * i for i in range(20)])
@example(answers=[True, 1, "1", "True"] * 5)
@for_any(answers=st.lists(st.none() | st.booleans() | st.text(max_size=1), min_size=20, max_size=20))
def test_any_kind_of_answer_can_be_split(answers: list[object]):
    data = [Example(f"r{i}", {"text": str(i)}, answer) for i, answer in enumerate(answers)]
    drawn = split(data, train=5, val=7, test=8, seed=0)
    assert list(map(len, parts_of(drawn))) == [5, 7, 8]


def test_a_split_shows_sizes_and_never_its_rows():
    assert repr(split(rows(10), train=2, val=3, test=4, seed=0)) == "Split(train=2, val=3, test=4)"


FILES = ("train.jsonl", "val.jsonl", "test.jsonl")


def test_given_parts_keep_their_rows_and_may_come_without_a_test():
    train, val = rows(5, prefix="t"), rows(4, prefix="v")
    made = given(train, val)
    assert set(made.train) == set(train)
    assert set(made.val) == set(val)
    assert made.test == ()
    assert made.warnings == ()
    assert given(train[::-1], val[::-1]) == made


def test_a_file_sorted_by_label_is_not_walked_label_by_label():
    val = [Example(f"v{i}", {"text": f"v {i}"}, "a" if i < 50 else "b") for i in range(100)]
    first = Counter(row.expected for row in given(rows(3), val).val[:30])
    assert min(first["a"], first["b"]) >= 5


def test_equal_inputs_in_two_files_are_an_error_that_lists_the_rows():
    train, val, test = (rows(20, prefix=name) for name in "abc")
    test = [*test, *(replace(row, id=f"copy {row.id}", expected="x") for row in train[:12])]
    with pytest.raises(DataError) as error:
        given(train, [*val, replace(train[3], id="dup")], test, FILES)
    told = str(error.value)
    assert "train.jsonl and val.jsonl have equal inputs in 1 pair of rows (a3 and dup)." in told
    assert "train.jsonl and test.jsonl have equal inputs in 12 pairs of rows (a0 and copy a0, " in told
    assert "a9 and copy a9, and 2 more)" in told


def test_nearly_equal_inputs_in_two_files_are_a_warning():
    train = [*rows(20, prefix="a"), Example("x", {"text": "Where is my card?"})]
    made = given(train, rows(9, prefix="b"), [*rows(9, prefix="c"), Example("y", {"text": "where is my card"})], FILES)
    assert made.warnings == ("train.jsonl and test.jsonl have nearly equal inputs in 1 pair of rows (x and y).",)
    assert made.duplicates == 0


def test_rows_that_differ_in_a_number_are_not_told_to_overlap():
    texts = [f"Please cancel my order number {i} as soon as you can" for i in range(90)]
    data = [Example(f"r{i}", {"text": text}) for i, text in enumerate(texts)]
    assert given(data[:30], data[30:60], data[60:]).warnings == ()


def test_ids_that_two_files_share_are_told_apart():
    train, val = rows(3, prefix="a"), rows(3, prefix="b")
    assert {row.id for row in given(train, val).val} == {"b0", "b1", "b2"}
    train, val = ([replace(row, id=row.id[1:]) for row in part] for part in (train, val))
    assert {row.id for row in given(train, val).val} == {"val/0", "val/1", "val/2"}


def test_an_empty_given_part_is_an_error():
    with pytest.raises(DataError, match=r"val.jsonl: there are no rows"):
        given(rows(3), [], names=FILES)


@for_any(order=st.permutations(range(8)))
def test_digests_do_not_depend_on_row_order(order: list[int]):
    data = rows(8, labels=2)
    shuffled = [data[i] for i in order]
    assert digest(shuffled) == digest(data)
    assert inputs_digest(shuffled) == inputs_digest(data)


def test_the_digest_sees_every_edit_and_the_inputs_digest_only_those_of_inputs():
    data = rows(8, labels=2)
    for edited in (replace(data[0], id="z"), replace(data[0], expected="z"), replace(data[0], meta={"note": 1})):
        assert digest([edited, *data[1:]]) != digest(data)
        assert inputs_digest([edited, *data[1:]]) == inputs_digest(data)
    assert inputs_digest(data[1:]) != inputs_digest(data)
    assert inputs_digest([data[0], *data]) != inputs_digest(data)
