"""The child process behind a local model: llama.cpp's own server, for as long as standard input stays open.

It is a process of its own because the library's server holds the interpreter's lock while it loads and while it stops:
inside the engine that would freeze every deadline, and stopping with a call in flight would wait for ever. A crash of
native code ends here, too, and not the user's notebook. Run as a script; it imports nothing of promptopt.

One JSON object comes in as the first line of standard input (model, name, key, slots, context, cache_mib); one goes
out, {"address": ...} or {"error": ...}. The end of standard input, which the death of the parent also brings, ends it.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from typing import Any


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the engine, which lets calls in flight finish
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever native code prints must not look like an answer
    wanted = json.loads(sys.stdin.readline())
    try:
        server = serve(wanted)
        answer = {"address": server.listening_address}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), file=answers, flush=True)
    if "address" in answer:
        sys.stdin.read()
    os._exit(0)  # at once: taking the server apart would wait for its clients


def serve(wanted: dict[str, Any]) -> Any:
    """A server that answers; raises when the file cannot be loaded."""
    xllamacpp: Any = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = wanted["model"]
    params.model_alias = {wanted["name"]}
    params.api_keys = [wanted["key"]]
    params.n_parallel = wanted["slots"]
    params.n_ctx = wanted["slots"] * wanted["context"]
    params.cache_ram_mib = wanted["cache_mib"]
    params.endpoint_slots = params.ui = False
    params.offline = True
    params.verbosity = 1
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
