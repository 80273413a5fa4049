"""`promptopt distill`, whole, on a simulated endpoint: a teacher that knows, students that can learn or cannot."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp import web

from promptopt.distill_api import distill
from promptopt.errors import RunChanged
from promptopt.testing.faulty import Behaviour, FaultyServer, completion, used
from world import SEED_PROMPT, TEAMS, draw, reflector, rows, student, team_of

SMALL = {"lm": "openai/small"}
PRICES = {"frontier": {"input": 10.0, "output": 30.0}, "small": {"input": 1.0, "output": 2.0}}


def teacher(system: str, user: str) -> str:
    """It knows every team, unless its prompt does not even say which there are, and errs now and then."""
    animal = re.findall(r"about the (\w+)", user)[-1]
    if "red, green, blue or amber" not in system or draw("slip", user) < 0.05:
        return TEAMS[int(draw("guess", user) * len(TEAMS))]
    return team_of(animal)


def behave() -> Behaviour:
    async def reply(_request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        system = "\n".join(m["content"] for m in body["messages"] if m["role"] == "system")
        user = "\n".join(m["content"] for m in body["messages"] if m["role"] != "system")
        match body["model"]:
            case "frontier":
                text = teacher(system, user)
            case "small":
                text = student(system, user)
            case "hopeless":
                text = TEAMS[int(draw("hopeless", user) * len(TEAMS))]
            case _:
                text = reflector(user, (body.get("response_format") or {}).get("json_schema"))
        size = sum(len(m["content"]) for m in body["messages"]) // 4
        return web.json_response(completion(text, usage=used(size, 2)))

    return reply


def write(folder: Path, base_url: str, **changes: Any) -> Path:
    for name, n, start in (("train", 40, 0), ("val", 40, 1000), ("test", 300, 2000)):
        lines = [json.dumps(row) for row in rows(n, start)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    at = {"api_base": base_url, "timeout": 5.0}
    config: dict[str, Any] = {
        "name": "tickets",
        "teacher": {"lm": "openai/frontier"},
        "students": [{"lm": "openai/small"}, {"lm": "openai/hopeless"}],
        "margin": 0.1,
        "weak": "Answer with one word.",
        "traffic": {"requests_per_month": 2_000_000},
        "program": {"type": "prompt", "lm_args": {"max_tokens": 8}, "system": SEED_PROMPT, "user": "{text}"},
        "data": {"train": "train.jsonl", "val": "val.jsonl", "test": "test.jsonl", "inputs": ["text"],
                 "expected": "team", "id": "id"},
        "metric": {"type": "exact_match"},
        "reflection": {"lm": "openai/reflect", "lm_args": {"max_tokens": 400}},
        "budget": {"rollouts": 2800},
        "run": {"dir": "runs/tickets", "concurrency": 8},
        "lms": {
            "openai/frontier": {**at, "price": PRICES["frontier"]},
            "openai/small": {**at, "price": PRICES["small"]},
            "openai/hopeless": {**at, "price": {"input": 0.1, "output": 0.1}},
            "openai/reflect": {**at, "price": {"input": 1.0, "output": 1.0}},
        },
    }  # fmt: skip
    path = folder / "distill.yaml"
    path.write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return path


async def test_a_student_that_can_learn_is_certified_and_one_that_cannot_is_refused(tmp_path: Path) -> None:
    async with FaultyServer(behave()) as server:
        made = await asyncio.to_thread(distill, write(tmp_path, server.base_url))
        calls = server.calls
        again = await asyncio.to_thread(distill, tmp_path / "distill.yaml")
    small, hopeless = made.students
    assert small.certificate.outcome == "NON-INFERIOR"
    assert hopeless.certificate.outcome == "INFERIOR"
    assert small.before is not None
    assert small.after is not None
    assert small.after > small.before + 0.3
    assert made.recommendation is not None
    assert made.recommendation.lm == "openai/small"
    assert "goes to" in made.recommendation.candidate.components["system"]
    assert made.spent.rollouts <= 2800
    assert server.calls == calls
    written = json.loads((tmp_path / "runs/tickets/result.json").read_text())
    assert written["students"][0]["verdict"] == "NON-INFERIOR"
    assert again.to_json()["students"] == written["students"]


async def test_a_run_directory_belongs_to_one_distillation(tmp_path: Path) -> None:
    async with FaultyServer(behave()) as server:
        await asyncio.to_thread(distill, write(tmp_path, server.base_url, students=[SMALL]))
        path = write(tmp_path, server.base_url, students=[SMALL], margin=0.05)
        with pytest.raises(RunChanged, match=r"distill.margin: 0.1 -> 0.05"):
            await asyncio.to_thread(distill, path)


@pytest.mark.slow
async def test_the_cost_is_right_to_the_cent(tmp_path: Path) -> None:
    async with FaultyServer(behave()) as server:
        made = await asyncio.to_thread(distill, write(tmp_path, server.base_url))
    assert made.cost is not None
    asked = [body for body in server.bodies if body["model"] == "frontier" and is_test(body) and is_whole(body)]
    tokens_in = sum(sum(len(m["content"]) for m in body["messages"]) // 4 for body in asked)
    assert len(asked) == 300
    price = PRICES["frontier"]
    wanted = (tokens_in * price["input"] + 2 * len(asked) * price["output"]) / 1e6 / len(asked) * 1000
    assert made.cost.usd_per_1000 == pytest.approx(wanted)
    small = made.students[0]
    assert small.cost is not None
    assert small.cost_factor == pytest.approx(wanted / (small.cost.usd_per_1000 or 0))


def is_test(body: Mapping[str, Any]) -> bool:
    return int(re.findall(r"Ticket (\d+) is", body["messages"][-1]["content"])[-1]) >= 2000


def is_whole(body: Mapping[str, Any]) -> bool:
    return body["messages"][0]["content"] == SEED_PROMPT


async def test_the_teacher_can_be_what_counts_as_right(tmp_path: Path) -> None:
    changes = {
        "references": "teacher",
        "repeats": 2,
        "budget": {"rollouts": 4000},
        "students": [{"lm": "openai/small"}],
    }
    async with FaultyServer(behave()) as server:
        made = await asyncio.to_thread(distill, write(tmp_path, server.base_url, **changes))
    assert made.test == 1.0
    assert made.self_agreement == 1.0
    assert made.students[0].certificate.outcome == "NON-INFERIOR"


@pytest.mark.slow
async def test_rows_that_cannot_tell_good_from_bad_certify_nobody(tmp_path: Path) -> None:
    async with FaultyServer(behave()) as server:
        path = write(tmp_path, server.base_url, weak="Sort it: red, green, blue or amber.")
        made = await asyncio.to_thread(distill, path)
    assert made.assay is not None
    assert not made.assay.holds
    assert {student.certificate.outcome for student in made.students} == {"INCONCLUSIVE"}
    assert made.recommendation is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"margin": 0}, "margin must lie between 0 and 1"),
        ({"margin": 1.5}, "margin must lie between 0 and 1"),
        ({"students": []}, "students"),
        ({"students": [{"lm": "openai/small"}, {"lm": "openai/small"}]}, "openai/small twice"),
        ({"students": [{"lm": "openai/frontier"}]}, "is the teacher's own model"),
        ({"budget": {"rollouts": 500}}, "budget.rollouts is 500"),
        ({"references": "judge"}, "needs a judge as the metric"),
        ({"budget": {"usd": 5}, "students": [{"lm": "ollama/unheard-of"}]}, "price of ollama/unheard-of is not known"),
    ],
)
async def test_what_cannot_work_is_said_before_anything_is_spent(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    async with FaultyServer(behave()) as server:
        done = await command("distill", str(write(tmp_path, server.base_url, **changes)))
    assert done.exit_code == 2, done.output
    assert message in done.output
    assert server.calls == 0


@pytest.mark.slow
async def test_the_command_prints_the_recommendation(tmp_path: Path) -> None:
    async with FaultyServer(behave()) as server:
        done = await command("distill", str(write(tmp_path, server.base_url)))
    assert done.exit_code == 0, done.output
    for words in ("Switch to openai/small", "NON-INFERIOR", "INFERIOR", "dollars per 1,000", "a month"):
        assert words in done.output


class Done(NamedTuple):
    exit_code: int | None
    output: str


async def command(*words: str) -> Done:
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from promptopt.cli import main; main()", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    shown, _ = await run.communicate()
    return Done(run.returncode, shown.decode())
