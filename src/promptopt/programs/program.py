"""The contract of every program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from promptopt.core.candidate import Candidate, Component, Demo
from promptopt.core.example import Example
from promptopt.lm.message import Message
from promptopt.lm.session import Session
from promptopt.lm.spec import LM


class Program(Protocol):
    """Something with named text components that runs on an example.

    A prompt, a Python function, a DSPy module, a multi-turn agent and a gepa adapter all fit: `components` is what may
    be rewritten, `run` is one rollout, and the session that `run` calls models through is its trace.
    """

    @property
    def components(self) -> tuple[Component, ...]:
        """All named texts, optimizable or not, as the program starts."""
        ...

    @property
    def demo_slots(self) -> tuple[str, ...]:
        """Where demos can be put; empty where the program takes none."""
        ...

    @property
    def lm(self) -> LM | None:
        """The model it calls through the session; None when it calls none of ours."""
        ...

    @property
    def max_calls(self) -> int:
        """Most model calls of one rollout; a rollout that asks for more fails."""
        ...

    @property
    def fingerprint(self) -> str:
        """Everything but the candidate and the example that decides an output, as text."""
        ...

    def check(self, columns: Sequence[str]) -> None:
        """Raise ConfigError when the program needs a column that the data's inputs do not have."""
        ...

    def labelled(self, slot: str, example: Example) -> Demo | None:
        """The demo that a row's expected answer makes in `slot`, without running anything; None where it makes none."""
        ...

    def preview(self, candidate: Candidate, example: Example) -> tuple[Message, ...] | None:
        """The messages of a rollout's only call, from which its worst case follows; None where nobody can know."""
        ...

    async def run(self, candidate: Candidate, example: Example, lm: Session) -> Any:
        """One rollout's output, a value that JSON can hold.

        Raises Unreadable, CallFailed, or any error of the user's own code.
        """
        ...


class Unreadable(Exception):
    """A reply that its program cannot read, which is a wrong answer: it scores 0, and no metric is asked."""

    def __init__(self, reply: str, feedback: str) -> None:
        self.reply, self.feedback = reply, feedback
        super().__init__(feedback)


def retrieves(program: Program) -> bool:
    """Whether a program can show each input the demos nearest to it, and not always the same."""
    return getattr(program, "retrieves", False)
