"""MLflow's scorers as metrics: built-in ones, `make_judge`, `@scorer` functions and classes, ensembles, sessions."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal, cast, get_args

from pydantic.dataclasses import dataclass as checked

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score, unit_number
from promptopt.errors import ConfigError, did_you_mean
from promptopt.execute import user_code
from promptopt.judges import external
from promptopt.judges.answers import Answer
from promptopt.judges.external import load, mlflow_lm, mlflow_scorers, mlflow_traces
from promptopt.judges.external.row import Row
from promptopt.lm.session import Session
from promptopt.lm.spec import LM
from promptopt.lm.wire import Wire
from promptopt.metrics.answer_text import quote
from promptopt.metrics.built_in import STRICT

scorers: Any = load("mlflow.genai.scorers")
Assessment: Any = load("mlflow.entities").Assessment

EXPECTATIONS = ("expected_facts", "expected_response", "expected_tool_calls", "guidelines")
"""What MLflow's own scorers look for among the expectations; a column of that name is one."""
_SHOWN = ("retrieval_context", "tools")
"""What a trace is given of a row."""
_WORDS = {"yes": 1.0, "pass": 1.0, "true": 1.0, "no": 0.0, "fail": 0.0, "false": 0.0}
_VALUE_TYPES = {"bool": bool, "int": int, "float": float, "str": str}


@dataclass(frozen=True)
class MLflowMetric(external.Foreign):
    """Runs `scorer` on a rollout as `mlflow.genai.evaluate` would, with what its parameters name.

    `inputs` are the row's input columns, `outputs` the output, `expectations` the expected answer (`expected_response`,
    or its fields where it is a mapping) and the columns in `EXPECTATIONS`. `trace` is the rollout with its model and
    tool calls as an MLflow trace, and with the documents in the column `retrieval_context`. `session` is the recorded
    conversation in the column `conversation`, with what the output adds to it: one trace a turn of the user's.
    `fields` says which columns have these names, where they have others.

    Yes and no, pass and fail, bools and numbers in [0, 1] are scores as they are; anything else as `answer` says
    (`1-5`, words from worst to best, words with their scores). The rationale becomes the feedback. An exception, an
    error, None, NaN and a list of several values are failures: the score is missing.

    Models are asked through the gateway, on the judge's account: `lm` where it is given, else those that the scorer
    names. A function of the user's that names no model asks `lm` too; one that names another is beyond the run's caps.
    """

    type: ClassVar[str] = "mlflow"

    scorer: Any
    lm: str | LM | None = None
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    conversation: str | None = None
    answer: Any = None
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        mlflow_scorers.check(self.scorer)
        if mlflow_scorers.is_built_in(self.scorer):  # others may look for expectations of any name
            external.check_names(self.fields, (*EXPECTATIONS, *_SHOWN), "fields", "MLflow's own scorers")
        asked = [[lm.name, lm.args] for lm in self.lms]
        said = [dict(self.fields), self.conversation, self.answer]
        identity = [self.type, version("mlflow"), mlflow_scorers.identity(self.scorer), asked, said, self.uncounted]
        object.__setattr__(self, "fingerprint", json.dumps(identity, sort_keys=True, default=str))
        _ = self._answer, self._asking

    @property
    def lms(self) -> tuple[LM, ...]:
        if self.lm is not None:
            return (LM.of(self.lm),)
        names = dict.fromkeys(map(mlflow_scorers.name_of, mlflow_scorers.models_of(self.scorer)))
        return tuple(LM(name) for name in names if name)

    @property
    def uncounted(self) -> tuple[str, ...]:
        if self.lm is not None:
            return ()
        past = [model for model in mlflow_scorers.models_of(self.scorer) if not mlflow_scorers.name_of(model)]
        return tuple(
            f"The scorer {self.scorer.name} asks {model}, which only MLflow can reach: its calls are not counted. "
            "Give the metric an lm to have them under the run's budget."
            for model in dict.fromkeys(past)
        )

    @property
    def title(self) -> str:
        return f"MLflow's scorer {self.scorer.name}"

    @property
    def binary(self) -> bool:
        if self._answer is not None:
            return set(self._answer.worths) == {0.0, 1.0}
        return mlflow_scorers.value_type(self.scorer) in (bool, Literal["yes", "no"]) and not self._by_chunk

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        row = Row(example, rollout, self.fields, (*EXPECTATIONS, *_SHOWN), self.conversation)
        row.check()
        shown = self._shown(row)
        place = f"row {example.id!r}: the scorer {self.scorer.name}"
        if missing := mlflow_scorers.missing(self.scorer, shown["expectations"] or ()):
            raise ValueError(f"{place} needs {missing}; name the column under metric.fields")
        if rollout.output is None:
            return Score(0.0, "There was no output.")
        return await self.scored(partial(self._run, shown), lm, place)

    def told(self, error: Exception) -> str:
        return f"raised {user_code.described(error, mlflow_scorers.source_file(self.scorer))}"

    def _run(self, shown: Mapping[str, Any], wire: Wire) -> Any:
        """Run the scorer in the thread at hand; one that is abandoned still asks nobody else."""
        with mlflow_lm.asking(wire, next(iter(self.lms), None)):
            return self._asking.run(**shown)

    @cached_property
    def _asking(self) -> Any:
        """The scorer, whose models are asked through the gateway."""
        own = mlflow_lm.uri(self.lms[0].name) if self.lm is not None else None

        def uri_of(model: str | None) -> str | None:
            name = mlflow_scorers.name_of(model or mlflow_lm.default_model())
            return own or (mlflow_lm.uri(name) if name else model)

        return mlflow_scorers.with_models(self.scorer, uri_of)

    def _shown(self, row: Row) -> dict[str, Any]:
        """What the scorer is called with; the parameters that it does not have are left away by MLflow."""
        expected: Any = row.example.expected
        if not isinstance(expected, Mapping):
            expected = {} if expected is None else {"expected_response": expected}
        expectations = dict(cast("Mapping[str, Any]", expected))
        expectations |= {name: value for name, value in row.given.items() if name not in _SHOWN}
        if self.scorer.is_session_level_scorer:
            return {"session": mlflow_traces.session_of(row), "expectations": expectations or None}
        shown = {"inputs": row.inputs, "outputs": row.rollout.output, "expectations": expectations or None}
        return {**shown, "trace": mlflow_traces.trace_of(row, expectations)}

    @cached_property
    def _answer(self) -> Answer | None:
        """How values that are no scores become one. Raises ConfigError for words of a judge that nobody ranked."""
        if self.answer is not None:
            try:
                return Answer.of(self.answer)
            except ValueError as error:
                raise ConfigError(f"answer: {error}", key="answer") from None
        if isinstance(self.scorer, scorers.UserFrustration):
            return Answer.of({"none": 1.0, "resolved": 0.5, "unresolved": 0.0})
        words = [word for word in get_args(mlflow_scorers.value_type(self.scorer)) if isinstance(word, str)]
        if unranked := [word for word in words if word.casefold() not in _WORDS]:
            raise ConfigError(
                f"answer is missing: the scorer {self.scorer.name} says {', '.join(words)}, and nothing tells what "
                f"{unranked[0]!r} is worth. List the words from worst to best, or give each a score from 0 to 1.",
                key="answer",
            )
        return None

    def read(self, raw: Any) -> Score:
        if isinstance(raw, list):
            raw = self._of_list(cast("list[Any]", raw))
        if not isinstance(raw, Assessment):
            value, reason = raw, ""
        elif raw.error is not None:
            raise ValueError(f"failed: {raw.error.error_message or raw.error.error_code}")
        else:
            value, reason = raw.value, raw.rationale or ""
        said = f"{self.scorer.name}: {quote(value) if isinstance(value, dict) else value}"
        return Score(self._worth(value), f"{said}. {reason}" if reason else said)

    def _of_list(self, values: list[Any]) -> Any:
        """The only value; of MLflow's own that judges chunk by chunk, the share of the chunks, which comes first."""
        if len(values) != 1 and not (values and self._by_chunk):
            raise ValueError(f"returned a list of {len(values)} values; a metric needs one: combine them in the scorer")
        return values[0]

    @property
    def _by_chunk(self) -> bool:
        return isinstance(self.scorer, scorers.RetrievalRelevance)

    def _worth(self, value: Any) -> float:
        if value is None:
            raise ValueError("returned no value")
        answer = self._answer
        if answer is not None:
            try:
                return answer.score(answer.from_cell(value))
            except ValueError as error:
                raise ValueError(f"returned a value that metric.answer does not have: {error}") from None
        if isinstance(value, str):
            if value.casefold() in _WORDS:
                return _WORDS[value.casefold()]
            raise ValueError(f"returned {quote(value)}; say what its words are worth as metric.answer")
        try:
            return unit_number(value)
        except ValueError as error:
            raise ValueError(
                f"returned no score: {error}; metric.answer: 1-5 says that it grades from 1 to 5"
            ) from None


