"""Writes docs/config.md, every key of a config, from the settings' own docstrings: python docs/config_reference.py"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from promptopt.config import distill, judge, settings
from promptopt.lm.settings import ModelSettings, Price

PAGE = Path(__file__).with_name("config.md")
HEAD = """# Every key of a config

A config is YAML; unknown keys are refused with the nearest one that there is, and paths start from the config's folder.
`promptopt init DIR` writes a commented one, `promptopt plan CONFIG` checks one and spends nothing, and any key can be
set for one run: `--set budget.rollouts=200`. Each kind of metric has settings of its own: see
[judges.md](judges.md), and `metric: {type: ...}` of a wrong name lists the kinds.

An endpoint of your own (vLLM, Ollama, a proxy, Azure) is named under `lms:`, by the name of the model that calls it:

```yaml
lms:
  openai/my-model:
    api_base: http://127.0.0.1:8000/v1     # litellm's name decides the protocol: openai/ANYTHING is OpenAI's
    api_key_env: MY_KEY                    # the variable that holds the key; never the key itself
    price: {input: 0.10, output: 0.40}     # US dollars per million tokens, where litellm's table has none
```
"""
PARTS: dict[str, type[BaseModel]] = {
    "A job": settings.Config,
    "`program:` {type: prompt}": settings.PromptSettings,
    "`program.messages:` one message": settings.MessageSettings,
    "`program:` {type: function}": settings.FunctionSettings,
    "`program:` {type: gepa}": settings.GepaSettings,
    "`program.components:` one text": settings.ComponentSettings,
    "`program:` {type: dspy}": settings.DspySettings,
    "`data:`": settings.DataSettings,
    "`data.split:`": settings.SplitSettings,
    "`reflection:`": settings.ReflectionSettings,
    "`strategy:`": settings.StrategySettings,
    "`budget:`": settings.BudgetSettings,
    "`run:`": settings.RunSettings,
    "`lms:` one model": ModelSettings,
    "`lms.MODEL.price:`": Price,
    "A distillation: a job's keys, and": distill.DistillConfig,
    "`students:` one": distill.StudentSettings,
    "`traffic:`": distill.TrafficSettings,
    "`cascade:`": distill.CascadeSettings,
    "A judge's calibration and alignment": judge.JudgeConfig,
    "`labels:`": judge.LabelSettings,
}


def page() -> str:
    """The whole page."""
    return HEAD + "".join(f"\n## {name}\n\n{_part(part)}" for name, part in PARTS.items())


def _part(part: type[BaseModel]) -> str:
    inherited = settings.Config.model_fields if part is distill.DistillConfig else {}
    told = _docstrings(part)
    rows = [
        f"| `{key}` | {_default(field)} | {_meaning(field, told.get(key, ''))} |"
        for key, field in part.model_fields.items()
        if key not in inherited
    ]
    return "\n".join([inspect.cleandoc(part.__doc__ or ""), "", "| key | default | |", "|---|---|---|", *rows, ""])


def _docstrings(part: type[BaseModel]) -> dict[str, str]:
    """What stands below each field, its parents' too."""
    found: dict[str, str] = {}
    for one in reversed(part.__mro__):
        if issubclass(one, BaseModel) and one is not BaseModel:
            body = ast.parse(dedent(inspect.getsource(one))).body[0]
            found |= dict(_told(body.body)) if isinstance(body, ast.ClassDef) else {}
    return found


def _told(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """A docstring is about all the fields since the one before it."""
    names: list[str] = []
    for statement in body:
        match statement:
            case ast.AnnAssign(target=ast.Name(name)):
                names.append(name)
            case ast.Expr(ast.Constant(str(text))):
                yield from ((name, " ".join(text.split())) for name in names[-1:])
                names = []
            case _:
                names = []


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value: Any = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ""
    return "null" if value is None else f"`{value}`".replace("'", "") if value not in ("", {}, []) else ""


def _meaning(field: FieldInfo, told: str) -> str:
    parts = [name for name, part in PARTS.items() if part in _models(field.annotation)]
    if parts and not told:
        told = "See " + ", ".join(f"[{name.replace('`', '')}](#{_anchor(name)})" for name in parts) + "."
    choices = [str(choice) for choice in _choices(field.annotation) if choice is not True and choice is not False]
    listed = ", ".join(f"`{choice}`" for choice in choices)
    words = told.replace("|", "\\|")
    return " ".join(part for part in (words, f"One of {listed}." if len(choices) > 1 else "") if part)


def _models(annotation: Any) -> list[Any]:
    """The settings inside a type."""
    return [annotation, *(inner for arg in get_args(annotation) for inner in _models(arg))]


def _anchor(name: str) -> str:
    """How a heading is linked to."""
    return re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-")


def _choices(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif not (inspect.isclass(annotation) and issubclass(annotation, BaseModel)):
        for inner in get_args(annotation):
            yield from _choices(inner)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
