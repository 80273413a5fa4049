"""Searches for better prompts under hard budgets, and proves on unseen rows that they are better.

The public names are imported when they are first used, so that `import promptopt` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptopt.api import compare, evaluate, optimize, plan
    from promptopt.calibration import Alignment, Calibration
    from promptopt.core.budget import Budget
    from promptopt.core.candidate import Candidate
    from promptopt.core.example import Example
    from promptopt.core.rollout import Score
    from promptopt.core.split import Split
    from promptopt.data import Dataset
    from promptopt.distill_api import distill
    from promptopt.dspy_optimizer import DSPyOptimizer
    from promptopt.errors import ConfigError, DataError, PromptoptError, RunError, UserError
    from promptopt.judge_api import align, calibrate
    from promptopt.judges.judge import Judge
    from promptopt.lm.spec import LM
    from promptopt.programs.dspy_module import DSPyModule
    from promptopt.programs.function import Function
    from promptopt.programs.gepa_adapter import GepaAdapter
    from promptopt.programs.prompt import Prompt
    from promptopt.result import Result

__all__ = [
    "LM",
    "Alignment",
    "Budget",
    "Calibration",
    "Candidate",
    "ConfigError",
    "DSPyModule",
    "DSPyOptimizer",
    "DataError",
    "Dataset",
    "Example",
    "Function",
    "GepaAdapter",
    "Judge",
    "Prompt",
    "PromptoptError",
    "Result",
    "RunError",
    "Score",
    "Split",
    "UserError",
    "align",
    "calibrate",
    "compare",
    "distill",
    "evaluate",
    "optimize",
    "plan",
]

_HOMES = {
    "api": ("compare", "evaluate", "optimize", "plan"),
    "judge_api": ("align", "calibrate"),
    "calibration": ("Alignment", "Calibration"),
    "core.budget": ("Budget",),
    "core.candidate": ("Candidate",),
    "core.example": ("Example",),
    "core.rollout": ("Score",),
    "core.split": ("Split",),
    "data": ("Dataset",),
    "distill_api": ("distill",),
    "dspy_optimizer": ("DSPyOptimizer",),
    "errors": ("ConfigError", "DataError", "PromptoptError", "RunError", "UserError"),
    "judges.judge": ("Judge",),
    "lm.spec": ("LM",),
    "programs.dspy_module": ("DSPyModule",),
    "programs.function": ("Function",),
    "programs.gepa_adapter": ("GepaAdapter",),
    "programs.prompt": ("Prompt",),
    "result": ("Result",),
}
"""Where each public name is defined."""


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"promptopt.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'promptopt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
