"""How far a run's judges can be trusted: whether people have checked each, as it is now, and how well it agreed.

`promptopt judge calibrate` writes a certificate that is bound to all that decides the judge's answers. A judge whose
certificate is of another prompt, model or scale counts as unchecked: nobody knows how far its answers have moved.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptopt.core.guard import Trust
from promptopt.errors import ConfigError
from promptopt.judges.asking import Asking
from promptopt.metrics.build import judges_in
from promptopt.metrics.metric import Metric
from promptopt.metrics.weighted import leaves
from promptopt.stats.estimate import UNDEFINED, Estimate

CALIBRATION = "calibration.json"
HOW = "promptopt judge calibrate"
GOOD = 0.4
"""Kappa, weighted where answers have an order, below which agreement is at best fair (Landis and Koch, 1977): such a
judge is called weak."""


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
    if said.hash != judge.identity:
        return Trust(
            "stale",
            f"The judge ({judge.lm}) is not the one that {path} is about: its prompt, model, parameters or scale have "
            f"changed since {said.created[:10]}, and how far it agrees with people is unknown. "
            f"Run `{HOW}` again.",
        )
    if not said.agreements:
        return Trust("never", f"The judge ({judge.lm}) gave no answer on the rows of {path}. Run `{HOW}` again.")
    told = "; ".join(one.told for one in said.agreements)
    weak = [one for one in said.agreements if one.kappa is not None and one.kappa < GOOD]
    about = " and ".join(one.criterion for one in weak)
    advice = f" That is weak{about and f' as to {about}'}: read some of its verdicts yourself." if weak else ""
    if any(one.kappa is None for one in said.agreements):
        advice += " Where all answers were the same, nobody knows whether it could tell others apart."
    return Trust("calibrated", f"The judge ({judge.lm}) agrees with people on {told}.{advice}")


@dataclass(frozen=True, slots=True)
class _Agreement:
    """What a calibration says of one question."""

    criterion: str
    """Empty for a judge without criteria."""
    rows: int
    accuracy: Estimate
    """Undefined for a number, which is near people's or not, and hardly ever equal."""
    decisive: Estimate
    """The weighted kappa where answers have an order, else kappa."""
    weighted: bool

    @staticmethod
    def of(criterion: str, said: Any) -> _Agreement | None:
        """None where the judge or people left every row open. Raises for what is no measurement."""
        accuracy, kappa, weighted = (_estimate(said[figure]) for figure in ("accuracy", "kappa", "weighted_kappa"))
        ordered = weighted != UNDEFINED
        known = _Agreement(criterion, int(said["n"]), accuracy, weighted if ordered else kappa, ordered)
        return known if known.rows else None

    @property
    def kappa(self) -> float | None:
        return self.decisive.value

    @property
    def told(self) -> str:
        rows = f"{self.rows:,} rows" + (f" as to {self.criterion}" if self.criterion else "")
        name = "weighted kappa" if self.weighted else "kappa"
        if self.accuracy.ci and self.accuracy.value is not None:
            low, high = (100 * end for end in self.accuracy.ci)
            chance = "" if self.kappa is None else f", {name} {self.kappa:.2f}"
            return f"{100 * self.accuracy.value:.0f} % of {rows} (95 % interval {low:.0f} to {high:.0f} %{chance})"
        if self.decisive.ci:
            low, high = self.decisive.ci
            return f"{rows}, with a {name} of {self.kappa:.2f} (95 % interval {low:.2f} to {high:.2f})"
        return rows


def _estimate(said: Any) -> Estimate:
    """A figure of a calibration. Raises for what is none."""
    if said["value"] is None:
        return UNDEFINED
    value, low, high = map(float, (said["value"], *said["ci"]))
    if not all(abs(share) <= 1 for share in (value, low, high)):
        raise ValueError("a share or a coefficient is at most 1")
    return Estimate(value, (low, high))


@dataclass(frozen=True, slots=True)
class _Known:
    """A calibration, as far as it matters here."""

    hash: str
    created: str
    agreements: tuple[_Agreement, ...]


def _read(path: Path) -> _Known:
    """A calibration as `judge calibrate` wrote it."""
    try:
        said: Any = json.loads(path.read_text(encoding="utf-8"))
        certificate = said["certificate"]
        measured = said.get("criteria", {"": said})
        agreements = tuple(filter(None, (_Agreement.of(name, one) for name, one in measured.items())))
        return _Known(str(certificate["hash"]), str(certificate["created"]), agreements)
    except OSError as error:
        raise ConfigError(
            f"metric.calibration: {path} cannot be read ({error.strerror}). `{HOW}` writes one.",
            key="metric.calibration",
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"metric.calibration: {path} is no calibration that `{HOW}` wrote", key="metric.calibration"
        ) from error
