"""A DSPy metric as it is: plain, with feedback, or one of DSPy's own modules such as SemanticF1."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, ClassVar, Literal, cast

import dspy  # pyright: ignore[reportMissingTypeStubs]

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.errors import ConfigError
from promptopt.execute import user_code
from promptopt.lm.dspy_lm import Abilities, engine_lm
from promptopt.lm.session import Session
from promptopt.lm.spec import LM
from promptopt.lm.wire import Wire
from promptopt.metrics.answer_text import quote
from promptopt.programs.dspy_content import Contents
from promptopt.programs.dspy_copies import copied, lms_held, uncopyable
from promptopt.programs.dspy_identity import identity
from promptopt.programs.dspy_trace import call_error

Step = tuple[Any, Mapping[str, Any], Any]
"""One run of a predictor as DSPy's traces have it: predictor, inputs, prediction."""

_FORMS = "metric(gold, pred), metric(gold, pred, trace) or metric(gold, pred, trace, pred_name, pred_trace)"


@dataclass(frozen=True)
class DSPyMetric:
    """Calls `function(gold, pred)` once a rollout, synchronous or asynchronous.

    `gold` is the row as a dspy.Example with its inputs named, `pred` the output as a dspy.Prediction; typed fields are
    plain JSON values in both. It may return a number in [0, 1], a bool, or dspy.Prediction(score=, feedback=); the
    latter may also have `feedback_for`, a mapping from predictors to what each should learn.

    A metric of three parameters is given no trace: to DSPy's metrics a trace means that demos are being bootstrapped,
    and makes them strict. One of five is called as dspy.GEPA calls it for feedback: with the trace, and, where a single
    predictor ran, with its name. Where several ran, `pred_name` is None. Other parameters keep their defaults.

    `lm` answers the metric's own calls to DSPy's current model, on the judge's account; the models that a module such
    as SemanticF1 holds are called on it too. A model that a function puts into a context or on a predictor of its own
    is called behind our back: not capped, and not in the ledger.

    Raises ConfigError for a function that takes other parameters, or whose source cannot be told from a changed one.
    """

    type: ClassVar[str] = "dspy"

    function: Callable[..., Any]
    lm: str | LM | dspy.LM | None = None
    predictors: Mapping[str, dspy.Module] = field(default_factory=dict[str, dspy.Module], repr=False)
    """What stands first in the steps of a trace, by slot; the slot's name where its predictor is not known."""
    fingerprint: str = field(init=False)
    _takes: int = field(init=False, repr=False)
    _held: Mapping[int, dspy.BaseLM] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_takes", parameters_of(self.function))
        held = lms_held(self.function, ()) if isinstance(self.function, dspy.Module) else {}
        object.__setattr__(self, "_held", held)
        object.__setattr__(self, "fingerprint", json.dumps(self._identity(), default=str))

    def _identity(self) -> dict[str, Any]:
        function = self.function
        name, source = user_code.name_of(function), user_code.source_hash(function)
        module = isinstance(function, dspy.Module)
        content = identity(function, None, ()) if module else Contents().of(function)
        lms = [[lm.name, lm.args] for lm in self.lms]
        return {"type": self.type, "function": name, "source": source, "content": content, "lms": lms}

    @property
    def binary(self) -> bool:
        return False

    @cached_property
    def lms(self) -> tuple[LM, ...]:
        """The models that it calls, as far as that is known."""
        return tuple(LM.of(lm) for lm in (self.lm, *self._held.values()) if lm is not None)

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        output: Any = rollout.output
        if output is None:
            return Score(0.0, "There was no output.")
        if not isinstance(output, Mapping):
            raise ValueError(f"a DSPy metric reads fields, and the output is {quote(output)}")
        pred = dspy.Prediction(**cast("Mapping[str, Any]", output))
        with closing(Wire(lm)) as wire, self._settings(wire):
            ask = partial(self._ask, self._asking(wire), example.id, gold_of(example), pred)
            return await ask(*(self._whole(rollout) if self._takes == 5 else [None] * (self._takes - 2)))

    def _whole(self, rollout: Rollout) -> tuple[Any, ...]:
        """Trace, predictor and its own trace; the latter two are None where several predictors ran."""
        trace = self._trace(rollout)
        steps, ran = [step for _, step in trace], {slot for slot, _ in trace}
        return (steps, *ran, steps) if len(ran) == 1 else (steps, None, None)

    def _settings(self, wire: Wire) -> AbstractContextManager[None]:
        """DSPy's settings as the metric finds them."""
        current = {"lm": self._engine(self.lm, wire)} if self.lm else {}
        return cast(Any, dspy).context(trace=[], disable_history=True, **current)

    def _asking(self, wire: Wire) -> Callable[..., Any]:
        """The metric; of a module a copy, whose models are asked through `wire`."""
        if not isinstance(self.function, dspy.Module):
            return self.function
        engines = {key: self._engine(held, wire) for key, held in self._held.items()}
        return copied(self.function, {**self._shared, **engines})

    @cached_property
    def _shared(self) -> dict[int, Any]:
        return uncopyable(self.function)

    def _engine(self, lm: str | LM | dspy.BaseLM, wire: Wire) -> dspy.LM:
        """A `dspy.LM` that asks the model of `lm` through `wire`."""
        asked, abilities = self._models[id(lm)]
        session = replace(wire.session, model=asked.name, params=asked.args)
        return engine_lm(wire, session, abilities, lm if isinstance(lm, dspy.LM) else None)

    @cached_property
    def _models(self) -> dict[int, tuple[LM, Abilities]]:
        """Its models and what they can do, by the id of the object that named them."""
        given = [lm for lm in (self.lm, *self._held.values()) if lm is not None]
        return {
            id(lm): (asked, Abilities.declared(lm) if isinstance(lm, dspy.LM) else Abilities.listed(asked.name))
            for lm, asked in zip(given, self.lms, strict=True)
        }

    async def _ask(self, function: Callable[..., Any], row: str, *args: Any) -> Score:
        name = user_code.name_of(function)
        try:
            raw = await user_code.call(function, *args, timeout=None)
        except Exception as error:
            if (failed := call_error(error)) is not None:
                raise failed from error
            what = user_code.described(error, user_code.source_file(function))
            raise ValueError(f"row {row!r}: the metric {name} raised {what}") from error
        try:
            return read_score(raw)
        except (ValueError, TypeError) as error:
            raise ValueError(f"row {row!r}: the metric {name} returned no score: {error}") from None

    def _trace(self, rollout: Rollout) -> list[tuple[str, Step]]:
        """What ran, each with its slot."""
        return [
            (run.slot, (self.predictors.get(run.slot, run.slot), run.inputs, dspy.Prediction(**json.loads(run.output))))
            for run in rollout.invocations
            if not run.fault
        ]


