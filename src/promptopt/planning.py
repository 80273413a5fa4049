"""What a job would cost at most, part by part, and the smallest gain that its test can show. Nothing is spent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from heapq import nlargest
from itertools import count, product

from promptopt.core.budget import Spend
from promptopt.core.candidate import Candidate
from promptopt.core.example import Example
from promptopt.core.guard import smallest_gain
from promptopt.core.sealed import opened_before
from promptopt.core.split import inputs_digest
from promptopt.errors import ConfigError, DataError
from promptopt.job import Job
from promptopt.judges.asking import Asking
from promptopt.lm.message import Request
from promptopt.lm.pricing import price, worst_case
from promptopt.metrics.build import judges_in, unforeseen
from promptopt.store.run_dir import begun, next_opening

BYTES_OF_A_TOKEN = 4
"""How long a judge's view of one output token is taken to be."""
LONGEST = 20
"""Rows with the longest inputs, among which the dearest rollout is looked for."""
OUTPUT_LIMITS = ("max_tokens", "max_completion_tokens")
"""Arguments that cap what a call may write."""
REFLECTION_BYTES = 12_000
"""How long a reflection request is taken to be: the text, and a minibatch of replies."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The worst case of each part of a run, and what the test can show."""

    rows: dict[str, int]
    """Rows of train, val and test."""
    duplicates: int
    warnings: tuple[str, ...]
    baseline: Spend
    """The starting prompt on val."""
    step: Spend
    """One proposal: evidence, reflection, and all val rows once it wins."""
    test: Spend
    """The sealed test, set aside first: both arms on every test row."""
    whole: Spend
    """The run at most: its caps where it has them, otherwise what its rollouts can cost."""
    opening: int
    """Which opening of its rows the test is; each later one is tested more strictly."""
    detectable: float | None
    """Smallest gain that this opening of the test shows 4 times in 5; None where there is no test, or none is shown."""
    proposal: Proposal | None
    """A split of all the rows with more power, where the data has rows that the split leaves unused."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A split of all rows that gives the test most of them, and what that test can show."""

    train: int
    val: int
    test: int
    detectable: float | None


def plan(job: Job) -> Plan:
    """The plan of `job`. Raises ConfigError when the budget covers less than baseline, test and one step."""
    split = job.split
    baseline = spend_on(job, job.baseline, split.val)
    strategy = job.strategy_for_search()
    variants = _variants(job)
    rollout = dearest_rollout(job, variants)
    step = rollout.times(strategy.start_cost + len(split.val)) + reflection_spend(job)
    share = dearest(sealed_share(job, variant) for variant in variants)
    opening = next_opening(job.directory, inputs_digest(split.test))
    made = Plan(
        rows={name: len(part) for name, part in split.parts.items()},
        duplicates=split.duplicates,
        warnings=(*split.warnings, *uncounted(job)),
        baseline=baseline,
        step=step,
        test=share,
        whole=_whole(job, rollout, share),
        opening=opening,
        detectable=_detectable(job, opening),
        proposal=_proposal(job),
    )
    _require_power(job, made)
    _require_cover(job, made)
    return made


def _detectable(job: Job, opening: int) -> float | None:
    rows = job.split.test
    groups = len({example.group or example.id for example in rows})
    return smallest_gain(len(rows), binary=job.metric.binary, groups=groups, opening=opening) if rows else None


def sealed_share(job: Job, best: Candidate) -> Spend:
    """The sealed test at its worst: the baseline and `best` on every test row, each call tried once."""
    return spend_on(job, job.baseline, job.split.test) + spend_on(job, best, job.split.test)


def _previews(job: Job) -> bool:
    """Whether the program says in advance what it calls."""
    return job.program.preview(job.baseline, job.split.train[0]) is not None


def uncounted(job: Job, *others: str) -> Iterator[str]:
    """What the figures leave out, as sentences; `others` are models that a distillation calls besides."""
    if asked := ", ".join(dict.fromkeys(lm.name for lm in unforeseen(job.metric))):
        yield (
            f"the metric asks {asked} as often as its own code likes: those calls are not in the figures, though every "
            "cap counts them"
        )
    if job.program.lm and not _previews(job):
        yield "what the program calls is known when it runs: its tokens and dollars are not in the figures"
    called = {name: job.settings_of(name) for name in (*(lm.name for lm in job.lms.values()), *others)}
    if unknown := ", ".join(
        name for name, said in called.items() if said.usd_per_hour is None and price(name, said) is None
    ):
        yield f"nobody says what {unknown} costs, so no dollars are counted for it: give lms.NAME.price"


def dearest(spends: Iterable[Spend]) -> Spend:
    """The largest of each figure."""
    rows = list(spends)
    return Spend(
        rollouts=max((row.rollouts for row in rows), default=0),
        calls=max((row.calls for row in rows), default=0),
        tokens_in=max((row.tokens_in for row in rows), default=0),
        tokens_out=max((row.tokens_out for row in rows), default=0),
        usd=max((row.usd for row in rows), default=Spend().usd),
    )


def dearest_rollout(job: Job, candidates: Iterable[Candidate]) -> Spend:
    """The dearest that a search of these candidates' kind may run, at the worst."""
    rows = (*job.split.train, *job.split.val)
    longest = nlargest(LONGEST, rows, key=lambda row: sum(map(len, map(str, row.inputs.values()))))
    return dearest(_rollout(job, candidate, row) for candidate in candidates for row in longest)


