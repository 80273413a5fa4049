"""A distillation's result.json, as reports read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from promptopt.report.distilled import Distilled

BASELINE = {"components": {"system": "Name the team.", "user": "{text}"}, "demos": {}, "settings": {}}


def student(name: str, **more: Any) -> dict[str, Any]:
    """One that holds, unless `more` says otherwise."""
    return {
        "name": name, "lm": name, "before": 0.6, "after": 0.93, "diff": -0.01, "ci": [-0.04, 0.02], "margin": 0.05,
        "p": 0.01, "n": 400, "missing": 0, "method": "score", "verdict": "NON-INFERIOR", "reason": "Quality held.",
        "rows_needed": None, "usd_per_1000": 0.02, "usd_per_month": 40.0, "tokens_in": 120.0, "tokens_out": 4.0,
        "latency_p50": 210.0, "latency_p95": 480.0, "cost_factor": 50.0, "note": "", "slices": [], "regressions": [],
        "worse_on": 0, "certificate": None, "candidate": {"id": "c1", **BASELINE, "settings": {"lm": name}}, **more,
    }  # fmt: skip


def body(*students: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Of a teacher at a dollar per 1,000; the first student is recommended where it holds."""
    first = students[0]
    chosen = {key: first[key] for key in ("lm", "candidate")} | {"sentence": f"Switch to {first['name']}. It held."}
    spent = {"rollouts": 900, "calls": 950, "cached": 3, "tokens_in": 9000, "tokens_out": 800, "usd": 1.5}
    teacher = {"lm": "openai/big", "test": 0.94, "self_agreement": 0.97, "usd_per_1000": 1.0, "tokens_in": 100.0,
               "tokens_out": 4.0, "latency_p50": 700.0, "latency_p95": 1500.0}  # fmt: skip
    return {
        "teacher": teacher,
        "assay": {"teacher": 0.95, "weak": 0.4, "p": 1e-6, "holds": True},
        "students": list(students),
        "recommendation": chosen if first["verdict"] == "NON-INFERIOR" else None,
        "remarks": [],
        "spent": {**spent, "seconds": 63.0},
        **more,
    }


def distilled(*students: dict[str, Any], name: str = "agent", **more: Any) -> Distilled:
    return Distilled.of(body(*students, **more), {"name": name, "baseline": BASELINE}, Path("runs/agent"))
