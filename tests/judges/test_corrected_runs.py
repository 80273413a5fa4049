"""A finished run's verdict, corrected by what people say of a part of its test rows."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from promptopt.api import optimize
from promptopt.cli import app
from promptopt.config import load
from promptopt.core.example import Example
from promptopt.core.guard import judge_test
from promptopt.core.rollout import Rollout
from promptopt.core.sealed import Pair
from promptopt.errors import DataError, UserError
from promptopt.judge_api import correct, label_sheet
from promptopt.judges.sheet import sheet
from promptopt.result import Result
from promptopt.testing.faulty import Behaviour, FaultyServer, completion, used
from world import answer, draw, team_of, write_job


def judged(body: Mapping[str, Any]) -> str:
    """A judge that lets half of the wrong teams pass."""
    shown = body["messages"][1]["content"]
    animal, team = re.findall(r"about the (\w+)", shown)[-1], re.findall(r"^(red|green|blue|amber)$", shown, re.M)[-1]
    fine = team == team_of(animal) or draw("lenient", shown) < 0.5
    told = f"Wanted {team_of(animal)} for the {animal}."
    return json.dumps({"reason": told, "verdict": "yes" if fine else "no"})


def behave() -> Behaviour:
    async def reply(_request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        text = judged(body) if "judge" in body["model"] else answer(body)
        return web.json_response(completion(text, usage=used(100, 10)))

    return reply


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a run that has opened its test."""
    folder = tmp_path_factory.mktemp("judged")

    async def run() -> Result:
        async with FaultyServer(behave()) as server:
            model = {"api_base": server.base_url, "price": {"input": 1.0, "output": 2.0}}
            lms = dict.fromkeys(("openai/student", "openai/reflect", "openai/judge"), model)
            metric = {"type": "judge", "lm": "openai/judge", "rubric": "Is the team right?", "reference": False}
            write_job(folder, server.base_url, metric=metric, lms=lms, budget={"rollouts": 420})
            return await asyncio.to_thread(optimize, folder / "job.yaml")

    assert asyncio.run(run()).opened
    return folder / "job.yaml"


def filled(text: str, label: Any) -> str:
    """A sheet with `label(ticket, output)` in every line."""
    lines = list(csv.DictReader(io.StringIO(text)))
    for line in lines:
        line["label"] = label(line["input: text"], line["output"])
    written = io.StringIO()
    table = csv.DictWriter(written, lines[0].keys())
    table.writeheader()
    table.writerows(lines)
    return written.getvalue()


def truth(ticket: str, output: str) -> str:
    return "yes" if output == team_of(re.findall(r"about the (\w+)", ticket)[-1]) else "no"


def test_a_sheet_has_both_outputs_and_does_not_tell_whose_they_are(finished: Path) -> None:
    lines = list(csv.DictReader(io.StringIO(label_sheet(finished, rows=40))))
    assert len(lines) == 80
    tickets = [line["input: text"] for line in lines]
    assert all(tickets.count(ticket) == 2 for ticket in tickets)
    assert len({line["line"] for line in lines}) == 80
    result = optimize(finished)
    assert not any(name in json.dumps(lines) for name in (result.best.id, result.baseline.id))
    assert label_sheet(finished, rows=40) == label_sheet(finished, rows=40)


def test_labels_correct_the_verdict_and_count_as_another_opening(finished: Path, tmp_path: Path) -> None:
    before = optimize(finished)
    assert before.test is not None
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(filled(label_sheet(finished, rows=50), truth))
    after = correct(finished, sheet)
    assert after.test is not None
    assert after.test["labelled"] == 50
    assert after.test["opening"] == before.test["opening"] + 1
    assert after.test["diff"] > before.test["diff"]  # a lenient judge hides a part of the gain
    assert "people's labels on 50 of 60 unseen rows" in after.reasons[0]
    assert after.verdict == "PROMOTE"
    written = json.loads((finished.parent / "runs/tickets/result.json").read_text())
    assert written["test"]["labelled"] == 50
    assert optimize(finished).test == after.test


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (lambda *_: "", "no row whose two outputs both have a label"),
        (lambda *_: "maybe", 'row 1: the label is no answer: "maybe" is not "no" or "yes"'),
        (lambda ticket, output: truth(ticket, output) if int(ticket.split()[1]) < 2008 else "", "at least 10"),
    ],
)
def test_labels_that_cannot_be_used_change_nothing(label: Any, message: str, finished: Path, tmp_path: Path) -> None:
    before = optimize(finished).test
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(filled(label_sheet(finished, rows=60), label))
    with pytest.raises(UserError, match=re.escape(message)):
        correct(finished, sheet)
    assert optimize(finished).test == before


