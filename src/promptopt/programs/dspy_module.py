"""A DSPy module as a program: any `dspy.Module`, with any adapter, under the run's caps, ledger and deadlines.

Each rollout runs a copy of the module in a thread of its own, with every LM in it replaced by one whose engine asks
the rollout's session. The user's own module is read, never changed.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import dspy
from dspy.utils.exceptions import AdapterParseError

from promptopt.core.candidate import Candidate, Component, Demo
from promptopt.core.example import Example
from promptopt.core.rollout import Failure
from promptopt.errors import ConfigError
from promptopt.execute.user_code import call
from promptopt.lm.dspy_lm import Abilities, engine_lm, with_settings
from promptopt.lm.message import CallFailed, Message
from promptopt.lm.session import Session
from promptopt.lm.settings import ModelSettings
from promptopt.lm.spec import LM, agreed
from promptopt.lm.wire import Wire
from promptopt.metrics.dspy_metric import DSPyMetric
from promptopt.programs import dspy_parts as parts
from promptopt.programs.dspy_copies import copied, lms_held, uncopyable
from promptopt.programs.dspy_identity import identity
from promptopt.programs.dspy_trace import Recorder, asking, call_error, jsonable, tag, unreadable


class DSPyModule:
    """A `dspy.Module` whose instructions and demos are optimized, and where asked its fields' and tools' descriptions.

    `lm` is the model of all predictors that have none of their own: a name, an `LM` or a `dspy.LM`; without it, the one
    that DSPy is configured with. The adapter and DSPy's other settings are those in force now. `optimize` takes
    `instructions`, `demos`, `fields` and `tools`. `max_calls` bounds the model calls of one rollout, an adapter's
    second tries included. Demos that the module has already stay until a candidate has others for their predictor.

    Raises ConfigError for a module without predictors, a predictor without a model, and LMs that cannot be taken over.
    """

    def __init__(
        self,
        student: dspy.Module,
        *,
        lm: str | LM | dspy.BaseLM | None = None,
        optimize: Sequence[str] = ("instructions", "demos"),
        max_calls: int = 32,
    ) -> None:
        self.student, self.optimize, self.max_calls = student, tuple(optimize), max_calls
        self._predictors = _predictors(student)
        if isinstance(cast(object, max_calls), bool) or not isinstance(cast(object, max_calls), int) or max_calls < 1:
            raise ConfigError(
                f"program.max_calls must be a whole number from 1, got {max_calls!r}", key="program.max_calls"
            )
        for kind in optimize:
            if kind not in parts.KINDS:
                raise ConfigError(
                    f"program.optimize: {kind!r} is not one of {', '.join(parts.KINDS)}", key="program.optimize"
                )
        main = _main_lm(student, lm)
        self.lm = LM.of(main)
        self._main = main if isinstance(main, dspy.LM) else None
        self._settings = dspy.settings.copy()
        self._adapter: dspy.Adapter | None = self._settings["adapter"]
        self._held = lms_held(student, filter(None, [self._adapter]))
        self._own = {key: LM.of(held) for key, held in self._held.items()}
        self.models: Mapping[str, ModelSettings] = agreed(
            (one.name, one.settings) for one in (self.lm, *self._own.values()) if one.settings is not None
        )
        self._shared = uncopyable(student, *filter(None, [self._adapter]))
        self._abilities: dict[tuple[int, str], Abilities] = {}

    @property
    def components(self) -> tuple[Component, ...]:
        return tuple(parts.components(self.student, self.optimize))

    @property
    def demo_slots(self) -> tuple[str, ...]:
        return tuple(self._predictors) if "demos" in self.optimize else ()

    @property
    def fingerprint(self) -> str:
        return identity(self.student, self._adapter, [self.lm, *self._own.values()])

    def check(self, columns: Sequence[str]) -> None:
        """Raise ConfigError where the module's forward names parameters that the data's inputs do not fit."""
        forward: Any = getattr(type(self.student), "aforward" if self._asynchronous else "forward")
        parameters = list(inspect.signature(forward).parameters.values())[1:]
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return
        known = [parameter.name for parameter in parameters]
        missing = [p.name for p in parameters if p.default is p.empty and p.name not in columns]
        strange = [column for column in columns if column not in known]
        if missing or strange:
            raise ConfigError(
                f"the module takes {', '.join(known) or 'nothing'}, but data.inputs has {', '.join(columns)}: "
                + (f"{', '.join(missing)} is missing" if missing else f"leave {', '.join(strange)} out"),
                key="data.inputs",
            )

    def labelled(self, slot: str, example: Example) -> Demo | None:
        return parts.labelled(self._predictors[slot], example)

    def narrowed(self, example: Example) -> Example:
        """The row with what the module makes of it as its expected answer, where DSPy's labels say more than that."""
        return parts.narrowed(self._predictors.values(), example)

    def preview(self, candidate: Candidate, example: Example) -> tuple[Message, ...] | None:
        return None

    def metric_of(self, function: Callable[..., Any]) -> DSPyMetric:
        """A DSPy metric of this module; its own calls go to the model that DSPy is configured with now."""
        return DSPyMetric(function, dspy.settings.lm, dict(self.build(Candidate({})).named_predictors()))

    def build(self, candidate: Candidate) -> dspy.Module:
        """A copy of the student with the candidate's texts and demos; its LMs are the user's own.

        A candidate's settings are given to the main model's predictors, as a copy of the user's LM. Where the model is
        known by name only, there is none to copy, and the settings are left to the caller.

        Raises ConfigError for a text or demo that the module has no place for.
        """
        module = copied(self.student, {**self._shared, **self._held})
        parts.put(module, candidate)
        if candidate.settings and self._main is not None:
            tuned = with_settings(self._main, candidate.settings)
            for _, predictor in module.named_predictors():
                if predictor.lm is None or self._is_main(self._own[id(predictor.lm)]):
                    predictor.lm = tuned
        return module

    async def run(self, candidate: Candidate, example: Example, lm: Session) -> Any:
        wire, recorder = Wire(lm, asking), Recorder(lm)
        try:
            output = await call(self._rollout, candidate, example, wire, recorder, timeout=None)
            if recorder.stray:
                raise _past_the_run(recorder.stray)
            if output is None:
                raise CallFailed(Failure("program", "the module returned None: does its forward end with a return?"))
            return output
        except AdapterParseError as error:
            raise unreadable(error, lm) from error
        except Exception as error:
            if (ours := call_error(error)) is None:
                raise
        finally:
            wire.close()
        raise ours

    def _rollout(self, candidate: Candidate, example: Example, wire: Wire, recorder: Recorder) -> Any:
        """One run of a copy, in a thread of its own."""
        main = engine_lm(wire, wire.session, self._abilities_of(self._main, wire.session.model), self._main)
        engines = {key: self._engine(key, wire) for key in self._held}
        module = copied(self.student, {**self._shared, **engines})
        parts.put(module, candidate)
        tag(module, recorder)
        settings: dict[str, Any] = {
            **self._settings,
            "lm": main,
            "adapter": copy.deepcopy(self._adapter, {**self._shared, **engines}),
            "callbacks": [*self._settings["callbacks"], recorder],
            "caller_modules": None,
            "disable_history": True,
            "stream_listeners": [],
            "send_stream": None,
            "trace": [],
            "usage_tracker": None,
        }
        inputs = copy.deepcopy(dict(example.inputs))
        if self._asynchronous:
            return _awaited(module, inputs, settings)
        with dspy.context(**settings):
            return jsonable(module(**inputs))

    def _engine(self, key: int, wire: Wire) -> dspy.LM:
        """What takes an LM's place for a rollout; the main model is the session's own, with a candidate's settings."""
        own, held = self._own[key], self._held[key]
        session = wire.session
        if not self._is_main(own):
            session = replace(session, model=own.name, params=own.args)
        assert isinstance(held, dspy.LM)
        return engine_lm(wire, session, self._abilities_of(held, session.model), held)

    def _is_main(self, lm: LM) -> bool:
        """Whether calls of `lm` are the main model's, which a candidate's settings are about."""
        return (lm.name, lm.args) == (self.lm.name, self.lm.args)

    def _abilities_of(self, given: dspy.LM | None, model: str) -> Abilities:
        """What the user's own LM declares; of a model that only a name is known of, what is listed."""
        key = (id(given), model)
        if key not in self._abilities:
            own = given if given is not None and given.model == model else None
            self._abilities[key] = Abilities.declared(own) if own else Abilities.listed(model)
        return self._abilities[key]

    @cached_property
    def _asynchronous(self) -> bool:
        """Whether the module is awaited: where it can do nothing else, or has tools that must be."""
        kind = type(self.student)
        awaited = any(inspect.iscoroutinefunction(text.tool.func) for text in parts.tool_texts(self.student))
        return hasattr(kind, "aforward") and (awaited or not hasattr(kind, "forward"))


