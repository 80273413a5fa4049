"""The contract of every operator, and the reasons for which an answer is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from promptopt.core.edit import Brief, Edit
from promptopt.lm.message import Message
from promptopt.lm.session import Session


class Refused(Exception):
    """An answer that cannot become an edit, or a brief that leaves nothing to propose.

    `reason` is the category that is counted; `advice` is what the model is told when it is asked again.
    """

    def __init__(self, reason: str, advice: str = "") -> None:
        self.reason, self.advice = reason, advice or reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Question:
    """What the reflection model is asked."""

    messages: tuple[Message, ...]
    schema: Mapping[str, Any] | None = None
    bare: tuple[Message, ...] | None = None
    """The same without its sample, for a model that copies that."""


@runtime_checkable
class Drawn(Protocol):
    """An operator that needs no model."""

    def draw(self, brief: Brief) -> Edit:
        """An edit, from `brief.seed` alone where it is random. Raises Refused when there is nothing left to try."""
        ...


@runtime_checkable
class Asked(Protocol):
    """An operator that asks the reflection model."""

    def ask(self, brief: Brief) -> Question:
        """What to ask. Raises Refused when this brief gives nothing to ask about."""
        ...

    def read(self, answer: str, brief: Brief) -> Edit:
        """The edit in a complete answer. Raises Refused for anything that cannot be used as it is."""
        ...


@runtime_checkable
class Called(Protocol):
    """An operator that makes its own use of the reflection model, through the session that it is given."""

    async def propose(self, brief: Brief, lm: Session) -> Edit:
        """An edit. Raises Refused when it came to nothing."""
        ...


Operator = Drawn | Asked | Called
