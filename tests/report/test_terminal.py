"""The report of a run in a terminal, from ledgers as runs write them."""

from __future__ import annotations

import io
import unicodedata
from pathlib import Path

import pytest
from rich.console import Console
from stories import BASELINE, Story, start, told, write

from promptopt.core.candidate import Demo
from promptopt.core.rollout import Failure
from promptopt.core.state import Told
from promptopt.report.advice import Condition
from promptopt.report.terminal import report, summary
from promptopt.result import Result

BEST = BASELINE.with_text("system", "Name the team.\nBe brief.\nOtters are red.")
SECOND = BEST.with_demos("prompt", (Demo("e7", {"text": "q"}, "red"),))
WON = told(1, "won", BEST, 15, parent=BASELINE.id, gain=0.5, note="add to system: Otters are red.")
PROMOTED = Story([start(), WON], (0.2, 0.8), BEST)


def shown(result: Result, width: int = 100, condition: Condition = "finished", color: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=color, color_system="truecolor" if color else None)
    console.print(report(result, condition))
    return out.getvalue()


def flat(text: str) -> str:
    """The words alone, without line breaks and the frame."""
    return " ".join(text.replace("│", " ").split())


def test_it_begins_with_the_verdict_in_a_sentence(tmp_path: Path) -> None:
    text = flat(shown(write(tmp_path, PROMOTED)))
    assert "PROMOTE: the new prompt scored 0.80 against 0.20 on 40 unseen rows" in text
    assert text.index("PROMOTE") < text.index("Scores") < text.index("What to do next")
    assert "Use the new prompt." in text


def test_val_scores_are_called_optimistic_and_only_the_test_has_an_interval(tmp_path: Path) -> None:
    lines = shown(write(tmp_path, PROMOTED)).splitlines()
    test = next(line for line in lines if "sealed test, 40 unseen rows" in line)
    val = next(line for line in lines if "val, 20 rows" in line)
    assert "+0.600" in test
    assert " to " in test
    assert "0.250" in val
    assert "0.750" in val
    assert " to " not in val
    assert "selection score, optimistic" in lines[lines.index(val) + 1]


def test_the_change_is_shown_line_by_line_and_demos_by_their_rows(tmp_path: Path) -> None:
    story = Story([start(), WON, told(2, "won", SECOND, 19, parent=BEST.id, operator="demos")], (0.2, 0.8), SECOND)
    text = shown(write(tmp_path, story))
    assert "  + Otters are red." in text
    assert "    Be brief." in text
    assert "prompt: 1 demo added (e7)" in text


def test_spend_is_split_by_purpose(tmp_path: Path) -> None:
    story = Story([start(), WON], (0.2, 0.8), BEST, calls={"program": 1000, "reflection": 50, "judge": 9})
    rows = {
        line.split("  ")[1].strip(): line.split() for line in shown(write(tmp_path, story)).splitlines() if "$" in line
    }
    assert rows["program"][-4:] == ["1", "1,000", "7", "$0.25"]
    assert rows["reflection"][-3:] == ["50", "7", "$0.25"]
    assert rows["judge"][-3:] == ["9", "7", "$0.25"]
    assert rows["the whole run"][-6:] == ["80", "3", "0", "1,059", "21", "$0.75"]


def test_candidates_hang_below_their_parents(tmp_path: Path) -> None:
    third = BASELINE.with_text("system", "Something else.")
    steps = [
        start(),
        WON,
        told(2, "won", SECOND, 19, parent=BEST.id, operator="demos"),
        told(3, "behind", third, 2, parent=BASELINE.id, operator="rewrite"),
    ]
    lines = shown(write(tmp_path, Story(steps, (0.2, 0.8), SECOND))).splitlines()
    depth = {
        word: next(line for line in lines if outcome in line and f", {word}: " in line).index(outcome)
        for word, outcome in (("rules", "won"), ("demos", "won"), ("rewrite", "behind"))
    }
    assert depth["demos"] > depth["rules"] == depth["rewrite"]
    assert "(champion, 0.950 on 20 rows)" in next(line for line in lines if ", demos: " in line and "won" in line)