async def _awaited(module: dspy.Module, inputs: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    with dspy.context(**settings):
        return jsonable(await module.acall(**inputs))


def _predictors(student: dspy.Module) -> dict[str, dspy.Predict]:
    if not isinstance(cast(object, student), dspy.Module):
        name = getattr(student, "__name__", type(student).__name__)
        raise ConfigError(f"a DSPy program must be an instance of a dspy.Module, which {name} is not")
    found = dict(student.named_predictors())
    if not found:
        raise ConfigError(
            f"{type(student).__name__} has no predictors, so there is nothing to optimize. Keep each dspy.Predict or "
            "dspy.ChainOfThought as an attribute that is set in __init__; what is compiled already is left alone."
        )
    return found


def _main_lm(student: dspy.Module, lm: str | LM | dspy.BaseLM | None) -> str | LM | dspy.BaseLM:
    """The model of the predictors that have none of their own; of the first one where all have."""
    own = {name: predictor.lm for name, predictor in student.named_predictors()}
    bare = [name for name, has in own.items() if has is None]
    if lm is not None and not bare:
        raise ConfigError(
            "lm would never be called: every predictor has an lm of its own. Leave lm out, or student.set_lm(None)",
            key="program.lm",
        )
    main: Any = lm or (dspy.settings.lm if bare else next(iter(own.values())))
    if main is None:
        raise ConfigError(
            f"no model for {', '.join(bare)}: give lm=, or call dspy.configure(lm=dspy.LM(...)) first", key="program.lm"
        )
    return main


def _past_the_run(model: str) -> CallFailed:
    return CallFailed(
        Failure(
            "program",
            f"the module called {model} past the run and its caps. Keep that dspy.LM as an attribute that the module "
            "sets in __init__, or configure it as DSPy's lm; for threads use dspy.Parallel, which passes settings on.",
        )
    )
