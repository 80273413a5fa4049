"""From what a config says to a program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptopt.config.settings import (
    CodeSettings,
    DspySettings,
    FunctionSettings,
    GepaSettings,
    ProgramSettings,
    PromptSettings,
)
from promptopt.errors import ConfigError
from promptopt.execute.user_code import described, load
from promptopt.lm.spec import LM
from promptopt.programs.function import Function
from promptopt.programs.gepa_adapter import GepaAdapter, default_instance
from promptopt.programs.program import Program
from promptopt.programs.prompt import Prompt

if TYPE_CHECKING:
    from promptopt.programs.dspy_module import DSPyModule


def build(settings: ProgramSettings, base: Path) -> Program:
    """The program that a config describes; import paths are relative to `base`. Raises ConfigError."""
    match settings:
        case PromptSettings() as prompt:
            messages = (
                [message.model_dump(exclude_none=True) for message in prompt.messages] if prompt.messages else None
            )
            return Prompt(
                LM(prompt.lm, **prompt.lm_args),
                system=prompt.system,
                user=prompt.user,
                messages=messages,
                optimize=prompt.optimize,
            )
        case FunctionSettings() as function:
            return Function(load(function.path, base), **_code(function))
        case DspySettings() as module:
            return dspy_module(module, base)
        case GepaSettings() as gepa:
            row = load(gepa.row, base) if gepa.row else default_instance
            return GepaAdapter(load(gepa.path, base), row=row, **_code(gepa))


def dspy_module(settings: DspySettings, base: Path) -> DSPyModule:
    """The DSPy module that a config names. Raises ConfigError where there is none."""
    import dspy  # pyright: ignore[reportMissingTypeStubs]

    from promptopt.programs.dspy_module import DSPyModule

    found: Any = load(settings.path, base)
    try:
        student = found if isinstance(found, dspy.Module) else found()
    except Exception as error:
        raise ConfigError(f"program.path: {settings.path} raised {described(error)}", key="program.path") from error
    if not isinstance(student, dspy.Module):
        kind = type(student).__name__
        raise ConfigError(f"program.path: {settings.path} makes {kind}, not a dspy.Module", key="program.path")
    lm = LM(settings.lm, **settings.lm_args) if settings.lm else None
    return DSPyModule(student, lm=lm, optimize=settings.optimize, max_calls=settings.max_calls)


def _code(settings: CodeSettings) -> dict[str, Any]:
    """What programs of the user's own code have in common."""
    return {
        "components": {name: text.model_dump() for name, text in settings.components.items()},
        "lm": LM(settings.lm, **settings.lm_args) if settings.lm else None,
        "optimize": settings.optimize,
        "max_calls": settings.max_calls,
    }
