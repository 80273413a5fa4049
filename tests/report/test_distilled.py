"""A distillation's report: where its models lie, how a terminal shows it, and what it says before the end."""

from __future__ import annotations

import io
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from students_of import BASELINE, body, distilled, student

from promptopt.core.budget import Budget
from promptopt.core.candidate import Candidate
from promptopt.core.rollout import Rollout, Score
from promptopt.core.state import Told
from promptopt.report.distillation import distillation
from promptopt.report.distilled import Distilled, Underway
from promptopt.report.drawing import LINE, chart
from promptopt.report.folder import condition_of, look_into, runs_below
from promptopt.report.front import Scale, front_of
from promptopt.report.plot import front as plotted
from promptopt.report.tables import runs
from promptopt.store.ledger import DISTILLED, Ledger
from promptopt.store.run_dir import LEDGER


def shown(made: Distilled | Underway, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width, markup=False, emoji=False).print(distillation(made))
    return out.getvalue()


def write(folder: Path, ended: bool = True) -> Ledger:
    """A distillation's run directory, of a teacher and the student openai/small."""
    folder.mkdir(parents=True)
    students = [{"lm": "openai/small", "lm_args": {}, "name": "openai/small"}]
    identity = {"config": {"distill": {"teacher": {"lm": "openai/big"}, "students": students}}}
    about = {"name": "agent", "baseline": BASELINE, "val_rows": 2}
    Ledger.create(folder / LEDGER, {"run_id": "r", "identity": identity, "job": about})
    ledger = Ledger(folder / LEDGER, Budget())
    if ended:
        ledger.append(DISTILLED, 0, body(student("openai/small")))
    return ledger


# where the models lie


def test_the_floor_is_the_teacher_s_score_less_the_margin() -> None:
    front = front_of(distilled(student("small")))
    assert front is not None
    assert front.floor == pytest.approx(0.89)
    assert [(point.label, point.cost, point.score, point.chosen) for point in front.points] == [
        ("teacher", 1.0, 0.94, False),
        ("small", 0.02, 0.93, True),
    ]
    assert front.points[1].span == pytest.approx((0.90, 0.96))


def test_where_nobody_costs_dollars_latency_stands_for_cost() -> None:
    free = {"usd_per_1000": 0.0}
    teacher = {**body(student("small"))["teacher"], **free}
    front = front_of(distilled(student("small", **free), teacher=teacher))
    assert front is not None
    assert front.axis.startswith("milliseconds")
    assert [point.cost for point in front.points] == [700.0, 210.0]


def test_a_student_without_a_score_or_a_price_is_not_drawn() -> None:
    assert front_of(distilled(student("small", after=None))) is None
    assert front_of(distilled(student("small", usd_per_1000=None))) is None


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=8))
def test_an_axis_holds_its_values_and_round_ticks_between_its_ends(values: list[float]) -> None:
    scale = Scale.over(values)
    assert all(0 <= scale.share(value) <= 1 for value in values)
    assert all(scale.low <= tick <= scale.high for tick in scale.ticks)
    assert len(scale.ticks) >= 2


@given(st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=8))
def test_a_logarithmic_axis_does_so_too(values: list[float]) -> None:
    scale = Scale.over(values, log=True)
    assert all(-1e-9 <= scale.share(value) <= 1 + 1e-9 for value in values)
    assert all(scale.low <= tick <= scale.high for tick in scale.ticks)


def test_labels_of_equal_students_are_moved_apart_and_stay_above_the_axis() -> None:
    front = front_of(distilled(*(student(f"student-{number}") for number in range(6))))
    assert front is not None
    drawn = chart(front)
    heights = sorted(dot.label_y for dot in drawn.dots)
    assert all(below - above >= LINE - 0.2 for above, below in pairwise(heights))
    assert heights[-1] <= drawn.bottom + LINE


def test_the_plot_has_the_models_and_the_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    axes = plotted(distilled(student("small $cheap"))).axes[0]
    assert [text.get_text() for text in axes.texts] == ["teacher", r"small \$cheap"]
    assert any(list(line.get_ydata()) == pytest.approx([0.89, 0.89]) for line in axes.get_lines())


