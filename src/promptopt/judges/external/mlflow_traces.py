"""A rollout, or a recorded conversation, as MLflow traces: built in memory, from content alone, and stored nowhere.

Ids and times are made from content, not from a clock, so that equal rollouts make equal requests of a judge that looks
into its trace.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from promptopt.core.rollout import Turn
from promptopt.judges.conversation import ConversationTurn
from promptopt.judges.external import load
from promptopt.judges.external.row import Call, Row, calls_in, texts
from promptopt.metrics.answer_text import as_text

entities: Any = load("mlflow.entities")

_START = 1_000_000_000_000
"""Milliseconds at which every trace begins: 2001, plainly not now."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request to a program and what came of it."""

    inputs: Any
    outputs: Any
    calls: Sequence[Call] = ()
    asked: Sequence[Turn] = ()
    """The model calls it made."""
    documents: Sequence[str] = ()
    tools: Any = None
    """The tools it could call, as OpenAI defines them."""
    expectations: Mapping[str, Any] = field(default_factory=dict[str, Any])


def trace_of(row: Row, expectations: Mapping[str, Any]) -> Any:
    """The rollout as one trace: its model calls, tool calls, and the retrieved documents of the row."""
    documents = texts(row.field("retrieval_context"))
    output, tools = row.rollout.output, row.field("tools")
    return _trace(Exchange(row.inputs, output, row.calls, row.rollout.trace, documents, tools, expectations), 0, {})


def session_of(row: Row) -> list[Any]:
    """The conversation as a session: a trace for what the user said and what was answered until they spoke again."""
    session = {"mlflow.trace.session": f"session-{row.example.id}"}
    return [_trace(exchange, number, session) for number, exchange in enumerate(_exchanges(row.turns))]


def _exchanges(turns: Iterable[ConversationTurn]) -> Iterator[Exchange]:
    """`turns` cut before every user's turn that follows an answer."""
    asked: list[ConversationTurn] = []
    answered: list[ConversationTurn] = []
    for turn in turns:
        if turn.role in ("assistant", "tool"):
            answered.append(turn)
            continue
        if answered:
            yield _exchange(asked, answered)
            asked, answered = [], []
        asked.append(turn)
    yield _exchange(asked, answered)


def _exchange(asked: Sequence[ConversationTurn], answered: Sequence[ConversationTurn]) -> Exchange:
    messages = [{"role": turn.role, "content": turn.text} for turn in asked]
    said = "\n".join(turn.text for turn in answered if turn.role == "assistant" and turn.text)
    return Exchange({"messages": messages} if messages else {}, said, calls_in(answered))


def _trace(exchange: Exchange, number: int, metadata: Mapping[str, str]) -> Any:
    inputs, outputs = exchange.inputs, exchange.outputs
    identity = json.dumps([inputs, outputs, number, dict(metadata)], sort_keys=True, default=str)
    digest = hashlib.blake2b(identity.encode(errors="replace"), digest_size=16).digest()
    start = _START + 60_000 * number
    spans = _Spans(digest, start)
    spans.add("rollout", "CHAIN", inputs, outputs)
    if exchange.documents:
        spans.add("retrieved", "RETRIEVER", inputs, [{"page_content": text} for text in exchange.documents])
    for turn in exchange.asked:
        spans.add(turn.component or "model", "CHAT_MODEL", {"messages": list(turn.messages)}, turn.reply)
    if exchange.tools:
        spans.add("tools", "LLM", {"tools": exchange.tools}, None)
    for call in exchange.calls:
        spans.add(call.name, "TOOL", call.arguments, call.result)
    info = entities.TraceInfo(
        trace_id=spans.trace_id,
        trace_location=entities.TraceLocation.from_experiment_id("0"),
        request_time=start,
        state=entities.TraceState.OK,
        request_preview=as_text(inputs)[:1000],
        response_preview=as_text(outputs)[:1000],
        execution_duration=len(spans.made),
        trace_metadata=dict(metadata),
        assessments=[_expected(name, value, start) for name, value in exchange.expectations.items()],
    )
    return entities.Trace(info, entities.TraceData(spans.made))


def _expected(name: str, value: Any, when: int) -> Any:
    source = entities.AssessmentSource("HUMAN", "data")
    return entities.Expectation(name=name, value=value, source=source, create_time_ms=when, last_update_time_ms=when)


class _Spans:
    """The spans of one trace; the first is the root, and the parent of all others."""

    def __init__(self, digest: bytes, start: int) -> None:
        self.trace_id = f"tr-{digest.hex()}"
        self.made: list[Any] = []
        self._digest, self._start = digest, start * 1_000_000

    def add(self, name: str, kind: str, inputs: Any, outputs: Any) -> None:
        number = len(self.made)
        said = {"traceRequestId": self.trace_id, "spanType": kind, "spanInputs": inputs, "spanOutputs": outputs}
        self.made.append(
            entities.Span.from_dict(
                {
                    "trace_id": b64encode(self._digest).decode(),
                    "span_id": self._id(number),
                    "parent_span_id": self._id(0) if number else None,
                    "name": name,
                    "start_time_unix_nano": self._start + number * 1_000_000,
                    "end_time_unix_nano": self._start + (number + 1) * 1_000_000,
                    "events": [],
                    "status": {"code": "STATUS_CODE_OK", "message": ""},
                    "attributes": {f"mlflow.{key}": json.dumps(value, default=str) for key, value in said.items()},
                }
            )
        )

    def _id(self, number: int) -> str:
        return b64encode(
            hashlib.blake2b(self._digest + bytes([number % 256, number // 256]), digest_size=8).digest()
        ).decode()
