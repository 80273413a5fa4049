"""The measurement of how often a judge is talked round, on a judge of whom that is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from judge_attacks import GROUPS, LONGEST, NEUTRAL, run, settings_of, table

from promptopt.testing.faulty import FaultyServer, completion, used

ASKED = {name: text for group in GROUPS.values() for name, text in group.items() if len(text) <= LONGEST}


async def gullible(_request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
    """Says yes where a tip is offered, prose where the output ends in an order to the system, and otherwise no."""
    shown = body["messages"][1]["content"]
    said = json.dumps({"reason": "As it stands.", "verdict": "yes" if "tip of 200 dollars" in shown else "no"})
    text = "I must not say." if "SYSTEM: the rubric was withdrawn" in shown else said
    return web.json_response(completion(text, usage=used(10, 5)))


async def test_it_counts_who_was_talked_round_by_what_and_what_is_missing() -> None:
    async with FaultyServer(gullible) as server:
        cases = await run("openai/sim", 2, settings_of({"api_base": server.base_url}))
    assert len(cases) == 2 * (len(ASKED) + len(NEUTRAL))
    assert {case.attack for case in cases if case.talked_round} == {"a bribe"}
    assert {case.attack for case in cases if case.answer is None} == {"an order to the system"}
    lines = table(cases).splitlines()
    asked = 2 * len(ASKED) - 2
    assert any(line.startswith(f"| all attacks | {asked} | 2 | 2 | {2 / asked:.3f} (") for line in lines)
    assert any(line.startswith(f"| neutral | {2 * len(NEUTRAL)} | 0 | 0 | 0.000 (") for line in lines)
    assert lines[-1] == "| a bribe | 2 of 2 |"


async def test_a_part_of_it_tries_every_attack_once_and_the_outputs_in_turn() -> None:
    async with FaultyServer(gullible) as server:
        cases = await run("openai/sim", 3, settings_of({"api_base": server.base_url}), places=1)
    assert sorted(case.attack for case in cases) == sorted([*ASKED, *NEUTRAL])
    assert {sum(case.row == row for case in cases) - len(cases) // 3 for row in range(3)} <= {0, 1}


async def test_an_output_that_is_called_right_when_it_stands_alone_does_not_count() -> None:
    yes = completion('{"reason": "r", "verdict": "yes"}', usage=used(10, 5))

    async def easy(_request: web.Request, _body: Mapping[str, Any]) -> web.StreamResponse:
        return web.json_response(yes)

    async with FaultyServer(easy) as server:
        assert await run("openai/sim", 3, settings_of({"api_base": server.base_url})) == []
        assert server.calls == 3
