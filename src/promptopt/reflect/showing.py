"""What the reflection model is shown.

Templates are filled in one pass, so nothing in the data is ever read as a template; everything that comes from the
data stands between fences named after a hash of the content, which no row can guess. The current text is shown whole
and verbatim; of the rows, at most ten.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

from promptopt.core.candidate import Component
from promptopt.core.edit import Brief, Evidence
from promptopt.core.example import text_of
from promptopt.lm.message import Message
from promptopt.reflect.evidence import feedback, right, wrong
from promptopt.reflect.operator import Question
from promptopt.reflect.sample import Sample

SHOWN = 1500
"""Characters shown of one input, reply or feedback; attention is finite."""
MOST_ROWS = 10
"""Rows shown at once. With 100 instead of 3, one reflection taught less than half as much (ComBEE, 2026)."""
KEPT_ROWS = 2
"""Successes among them: enough to see what must stay as it is."""
MOST_EDITS = 8
"""Earlier edits that did not help, shown newest last."""
ROW = re.compile(r"Example \d+ \((score [\d.]+ of 1|could not be scored)\)")
"""The line above each row."""
MARK = re.compile(r"=== [0-9a-f]{8} (begins|ends) ===")
"""The lines that `fenced` puts around a text."""


def messages(
    template: str, brief: Brief, *, sample: Sample | None = None, side_info: str | None = None
) -> tuple[Message, ...]:
    """The one user message that asks for an edit of `brief.component`.

    Templates know `<curr_param>`, `<side_info>`, `<role>`, `<rejected>`, `<placeholders>`, `<limit>` and `<sample>`;
    `side_info` is the rows with replies and feedback unless it is given.
    """
    component = brief.component
    kept = ", ".join(f"{{{name}}}" for name in component.placeholders)
    values = {
        "curr_param": fenced(component.text),
        "side_info": rows(brief.evidence, component) if side_info is None else side_info,
        "role": component.role or f"text named {component.name}",
        "rejected": _rejected(brief.rejected),
        "placeholders": f"Keep these placeholders exactly as they are: {kept}." if kept else "",
        "limit": str(max(200, brief.max_bytes // 2)),
        "sample": str(sample or ""),
    }
    layout = fill(template, {name: "" for name, value in values.items() if not value})
    return ({"role": "user", "content": fill(re.sub(r"\n{3,}", "\n\n", layout), values).strip()},)


def question(
    template: str, brief: Brief, sample: Sample, schema: Mapping[str, Any], side_info: str | None = None
) -> Question:
    """A question with a sample of its answer, and the same without it for a model that copies the sample."""
    ask = partial(messages, template, brief, side_info=side_info)
    return Question(ask(sample=sample), schema, bare=ask())


def fill(template: str, values: Mapping[str, str]) -> str:
    """`template` with every `<name>` that `values` knows replaced, in one pass."""
    return re.sub(r"<(\w+)>", lambda found: values.get(found[1], found[0]), template)


def fenced(text: str) -> str:
    """`text` between two lines that its content cannot contain by chance or by guess."""
    mark = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    return f"=== {mark} begins ===\n{text}\n=== {mark} ends ==="


def rows(evidence: Sequence[Evidence], component: Component) -> str:
    """The rows to learn from: failures first, then a few successes."""
    kept = right(evidence)[:KEPT_ROWS]
    failed = wrong(evidence)[: MOST_ROWS - len(kept)]
    return "\n\n".join(_row(number, row, component) for number, row in enumerate([*failed, *kept], 1))


def short(text: str, limit: int = SHOWN) -> str:
    """`text`, cut at `limit` characters."""
    return text if len(text) <= limit else f"{text[:limit]} [… {len(text) - limit} more characters]"


def _row(number: int, row: Evidence, component: Component) -> str:
    rollout, score = row.rollout, row.rollout.score
    head = "could not be scored" if score is None else f"score {score.value:.2f} of 1"
    parts, output = _fields(row.example.inputs), cast(object, rollout.output)
    if isinstance(output, Mapping):
        parts += ["Reply:", *_fields(cast("Mapping[str, Any]", output))]
    else:
        parts.append(f"Reply: {short(text_of(output)) if output is not None else '(none)'}")
    if said := feedback(row, component):
        parts.append(f"Feedback: {short(said)}")
    if rollout.failure is not None:
        parts.append(f"Failure: {short(rollout.failure.message)}")
    if score is not None and score.parts:
        parts.append("Sub-scores: " + ", ".join(f"{name} {value:.2f}" for name, value in score.parts.items()))
    return f"Example {number} ({head})\n{fenced(chr(10).join(parts))}"


def _fields(named: Mapping[str, Any]) -> list[str]:
    """Values under their names, as text: shown data, a weak model answers with data."""
    return [f"{name}: {short(text_of(value))}" for name, value in named.items()]


def _rejected(edits: Mapping[str, str]) -> str:
    """The newest edits that did not help, each with why."""
    if not edits:
        return ""
    newest = list(edits.items())[-MOST_EDITS:]
    return "These edits were tried and did not help; propose something else:\n" + "\n".join(
        f"- {note} ({why})" if why else f"- {note}" for note, why in newest
    )
