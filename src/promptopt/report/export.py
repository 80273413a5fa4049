"""A candidate in the form that it will live in."""

from __future__ import annotations

import json

from promptopt.core.candidate import Candidate
from promptopt.core.example import text_of


def as_json(candidate: Candidate) -> str:
    """`{components, demos, settings}`, as `promptopt evaluate --candidate` reads it; plain ASCII."""
    return json.dumps(candidate.to_json(), indent=2)


def as_text(candidate: Candidate) -> str:
    """The texts as they are, each below its name where there are several, and the demos as question and answer."""
    several = len(candidate.components) > 1 or candidate.n_demos > 0 or bool(candidate.settings)
    parts = [f"## {name}\n\n{text}" if several else text for name, text in candidate.components.items()]
    for slot, demos in candidate.demos.items():
        parts.append(f"## demos: {slot}")
        for number, demo in enumerate(demos, 1):
            inputs = "\n".join(f"{name}: {text_of(value)}" for name, value in demo.inputs.items())
            parts.append(f"### {number}\n\n{inputs}\n\nanswer: {demo.output}")
    if candidate.settings:
        settings = "\n".join(f"{name}: {text_of(value)}" for name, value in candidate.settings.items())
        parts.append(f"## settings\n\n{settings}")
    return "\n\n".join(parts)
