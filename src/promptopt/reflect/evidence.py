"""The parent's rollouts on train rows, sorted by what they can teach."""

from __future__ import annotations

from collections.abc import Sequence

from promptopt.core.candidate import Component
from promptopt.core.edit import Evidence
from promptopt.core.example import text_of

RIGHT = 1.0
"""The score of a reply that leaves nothing to mend."""


def right(evidence: Sequence[Evidence]) -> list[Evidence]:
    """The rows with a perfect score."""
    return [row for row in evidence if row.rollout.value is not None and row.rollout.value >= RIGHT]


def wrong(evidence: Sequence[Evidence]) -> list[Evidence]:
    """The rows with a lower score, worst first, and then those that have none because the program failed."""
    scored = [row for row in evidence if row.rollout.value is not None and row.rollout.value < RIGHT]
    return sorted(scored, key=_value) + [row for row in evidence if row.rollout.value is None]


def best(evidence: Sequence[Evidence], most: int) -> list[Evidence]:
    """The right rows; where there is none, at most `most` of those that score above the average."""
    if found := right(evidence):
        return found
    scored = [row for row in evidence if row.rollout.value is not None]
    above = [row for row in scored if _value(row) * len(scored) > sum(map(_value, scored))]
    return sorted(above, key=_value, reverse=True)[:most]


def feedback(row: Evidence, component: Component) -> str:
    """What the metric said of a row, to all and to whoever mends `component`."""
    score = row.rollout.score
    if score is None:
        return ""
    own = (score.feedback_for.get(name, "") for name in dict.fromkeys((component.name, component.slot)))
    return "\n".join(said for said in (score.feedback, *own) if said)


def plain(answer: object) -> str:
    """An answer as it is compared with another one: without case and outer space."""
    return text_of(answer).strip().casefold()


def _value(row: Evidence) -> float:
    return row.rollout.value or 0.0
