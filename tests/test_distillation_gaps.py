"""Distillations with gaps: rows that nobody answered, replies that never came, a run that was cut off."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from promptopt.api import plan
from promptopt.distill_api import distill
from promptopt.distillation.plan import DistillPlan
from promptopt.errors import ConfigError, RunError
from promptopt.testing.faulty import Behaviour, Body, FaultyServer, completion, used
from test_distillation import SMALL, behave, write
from world import command, draw

Row = dict[str, Any]


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit the config at `path`."""
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def rewrite(folder: Path, path: Path, made: Callable[[int, Row], Row], ending: str = "jsonl") -> None:
    """Pass every row of every part through `made`, which is told the row's number."""
    for part in ("train", "val", "test"):
        rows: list[Row] = [json.loads(line) for line in (folder / f"{part}.jsonl").read_text().splitlines()]
        rows = [made(number, row) for number, row in enumerate(rows)]
        if ending == "csv":
            lines = ["id,text,team", *(f"{row['id']},{row['text']},{row.get('team') or ''}" for row in rows)]
        else:
            lines = [json.dumps(row) for row in rows]
        (folder / f"{part}.{ending}").write_text("\n".join(lines) + "\n")
    if ending == "csv":
        files = {part: f"{part}.csv" for part in ("train", "val", "test")}
        change(path, lambda document: document["data"].update(files))


def without_every_other_answer(number: int, row: Row) -> Row:
    return {**row, "team": None} if number % 2 else row


def without_the_column(number: int, row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "team"}


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
async def test_where_people_gave_no_answer_the_teacher_s_is_what_counts(tmp_path: Path, ending: str) -> None:
    async with FaultyServer(behave()) as server:
        path = write(tmp_path, server.base_url, 60, students=[SMALL], margin=0.2, budget={"rollouts": 1200},
                     references="mixed")  # fmt: skip
        rewrite(tmp_path, path, without_every_other_answer, ending)
        made = await asyncio.to_thread(distill, path)
    answered = made.students[0].certificate.test
    assert answered is not None
    assert answered.n == 60
    assert made.test is not None
    assert made.test > 0.9
    assert made.self_agreement == 1.0


async def test_no_row_needs_an_answer_where_the_teacher_is_right(tmp_path: Path) -> None:
    async with FaultyServer(behave()) as server:
        path = write(tmp_path, server.base_url, 60, students=[SMALL], margin=0.2, budget={"rollouts": 1200},
                     references="teacher")  # fmt: skip
        rewrite(tmp_path, path, without_the_column)
        change(path, lambda document: document["data"].pop("expected"))
        made = await asyncio.to_thread(distill, path)
    student = made.students[0]
    assert student.before is not None
    assert student.after is not None
    assert student.after > student.before + 0.3


async def test_a_column_of_answers_that_no_row_has_is_a_slip_even_where_the_teacher_answers(tmp_path: Path) -> None:
    path = write(tmp_path, "http://127.0.0.1:9/v1", 60, references="mixed")
    change(path, lambda document: document["data"].update(expected="taem"))
    done = await command("distill", str(path))
    assert done.exit_code == 2
    assert "there is no column 'taem'. Did you mean 'team'?" in " ".join(done.output.split())


async def test_rows_need_an_answer_where_people_are_right(tmp_path: Path) -> None:
    path = write(tmp_path, "http://127.0.0.1:9/v1", 60)
    rewrite(tmp_path, path, without_every_other_answer)
    done = await command("distill", str(path))
    assert done.exit_code == 2
    assert "column 'team' is empty" in done.output


def silent_at_times(share: float) -> Behaviour:
    """The small model knows what the frontier knows, and says nothing at all on a share of the requests."""
    good = behave()

    async def reply(request: web.Request, body: Body) -> web.StreamResponse:
        if body["model"] != "small":
            return await good(request, body)
        if draw("silent", body["messages"][-1]["content"]) < share:
            return web.json_response(completion("", usage=used(10, 0)))
        return await good(request, {**body, "model": "frontier"})

    return reply


