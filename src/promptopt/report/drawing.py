"""Figures as shapes with coordinates, for the templates that draw them in SVG. Nothing here is text for a browser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from promptopt.report.distilled import Interval
from promptopt.report.figures import gain, line
from promptopt.report.front import Front, Point, Scale

WIDTH = 440
"""Units of a figure from side to side: on a phone about a pixel each."""
LETTER = 6.4
"""Width of a letter of a label."""
LINE = 15
"""Units from one label to the next below it."""
LABEL = 24
"""Letters that a label has at most."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A value on an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Dot:
    """One model."""

    x: float
    y: float
    before: float | None
    """Where it was with the teacher's prompt, upwards from the bottom of the page as `y`."""
    span: tuple[float, float] | None
    label: str
    label_x: float
    label_y: float
    anchor: str
    """Which end of the label `label_x` is, in SVG's words."""
    kind: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """Quality against cost."""

    dots: tuple[Dot, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    floor: float | None
    axis: str
    left: float = 44
    right: float = WIDTH - 10
    top: float = 12
    bottom: float = 252
    width: float = WIDTH
    height: float = 300


@dataclass(frozen=True, slots=True)
class Bar:
    """A difference with its interval."""

    label: str
    y: float
    low: float
    high: float
    middle: float
    figures: str
    kind: str


@dataclass(frozen=True, slots=True)
class Forest:
    """Differences below each other, with the lines that they must clear."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    zero: float
    margin: float | None
    height: float
    left: float = 10
    right: float = WIDTH - 10
    width: float = WIDTH


@dataclass(frozen=True, slots=True)
class Difference:
    """What a bar shows."""

    label: str
    diff: float
    ci: Interval
    kind: str
    """A verdict."""


def chart(front: Front) -> Chart:
    """The front on a page; labels stand beside their dots and are moved apart where they would overlap."""
    page = Chart((), (), (), None, front.axis)
    return Chart(
        dots=_dots(front, page),
        x_ticks=tuple(Tick(_x(front.cost, one, page), front.tick(one)) for one in front.cost.ticks),
        y_ticks=tuple(Tick(_y(front, one, page), f"{one:.4g}") for one in front.score.ticks),
        floor=None if front.floor is None else _y(front, front.floor, page),
        axis=front.axis,
    )


def forest(found: Sequence[Difference], margin: float | None = None) -> Forest:
    """Each difference in a line of its own."""
    ends = [end for one in found for end in one.ci]
    scale = Scale.over([0.0, *ends, *([] if margin is None else [-margin])])
    step, first, page = 42, 30, Forest((), (), 0, None, 0)

    def x(value: float) -> float:
        return round(page.left + scale.share(value) * (page.right - page.left), 1)

    bars = tuple(
        Bar(
            label=line(one.label, LABEL),
            y=first + step * number,
            low=x(one.ci[0]),
            high=x(one.ci[1]),
            middle=x(one.diff),
            figures=f"{gain(one.diff)} ({gain(one.ci[0])} to {gain(one.ci[1])})",
            kind=one.kind,
        )
        for number, one in enumerate(found)
    )
    ticks = tuple(Tick(x(one), f"{one:+.4g}" if one else "0") for one in scale.ticks)
    height = first + step * len(bars) + 12
    return Forest(bars, ticks, x(0.0), None if margin is None else x(-margin), height)


def _x(scale: Scale, value: float, page: Chart) -> float:
    return round(page.left + scale.share(value) * (page.right - page.left), 1)


def _y(front: Front, value: float, page: Chart) -> float:
    return round(page.bottom - front.score.share(value) * (page.bottom - page.top), 1)


def _dots(front: Front, page: Chart) -> tuple[Dot, ...]:
    heights = _apart([(one, _y(front, one.score, page)) for one in front.points], page.bottom)
    across = [_x(front.cost, one.cost, page) for one in front.points]
    dots: list[Dot] = []
    for point in front.points:
        x, text = _x(front.cost, point.cost, page), line(point.label, LABEL)
        to_the_left = _leftward(x, 9 + LETTER * len(text), across, page)
        dots.append(
            Dot(
                x=x,
                y=_y(front, point.score, page),
                before=None if point.before is None else _y(front, point.before, page),
                span=None if point.span is None else (_y(front, point.span[0], page), _y(front, point.span[1], page)),
                label=text,
                label_x=x - 9 if to_the_left else x + 9,
                label_y=heights[point.number] + 4,
                anchor="end" if to_the_left else "start",
                kind=point.kind,
                chosen=point.chosen,
            )
        )
    return tuple(dots)


def _leftward(x: float, width: float, dots: Sequence[float], page: Chart) -> bool:
    """Whether the label of the dot at `x` goes to its left: it would leave the page, or hide another dot."""
    hides = any(x < other < x + width for other in dots)
    return x + width > page.right or (hides and x - width > page.left)


def _apart(wanted: Sequence[tuple[Point, float]], lowest: float) -> dict[int, float]:
    """By point, a height near the wanted one, a line or more from the labels next to it and not below `lowest`."""
    ordered = sorted(wanted, key=lambda pair: pair[1])
    down = accumulate((height for _, height in ordered), lambda above, here: max(here, above + LINE))
    up = accumulate(reversed(list(down)), lambda below, here: min(here, below - LINE), initial=lowest + LINE)
    heights = list(up)[:0:-1]
    return {point.number: round(height, 1) for (point, _), height in zip(ordered, heights, strict=True)}
