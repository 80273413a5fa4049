"""What happened when a candidate ran on an example, and what a metric said about it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any


@dataclass(frozen=True, slots=True)
class Score:
    """A metric's opinion of one output.

    Raises ValueError for a value that is not a finite number in [0, 1], here and in every part: a metric that
    returns such a value is broken, and its rollout is missing, never zero.
    """

    value: float
    feedback: str = ""
    """What a reflection model should learn from; it may quote the expected answer."""
    parts: Mapping[str, float] = field(default_factory=dict[str, float])
    """Named sub-scores in [0, 1]."""
    feedback_for: Mapping[str, str] = field(default_factory=dict[str, str])
    """What only one component should learn from, by the component's name: it tells the search which one to mend."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", unit_number(self.value))
        object.__setattr__(self, "feedback", printable(self.feedback))
        object.__setattr__(self, "parts", {str(k): unit_number(v, k) for k, v in self.parts.items()})
        object.__setattr__(self, "feedback_for", {str(k): printable(v) for k, v in self.feedback_for.items()})

    def to_json(self) -> list[Any]:
        return [self.value, self.feedback, dict(self.parts), dict(self.feedback_for)]

    @staticmethod
    def of(raw: Any) -> Score:
        """Read what a metric returned: a Score, a number, a bool, or `(score, feedback)`.

        Raises ValueError for anything else.
        """
        if isinstance(raw, Score):
            return raw
        match raw:
            case (value, str(feedback)):
                return Score(unit_number(value), feedback)
            case _:
                return Score(unit_number(raw))


def printable(text: str) -> str:
    """`text` with lone surrogates, which no file and no request can hold, replaced by `?`."""
    return text.encode("utf-8", "replace").decode()


def unit_number(raw: Any, name: str = "a score") -> float:
    """`raw` as a float in [0, 1]; ValueError says what is wrong with it. NumPy's scalars are numbers too."""
    if type(raw).__module__ == "numpy" and hasattr(raw, "item") and getattr(raw, "ndim", 1) == 0:
        raw = raw.item()
    if not isinstance(raw, Real):
        raise ValueError(f"{name} must be a number in [0, 1], got {type(raw).__name__} {str(raw)[:60]!r}")
    value = float(raw)
    if not math.isfinite(value) or not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be a finite number in [0, 1], got {value}")
    return value


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a rollout or call has no result. A failure is missing data, never a score of 0."""

    kind: str
    """One of: rate_limit, server, timeout, connection, auth, bad_request, not_found, malformed, empty, refusal,
    budget, program, metric, judge."""
    message: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", printable(self.message))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "message": self.message}


@dataclass(frozen=True, slots=True)
class Turn:
    """One model call inside a rollout."""

    messages: tuple[Mapping[str, Any], ...]
    reply: str
    finish_reason: str = "stop"
    component: str = ""
    """The component whose text shaped this call, where the program knows it."""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    """What the reply asks for, as OpenAI spells it."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """The tools that the model was offered."""

    def to_json(self) -> list[Any]:
        plain = [list(self.messages), self.reply, self.finish_reason, self.component]
        return [*plain, list(self.tool_calls), list(self.tools)] if self.tool_calls or self.tools else plain

    @staticmethod
    def from_json(body: Sequence[Any]) -> Turn:
        """Read back what `to_json` wrote."""
        messages, reply, finish_reason, component, *tools = body
        return Turn(tuple(messages), reply, finish_reason, component, *map(tuple, tools))


@dataclass(frozen=True, slots=True)
class Invocation:
    """One run of one part of a program, such as a pipeline's predictor, inside a rollout."""

    slot: str
    """The part's name: that of its demo slot."""
    inputs: Mapping[str, Any]
    output: str
    """What it made of them, as a demo in its slot shows it; the raw reply where that could not be read."""
    fault: str = ""
    """Why its reply could not be read; empty where it could."""

    def to_json(self) -> dict[str, Any]:
        return {"slot": self.slot, "inputs": dict(self.inputs), "output": self.output, "fault": self.fault}


@dataclass(frozen=True, slots=True)
class Rollout:
    """One run of a candidate on an example: an output with its score, or a typed failure."""

    candidate_id: str
    example_id: str
    sample: int = 0
    output: Any = None
    """What the program returned; a value that JSON can hold."""
    trace: tuple[Turn, ...] = ()
    invocations: tuple[Invocation, ...] = ()
    """What the program's parts did, in order; empty for a program that is of one piece."""
    own: Score | None = None
    """What the program itself thinks of its work, where it says so; the metric `own` takes it over."""
    score: Score | None = None
    failure: Failure | None = None
    certainty: float | None = None
    """The geometric mean of the probabilities of its last call's tokens; None where they were not asked for or told."""
    usd: float = 0.0
    """What its calls cost in US dollars, each tried once; a judge's are not among them."""
    seconds: float = 0.0

    @property
    def value(self) -> float | None:
        """The score's value, None when it is missing."""
        return None if self.score is None else self.score.value

    @property
    def tokens(self) -> int:
        """What its calls read and wrote, estimated by length: models count differently, this never changes."""
        sent = sum(len(str(message.get("content"))) for turn in self.trace for message in turn.messages)
        return (sent + sum(len(turn.reply) for turn in self.trace)) // 4

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain JSON values as far as the output is one."""
        return {
            "candidate_id": self.candidate_id,
            "example_id": self.example_id,
            "sample": self.sample,
            "output": self.output,
            "trace": [turn.to_json() for turn in self.trace],
            "invocations": [invocation.to_json() for invocation in self.invocations],
            "own": None if self.own is None else self.own.to_json(),
            "score": None if self.score is None else self.score.to_json(),
            "failure": None if self.failure is None else self.failure.to_json(),
            "certainty": self.certainty,
            "usd": self.usd,
            "seconds": round(self.seconds, 3),
        }

    @staticmethod
    def from_json(body: Mapping[str, Any]) -> Rollout:
        """Read back what `to_json` wrote."""
        fields = dict(body)
        fields["trace"] = tuple(map(Turn.from_json, body["trace"]))
        fields["invocations"] = tuple(Invocation(**one) for one in body["invocations"])
        fields |= {name: Score(*said) if (said := body.get(name)) else None for name in ("own", "score")}
        fields["failure"] = None if body["failure"] is None else Failure(**body["failure"])
        return Rollout(**fields)


def exchanges(trace: Sequence[Turn]) -> tuple[Turn, ...]:
    """The calls that no later call goes on from or repeats: each holds the whole exchange that led to it."""

    def goes_on(turn: Turn, later: Sequence[Turn]) -> bool:
        return any(other.messages[: len(turn.messages)] == turn.messages for other in later)

    return tuple(turn for number, turn in enumerate(trace) if not goes_on(turn, trace[number + 1 :]))


def values(rollouts: Iterable[Rollout]) -> dict[str, float | None]:
    """Scores by example id, None where one is missing."""
    return {rollout.example_id: rollout.value for rollout in rollouts}