def test_a_sheet_of_another_run_is_named(finished: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("line,label\nabc123,yes\n")
    with pytest.raises(DataError, match="'abc123' is no line of this run's sheet"):
        correct(finished, sheet)


def test_lines_in_another_order_or_twice_and_labels_in_capitals_are_the_same_labels(
    finished: Path, tmp_path: Path
) -> None:
    blank = label_sheet(finished, rows=30)
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(filled(blank, truth))
    first = correct(finished, sheet).test
    header, *lines = filled(blank, lambda *row: f" {truth(*row).upper()} ").splitlines()
    sheet.write_text("\n".join([header, *reversed(lines), lines[0]]), encoding="utf-8-sig")
    assert correct(finished, sheet).test == first  # and no other opening of the test


def test_a_line_with_two_labels_is_named(finished: Path, tmp_path: Path) -> None:
    lines = filled(label_sheet(finished, rows=30), lambda *_: "yes").splitlines()
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("\n".join([*lines, lines[1].replace(",yes,", ",no,")]))
    with pytest.raises(DataError, match=r"row 61: 'line-\w+' has another label above"):
        correct(finished, sheet)


def test_a_sheet_without_its_label_column_is_named(finished: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(label_sheet(finished, rows=30).replace(",label,", ",Label,"))
    with pytest.raises(DataError, match="there is no column 'label'"):
        correct(finished, sheet)


def test_no_line_of_a_sheet_looks_like_a_number(finished: Path) -> None:
    assert all(line["line"].startswith("line-") for line in csv.DictReader(io.StringIO(label_sheet(finished))))


def test_a_sheet_that_people_may_have_filled_is_not_overwritten(finished: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("labelled")
    done = CliRunner().invoke(app, ["judge", "sheet", str(finished), "--out", str(sheet)])
    assert done.exit_code == 2
    assert "is there already" in done.output
    assert sheet.read_text() == "labelled"


def test_before_the_test_is_open_there_is_nothing_to_label(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run directory"):
        label_sheet(load(finished), run_dir=tmp_path)


def test_a_judge_that_flatters_the_new_prompt_does_not_promote_it() -> None:
    """The judge gives it 15 points for nothing; people see no difference."""
    pairs, people = list[Pair](), dict[str, tuple[float, float]]()
    for number in range(400):
        right = float(draw("right", number) < 0.5)
        flattered = max(right, float(draw("flatter", number) < 0.3))
        pairs.append(Pair(str(number), right, flattered))
        if number < 150:
            people[str(number)] = (right, right)
    assert judge_test(pairs, binary=True).outcome == "PROMOTE"
    corrected = judge_test(pairs, binary=True, opening=2, people=people)
    assert corrected.outcome == "INCONCLUSIVE"
    assert corrected.test is not None
    assert abs(corrected.test.diff) < 0.05


def test_no_cell_of_a_sheet_is_a_formula() -> None:
    rows = [Example("r", {"question": "@SUM(A1)"})]
    outputs = ('=HYPERLINK("http://127.0.0.1", "open")', "-5")
    rollouts = [Rollout(str(number), "r", output=output) for number, output in enumerate(outputs)]
    written = list(csv.DictReader(io.StringIO(sheet(rows, rollouts, 1, 0))))
    assert {line["output"] for line in written} == {f"'{outputs[0]}", "-5"}
    assert {line["input: question"] for line in written} == {"'@SUM(A1)"}
