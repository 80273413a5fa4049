"""What tells one DSPy program from another: its code, signatures, demos, values, models and adapter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import dspy

from promptopt.lm.spec import LM
from promptopt.programs.dspy_content import Contents, code_of, signature_content
from promptopt.programs.dspy_trace import jsonable


def identity(module: dspy.Module, adapter: dspy.Adapter | None, lms: Sequence[LM]) -> str:
    """All about a module that decides an output, besides what a candidate may change, as text. No key is in it."""
    modules = dict(module.named_sub_modules(type_=dspy.Module))
    tools = [tool for _, tool in module.named_sub_modules(type_=dspy.Tool)]
    contents = Contents([*modules.values(), *tools])
    adapted = [code_of(type(adapter)), contents.attributes(adapter, vars(adapter))] if adapter is not None else None
    content = {
        "dspy": dspy.__version__,
        "code": sorted({code_of(type(part)) for part in modules.values()}),
        "predictors": {path: _predictor(part) for path, part in modules.items() if isinstance(part, dspy.Predict)},
        "tools": [[str(tool), contents.of(tool.func)] for tool in tools],
        "values": {path: contents.attributes(part, _values(part)) for path, part in modules.items()},
        "lms": sorted({json.dumps([lm.name, lm.args], sort_keys=True, default=str) for lm in lms}),
        "adapter": adapted,
    }
    return json.dumps(["dspy", content], sort_keys=True, default=str)


def _values(part: dspy.Module) -> dict[str, Any]:
    """What a module holds, but for what is told of a predictor already."""
    told = {"signature", "demos", "config", "lm"} if isinstance(part, dspy.Predict) else set[str]()
    return {name: value for name, value in vars(part).items() if name not in told}


def _predictor(predictor: dspy.Predict) -> list[Any]:
    return [signature_content(predictor.signature), jsonable(predictor.demos), jsonable(predictor.config)]
