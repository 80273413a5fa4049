"""A gepa adapter as a program: what evaluates candidates for gepa does so here, under the run's caps and ledger."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

from promptopt.core.candidate import Candidate
from promptopt.core.example import Example, text_of
from promptopt.core.rollout import Failure, Score
from promptopt.core.strategies.drawing import OperatorPrior
from promptopt.errors import ConfigError
from promptopt.execute.user_code import described, name_of, source_hash
from promptopt.lm.message import CallFailed
from promptopt.lm.session import Session
from promptopt.lm.spec import LM
from promptopt.metrics.own import Own
from promptopt.programs.function import Context, Function
from promptopt.reflect.operator import Operator
from promptopt.reflect.operators.adapter import AdapterProposal

SHOWN_ANYWAY = ("Inputs", "Generated Outputs")
"""What a record of a program with one component repeats: the row and its output are shown beside the feedback."""


class Adapter(Protocol):
    """gepa's adapter protocol, as far as a rollout needs it."""

    def evaluate(self, batch: list[Any], candidate: dict[str, str], capture_traces: bool = False) -> Any: ...

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: Any, components_to_update: list[str]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]: ...


@dataclass(frozen=True, slots=True)
class _Judged:
    """What an adapter made of one row, and what it thinks of it."""

    output: Any
    score: Score


def default_instance(example: Example) -> dict[str, Any]:
    """The row as gepa's DefaultAdapter reads one: `input`, `additional_context` and `answer`.

    Several inputs become lines of `name: value`; a column called `additional_context` is taken over.
    """
    texts = {name: text_of(value) for name, value in example.inputs.items()}
    lines = "\n".join(f"{name}: {text}" for name, text in texts.items())
    return {
        "input": lines if len(texts) > 1 else "".join(texts.values()),
        "additional_context": example.meta.get("additional_context") or {},
        "answer": "" if example.expected is None else text_of(example.expected),
    }


class GepaAdapter(Function):
    """Runs gepa's adapter protocol, one row a rollout: `GepaAdapter(make, components=seed_candidate, lm="...")`.

    `make(context)` builds an adapter for one rollout. Where the adapter takes a base URL and a key, give it those of
    `context`; where it takes a callable in place of a model, give it `context.complete`: its calls are then under the
    run's caps, ledger and cache. An adapter that was built already is used by one rollout at a time, and its calls
    are its own affair; only gepa's DefaultAdapter is given our gateway, with the model that it names.

    `row` makes the adapter's data instance of an example. The adapter's score is the metric `own`, the default here;
    its reflective dataset is the feedback. `propose_new_texts` is asked where `strategy.operators` names `adapter`;
    the adapter is then built on the reflection model.

    Raises ConfigError as Function does, and for an adapter that lacks a method or could not use `lm`.
    """

    metric = Own()
    """The metric where the user names none."""

    def __init__(
        self,
        adapter: Adapter | Callable[[Context], Adapter],
        *,
        components: Mapping[str, str | Mapping[str, Any]],
        lm: str | LM | None = None,
        optimize: Sequence[str] | None = None,
        max_calls: int = 16,
        row: Callable[[Example], Any] = default_instance,
    ) -> None:
        built = hasattr(adapter, "evaluate") and not inspect.isclass(adapter)
        if built and (own := _model_of_default(adapter)):
            adapter, lm, built = _on_gateway(adapter), lm or own, False
        if built and lm is not None:
            raise ConfigError(
                f"program.lm: the {type(adapter).__name__} was built already and keeps the model it has. Pass a "
                "function that builds it, such as lambda context: DefaultAdapter(context.complete)",
                key="program.lm",
            )
        super().__init__(self._judge, components=components, lm=lm, optimize=optimize, max_calls=max_calls)
        self.row = row
        self._made: Any = adapter
        self._make: Callable[[Context], Any] = (lambda _: adapter) if built else self._made
        self._turn = Lock() if built else nullcontext()
        if built:
            _check(adapter)

    @property
    def fingerprint(self) -> str:
        lm = [self.lm.name, self.lm.args] if self.lm else None
        return json.dumps(["gepa", source_hash(self._made), source_hash(self.row), lm], sort_keys=True, default=str)

    @property
    def operators(self) -> Mapping[str, tuple[Operator, OperatorPrior]]:
        """What proposes where `strategy.operators` names it: the adapter itself."""
        prior = OperatorPrior("adapter", 0.4, 1.2, needs_evidence=True, asks=False)
        return {prior.name: (AdapterProposal(self._make, self._turn), prior)}

    async def run(self, candidate: Candidate, example: Example, lm: Session) -> Any:
        """Many adapters score 0 where a call failed; a failure is missing data, so the failed call is raised."""
        try:
            judged: _Judged = await super().run(candidate, example, lm)
        except Exception as error:
            raise lm.error or CallFailed(Failure("program", f"the adapter raised {described(error)}")) from error
        if lm.error is not None:
            raise lm.error
        lm.own = judged.score
        return judged.output

    def _judge(self, components: dict[str, str], example: Example, context: Context) -> _Judged:
        """One row, in the user code's thread."""
        with self._turn:
            adapter = self._make(context)
            _check(adapter)
            batch = adapter.evaluate([self.row(example)], dict(components), capture_traces=True)
            value, output = (_only_one(batch, name) for name in ("scores", "outputs"))
            lessons = self._lessons(adapter, components, batch)
        parts = _parts(_only_one(batch, "objective_scores")) if batch.objective_scores else {}
        score = Score(value, parts=parts, **lessons)
        return _Judged(json.loads(json.dumps(output, default=_readable)), score)

    def _lessons(self, adapter: Adapter, components: dict[str, str], batch: Any) -> dict[str, Any]:
        """The reflective dataset as feedback: to all where there is one component, else to each its own."""
        if batch.trajectories is None:
            return {}
        names = [component.name for component in self.components if component.optimize]
        lessons: dict[str, str] = {}
        for name in names:
            try:
                records = adapter.make_reflective_dataset(dict(components), batch, [name]).get(name, ())
                lessons[name] = "\n\n".join(_lesson(record, len(names) == 1) for record in records)
            except Exception as error:  # gepa's own adapters raise where a trace holds nothing to learn from
                lessons[name] = f"(no record of this row: {described(error)})"
        lessons = {name: text for name, text in lessons.items() if text}
        return {"feedback_for": lessons} if len(names) > 1 else {"feedback": "".join(lessons.values())}