def spend_on(job: Job, candidate: Candidate, rows: Iterable[Example]) -> Spend:
    """What a candidate's rollouts on `rows` cost at the worst, each call tried once."""
    return sum((_rollout(job, candidate, example) for example in rows), Spend())


def _variants(job: Job) -> list[Candidate]:
    """The baseline with every combination of the searched settings that decide what a call costs at the worst."""
    costly = {name: values for name, values in job.searched.items() if name in ("lm", *OUTPUT_LIMITS)}
    every = (zip(costly, values, strict=True) for values in product(*costly.values()))
    said = ({name: value for name, value in pairs if value is not None} for pairs in every)
    return [replace(job.baseline, settings=settings) for settings in said]


def _rollout(job: Job, candidate: Candidate, example: Example) -> Spend:
    """One rollout with its judgements, re-asks included.

    Of a program that cannot say what it calls, only `max_calls` is known.
    """
    lm = job.program.lm and job.program.lm.having(candidate.settings)
    messages = job.program.preview(candidate, example)
    cost = Spend(rollouts=1, calls=job.program.max_calls if lm else 0)
    answer = 0
    if lm and messages is not None:
        settings = job.settings_of(lm.name)
        called = worst_case(Request(lm.name, messages, lm.args), settings)
        answer = called.tokens_out * BYTES_OF_A_TOKEN
        cost = called + Spend(rollouts=1)
    for judge in judges_in(job.metric):
        for request in _judgement(judge, example, "x" * answer):
            cost += worst_case(request, job.settings_of(judge.lm))
    return cost


def _judgement(judge: Asking, example: Example, output: str) -> list[Request]:
    try:
        return judge.requests(example, output)
    except ValueError as error:
        raise DataError(f"{error}. Nothing was spent.") from error


def reflection_spend(job: Job) -> Spend:
    """One request to the reflection model at the worst."""
    if job.reflection is None:
        return Spend()
    request = Request(job.reflection.name, ({"role": "user", "content": "x" * REFLECTION_BYTES},), job.reflection.args)
    return worst_case(request, job.settings_of(job.reflection.name))


def _whole(job: Job, rollout: Spend, share: Spend) -> Spend:
    caps = job.budget
    searched = max(0, (caps.rollouts or 0) - share.rollouts)
    steps = searched // max(1, min(job.strategy.block, len(job.split.val)))
    side_by_side = max((prior.calls for prior in job.priors if prior.asks), default=0)
    free = rollout.times(searched) + reflection_spend(job).times(steps * side_by_side) + share
    return Spend(
        rollouts=caps.rollouts or 0,
        calls=caps.calls or free.calls,
        tokens_in=caps.tokens or free.tokens_in,
        tokens_out=0 if caps.tokens else free.tokens_out,
        usd=free.usd if caps.usd is None else Decimal(caps.usd),
    )


def _proposal(job: Job) -> Proposal | None:
    """Enough rows to learn from and to select on, and all the others for the test."""
    used = len(job.split.train) + len(job.split.val) + len(job.split.test)
    if not job.split.unused:
        return None
    rows = used + job.split.unused
    train, val = max(16, min(100, rows // 5)), max(24, min(200, 3 * rows // 10))
    test = rows - train - val
    return (
        Proposal(train, val, test, smallest_gain(test, binary=job.metric.binary))
        if test > len(job.split.test)
        else None
    )


def _require_power(job: Job, made: Plan) -> None:
    """Refuse parts that are too small to show anything, however large the gain.

    A run that has begun may end even so: others may have opened its test rows meanwhile.
    """
    fewest = next(n for n in count(1) if smallest_gain(n, binary=job.metric.binary) is not None)
    if made.rows["val"] < fewest:
        raise ConfigError(
            f"val has {made.rows['val']} rows, which cannot tell candidates apart; use {fewest} at the very least, "
            "better 40 and more.",
            key="data.split.val",
        )
    if made.rows["test"] and made.detectable is None and not begun(job.directory):
        raise ConfigError(
            f"test has {made.rows['test']} rows{opened_before(made.opening)}, too few (or in too few groups) to show "
            f"any gain; 60 rows show one of about {smallest_gain(60, binary=job.metric.binary):.2f}. Add test rows, or "
            "set test to 0 to go without.",
            key="data.split.test",
        )


def _require_cover(job: Job, made: Plan) -> None:
    need = made.baseline + made.step + made.test
    or_fewer_calls = ", or a lower program.max_calls" if job.program.max_calls > 1 else ""
    for cap in ("rollouts", "calls", "tokens", "usd"):
        limit = getattr(job.budget, cap)
        if limit is not None and getattr(need, cap) > limit:
            parts = {"the baseline on val": made.baseline, "one step": made.step, "the sealed test": made.test}
            told = ", ".join(f"{getattr(part, cap):,} for {name}" for name, part in parts.items())
            raise ConfigError(
                f"budget.{cap} is {limit:,}, but {getattr(need, cap):,} are needed at the worst: {told}. "
                f"Raise budget.{cap}, or use fewer val or test rows{or_fewer_calls}.",
                key=f"budget.{cap}",
            )
