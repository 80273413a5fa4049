"""What of a config decides a run's result, and how two of them differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from promptopt.config.document import KeyPath, dotted
from promptopt.config.settings import Config

_DECIDING = {"program", "data", "metric", "reflection", "strategy", "budget"}
_ABSENT = object()


def fingerprint(config: Config) -> dict[str, Any]:
    """The part of `config` that decides the result, as plain JSON values with every default spelled out.

    Left out: name, run directory, concurrency, timeouts, what a judge's calibration says, and of each model its
    endpoint, key, price and limits. They may change between the sessions of one run.
    """
    parts = config.model_dump(mode="json", include=_DECIDING)
    parts["metric"] = _uncalibrated(parts["metric"])
    shaping = {name: model.model_dump(mode="json", include={"max_tokens", "json_schema"}, exclude_defaults=True)
               for name, model in config.lms.items()}  # fmt: skip
    return {**parts, "run": {"seed": config.run.seed}, "lms": {name: said for name, said in shaping.items() if said}}


def _uncalibrated(metric: dict[str, Any]) -> dict[str, Any]:
    """A metric's settings without a judge's calibration, which decides no score; of a weighted one, its parts'."""
    return {
        name: _uncalibrated(cast("dict[str, Any]", value)) if isinstance(value, dict) else value
        for name, value in metric.items()
        if name != "calibration"
    }


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line for each setting that differs, such as `budget.rollouts: 800 -> 60`; empty when none does."""
    return list(_differences(old, new, ()))


def _differences(was: object, now: object, path: KeyPath) -> Iterator[str]:
    before, after = _parts(was, now), _parts(now, was)
    if before is not None and after is not None:
        for key in dict.fromkeys([*before, *after]):
            yield from _differences(before.get(key, _ABSENT), after.get(key, _ABSENT), (*path, key))
    elif was != now:
        start = _agreement(was, now)
        yield f"{dotted(path)}: {_brief(was, start)} -> {_brief(now, start)}"


def _parts(value: object, other: object) -> Mapping[str | int, object] | None:
    """What of `value` can be compared one by one with `other`; None where only the whole can."""
    if isinstance(value, Mapping):
        return cast("Mapping[str | int, object]", value)
    if isinstance(value, list) and isinstance(other, list):
        items, others = cast("list[object]", value), cast("list[object]", other)
        return dict(enumerate(items)) if len(items) == len(others) else None
    return {} if value is _ABSENT and isinstance(other, Mapping) else None


def _agreement(was: object, now: object) -> int:
    """Where two long texts begin to differ, with a little before it; 0 for anything else."""
    if not isinstance(was, str) or not isinstance(now, str):
        return 0
    same = next((i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), min(len(was), len(now)))
    return max(0, same - 20)


def _brief(value: object, start: int) -> str:
    if value is _ABSENT:
        return "(none)"
    if value is None:
        return "null"
    if not isinstance(value, str):
        text = repr(value)
        return text if len(text) <= 80 else f"{text[:77]}..."
    shown = value[start : start + 60]
    return repr(f"{'...' if start else ''}{shown}{'...' if start + 60 < len(value) else ''}")
