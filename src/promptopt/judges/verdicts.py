"""A reason and then a verdict: how it is asked for, read, and taken together over several samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, cast

from promptopt.core.rollout import printable
from promptopt.judges.answers import Answer, Value

INSTRUCTIONS = """\
{task}

Rubric:
{rubric}

Answer with one JSON object and nothing else:
{form}
Write each reason before its verdict; the verdict must follow from it.

{reading}"""
"""What a judge is told before it is shown anything. What differs from row to row comes last: servers keep the rest."""

_FORM = '{{"reason": "<why, in one to three sentences, by the rubric>", "verdict": <{wording}>}}'


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a model answered to one question."""

    reason: str
    answer: Value


@dataclass(frozen=True, slots=True)
class Settled:
    """The answer to one question over all samples."""

    answer: Value
    """What most samples say, and of equally many the one nearest the mean; of a number the mean."""
    score: float
    """The mean of the samples' scores."""
    told: str
    """The answer, how many gave it where not all did, and a reason for it."""


def form_of(scale: Answer) -> str:
    """The answer as the model is to write it."""
    return _FORM.format(wording=scale.wording)


def schema_of(scale: Answer) -> dict[str, Any]:
    """Its JSON schema: the reason before the verdict."""
    return closed({"reason": {"type": "string"}, "verdict": scale.schema})


def closed(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of an object with all these properties and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def read_verdict(said: Any, scale: Answer, name: str = "it") -> Verdict:
    """The verdict that a JSON value is. Raises ValueError, for the model to read, for anything else.

    What a model wrote may be what the data wanted it to write, so no message quotes it.
    """
    if not isinstance(said, dict) or list(cast("dict[str, Any]", said)) != ["reason", "verdict"]:
        raise ValueError(f"{name} must be an object with the keys reason and verdict, in this order, and no others")
    fields = cast("dict[str, Any]", said)
    reason = fields["reason"]
    if not isinstance(reason, str) or not reason.strip():
        raise ValueError(f"the reason in {name} must be a text that says why")
    try:
        return Verdict(printable(reason.strip()), scale.read(fields["verdict"]))
    except ValueError:
        raise ValueError(f"the verdict in {name} must be {scale.wording}") from None


def settle(scale: Answer, verdicts: Sequence[Verdict]) -> Settled:
    """What the samples say together; at least one."""
    mean = min(1.0, fmean(scale.score(one.answer) for one in verdicts))

    def off(answer: Value) -> float:
        return abs(scale.score(answer) - mean)

    if scale.options is None:
        nearest = min(verdicts, key=lambda one: off(one.answer))
        return Settled(mean, mean, f"{mean:g}: {nearest.reason}")
    votes = Counter(one.answer for one in verdicts)
    answer = min(votes, key=lambda answer: (-votes[answer], off(answer), scale.score(answer)))
    share = f" ({votes[answer]} of {len(verdicts)})" if len(votes) > 1 else ""
    reason = next(one.reason for one in verdicts if one.answer == answer)
    return Settled(answer, mean, f"{answer}{share}: {reason}")