def _check(adapter: Any) -> None:
    for method in ("evaluate", "make_reflective_dataset"):
        if not callable(getattr(adapter, method, None)):
            raise ConfigError(f"{type(adapter).__name__} is no gepa adapter: it has no {method}", key="program.path")


def _only_one(batch: Any, name: str) -> Any:
    """The one item of a list in the EvaluationBatch of one row."""
    found = getattr(batch, name, None)
    if not isinstance(found, Sequence) or len(found) != 1:  # pyright: ignore[reportUnknownArgumentType]
        raise ValueError(f"evaluate must return an EvaluationBatch with one of {name} for one row, not {found!r:.60}")
    return found[0]  # pyright: ignore[reportUnknownVariableType]


def _parts(objectives: Mapping[str, Any]) -> dict[str, float]:
    """The objective scores that are between 0 and 1; gepa allows any number."""
    return {name: value for name, value in objectives.items() if isinstance(value, int | float) and 0 <= value <= 1}


def _lesson(record: Mapping[str, Any], brief: bool) -> str:
    """A record of a reflective dataset as text."""
    kept = {name: text_of(said) for name, said in record.items() if not (brief and name in SHOWN_ANYWAY)}
    return "".join(kept.values()) if len(kept) == 1 else "\n".join(f"{name}: {text}" for name, text in kept.items())


def _readable(value: Any) -> Any:
    """What JSON cannot hold, as a mapping where it offers one (a DSPy prediction does), else as text."""
    return value.toDict() if hasattr(value, "toDict") else str(value)


def _model_of_default(adapter: Any) -> LM | None:
    """The model that gepa's own DefaultAdapter was built with; None for one with a callable, and for other adapters."""
    from gepa.adapters.default_adapter.default_adapter import DefaultAdapter

    if type(adapter) is not DefaultAdapter or not isinstance(adapter.model, str):
        return None
    return LM(adapter.model, **adapter.litellm_batch_completion_kwargs)


def _on_gateway(adapter: Any) -> Callable[[Context], Any]:
    """What builds the same DefaultAdapter on the gateway."""

    def make(context: Context) -> Any:
        return type(adapter)(context.complete, evaluator=adapter.evaluator)

    make.version = f"{name_of(adapter)} with {source_hash(adapter.evaluator)}"  # pyright: ignore[reportFunctionMemberAccess]
    return make
