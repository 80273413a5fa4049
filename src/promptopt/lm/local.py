"""Local models served to this process: one llama.cpp server a model, on loopback, behind a random key.

A server starts on the first call of its model, keeps the prompts it has read (of several candidates in turn, too), and
ends with `close`, with the interpreter, or with the death of this process, whichever comes first.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from promptopt.errors import ConfigError, ModelDown
from promptopt.lm import llama_server
from promptopt.lm.catalogue import local_model
from promptopt.lm.pull import pull

PullProgress = Callable[[str, int, int], None]
"""Called from another thread while a model is fetched: its name, the bytes at hand, the bytes in all."""

SLOTS = max(1, min(4, (os.cpu_count() or 1) // 4))
"""Calls that a server works on at once. Each slot reads a shared prompt for itself, and on two cores calls side by
side save nothing (measured: 0.74 CPU seconds a short call in two slots, 0.66 in one; a new prompt costs twice)."""
CONTEXT = 8192
"""Tokens that a prompt and its answer may have together."""
CACHE_MIB = 1024
"""Memory for prompts that were read and may come again, such as those of rival candidates."""
THREADING = {"OMP_WAIT_POLICY": "passive"}
"""Threads that wait sleep instead of spinning. On cores that the engine or a second model shares, spinning made calls
2.4 times slower (measured on 2 cores beside one busy process: 1.8 s a call, up to 10 s, against 0.75 s)."""
LOAD_SECONDS = 300.0


class LocalEndpoint(NamedTuple):
    """Where a local model answers OpenAI-compatible calls."""

    base_url: str
    slots: int
    """Calls that it works on at once. Further ones would wait inside, in no fair order: send no more than this."""
    api_key: str


class LocalServers:
    """The local models that one run uses, for one event loop."""

    def __init__(self, progress: PullProgress | None = None) -> None:
        self._progress: PullProgress = progress or (lambda _name, _done, _total: None)
        self._running: dict[str, _Server] = {}
        self._starting: dict[str, asyncio.Lock] = {}
        weakref.finalize(self, _stop_all, self._running)  # at the latest when the interpreter exits

    async def serve(self, name: str) -> LocalEndpoint:
        """Where the model `name` answers: pulled if it is not here, started if it does not run, or runs no more.

        Raises ConfigError for an unknown name or a missing runtime, RunError when the file cannot be had, and
        ModelDown when the server does not come up.
        """
        model = local_model(name)
        async with self._starting.setdefault(model.name, asyncio.Lock()):
            server = self._running.get(model.name)
            if server is None or server.process.poll() is not None:
                _check_runtime()
                path = await self._pull(model.name)
                server = self._running[model.name] = await _start(model.name, path)
            return server.endpoint

    def close(self) -> None:
        """Stop every server; calls in flight are cut off."""
        _stop_all(self._running)

    async def _pull(self, name: str) -> Path:
        """Pull in a thread, which gives up when this call is cancelled."""
        cancelled = threading.Event()

        def report(done: int, total: int) -> None:
            if cancelled.is_set():
                raise _Abandoned
            self._progress(name, done, total)

        try:
            return await asyncio.to_thread(pull, name, report)
        finally:
            cancelled.set()


class _Abandoned(Exception):
    """Nobody waits for this pull any more."""


@dataclass(frozen=True, slots=True)
class _Server:
    process: subprocess.Popen[bytes]
    endpoint: LocalEndpoint


async def _start(name: str, path: Path) -> _Server:
    """A server of the model in `path` that answers. Raises ModelDown when it does not come up."""
    key, address = secrets.token_urlsafe(24), None
    order = {"model": str(path), "name": name, "key": key, "slots": SLOTS, "context": CONTEXT, "cache_mib": CACHE_MIB}
    with tempfile.TemporaryFile() as words:
        process = _spawn(words)
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                address = await asyncio.to_thread(_ask, process, order, words)
        except TimeoutError:
            raise ModelDown(f"local/{name} has not loaded within {LOAD_SECONDS:.0f} s.", f"local/{name}") from None
        except _NotLoaded as reason:
            raise ModelDown(f"local/{name} does not start from {path}: {reason}", f"local/{name}") from None
        finally:
            if address is None:
                _stop(process)
    return _Server(process, LocalEndpoint(f"{address}/v1", SLOTS, key))


class _NotLoaded(Exception):
    """Why a server did not come up."""


def _spawn(words: IO[bytes]) -> subprocess.Popen[bytes]:
    """A server process that waits for its order; what it says on standard error goes to `words`."""
    return subprocess.Popen(
        [sys.executable, "-P", llama_server.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=words,
        env={**os.environ, **THREADING},
    )


def _ask(process: subprocess.Popen[bytes], order: Mapping[str, object], words: IO[bytes]) -> str:
    """Hand the server process its order and wait for its address. Raises _NotLoaded when it has none."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
    answer = json.loads(process.stdout.readline() or b"{}")
    if "address" in answer:
        return answer["address"]
    words.seek(0)
    said = words.read().decode(errors="replace").strip()[-500:]
    raise _NotLoaded("\n".join(filter(None, [answer.get("error") or _cause_of_death(process.wait()), said])))


def _cause_of_death(code: int) -> str:
    """What an exit code says about a process that ended before it answered."""
    if code == -signal.SIGILL:
        return "this processor lacks instructions that the prebuilt xllamacpp uses."
    if code == -signal.SIGKILL:
        return "it was killed, most likely because memory ran out."
    return f"the server process ended with code {code}."


def _check_runtime() -> None:
    if importlib.util.find_spec("xllamacpp") is None:
        raise ConfigError("local/ models need xllamacpp, which is not installed: pip install 'promptopt-engine[local]'")


def _stop_all(running: dict[str, _Server]) -> None:
    while running:
        _stop(running.popitem()[1].process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """A server has nothing to save, so it is killed: asking it would wait until it has loaded or its clients left."""
    process.kill()
    process.communicate()
