"""Quality against cost: where a distillation's models lie, for every way of drawing it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from promptopt.core.certificate import Outcome
from promptopt.report.distilled import Distilled, Interval

WIDE = 20.0
"""From how many times the smallest cost on the largest one is drawn on a logarithmic axis."""
AIR = 0.08
"""Share of a range that is left free on either side."""


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis."""

    low: float
    high: float
    log: bool = False

    @staticmethod
    def over(values: Sequence[float], *, log: bool = False) -> Scale:
        """An axis on which all of `values` lie with some air around them."""
        low, high = min(values), max(values)
        if log:
            air = max(math.log10(high / low) * AIR, AIR)
            return Scale(low / 10**air, high * 10**air, log=True)
        air = (high - low) * AIR or max(abs(high) * AIR, AIR)
        return Scale(low - air, high + air)

    def share(self, value: float) -> float:
        """Where `value` lies between the ends, from 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    @property
    def ticks(self) -> tuple[float, ...]:
        """Some round values between the ends."""
        return tuple(_decades(self.low, self.high) if self.log else _steps(self.low, self.high))


@dataclass(frozen=True, slots=True)
class Point:
    """One model with its prompt."""

    number: int
    """As the tables count students, from 1; 0 for the teacher."""
    label: str
    cost: float
    score: float
    before: float | None
    """Its score with the teacher's prompt."""
    span: Interval | None
    """Where its score lies, by the certificate's interval of its difference to the teacher."""
    kind: Literal["teacher"] | Outcome
    chosen: bool


@dataclass(frozen=True, slots=True)
class Front:
    """The teacher and the students, quality upwards, cost to the right."""

    points: tuple[Point, ...]
    axis: str
    """What cost means."""
    floor: float | None
    """The teacher's score less the margin."""
    cost: Scale
    score: Scale

    @property
    def unit(self) -> Literal["$", " ms"]:
        return "$" if self.axis.startswith("dollars") else " ms"

    def tick(self, cost: float) -> str:
        """A cost as the axis names it."""
        return f"${cost:,.10g}" if self.unit == "$" else f"{cost:,.10g} ms"


def front_of(made: Distilled) -> Front | None:
    """Where the models lie whose score and cost are known; None where that is fewer than two.

    Where nobody costs any dollars, such as models on a machine without a price, latency stands for cost.
    """
    paid = any(arm.usd_per_1000 for arm in (made.teacher, *made.students))
    points = tuple(_points(made, "usd_per_1000" if paid else "latency_p50"))
    if len(points) < 2:
        return None
    floor = None if made.margin is None or made.teacher.test is None else made.teacher.test - made.margin
    costs = [one.cost for one in points]
    known = (one for point in points for one in (point.score, point.before, *(point.span or ())))
    scores = [*(one for one in known if one is not None), *([] if floor is None else [floor])]
    log = min(costs) > 0 and max(costs) > WIDE * min(costs)
    cost = Scale.over(costs, log=log) if log else Scale(0.0, Scale.over([0.0, *costs]).high)
    axis = "dollars per 1,000 requests" if paid else "milliseconds a request, half of them within"
    return Front(points, axis, floor, cost, Scale.over(scores))


def _points(made: Distilled, figure: Literal["usd_per_1000", "latency_p50"]) -> Iterator[Point]:
    teacher, own = made.teacher.test, getattr(made.teacher, figure)
    if teacher is not None and own is not None:
        yield Point(0, "teacher", own, teacher, None, None, "teacher", False)
    for number, one in enumerate(made.students, 1):
        cost: float | None = getattr(one, figure)
        if cost is not None and one.after is not None:
            span = _span(one.ci, teacher)
            yield Point(number, one.name, cost, one.after, one.before, span, one.verdict, one is made.chosen)

    if (two := made.cascade) and two.verdict and two.test is not None:
        cost = getattr(two, figure)
        if cost is not None:
            chosen = made.recommendation is not None and made.chosen is None
            name, span = f"{two.student}, else teacher", _span(two.ci, teacher)
            yield Point(len(made.students) + 1, name, cost, two.test, None, span, two.verdict, chosen)


def _span(ci: Interval | None, teacher: float | None) -> Interval | None:
    if ci is None or teacher is None:
        return None
    return max(0.0, teacher + ci[0]), min(1.0, teacher + ci[1])


def _steps(low: float, high: float) -> Iterator[float]:
    """Multiples of the largest of 1, 2, 5, 10 and so on that fits in three times."""
    size = 10 ** math.floor(math.log10((high - low) / 3))
    step = max(size * times for times in (1, 2, 5) if size * times <= (high - low) / 3)
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        yield round(number * step, 12)


def _decades(low: float, high: float) -> Iterator[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    several = sum(low <= 10.0**power <= high for power in powers) > 2
    for power in powers:
        for times in (1,) if several else (1, 3):
            if low <= (value := times * 10.0**power) <= high:
                yield float(f"{value:.3g}")
