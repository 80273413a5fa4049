"""A simulated task with simulated models, in process or as an OpenAI-compatible endpoint on loopback.

    python benchmarks/simtask.py --task-ms 300 --reflect-ms 3000        # prints its address and serves

It measures the mechanics of a search (rollouts, wall-clock), never the quality of prompts for real models. Equal
requests get equal answers: every draw is a hash.

A parcel record lists goods; the answer is the parcel's lane. A good is handled rightly only where the prompt states its
handling note, so a prompt is as good as the notes that it states. Filler and memorised parcels cost accuracy elsewhere.
The reflection model finds the current prompt and the feedback in whatever it is sent and adds at most three notes from
the feedback; it also forgets some, pads some and memorises some. It rewrites inside a fenced block, or fills the JSON
schema it is given.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import html
import json
import random
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypedDict

from aiohttp import web

from promptopt.testing.faulty import completion, used

LANES = ("north", "south", "east", "west", "air", "sea")
GOODS = (
    *("ceramics", "batteries", "orchids", "lenses", "cheese", "ink", "magnets", "seedlings"),
    *("violins", "vaccines", "fireworks", "mirrors", "resin", "honey", "lamps", "fossils"),
)
CHARTS = ("fragile", "cold", "bulk", "customs")
FILLER = tuple(f"Keep in mind remark R{i:02d} about house style." for i in range(30))
SEED_PROMPT = f"Name the lane for the parcel, one of: {', '.join(LANES)}. Reply with the lane only."
TASK, REFLECT = "task", "reflect"
"""What the two models are called; any name that holds `reflect` is the reflection model."""
MEMORISED = re.compile(r"Parcel Q\d+ takes lane \w+\.")

Messages = Sequence[Mapping[str, Any]]


class Row(TypedDict):
    """One parcel as data."""

    id: str
    input: str
    answer: str


@dataclass(frozen=True, slots=True)
class Parcel:
    """A row with the goods it holds, by number."""

    row: Row
    held: tuple[int, ...]


def draw(*parts: object) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


class Task:
    """A world drawn from `seed`: its parcels, their notes, and both models."""

    def __init__(self, seed: int = 0, n_goods: int = 12, n_parcels: int = 600) -> None:
        rng = random.Random(1000 + seed)
        self.seed, goods = seed, rng.sample(GOODS, n_goods)
        self.notes = [
            f"Note {i:02d}: parcels holding {good} follow the {rng.choice(CHARTS)} chart."
            for i, good in enumerate(goods)
        ]
        self.parcels: dict[str, Parcel] = {}
        for i in range(n_parcels):
            held = rng.sample(range(n_goods), rng.choices([1, 2, 3], [5, 3, 1])[0])
            name = f"Q{seed}{i:04d}"
            text = f"Parcel {name} holds {', '.join(goods[j] for j in held)}. Lane?"
            self.parcels[name] = Parcel(Row(id=name, input=text, answer=rng.choice(LANES)), tuple(held))

    def split(self, train: int = 80, val: int = 80) -> tuple[list[Row], list[Row], list[Row]]:
        """Train, val, and all the other rows."""
        names = sorted(self.parcels, key=lambda name: draw("split", self.seed, name))
        rows = [self.parcels[name].row for name in names]
        return rows[:train], rows[train : train + val], rows[train + val :]

    def score(self, name: str, output: str) -> tuple[float, str]:
        """0 or 1 for an answer about the parcel `name`, and the feedback that a reflection model learns from."""
        parcel = self.parcels[name]
        if output.strip().lower().strip(".") == parcel.row["answer"]:
            return 1.0, "Correct."
        note = self.notes[parcel.held[int(draw("which", name) * len(parcel.held))]]
        hint = f" It should have known: {note}" if draw("hint", name) < 0.7 else ""
        return 0.0, f"Wrong, the lane is {parcel.row['answer']}.{hint}"

    def complete(self, model: str, messages: Messages, schema: Mapping[str, Any] | None = None) -> str:
        """What the model says to a chat."""
        system = "\n".join(content(message) for message in messages if message["role"] == "system")
        user = "\n".join(content(message) for message in messages if message["role"] != "system")
        if REFLECT not in model:
            return self.answer(system or user, user)
        text = f"{system}\n{user}"
        return json.dumps(self.fill(schema, text)) if schema else f"Better:\n```\n{self.reflect(text)}\n```"

    def answer(self, prompt: str, user: str) -> str:
        """The lane of the last parcel that `user` names, right as often as `prompt` deserves."""
        names = re.findall(r"Parcel (Q\d+)", user)
        parcel = self.parcels.get(names[-1]) if names else None
        if parcel is None:
            return "I cannot tell."
        name, lane = parcel.row["id"], parcel.row["answer"]
        if f"{name} takes lane" in prompt:
            return lane
        known = {i for i, note in enumerate(self.notes) if note in prompt}
        filler = len(set(re.findall(r"remark R\d\d", prompt)))
        right = 1.0
        for good in parcel.held:
            right *= 0.95 if good in known else 0.15
        right -= 0.02 * filler + 0.005 * prompt.count("takes lane")
        if draw("answer", name, sorted(known), filler) < right:
            return lane
        start = int(draw("wrong", name) * len(LANES))
        return next(other for other in (*LANES[start:], *LANES) if other != lane)

    def reflect(self, text: str) -> str:
        """A rewrite of the prompt in `text`. The more parcels it is shown, the less attention each gets."""
        current, body = self.parts(text)
        key = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        shown = set(re.findall(r"Parcel (Q\d+)", body))
        attention = 0.8 * min(1.0, 10 / max(1, len(shown)))
        kept = [note for note in self.notes if note in current and draw(key, "keep", note) > 0.04]
        seen = [note for note in self.notes if note in body and note not in current]
        noticed = [note for note in seen if draw(key, "add", note) < attention]
        added = sorted(noticed, key=lambda note: draw(key, "pick", note))[:3]
        filler = [line for line in FILLER if line in current and draw(key, "keep", line) > 0.15]
        if draw(key, "pad") < 0.35:
            filler.append(FILLER[int(draw(key, "which") * len(FILLER))])
        copied = {name for name in shown & self.parcels.keys() if draw(key, "memo", name) < 0.1}
        memorised = {f"Parcel {name} takes lane {self.parcels[name].row['answer']}." for name in copied}
        memorised |= set(MEMORISED.findall(current))
        return "\n".join([current.split("\n")[0] or SEED_PROMPT, *kept, *added, *filler, *sorted(memorised)])

    def edits(self, text: str) -> list[str]:
        """The same model, asked for additions only."""
        had = set(self.parts(text)[0].split("\n"))
        return [line for line in self.reflect(text).split("\n")[1:] if line not in had][:3] or [
            "Reply with the lane only."
        ]

    def fill(self, schema: Mapping[str, Any], text: str) -> Any:
        """An answer that fits `schema`, with additions in its arrays."""
        kind, item = schema.get("type"), schema.get("items", {})
        if kind == "object" or "properties" in schema:
            return {key: self.fill(part, text) for key, part in schema.get("properties", {}).items()}
        if kind == "array":
            rows = self.edits(text)[: schema.get("maxItems", 3)]
            return [self._addition(item["properties"], row, text) for row in rows] if "properties" in item else rows
        return 1 if kind in ("integer", "number") else "It lacks notes."

    def _addition(self, properties: Mapping[str, Any], row: str, text: str) -> dict[str, Any]:
        """An addition where the schema wants an object: `row` in each of its free texts."""
        free = {key for key, part in properties.items() if part.get("type") == "string"}
        return {key: row if key in free else self.fill(part, text) for key, part in properties.items()}

    def parts(self, text: str) -> tuple[str, str]:
        """A request as the current prompt, bulleted or not, and all the rest.

        The prompt is the seed's line and the known lines after it; where the seed's line stands several times, the
        first that known lines follow counts.
        """
        text = html.unescape(text)
        places = [found.start() for found in re.finditer(re.escape(SEED_PROMPT[:40]), text)]
        if not places:
            return "", text
        tails = [text[place:].split("\n") for place in places]
        place, tail = next(
            ((p, t) for p, t in zip(places, tails, strict=True) if self._length(t) > 1), (places[0], tails[0])
        )
        n = self._length(tail)
        return "\n".join(map(plain, tail[:n])).strip(), text[:place] + "\n".join(tail[n:])

    def _length(self, lines: Sequence[str]) -> int:
        """How many lines belong to a prompt that begins with the first."""
        n = 1
        while n < len(lines) and self._known(plain(lines[n])):
            n += 1
        while n > 1 and not plain(lines[n - 1]):
            n -= 1
        return n

    def _known(self, line: str) -> bool:
        heading = re.fullmatch(r"#+ .*|\**[A-Z][\w ]{0,30}:\**", line) or MEMORISED.fullmatch(line)
        return not line or line in self.notes or line in FILLER or heading is not None


def in_fields(text: str, messages: Messages) -> str:
    """`text` in the fields that DSPy's chat or JSON format asks for, where `messages` ask in one; unfenced."""
    asked = re.search(r"Respond with (the corresponding output fields|a JSON object).*", content(messages[-1]))
    if not asked:
        return text
    bare = text.split("```")[1].strip() if "```" in text else text
    as_json = asked[1] == "a JSON object"
    named = re.findall(r"`(\w+)`" if as_json else r"\[\[ ## (\w+) ## \]\]", asked[0])
    names = [name for name in named if name != "completed"]
    said = {name: bare if len(names) == 1 or "instruction" in name else "It lacks notes." for name in names}
    if as_json:
        return json.dumps(said)
    return "\n\n".join([*(f"[[ ## {name} ## ]]\n{told}" for name, told in said.items()), "[[ ## completed ## ]]"])


