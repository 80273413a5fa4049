"""What the reflection model is shown.

Templates are filled in one pass, so nothing in the data is ever read as a template; everything that comes from the
data stands between fences named after a hash of the content, which no row can guess.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

from promptopt.core.edit import Brief, Evidence
from promptopt.core.example import text_of
from promptopt.lm.message import Message

SHOWN = 1500
"""Characters shown of one input, reply or feedback; attention is finite."""
REMEMBERED = 8
"""Earlier edits that did not help, shown newest last."""
MARK = re.compile(r"=== [0-9a-f]{8} (begins|ends) ===")
"""The lines that `fenced` puts around a text."""


def fill(template: str, values: Mapping[str, str]) -> str:
    """`template` with every `<name>` that `values` knows replaced, in one pass."""
    return re.sub(r"<(\w+)>", lambda found: values.get(found[1], found[0]), template)


def fenced(text: str) -> str:
    """`text` between two lines that its content cannot contain by chance or by guess."""
    mark = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    return f"=== {mark} begins ===\n{text}\n=== {mark} ends ==="


def messages(template: str, brief: Brief) -> tuple[Message, ...]:
    """The one user message that asks for an edit of `brief.component`.

    Templates know `<curr_param>`, `<side_info>`, `<role>`, `<rejected>`, `<placeholders>` and `<limit>`.
    """
    component = brief.component
    kept = ", ".join(f"{{{name}}}" for name in component.placeholders)
    values = {
        "curr_param": fenced(component.text),
        "side_info": "\n\n".join(_show(number, row) for number, row in enumerate(_ordered(brief.evidence), 1)),
        "role": component.role or f"text named {component.name}",
        "rejected": _rejected(brief.rejected),
        "placeholders": f"Keep these placeholders exactly as they are: {kept}." if kept else "",
        "limit": str(max(200, brief.max_bytes // 2)),
    }
    return ({"role": "user", "content": re.sub(r"\n{3,}", "\n\n", fill(template, values)).strip()},)


def _ordered(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Failures first: they are what there is to learn from."""
    return sorted(evidence, key=lambda row: row.rollout.value if row.rollout.value is not None else 2.0)


def _show(number: int, row: Evidence) -> str:
    rollout = row.rollout
    head = "could not be scored" if rollout.score is None else f"score {rollout.score.value:.2f}"
    parts = [f"{name}: {_short(text_of(value))}" for name, value in row.example.inputs.items()]
    parts.append(f"Reply: {_short(text_of(rollout.output)) if rollout.output is not None else '(none)'}")
    if rollout.score is not None and rollout.score.feedback:
        parts.append(f"Feedback: {_short(rollout.score.feedback)}")
    if rollout.failure is not None:
        parts.append(f"Failure: {_short(rollout.failure.message)}")
    if rollout.score is not None and rollout.score.parts:
        parts.append("Sub-scores: " + ", ".join(f"{name} {value:.2f}" for name, value in rollout.score.parts.items()))
    return f"Example {number} ({head})\n{fenced(chr(10).join(parts))}"


def _rejected(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    return "These edits were tried and did not help:\n" + "\n".join(f"- {note}" for note in notes[-REMEMBERED:])


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} [… {len(text) - SHOWN} more characters]"
