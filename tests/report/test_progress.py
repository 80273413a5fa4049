"""What a run shows while it runs."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from decimal import Decimal

import pytest
from rich.console import Console

from promptopt.core.budget import Budget, Spend
from promptopt.core.state import Told
from promptopt.execute.progress import Progress, Running
from promptopt.report.progress import Bars, Lines, drawn, log_line, seconds_left, watching

AT_WORK = Progress(
    phase="search",
    steps=41,
    in_flight=8,
    val_baseline=0.41,
    val_best=0.82,
    val_rows=(40, 40),
    last_win="add to system: otters are \x1b[31mred",
    spent=Spend(200, 350, 0, 300_000, 1_000, Decimal("0.25")),
    budget=Budget(rollouts=800, usd=Decimal(1)),
    seconds=60.0,
)


def screen(progress: Progress, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(drawn("banking", progress))
    return out.getvalue()


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def lines(log: io.StringIO, clock: Clock) -> Lines:
    made = Lines(log, "banking", clock)
    made.began(Running(lambda: AT_WORK, lambda: None))
    return made


def test_the_screen_says_how_good_how_dear_and_how_long() -> None:
    text = screen(AT_WORK)
    for part in ("0.820", "selection score, optimistic", "0.410", "200 / 800", "$0.25 / $1.00", "8 in flight"):
        assert part in text
    assert "at most about 3 min left" in text
    assert "otters are red" in text


def test_every_cap_has_a_bar_and_uncapped_figures_say_so() -> None:
    every = replace(AT_WORK, budget=Budget(calls=1000, tokens=600_000, minutes=20))
    text = screen(every)
    for part in ("350 / 1,000", "301,000 / 600,000", "1 / 20", "200, no cap", "$0.25, no cap"):
        assert part in text


def test_before_the_first_score_there_is_no_score() -> None:
    text = screen(replace(AT_WORK, val_best=None, val_baseline=None, last_win="", spent=Spend(), phase="baseline"))
    assert "not known yet" in text
    assert "left" not in text


@pytest.mark.parametrize("width", [24, 40, 80, 200])
def test_the_screen_fits_the_terminal(width: int) -> None:
    assert max(map(len, screen(AT_WORK, width).splitlines())) <= width


def test_the_last_line_leaves_room_for_the_echo_of_an_interrupt() -> None:
    assert len(screen(AT_WORK, 80).splitlines()[-1].rstrip()) < 70


def test_the_time_left_is_that_of_the_cap_that_binds_first() -> None:
    assert seconds_left(AT_WORK) == pytest.approx(180)
    assert seconds_left(replace(AT_WORK, budget=Budget(rollouts=800, minutes=2))) == pytest.approx(60)
    assert seconds_left(replace(AT_WORK, budget=Budget(rollouts=100_000))) is None
    assert seconds_left(replace(AT_WORK, budget=Budget(rollouts=200))) == 0


def test_a_log_tells_the_baseline_and_every_win(lines: Lines, log: io.StringIO, clock: Clock) -> None:
    lines.folded(Told(0, "baseline", "baseline"))
    clock.at += 2
    lines.folded(Told(3, "rules", "won", note="add to system: otters"))
    told = log.getvalue().splitlines()
    assert told[0] == f"banking: {AT_WORK.phase}; caps: 800 rollouts, $1.00"
    assert "step 0: baseline; best val 0.820 (selection score, optimistic); 200/800 rollouts, $0.25/$1.00" in told[1]
    assert told[2].endswith("; add to system: otters")


def test_a_score_that_stands_on_few_rows_says_so() -> None:
    thin = replace(AT_WORK, val_rows=(12, 40))
    assert "best val 0.820 on 12 of 40 rows (selection" in log_line(Told(3, "rules", "won"), thin)
    assert "0.820 on 12 of 40 rows" in screen(thin)


def test_a_log_says_each_phase_once_however_many_parts_it_has(lines: Lines, log: io.StringIO) -> None:
    for phase in (AT_WORK.phase, "sealed test", "sealed test"):
        lines.began(Running(lambda phase=phase: replace(AT_WORK, phase=phase), lambda: None))
    assert [line.split("; ")[0] for line in log.getvalue().splitlines()] == [
        f"banking: {AT_WORK.phase}", "banking: sealed test"
    ]  # fmt: skip


def test_a_log_gets_at_most_a_line_a_second_and_loses_no_win(lines: Lines, log: io.StringIO, clock: Clock) -> None:
    with lines:
        for step in range(100):
            clock.at += 0.1
            lines.folded(Told(step, "rules", "won"))
    told = log.getvalue().splitlines()[1:]
    assert len(told) <= 11
    assert "step 99: rules won" in told[-1]


def test_steps_that_came_to_nothing_are_told_now_and_then(lines: Lines, log: io.StringIO, clock: Clock) -> None:
    for step in range(30):
        clock.at += 1
        lines.folded(Told(step, "tips", "behind"))
    assert len(log.getvalue().splitlines()[1:]) == 3


def test_a_log_has_no_escapes(lines: Lines, log: io.StringIO) -> None:
    lines.folded(Told(1, "rules", "won", note="\x1b[31mred\x07"))
    lines.said("\x1b]0;owned\x07resumed")
    assert not {"\x1b", "\x07"} & set(log.getvalue())


def test_what_cannot_redraw_gets_lines() -> None:
    assert isinstance(watching(Console(file=io.StringIO()), "x"), Lines)
    assert isinstance(watching(Console(file=io.StringIO(), force_terminal=True), "x"), Lines)


def test_bars_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    with Bars(console, "banking") as bars:
        bars.began(Running(lambda: AT_WORK, lambda: None))
        bars.said("resumed: \x1b[31m40 rollouts")
    text = out.getvalue()
    assert "resumed: 40 rollouts" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_a_log_is_not_silent_for_long_and_says_nothing_more_once_all_is_over(log: io.StringIO) -> None:
    with Lines(log, "banking", quiet=0.05) as lines:
        lines.began(Running(lambda: replace(AT_WORK, phase="sealed test"), lambda: None))
        patience = time.monotonic() + 20
        while len(log.getvalue().splitlines()) < 3 and time.monotonic() < patience:
            time.sleep(0.02)
    said = log.getvalue().splitlines()
    assert said[1].startswith("[1 min] sealed test: 200/800 rollouts")
    time.sleep(0.2)
    assert len(log.getvalue().splitlines()) == len(said)
