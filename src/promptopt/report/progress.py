"""What a run shows while it runs: bars on a terminal, plain lines in a log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from promptopt.core.state import Told
from promptopt.execute.progress import Progress, Running
from promptopt.report.figures import clean, dollars, duration, line, said, score
from promptopt.report.scores import OPTIMISTIC

NEWS = frozenset({"baseline", "won"})
"""Outcomes that a log wants to know at once."""
NEWS_EVERY, OTHERS_EVERY = 1.0, 10.0
"""Seconds between lines of a log, at least: after news, and after steps that came to nothing."""
QUIET = 30.0
"""Seconds between lines of a log, at most: a sealed test folds no step for minutes."""
HINT = "Ctrl-C stops; it can go on later"
"""The last line, and short: the terminal's echo of ^C at the end of a full one would begin a line of its own."""
EARLY = 0.02
"""Share of the budget below which nobody can tell how long the rest takes."""


def watching(console: Console, name: str) -> Bars | Lines:
    """Bars where `console` is a terminal that can redraw, else lines."""
    drawn = console.file.isatty() and console.is_terminal and not console.is_dumb_terminal
    return Bars(console, name) if drawn else Lines(console.file, name)


class Lines:
    """A line for each step that matters, and one where for long there was none.

    What comes too fast for a line is said with the next one.
    """

    def __init__(
        self, out: IO[str], name: str, now: Callable[[], float] = time.monotonic, quiet: float = QUIET
    ) -> None:
        self._out, self._name, self._now, self._quiet = out, name, now, quiet
        self._last = self._spoke = float("-inf")
        self._over = threading.Event()
        self._sentry = threading.Thread(target=self._break_silence, daemon=True)
        self._unsaid = self._phase = ""
        self._progress: Callable[[], Progress] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._unsaid:
            self.said(self._unsaid)

    def began(self, running: Running) -> None:
        self._progress = running.progress
        if not self._sentry.is_alive() and not self._over.is_set():
            self._sentry.start()
        now = running.progress()
        caps = ", ".join(_unit(cap, most) for cap, _, most, _ in _caps(now)) or "none"
        if now.phase != self._phase:
            self._phase = now.phase
            self.said(f"{self._name}: {now.phase}; caps: {caps}")

    def folded(self, told: Told) -> None:
        if self._progress is None:
            return
        news, since = told.outcome in NEWS, self._now() - self._last
        if news or (since >= OTHERS_EVERY and not self._unsaid):
            self._unsaid = log_line(told, self._progress())
        if self._unsaid and since >= NEWS_EVERY:
            self.said(self._unsaid)
            self._unsaid, self._last = "", self._now()

    def said(self, message: str) -> None:
        print(clean(message), file=self._out, flush=True)
        self._spoke = self._now()

    def _break_silence(self) -> None:
        while not self._over.wait(max(0.01, self._spoke + self._quiet - self._now())):
            if self._progress and self._now() - self._spoke >= self._quiet:
                now = self._progress()
                self.said(f"[{duration(now.seconds)}] {now.phase}: {_spent(now)}")


def log_line(told: Told, progress: Progress) -> str:
    """One step and where the run stands after it."""
    what = "baseline" if told.outcome == "baseline" else f"{told.operator} {told.outcome.replace('_', ' ')}"
    best = f"best val {score(progress.val_best)}{_thin(progress)} ({OPTIMISTIC})"
    note = f"; {line(told.note, 100)}" if told.outcome == "won" else ""
    return f"[{duration(progress.seconds)}] step {told.step}: {what}; {best}; {_spent(progress)}{note}"


def _spent(progress: Progress) -> str:
    spent = [_unit(cap, f"{used}/{most}") for cap, used, most, _ in _caps(progress)]
    return ", ".join([*spent, *(_unit(figure, used) for figure, used in _uncapped(progress))])


def _thin(progress: Progress) -> str:
    """On how many rows the best score stands, while it stands on few."""
    known, rows = progress.val_rows
    return f" on {known} of {rows} rows" if known < rows else ""


def _unit(figure: str, amount: str) -> str:
    return amount if figure == "dollars" else f"{amount} {figure}"