def test_a_frame_has_a_row_for_each_model() -> None:
    frame = distilled(student("small"), student("tiny")).to_frame()
    assert list(frame["model"]) == ["teacher", "small", "tiny"]
    assert list(frame["usd_per_1000"]) == [1.0, 0.02, 0.02]
    assert frame.loc[1, "low"] == -0.04


# the terminal


def test_the_terminal_shows_recommendation_front_cost_and_what_is_lost() -> None:
    lost = {"id": "r7", "inputs": {"text": "where is it"}, "expected": "red", "teacher": "red", "student": "blue"}
    text = shown(distilled(student("small", regressions=[lost], worse_on=1), student("tiny", after=0.5, before=0.2)))
    for words in ("Switch to small: It held.", "NON-INFERIOR", "dollars per 1,000 requests", "$40.00", "where is it"):
        assert words in text
    drawing = [line.split("│")[-1] for line in text.splitlines() if "│" in line and "Switch" not in line]
    assert sum("T" in line for line in drawing) == 1
    assert any("╌╌╌" in line for line in text.splitlines())


def test_on_a_screen_s_width_every_name_of_the_cost_table_is_whole() -> None:
    text = shown(distilled(student("openai/gpt-5-mini", usd_per_month=1069.7)), width=80)
    assert [line.split()[0] for line in text.split("\nCost\n")[1].splitlines()[3:5]] == ["teacher", "openai/gpt-5-mini"]


def test_of_rows_done_worse_it_says_how_many_it_shows() -> None:
    rows = [{"id": f"r{n}", "inputs": {"t": "x"}, "expected": "a", "teacher": "a", "student": "b"} for n in range(9)]
    text = shown(distilled(student("small", regressions=rows, worse_on=9)))
    assert "small: 9 rows, the worst 5" in text
    assert "r4" in text
    assert "r5" not in text


def test_hostile_names_are_words_in_a_terminal() -> None:
    evil = "\x1b]8;;http://x\x07\x1b[2J[red]x[/red]\u202e"
    text = shown(distilled(student(evil, reason=evil, note=evil), name=evil, remarks=[evil]))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[red]x[/red]" in text


# from the ledger


def test_a_finished_distillation_is_read_from_its_ledger_alone(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "agent").close()
    found = look_into(tmp_path / "runs" / "agent")
    assert isinstance(found, Distilled)
    assert condition_of(found) == "finished"
    assert found.chosen is found.students[0]
    assert found.to_json() == body(student("openai/small"))
    out = io.StringIO()
    Console(file=out, width=120).print(runs(runs_below(tmp_path)))
    line = next(line for line in out.getvalue().splitlines() if "agent" in line)
    assert line.split()[1:4] == ["SWITCH", "0.930", "900"]


def test_an_unfinished_one_says_where_it_stands(tmp_path: Path) -> None:
    teacher = Candidate.from_json(BASELINE)
    small = Candidate(teacher.components, settings={"lm": "openai/small"})
    with closing(write(tmp_path / "agent", ended=False)) as ledger:
        stages = [told_stage(tmp_path)]
        for candidate, value in ((teacher, 1.0), (small, 0.0)):
            ledger.record(candidate.id, Rollout(candidate.id, "v0", score=Score(value)), step=0, split="val")
        stages.append(told_stage(tmp_path))
        lane = ledger.lane("openai/small", "round 1")
        lane.append("told", 0, Told(0, "baseline", "baseline", small).to_json())
        stages.append(told_stage(tmp_path))
        ledger.append("opened", 0, {})
        stages.append(told_stage(tmp_path))
    assert [stage.split()[1] for stage in stages] == ["teacher", "students", "students'", "sealed"]
    found = look_into(tmp_path / "agent")
    assert isinstance(found, Underway)
    assert condition_of(found) == "interrupted"
    assert [(one.name, one.val, one.steps) for one in found.attempts] == [("teacher", 1.0, 0), ("openai/small", 0.0, 1)]
    assert "The sealed rows are open" in shown(found)


def told_stage(folder: Path) -> str:
    found = look_into(folder / "agent")
    assert isinstance(found, Underway)
    return found.stage
