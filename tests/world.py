"""A small simulated task for tests of whole runs: every draw is a hash, so equal requests get equal answers.

Tickets name an animal; the right team is known only to a prompt that states the animal's rule. The student answers a
ticket rightly where its system prompt holds the rule, and otherwise by chance. The reflection model turns failures
into rules. So a prompt is as good as the rules it states, and every rule can be learnt from train.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web

from promptopt.testing.faulty import Behaviour, completion, used

ANIMALS = ("otter", "heron", "badger", "newt", "lynx", "stoat", "raven", "perch", "vole", "crane")
TEAMS = ("red", "green", "blue", "amber")
SEED_PROMPT = "Name the team of the ticket: red, green, blue or amber."


def draw(*parts: object) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def team_of(animal: str) -> str:
    return TEAMS[int(draw("team", animal) * len(TEAMS))]


def rows(n: int, start: int = 0) -> list[dict[str, str]]:
    """`n` tickets with their teams; `start` makes another set."""
    made: list[dict[str, str]] = []
    for number in range(start, start + n):
        animal = ANIMALS[int(draw("animal", number) * len(ANIMALS))]
        made.append({"id": f"t{number}", "text": f"Ticket {number} is about the {animal}.", "team": team_of(animal)})
    return made


def student(system: str, user: str) -> str:
    """The team, if the prompt states the animal's rule; a guess otherwise."""
    animal = re.findall(r"about the (\w+)", user)[-1]
    if f"{animal} goes to {team_of(animal)}" in system:
        return team_of(animal)
    return TEAMS[int(draw("guess", user) * len(TEAMS))]


def reflector(text: str, schema: Mapping[str, Any] | None) -> str:
    """At most two rules, learnt from the failures that are shown, as additions or as a rewrite."""
    seen = re.findall(r"about the (\w+).*?(?:wanted|Wanted|expected)\W+(\w+)", text, re.DOTALL)
    known = {animal for animal in ANIMALS if f"{animal} goes to" in text}
    new = sorted({animal for animal, _ in seen if animal in ANIMALS} - known, key=lambda a: draw("pick", text, a))[:2]
    rules = [f"{animal} goes to {team_of(animal)}" for animal in new] or ["Be careful with every ticket."]
    if schema is not None:
        return json.dumps({"why": "rules are missing", "rules": rules})
    current = next((line for line in text.splitlines() if line.startswith(SEED_PROMPT)), SEED_PROMPT)
    kept = [line for line in text.splitlines() if re.fullmatch(r"(- )?\w+ goes to \w+", line)]
    return "Better:\n```\n" + "\n".join([current, *kept, *rules]) + "\n```"


def answer(body: Mapping[str, Any]) -> str:
    """What the endpoint answers to a chat completion request."""
    system = "\n".join(m["content"] for m in body["messages"] if m["role"] == "system")
    user = "\n".join(m["content"] for m in body["messages"] if m["role"] != "system")
    if "reflect" in body["model"]:
        return reflector(user, (body.get("response_format") or {}).get("json_schema"))
    return student(system, user)


def world(seconds: float = 0.0) -> Behaviour:
    """The endpoint's behaviour; each call lasts about `seconds`, by a hash of what it asks."""

    async def behave(_request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        text = answer(body)
        await asyncio.sleep(2 * seconds * draw("wait", json.dumps(body["messages"])))
        size = sum(len(m["content"]) for m in body["messages"]) // 4
        return web.json_response(completion(text, usage=used(size, 1 + len(text) // 4)))

    return behave


def write_rows(folder: Path, train: int, val: int, test: int) -> None:
    """The files of the three splits, so many rows each."""
    for name, n, start in (("train", train, 0), ("val", val, 1000), ("test", test, 2000)):
        lines = [json.dumps(row) for row in rows(n, start)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


TASK: dict[str, Any] = {
    "name": "tickets",
    "data": {"train": "train.jsonl", "val": "val.jsonl", "test": "test.jsonl", "inputs": ["text"],
             "expected": "team", "id": "id"},
    "metric": {"type": "exact_match"},
    "reflection": {"lm": "openai/reflect", "lm_args": {"max_tokens": 400}},
    "run": {"dir": "runs/tickets", "concurrency": 8},
}  # fmt: skip
"""What every config of this task says."""
PROMPT: dict[str, Any] = {
    "type": "prompt", "lm_args": {"temperature": 0, "max_tokens": 8}, "system": SEED_PROMPT, "user": "{text}",
}  # fmt: skip


def write_job(folder: Path, base_url: str, **changes: Any) -> Path:
    """A config of this task in `folder`, its data beside it; `changes` are top-level keys to replace."""
    write_rows(folder, 40, 40, 60)
    model = {"api_base": base_url, "price": {"input": 1.0, "output": 2.0}, "timeout": 5.0}
    config = {
        **TASK,
        "program": {**PROMPT, "lm": "openai/student"},
        "budget": {"rollouts": 500},
        "lms": {"openai/student": model, "openai/reflect": model},
    }
    path = folder / "job.yaml"
    path.write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return path


def write_distillation(folder: Path, base_url: str, prices: Mapping[str, Any], **changes: Any) -> Path:
    """A config that moves this task from `frontier` to `small`; `write_rows` writes its data, `changes` are as above.

    `prices` are those of the endpoint's models, by name.
    """
    at = {"api_base": base_url, "timeout": 60.0}
    config = {
        **TASK,
        "teacher": {"lm": "openai/frontier"},
        "students": [{"lm": "openai/small"}],
        "weak": "Answer with one word.",
        "program": PROMPT,
        "lms": {
            f"openai/{name}": {**at, "price": price}
            for name, price in {"reflect": {"input": 1.0, "output": 1.0}, **prices}.items()
        },
    }
    path = folder / "distill.yaml"
    path.write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return path


def same(result: Mapping[str, Any]) -> dict[str, Any]:
    """What of result.json must be equal between equal runs: everything but times, spend and the opening's number."""
    return {key: value for key, value in result.items() if key not in ("spent", "reasons")} | {
        "test": {k: v for k, v in (result["test"] or {}).items() if k not in ("opening", "alpha", "ci", "detectable")}
    }


class Done(NamedTuple):
    """What a command came to."""

    exit_code: int | None
    output: str


async def command(*words: object) -> Done:
    """`promptopt` with these words, in a process of its own; what it says goes together."""
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from promptopt.cli import main; main()", *map(str, words),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    shown, _ = await run.communicate()
    return Done(run.returncode, shown.decode())
