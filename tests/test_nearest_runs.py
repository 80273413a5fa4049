"""A whole run with a student that knows nothing but what the demos before a ticket show it.

There are more kinds of tickets than a prompt may show demos, so no fixed set of demos teaches it all of them.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from aiohttp import web
from rich.console import Console

from promptopt.api import evaluate, optimize
from promptopt.config import load
from promptopt.core.selection import longest_prompt_bytes
from promptopt.report.export import as_json, as_text
from promptopt.report.terminal import report, summary
from promptopt.result import rebuild
from promptopt.testing.faulty import FaultyServer, completion, used
from world import ANIMALS, TEAMS, draw, write_job

KINDS = [" ".join(kind) for kind in product(("tiny", "huge", "young", "rare"), ANIMALS)]
KIND = re.compile(r"about the (\w+ \w+)\.")


def ticket(number: int) -> dict[str, str]:
    kind = KINDS[number % len(KINDS)]
    team = TEAMS[int(draw("team", kind) * len(TEAMS))]
    return {"id": f"t{number}", "text": f"Ticket {number} is about the {kind}.", "team": team}


async def copycat(_request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
    """What a demo of the ticket's kind was answered with, the nearest one's; a guess where there is none."""
    *turns, ticket = [message["content"] for message in body["messages"] if message["role"] != "system"]
    shown = {KIND.findall(asked)[0]: answer for asked, answer in zip(turns[::2], turns[1::2], strict=True)}
    guess = TEAMS[int(draw("guess", ticket) * len(TEAMS))]
    return web.json_response(completion(shown.get(KIND.findall(ticket)[0], guess), usage=used(10, 1)))


def questions(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "user"]


async def test_a_student_that_copies_the_nearest_demo_is_given_it_and_never_its_own_row(tmp_path: Path) -> None:
    async with FaultyServer(copycat) as server:
        job = write_job(
            tmp_path,
            server.base_url,
            reflection=None,
            strategy={"target": 0.95, "max_prompt_tokens": 600},
            budget={"rollouts": 500},
        )
        for name, n, start in (("train", 80, 0), ("val", 40, 1000), ("test", 60, 2000)):
            lines = [json.dumps(ticket(number)) for number in range(start, start + n)]
            (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        result = await asyncio.to_thread(optimize, load(job))
        exported = tmp_path / "best.json"
        exported.write_text(as_json(result.recommended))
        on_train = await asyncio.to_thread(evaluate, load(job), exported, "train")

    best = result.recommended
    assert (result.verdict, best.n_demos) == ("PROMOTE", best.nearest["prompt"])
    assert (result.test or {})["best"] >= 0.95
    fixed = [name for name, candidate in result.state.candidates.items() if not candidate.nearest]
    assert len(fixed) >= 2
    assert max(result.state.mean(name) for name in fixed) < 0.75
    assert longest_prompt_bytes(best) <= 4 * 600

    assert rebuild(result.directory).recommended == on_train.candidate == best
    asked = [questions(rollout.trace[0].messages) for rollout in on_train.rollouts]
    assert len(asked) == 80
    assert all(len(turns) == best.n_demos + 1 and turns[-1] not in turns[:-1] for turns in asked)

    pool = f"the {best.n_demos} nearest of 80 demos"
    told = io.StringIO()
    Console(file=told, width=200).print(summary(result), report(result))
    assert pool in told.getvalue()
    assert f"Each input is shown {pool}, the nearest last: by BM25" in as_text(best)
