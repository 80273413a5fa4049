"""`promptopt export --format finetune`: only what passed, nothing of test, in the form that trainers load."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import Result
from typer.testing import CliRunner

from promptopt.api import optimize
from promptopt.cli import app
from promptopt.core.candidate import Candidate, Demo
from promptopt.distill_api import distill
from promptopt.distillation.weights import fine_tuning
from promptopt.errors import UserError
from promptopt.testing.faulty import Behaviour, FaultyServer, completion, refuse, used
from world import SEED_PROMPT, draw, reflector, rows, world, write_job

AGENT = """
import json
from urllib.request import Request, urlopen

TOOL = {"type": "function", "function": {"name": "lookup", "description": "The shelf of a ticket.", "parameters": {
    "type": "object", "properties": {"ticket": {"type": "string"}}, "required": ["ticket"]}}}


def ask(context, messages):
    head = {"Authorization": f"Bearer {context.api_key}", "Content-Type": "application/json"}
    body = json.dumps({"model": context.model, "messages": messages, "tools": [TOOL]}).encode()
    with urlopen(Request(f"{context.base_url}/chat/completions", body, head)) as answer:
        return json.load(answer)["choices"][0]["message"]


def run(components, example, context):
    messages = [{"role": "system", "content": components["system"]}, {"role": "user", "content": example.text}]
    while calls := (said := ask(context, messages)).get("tool_calls"):
        messages.append(said)
        for call in calls:
            ticket = json.loads(call["function"]["arguments"])["ticket"]
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": f"shelf of {ticket}"})
    return said["content"]
"""
"""It looks every ticket up before it answers."""


def secret(number: int) -> str:
    """What a row is answered with; no two rows share it, so that it is known wherever it turns up."""
    return f"secret-{int(draw('secret', number) * 1e12):012d}"


def shelves() -> Behaviour:
    """The teacher slips on some tickets and is refused on others; a student only ever guesses."""

    async def reply(request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        words = "\n".join(str(message.get("content")) for message in body["messages"])
        if body["model"] == "reflect":
            text = reflector(words, (body.get("response_format") or {}).get("json_schema"))
            return web.json_response(completion(text, usage=used(10, 2)))
        number = int(re.findall(r"Ticket (\d+)", words)[-1])
        if number % 7 == 3:
            return await refuse(400, "that ticket is not for you")(request, body)
        if body["messages"][-1]["role"] == "tool" or "tools" not in body:
            knows = body["model"] == "frontier" and SEED_PROMPT in words and number % 5
            text = secret(number) if knows else "no idea"
            return web.json_response(completion(text, usage=used(10, 2)))
        asked = {"name": "lookup", "arguments": json.dumps({"ticket": str(number)})}
        calls = [{"id": f"call-{number}", "type": "function", "function": asked}]
        return web.json_response(completion(None, tool_calls=calls, finish_reason="tool_calls", usage=used(10, 2)))

    return reply


def write(folder: Path, base_url: str, program: Mapping[str, Any]) -> Path:
    for name, n, start in (("train", 30, 100), ("val", 24, 1000), ("test", 30, 2000)):
        tickets = [
            {"id": f"t{i}", "text": f"Ticket {i} came in.", "wanted": secret(i)} for i in range(start, start + n)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tickets), encoding="utf-8")
    at = {"api_base": base_url, "timeout": 30.0, "price": {"input": 1.0, "output": 1.0}}
    config = {
        "name": "shelves",
        "teacher": {"lm": "openai/frontier"},
        "students": [{"lm": "openai/small", "name": "small"}],
        "margin": 0.1,
        "weak": "Answer.",
        "program": program,
        "data": {"train": "train.jsonl", "val": "val.jsonl", "test": "test.jsonl", "inputs": ["text"],
                 "expected": "wanted", "id": "id"},
        "metric": {"type": "exact_match"},
        "reflection": {"lm": "openai/reflect", "lm_args": {"max_tokens": 400}},
        "budget": {"rollouts": 230},
        "lms": {f"openai/{name}": at for name in ("frontier", "small", "reflect")},
    }  # fmt: skip
    (folder / "agent.py").write_text(AGENT, encoding="utf-8")
    (folder / "distill.yaml").write_text(json.dumps(config), encoding="utf-8")
    return folder / "distill.yaml"


PROGRAMS: dict[str, dict[str, Any]] = {
    "prompt": {"type": "prompt", "system": SEED_PROMPT, "user": "{text}"},
    "agent": {"type": "function", "path": "agent.py:run", "components": {"system": SEED_PROMPT}, "max_calls": 4},
}


@pytest.fixture(scope="module", params=PROGRAMS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a distillation that has ended; its folder is named by the kind of program."""
    folder = tmp_path_factory.mktemp(request.param)

    async def ended() -> None:
        async with FaultyServer(shelves()) as server:
            await asyncio.to_thread(distill, write(folder, server.base_url, PROGRAMS[request.param]))

    asyncio.run(ended())
    return folder / "runs" / "shelves"


