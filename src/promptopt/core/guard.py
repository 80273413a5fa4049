"""The verdict on the sealed test: is the best candidate really better than the baseline on rows nobody looked at?

PROMOTE and REJECT need the p value *and* the interval: where only one of the two rules out chance the verdict is
INCONCLUSIVE. That can only make a false promotion rarer, and no report shows a promoted prompt whose interval
includes 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from promptopt.core.sealed import ALPHA, Pair, PeopleScores, TestResult, level_of, measure
from promptopt.stats.power import detectable_gain, detectable_gain_graded

Outcome = Literal["PROMOTE", "REJECT", "INCONCLUSIVE"]

MAX_MISSING = 0.1
"""Share of the rows without both scores above which nothing is claimed."""
MIN_GROUPS = 10
"""With fewer independent groups, an interval over groups cannot be trusted."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome and why; the first reason reads on after "PROMOTE: ", the others are sentences of their own."""

    outcome: Outcome
    reasons: tuple[str, ...]
    test: TestResult | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """How far a judge that scored can be trusted: whether people have checked it, as it is now."""

    state: Literal["calibrated", "stale", "never"]
    sentence: str


def judge_test(
    pairs: Sequence[Pair],
    *,
    binary: bool,
    opening: int = 1,
    seed: int = 0,
    people: PeopleScores | None = None,
) -> Verdict:
    """The verdict on the sealed test's rows, whose order does not matter.

    `binary` is what the metric declares; it is believed only while every compared score is 0 or 1. Rows that share a
    group are averaged first, a row without a group stands alone. More than `MAX_MISSING` of the rows without a score
    in one arm, fewer than 10 groups, or no row at all is INCONCLUSIVE. With `people`, the scores are a judge's, and
    what people said on a random part of the rows corrects the difference.

    Raises ValueError for a repeated example, a score outside [0, 1], or an opening below 1.
    """
    if not pairs:
        return no_test_rows()
    test = measure(pairs, binary=binary, opening=opening, seed=seed, people=people)
    if test is None:
        return Verdict(
            "INCONCLUSIVE",
            (
                f"none of the {len(pairs)} test rows has a score for both prompts, so they cannot be compared.",
                "Keep the current prompt, and see in the report why the rows failed.",
            ),
        )
    objection = _objection(test)
    outcome = "INCONCLUSIVE" if objection else _outcome(test)
    return Verdict(outcome, (_summary(test), *_caveats(test), objection or _conclusion(test, outcome)), test)


def no_test_rows() -> Verdict:
    """The verdict where no row was held out."""
    return Verdict(
        "INCONCLUSIVE",
        ("no held-out rows.", "Scores on val are optimistic: set test rows aside to learn whether the gain is real."),
    )


def nothing_better() -> Verdict:
    """The verdict where the baseline stayed best on val, so that there is nothing to test."""
    return Verdict("REJECT", ("no candidate beat the baseline on val.", "Keep what you have; the test stays sealed."))


def untested(why: str) -> Verdict:
    """The verdict where the search ended without a candidate that could be tested."""
    return Verdict("INCONCLUSIVE", (f"{why}.", "Keep what you have; the test stays sealed."))


def smallest_gain(rows: int, *, binary: bool, groups: int | None = None, opening: int = 1) -> float | None:
    """The gain that a test of this size will show 4 times in 5, before any score is known; None if it shows nothing.

    Assumes `power.DISCORDANCE` for binary scores and `power.SPREAD` for graded ones and for groups. `groups` is the
    number of groups among the rows; it matters only where rows share groups.
    """
    if groups is not None and groups < rows:
        return detectable_gain_graded(groups, alpha=level_of(opening)) if groups >= MIN_GROUPS else None
    return (detectable_gain if binary else detectable_gain_graded)(rows, alpha=level_of(opening))


def _outcome(test: TestResult) -> Outcome:
    lower, upper = test.ci
    if test.p > test.alpha or lower <= 0.0 <= upper:
        return "INCONCLUSIVE"
    return "PROMOTE" if lower > 0.0 else "REJECT"


