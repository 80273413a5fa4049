"""A distillation where no student holds alone: one with the teacher behind it is certified, at a measured cost."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from math import log
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from promptopt.cli import app
from promptopt.core.candidate import Candidate
from promptopt.distill_api import distill
from promptopt.distillation.cascade import Answer, Cascade
from promptopt.distillation.outcome import Distillation
from promptopt.errors import ModelDown, UserError
from promptopt.testing.faulty import Behaviour, Body, FaultyServer, completion, refuse, unauthorized, used
from world import SEED_PROMPT, TEAMS, draw, reflector, rows, team_of, write_distillation, write_rows

TEACHER, STUDENT = {"input": 10.0, "output": 30.0}, {"input": 1.0, "output": 2.0}
PRICES = {"frontier": TEACHER, "small": STUDENT, "judge": STUDENT}
LOGPROBS = {"confidence": "logprobs"}
TEST = 60
answers: list[tuple[dict[str, str], Answer]] = []
"""What the certified cascade answers to tickets that nobody has seen."""
HARD = 0.25
"""Share of tickets that the student can only guess at; no prompt mends that."""


def behave(*, telling: bool = True) -> Behaviour:
    """The student knows the easy tickets, and guesses anew each time at the hard ones, where it is asked hot.

    Where it is `telling`, it tells log-probabilities that know which is which.
    """
    asked: dict[str, int] = {}

    async def reply(_request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        system, user = (body["messages"][place]["content"] for place in (0, -1))
        animal = (re.findall(r"about the (\w+)", user) or [""])[-1]
        if body["model"] == "reflect":
            text = reflector(user, (body.get("response_format") or {}).get("json_schema"))
        elif body["model"] == "judge":
            found = re.findall(r"Ticket \d+ is about the \w+\.", user)[-1]
            text = json.dumps({"reason": "I looked.", "verdict": "yes" if draw("hard", found) >= HARD else "no"})
        elif body["model"] == "frontier":
            knows = system == SEED_PROMPT or "goes to" in system
            text = team_of(animal) if knows else TEAMS[int(draw("weak", user) * len(TEAMS))]
        elif draw("hard", user) >= HARD:
            text = team_of(animal)
        else:
            asked[user] = asked.get(user, 0) + bool(body.get("temperature"))
            text = TEAMS[int(draw("guess", user, asked[user]) * len(TEAMS))]
        size = sum(len(message["content"]) for message in body["messages"]) // 4
        told = [log(certainty(user))] * 2 if telling and body.get("logprobs") else None
        return web.json_response(completion(text, usage=used(size, 2), logprobs=told))

    return reply


def certainty(user: str) -> float:
    """Above 0.8 on an easy ticket, below 0.6 on a hard one."""
    return 0.8 + 0.2 * draw("sure", user) if draw("hard", user) >= HARD else 0.6 * draw("sure", user)


def write(folder: Path, base_url: str, **changes: Any) -> Path:
    write_rows(folder, 20, 32, TEST)
    here: dict[str, Any] = {"margin": 0.15, "cascade": {"samples": 3}, "budget": {"rollouts": 520}}
    return write_distillation(folder, base_url, PRICES, **here | changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Distillation, FaultyServer]:
    folder = tmp_path_factory.mktemp("cascade")
    answers.clear()

    async def ended() -> tuple[Distillation, FaultyServer]:
        async with FaultyServer(behave()) as server:
            made = await asyncio.to_thread(distill, write(folder, server.base_url))
            calls = server.calls
            again = await asyncio.to_thread(distill, folder / "distill.yaml")
            assert server.calls == calls
            assert again.to_json()["cascade"] == made.to_json()["cascade"]
            asked = [{"text": row["text"]} for row in rows(30, 3000)]
            cascade = Cascade.load(folder / "distill.yaml")
            answers.extend(zip(asked, await asyncio.to_thread(cascade.answers, asked), strict=True))
            return made, server

    return asyncio.run(ended())


def test_a_student_that_knows_what_it_does_not_know_is_certified_with_the_teacher_behind_it(
    made: tuple[Distillation, FaultyServer],
) -> None:
    found, _ = made
    assert found.students[0].certificate.outcome != "NON-INFERIOR"
    cascade = found.to_json()["cascade"]
    assert cascade["verdict"] == "NON-INFERIOR"
    assert cascade["student"] == "openai/small"
    assert cascade["threshold"] == 1.0
    assert 0.1 < cascade["escalated"] < 0.35
    assert found.recommendation is not None
    assert found.recommendation.lm == "openai/small, else openai/frontier"
    assert "by a factor of" in found.recommendation.sentence


def test_its_cost_is_the_student_s_samples_always_and_the_teacher_s_share(
    made: tuple[Distillation, FaultyServer],
) -> None:
    found, server = made
    cascade = found.to_json()["cascade"]
    whole = [body for body in server.bodies if 2000 <= ticket(body) < 3000]
    best = found.students[0].candidate.components["system"]
    own = [one for one in whole if one["model"] == "small" and one["messages"][0]["content"] == best]
    assert len(own) == 3 * TEST
    dear = [one for one in whole if one["model"] == "frontier"]
    assert len(dear) == TEST
    wanted = sum(dollars(one, STUDENT) for one in own) / TEST
    sent = cascade["usd_per_1000"] / 1000 - wanted
    each = sum(dollars(one, TEACHER) for one in dear) / TEST
    assert sent == pytest.approx(cascade["escalated"] * each, rel=0.02)
    assert found.cost is not None
    assert cascade["cost_factor"] == pytest.approx((found.cost.usd_per_1000 or 0) / cascade["usd_per_1000"])


@pytest.mark.slow
async def test_a_judge_can_say_how_sure_the_student_is_and_is_waited_for_where_it_is_down(tmp_path: Path) -> None:
    judge = {"type": "judge", "lm": "openai/judge", "rubric": "Is that the ticket's team?", "answer": "yes_no"}
    good, locked, down = behave(), unauthorized("sk-wrong"), {"judge": True}

    async def at_first_without_the_judge(request: web.Request, body: Body) -> web.StreamResponse:
        return await (locked if body["model"] == "judge" and down["judge"] else good)(request, body)

    async with FaultyServer(at_first_without_the_judge) as server:
        path = write(tmp_path, server.base_url, cascade={"confidence": "judge", "judge": judge})
        with pytest.raises(ModelDown, match=r"openai/judge at .* refuses every call"):
            await asyncio.to_thread(distill, path)
        assert not [body for body in server.bodies if ticket(body) >= 2000], "the sealed rows stay closed"
        down["judge"] = False
        made = await asyncio.to_thread(distill, path)
        hard = next(row for row in rows(60, 3000) if draw("hard", row["text"]) < HARD)
        answer = (await asyncio.to_thread(Cascade.load(path).answers, [{"text": hard["text"]}]))[0]
    cascade = made.to_json()["cascade"]
    assert (cascade["verdict"], cascade["samples"]) == ("NON-INFERIOR", 1)
    assert (answer.lm, answer.confidence, answer.output) == ("openai/frontier", 0.0, hard["team"])
    judged = [str(body["messages"]) for body in server.bodies if body["model"] == "judge"]
    assert judged
    assert not [words for words in judged if "expected answer" in words]
    assert made.students[0].cost is not None
    assert cascade["usd_per_1000"] > (made.students[0].cost.usd_per_1000 or 0)


@pytest.mark.slow
async def test_log_probabilities_can_say_how_sure_the_student_is(tmp_path: Path) -> None:
    async with FaultyServer(behave()) as server:
        made = await asyncio.to_thread(distill, write(tmp_path, server.base_url, cascade=LOGPROBS))
    cascade = made.to_json()["cascade"]
    assert (cascade["verdict"], cascade["confidence"], cascade["samples"]) == ("NON-INFERIOR", "logprobs", 1)
    assert 0.4 < cascade["threshold"] < 0.9
    asked = [body for body in server.bodies if body.get("logprobs")]
    assert {body["model"] for body in asked} == {"small"}
    assert len(asked) == 32 + TEST, "one answer to a row, and none while students are searched and tested"
    unsure = sum(certainty(row["text"]) < cascade["threshold"] for row in rows(TEST, 2000))
    assert cascade["escalated"] == unsure / TEST
    own = sum(dollars(body, STUDENT) for body in asked if ticket(body) >= 2000) / TEST
    dear = [body for body in server.bodies if body["model"] == "frontier" and 2000 <= ticket(body) < 3000]
    teacher = sum(dollars(body, TEACHER) for body in dear) / len(dear)
    assert cascade["usd_per_1000"] / 1000 == pytest.approx(own + unsure / TEST * teacher, rel=0.02)


@pytest.mark.slow
async def test_an_endpoint_without_log_probabilities_is_named_and_the_students_are_certified_as_ever(
    tmp_path: Path,
) -> None:
    async with FaultyServer(behave(telling=False)) as server:
        made = await asyncio.to_thread(distill, write(tmp_path, server.base_url, cascade=LOGPROBS))
    assert made.students[0].certificate.test is not None
    note = made.to_json()["cascade"]["note"]
    assert "openai/small gives no log-probabilities (32 of 32 answers came without)" in note


@pytest.mark.slow
async def test_where_the_likeliest_student_dies_the_next_one_is_planned_with(tmp_path: Path) -> None:
    good = behave()

    async def dying(request: web.Request, body: Body) -> web.StreamResponse:
        if body["model"] == "dying" and body["temperature"]:
            return web.json_response({"error": {"message": "gone"}}, status=500)
        return await good(request, body)

    async with FaultyServer(dying) as server:
        students = [{"lm": "openai/small"}, {"lm": "openai/dying"}]
        path = write(tmp_path, server.base_url, students=students, margin=0.2, budget={"rollouts": 800})
        document = json.loads(path.read_text())
        cheap = {"input": 0.1, "output": 0.1}
        document["lms"]["openai/dying"] = {**document["lms"]["openai/small"], "price": cheap, "retries": 0}
        path.write_text(json.dumps(document))
        made = await asyncio.to_thread(distill, path)
    assert made.unserved == ("openai/dying",)
    assert made.to_json()["cascade"]["student"] == "openai/small"


def test_the_certified_cascade_asks_the_teacher_where_the_student_is_unsure(
    made: tuple[Distillation, FaultyServer],
) -> None:
    for row, answer in answers:
        animal = re.findall(r"about the (\w+)", row["text"])[-1]
        if draw("hard", row["text"]) >= HARD:
            assert answer == Answer(team_of(animal), "openai/small", 1.0)
        elif answer.confidence < 1:
            assert (answer.output, answer.lm) == (team_of(animal), "openai/frontier")
    assert {answer.lm for _, answer in answers} == {"openai/small", "openai/frontier"}


def test_the_report_shows_the_cascade_and_export_says_how_it_is_asked(
    made: tuple[Distillation, FaultyServer],
) -> None:
    shown = CliRunner().invoke(app, ["report", str(made[0].directory)]).output
    assert "openai/small, else the teacher" in shown
    assert "unsure of" in " ".join(shown.split())
    exported = CliRunner().invoke(app, ["export", str(made[0].directory)])
    assert exported.exit_code == 0
    assert "Cascade asks them so" in exported.output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cascade": {"samples": 1}}, "cascade.samples must be at least 2"),
        ({"cascade": {"confidence": "judge"}}, "takes a judge"),
        ({"cascade": {"temperature": None}}, "give cascade.temperature"),
        ({"cascade": {"confidence": "logprob"}}, "logprobs"),
        ({"cascade": {"confidence": "judge", "judge": "exact_match"}}, "cascade.judge is no judge"),
        (
            {"cascade": {"confidence": "judge", "judge": {"type": "correctness", "lm": "openai/judge"}}},
            "32 of 32 rows cannot be scored",
        ),
        ({"budget": {"rollouts": 480}}, "budget.rollouts is 480"),
    ],
)
def test_a_cascade_that_cannot_work_is_refused_before_anything_is_spent(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, ["distill", str(write(tmp_path, "http://127.0.0.1:9/v1", **changes))])
    assert done.exit_code == 2
    assert message in done.output


def test_a_cascade_that_nobody_certified_is_not_loaded(tmp_path: Path) -> None:
    path = write(tmp_path, "http://127.0.0.1:9/v1")
    with pytest.raises(UserError, match="Run `promptopt distill` first"):
        Cascade.load(path)
    certify(tmp_path, verdict="INCONCLUSIVE", reason="it saves nothing")
    with pytest.raises(UserError, match="no certified cascade: it saves nothing"):
        Cascade.load(path)


def test_a_cascade_is_not_loaded_as_another_than_was_certified(tmp_path: Path) -> None:
    path = write(tmp_path, "http://127.0.0.1:9/v1")
    certify(tmp_path, samples=5)
    with pytest.raises(UserError, match="a cascade of other samples than the config"):
        Cascade.load(path)


def certify(folder: Path, **how: Any) -> None:
    """What is left of a distillation that certified the student with its first prompt."""
    student = Candidate({"system": SEED_PROMPT, "user": "{text}"}, settings={"lm": "openai/small"})
    said = {"verdict": "NON-INFERIOR", "confidence": "self_consistency", "samples": 3, "temperature": 0.7, **how}
    (folder / "runs" / "tickets").mkdir(parents=True)
    body = {"cascade": {"threshold": 1.0, "candidate": student.to_json(), **said}}
    (folder / "runs" / "tickets" / "result.json").write_text(json.dumps(body))


async def test_a_key_that_the_student_s_endpoint_refuses_is_an_error_and_no_lack_of_confidence(tmp_path: Path) -> None:
    certify(tmp_path)
    async with FaultyServer(unauthorized("sk-wrong")) as server:
        cascade = Cascade.load(write(tmp_path, server.base_url))
        with pytest.raises(ModelDown, match="refuses every call"):
            await asyncio.to_thread(cascade, text="Ticket 1 is about the heron.")


async def test_by_log_probabilities_the_student_is_asked_once_and_the_teacher_where_it_is_unsure(
    tmp_path: Path,
) -> None:
    certify(tmp_path, **LOGPROBS, samples=1, threshold=0.7)
    asked = rows(12, 3000)
    async with FaultyServer(behave()) as server:
        cascade = Cascade.load(write(tmp_path, server.base_url, cascade=LOGPROBS))
        found = await asyncio.to_thread(cascade.answers, [{"text": row["text"]} for row in asked])
    for row, one in zip(asked, found, strict=True):
        assert one.confidence == pytest.approx(certainty(row["text"]))
        assert one.lm == ("openai/small" if one.confidence >= 0.7 else "openai/frontier")
        assert one.output == row["team"]
    models = [body["model"] for body in server.bodies]
    assert models.count("small") == 12
    assert 0 < models.count("frontier") < 12
    assert {body.get("logprobs") for body in server.bodies if body["model"] == "frontier"} == {None}


@pytest.mark.parametrize(
    ("server", "why"),
    [
        (behave(telling=False), "1 of 1 answers came without"),
        (refuse(403, "You are not allowed to request logprobs from this model"), "not allowed to request logprobs"),
    ],
    ids=["silent", "refusing"],
)
async def test_an_endpoint_that_stops_telling_log_probabilities_is_an_error_and_no_lack_of_confidence(
    server: Behaviour, why: str, tmp_path: Path
) -> None:
    certify(tmp_path, **LOGPROBS, samples=1, threshold=0.7)
    async with FaultyServer(server) as endpoint:
        cascade = Cascade.load(write(tmp_path, endpoint.base_url, cascade=LOGPROBS))
        with pytest.raises(UserError, match=f"openai/small gives no log-probabilities .*{why}"):
            await asyncio.to_thread(cascade, text="Ticket 1 is about the heron.")


def ticket(body: Mapping[str, Any]) -> int:
    return int((re.findall(r"Ticket (\d+) is", str(body["messages"][-1]["content"])) or ["0"])[-1])


def dollars(body: Mapping[str, Any], price: Mapping[str, float]) -> float:
    size = sum(len(message["content"]) for message in body["messages"]) // 4
    return (size * price["input"] + 2 * price["output"]) / 1e6