def plain(line: str) -> str:
    """A line without its bullet."""
    return re.sub(r"^\s*(?:[-*•>]|\d+[.)])\s+", "", line).strip()


def content(message: Mapping[str, Any]) -> str:
    """A message's text, whether it is given whole or in parts."""
    given = message.get("content") or ""
    return given if isinstance(given, str) else "".join(part.get("text", "") for part in given)


@dataclass
class Traffic:
    """What reached the endpoint."""

    calls: dict[str, int] = field(default_factory=lambda: {TASK: 0, REFLECT: 0})
    in_flight: dict[str, int] = field(default_factory=lambda: {TASK: 0, REFLECT: 0})
    repeats: int = 0
    """Task calls that asked what had been asked before."""
    changes: list[tuple[float, int, int]] = field(default_factory=list[tuple[float, int, int]])
    """The time in seconds, and the task and reflection calls in flight from then on."""

    def change(self, kind: str, by: int) -> None:
        self.calls[kind] += by > 0
        self.in_flight[kind] += by
        self.changes.append((time.monotonic(), self.in_flight[TASK], self.in_flight[REFLECT]))

    def mean_in_flight(self, kind: str, every: float = 1.0) -> list[float]:
        """Calls of this kind in flight, averaged over each `every` seconds since the first call."""
        if not self.changes:
            return []
        start, column = self.changes[0][0], 1 if kind == TASK else 2
        totals = [0.0] * (int((self.changes[-1][0] - start) / every) + 1)
        for before, after in zip(self.changes, self.changes[1:], strict=False):
            at, until = before[0] - start, after[0] - start
            while at < until:
                bin = int(at / every + 1e-9)
                edge = min(until, (bin + 1) * every)
                totals[bin] += before[column] * (edge - at)
                at = edge
        return [total / every for total in totals]


