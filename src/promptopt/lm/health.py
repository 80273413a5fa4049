"""When failed calls add up to a model that is down, so that a run stops instead of failing row by row."""

from __future__ import annotations

from promptopt.core.rollout import Failure
from promptopt.errors import ModelDown

MISSED = 8
"""So many calls in a row without an answer, each after all its tries, and the model counts as down."""

_ALIVE = frozenset({"bad_request", "empty", "refusal"})
"""Failures that a working model gives, too."""

_MEND = {
    "auth": "Name the variable that holds its key in lms.{model}.api_key_env",
    "not_found": "Check the model's name and lms.{model}.api_base",
    "budget": "Raise the account's limit or choose another model",
}
_GO_ON = "then run the same command again: it goes on where it stopped."


class Health:
    """What a model's calls so far say about the next one."""

    def __init__(self, model: str, api_base: str | None) -> None:
        self._model = model
        self._name = f"{model} at {api_base}" if api_base else model
        self._ever_answered = False
        self._missed = 0

    def answered(self) -> None:
        self._ever_answered = True
        self._missed = 0

    def failed(self, failure: Failure) -> ModelDown | None:
        """Count a call that failed after all its tries. The error to stop with when no next one can be expected to do
        better: the account is empty, the key or the name never worked, or too many failed in a row."""
        if failure.kind in _ALIVE:
            self._missed = 0
            return None
        self._missed += 1
        refused = failure.kind in ("auth", "not_found") and not self._ever_answered
        if refused or failure.kind == "budget":
            return ModelDown(
                f"{self._name} refuses every call ({failure.message}). "
                f"{_MEND[failure.kind].format(model=self._model)}, {_GO_ON}",
                self._model,
            )
        if self._missed >= MISSED:
            return ModelDown(
                f"{self._name} has not answered {MISSED} calls in a row ({failure.message}); nothing more was spent. "
                f"Mend it, {_GO_ON}",
                self._model,
            )
        return None
