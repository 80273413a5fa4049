"""Quality against cost as a matplotlib figure, for notebooks."""

# matplotlib does not say what its keyword arguments are
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from typing import TYPE_CHECKING

from promptopt.errors import UserError
from promptopt.report.distilled import Distilled
from promptopt.report.figures import line
from promptopt.report.front import front_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"teacher": "black", "NON-INFERIOR": "tab:green", "INFERIOR": "tab:red", "INCONCLUSIVE": "tab:orange"}

MIDDLE = 0.6
"""From where on a label stands to the left of its dot."""


def front(made: Distilled) -> Figure:
    """The teacher and the students, each as it was and with its own prompt, above or below the margin.

    Raises UserError where matplotlib is missing, or fewer than two models have both a score and a cost.
    """
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError:
        raise UserError("a plot needs matplotlib: pip install 'promptopt-engine[notebook]'") from None
    found = front_of(made)
    if found is None:
        raise UserError("there is nothing to plot: fewer than two models have both a score and a cost")
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for point in found.points:
        colour = COLOURS[point.kind]
        if point.before is not None:
            axes.plot([point.cost, point.cost], [point.before, point.score], ":", color=colour, linewidth=1)
            axes.plot(point.cost, point.before, "o", color=colour, markerfacecolor="white")
        if point.span is not None:
            axes.plot([point.cost, point.cost], point.span, color=colour, linewidth=2.5, alpha=0.4)
        axes.plot(point.cost, point.score, "o", color=colour)
        name = line(point.label, 30).replace("$", r"\$")
        right = found.cost.share(point.cost) > MIDDLE
        place, side = ((-8, 4), "right") if right else ((8, 4), "left")
        axes.annotate(name, (point.cost, point.score), xytext=place, textcoords="offset points", ha=side)
    if found.floor is not None:
        axes.axhline(found.floor, color="tab:orange", linestyle="--", linewidth=1)
        axes.axhspan(found.score.low, found.floor, color="tab:orange", alpha=0.07, linewidth=0)
    if found.cost.log:
        axes.set_xscale("log")
    axes.set(xlim=(found.cost.low, found.cost.high), ylim=(found.score.low, found.score.high))
    axes.set_xticks(found.cost.ticks, [found.tick(one).replace("$", r"\$") for one in found.cost.ticks])
    axes.set_xticks([], minor=True)
    axes.set(xlabel=found.axis, ylabel="score on the sealed rows")
    figure.tight_layout()
    pyplot.close(figure)  # a notebook shows what is returned, and would show an open figure once more
    return figure
