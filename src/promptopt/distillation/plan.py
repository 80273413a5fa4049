"""What a distillation would run and spend at most, and which margin its test can carry. Nothing is spent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Literal

from promptopt.core.budget import Spend
from promptopt.core.candidate import Candidate
from promptopt.core.example import Example
from promptopt.core.guard import MIN_GROUPS
from promptopt.core.sealed import opened_before
from promptopt.distill_job import Distilling, Student
from promptopt.errors import ConfigError
from promptopt.job import Job
from promptopt.planning import dearest, dearest_rollout, reflection_spend, spend_on, uncounted
from promptopt.stats.noninferiority import (
    rows_for_margin,
    rows_for_margin_graded,
    rows_to_pass,
    smallest_margin,
    smallest_margin_graded,
)
from promptopt.stats.power import SPREAD, discordance_at
from promptopt.store.run_dir import begun

Price = Callable[[Candidate], Spend]
"""What a candidate costs on some rows."""
UNCAPPED = 8
"""Rollouts for each val row and student that the searches take where the budget caps none."""
USUAL_SCORE = 0.8
"""What a teacher is taken to score before it has run, and an equal student with it, their errors correlated at 0.5."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a distillation, at the most, each call tried once."""

    name: str
    spend: Spend


@dataclass(frozen=True, slots=True)
class Power:
    """What the test can show."""

    margin: float
    n: int
    """Units of the test."""
    unit: Literal["rows", "groups"]
    needed: int
    """Units on which an equal student passes 4 times in 5, corrected for all students."""
    fewest: int
    """Units without which nobody passes."""
    carried: float | None
    """The smallest margin within which an equal student passes 4 times in 5 on what there is."""
    opening: int
    """Which opening of the rows the test is."""

    @property
    def enough(self) -> bool:
        return self.n >= self.needed

    @property
    def sentence(self) -> str:
        given = f"{self.n:,} test {self.unit}{opened_before(self.opening)} for a margin of {self.margin:g}"
        if self.enough:
            return f"{given}: an equal student passes at least 4 times in 5 ({self.needed:,} would do)."
        carried = f"; the margin that they carry is about {self.carried:.2g}" if self.carried else ""
        return (
            f"{given} are few: an equal student passes 4 times in 5 on about {self.needed:,}{carried}. "
            "Add test rows, or expect INCONCLUSIVE."
        )


@dataclass(frozen=True, slots=True)
class DistillPlan:
    """The worst case of each part of a distillation, and what its test can show."""

    rows: dict[str, int]
    """Rows of train, val and test."""
    duplicates: int
    parts: tuple[Part, ...]
    whole: Spend
    """The run at most: its caps where it has them, otherwise the parts together."""
    power: Power
    warnings: tuple[str, ...]


def plan(work: Distilling) -> DistillPlan:
    """The plan of a distillation.

    Raises ConfigError where the budget does not cover the parts beside the searches and a step of one, or where the
    test is too small for anybody to pass.
    """
    job, found = work.job, power(work)
    _require_power(work, found)
    fixed = _fixed(work)
    search = _search(work)
    parts = (*fixed, search)
    _require_cover(work, fixed)
    return DistillPlan(
        rows={name: len(rows) for name, rows in job.split.parts.items()},
        duplicates=job.split.duplicates,
        parts=parts,
        whole=_whole(work, parts),
        power=found,
        warnings=(*job.split.warnings, *uncounted(job, *(one.lm for one in work.students))),
    )


def power(work: Distilling, square: float | None = None) -> Power:
    """What the test can show; `square` is the mean square of two models' differences on val, once that is known."""
    job, margin = work.job, work.config.margin
    rows, level = job.split.test, work.level / (len(work.students) + (work.config.cascade is not None))
    groups = len({row.group or f"row {row.id}" for row in rows})
    grouped = groups < len(rows)
    n = groups if grouped else len(rows)
    if job.metric.binary and not grouped:
        share = discordance_at(USUAL_SCORE) if square is None else square
        needed = rows_for_margin(margin, share, level=level)
        carried = smallest_margin(n, share, level=level)
    else:
        spread = SPREAD if square is None else math.sqrt(square)
        needed = rows_for_margin_graded(margin, spread, level=level)
        carried = smallest_margin_graded(n, spread, level=level)
    fewest = max(rows_to_pass(margin, level=level), MIN_GROUPS if grouped else 0)
    assert needed is not None  # an equal student can always be shown
    return Power(margin, n, "groups" if grouped else "rows", max(needed, fewest), fewest, carried, work.opening)


def search_rollouts(work: Distilling) -> int:
    """Rollouts for all searches together: the cap less what else runs. Raises ConfigError where too few are left."""
    job, cap = work.job, work.job.budget.rollouts
    if cap is None:
        return UNCAPPED * len(job.split.val) * len(work.students)
    fixed = sum(part.spend.rollouts for part in _fixed(work))
    if cap - fixed < len(job.split.val):
        raise ConfigError(
            f"budget.rollouts is {cap:,}, but {fixed:,} go to the teacher, the students as they are and the test, "
            f"and a search needs {len(job.split.val):,} more at the least",
            key="budget.rollouts",
        )
    return cap - fixed


