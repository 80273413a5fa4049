"""What goes to a model and what comes back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

from promptopt.core.rollout import Failure

Purpose = Literal["program", "reflection", "judge"]
Message = Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """One chat completion to ask for."""

    model: str
    """`local/NAME`, or any name that litellm knows."""
    messages: tuple[Message, ...]
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """temperature, max_tokens, stop, tools and so on, as OpenAI names them."""
    schema: Mapping[str, Any] | None = None
    """A JSON schema that the answer should follow; sent to the model where it supports that."""

    @cached_property
    def digest(self) -> str:
        """A hash of all that is asked."""
        body = [self.model, list(self.messages), dict(self.params), self.schema]
        text = json.dumps(body, sort_keys=True, ensure_ascii=False, default=str)
        return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered, and what that cost."""

    text: str
    finish_reason: str
    tokens_in: int
    tokens_out: int
    usd: Decimal = Decimal(0)
    seconds: float = 0.0
    message: Message = field(default_factory=dict[str, Any])
    """The whole assistant message, tool calls included."""
    model: str = ""
    """What the endpoint calls itself, often with its version; empty where it says nothing."""
    certainty: float | None = None
    """The geometric mean of its tokens' probabilities; None where they were not asked for, or not told."""
    cached: bool = False
    """True when the ledger answered and nothing was paid."""

    def to_json(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "finish_reason": self.finish_reason,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "usd": str(self.usd),
            "seconds": round(self.seconds, 3),
            "message": dict(self.message),
            "model": self.model,
            "certainty": self.certainty,
        }

    @staticmethod
    def from_json(body: Mapping[str, Any]) -> Reply:
        """Read back a paid reply that `to_json` wrote."""
        fields = dict(body)
        fields.update(usd=Decimal(body["usd"]), cached=True)
        return Reply(**fields)


@dataclass(frozen=True, slots=True)
class Scope:
    """On whose account a call is made: one rollout, one reflection, one judgement."""

    purpose: Purpose
    key: str
    """What the work is, completely: equal work after a crash finds its paid calls under the same key."""
    step: int = 0
    """The search step that asked; older steps go first when calls queue."""
    candidate: str = ""
    """Whose rollout it belongs to, by id; empty for a reflection."""
    nth: int = 0
    """Which of this work's equal requests the call is, from 0: asking twice is two calls, before and after a crash."""
    row: str = ""
    """What the work is but for its candidate; empty where no other candidate may have its answers."""


class CallFailed(Exception):
    """A model call that has no answer after all its tries; `failure` says why, and is recorded as missing data."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(f"{failure.kind}: {failure.message}")