def gold_of(example: Example) -> dspy.Example:
    """The row with its columns as fields and its inputs named, as in DSPy's own lists of examples."""
    columns, expected = {**example.meta, **example.inputs}, example.expected
    if isinstance(expected, Mapping):
        columns |= cast("Mapping[str, Any]", expected)
    elif expected is not None and expected not in example.meta.values():
        columns["expected"] = expected
    return cast(Any, dspy.Example(**columns)).with_inputs(*example.inputs)


def read_score(raw: Any) -> Score:
    """What a DSPy metric returned. Raises ValueError for anything that is no score in [0, 1]."""
    if not isinstance(raw, dspy.Prediction | Mapping):
        return Score.of(raw)
    said = dict(cast("Mapping[str, Any]", raw).items())
    if "score" not in said:
        raise ValueError(f"it has no score, only {', '.join(said) or 'nothing'}")
    return Score(said["score"], str(said.get("feedback") or ""), feedback_for=said.get("feedback_for") or {})


def parameters_of(function: Callable[..., Any]) -> Literal[2, 3, 5]:
    """How many arguments a metric is called with: five where it is written for dspy.GEPA.

    Raises ConfigError for one that takes neither five nor two nor three.
    """
    called = cast(Any, type(function)).forward.__get__(function) if isinstance(function, dspy.Module) else function
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):
        return 2
    for count in (5, 2, 3) if _asks_as_gepa(signature) else (2, 3):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return count
    form = f"{user_code.name_of(function)}({', '.join(signature.parameters)})"
    raise ConfigError(f"the metric {form} must be {_FORMS}", key="metric")


def _asks_as_gepa(signature: inspect.Signature) -> bool:
    """Whether the fourth and fifth parameter are for a predictor's name and trace, and not a setting of the metric."""
    positional = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return all(p.default is p.empty or p.name in ("pred_name", "pred_trace") for p in positional[3:5])
