"""The texts and demos of a DSPy module: which there are, and putting a candidate's in their place.

A component is called after its predictor: `extract.predict` is its instructions, `extract.predict.fields.answer` the
description of a field, `react.tools.search` that of a tool. All of one predictor share its slot.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import dspy

from promptopt.core.candidate import Candidate, Component, Demo
from promptopt.core.example import Example
from promptopt.errors import ConfigError, did_you_mean
from promptopt.programs.dspy_trace import jsonable

KINDS = ("instructions", "demos", "fields", "tools")
"""What of a module may be changed."""


@dataclass(frozen=True, slots=True)
class ToolText:
    """A tool, and the predictor that decides about calling it."""

    slot: str
    tool: dspy.Tool

    @property
    def name(self) -> str:
        return f"{self.slot}.tools.{self.tool.name}"

    @property
    def placeholder(self) -> str:
        """What stands for the tool in its predictor's instructions, where they describe it."""
        return "tool_" + re.sub(r"\W", "_", str(self.tool.name))


def components(module: dspy.Module, optimize: Collection[str]) -> Iterator[Component]:
    """All instructions of a module, and the descriptions that `optimize` asks for."""
    tools = tool_texts(module) if "tools" in optimize else []
    for slot, predictor in module.named_predictors():
        signature = predictor.signature
        inputs, outputs = ", ".join(signature.input_fields), ", ".join(signature.output_fields)
        text, placeholders = _with_placeholders(signature.instructions, [tool for tool in tools if tool.slot == slot])
        role = f"instructions of the step {slot!r} of a program, which makes {outputs} from {inputs}"
        yield Component(slot, text, role, placeholders, "instructions" in optimize, slot)
        for field, about in signature.fields.items() if "fields" in optimize else ():
            role = f"description of the field {field!r} that the step {slot!r} reads or writes; a few words"
            yield Component(f"{slot}.fields.{field}", _description(about), role, slot=slot)
    for text in tools:
        role = f"description of the tool {text.tool.name!r}: what it does, when to call it and with what"
        yield Component(text.name, text.tool.desc or "", role, slot=text.slot)


def put(module: dspy.Module, candidate: Candidate) -> None:
    """Give a module a candidate's texts and demos, in place. A slot without demos keeps the module's own.

    Raises ConfigError for a text or a demo that the module has no place for.
    """
    predictors = dict(module.named_predictors())
    tools = {text.name: text for text in tool_texts(module)}
    _check_names(candidate, predictors, tools)
    for name, text in tools.items():
        text.tool.desc = candidate.components.get(name, text.tool.desc)
    for slot, predictor in predictors.items():
        for field in list(predictor.signature.fields):
            text = candidate.components.get(f"{slot}.fields.{field}")
            if text is not None and text != _description(predictor.signature.fields[field]):
                predictor.signature = predictor.signature.with_updated_fields(field, desc=text)
        text = candidate.components.get(slot, predictor.signature.instructions)
        for tool in tools.values():
            if tool.slot == slot:
                text = text.replace(f"{{{tool.placeholder}}}", str(tool.tool))
        if text != predictor.signature.instructions:
            predictor.signature = predictor.signature.with_instructions(text)
        if demos := candidate.demos.get(slot):
            predictor.demos = [_as_dspy_has_it(slot, predictor, demo) for demo in demos]


def labelled(predictor: dspy.Predict, example: Example) -> Demo | None:
    """The demo that a row makes for a predictor: the fields that the row has; None without an input or an output."""
    expected = example.expected
    columns = cast("dict[str, Any]", expected) if isinstance(expected, dict) else {}
    row = {**example.meta, **columns, **example.inputs}
    signature = predictor.signature
    inputs = {name: jsonable(row[name]) for name in signature.input_fields if row.get(name) is not None}
    outputs = {name: jsonable(row[name]) for name in signature.output_fields if row.get(name) is not None}
    return Demo(example.id, inputs, json.dumps(outputs, ensure_ascii=False)) if inputs and outputs else None


