"""DeepEval's metrics as metrics: single-turn ones on an `LLMTestCase`, conversational ones on recorded turns."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, cast

from pydantic import BaseModel, SecretStr
from pydantic.dataclasses import dataclass as checked

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.errors import ConfigError, did_you_mean
from promptopt.execute import user_code
from promptopt.judges import external
from promptopt.judges.conversation import ConversationTurn
from promptopt.judges.external import deepeval_lm, load
from promptopt.judges.external.row import Call, Row, calls_in, texts
from promptopt.lm.session import Session
from promptopt.lm.spec import LM
from promptopt.lm.wire import Wire
from promptopt.metrics.answer_text import as_text
from promptopt.metrics.built_in import STRICT

metrics: Any = load("deepeval.metrics")
test_case: Any = load("deepeval.test_case")

FIELDS = ("input", "expected_output", "context", "retrieval_context", "tools_called", "expected_tools")
"""Fields of a single-turn test case that a row's columns of the same name fill."""
TALK_FIELDS = ("scenario", "expected_outcome", "chatbot_role", "user_description", "context")
"""The same of a conversation."""
_LISTS = ("context", "retrieval_context")
_TOOLS = ("tools_called", "expected_tools")
_UNASKED: Mapping[str, Mapping[str, Any]] = {
    "JsonCorrectnessMetric": {"include_reason": False},
    "ToolCorrectnessMetric": {},
    "ExactMatchMetric": {},
    "PatternMatchMetric": {},
}
"""Metrics that need no model, with the options for which that is so."""
_RESULTS = frozenset(
    {"model", "using_native_model", "evaluation_model", "system_one_model", "evaluation_cost"}
    | {"score", "score_breakdown", "reason", "success", "error", "verbose_logs", "verbose_mode", "async_mode"}
)
"""Attributes of a metric that decide nothing, or are told apart elsewhere."""