class Bars:
    """A few lines that are redrawn: the best score, each cap's bar, the time left, the last accepted edit."""

    def __init__(self, console: Console, name: str) -> None:
        self._console, self._name = console, name
        self._progress: Callable[[], Progress] | None = None
        self._live = Live(
            console=console, get_renderable=self._drawn, refresh_per_second=4, transient=True, redirect_stdout=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def began(self, running: Running) -> None:
        self._progress = running.progress
        self._live.start()

    def folded(self, told: Told) -> None:
        """The next redrawing shows it."""

    def said(self, message: str) -> None:
        self._console.print(said(message))

    def _drawn(self) -> Group:
        return drawn(self._name, self._progress()) if self._progress else Group()


def drawn(name: str, progress: Progress) -> Group:
    """A run at one moment, a screen's width wide."""
    bars = _rows()
    bars.add_column(no_wrap=True, justify="right")
    for cap, used, most, share in _caps(progress):
        bars.add_row(cap, ProgressBar(completed=min(share, 1.0), total=1.0, complete_style="cyan"), f"{used} / {most}")
    words = _rows()
    for figure, used in _uncapped(progress):
        words.add_row(figure, f"{used}, no cap")
    left = seconds_left(progress)
    rest = "" if left is None else f"; at most about {duration(left)} left"
    words.add_row("time", f"{duration(progress.seconds)}{rest}")
    if progress.steps or progress.in_flight:
        words.add_row("steps", f"{progress.steps} done, {progress.in_flight} in flight")
    if progress.last_win:
        words.add_row("last accepted", Text(line(progress.last_win), no_wrap=True, overflow="ellipsis"))
    best = _rows()
    if progress.val_best is None and progress.phase == "baseline":
        best.add_row("best on val", "not known yet: the current prompt is being scored")
    elif progress.val_best is not None:
        start = f"{_thin(progress)}  {OPTIMISTIC}; the current prompt has {score(progress.val_baseline)}"
        best.add_row("best on val", Text.assemble((score(progress.val_best), "bold green"), (start, "dim")))
    head = Text.assemble(said(name, "bold"), f" · {progress.phase}")
    return Group(head, best, bars, words, Text(HINT, style="dim"))


def _rows() -> Table:
    """A column of names and one that takes the rest of the width."""
    rows = Table.grid(padding=(0, 1), expand=True)
    rows.add_column(style="dim", no_wrap=True, width=13)
    rows.add_column(ratio=1)
    return rows


def seconds_left(progress: Progress) -> float | None:
    """How long until the first cap is reached if the run goes on as so far; None while nobody can tell.

    The search may run out of ideas before that, so it is an upper estimate.
    """
    share = max((share for *_, share in _caps(progress)), default=0.0)
    if share < EARLY:
        return None
    return progress.seconds * max(0.0, 1.0 - share) / share


def _caps(progress: Progress) -> list[tuple[str, str, str, float]]:
    """Each cap: its name, what is used and what there is, as shown, and the share that is used."""
    spent, budget = progress.spent, progress.budget
    figures = [
        ("rollouts", spent.rollouts, budget.rollouts, "{:,}".format),
        ("dollars", spent.usd, budget.usd, dollars),
        ("calls", spent.calls, budget.calls, "{:,}".format),
        ("tokens", spent.tokens, budget.tokens, "{:,}".format),
        ("minutes", progress.seconds / 60, budget.minutes, "{:.3g}".format),
    ]
    return [(name, shown(used), shown(most), float(used) / float(most)) for name, used, most, shown in figures if most]


def _uncapped(progress: Progress) -> list[tuple[str, str]]:
    """Rollouts and dollars where they have no cap: they are always worth seeing."""
    spent, budget = progress.spent, progress.budget
    figures = [("rollouts", f"{spent.rollouts:,}", budget.rollouts), ("dollars", dollars(spent.usd), budget.usd)]
    return [(name, used) for name, used, cap in figures if cap is None]


def pull_shown(name: str) -> Path:
    """Fetch a local model, or finish fetching it, with a bar; where it is then. Raises as `pull` does."""
    from rich import progress as bars

    from promptopt.lm.catalogue import local_model
    from promptopt.lm.pull import pull

    model = local_model(name)
    speed = (bars.DownloadColumn(), bars.TransferSpeedColumn(), bars.TimeRemainingColumn())
    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), *speed)
    with bars.Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"local/{model.name}", total=model.size)
        return pull(model.name, lambda done, total: progress.update(task, completed=done, total=total))