def narrowed(predictors: Iterable[dspy.Predict], example: Example) -> Example:
    """A row of DSPy's with the labels that predictors make as its expected answer: others, such as ids, are beside it.

    A row whose expected answer was chosen among its columns, or that has none of these labels, stays as it is.
    """
    made = {name for predictor in predictors for name in predictor.signature.output_fields}
    answers = {name: value for name, value in example.meta.items() if name in made}
    if not answers or example.expected != example.meta:
        return example
    return replace(example, expected=next(iter(answers.values())) if len(answers) == 1 else answers)


def tool_texts(module: dspy.Module) -> list[ToolText]:
    """The user's tools in a module, each with the predictor whose instructions list it, else the nearest one."""
    found: list[ToolText] = []
    predictors = module.named_predictors()
    for path, tool in module.named_sub_modules(type_=dspy.Tool):
        if str(getattr(tool.func, "__module__", "")).startswith("dspy.predict."):
            continue  # `finish` and its like belong to the module, not to the user
        telling = [slot for slot, predictor in predictors if str(tool) in predictor.signature.instructions]
        owner = path.removeprefix("self.").rpartition(".")[0]
        near = [slot for slot, _ in predictors if owner and slot.startswith(f"{owner}.")]
        slot = next(iter([*telling, *near, *(slot for slot, _ in predictors)]))
        found.append(ToolText(slot, tool))
    return found


def _with_placeholders(instructions: str, tools: list[ToolText]) -> tuple[str, tuple[str, ...]]:
    """Instructions with a placeholder for each tool that they describe."""
    kept: list[str] = []
    for text in tools:
        if str(text.tool) in instructions:
            instructions = instructions.replace(str(text.tool), f"{{{text.placeholder}}}")
            kept.append(text.placeholder)
    return instructions, tuple(kept)


def _description(field: Any) -> str:
    about: dict[str, Any] = field.json_schema_extra or {}
    return str(about.get("desc", ""))


def _check_names(candidate: Candidate, predictors: Mapping[str, dspy.Predict], tools: Mapping[str, ToolText]) -> None:
    if candidate.nearest:
        raise ConfigError("the candidate shows each input the demos nearest to it, which a DSPy module cannot do")
    fields = {
        f"{slot}.fields.{field}" for slot, predictor in predictors.items() for field in predictor.signature.fields
    }
    for what, given, known in (
        ("text", candidate.components, {*predictors, *fields, *tools}),
        ("demos", candidate.demos, set(predictors)),
    ):
        for name in given:
            if name not in known:
                hint = did_you_mean(name, known, f"Its predictors are {', '.join(predictors)}.")
                raise ConfigError(f"the candidate has {what} for {name!r}, which the module does not have. {hint}")


def _as_dspy_has_it(slot: str, predictor: dspy.Predict, demo: Demo) -> dspy.Example:
    """A demo as DSPy has it, `augmented` where a rollout has filled all its fields."""
    try:
        outputs: Any = json.loads(demo.output)
    except ValueError:
        outputs = None
    if not isinstance(outputs, dict):
        raise ConfigError(f"demo {demo.example_id} of {slot} has no JSON object of output fields: {demo.output[:80]!r}")
    signature, values = predictor.signature, cast("dict[str, Any]", outputs)
    gone = [*demo.inputs.keys() - signature.input_fields.keys(), *values.keys() - signature.output_fields.keys()]
    if gone or not values or not demo.inputs:
        wrong = f"has the fields {', '.join(gone)}" if gone else "lacks inputs or outputs"
        raise ConfigError(
            f"demo {demo.example_id} of {slot} {wrong}, but the predictor is {signature.signature}. The signature has "
            "changed since the demo was made: take the demo out, or make it again."
        )
    whole = {*demo.inputs, *values} == set(signature.fields)
    return dspy.Example(**({"augmented": True} if whole else {}), **demo.inputs, **values).with_inputs(*demo.inputs)
