"""Local models over HTTP on loopback, every call counted where it arrives: the one count no optimizer can get wrong.

The servers are those of `local/` models in promptopt itself; a counting relay stands before each.
"""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from promptopt.lm.local import LocalEndpoint, LocalServers


class Model:
    """One local model: where it answers, and what it was asked so far."""

    def __init__(self, name: str, endpoint: LocalEndpoint) -> None:
        self.name = name
        self.calls = 0
        self.repeats = 0
        """Calls that asked what had been asked before."""
        self.tokens = 0
        """Read and written, as the server counts them: a prompt that it still had in its cache counts in full."""
        self._endpoint = endpoint
        self._asked = set[bytes]()
        self._lock = threading.Lock()
        self._relay = ThreadingHTTPServer(("127.0.0.1", 0), _relay_of(self))
        threading.Thread(target=self._relay.serve_forever, daemon=True).start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._relay.server_port}/v1"

    def forward(self, path: str, body: bytes) -> tuple[int, bytes]:
        """The server's status and reply to one call."""
        headers = {"Authorization": f"Bearer {self._endpoint.api_key}", "Content-Type": "application/json"}
        url = self._endpoint.base_url.removesuffix("/v1") + path
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as reply:
                status, content = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        used = json.loads(content).get("usage", {}) if status == 200 else {}
        with self._lock:
            self.calls += 1
            self.repeats += body in self._asked
            self._asked.add(body)
            self.tokens += used.get("total_tokens", 0)
        return status, content

    def ask(self, messages: Sequence[Mapping[str, str]], **arguments: Any) -> str:
        """The model's reply to a plain chat."""
        body = json.dumps({"model": self.name, "messages": messages, **arguments}).encode()
        status, content = self.forward("/v1/chat/completions", body)
        if status != 200:
            raise RuntimeError(f"{self.name} answered {status}: {content.decode(errors='replace')}")
        return json.loads(content)["choices"][0]["message"]["content"] or ""

    def close(self) -> None:
        self._relay.shutdown()
        self._relay.server_close()


def _relay_of(model: Model) -> type[BaseHTTPRequestHandler]:
    class Relay(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            status, content = model.forward(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Relay


@contextmanager
def served(*names: str) -> Generator[list[Model]]:
    """The models behind these `local/` names, one server each; a name given twice has two counts of one server."""
    with closing(LocalServers()) as servers:
        bare = [name.removeprefix("local/") for name in names]
        models = [Model(name, asyncio.run(servers.serve(name))) for name in bare]
        try:
            yield models
        finally:
            for model in models:
                model.close()
