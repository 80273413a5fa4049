"""Ctrl-C and SIGTERM: the first lets the run finish what is in flight, the second ends the process at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

from promptopt.core.state import Told
from promptopt.execute.progress import Running, Watch

DRAINING = "interrupted: finishing the calls in flight. A second time ends it at once, and what is paid for is kept."
INTERRUPTED = 130
"""The exit code of an interrupted process."""

_SHOW_CURSOR = b"\x1b[?25h"


class Interruptible:
    """A watch that holds both signals while its block runs, in the main thread.

    Before the run has begun there is nothing to drain, and a signal raises KeyboardInterrupt. The handlers are Python's
    own and not the event loop's, so that the second signal works when the loop is stuck.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._drain: Callable[[], object] | None = None
        self._caught = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._catch) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def began(self, running: Running) -> None:
        loop = asyncio.get_running_loop()

        def drain() -> None:
            self._watch.said(DRAINING)
            running.interrupt()

        self._drain = lambda: loop.call_soon_threadsafe(drain)
        self._watch.began(running)

    def folded(self, told: Told) -> None:
        self._watch.folded(told)

    def said(self, message: str) -> None:
        self._watch.said(message)

    def _catch(self, _number: int, _frame: FrameType | None) -> None:
        if self._caught:
            if os.isatty(2):
                os.write(2, _SHOW_CURSOR)  # a live display that hid it has no time left to show it
            os._exit(INTERRUPTED)
        self._caught = True
        if self._drain is None:
            raise KeyboardInterrupt
        with suppress(RuntimeError):  # the loop is closed: the run has ended by itself
            self._drain()
