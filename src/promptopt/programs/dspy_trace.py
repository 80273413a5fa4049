"""What a DSPy module did in one rollout: every run of every predictor, whoever calls it and however often.

A predictor is known by a tag on the instance, never by its signature, so twins are not confused; a module that copies
itself while it runs (BestOfN, Refine) copies the tag.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import AdapterParseError
from pydantic_core import to_jsonable_python

from promptopt.core.rollout import Invocation, printable
from promptopt.errors import PromptoptError
from promptopt.lm.dspy_lm import is_ours
from promptopt.lm.failures import mask
from promptopt.lm.message import CallFailed
from promptopt.lm.session import Session
from promptopt.programs.program import Unreadable

_TAG = "_promptopt_slot"
MOST_SHOWN = 500
"""Characters of an unreadable reply that its failure quotes; the trace has all of it."""


def asking() -> str:
    """The name of the predictor that calls a model in this thread; empty where none of ours does."""
    callers: list[Any] = dspy.settings.caller_modules or []
    return next((name for module in reversed(callers) if (name := getattr(module, _TAG, ""))), "")


@dataclass(frozen=True, slots=True)
class _Run:
    """A predictor's run that has not ended."""

    slot: str
    predictor: dspy.Predict
    inputs: Mapping[str, Any]
    turns: int
    """How many turns the trace had when it began."""


class Recorder(BaseCallback):
    """Tells a session what the predictors of its rollout do."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._running: dict[str, _Run] = {}
        self.stray = ""
        """A model that was called past the session, if one was."""

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        if slot := getattr(instance, _TAG, ""):
            given: Mapping[str, Any] = inputs.get("kwargs", {})
            fields = {name: jsonable(given[name]) for name in instance.signature.input_fields if name in given}
            self._running[call_id] = _Run(slot, instance, fields, len(self._session.trace))
            self.on_lm_start(call_id, instance.lm or dspy.settings.lm, {})

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        run = self._running.pop(call_id, None)
        if run is None:
            return
        if exception is None:
            fields = {
                name: jsonable(outputs[name]) for name in run.predictor.signature.output_fields if name in outputs
            }
            output, fault = json.dumps(fields, ensure_ascii=False), ""
        else:
            replies = [turn.reply for turn in self._session.trace[run.turns :] if turn.component == run.slot]
            if not replies or call_error(exception) is not None:
                return
            output, fault = replies[-1], _fault(exception)
        self._session.invocations.append(Invocation(run.slot, run.inputs, output, fault))

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        if not is_ours(instance):
            self.stray = str(getattr(instance, "model", instance))


def tag(module: dspy.Module, recorder: Recorder) -> None:
    """Name every predictor of a module by its place in it.

    The recorder is told by each of them too: in a thread of the module's own, DSPy's settings do not name it.
    """
    for name, predictor in module.named_predictors():
        setattr(predictor, _TAG, name)
        predictor.callbacks = [*predictor.callbacks, recorder]


def call_error(error: BaseException | None) -> CallFailed | PromptoptError | None:
    """The error of ours that DSPy's or the user's code has wrapped, if one is under `error`."""
    while error is not None:
        if isinstance(error, CallFailed | PromptoptError):
            return error
        error = error.__cause__ or error.__context__
    return None


def unreadable(error: AdapterParseError, session: Session) -> Unreadable:
    """A reply that no adapter could read, with its text in what reflection learns from it."""
    last = session.invocations[-1] if session.invocations else None
    whose = f" of {last.slot}" if last and last.fault else ""
    raw = session.trace[-1].reply if session.trace else error.lm_response
    said = raw if len(raw) <= MOST_SHOWN else f"{raw[:MOST_SHOWN]} [… {len(raw) - MOST_SHOWN} more characters]"
    cut = " It was cut off by max_tokens." if session.trace and session.trace[-1].finish_reason == "length" else ""
    return Unreadable(raw, mask(f"The reply{whose} could not be read: {_fault(error)}{cut} It was: {said}"))


def jsonable(value: Any) -> Any:
    """`value` as JSON values, a prediction as its fields by name; what has no such form is given as text."""
    try:
        plain = to_jsonable_python(value, fallback=_plain)
    except Exception:  # whatever a user's own type raises while it is written
        plain = str(value)
    return json.loads(printable(json.dumps(plain, ensure_ascii=False)))


def _plain(value: Any) -> Any:
    return value.toDict() if isinstance(value, dspy.Example) else str(value)


def _fault(error: BaseException) -> str:
    """Why a reply could not be read, as a sentence."""
    if not isinstance(error, AdapterParseError):
        return mask(f"{type(error).__name__}: {error}.")
    reason = error.message.split("\n\n")[0].strip()
    wanted = ", ".join(error.signature.output_fields)
    told = "" if reason.startswith("Adapter ") else f"{mask(reason).rstrip('.')}. "
    return f"{told}{error.adapter_name} expects the fields {wanted}."
