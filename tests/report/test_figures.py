"""What people see of text and figures."""

from __future__ import annotations

import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptopt.report.figures import clean, dollars, duration, line, said

ATTACKS = {
    "red": ("\x1b[31mred\x1b[0m", "red"),
    "a title": ("\x1b]0;owned\x07title", "title"),
    "a link": ("\x1b]8;;http://x/\x1b\\link\x1b]8;;\x1b\\", "link"),
    "a cleared screen": ("a\x1b[2J\x1b[Hb", "ab"),
    "an 8-bit sequence": ("a\x9b31mb", "ab"),
    "an overwritten line": ("good\rbad", "good\nbad"),
    "a rubbed out word": ("good\x08\x08\x08\x08bad", "goodbad"),
    "reordered text": ("abc\u202edef\u2066", "abcdef"),
    "half a sequence": ("a\x1b", "a"),
    "a device string": ("a\x1bPq#0;1\x1b\\b", "ab"),
    "half a character": ("a\ud800b", "ab"),
}


@pytest.mark.parametrize(("text", "seen"), ATTACKS.values(), ids=ATTACKS.keys())
def test_nothing_that_a_terminal_obeys_is_left(text: str, seen: str) -> None:
    assert clean(text) == seen


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\x1b[]0;m\x07\\\x9bP"))))
def test_no_control_character_survives_whatever_the_text(text: str) -> None:
    left = {char for char in clean(text) if unicodedata.category(char) in ("Cc", "Cs")}
    assert left <= {"\n", "\t"}
    assert clean(clean(text)) == clean(text)


@given(st.text(alphabet=st.characters(exclude_categories=["C", "Z"])))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


def test_brackets_of_data_are_no_markup() -> None:
    assert said("[bold]x[/bold] :smile:").plain == "[bold]x[/bold] :smile:"


def test_a_line_is_one_line_of_at_most_its_width() -> None:
    assert line("a\n  b\tc") == "a b c"
    assert line("x" * 50, 10) == "x" * 9 + "…"


@pytest.mark.parametrize(
    ("usd", "shown"),
    [("0", "$0"), ("0.0000042", "$0.0000042"), ("0.004217", "$0.0042"), ("0.5", "$0.50"), ("1234.5", "$1,234.50")],
)
def test_small_sums_keep_the_digits_that_count(usd: str, shown: str) -> None:
    assert dollars(Decimal(usd)) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (59.6, "1 min"), (125, "2 min 5 s"), (3 * 3600 + 1200, "3 h 20 min"), (3 * 86400, "3 days")],
)
def test_durations_are_in_units_people_use(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
