"""What a certificate is bound to: both models as their endpoints name themselves, the prompt, the rows, the price."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True, slots=True)
class Served:
    """A model as it answered."""

    lm: str
    reported: tuple[str, ...]
    """What its endpoint called itself; empty where it says nothing."""
    price: dict[str, float] | None
    """US dollars per million tokens, `input` and `output`; None where nobody knows."""


@dataclass(frozen=True)
class Binding:
    """All that a certificate holds for."""

    teacher: Served
    student: Served
    prompt: str
    """The id of the student's candidate, which is a hash of its content."""
    data: str
    """A hash of all that the tested rows say."""
    margin: float

    @cached_property
    def hash(self) -> str:
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {"hash": self.hash, **asdict(self)}
