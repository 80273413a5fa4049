"""Certificates, and where in the rows a student loses."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from promptopt.core import certificate
from promptopt.core.certificate import assay, certify
from promptopt.core.example import Example
from promptopt.core.sealed import Pair
from promptopt.core.slices import members, sliced


def pairs(right: int, wins: int, losses: int, wrong: int = 0, start: int = 0) -> list[Pair]:
    """Rows that both get right, only the student, only the teacher, and neither."""
    kinds = [(1.0, 1.0)] * right + [(0.0, 1.0)] * wins + [(1.0, 0.0)] * losses + [(0.0, 0.0)] * wrong
    return [Pair(f"r{number}", *scores) for number, scores in enumerate(kinds, start)]


def certified(*students: list[Pair], margin: float = 0.05, **options: object) -> list[str]:
    named = {f"s{number}": rows for number, rows in enumerate(students)}
    made = certify(named, margin, binary=True, sensitive=bool(options.pop("sensitive", True)), **options)  # type: ignore[arg-type]
    return [one.outcome for one in made.values()]


def test_an_equal_student_is_certified_and_one_that_loses_more_than_the_margin_is_not() -> None:
    assert certified(pairs(400, 10, 10), pairs(200, 0, 100)) == ["NON-INFERIOR", "INFERIOR"]


def test_a_student_that_does_better_than_the_teacher_is_told_so() -> None:
    made = certify({"s": pairs(300, 60, 5)}, 0.05, binary=True, sensitive=True)["s"]
    assert made.outcome == "NON-INFERIOR"
    assert made.reason.endswith("It does better than the teacher.")


def test_too_few_rows_are_inconclusive_and_say_how_many_would_do() -> None:
    made = certify({"s": pairs(40, 2, 2)}, 0.05, binary=True, sensitive=True)["s"]
    assert made.outcome == "INCONCLUSIVE"
    assert made.rows_needed is not None
    assert made.rows_needed > 44
    assert f"about {made.rows_needed:,} rows" in made.reason


def test_each_further_student_makes_the_others_harder_to_certify() -> None:
    close = pairs(58, 0, 0)
    alone = certify({"a": close}, 0.05, binary=True, sensitive=True)["a"]
    beside = certify({"a": close, "b": pairs(30, 0, 28)}, 0.05, binary=True, sensitive=True)["a"]
    assert alone.p is not None
    assert beside.p == pytest.approx(2 * alone.p)
    unclear = pairs(40, 2, 2)
    one, other = (certify(all_of, 0.05, binary=True, sensitive=True)["a"].rows_needed or 0
                  for all_of in ({"a": unclear}, {"a": unclear, "b": unclear}))  # fmt: skip
    assert other > one > 44


def test_among_many_students_at_the_margin_hardly_ever_is_one_called_inferior(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate, "noninferiority_of_counts", cache(certificate.noninferiority_of_counts))
    rng, families, n = np.random.default_rng(0), 200, 30
    alone = together = 0
    for losses in rng.binomial(n, margin := 0.3, size=(families, 5)).tolist():
        students = [pairs(n - lost, 0, lost) for lost in losses]
        alone += any("INFERIOR" in certified(one, margin=margin) for one in students)
        together += "INFERIOR" in certified(*students, margin=margin)
    assert alone / families > 0.1, "what five tests would say that know nothing of each other"
    assert together / families < 0.05 + 2 * (0.05 * 0.95 / families) ** 0.5


def test_a_student_that_was_not_tested_counts_among_them() -> None:
    made = certify({"a": pairs(70, 0, 0), "dead": []}, 0.05, binary=True, sensitive=True)
    alone = certify({"a": pairs(70, 0, 0)}, 0.05, binary=True, sensitive=True)["a"]
    assert made["dead"].outcome == "INCONCLUSIVE"
    assert made["a"].p == pytest.approx(2 * (alone.p or 0))


def test_a_later_opening_of_the_same_rows_is_stricter() -> None:
    rows = pairs(70, 0, 0)
    assert certified(rows) == ["NON-INFERIOR"]
    assert certified(rows, opening=3) == ["INCONCLUSIVE"]


def test_rows_that_cannot_tell_good_from_bad_certify_nothing() -> None:
    assert certified(pairs(400, 10, 10), sensitive=False) == ["INCONCLUSIVE"]


def test_rows_without_a_score_are_left_out_and_too_many_of_them_say_nothing() -> None:
    rows = [*pairs(400, 0, 0), *(Pair(f"m{number}", 1.0, None) for number in range(60))]
    made = certify({"s": rows}, 0.05, binary=True, sensitive=True)["s"]
    assert (made.outcome, made.missing) == ("INCONCLUSIVE", 60)


def test_rows_that_the_student_did_not_answer_count_as_wrong() -> None:
    silent = [Pair(f"m{number}", 1.0, None) for number in range(25)]
    assert certified([*pairs(400, 0, 0), *silent]) == ["INCONCLUSIVE"]
    assert certified([*pairs(400, 0, 0), *silent[:2]]) == ["NON-INFERIOR"]
    assert certified([*pairs(400, 0, 0), *(Pair(one.example_id, None, 1.0) for one in silent)]) == ["NON-INFERIOR"]


def test_rows_of_a_group_count_once() -> None:
    grouped = [Pair(one.example_id, one.baseline, one.best, f"g{n // 40}") for n, one in enumerate(pairs(400, 0, 0))]
    made = certify({"s": grouped}, 0.05, binary=True, sensitive=True)["s"]
    assert made.test is not None
    assert made.test.n == 10
    assert made.outcome == "INCONCLUSIVE"


def test_a_teacher_that_does_no_better_than_a_stripped_prompt_fails_the_assay() -> None:
    alike, better = assay(pairs(30, 2, 2), binary=True), assay(pairs(10, 25, 1), binary=True)
    assert alike is not None
    assert not alike.holds
    assert better is not None
    assert better.holds


def test_a_loss_in_a_minority_is_named_although_the_whole_holds() -> None:
    minority, majority = pairs(2, 0, 10), pairs(588, 0, 0, start=12)
    rows = [
        Example(one.example_id, {}, "rare" if number < 12 else "usual")
        for number, one in enumerate(minority + majority)
    ]
    whole = [*minority, *majority]
    assert certified(whole) == ["NON-INFERIOR"]
    found = sliced(whole, members(rows, ()), binary=True)
    assert [(one.value, one.n, one.lost) for one in found] == [("rare", 12, True), ("usual", 588, False)]
    assert found[0].diff == pytest.approx(-10 / 12)


def test_chance_in_many_slices_is_no_clear_loss() -> None:
    rows, whole = [], []
    for label in range(50):
        for one in pairs(7, 1, 2, start=10 * label):
            rows.append(Example(one.example_id, {}, f"label {label}"))
            whole.append(one)
    assert not any(one.lost for one in sliced(whole, members(rows, ()), binary=True))


def test_rows_are_sliced_by_named_columns_and_by_group_and_not_by_what_no_two_share() -> None:
    rows = [
        Example(f"r{n}", {"text": f"t{n}"}, f"only {n}", f"g{n % 2}", {"tier": "gold" if n < 4 else "none"})
        for n in range(12)
    ]
    assert {(column, value) for column, value in members(rows, ("tier", "text"))} == {
        ("group", "g0"), ("group", "g1"), ("tier", "gold"), ("tier", "none"),
    }  # fmt: skip
