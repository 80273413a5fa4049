"""What the search did: told from stories, and from the ledger of a real run."""

from __future__ import annotations

import asyncio
import io
import sqlite3
from pathlib import Path

import pytest
from rich.console import Console
from stories import BASELINE, Story, start, told, write

from promptopt.api import optimize
from promptopt.config import load
from promptopt.core.candidate import Demo
from promptopt.core.state import Told
from promptopt.report.changes import short_changes
from promptopt.report.folder import Run
from promptopt.report.history import ending, lineage, memory, operator_rows, racing
from promptopt.report.notebook import html
from promptopt.report.scores import score_rows
from promptopt.report.tables import runs
from promptopt.report.terminal import report
from promptopt.result import Result
from promptopt.testing.faulty import FaultyServer
from world import world, write_job

OTTERS = BASELINE.with_text("system", "Name the team.\nBe brief.\nOtters are red.")
HERONS = BASELINE.with_text("system", "Name the team.\nBe brief.\nHerons are blue.")
BOTH = BASELINE.with_text("system", "Name the team.\nBe brief.\nOtters are red.\nHerons are blue.")
SHOWN = BOTH.with_demos("prompt", (Demo("e7", {"text": "q"}, "red"),))

MERGED = [
    start(5, ran=12),
    told(1, "won", OTTERS, 9, ran=12, parent=BASELINE.id, reason="+0.333 ± 0.142 on 12 rows", gain=1 / 3, tokens=900),
    told(2, "won", HERONS, 8, ran=12, parent=BASELINE.id, reason="+0.250 ± 0.131 on 12 rows", gain=1 / 4, tokens=400),
    told(3, "behind", SHOWN, 0, ran=8, parent=OTTERS.id, operator="demos", note="1 demo", reason="mends none"),
    told(
        4,
        "won",
        BOTH,
        11,
        ran=12,
        parent=OTTERS.id,
        operator="merge",
        note=f"what {HERONS.id} changed, on the incumbent",
        reason="+0.167 ± 0.112 on 12 rows",
        gain=1 / 6,
    ),
    told(5, "completed", BOTH, 16, operator="finalist"),
]


