"""The last number of the output against the expected number."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.lm.session import Session
from promptopt.metrics.answer_text import answered, as_text, quote, wanted
from promptopt.metrics.built_in import STRICT, BuiltIn

_NUMBER = re.compile(
    r"(?<![\w.])"
    r"(?:(?<![)\]])(?P<sign>[-+−]))?"
    r"[$€£¥₹]?(?P<late_sign>(?<=[$€£¥₹])[-−])?"
    r"(?P<digits>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
    r"(?P<power>[eE][-+]?[0-9]{1,3}(?![0-9]))?"
)


Tolerance = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, config=STRICT)
class Numeric(BuiltIn):
    """1 when the output's number is within the tolerance of the expected one, else 0.

    A text's number is the first one after its last `####` (GSM8K's mark) where there is one, else the last one in it.
    Signs, currency signs, thousands commas, decimal points and exponents are read; `%` is ignored on both sides. Where
    both tolerances are given, the wider counts.
    """

    type: ClassVar[str] = "numeric"

    tolerance: Tolerance = 0.0
    """Largest difference that still counts as equal."""
    relative: Tolerance = 0.0
    """The same as a share of the expected number: 0.01 is one percent."""

    @property
    def binary(self) -> bool:
        return True

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        want = number_in(wanted(example))
        if want is None:
            raise ValueError(f"row {example.id!r}: the expected answer {quote(example.expected)} holds no number")
        output = answered(example, rollout)
        if output is None:
            return Score(0.0, f"Wanted {_shown(want)}, but there was no output.")
        got = number_in(output)
        if got is None:
            return Score(0.0, f"Wanted {_shown(want)}; the reply holds no number: {quote(output)}.")
        if self._close(got, want):
            return Score(1.0, "Correct.")
        if any(self._close(number, want) for number in numbers(as_text(output))):
            return Score(
                0.0,
                f"The reply contains the wanted number {_shown(want)}, but {_shown(got)} is read as its answer: the "
                f"answer must come last. The reply was {quote(output)}.",
            )
        return Score(0.0, f"Wanted {_shown(want)}, got {_shown(got)}. The reply was {quote(output)}.")

    def _close(self, got: Decimal, want: Decimal) -> bool:
        room = max(Decimal(str(self.tolerance)), Decimal(str(self.relative)) * abs(want))
        return got == want or abs(got - want) <= room


def number_in(value: Any) -> Decimal | None:
    """The number that `value` is, or that its text ends on; None where there is none that is finite."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = Decimal(value) if isinstance(value, int) else Decimal(str(value))
        return number if number.is_finite() else None
    text = as_text(value)
    _, mark, marked = text.rpartition("####")
    after_mark = numbers(marked) if mark else []
    if after_mark:
        return after_mark[0]
    return next(iter(numbers(text)[-1:]), None)


def numbers(text: str) -> list[Decimal]:
    """Every number in `text`, in order. Digits inside a word, as in `x2`, are none."""
    return [_read(match) for match in _NUMBER.finditer(text)]


def _shown(number: Decimal) -> str:
    text = str(number)
    return text if len(text) <= 40 else f"{number:.6e}"


def _read(match: re.Match[str]) -> Decimal:
    negative = (match["sign"] or match["late_sign"] or "+") in "-−"
    number = Decimal(match["digits"].replace(",", "") + (match["power"] or ""))
    return number.copy_negate() if negative else number
