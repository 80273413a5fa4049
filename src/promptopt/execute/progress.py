"""What a run tells while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from promptopt.core.budget import Budget, Spend
from promptopt.core.state import Told

Phase = Literal["evaluation", "baseline", "search", "sealed test"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A run at one moment."""

    phase: Phase
    spent: Spend
    budget: Budget
    seconds: float
    """Wall-clock over all sessions."""
    steps: int = 0
    in_flight: int = 0
    val_baseline: float | None = None
    val_best: float | None = None
    """Selection score of the incumbent, optimistic: its mean on all of val, or before that what its races tell."""
    val_rows: tuple[int, int] = (0, 0)
    """How many val rows the incumbent has run on, of how many there are."""
    last_win: str = ""
    """What the last accepted edit changed; empty before the first."""


@dataclass(frozen=True, slots=True)
class Running:
    """A run that has begun, seen from outside."""

    progress: Callable[[], Progress]
    """May be called from another thread at any time."""
    interrupt: Callable[[], None]
    """Start nothing more, finish what runs, and leave a run that can be resumed. Call it in the run's event loop."""


class Watch(Protocol):
    """Whoever shows a run to people."""

    def began(self, running: Running) -> None: ...

    def folded(self, told: Told) -> None:
        """A step has ended; called in step order."""
        ...

    def said(self, message: str) -> None:
        """A line for people, such as what was reused."""
        ...


class Silent:
    """Shows nothing."""

    def began(self, running: Running) -> None: ...

    def folded(self, told: Told) -> None: ...

    def said(self, message: str) -> None: ...