def shown(result: Result, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(report(result))
    return out.getvalue()


def section(text: str, title: str) -> list[str]:
    """The lines below a title, up to the next one."""
    lines = [line.rstrip() for line in text.splitlines()]
    below = lines[lines.index(title) + 1 :]
    return below[: below.index("")]


def in_lines(result: Result) -> list[str]:
    """The lineage as lines of text."""
    return [
        line
        for advance in lineage(result)
        for line in (advance.title, *(line for text in advance.changes.texts for line in text.lines))
    ]


def test_the_lineage_names_every_step_its_operator_its_gain_and_what_it_changed(tmp_path: Path) -> None:
    result = write(tmp_path, Story(MERGED, (0.2, 0.8), BOTH))
    assert in_lines(result) == [
        "step 1, rules: +0.333 ± 0.142 on 12 rows",
        "+ Otters are red.",
        "step 4, merge of what step 2 changed, on the incumbent: +0.167 ± 0.112 on 12 rows",
        "+ Herons are blue.",
    ]


def test_the_lineage_shows_demos_by_their_rows(tmp_path: Path) -> None:
    result = write(tmp_path, Story([start(), told(1, "won", SHOWN, 15, parent=BASELINE.id)], (0.2, 0.8), SHOWN))
    assert "prompt: 1 demo added (e7)" in "\n".join(section(shown(result), "How it came about, step by step"))


def test_a_long_change_is_cut_to_a_few_lines_that_went_and_came() -> None:
    before = BASELINE.with_text("system", "\n".join(f"Old rule {i}." for i in range(9)))
    after = BASELINE.with_text("system", "\n".join(f"New rule {i}." for i in range(7)))
    (change,) = short_changes(before, after).texts
    assert change.lines[:4] == tuple(f"- Old rule {i}." for i in range(4))
    assert change.lines[4:8] == tuple(f"+ New rule {i}." for i in range(4))
    assert change.lines[8:] == ("… and 8 more lines",)


def test_a_prompt_in_one_paragraph_is_compared_by_sentences() -> None:
    before = BASELINE.with_text("system", "Name the team. Be brief, e.g. red. Version 1.5 counts.")
    after = BASELINE.with_text("system", "Name the team. Otters are red! Version 1.5 counts.")
    (change,) = short_changes(before, after).texts
    assert not [line for line in change.lines if "Name the team" in line or "Version" in line]
    assert change.lines[-1] == "+ Otters are red!"


def test_of_two_steps_that_made_the_same_candidate_the_one_that_won_counts(tmp_path: Path) -> None:
    steps = [
        start(),
        told(1, "behind", OTTERS, 1, ran=8, parent=BASELINE.id, reason="behind by 0.25 after 8 rows"),
        told(2, "won", OTTERS, 15, parent=BASELINE.id, reason="+0.500 ± 0.115 on 20 rows"),
    ]
    result = write(tmp_path, Story(steps, (0.2, 0.8), OTTERS))
    assert in_lines(result)[0] == "step 2, rules: +0.500 ± 0.115 on 20 rows"
    assert sum("rules: " in line for line in section(shown(result), "Candidates")) == 1


def test_operators_come_by_what_they_gained_with_what_they_cost(tmp_path: Path) -> None:
    rows = list(operator_rows(write(tmp_path, Story(MERGED, (0.2, 0.8), BOTH)).state))
    assert rows == [
        ("rules", "2", "2", "+0.583", "1,300"),
        ("merge", "1", "1", "+0.167", "0"),
        ("demos", "1", "0", "–", "0"),
    ]


def test_racing_is_told_in_rollouts_and_as_a_share(tmp_path: Path) -> None:
    result = write(tmp_path, Story(MERGED, (0.2, 0.8), BOTH))
    assert racing(result) == (
        "5 candidates were scored. On all 20 val rows each, that would have been 100 rollouts; "
        "64 were run, so racing saved 36 (36 %)."
    )


def test_before_anything_raced_there_is_nothing_to_say_of_racing(tmp_path: Path) -> None:
    assert racing(write(tmp_path, Story([start()]))) == ""


def test_a_finalist_is_no_new_candidate(tmp_path: Path) -> None:
    result = write(tmp_path, Story(MERGED, (0.2, 0.8), BOTH))
    tree = section(shown(result, 160), "Candidates")
    assert sum("step" in line for line in tree) == 4
    assert "won (champion, 0.800 on 20 rows), step 4, merge: +0.167" in " ".join(tree)
    assert result.to_json()["candidates"] == 5


def test_scores_are_compared_on_the_rows_that_both_prompts_have(tmp_path: Path) -> None:
    result = write(tmp_path, Story(MERGED, (0.2, 0.8), BOTH))
    val = {row.label: (row.current, row.new, row.difference) for row in score_rows(result) if "val" in row.label}
    assert val == {
        "val, 12 rows that both have": ("0.417", "1.000", "+0.583"),
        "val, 20 rows": ("–", "0.800", "–"),
    }


def test_scores_on_all_val_rows_need_no_second_line(tmp_path: Path) -> None:
    steps = [start(), told(1, "won", OTTERS, 15, parent=BASELINE.id)]
    labels = [row.label for row in score_rows(write(tmp_path, Story(steps, (0.2, 0.8), OTTERS)))]
    assert [label for label in labels if "val" in label] == ["val, 20 rows"]


def test_a_row_without_a_score_is_left_out_of_the_comparison(tmp_path: Path) -> None:
    missing = Told(
        1, "rules", "won", OTTERS, BASELINE.id, val={OTTERS.id: {f"v{i}": 1.0 for i in range(19)} | {"v19": None}}
    )
    row = next(
        row for row in score_rows(write(tmp_path, Story([start(), missing], (0.2, 0.8), OTTERS))) if "val" in row.label
    )
    assert (row.label, row.current, row.new) == ("val, 19 rows that both have", "0.263", "1.000")


def test_the_memory_says_why_each_edit_did_not_help_the_newest_first(tmp_path: Path) -> None:
    lost = told(6, "lost", OTTERS, 1, parent=BOTH.id, note=f"what {HERONS.id} changed", reason="-0.010 ± 0.020")
    result = write(tmp_path, Story([*MERGED, lost], (0.2, 0.8), BOTH))
    assert list(memory(result)) == [("what step 2 changed", "-0.010 ± 0.020"), ("1 demo", "mends none")]
    told_so = section(shown(result), "Edits that did not help, as the reflection model is told")
    assert "• 1 demo (mends none)" in told_so[1]


ENDINGS = {
    "budget: usd": "The search used up its share of budget.usd.",
    "target: val reached 0.912, which is at least 0.9": (
        "The search met strategy.target: val reached 0.912, which is at least 0.9."
    ),
    "patience: no improvement in the last 8 proposals": (
        "The search lost patience (strategy.patience): no improvement in the last 8 proposals."
    ),
    "reflection: nothing usable 8 times in a row (cut off: 8)": (
        "The search ended because the reflection model was of no use: nothing usable 8 times in a row (cut off: 8)."
    ),
    "no new proposals: the last 24 were refused or repeats": (
        "The search ran out of ideas: the last 24 were refused or repeats."
    ),
    "interrupted": "The search was interrupted.",
    "something else": "The search ended: something else.",
}


@pytest.mark.parametrize(("reason", "sentence"), ENDINGS.items())
def test_why_the_search_stopped_is_a_sentence(tmp_path: Path, reason: str, sentence: str) -> None:
    assert ending(reason) == sentence
    if reason != "interrupted":
        text = " ".join(shown(write(tmp_path, Story(MERGED, (0.2, 0.8), BOTH, reason=reason))).split())
        assert sentence in text


@pytest.mark.parametrize("setting", ["target", "patience"])
def test_a_search_that_a_setting_ended_can_be_told_to_go_on(tmp_path: Path, setting: str) -> None:
    text = " ".join(shown(write(tmp_path, Story([start()], reason=f"{setting}: enough"))).split())
    assert f"To search on, raise strategy.{setting}" in text


def test_before_the_end_the_report_is_about_what_leads_so_far(tmp_path: Path) -> None:
    result = write(tmp_path, Story(MERGED[:-1], finished=False))
    assert (result.leader.id, result.best.id) == (BOTH.id, BASELINE.id)
    text = shown(result, 120)
    assert "It leads so far." in text
    assert "won (leads so far, 0.917 on 12 rows), step 4" in text
    assert "step 4, merge of what step 2 changed" in text
    out = io.StringIO()
    Console(file=out).print(runs([Run("x", 1.0, result, "running")]))
    assert "0.917" in out.getvalue()


def test_the_frame_has_a_row_a_step_and_what_its_race_saved(tmp_path: Path) -> None:
    frame = write(tmp_path, Story(MERGED, (0.2, 0.8), BOTH)).to_frame()
    assert list(frame["outcome"]) == ["baseline", "won", "won", "behind", "won", "completed"]
    assert list(frame["saved"]) == [8, 8, 8, 12, 8, 0]


WITHOUT_TEST = {"train": "train.jsonl", "val": "val.jsonl", "inputs": ["text"], "expected": "team", "id": "id"}


def distinct_val_rollouts(folder: Path) -> int:
    with sqlite3.connect(folder / "runs" / "tickets" / "ledger.sqlite") as db:
        (n,) = db.execute(
            "SELECT COUNT(*) FROM (SELECT DISTINCT candidate, example FROM rollouts WHERE split = 'val')"
        ).fetchone()
    return n


def titles(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith((" ", "╭", "│", "╰"))]


async def test_a_real_run_tells_its_story_from_the_ledger(tmp_path: Path) -> None:
    async with FaultyServer(world()) as server:
        job = load(write_job(tmp_path, server.base_url, data=WITHOUT_TEST, budget={"rollouts": 240}))
        result = await asyncio.to_thread(optimize, job)
    assert f"; {distinct_val_rollouts(tmp_path):,} were run, so racing saved " in racing(result)
    told_of = "\n".join(in_lines(result))
    rules = [line for line in result.best.components["system"].splitlines() if "goes to" in line]
    assert rules
    assert all(f"+ {rule}" in told_of for rule in rules)
    text = shown(result, 120)
    assert {"Operators", "What racing saved", "Candidates", "Scores"} <= set(titles(text))
    assert lineage(result)[0].title in text
    assert lineage(result)[0].title in html(result)
    assert "The search " in text