def _objection(test: TestResult) -> str | None:
    """Why nothing may be claimed whatever the scores say, if so."""
    share = test.missing / (test.n + test.missing)
    if share > MAX_MISSING:
        return (
            f"{100 * share:.0f} % of the rows lack a score, and at most {100 * MAX_MISSING:.0f} % may. "
            "Keep the current prompt, and see in the report why those rows failed."
        )
    if test.groups is not None and test.groups < MIN_GROUPS:
        return (
            f"The rows come from {test.groups} groups; at least {MIN_GROUPS} are needed, because rows of one group do "
            "not count separately. Keep the current prompt or add groups to the test."
        )
    return None


def _summary(test: TestResult) -> str:
    digits = _digits(test)
    best, baseline = f"{test.best:.{digits}f}", f"{test.baseline:.{digits}f}"
    rows = f"{test.n:,} unseen rows" if test.groups is None else f"{test.n:,} unseen rows in {test.groups} groups"
    low, high = (f"{end:+.{digits}f}" for end in test.ci)
    if test.labelled is not None:
        units = "rows" if test.groups is None else "groups"
        return (
            f"people's labels on {test.labelled:,} of {test.units:,} unseen {units} "
            f"make the judge's {best} against {baseline} a difference of {test.diff:+.{digits}f} "
            f"({100 * (1 - test.alpha):.4g} % interval {low} to {high})."
        )
    return (
        f"the new prompt scored {best} against {baseline} on {rows} "
        f"(difference {test.diff:+.{digits}f}, {100 * (1 - test.alpha):.4g} % interval {low} to {high})."
    )


def _caveats(test: TestResult) -> list[str]:
    said: list[str] = []
    if test.opening > 1:
        said.append(
            f"These test rows have been opened {test.opening} times, "
            f"so this opening is tested at {test.alpha:.4g} instead of {ALPHA}."
        )
    if test.worst_case is not None:
        low, high = test.worst_case
        said.append(
            f"Left out: {test.missing} of {test.n + test.missing} rows, where one of the prompts has no score; "
            f"whatever it would have been, the difference lies between {low:+.2f} and {high:+.2f}."
        )
    return said


def _conclusion(test: TestResult, outcome: Outcome) -> str:
    if outcome == "PROMOTE":
        return f"The gain is larger than chance explains ({p_value(test)}). Use the new prompt."
    if outcome == "REJECT":
        return f"The loss is larger than chance explains ({p_value(test)}). Keep the current prompt."
    units = "rows" if test.groups is None else "groups"
    advice = f"Keep the current prompt or add test {units}."
    if test.differing == 0:
        return f"The prompts scored the same on all {test.units:,} {units}, which shows nothing either way. {advice}"
    if test.p <= test.alpha or not test.ci[0] <= 0.0 <= test.ci[1]:
        doubt = f"The test ({p_value(test)}) and the interval do not agree that this is more than chance. "
    else:
        doubt = ""
    return f"{doubt}{_what_would_show(test, units)} {advice}"


def _what_would_show(test: TestResult, units: str) -> str:
    """What this size can show, and the size for a gain like the one seen, within a quarter to a half of that."""
    can, digits = test.detectable, _digits(test)
    if can is None:
        target, start = 0.1, f"{test.units:,} {units} can show no difference at all"
    else:
        target = min(max(test.diff, can / 4), can / 2)
        start = f"{test.units:,} {units} can show a difference of about {can:.{digits}f}"
    target = max(round(target, digits), 10**-digits)
    rows = float(f"{test.units_to_show(target):.2g}")
    return f"{start}; {rows:,.0f} would show {target:.{digits}f}."


def _digits(test: TestResult) -> int:
    """Decimals that keep a small difference, or an interval that ends near 0, from reading as 0."""
    closest = min(abs(test.ci[0]), abs(test.ci[1]))
    return 3 if closest < 0.005 or (test.detectable or 1.0) < 0.03 else 2


def p_value(test: TestResult) -> str:
    """The p value as people read it."""
    return "p < 0.001" if test.p < 0.001 else f"p = {test.p:.2g}"