@dataclass(frozen=True)
class DeepEvalMetric(external.Foreign):
    """Runs a copy of `metric` on each rollout.

    A single-turn metric is shown the row's inputs as `input` (the only one as it is, several as JSON), the output, the
    expected answer, the tools that the rollout called, and the columns in `FIELDS`; a conversational one the turns in
    the column `conversation`, with what the output adds to them, and the columns in `TALK_FIELDS`; a system message
    there is the chatbot's role. `fields` says which columns have these names, where they have others.

    The metric's score and reason are the score and its feedback; its threshold decides nothing. An exception, a
    missing field, None and NaN are failures: the score is missing.

    Models are asked through the gateway, on the judge's account: `lm` where it is given, else the one that the metric
    holds. A model of the user's own class, for which there is no `lm`, is called as it is, past the run's caps.
    """

    type: ClassVar[str] = "deepeval"

    metric: Any
    lm: str | LM | None = None
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    conversation: str | None = None
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        if isinstance(self.metric, type):
            raise ConfigError(f"metric is the class {self.metric.__name__}; pass one of it", key="metric")
        if not isinstance(self.metric, metrics.BaseMetric | metrics.BaseConversationalMetric):
            raise ConfigError(f"metric is a {self.name}, which scores no single test case", key="metric")
        known = (test_case.ConversationalTestCase if self._talks else test_case.LLMTestCase).model_fields
        external.check_names(self.fields, known, "fields", "DeepEval's test cases")
        asked = [[lm.name, lm.args] for lm in self.lms]
        said = [dict(self.fields), self.conversation]
        identity = [self.type, version("deepeval"), _identity(self.metric), asked, said, self.uncounted]
        object.__setattr__(self, "fingerprint", json.dumps(identity, sort_keys=True, default=str))

    @property
    def name(self) -> str:
        return type(self.metric).__name__

    @property
    def _known(self) -> tuple[str, ...]:
        return TALK_FIELDS if self._talks else FIELDS

    @property
    def _talks(self) -> bool:
        return isinstance(self.metric, metrics.BaseConversationalMetric)

    @property
    def lms(self) -> tuple[LM, ...]:
        if self.lm is not None:
            return (LM.of(self.lm),)
        held = getattr(self.metric, "model", None)
        taken = deepeval_lm.taken_over(held) if held is not None else None
        return (taken,) if taken else ()

    @property
    def uncounted(self) -> tuple[str, ...]:
        held, other = getattr(self.metric, "model", None), getattr(self.metric, "system_one_model", None)
        mine = None if self.lms or deepeval_lm.is_ours(held) else held
        return tuple(
            f"{self.name} asks {type(model).__name__} {model.get_model_name()} by code of its own: its calls are not "
            "counted."
            for model in (mine, other)
            if model is not None
        )

    @property
    def title(self) -> str:
        return f"DeepEval's {self.name}"

    @property
    def binary(self) -> bool:
        return bool(self.metric.strict_mode)

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        row = Row(example, rollout, self.fields, self._known, self.conversation)
        case, place = self._case(row), f"row {example.id!r}: {self.name}"
        if rollout.output is None:
            return Score(0.0, "There was no output.")
        return await self.scored(partial(self._run, case), lm, place)

    async def _run(self, case: Any, wire: Wire) -> tuple[Any, str, str]:
        """What a copy says, since metrics keep their results in themselves: its score, its reason, its error."""
        metric = copy.copy(self.metric)
        if self.lms and hasattr(metric, "model"):
            metric.model, metric.using_native_model = deepeval_lm.GatewayLLM(self.lms[0], wire), False
        measure: Callable[..., Any] = metric.a_measure if metric.async_mode else metric.measure
        quietly = {"_show_indicator": False} if "_show_indicator" in inspect.signature(measure).parameters else {}
        result = measure(case, **quietly)
        returned = await result if inspect.isawaitable(result) else result
        value = metric.score if metric.score is not None else returned
        return value, str(metric.reason or "").strip(), metric.error or ""

    def told(self, error: Exception) -> str:
        if type(error).__name__ == "MissingTestCaseParamsError":
            return f"is not shown all it needs: {error}. Name the column of what is missing under metric.fields"
        return f"raised {user_code.described(error, user_code.source_file(cast(Any, type(self.metric))))}"

    def read(self, raw: Any) -> Score:
        value, reason, error = raw
        if value is None:
            raise ValueError(f"gave no score{f': {error}' if error else ''}")
        return Score(value, f"{self.name}: {reason}" if reason else "")

    def _case(self, row: Row) -> Any:
        row.check()
        try:
            case = _conversation(row) if self._talks else _single_turn(row)
        except ValueError as error:
            raise ValueError(f"row {row.example.id!r} cannot be shown to {self.name}: {error}") from None
        needed: Any = getattr(self.metric, "_required_test_case_params" if self._talks else "_required_params", ())
        for param in cast("list[Any]", needed) if isinstance(needed, list) else ():
            if param.value in self._known and getattr(case, param.value) is None:
                missing = f"row {row.example.id!r}: {self.name} needs {param.value}"
                raise ValueError(f"{missing}; name the column under metric.fields")
        return case


def _single_turn(row: Row) -> Any:
    shown = _fields(row.given)
    shown["input"] = as_text(shown.get("input", row.request))
    shown["actual_output"] = as_text(row.rollout.output)
    shown.setdefault("tools_called", [_tool(call) for call in row.calls])
    if row.example.expected is not None:
        shown.setdefault("expected_output", as_text(row.example.expected))
    return test_case.LLMTestCase(**shown)


def _conversation(row: Row) -> Any:
    spoken = [turn for turn in row.turns if turn.role in ("user", "assistant")]
    told = "\n".join(turn.text for turn in row.turns if turn.role in ("system", "developer"))
    shown = {"chatbot_role": told or None, **_fields(row.given)}
    return test_case.ConversationalTestCase(turns=[_turn(turn, row) for turn in spoken], **shown)


def _turn(turn: ConversationTurn, row: Row) -> Any:
    tools = [_tool(call) for call in calls_in([turn], row.turns)]
    return test_case.Turn(role=turn.role, content=turn.text, tools_called=tools or None)


def _fields(given: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: texts(value) if name in _LISTS else value for name, value in given.items()}
    return {name: [_tool(one) for one in value] if name in _TOOLS else value for name, value in shown.items()}


def _tool(said: Any) -> Any:
    """A tool call: ours, or a row's as `{name, arguments?, output?}` or its name alone."""
    if isinstance(said, Call):
        known = None if isinstance(said.arguments, str) else dict(said.arguments)
        return test_case.ToolCall(name=said.name, input_parameters=known, output=said.result)
    if isinstance(said, str):
        return test_case.ToolCall(name=said)
    fields = dict(cast("Mapping[str, Any]", said))
    if "arguments" in fields:
        fields["input_parameters"] = fields.pop("arguments")
    return test_case.ToolCall(**fields)


