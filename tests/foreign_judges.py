"""A model that answers the prompts of other people's judges: whatever schema they ask for, filled in."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score, Turn
from promptopt.judges.external import Foreign
from promptopt.lm.message import Request
from promptopt.metrics.metric import Metric
from promptopt.testing.scripted import ScriptedModel

Words = Mapping[str, Any]

SILENT = ScriptedModel([])
DOCS = {"retrieval_context": "docs"}
"""Where the rows have what a judge calls its retrieval context."""

ROW = Example(
    "r1",
    {"question": "Where is my card?", "docs": ["Cards take five days.", "Cards come by post."]},
    expected="Five days.",
    meta={"answer": "Five days.", "guidelines": ["Be polite."], "tools": ["track"]},
)
TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "track", "arguments": '{"order": 7}'}}
ASKED = {"role": "user", "content": "Where is my card?"}
ROLLOUT = Rollout(
    "c",
    "r1",
    output="It takes five days.",
    trace=(
        Turn((ASKED,), "[...]"),
        Turn(
            (
                ASKED,
                {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]},
                {"role": "tool", "tool_call_id": "c1", "content": "on its way"},
            ),
            "It takes five days.",
        ),
    ),
)
TALK = Example(
    "s1",
    {
        "turns": [
            {"role": "system", "content": "You are a bank clerk."},
            {"role": "user", "content": "Hello, I am Bob."},
            {"role": "assistant", "content": "Hello Bob."},
            {"role": "user", "content": "Who am I?"},
        ]
    },
)
ANSWERED = Rollout("c", "s1", output="You are Bob.")


def filled(schema: Words, words: Words, root: Words | None = None) -> Any:
    """A value that follows a JSON schema: `words` by field, else the first option, one item, or a text."""
    root = root or schema
    if "$ref" in schema:
        return filled(root["$defs"][schema["$ref"].rpartition("/")[2]], words, root)
    if "anyOf" in schema:
        return filled(schema["anyOf"][0], words, root)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            return {name: words.get(name, filled(field, words, root)) for name, field in fields.items()}
        case "array":
            return [filled(schema["items"], words, root)]
        case "boolean":
            return True
        case "integer" | "number":
            return 7
        case _:
            return "because it is so"


def judge(**words: Any) -> ScriptedModel:
    """A model that fills in every schema; MLflow's verdict is `result`, which is "yes" unless said."""

    def answer(request: Request) -> str:
        assert request.schema is not None, "the judge asks for a schema"
        return json.dumps(filled(request.schema, {"result": "yes", "rationale": "It says so.", **words}))

    return ScriptedModel(answer)


def said(request: Request) -> str:
    """All that a request says."""
    return "\n".join(str(message["content"]) for message in request.messages)


def by_rule(verdict: Callable[[str], Any]) -> Callable[[Words], str]:
    """An endpoint's judge whose `result` and `score` are decided by what it is shown."""

    def answer(body: Words) -> str:
        shown = "\n".join(str(message["content"]) for message in messages(body))
        schema = body["response_format"]["json_schema"]["schema"]
        return json.dumps(filled(schema, verdict(shown)))

    return answer


def messages(body: Words) -> Sequence[Words]:
    return body["messages"]


async def scored(
    kind: Callable[..., Metric],
    judge: Any,
    model: ScriptedModel = SILENT,
    example: Example = ROW,
    rollout: Rollout = ROLLOUT,
    **options: Any,
) -> Score:
    """What a metric of `kind`, or a judge that becomes one with these options, says of a rollout."""
    made: Metric = judge if isinstance(judge, Foreign) else kind(judge, **options)
    return await made.score(example, rollout, model.session("judge"))
