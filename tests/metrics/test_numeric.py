from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from promptopt.metrics.numeric import Numeric, number_in


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The total is $1,234.50.", "1234.50"),
        ("She has 3 + 4 = 7 apples", "7"),
        ("10-5", "5"),
        ("it fell to -5 degrees", "-5"),
        ("a loss of −$20", "-20"),
        ("a loss of $-20", "-20"),
        ("up 12.5%", "12.5"),
        ("about 1.5e3 m", "1500"),
        ("5kg of H2O and x2", "5"),
        ("first #### 72\n\nThat took 3 steps.", "72"),
        ("#### 1\n#### 2", "2"),
        ("it is 8 ####", "8"),
        ("1,000,000", "1000000"),
        ("1,2345", "2345"),
        (".5", ".5"),
        (42, "42"),
        (0.1, "0.1"),
    ],
)
def test_the_last_number_is_read(text, number):
    assert number_in(text) == Decimal(number)


@pytest.mark.parametrize("value", ["", "none", "x2", True, None, float("nan"), float("inf"), {"a": "b"}])
def test_what_holds_no_number_has_none(value):
    assert number_in(value) is None


@given(st.integers() | st.decimals(allow_nan=False, allow_infinity=False, places=3))
def test_a_number_is_read_as_it_is_written_in_english(number):
    assert number_in(f"So it is {number:,f}." if isinstance(number, Decimal) else f"So it is {number:,}.") == number


@given(st.integers(-(10**12), 10**12), st.floats(0, 1e6), st.floats(-2, 2))
async def test_the_tolerance_is_the_border_between_right_and_wrong(scored, want, tolerance, share):
    got = Decimal(want) + Decimal(str(tolerance)) * Decimal(str(share))
    score = await scored(Numeric(tolerance=tolerance), f"{got:f}", want)
    assert score.value == float(abs(Decimal(f"{got:f}") - want) <= Decimal(str(tolerance)))


async def test_decimals_do_not_suffer_from_binary_fractions(scored):
    assert (await scored(Numeric(tolerance=0.1), "0.3", 0.2)).value == 1.0
    assert (await scored(Numeric(), "9007199254740993", "9007199254740992")).value == 0.0
    assert (await scored(Numeric(relative=0.01), "101", "#### 100")).value == 1.0


async def test_a_right_number_in_the_wrong_place_is_told_from_a_wrong_one(scored):
    misplaced = await scored(Numeric(), "It is 72, from 48 and 24", "48 + 24 = 72\n#### 72")
    assert "the answer must come last" in misplaced.feedback
    assert (await scored(Numeric(), "71", "72")).feedback == 'Wanted 72, got 71. The reply was "71".'
    assert "holds no number" in (await scored(Numeric(), "no idea", "72")).feedback


async def test_an_expected_answer_without_a_number_is_an_error(scored):
    with pytest.raises(ValueError, match="row 'r1': the expected answer \"many\" holds no number"):
        await scored(Numeric(), "3", "many")


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf")])
def test_a_tolerance_is_finite_and_not_negative(tolerance):
    with pytest.raises(ValidationError):
        Numeric(tolerance=tolerance)
