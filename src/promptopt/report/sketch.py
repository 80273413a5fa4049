"""Quality against cost in letters, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from promptopt.report.figures import line
from promptopt.report.front import Front, Point

WIDTH, HEIGHT = 56, 12
"""Of the drawing without its axes."""
COLOURS = {"NON-INFERIOR": "green", "INFERIOR": "red", "INCONCLUSIVE": "yellow", "teacher": "bold"}


def sketch(front: Front) -> Iterator[Text]:
    """The teacher as T, students by number, as hollow dots where they were, and the margin as a dashed line."""
    rows = [[Text(" ")] * WIDTH for _ in range(HEIGHT)]
    if front.floor is not None:
        rows[_row(front, front.floor)] = [Text("╌", "yellow")] * WIDTH
    for point in reversed(front.points):
        column, style = min(WIDTH - 1, round(front.cost.share(point.cost) * (WIDTH - 1))), COLOURS[point.kind]
        if point.before is not None:
            rows[_row(front, point.before)][column] = Text("○", style)
        rows[_row(front, point.score)][column] = Text(_mark(point), f"bold {style}")
    named = {_row(front, tick): f"{tick:.4g}" for tick in front.score.ticks}
    for number, cells in enumerate(rows):
        yield Text.assemble((f"{named.get(number, ''):>7} ", "dim"), ("┤" if number in named else "│", "dim"), *cells)
    yield Text(" " * 8 + "└" + "─" * WIDTH, "dim")
    yield Text(" " * 9 + _ticks(front), "dim")
    yield Text(f"{front.axis:>{9 + WIDTH}}", "dim")
    yield _legend(front)


def _mark(point: Point) -> str:
    return "T" if point.kind == "teacher" else str(point.number)[-1]


def _row(front: Front, score: float) -> int:
    return HEIGHT - 1 - round(min(1.0, max(0.0, front.score.share(score))) * (HEIGHT - 1))


def _ticks(front: Front) -> str:
    """The costs below the axis, each beginning where it lies; one that would touch the one before is left out."""
    text = ""
    for tick in front.cost.ticks:
        at = round(front.cost.share(tick) * (WIDTH - 1))
        if not text or at > len(text) + 1:
            text = text.ljust(at) + front.tick(tick)
    return text


def _legend(front: Front) -> Text:
    named = ", ".join(f"{_mark(point)} {line(point.label, 40)}" for point in front.points)
    floor = "; below ╌ quality is not held" if front.floor is not None else ""
    return Text(f"{named}; ○ with the teacher's prompt{floor}", "dim")
