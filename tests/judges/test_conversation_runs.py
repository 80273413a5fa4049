"""Whole runs on recorded conversations: rows are turns of sessions, the judge reads each with the history before it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import numpy as np
import pytest
from aiohttp import web
from scipy.stats import binom

import promptopt
from promptopt import judges
from promptopt.api import optimize
from promptopt.config import load
from promptopt.core.example import Example
from promptopt.core.guard import judge_test
from promptopt.core.sealed import Pair
from promptopt.core.split import Split
from promptopt.errors import DataError
from promptopt.result import Result
from promptopt.testing.faulty import Behaviour, FaultyServer, completion, used
from world import draw

SEED_PROMPT = "You help the customers of a bank."
RULE = "Call the customer by the name they gave."
NAMES = ("Ada", "Boris", "Chiara", "Dmitri", "Esra", "Farid", "Greta", "Hana")
OUTPUT = re.compile(r"^\[\d+\] assistant, the output to judge\n((?:\| .*\n?)+)", re.MULTILINE)
SESSIONS, TURNS, RUNS = 20, 8, 400
Reply = Callable[[str, str], str]
"""What the assistant says to a system prompt and a user message."""


def sessions(n: int, turns: int, start: int = 0) -> list[dict[str, Any]]:
    """A row for each of the assistant's `turns` in `n` sessions, with the turns until then."""
    rows: list[dict[str, Any]] = []
    for session in range(start, start + n):
        name = NAMES[int(draw("name", session) * len(NAMES))]
        said = [{"role": "user", "content": f"Hello, this is {name}, about my card {session}."}]
        for turn in range(turns):
            rows.append({"id": f"{session}-{turn}", "session": f"s{session}", "messages": list(said)})
            said.append({"role": "assistant", "content": f"Thank you, I note that as point {turn}."})
            said.append({"role": "user", "content": f"And what about question {turn} of card {session}?"})
    return rows


def named(system: str, user: str) -> str:
    """Remembers the name where the prompt says to, and otherwise in some sessions more often than in others."""
    name = re.findall(r"this is (\w+)", user)[-1]
    card = re.findall(r"about my card (\d+)", user)[-1]
    remembers = 0.95 if RULE in system else 0.5 * draw("mood", card)
    return f"{name}, I will see to it." if draw("recall", user) < remembers else "I will see to it."


def guessing(system: str, user: str) -> str:
    """Remembers by chance: in every session each prompt has luck of its own, which holds for all of its turns."""
    name = re.findall(r"this is (\w+)", user)[-1]
    card = re.findall(r"about my card (\d+)", user)[-1]
    luck = (draw("mood", card) + draw("luck", card, system)) / 2
    return f"{name}, I will see to it." if draw("recall", user, system) < luck else "I will see to it."


def verdict(shown: str) -> str:
    """Whether the turns marked as the output hold the name that an earlier turn gave."""
    [name] = set(re.findall(r"^\| Hello, this is (\w+)", shown, re.MULTILINE))
    [output] = OUTPUT.findall(shown)
    if name in output:
        return json.dumps({"reason": "It calls the customer by name.", "verdict": "kept"})
    return json.dumps({"reason": "It has forgotten the name that the customer gave.", "verdict": "forgot"})


def proposal(text: str, schema: Mapping[str, Any] | None) -> str:
    """The rule, where a judge's reason points to it; what the judge said is all there is to learn from."""
    rule = RULE if "forgotten the name" in text else f"Be careful in case {draw('case', text):.6f}."
    return json.dumps({"why": "a rule is missing", "rules": [rule]}) if schema else f"```\n{SEED_PROMPT}\n{rule}\n```"