def application(task: Task, task_ms: float, reflect_ms: float) -> web.Application:
    """The endpoint: chat completions that take lognormal times with these means, and GET /traffic."""
    rng, traffic, asked = random.Random(7), Traffic(), set[str]()

    async def chat(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        messages = body["messages"]
        kind, mean = (REFLECT, reflect_ms) if REFLECT in body["model"] else (TASK, task_ms)
        traffic.change(kind, 1)
        what = json.dumps(messages)
        traffic.repeats += kind == TASK and what in asked
        asked.add(what)
        try:
            await asyncio.sleep(mean / 1000 * rng.lognormvariate(-0.125, 0.5))
            schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
            text = in_fields(task.complete(kind, messages, schema), messages)
        finally:
            traffic.change(kind, -1)
        size = sum(len(content(message)) for message in messages)
        return web.json_response(completion(text, usage=used(size // 4 + 1, len(text) // 4 + 1)))

    async def show(_request: web.Request) -> web.Response:
        return web.json_response({"calls": traffic.calls, "repeats": traffic.repeats, "changes": traffic.changes})

    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/v1/traffic", show)
    return app


@contextmanager
def serving(seed: int, *, task_ms: float = 0.0, reflect_ms: float = 0.0) -> Generator[str]:
    """The endpoint in a process of its own; gives its address."""
    options = {"--seed": seed, "--task-ms": task_ms, "--reflect-ms": reflect_ms}
    command = [sys.executable, __file__, *(str(part) for pair in options.items() for part in pair)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()


def traffic_at(base_url: str) -> Traffic:
    """What has reached the endpoint at `base_url` so far."""
    with urllib.request.urlopen(f"{base_url}/traffic") as response:
        seen = json.load(response)
    return Traffic(
        calls=seen["calls"],
        repeats=seen["repeats"],
        changes=[(at, tasks, reflections) for at, tasks, reflections in seen["changes"]],
    )


async def serve(task: Task, task_ms: float, reflect_ms: float) -> None:
    runner = web.AppRunner(application(task, task_ms, reflect_ms), access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}/v1", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--task-ms", type=float, default=0.0, help="mean time of a task call")
    parser.add_argument("--reflect-ms", type=float, default=0.0, help="mean time of a reflection")
    options = parser.parse_args()
    asyncio.run(serve(Task(options.seed), options.task_ms, options.reflect_ms))


if __name__ == "__main__":
    main()