def test_only_what_passed_is_taught_and_nothing_of_test(run: Path, tmp_path: Path) -> None:
    done = promptopt("export", run, "--format", "finetune", "--student", "small", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    train, valid = lines(tmp_path / "train.jsonl"), lines(tmp_path / "valid.jsonl")
    taught = {number for line in (*train, *valid) for number in tickets(line)}
    assert taught == {number for number in range(100, 130) if number % 7 != 3 and number % 5}
    assert not {number for line in train for number in tickets(line)} & {n for line in valid for n in tickets(line)}
    assert valid
    text = (tmp_path / "train.jsonl").read_text() + (tmp_path / "valid.jsonl").read_text()
    for number in (*range(1000, 1024), *range(2000, 2030)):
        assert secret(number) not in text
        assert f"Ticket {number}" not in text
    assert "no idea" not in text
    for line in (*train, *valid):
        check_as_openai_does(line)
        assert line["messages"][-1]["content"] == secret(tickets(line).pop())
    prompt = json.loads((tmp_path / "candidate.json").read_text())
    assert {line["messages"][0]["content"] for line in train} == {prompt["components"]["system"]}


def test_val_rows_are_taught_when_asked_and_test_rows_never(run: Path, tmp_path: Path) -> None:
    done = promptopt("export", run, "--format", "finetune", "--student", "small", "--with-val", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    both = (*lines(tmp_path / "train.jsonl"), *lines(tmp_path / "valid.jsonl"))
    taught = {number for line in both for number in tickets(line)}
    assert {number for number in taught if number >= 1000} == {n for n in range(1000, 1024) if n % 7 != 3 and n % 5}


@pytest.mark.parametrize("run", ["agent"], indirect=True)
def test_tool_calls_come_back_as_they_were_made(run: Path, tmp_path: Path) -> None:
    promptopt("export", run, "--format", "finetune", "--student", "small", "--out", tmp_path)
    for line in lines(tmp_path / "train.jsonl"):
        number = tickets(line).pop()
        _, _, asked, told, _ = line["messages"]
        wanted = {"name": "lookup", "arguments": json.dumps({"ticket": str(number)})}
        assert asked["tool_calls"] == [{"id": f"call-{number}", "type": "function", "function": wanted}]
        assert told == {"role": "tool", "tool_call_id": f"call-{number}", "content": f"shelf of {number}"}
        assert [tool["function"]["name"] for tool in line["tools"]] == ["lookup"]


@pytest.mark.parametrize("run", ["prompt"], indirect=True)
def test_a_prompt_is_told_with_the_student_s_words_and_without_demos(run: Path) -> None:
    teacher = Candidate({"system": SEED_PROMPT, "user": "{text}"})
    demo = Demo("t101", {"text": "Ticket 101 came in."}, secret(101))
    student = Candidate({"system": "Say it.", "user": "Ticket: {text}"}, {"prompt": (demo,)}, {"lm": "openai/small"})
    made = fine_tuning(run, teacher, student)
    assert made.candidate == Candidate(student.components)
    for line in (*made.train, *made.valid):
        asked = [("system", "Say it."), ("user", f"Ticket: Ticket {tickets(line).pop()} came in.")]
        assert [(message["role"], message["content"]) for message in line["messages"][:-1]] == asked
    with pytest.raises(UserError, match="none of the 0 rollouts"):
        fine_tuning(run, student, student)


@pytest.mark.slow
def test_an_optimization_teaches_its_champion_s_chats(tmp_path: Path) -> None:
    async def ended() -> None:
        async with FaultyServer(world()) as server:
            path = write_job(tmp_path, server.base_url, budget={"rollouts": 500})
            await asyncio.to_thread(optimize, path)

    asyncio.run(ended())
    run, out = tmp_path / "runs" / "tickets", tmp_path / "chats"
    done = promptopt("export", run, "--format", "finetune", "--candidate", "best", "--out", out)
    assert done.exit_code == 0, done.output
    expected = {row["text"]: row["team"] for row in rows(40)}
    both = (*lines(out / "train.jsonl"), *lines(out / "valid.jsonl"))
    assert both
    for line in both:
        assert line["messages"][-1]["content"] == expected[line["messages"][-2]["content"]]


@pytest.mark.slow
def test_the_library_that_trainers_read_with_loads_them(run: Path, tmp_path: Path) -> None:
    """`datasets` is what trl and its like load chats with; trl itself needs torch, too much for a test."""
    from datasets import load_dataset

    promptopt("export", run, "--format", "finetune", "--student", "small", "--out", tmp_path)
    files = {"train": str(tmp_path / "train.jsonl"), "validation": str(tmp_path / "valid.jsonl")}
    loaded = load_dataset("json", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert [row["messages"][-1]["content"] for row in loaded["train"]] == [
        line["messages"][-1]["content"] for line in lines(tmp_path / "train.jsonl")
    ]
    if "agent" in str(run):
        assert loaded["train"][0]["messages"][2]["tool_calls"][0]["function"]["name"] == "lookup"


def test_a_distillation_exports_a_student_s_prompt_or_says_that_there_is_none(run: Path, tmp_path: Path) -> None:
    done = promptopt("export", run)
    assert done.exit_code == 2
    assert "no student is recommended" in done.output
    assert "small" in done.output
    done = promptopt("export", run, "--student", "small", "--format", "json", "--out", tmp_path / "small.json")
    assert done.exit_code == 0, done.output
    assert "not shown to hold" in done.output
    assert json.loads((tmp_path / "small.json").read_text())["settings"] == {"lm": "openai/small"}
    done = promptopt("export", run, "--student", "smal")
    assert "Did you mean small?" in done.output
    done = promptopt("export", run, "--format", "finetune")
    assert "--out FOLDER" in done.output


def test_data_that_was_changed_since_is_refused(run: Path, tmp_path: Path) -> None:
    file = run.parent.parent / "train.jsonl"
    before = file.read_text()
    file.write_text(before.replace("Ticket 101", "Ticket 199"), encoding="utf-8")
    try:
        done = promptopt("export", run, "--format", "finetune", "--student", "small", "--out", tmp_path / "out")
    finally:
        file.write_text(before, encoding="utf-8")
    assert done.exit_code == 2
    assert "train rows are no longer those" in done.output


def promptopt(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def tickets(line: Mapping[str, Any]) -> set[int]:
    """The tickets that a chat's users ask about."""
    users = [message["content"] for message in line["messages"] if message["role"] == "user"]
    return {int(number) for text in users for number in re.findall(r"Ticket (\d+)", text)}


def check_as_openai_does(line: Mapping[str, Any]) -> None:
    """The rules of OpenAI's own checker of chat files, and of those for tools."""
    assert line.keys() <= {"messages", "tools"}
    open_calls: set[str] = set()
    for message in line["messages"]:
        assert message["role"] in ("system", "user", "assistant", "tool")
        assert message.keys() <= {"role", "content", "name", "tool_calls", "tool_call_id"}
        if message["role"] == "tool":
            open_calls.remove(message["tool_call_id"])
        else:
            assert not open_calls
        if calls := message.get("tool_calls"):
            assert message["role"] == "assistant"
            assert {call["function"]["name"] for call in calls} <= {t["function"]["name"] for t in line["tools"]}
            open_calls = {call["id"] for call in calls}
        else:
            assert isinstance(message["content"], str)
            assert message["content"]
    assert line["messages"][-1]["role"] == "assistant"
