"""How far a run's judges can be trusted: whether people have checked each, as it is now, and how well it agreed.

`promptopt judge calibrate` writes a certificate that is bound to all that decides the judge's answers. A judge whose
certificate is of another prompt, model or scale counts as unchecked: nobody knows how far its answers have moved.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from promptopt.core.guard import Trust
from promptopt.errors import ConfigError
from promptopt.judges.asking import Asking
from promptopt.metrics.build import judges_in
from promptopt.metrics.metric import Metric
from promptopt.metrics.weighted import leaves

CALIBRATION = "calibration.json"
HOW = "promptopt judge calibrate"
GOOD = 0.4
"""Kappa below which agreement is at best fair (Landis and Koch, 1977): such a judge is called weak."""


def trust_in(metric: Metric, base: Path) -> Iterator[Trust]:
    """What is known of every judge that scores under `metric`. Raises ConfigError for a calibration that is none."""
    for judge in judges_in(metric):
        yield _trust(judge, base)
    for leaf in leaves(metric):  # judges of other packages say it themselves
        yield from (Trust("never", caveat) for caveat in getattr(leaf, "caveats", ()))


def _trust(judge: Asking, base: Path) -> Trust:
    if judge.calibration is None:
        return Trust(
            "never",
            f"Nobody has checked the judge ({judge.lm}) against people: a gain may be one in pleasing it. "
            f"`{HOW}` measures how far they agree.",
        )
    path = base / judge.calibration
    path = path / CALIBRATION if path.is_dir() else path
    said = _read(path)
    certificate, kappa = said["certificate"], said["kappa"]["value"]
    if certificate["hash"] != judge.identity:
        return Trust(
            "stale",
            f"The judge ({judge.lm}) is not the one that {path} is about: its prompt, model, parameters or scale have "
            f"changed since {certificate['created'][:10]}, and how far it agrees with people is unknown. "
            f"Run `{HOW}` again.",
        )
    accuracy, rows = said["accuracy"], said["n"]
    low, high = (100 * end for end in accuracy["ci"])
    chance = "" if kappa is None else f", kappa {kappa:.2f}"
    weak = " That is weak: read some of its verdicts yourself." if kappa is not None and kappa < GOOD else ""
    return Trust(
        "calibrated",
        f"The judge ({judge.lm}) agrees with people on {100 * accuracy['value']:.0f} % of {rows:,} rows "
        f"(95 % interval {low:.0f} to {high:.0f} %{chance}).{weak}",
    )


def _read(path: Path) -> dict[str, Any]:
    """A calibration as `judge calibrate` wrote it."""
    try:
        said: Any = json.loads(path.read_text(encoding="utf-8"))
        _ = said["certificate"]["hash"], said["certificate"]["created"][:10], said["n"], said["kappa"]["value"]
        _ = [float(end) for end in said["accuracy"]["ci"]], float(said["accuracy"]["value"])
    except OSError as error:
        raise ConfigError(
            f"metric.calibration: {path} cannot be read ({error.strerror}). `{HOW}` writes one.",
            key="metric.calibration",
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"metric.calibration: {path} is no calibration that `{HOW}` wrote", key="metric.calibration"
        ) from error
    return said