def sealed_spend(
    work: Distilling,
    students: Sequence[Student],
    *,
    teacher: bool,
    arm: Price | None = None,
    again: Price | None = None,
) -> Spend:
    """These students before and after on the sealed rows, the cascade, and the teacher.

    `arm` says what a candidate costs on these rows, and `again` what it does where a cascade asks it once more; at the
    worst where they are left out, as for a cascade's judge, which has not been asked before the searches.
    """
    rows = work.job.split.test
    arms = [work.job.baseline] * teacher + [one.start for one in students for _ in range(2)]
    once = arm or partial(spend_on, work.job, rows=rows)
    return sum(map(once, arms), Spend()) + _cascade(work, again or partial(spend_on, _asking_again(work), rows=rows))


def _asking_again(work: Distilling) -> Job:
    """The job as a cascade runs it for how sure a student is."""
    return work.job if work.confidence is None else replace(work.job, metric=work.confidence)


def asked_again(work: Distilling) -> int:
    """How often a cascade asks on a row beside the student's own answer; a judge is asked once."""
    return 0 if work.config.cascade is None else max(1, work.config.cascade.calls - 1)


def _cascade(work: Distilling, again: Price) -> Spend:
    """What the cascade asks beside the student's own answers; nothing where the config names none."""
    return dearest(again(one.start) for one in work.students).times(asked_again(work))


def _fixed(work: Distilling) -> tuple[Part, ...]:
    """Everything beside the searches."""
    job, split, config = work.job, work.job.split, work.config
    lacking = [row for rows in split.parts.values() for row in rows if config.taught(row)]
    labelled = [row for row in split.train if not config.taught(row)]
    heard = [*lacking, *labelled, *(row for row in split.val for _ in range(config.repeats))]
    starts = [one.start for one in work.students]
    on_val = partial(spend_on, _asking_again(work), rows=split.val)
    return (
        Part("the teacher, to learn from", spend_on(job, job.baseline, heard)),
        Part("a stripped prompt on val", spend_on(job, work.weak, split.val)),
        Part("the students as they are on val", _sum(work, starts, split.val)),
        *([Part("a cascade on val", _cascade(work, on_val))] if config.cascade else []),
        Part("the sealed test, set aside", sealed_spend(work, work.students, teacher=True)),
    )


def _search(work: Distilling) -> Part:
    job, rollouts = work.job, search_rollouts(work)
    step = rollouts // max(1, min(job.strategy.block, len(job.split.val)))
    side_by_side = max((prior.calls for prior in job.priors if prior.asks), default=0)
    spend = _rollout(work).times(rollouts) + reflection_spend(job).times(step * side_by_side)
    return Part("the students' searches", spend)


def _rollout(work: Distilling) -> Spend:
    return dearest_rollout(work.job, [one.start for one in work.students])


def _sum(work: Distilling, candidates: Sequence[Candidate], rows: Sequence[Example]) -> Spend:
    return sum((spend_on(work.job, candidate, rows) for candidate in candidates), Spend())


def _whole(work: Distilling, parts: Sequence[Part]) -> Spend:
    caps, free = work.job.budget, sum((part.spend for part in parts), Spend())
    capped = caps.tokens is not None and caps.tokens < free.tokens
    return Spend(
        rollouts=min(caps.rollouts or free.rollouts, free.rollouts),
        calls=min(caps.calls or free.calls, free.calls),
        tokens_in=caps.tokens if capped and caps.tokens else free.tokens_in,
        tokens_out=0 if capped else free.tokens_out,
        usd=min(Decimal(caps.usd or free.usd), free.usd),
    )


def _require_power(work: Distilling, found: Power) -> None:
    """Refuse a test that nobody can pass, unless the run has begun: others may have opened its rows meanwhile."""
    if found.n >= found.fewest or begun(work.job.directory):
        return
    several = f" and {len(work.students)} students" if len(work.students) > 1 else ""
    carried = f", or a margin of about {found.carried:.2g}" if found.carried else ""
    raise ConfigError(
        f"test has {found.n:,} {found.unit}{opened_before(found.opening)}; at a margin of {found.margin:g}{several} "
        f"not even an identical student passes on fewer than {found.fewest:,}; give about {found.needed:,}{carried}. "
        "Nothing was spent.",
        key="data.split.test",
    )


def _require_cover(work: Distilling, fixed: Sequence[Part]) -> None:
    job = work.job
    step = _rollout(work).times(len(job.split.val)) + reflection_spend(job)
    parts = [*fixed, Part("one step of a search", step)]
    for cap in ("calls", "tokens", "usd"):
        limit = getattr(job.budget, cap)
        need = sum(getattr(part.spend, cap) for part in parts)
        if limit is not None and need > limit:
            told = ", ".join(f"{getattr(part.spend, cap):,} for {part.name}" for part in parts)
            raise ConfigError(
                f"budget.{cap} is {limit:,}, but {need:,} are needed at the worst: {told}. Raise budget.{cap}, or use "
                "fewer rows or students.",
                key=f"budget.{cap}",
            )
