"""A model by name, with the parameters and settings a user gave it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promptopt.errors import ConfigError
from promptopt.lm.arguments import fault
from promptopt.lm.settings import ModelSettings


class LM:
    """A model: `LM("local/qwen2.5-coder-0.5b", temperature=0, max_tokens=24)`.

    `args` go with every call, as OpenAI names them; `settings` is what a config says under `lms:`. Where only a name is
    needed, the name alone will do. Raises ConfigError for an argument that calls may not have.
    """

    def __init__(self, name: str, *, settings: ModelSettings | Mapping[str, Any] | None = None, **args: Any) -> None:
        if wrong := fault(args):
            raise ConfigError(f"LM({name!r}) {wrong}")
        self.name = name
        self.args = args
        given = settings if isinstance(settings, ModelSettings) else ModelSettings.model_validate(settings or {})
        self.settings = given if settings is not None else None

    @staticmethod
    def of(lm: str | LM) -> LM:
        """`lm` itself, or the model of that name."""
        return lm if isinstance(lm, LM) else LM(lm)

    def __repr__(self) -> str:
        args = "".join(f", {name}={value!r}" for name, value in self.args.items())
        return f"LM({self.name!r}{args})"
