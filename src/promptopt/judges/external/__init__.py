"""Other people's judges as metrics: MLflow's scorers and DeepEval's metrics, each an extra loaded on first use."""

from __future__ import annotations

import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from typing import Any

from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from promptopt.core.rollout import Score
from promptopt.errors import ConfigError, did_you_mean
from promptopt.execute import user_code
from promptopt.lm.session import Session
from promptopt.lm.spec import LM
from promptopt.lm.wire import Wire
from promptopt.metrics.built_in import STRICT

PACKAGES = ("mlflow", "deepeval")
"""The packages that judges may come from; `metric.type` has the same words."""

_QUIET: Mapping[str, str] = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DEEPEVAL_TELEMETRY_OPT_OUT": "1",
    "DEEPEVAL_DISABLE_DOTENV": "1",
}
"""Set before a package is loaded, unless the user has: nobody is called, and no .env of the folder is read."""


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ForeignSettings:
    """What a config says of any judge of another package."""

    lm: str | None = None
    """The model that its calls ask."""
    lm_args: Mapping[str, Any] = Field(default_factory=dict)
    options: Mapping[str, Any] = Field(default_factory=dict)
    """What the judge is made with, as its own package names it."""
    fields: Mapping[str, str] = Field(default_factory=dict)
    """The judge's own names for what it is shown, each with the column that holds it."""
    conversation: str | None = None
    """The input column that holds recorded turns; the output is what came next."""

    @property
    def asked(self) -> LM | None:
        """The model with its arguments."""
        if self.lm_args and not self.lm:
            raise ConfigError("lm is missing: lm_args are the arguments of its calls", key="lm")
        return LM(self.lm, **self.lm_args) if self.lm else None


class Foreign(ABC):
    """Base of the metrics that other people's judges become. They read the row before the output."""

    @property
    @abstractmethod
    def title(self) -> str:
        """Whose judge it is, and which."""

    @property
    @abstractmethod
    def lms(self) -> tuple[LM, ...]:
        """The models that it asks through the gateway, as far as that is known."""

    @property
    @abstractmethod
    def uncounted(self) -> tuple[str, ...]:
        """What it calls past the run's caps and ledger, as sentences."""

    @abstractmethod
    def told(self, error: Exception) -> str:
        """What went wrong in the judge, as the rest of a sentence."""

    @abstractmethod
    def read(self, raw: Any) -> Score:
        """The score that a judge's answer is. Raises ValueError, as the rest of a sentence, for one that is none."""

    async def scored(self, run: Callable[[Wire], Any], lm: Session, place: str) -> Score:
        """The score that `run` comes to. Raises the error of a call that failed; any other names its `place`."""
        with closing(Wire(lm)) as wire:
            try:
                raw = await user_code.call(run, wire, timeout=None)
            except Exception as error:
                if lm.error is not None:  # whatever the package made of it
                    raise lm.error from error
                raise ValueError(f"{place} {self.told(error)}") from error
        lm.check()
        try:
            return self.read(raw)
        except ValueError as error:
            if lm.error is not None:
                raise lm.error from error
            raise ValueError(f"{place} {error}") from None

    @property
    def caveats(self) -> tuple[str, ...]:
        """What a verdict that rests on it must say: that nobody has checked it, and what it calls uncounted."""
        if not self.lms and not self.uncounted:
            return ()
        models = f" ({', '.join(lm.name for lm in self.lms)})" if self.lms else ""
        return (
            f"Nobody has checked {self.title}{models} against people: a gain may be one in pleasing it.",
            *self.uncounted,
        )


def package_of(metric: object) -> str | None:
    """Which of `PACKAGES` an object, or a class, belongs to; nothing is imported to find out."""
    kind = metric if isinstance(metric, type) else type(metric)
    homes = {base.__module__.partition(".")[0] for base in kind.__mro__}
    return next((package for package in PACKAGES if package in homes), None)


def judges_of(package: str) -> Any:
    """The module that makes metrics of a package's judges: its `Settings` reads a config, `named` and `taken` make one.

    Raises ConfigError where the package is not installed.
    """
    return load(f"{__name__}.{package}")


def load(module: str) -> Any:
    """The module, quiet. Raises ConfigError that says what to install where its package is missing."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in PACKAGES:
            raise
        install = f"pip install 'promptopt-engine[{package}]'"
        raise ConfigError(f"type {package} needs the package {package}: {install}", key="type") from None


def made(kind: Callable[..., Any], options: Mapping[str, Any], name: str) -> Any:
    """A judge, made with its options. Raises ConfigError for what its own package says of them."""
    try:
        return kind(**options)
    except ValidationError as error:
        first = error.errors()[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except Exception as error:  # the package's, or the user's own
        why = str(error)
    raise ConfigError(f"options: {name} cannot be made of them: {why}", key="options")


def check_options(given: Iterable[str], known: Iterable[str], judge: str) -> None:
    """Raise ConfigError for an option that a judge is not made with, and for its model, which stands elsewhere."""
    if "model" in given:
        raise ConfigError("options.model: say the model as lm, beside options", key="options.model")
    check_names(given, [name for name in known if name not in ("self", "model")], "options", judge)


def check_names(given: Iterable[str], known: Collection[str], under: str, judge: str) -> None:
    """Raise ConfigError for the first name that a judge does not know, with the nearest that it does."""
    for name in given:
        if name not in known:
            key = f"{under}.{name}"
            raise ConfigError(f"{key} is not known to {judge}. {did_you_mean(name, known)}", key=key)
