"""How outputs and expected answers become text that can be compared and quoted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, printable

_WRAPPING = "\"'`*()[]{}<>«»‹›“”„‘’‚「」『』"
WAYS = ("reasoning", "trajectory")
"""Fields that DSPy's own modules put beside an answer."""
_SENTENCE_ENDS = ".,;:!?…。,;:!?、"


def wanted(example: Example) -> Any:
    """The row's expected answer. Raises ValueError where there is none: nothing can be compared with it."""
    if example.expected is None:
        raise ValueError(f"row {example.id!r} has no expected answer; name its column under data.expected")
    return example.expected


def answered(example: Example, rollout: Rollout) -> Any:
    """What of the output is compared with the expected answer.

    Of an output with several fields, as a DSPy module's, that is the field with the name of the column that holds the
    expected answer, or else the only field that is not a way to the answer. Any other output counts as a whole.
    """
    output: Any = rollout.output
    if not isinstance(output, Mapping) or isinstance(example.expected, Mapping):
        return cast(Any, output)
    fields = cast("Mapping[str, Any]", output)
    named = [name for name in fields if name in example.meta and example.meta[name] == example.expected]
    candidates = named or [name for name in fields if name not in WAYS]
    return fields[candidates[0]] if len(candidates) == 1 else fields


def as_text(value: Any) -> str:
    """A string as it is, a whole float without its `.0`, anything else as JSON with sorted keys."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    try:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    except (RecursionError, TypeError, ValueError):
        return f"a {type(value).__name__} that JSON cannot hold"


def normalise(text: str) -> str:
    """`text` without what a reader ignores: case, spacing, wrapping quotes or brackets, closing punctuation.

    Signs that carry meaning at the edge (`-5`, `.5`, `C++`, `C#`, `50%`) stay. Idempotent.
    """
    folded = " ".join(text.casefold().split())
    bare = folded.lstrip(_WRAPPING + " ").rstrip(_WRAPPING + _SENTENCE_ENDS + " ")
    return bare or folded


def mentions(text: str, phrase: str) -> bool:
    """Whether `phrase` stands in `text` as whole words."""
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text) is not None


def quote(value: Any, limit: int = 160) -> str:
    """`value` as one quoted line of about `limit` characters, its middle left out, for use in feedback."""
    text = " ".join(printable(as_text(value)).split())
    if len(text) > limit:
        text = f"{text[: limit // 2]} … {text[-limit // 2 :]}"
    return f'"{text}"'
