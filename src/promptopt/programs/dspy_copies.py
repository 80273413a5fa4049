"""Copies of a DSPy module, with other LMs in the place of its own; they share only what cannot be copied."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import dspy


def lms_held(module: dspy.Module, others: Iterable[object]) -> dict[int, dspy.BaseLM]:
    """The LMs that a module holds anywhere, its predictors' own among them, and those that `others` hold; by id."""
    held = [lm for _, lm in module.named_sub_modules(type_=dspy.BaseLM)]
    held += [value for other in others for value in vars(other).values() if isinstance(value, dspy.BaseLM)]
    return {id(lm): lm for lm in held}


def uncopyable(*holders: object) -> dict[int, Any]:
    """What modules and other objects hold that cannot be copied, such as a lock or a connection, by id.

    Copies share it, as DSPy's own copies do.
    """
    shared: dict[int, Any] = {}
    for holder in holders:
        try:
            copy.deepcopy(holder, dict(shared))
        except Exception:
            parts = [part for _, part in _modules(holder)] if isinstance(holder, dspy.Module) else [holder]
            for part in reversed(parts):  # a part before whatever holds it
                for value in vars(part).values():
                    try:
                        copy.deepcopy(value, dict(shared))
                    except Exception:
                        shared[id(value)] = value
    return shared


def copied(module: dspy.Module, instead: Mapping[int, Any]) -> dspy.Module:
    """A copy of a module with other objects in the place of some, by id."""
    fresh, old = copy.deepcopy(module, dict(instead)), dict(_modules(module))
    for name, part in _modules(fresh):
        if name in old:
            part.callbacks = list(old[name].callbacks)  # which DSPy leaves out of every copy
    return fresh


def _modules(module: dspy.Module) -> Iterable[tuple[str, dspy.Module]]:
    return module.named_sub_modules(type_=dspy.Module)