def _identity(metric: Any) -> list[Any]:
    """All that decides what a metric says of an output, but for its model, which is told apart elsewhere."""
    kind = cast(Any, type(metric))
    if hasattr(metric, "version"):
        return [kind.__qualname__, f"version {metric.version}"]
    source = None if kind.__module__.startswith("deepeval.") else user_code.source_hash(kind)
    settings = {name: value for name, value in cast(Any, vars)(metric).items() if name not in _RESULTS}
    try:
        text = json.dumps(settings, sort_keys=True, default=_plain)
    except ValueError:
        raise ConfigError(
            f"{kind.__qualname__} holds itself, so a changed one would go unnoticed; set its version attribute"
        ) from None
    return [kind.__qualname__, source, hashlib.blake2b(text.encode(), digest_size=16).hexdigest()]


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, type):
        schema = value.model_json_schema() if issubclass(value, BaseModel) else None
        return [value.__qualname__, schema]
    if isinstance(value, SecretStr):
        return None
    if deepeval_lm.is_model(value):
        return value.get_model_name()
    if inspect.isroutine(value):
        return user_code.source_hash(value)
    if isinstance(value, set | frozenset):
        return sorted(map(str, cast("set[Any]", value)))
    return [type(value).__qualname__, vars(value)] if hasattr(value, "__dict__") else str(value)


@checked(frozen=True, config=STRICT, kw_only=True)
class Settings(external.ForeignSettings):
    """`metric: {type: deepeval, ...}`."""

    metric: str
    """A metric of `deepeval.metrics`, or `file.py:Name` for a class of the user's own."""


def named(said: Settings, base: Path) -> DeepEvalMetric:
    """The metric that a config describes; `base` is the folder of its files. Raises ConfigError."""
    kind = _kind(said.metric, base)
    parameters = inspect.signature(kind).parameters
    external.check_options(said.options, parameters, said.metric)
    options = _options(kind, said.options, base)
    if said.lm is None and "model" in parameters:
        if said.metric not in _UNASKED:
            raise ConfigError(f"lm is missing: the model that {said.metric} asks", key="lm")
        options = {**_UNASKED[said.metric], **options}
    if "model" in parameters:
        options["model"] = deepeval_lm.GatewayLLM(said.asked)
    made = external.made(kind, options, said.metric)
    return DeepEvalMetric(made, said.asked, said.fields, said.conversation)


taken = DeepEvalMetric
"""A metric of one that Python holds."""


def _kind(name: str, base: Path) -> Any:
    if ":" in name:
        try:
            return user_code.load(name, base)
        except ConfigError as error:
            raise ConfigError(f"metric: {error}", key="metric") from error
    scoring = (metrics.BaseMetric, metrics.BaseConversationalMetric)
    known = [(word, getattr(metrics, word)) for word in metrics.__all__]
    usable = {
        word: kind
        for word, kind in known
        if isinstance(kind, type) and issubclass(kind, scoring) and kind not in scoring
    }
    if name not in usable:
        raise ConfigError(
            f"metric: DeepEval {version('deepeval')} has no metric {name!r}. {did_you_mean(name, usable)} "
            "One of your own is named as file.py:MyMetric.",
            key="metric",
        )
    return usable[name]


def _options(kind: Any, given: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """What YAML can say of a metric's options, as DeepEval takes it."""
    options = dict(given)
    talks = isinstance(kind, type) and issubclass(kind, metrics.BaseConversationalMetric)
    params: Any = test_case.MultiTurnParams if talks else test_case.SingleTurnParams
    try:
        if "evaluation_params" in options:
            options["evaluation_params"] = [params(word) for word in options["evaluation_params"]]
        if "rubric" in options:
            options["rubric"] = [load("deepeval.metrics.g_eval").Rubric(**one) for one in options["rubric"]]
        if "available_tools" in options:
            options["available_tools"] = [_tool(one) for one in options["available_tools"]]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"options: {error}", key="options") from None
    if isinstance(schema := options.get("expected_schema"), str):
        options["expected_schema"] = user_code.load(schema, base)
    return options