@checked(frozen=True, config=STRICT, kw_only=True)
class Settings(external.ForeignSettings):
    """`metric: {type: mlflow, ...}`."""

    scorer: str
    """A scorer of `mlflow.genai.scorers`, `make_judge`, or `file.py:name` for a scorer of the user's own."""
    answer: Any = None


def named(said: Settings, base: Path) -> MLflowMetric:
    """The metric that a config describes; `base` is the folder of its files. Raises ConfigError."""
    scorer = _scorer(said, base)
    return MLflowMetric(scorer, said.asked, said.fields, said.conversation, said.answer)


taken = MLflowMetric
"""A metric of a scorer that Python holds."""


def _scorer(said: Settings, base: Path) -> Any:
    options = dict(said.options)
    if said.scorer == "make_judge":
        return _judge(options, said)
    if ":" in said.scorer:
        try:
            made: Any = user_code.load(said.scorer, base)
        except ConfigError as error:
            raise ConfigError(f"scorer: {error}", key="scorer") from error
    else:
        made = _built_in().get(said.scorer)
    if made is None:
        raise ConfigError(
            f"scorer: MLflow {version('mlflow')} has no scorer {said.scorer!r}. "
            f"{did_you_mean(said.scorer, (*_built_in(), 'make_judge'))} "
            "One of your own is named as file.py:my_scorer.",
            key="scorer",
        )
    if not isinstance(made, type):
        external.check_options(options, (), said.scorer)
        return made
    external.check_options(options, cast(Any, made).model_fields, said.scorer)
    return external.made(made, options, said.scorer)


def _built_in() -> dict[str, Any]:
    found = {name: getattr(scorers, name) for name in scorers.__all__}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and name != "Scorer"}


def _judge(options: dict[str, Any], said: Settings) -> Any:
    make: Any = load("mlflow.genai.judges").make_judge
    told = options.get("feedback_value_type")
    if isinstance(told, list):
        options["feedback_value_type"] = Literal[tuple(cast("list[str]", told))]
    elif isinstance(told, str):
        options["feedback_value_type"] = _VALUE_TYPES.get(told, told)
    options.setdefault("name", "judge")
    if said.lm is None:
        raise ConfigError("lm is missing: the model that make_judge asks", key="lm")
    external.check_options(options, inspect.signature(make).parameters, "make_judge")
    return external.made(partial(make, model=mlflow_lm.uri(said.lm)), options, "make_judge")