@pytest.mark.parametrize(("share", "outcome"), [(0.08, "INCONCLUSIVE"), (0.0, "NON-INFERIOR")])
async def test_a_student_that_often_says_nothing_is_not_certified(tmp_path: Path, share: float, outcome: str) -> None:
    async with FaultyServer(silent_at_times(share)) as server:
        path = write(tmp_path, server.base_url, 150, students=[SMALL], margin=0.06, budget={"rollouts": 1400})
        change(path, lambda document: document["lms"]["openai/small"].update(retries=0))
        made = await asyncio.to_thread(distill, path)
    certificate = made.students[0].certificate
    assert certificate.outcome == outcome
    assert (certificate.missing > 0) == (share > 0)
    if share:
        assert "left counted as wrong" in certificate.reason


async def test_where_the_only_student_dies_the_sealed_rows_stay_closed_until_it_answers(tmp_path: Path) -> None:
    good, dead = behave(), {"small": True}

    async def dying(request: web.Request, body: Body) -> web.StreamResponse:
        if body["model"] == "small" and dead["small"] and sum(one["model"] == "small" for one in server.bodies) > 100:
            return web.json_response({"error": {"message": "gone"}}, status=503)
        return await good(request, body)

    async with FaultyServer(dying) as server:
        path = write(tmp_path, server.base_url, 60, students=[SMALL], margin=0.2, budget={"rollouts": 600})
        change(path, lambda document: document["lms"]["openai/small"].update(retries=0))
        with pytest.raises(RunError, match="no student can be tested, so the sealed rows stay closed: openai/small "):
            await asyncio.to_thread(distill, path)
        assert not any(re.search(r"Ticket 2\d{3}", str(body["messages"])) for body in server.bodies), "test rows ran"
        dead["small"] = False
        made = await asyncio.to_thread(distill, path)
    assert (made.unserved, made.opening) == ((), 1)
    assert made.students[0].certificate.test is not None
    assert made.students[0].certificate.test.n == 60


async def test_rows_that_were_opened_before_are_planned_and_tested_more_strictly(tmp_path: Path) -> None:
    async with FaultyServer(behave()) as server:
        for number in (1, 2):
            run = {"dir": f"runs/{number}", "concurrency": 8}
            path = write(tmp_path, server.base_url, 80, students=[SMALL], margin=0.2, budget={"rollouts": 700}, run=run)
            planned = plan(path)
            assert isinstance(planned, DistillPlan)
            made = await asyncio.to_thread(distill, path)
            assert (planned.power.opening, made.opening) == (number, number)
            assert made.to_json()["level"] == 0.05 / number
        assert "opened once before, and so tested at a level of 0.025" in planned.power.sentence
        assert any("opened once before" in remark for remark in made.remarks)
        again = plan(path)
        log = tmp_path / "runs/test-openings.jsonl"
        opened = json.loads(log.read_text().splitlines()[0])
        others = [json.dumps({**opened, "run": f"other {number}"}) for number in range(40)]
        log.write_text("\n".join(others) + "\n", encoding="utf-8")
        ended = await asyncio.to_thread(distill, path)
        with pytest.raises(ConfigError, match="opened 41 times before"):
            plan(write(tmp_path, server.base_url, 80, students=[SMALL], margin=0.2, run={"dir": "runs/new"}))
    assert isinstance(again, DistillPlan)
    assert again.power.opening == 2, "a run's own opening is no further one"
    assert (ended.opening, ended.spent.calls) == (41, made.spent.calls), "a run that has begun may end"


async def test_what_a_kill_cut_off_is_no_part_of_a_price(tmp_path: Path) -> None:
    async with FaultyServer(behave()) as server:
        changes: dict[str, Any] = {"students": [SMALL], "margin": 0.2, "budget": {"rollouts": 600}}
        made = await asyncio.to_thread(distill, write(tmp_path, server.base_url, 60, **changes))
    assert made.cost is not None
    ledger = tmp_path / "runs/tickets/ledger.sqlite"
    with sqlite3.connect(ledger) as db:
        db.execute(
            "INSERT INTO calls (session, key, purpose, scope, candidate, step, model, state, tokens_in, tokens_out, "
            "usd, at) SELECT session, 'cut off', purpose, scope, candidate, step, model, 'open', 99, 99, '7', at "
            "FROM calls WHERE model = 'openai/frontier' ORDER BY step DESC LIMIT 1"
        )
    again = await asyncio.to_thread(distill, tmp_path / "distill.yaml")
    assert again.cost == made.cost
    assert again.spent.usd > made.spent.usd + 6
