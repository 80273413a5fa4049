"""Local models for real: llama.cpp's server with a model of 98 MB, pulled as a user's would be."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from promptopt.errors import ConfigError, ModelDown
from promptopt.lm.local import LocalEndpoint, LocalServers
from promptopt.lm.pull import pull, pulled

TINY = "smollm2-135m"
SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": ["refund", "card"]}, "sure": {"type": "boolean"}},
    "required": ["label", "sure"],
    "additionalProperties": False,
}
HOST = """
import asyncio, sys, aiohttp
from promptopt.lm.local import LocalServers
servers = LocalServers()
async def main():
    endpoint = await servers.serve("smollm2-135m")
    print(endpoint.base_url, flush=True)
    if sys.argv[1] == "wait":
        body = {"messages": [{"role": "user", "content": "Tell a story"}], "max_tokens": 4000}
        async with aiohttp.ClientSession(headers={"Authorization": "Bearer " + endpoint.api_key}) as client:
            await client.post(endpoint.base_url + "/chat/completions", json=body)
asyncio.run(main())
"""


def listens(base_url: str) -> bool:
    port = int(base_url.rsplit(":", 1)[1].split("/")[0])
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def ask(endpoint: LocalEndpoint, text: str, **params: object) -> dict[str, object]:
    body = {"messages": [{"role": "user", "content": text}], "temperature": 0, "seed": 1, "max_tokens": 12, **params}
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as client,
        client.post(f"{endpoint.base_url}/chat/completions", json=body) as response,
    ):
        return {"status": response.status, **await response.json()}


@pytest.fixture(scope="module")
def tiny() -> Path:
    return pull(TINY)


@pytest.fixture
async def servers() -> AsyncIterator[LocalServers]:
    started = LocalServers()
    yield started
    started.close()


async def test_an_unknown_name_is_refused_before_anything_starts(servers: LocalServers):
    with pytest.raises(ConfigError, match="local/llama is not a local model"):
        await servers.serve("llama")


async def test_a_pull_that_nobody_waits_for_any_more_ends(
    servers: LocalServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    hung = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hung.getsockname()[1]}")
    monkeypatch.setenv("PROMPTOPT_MODELS", str(tmp_path))
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    watched = LocalServers(lambda _name, _done, _total: loop.call_soon_threadsafe(asked.set))
    serving = asyncio.create_task(watched.serve(TINY))
    await asked.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    start = time.monotonic()
    await loop.shutdown_default_executor()
    assert time.monotonic() - start < 3
    hung.close()


async def test_a_file_that_is_no_model_is_reported_with_its_place(
    servers: LocalServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    model.write_bytes(b"GGUF but not really")
    seen = {"size": model.stat().st_size, "mtime_ns": model.stat().st_mtime_ns}
    sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    (tmp_path / f"{model.name}.verified").write_text(json.dumps({"sha256": sha256, **seen}))
    monkeypatch.setenv("PROMPTOPT_MODELS", str(tmp_path))
    with pytest.raises(ModelDown, match=f"local/{TINY} does not start from {model}: "):
        await servers.serve(TINY)


@pytest.mark.slow
async def test_it_answers_alike_at_temperature_zero_and_keeps_to_max_tokens(servers: LocalServers, tiny: Path):
    endpoint = await servers.serve(TINY)
    replies = [await ask(endpoint, "Name three colours.") for _ in range(2)]
    texts = [reply["choices"][0]["message"]["content"] for reply in replies]
    assert texts[0] == texts[1] != ""
    assert replies[0]["usage"]["completion_tokens"] == 12
    assert replies[0]["choices"][0]["finish_reason"] == "length"


@pytest.mark.slow
async def test_answers_follow_a_json_schema(servers: LocalServers, tiny: Path):
    endpoint = await servers.serve(TINY)
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
    reply = await ask(endpoint, "I want my money back.", max_tokens=64, response_format=form)
    answer = json.loads(reply["choices"][0]["message"]["content"])
    assert answer["label"] in ("refund", "card")
    assert isinstance(answer["sure"], bool)


@pytest.mark.slow
async def test_calls_at_once_are_all_answered_and_share_what_was_read(servers: LocalServers, tiny: Path):
    endpoint = await servers.serve(TINY)
    prompt = "One of these words is a colour. " * 40
    replies = await asyncio.gather(*(ask(endpoint, f"{prompt} Number {n}?", max_tokens=4) for n in range(12)))
    assert [reply["status"] for reply in replies] == [200] * 12
    reused = [reply["usage"]["prompt_tokens_details"]["cached_tokens"] for reply in replies]
    assert sum(count > 300 for count in reused) >= 12 - endpoint.slots


@pytest.mark.slow
async def test_nobody_without_the_key_gets_an_answer(servers: LocalServers, tiny: Path):
    endpoint = await servers.serve(TINY)
    assert (await ask(endpoint._replace(api_key="guess"), "Hello"))["status"] == 401
    assert endpoint.base_url.startswith("http://127.0.0.1:")


@pytest.mark.slow
async def test_a_prompt_beyond_the_context_is_an_error_that_says_so(servers: LocalServers, tiny: Path):
    reply = await ask(await servers.serve(TINY), "word " * 9000)
    assert reply["status"] == 400
    assert reply["error"]["type"] == "exceed_context_size_error"


@pytest.mark.slow
async def test_one_server_serves_all_who_ask_and_a_dead_one_is_replaced(servers: LocalServers, tiny: Path):
    endpoints = await asyncio.gather(*(servers.serve(TINY) for _ in range(4)))
    assert len(set(endpoints)) == 1
    await asyncio.to_thread(kill_server, endpoints[0])
    replacement = await servers.serve(TINY)
    assert (await ask(replacement, "Hello"))["status"] == 200


@pytest.mark.slow
async def test_close_ends_a_server_with_a_call_in_flight_at_once(servers: LocalServers, tiny: Path):
    endpoint = await servers.serve(TINY)
    call = asyncio.create_task(ask(endpoint, "Tell a story", max_tokens=4000))
    await asyncio.sleep(0.5)
    start = time.monotonic()
    servers.close()
    assert time.monotonic() - start < 5  # the story takes a minute
    assert not listens(endpoint.base_url)
    with pytest.raises(aiohttp.ClientError):
        await call


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "end", "code"),
    [("return", None, 0), ("wait", signal.SIGINT, -signal.SIGINT), ("wait", signal.SIGKILL, -signal.SIGKILL)],
    ids=["it returns", "Ctrl-C", "SIGKILL"],
)
def test_the_server_ends_with_the_process_that_started_it(tiny: Path, mode: str, end: signal.Signals | None, code: int):
    host = subprocess.Popen([sys.executable, "-c", HOST, mode], stdout=subprocess.PIPE, text=True)
    try:
        assert host.stdout is not None
        base_url = host.stdout.readline().strip()
        time.sleep(1)
        if end is not None:
            host.send_signal(end)
        assert host.wait(60) == code
    finally:
        host.kill()
        host.communicate()
    gone = time.monotonic() + 5
    while listens(base_url):
        assert time.monotonic() < gone
        time.sleep(0.05)


@pytest.mark.slow
def test_a_pulled_model_is_found_at_once(tiny: Path):
    start = time.monotonic()
    assert pulled(TINY) == tiny
    assert time.monotonic() - start < 0.1


def kill_server(endpoint: LocalEndpoint) -> None:
    """Kill the process behind `endpoint`, as a machine without memory would."""
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "llama_server"], capture_output=True, check=True)
    os.kill(int(found.stdout), signal.SIGKILL)
    while listens(endpoint.base_url):
        time.sleep(0.05)
