"""What tells one DSPy program from another: its code, signatures, demos, plain attributes, models and adapter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import dspy
from pydantic import TypeAdapter

from promptopt.execute.user_code import source_file, source_hash
from promptopt.lm.spec import LM
from promptopt.programs.dspy_trace import jsonable


def identity(module: dspy.Module, adapter: dspy.Adapter | None, lms: Sequence[LM]) -> str:
    """All about a module that decides an output, besides what a candidate may change, as text. No key is in it."""
    modules = dict(module.named_sub_modules(type_=dspy.Module))
    tools = [tool for _, tool in module.named_sub_modules(type_=dspy.Tool)]
    content = {
        "dspy": dspy.__version__,
        "code": sorted({_code(type(part)) for part in modules.values()} | {_code(tool.func) for tool in tools}),
        "predictors": {path: _predictor(part) for path, part in modules.items() if isinstance(part, dspy.Predict)},
        "tools": [str(tool) for tool in tools],
        "values": {path: _plain(part) for path, part in modules.items() if not isinstance(part, dspy.Predict)},
        "lms": sorted({json.dumps([lm.name, lm.args], sort_keys=True, default=str) for lm in lms}),
        "adapter": [_code(type(adapter)), _plain(adapter)] if adapter is not None else None,
    }
    return json.dumps(["dspy", content], sort_keys=True, default=str)


def _predictor(predictor: dspy.Predict) -> list[Any]:
    signature = predictor.signature
    types = {name: _type(field.annotation) for name, field in signature.fields.items()}
    return [signature.dump_state(), types, jsonable(predictor.demos), jsonable(predictor.config)]


def _type(annotation: Any) -> Any:
    """A field's type with all that it is made of."""
    try:
        return TypeAdapter(annotation).json_schema()
    except Exception:  # a type without a schema
        return str(annotation)


def _plain(part: object) -> dict[str, Any]:
    """The numbers and texts that an object was made with, such as `max_iters`."""
    return {
        name: value
        for name, value in vars(part).items()
        if isinstance(value, bool | int | float | str) and not name.startswith("_")
    }


def _code(code: Any) -> str:
    """A class or function by name, and by its source where that is the user's."""
    name = str(getattr(code, "__qualname__", type(code).__qualname__))
    if str(getattr(code, "__module__", "")).startswith("dspy."):
        return name
    if not isinstance(code, type) and source_file(code) is None:  # a tool that is not written in Python
        return name
    return f"{name} {source_hash(code)}"