def test_refusals_operators_and_failures_are_counted(tmp_path: Path) -> None:
    steps = [start(), WON, Told(2, "rules", "refused", refused={"too long": 2, "unchanged": 1})]
    story = Story(steps, (0.2, 0.8), BEST, failure=Failure("timeout", "the rollout took longer than 3 s"))
    text = flat(shown(write(tmp_path, story)))
    assert "too long: 2; unchanged: 1" in text
    assert "1 on val: timeout, such as the rollout took longer than 3 s" in text
    assert "rules 2 1 +0.500 0" in text


NEXT = {
    "promoted": (PROMOTED, "finished", "promptopt export"),
    "nothing better": (Story([start()]), "finished", "used up budget.rollouts"),
    "a loss": (Story([start(), WON], (0.9, 0.1), BEST), "finished", "Keep the current prompt."),
    "unclear": (Story([start(), WON], (0.5, 0.55), BEST), "finished", "Add test rows"),
    "interrupted": (Story([start(), WON], finished=False), "interrupted", "Run the same command again"),
    "running": (Story([start(), WON], finished=False), "running", "Wait for it"),
}


@pytest.mark.parametrize(("story", "condition", "advice"), NEXT.values(), ids=NEXT.keys())
def test_what_to_do_next_depends_on_how_it_ended(
    tmp_path: Path, story: Story, condition: Condition, advice: str
) -> None:
    text = flat(shown(write(tmp_path, story), condition=condition))
    assert advice in text[text.index("What to do next") :]


def test_an_unfinished_run_has_no_verdict(tmp_path: Path) -> None:
    result = write(tmp_path, Story([start(), WON], finished=False))
    assert "INTERRUPTED: 2 steps so far" in flat(shown(result, condition="interrupted"))
    running = flat(shown(result, condition="running"))
    assert "RUNNING: 2 steps so far" in running
    assert "interrupted" not in running.lower()


def test_a_run_without_any_step_has_a_report(tmp_path: Path) -> None:
    result = write(tmp_path, Story(finished=False))
    assert "INTERRUPTED: 0 steps so far" in flat(shown(result, condition="interrupted"))
    nothing = {"baseline": None, "best": None, "rows": {"baseline": 0, "best": 0}, "optimistic": True}
    assert result.to_json()["val"] == nothing


EVIL = "\x1b]0;owned\x07\x1b[2J\u202e[bold]x[/bold]"


def test_nothing_in_a_run_can_move_the_terminal(tmp_path: Path) -> None:
    evil = BASELINE.with_text("system", f"{EVIL}\r{EVIL}").with_text(EVIL, EVIL)
    evil = evil.with_demos(EVIL, (Demo(EVIL, {EVIL: EVIL}, EVIL),))
    step = told(1, "won", evil, 15, parent=BASELINE.id, operator=EVIL, note=EVIL, reason=EVIL, refused={EVIL: 3})
    story = Story([start(), step], (0.2, 0.8), evil, name=EVIL, failure=Failure(EVIL, EVIL), reason=EVIL)
    text = shown(write(tmp_path, story))
    assert {char for char in text if unicodedata.category(char) in ("Cc", "Cf")} == {"\n"}
    assert "owned" not in text
    assert "[bold]x[/bold]" in text


@pytest.mark.parametrize("width", [30, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(tmp_path: Path, width: int) -> None:
    assert max(map(len, shown(write(tmp_path, PROMOTED), width).splitlines())) <= width


def test_no_color_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = write(tmp_path, PROMOTED)
    assert "\x1b[32m" in shown(result, color=True) or "\x1b[1;32m" in shown(result, color=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "32m" not in shown(result, color=True)


def test_the_summary_leaves_the_long_parts_out(tmp_path: Path) -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(summary(write(tmp_path, PROMOTED)))
    text = out.getvalue()
    assert "PROMOTE" in text
    assert "What to do next" in text
    assert "Candidates" not in text
