"""`promptopt distill`, whole, on a simulated endpoint: a teacher that knows, students that can learn or cannot."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp import web

from promptopt.api import plan
from promptopt.core.slices import CLEAR
from promptopt.distill_api import distill
from promptopt.distillation.outcome import Distillation
from promptopt.distillation.plan import DistillPlan
from promptopt.errors import BaselineFailed, RunChanged
from promptopt.stats.noninferiority import rows_for_margin
from promptopt.stats.power import discordance_at
from promptopt.store.run_dir import reading
from promptopt.testing.faulty import Behaviour, Body, FaultyServer, completion, used
from world import (
    SEED_PROMPT,
    TEAMS,
    command,
    draw,
    reflector,
    student,
    team_of,
    write_distillation,
    write_rows,
)

SMALL = {"lm": "openai/small"}
BUDGET = 1900
TIGHT = 200_000
"""Tokens that end a search before it has done all it can."""
PRICES = {
    "frontier": {"input": 30.0, "output": 60.0, "cached": 10.0},
    "small": {"input": 1.0, "output": 2.0},
    "hopeless": {"input": 0.1, "output": 0.1},
}


def teacher(system: str, user: str) -> str:
    """It knows every team, unless its prompt does not even say which there are, and errs now and then."""
    animal = re.findall(r"about the (\w+)", user)[-1]
    if "red, green, blue or amber" not in system or draw("slip", user) < 0.05:
        return TEAMS[int(draw("guess", user) * len(TEAMS))]
    return team_of(animal)


def behave(seconds: float = 0.0, cached: int = 0) -> Behaviour:
    """Every call lasts so long, and so many of its input tokens are in the provider's cache."""

    async def reply(_request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.json_response(completion(answer(body), usage=used(size(body), 2, cached)))

    return reply


def answer(body: Mapping[str, Any]) -> str:
    """What the model that is asked for says."""
    system = "\n".join(m["content"] for m in body["messages"] if m["role"] == "system")
    user = "\n".join(m["content"] for m in body["messages"] if m["role"] != "system")
    match body["model"]:
        case "frontier":
            return teacher(system, user)
        case "small":
            return student(system, user)
        case "hopeless":
            return TEAMS[int(draw("hopeless", user) * len(TEAMS))]
        case _:
            return reflector(user, (body.get("response_format") or {}).get("json_schema"))


def size(body: Mapping[str, Any]) -> int:
    """Input tokens of a request."""
    return sum(len(m["content"]) for m in body["messages"]) // 4


def write(folder: Path, base_url: str, test: int = 150, **changes: Any) -> Path:
    write_rows(folder, 40, 40, test)
    here: dict[str, Any] = {
        "students": [SMALL, {"lm": "openai/hopeless"}],
        "margin": 0.1,
        "traffic": {"requests_per_month": 2_000_000},
        "budget": {"rollouts": BUDGET},
    }
    return write_distillation(folder, base_url, PRICES, **here | changes)


class Whole(NamedTuple):
    """One distillation that several tests look at."""

    made: Distillation
    bodies: list[Body]
    folder: Path

    @property
    def written(self) -> dict[str, Any]:
        return json.loads((self.folder / "runs/tickets/result.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")

    async def run() -> Whole:
        async with FaultyServer(behave(cached=8)) as server:
            made = await asyncio.to_thread(distill, write(folder, server.base_url))
            calls = server.calls
            again = await asyncio.to_thread(distill, folder / "distill.yaml")
            assert server.calls == calls, "a finished distillation costs nothing"
            assert again.to_json()["students"] == made.to_json()["students"]
            return Whole(made, server.bodies, folder)

    return asyncio.run(run())


def test_a_student_that_can_learn_is_certified_and_one_that_cannot_is_refused(whole: Whole) -> None:
    small, hopeless = whole.made.students
    assert small.certificate.outcome == "NON-INFERIOR"
    assert hopeless.certificate.outcome == "INFERIOR"
    assert small.before is not None
    assert small.after is not None
    assert small.after > small.before + 0.3
    assert whole.made.recommendation is not None
    assert whole.made.recommendation.lm == "openai/small"
    assert "goes to" in whole.made.recommendation.candidate.components["system"]
    assert whole.made.spent.rollouts <= BUDGET
    assert whole.written["students"][0]["verdict"] == "NON-INFERIOR"


def test_a_hopeless_student_takes_a_tenth_of_the_budget_at_most_and_is_told_why(whole: Whole) -> None:
    asked = Counter(body["model"] for body in whole.bodies)
    assert asked["hopeless"] <= BUDGET / 10
    assert "more than a prompt can be expected to mend" in whole.made.students[1].note


def test_the_cost_is_right_to_the_cent_with_the_providers_cache_in_it(whole: Whole) -> None:
    assert whole.made.cost is not None
    asked = [body for body in whole.bodies if body["model"] == "frontier" and is_test(body) and is_whole(body)]
    tokens_in = sum(map(size, asked))
    assert len(asked) == 150
    price, small = PRICES["frontier"], whole.made.students[0]
    dear = (tokens_in - 8 * len(asked)) * price["input"] + 8 * len(asked) * price["cached"]
    wanted = (dear + 2 * len(asked) * price["output"]) / 1e6 / len(asked) * 1000
    assert whole.made.cost.usd_per_1000 == pytest.approx(wanted)
    text = small.candidate.components["system"]
    small_asked = [body for body in whole.bodies if body["model"] == "small" and is_test(body)]
    moved = [body for body in small_asked if body["messages"][0]["content"] == text]
    assert len(moved) == 150
    price = PRICES["small"]
    cheap = (sum(map(size, moved)) * price["input"] + 2 * len(moved) * price["output"]) / 1e6 / len(moved) * 1000
    assert small.cost is not None
    assert small.cost.usd_per_1000 == pytest.approx(cheap)
    assert small.cost_factor == pytest.approx(wanted / cheap)
    assert small.cost.usd_per_month == pytest.approx(2000 * cheap)
    saved = (wanted - cheap) / 1000
    assert small.pays_after == pytest.approx(float(whole.made.spent.usd) / saved, abs=1)


def test_what_a_student_gets_wrong_can_be_read_row_by_row_and_slice_by_slice(whole: Whole) -> None:
    hopeless = whole.written["students"][1]
    row = hopeless["regressions"][0]
    assert "is about the" in row["inputs"]["text"]
    assert row["teacher"] == row["expected"] != row["student"]
    assert hopeless["worse_on"] >= len(hopeless["regressions"])
    lost = {one["value"] for one in hopeless["slices"] if one["lost"]}
    assert {one["column"] for one in hopeless["slices"]} == {"expected"}
    assert "green" in lost
    assert "expected green" in hopeless["reason"]
    for one in whole.written["students"][0]["slices"]:
        assert one["lost"] == (one["p"] <= CLEAR and one["student"] < one["teacher"])


def test_the_ledger_alone_holds_the_result(whole: Whole) -> None:
    with reading(whole.folder / "runs/tickets") as ledger:
        events = ledger.events("distilled")
    assert len(events) == 1
    assert events[-1].body["students"] == whole.written["students"]


def test_the_plan_says_what_would_run_and_what_the_test_can_carry(whole: Whole) -> None:
    made = plan(whole.folder / "distill.yaml")
    assert isinstance(made, DistillPlan)
    spends = {part.name: part.spend.rollouts for part in made.parts}
    assert spends["the sealed test, set aside"] == 150 * 5
    assert sum(spends.values()) == made.whole.rollouts == BUDGET
    assert made.power.n == 150
    assert made.power.needed == rows_for_margin(0.1, discordance_at(0.8), level=0.05 / 2)


def is_test(body: Mapping[str, Any]) -> bool:
    return int(re.findall(r"Ticket (\d+) is", body["messages"][-1]["content"])[-1]) >= 2000


def is_whole(body: Mapping[str, Any]) -> bool:
    return body["messages"][0]["content"] == SEED_PROMPT


async def test_the_plan_counts_groups_and_warns_where_they_are_few(tmp_path: Path) -> None:
    path = write(tmp_path, "http://127.0.0.1:9/v1", margin=0.3)
    for part in ("train", "val", "test"):
        told = [json.loads(line) for line in (tmp_path / f"{part}.jsonl").read_text().splitlines()]
        lines = [json.dumps({**row, "team id": f"{part} {number // 4}"}) for number, row in enumerate(told)]
        (tmp_path / f"{part}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    document = json.loads(path.read_text())
    document["data"]["group"] = "team id"
    path.write_text(json.dumps(document))
    done = await command("plan", path)
    assert done.exit_code == 0, done.output
    assert "38 test groups for a margin of 0.3" in done.output


async def test_a_student_whose_endpoint_dies_is_set_aside_and_gone_on_with_later(tmp_path: Path) -> None:
    good, dead = behave(), {"hopeless": True}

    async def dying(request: web.Request, body: Body) -> web.StreamResponse:
        count = sum(one["model"] == "hopeless" for one in server.bodies)
        if body["model"] == "hopeless" and dead["hopeless"] and count > 30:
            return web.json_response({"error": {"message": "gone"}}, status=500)
        return await good(request, body)

    async with FaultyServer(dying) as server:
        path = write(tmp_path, server.base_url, test=60, margin=0.2, budget={"rollouts": 1100})
        document = json.loads(path.read_text())
        document["lms"]["openai/hopeless"]["retries"] = 0
        path.write_text(json.dumps(document))
        first = await asyncio.to_thread(distill, path)
        asked = Counter(body["model"] for body in server.bodies)
        dead["hopeless"] = False
        second = await asyncio.to_thread(distill, path)
        later = Counter(body["model"] for body in server.bodies)
    assert first.unserved == ("openai/hopeless",)
    assert first.students[0].certificate.outcome == "NON-INFERIOR"
    assert first.recommendation is not None
    assert re.search("has not answered 8 calls in a row|server: 500: gone", first.students[1].certificate.reason)
    assert second.unserved == ()
    assert second.students[0].certificate == first.students[0].certificate
    assert second.students[1].certificate.outcome == "INFERIOR"
    assert (later["small"], later["frontier"]) == (asked["small"], asked["frontier"])


async def test_a_teacher_that_fails_on_many_rows_ends_the_run_until_it_is_mended(tmp_path: Path) -> None:
    good, broken = behave(), {"frontier": True}

    async def failing(request: web.Request, body: Body) -> web.StreamResponse:
        if body["model"] == "frontier" and broken["frontier"] and draw("fails", json.dumps(body["messages"])) < 0.5:
            return web.json_response(completion("", usage=used(10, 0)))
        return await good(request, body)

    async with FaultyServer(failing) as server:
        path = write(tmp_path, server.base_url, test=60, margin=0.2, students=[SMALL], budget={"rollouts": 400})
        for model in (document := json.loads(path.read_text()))["lms"].values():
            model["retries"] = 0
        path.write_text(json.dumps(document))
        with pytest.raises(BaselineFailed, match=r"the teacher has no score on \d+ of \d+ rows"):
            await asyncio.to_thread(distill, path)
        broken["frontier"] = False
        made = await asyncio.to_thread(distill, path)
    assert made.test is not None


async def test_a_student_as_good_as_the_teacher_is_not_searched_and_a_slow_one_is_refused(tmp_path: Path) -> None:
    good = behave()

    async def swapped(request: web.Request, body: Body) -> web.StreamResponse:
        return await good(request, {**body, "model": "frontier"})

    async with FaultyServer(swapped) as server:
        changes = {"students": [SMALL], "max_latency_p95_ms": 0.001, "budget": {"rollouts": 700}}
        made = await asyncio.to_thread(distill, write(tmp_path, server.base_url, **changes))
    student = made.students[0]
    assert "does as well as the teacher" in student.note
    assert student.candidate.components == made.baseline.components
    assert sum(body["model"] == "small" for body in server.bodies) == 40 + 150, "before and after are one"
    assert student.certificate.outcome == "INFERIOR"
    assert student.too_slow
    assert "max_latency_p95_ms" in student.reason
    assert made.recommendation is None


async def test_a_champion_that_is_dear_to_test_leaves_enough_of_a_tight_cap_for_its_test(tmp_path: Path) -> None:
    wordy = ", whatever else the ticket says of it or of any other animal; " + "mind this well, " * 15

    async def verbose(_request: web.Request, body: Body) -> web.StreamResponse:
        animal = re.findall(r"the (\w+)", str(body["messages"]))[-1]
        knows = body["model"] == "small" and draw("simple", animal) < 0.4
        text = team_of(animal) if knows else re.sub(r"goes to \w+", rf"\g<0>{wordy}", answer(body))
        return web.json_response(completion(text, usage=used(3 * size(body), 2)))

    async with FaultyServer(verbose) as server:
        changes = {"students": [SMALL], "margin": 0.3, "test": 60, "budget": {"rollouts": 3000, "tokens": TIGHT}}
        made = await asyncio.to_thread(distill, write(tmp_path, server.base_url, **changes))
    small = made.students[0]
    assert small.certificate.test is not None
    assert small.certificate.missing == 0
    assert len(small.candidate.components["system"]) > 4 * len(SEED_PROMPT)
    assert made.spent.tokens <= TIGHT


AGENT = """
from openai import OpenAI

def run(components, example, context):
    client = OpenAI(base_url=context.base_url, api_key=context.api_key)
    messages = [{"role": "system", "content": components["rules"]}, {"role": "user", "content": example.text}]
    return client.chat.completions.create(model=context.model, messages=messages).choices[0].message.content
"""


async def test_a_tight_cap_on_tokens_leaves_enough_for_the_test_of_a_program_whose_calls_nobody_knows(
    tmp_path: Path,
) -> None:
    (tmp_path / "agent.py").write_text(AGENT)
    program = {"type": "function", "path": "agent.py:run", "lm_args": {"max_tokens": 8}, "max_calls": 2,
               "components": {"rules": SEED_PROMPT}}  # fmt: skip
    budget = {"rollouts": 3000, "tokens": 48_000}
    run = {"dir": "runs/tickets", "concurrency": 2}  # each call in flight holds its worst case, several times its cost
    async with FaultyServer(behave()) as server:
        path = write(tmp_path, server.base_url, program=program, budget=budget, run=run, students=[SMALL], margin=0.3,
                     test=100)  # fmt: skip
        made = await asyncio.to_thread(distill, path)
    small = made.students[0]
    assert small.certificate.test is not None
    assert (small.certificate.missing, small.certificate.outcome) == (0, "NON-INFERIOR")
    assert 0.8 * budget["tokens"] <= made.spent.tokens <= budget["tokens"]


async def test_a_run_directory_belongs_to_one_distillation(whole: Whole, tmp_path: Path) -> None:
    path = write(tmp_path, "http://127.0.0.1:9/v1", margin=0.05, run={"dir": str(whole.folder / "runs/tickets")})
    with pytest.raises(RunChanged, match=r"distill.margin: 0.1 -> 0.05"):
        await asyncio.to_thread(distill, path)


async def test_the_teacher_can_be_what_counts_as_right(tmp_path: Path) -> None:
    changes = {
        "references": "teacher",
        "margin": 0.2,
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
        done = await command("distill", str(path))
        made = await asyncio.to_thread(distill, path)
    assert made.assay is not None
    assert not made.assay.holds
    assert {student.certificate.outcome for student in made.students} == {"INCONCLUSIVE"}
    assert made.recommendation is None
    assert done.output.index("rows cannot tell good from bad, so nobody") < done.output.index("searching with")
    assert "Nothing can be certified" in done.output


@pytest.mark.slow
async def test_the_command_prints_the_recommendation(tmp_path: Path) -> None:
    async with FaultyServer(behave()) as server:
        done = await command("distill", str(write(tmp_path, server.base_url)))
    assert done.exit_code == 0, done.output
    for words in ("Switch to openai/small", "NON-INFERIOR", "INFERIOR", "dollars per 1,000", "a month"):
        assert words in done.output


@pytest.mark.slow
async def test_a_killed_distillation_goes_on_and_pays_for_nothing_twice(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("whole", "killed")]
    changes = {"test": 60, "margin": 0.2, "budget": {"rollouts": 1100}}
    async with FaultyServer(behave()) as server:
        for folder in folders:
            folder.mkdir()
        whole = await asyncio.to_thread(distill, write(folders[0], server.base_url, **changes))
        calls = server.calls
    async with FaultyServer(behave()) as server:
        path = write(folders[1], server.base_url, **changes)
        for kill_at in (calls // 5, calls // 2, calls - 60):
            run = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "from promptopt.cli import main; main()", "distill", str(path),
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            while server.calls < kill_at and run.returncode is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            os.kill(run.pid, signal.SIGKILL)
            await run.wait()
        made = await asyncio.to_thread(distill, path)
        assert server.calls <= calls + 3 * 8, "only what was in flight is asked again"
    told = [
        [(one.name, one.candidate, one.before, one.after, one.certificate) for one in each.students]
        for each in (whole, made)
    ]
    assert told[0] == told[1]


@pytest.mark.slow
async def test_a_cap_on_minutes_leaves_time_for_the_test(tmp_path: Path) -> None:
    async with FaultyServer(behave(seconds=0.3)) as server:
        path = write(tmp_path, server.base_url, students=[SMALL], budget={"minutes": 1.5})
        made = await asyncio.to_thread(distill, path)
    assert made.students[0].certificate.test is not None
    assert made.students[0].certificate.missing == 0
    assert made.seconds < 90