def bank(says: Reply) -> Behaviour:
    async def behave(_request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        system = "\n".join(m["content"] for m in body["messages"] if m["role"] == "system")
        user = "\n".join(m["content"] for m in body["messages"] if m["role"] != "system")
        if "judge" in body["model"]:
            text = verdict(user)
        elif "reflect" in body["model"]:
            text = proposal(user, (body.get("response_format") or {}).get("json_schema"))
        else:
            text = says(system, user)
        return web.json_response(completion(text, usage=used(50, 10)))

    return behave


def write_job(folder: Path, base_url: str, sizes: Mapping[str, tuple[int, int]], **changes: Any) -> Path:
    """A config in `folder` with its data beside it; `sizes` are sessions and turns of each split."""
    for start, (name, (n, turns)) in enumerate(sizes.items()):
        lines = [json.dumps(row) for row in sessions(n, turns, 1000 * start)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    model = {"api_base": base_url, "price": {"input": 1.0, "output": 2.0}, "timeout": 5.0}
    config: dict[str, Any] = {
        "name": "bank",
        "program": {
            "type": "prompt",
            "lm": "openai/student",
            "lm_args": {"temperature": 0, "max_tokens": 40},
            "system": SEED_PROMPT,
            "user": "The conversation so far: {messages}",
        },
        "data": {
            **{name: f"{name}.jsonl" for name in sizes}, "inputs": ["messages"], "group": "session", "id": "id",
        },
        "metric": {"type": "knowledge_retention", "lm": "openai/judge", "conversation": "messages"},
        "reflection": {"lm": "openai/reflect", "lm_args": {"max_tokens": 400}},
        "budget": {"rollouts": 420},
        "run": {"dir": "runs/bank", "concurrency": 8},
        "lms": dict.fromkeys(("openai/student", "openai/judge", "openai/reflect"), model),
    }  # fmt: skip
    path = folder / "job.yaml"
    path.write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return path


async def run(job: Path) -> Result:
    """The job, in a thread so that the server of this loop can answer."""
    return await asyncio.to_thread(optimize, load(job))


async def test_a_judge_of_conversations_teaches_a_rule_and_sessions_prove_it(tmp_path: Path) -> None:
    sizes = {"train": (6, 3), "val": (10, 3), "test": (20, 3)}
    async with FaultyServer(bank(named)) as server:
        result = await run(write_job(tmp_path, server.base_url, sizes, budget={"rollouts": 210}))
    assert RULE in result.best.components["system"]
    assert result.verdict == "PROMOTE"
    assert result.test is not None
    assert (result.test["n"], result.test["groups"]) == (60, 20)
    assert result.test["method"] == "sign-flip permutation and t interval over group means"
    assert result.test["diff"] > 0.4
    judged = next(body for body in server.bodies if "judge" in body["model"])
    shown = judged["messages"][-1]["content"]
    assert OUTPUT.search(shown)
    assert SEED_PROMPT not in shown


@pytest.mark.slow
async def test_where_no_prompt_matters_sessions_keep_a_run_from_promoting_one(tmp_path: Path) -> None:
    """In some runs no candidate leads on val at all; in the others the sealed test compares sessions."""
    sizes = {"train": (8, 4), "val": (10, 4), "test": (SESSIONS, TURNS)}
    results: list[Result] = []
    for seed in range(4):
        place = {"dir": f"runs/{seed}", "concurrency": 8, "seed": seed}
        async with FaultyServer(bank(guessing)) as server:
            job = write_job(tmp_path, server.base_url, sizes, budget={"rollouts": 700}, run=place)
            results.append(await run(job))
    assert sum(result.verdict == "PROMOTE" for result in results) <= 1
    tested = [(result.test["n"], result.test["groups"]) for result in results if result.test is not None]
    assert set(tested) == {(SESSIONS * TURNS, SESSIONS)}


async def test_a_turn_that_is_none_stops_the_run_before_anything_is_spent(tmp_path: Path) -> None:
    async with FaultyServer(bank(named)) as server:
        job = write_job(tmp_path, server.base_url, {"train": (8, 2), "val": (10, 2), "test": (20, 2)})
        rows = (tmp_path / "val.jsonl").read_text().replace('"role": "user"', '"role": "customer"', 1)
        (tmp_path / "val.jsonl").write_text(rows)
        with pytest.raises(DataError, match=r"row '1000-0', column 'messages': turn 1 has the role 'customer'"):
            await run(job)
    assert server.calls == 0


def agent(components: Mapping[str, str], example: Example, context: Any) -> str:
    """Asks its model until it calls no tool any more, as agents do."""
    messages = [{"role": "system", "content": components["system"]}, {"role": "user", "content": example.question}]
    while True:
        body = json.dumps({"model": context.model, "messages": messages, "tools": [TRACK]}).encode()
        head = {"Authorization": f"Bearer {context.api_key}", "Content-Type": "application/json"}
        with urlopen(HttpRequest(f"{context.base_url}/chat/completions", body, head)) as response:
            message = json.load(response)["choices"][0]["message"]
        messages.append({key: value for key, value in message.items() if value is not None})
        if not message.get("tool_calls"):
            return message["content"]
        for call in message["tool_calls"]:
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": "left on Monday"})


TRACK = {"type": "function", "function": {"name": "track", "parameters": {"type": "object", "properties": {}}}}


async def test_a_judge_of_tool_calls_sees_the_calls_of_an_agent_that_returns_only_its_answer(tmp_path: Path) -> None:
    """In `evaluate`, against the gateway's own endpoint."""

    async def behave(_request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        if "judge" in body["model"]:
            return web.json_response(completion(json.dumps({"reason": "It looked.", "verdict": "correct"})))
        if body["messages"][-1]["role"] == "tool":
            return web.json_response(completion("It left on Monday."))
        call = {"id": "c1", "type": "function", "function": {"name": "track", "arguments": '{"order": 7}'}}
        return web.json_response(completion(None, tool_calls=[call], finish_reason="tool_calls"))

    rows = [{"question": f"Where is order {n}?"} for n in range(18)]
    split = promptopt.Dataset.from_rows(rows, inputs=["question"]).split(train=4, val=7, test=7)
    async with FaultyServer(behave) as server:
        model = {"api_base": server.base_url, "price": {"input": 0, "output": 0}, "timeout": 5.0}
        result = await asyncio.to_thread(
            optimize,
            promptopt.Function(agent, components={"system": "Help."}, lm="openai/student"),
            split,
            judges.tool_call_correctness("openai/judge"),
            budget={"rollouts": 40},
            run={"dir": str(tmp_path / "run")},
            lms=dict.fromkeys(("openai/student", "openai/judge"), model),
        )
    assert result.spent.rollouts > 0
    judged = [body["messages"][-1]["content"] for body in server.bodies if "judge" in body["model"]]
    assert judged
    for shown in judged:
        assert '[1] assistant calls "track" as "c1", the output to judge\n| {"order": 7}' in shown
        assert '[2] tool answers "c1", the output to judge\n| left on Monday' in shown
        assert "[3] assistant, the output to judge\n| It left on Monday." in shown


def lucky(components: Mapping[str, str], example: Example, context: Any) -> bool:
    """A program whose prompts are equally good: each has luck with a session, which all of its turns share."""
    text = components["prompt"]
    luck = (draw("mood", example.session) + draw("luck", example.session, text)) / 2
    return draw("turn", example.row) < luck if draw("hard", example.row) < 0.5 else draw(text, example.row) < luck


def verdict_on_luck(folder: Path, number: int) -> str:
    """One whole run, whose test has 20 sessions of 8 turns."""
    turns = {"train": 2, "val": 4, "test": TURNS}
    parts = {
        name: [
            {"row": f"{number}/{name}/{s}/{turn}", "session": f"{number}/{name}/{s}", "wanted": True}
            for s in range(SESSIONS if name == "test" else 10)
            for turn in range(turns[name])
        ]
        for name in turns
    }
    sets = {
        name: promptopt.Dataset.from_rows(rows, inputs=["row", "session"], expected="wanted", group="session")
        for name, rows in parts.items()
    }
    result = promptopt.optimize(
        promptopt.Function(lucky, components={"prompt": SEED_PROMPT}),
        Split.given(**sets),
        lambda example, output: output,
        budget=promptopt.Budget(rollouts=40 + 2 * SESSIONS * TURNS + 8 * 40),
        run={"dir": str(folder / str(number)), "seed": number, "concurrency": 8},
    )
    return result.verdict


@pytest.mark.slow
def test_whole_runs_promote_luck_with_sessions_in_at_most_five_percent(tmp_path: Path) -> None:
    runs = 120
    assert sum(verdict_on_luck(tmp_path, n) == "PROMOTE" for n in range(runs)) <= 0.05 * runs


def equal_prompts(rng: np.random.Generator) -> list[Pair]:
    """Scores of 0, 0.5 or 1 of two equally good prompts: a session's mood moves both, its taste each by itself."""
    mood = rng.normal(size=(SESSIONS, 1, 1))
    taste = 0.8 * rng.normal(size=(SESSIONS, 1, 2))
    turn = 0.6 * rng.normal(size=(SESSIONS, TURNS, 1))
    scores = np.digitize(mood + taste + turn + 0.5 * rng.normal(size=(SESSIONS, TURNS, 2)), [-0.7, 0.7]) / 2
    return [
        Pair(
            f"s{session}-{number}", float(scores[session, number, 0]), float(scores[session, number, 1]), f"s{session}"
        )
        for session in range(SESSIONS)
        for number in range(TURNS)
    ]


def test_equal_prompts_on_correlated_turns_are_promoted_in_at_most_five_percent_of_runs() -> None:
    rng = np.random.default_rng(20)
    promoted = sum(
        judge_test(equal_prompts(rng), binary=False, seed=number).outcome == "PROMOTE" for number in range(RUNS)
    )
    assert promoted <= 0.05 * RUNS


def test_counting_the_same_turns_as_independent_rows_would_promote_many() -> None:
    """The null above is a hard one: without groups it fails."""
    rng, runs = np.random.default_rng(20), 60
    promoted = 0
    for number in range(runs):
        alone = [Pair(pair.example_id, pair.baseline, pair.best) for pair in equal_prompts(rng)]
        promoted += judge_test(alone, binary=False, seed=number).outcome == "PROMOTE"
    assert promoted > binom.ppf(0.99, runs, 0.05)
