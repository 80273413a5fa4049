"""A distillation where no student holds alone: one with the teacher behind it is certified, at a measured cost."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
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
from promptopt.testing.faulty import Behaviour, FaultyServer, completion, unauthorized, used
from world import SEED_PROMPT, TEAMS, draw, reflector, rows, team_of

TEACHER, STUDENT = {"input": 10.0, "output": 30.0}, {"input": 1.0, "output": 2.0}
TEST = 60
answers: list[tuple[dict[str, str], Answer]] = []
"""What the certified cascade answers to tickets that nobody has seen."""
HARD = 0.25
"""Share of tickets that the student can only guess at; no prompt mends that."""


def behave() -> Behaviour:
    """The student knows the easy tickets, and guesses anew each time at the hard ones, where it is asked hot."""
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
        return web.json_response(completion(text, usage=used(size, 2)))

    return reply


def write(folder: Path, base_url: str, **changes: Any) -> Path:
    for name, n, start in (("train", 20, 0), ("val", 32, 1000), ("test", TEST, 2000)):
        lines = [json.dumps(row) for row in rows(n, start)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    at = {"api_base": base_url, "timeout": 30.0}
    config: dict[str, Any] = {
        "name": "tickets",
        "teacher": {"lm": "openai/frontier"},
        "students": [{"lm": "openai/small", "name": "small"}],
        "margin": 0.15,
        "weak": "Answer with one word.",
        "cascade": {"samples": 3},
        "program": {"type": "prompt", "lm_args": {"max_tokens": 8, "temperature": 0}, "system": SEED_PROMPT,
                    "user": "{text}"},
        "data": {"train": "train.jsonl", "val": "val.jsonl", "test": "test.jsonl", "inputs": ["text"],
                 "expected": "team", "id": "id"},
        "metric": {"type": "exact_match"},
        "reflection": {"lm": "openai/reflect", "lm_args": {"max_tokens": 400}},
        "budget": {"rollouts": 520},
        "lms": {
            "openai/frontier": {**at, "price": TEACHER},
            "openai/small": {**at, "price": STUDENT},
            "openai/judge": {**at, "price": STUDENT},
            "openai/reflect": {**at, "price": {"input": 1.0, "output": 1.0}},
        },
    }  # fmt: skip
    path = folder / "distill.yaml"
    path.write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return path


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
    assert cascade["student"] == "small"
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
    assert cascade["cost_factor"] == pytest.approx((found.cost.usd_per_1000 or 0) / cascade["usd_per_1000"])


@pytest.mark.slow
async def test_a_judge_can_say_how_sure_the_student_is(tmp_path: Path) -> None:
    judge = {"type": "judge", "lm": "openai/judge", "rubric": "Is that the ticket's team?", "answer": "yes_no"}
    async with FaultyServer(behave()) as server:
        path = write(tmp_path, server.base_url, cascade={"confidence": "judge", "judge": judge})
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
    assert "small, else the teacher" in shown
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
    (tmp_path / "runs" / "tickets").mkdir(parents=True)
    result = tmp_path / "runs" / "tickets" / "result.json"
    result.write_text(json.dumps({"cascade": {"note": "it saves nothing"}}))
    with pytest.raises(UserError, match="no certified cascade: it saves nothing"):
        Cascade.load(path)
    certified = {"verdict": "NON-INFERIOR", "confidence": "self_consistency", "samples": 5, "temperature": 0.7}
    result.write_text(json.dumps({"cascade": certified}))
    with pytest.raises(UserError, match="a cascade of other samples than the config"):
        Cascade.load(path)


async def test_a_key_that_the_student_s_endpoint_refuses_is_an_error_and_no_lack_of_confidence(tmp_path: Path) -> None:
    student = Candidate({"system": SEED_PROMPT, "user": "{text}"}, settings={"lm": "openai/small"})
    certified = {"verdict": "NON-INFERIOR", "confidence": "self_consistency", "samples": 3, "temperature": 0.7}
    (tmp_path / "runs" / "tickets").mkdir(parents=True)
    result = tmp_path / "runs" / "tickets" / "result.json"
    result.write_text(json.dumps({"cascade": {**certified, "threshold": 1.0, "candidate": student.to_json()}}))
    async with FaultyServer(unauthorized("sk-wrong")) as server:
        cascade = Cascade.load(write(tmp_path, server.base_url))
        with pytest.raises(ModelDown, match="refuses every call"):
            await asyncio.to_thread(cascade, text="Ticket 1 is about the heron.")


def ticket(body: Mapping[str, Any]) -> int:
    return int((re.findall(r"Ticket (\d+) is", str(body["messages"][-1]["content"])) or ["0"])[-1])


def dollars(body: Mapping[str, Any], price: Mapping[str, float]) -> float:
    size = sum(len(message["content"]) for message in body["messages"]) // 4
    return (size * price["input"] + 2 * price["output"]) / 1e6
