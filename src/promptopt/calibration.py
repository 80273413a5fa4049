"""How far a judge agrees with people, and the certificate that says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from promptopt.core.budget import Spend
from promptopt.core.rollout import Rollout
from promptopt.judges.answers import Answer, Value
from promptopt.judges.judging import ORDERS, AnyJudge, Judging, answers_of, rubrics
from promptopt.judges.labels import ONLY, Labels
from promptopt.judges.pairwise import OUTCOMES
from promptopt.result import Result
from promptopt.stats import agreement as stats
from promptopt.stats.bias import PositionBias, SliceBias, bias_by_slice, position_bias
from promptopt.stats.estimate import UNDEFINED, Estimate

if TYPE_CHECKING:
    import pandas  # pyright: ignore[reportMissingTypeStubs]

ALIGNED = "aligned.json"
PRECISE = 0.1
"""Half the width of an interval of kappa that settles how good a judge is."""
NEAR = 0.1
"""Numbers that are no further apart are no disagreement: people and judges hardly ever say the very same one."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An item of which people and the judge say different things."""

    id: str
    people: Value
    judge: Value
    inputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Measured:
    """How the answers to one question compare with people's."""

    n: int
    """Items with an answer of the judge and one that people agree on."""
    groups: int | None
    """The groups that they come from: every interval is that of as many units. None where each stands for itself."""
    accuracy: Estimate
    balanced_accuracy: Estimate
    kappa: Estimate
    """These three ask whether answers are equal, and are undefined for a number."""
    weighted_kappa: Estimate
    """Quadratic weights; undefined where answers have no order."""
    alpha: Estimate
    """Krippendorff's, of people and the judge as one more rater."""
    people_alpha: Estimate
    """Of people alone, also on what divides them: no judge can be expected to agree more than they do."""
    consistency: Estimate
    """How often the judge says the same when it is asked again."""
    bias: Estimate
    """How much higher the judge's scores are than the mean of what raters' answers are worth."""
    position: PositionBias | None
    """How much a pairwise judge favours the text that stands first."""
    bias_by_slice: Mapping[str, tuple[SliceBias, ...]]
    """By column, for each of its values."""
    confusion: Mapping[str, Mapping[str, int]]
    """How often, by people's answer and then the judge's."""
    rows_to_settle: int | None
    """Items that would tell the decisive kappa to within PRECISE either way; None where it is undefined."""
    disagreements: tuple[Disagreement, ...]
    """Those furthest apart first."""

    @property
    def decisive(self) -> Estimate:
        """What tells a good judge from a bad one: the weighted kappa where answers have an order, else kappa."""
        return self.kappa if self.weighted_kappa.value is None else self.weighted_kappa

    @property
    def figures(self) -> dict[str, Estimate]:
        """Every estimate by its name."""
        every = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in every.items() if isinstance(value, Estimate)}


@dataclass(frozen=True, slots=True)
class Calibration:
    """A judge measured against people."""

    judge: AnyJudge
    raters: int
    missing: int
    """Items that the judge has no answer for."""
    tied: int
    """Answers that people do not agree on."""
    failures: Mapping[str, int]
    """Items without an answer, by what went wrong."""
    by_criterion: Mapping[str, Measured]
    spent: Spend
    created: str
    """When, in ISO 8601."""

    @property
    def n(self) -> int:
        return max(one.n for one in self.by_criterion.values())

    def to_frame(self) -> pandas.DataFrame:
        """One row a figure of a criterion: its value and the ends of its 95 % interval."""
        import pandas

        rows = [
            {"criterion": name, "figure": figure, "value": one.value, "low": one.ci[0], "high": one.ci[1]}
            for name, measured in self.by_criterion.items()
            for figure, one in measured.figures.items()
            if one.ci is not None
        ]
        return pandas.DataFrame(rows)

    def to_json(self) -> dict[str, Any]:
        """The contract of calibration.json."""
        only = self.by_criterion.get(ONLY)
        measured = asdict(only) if only else {"criteria": {k: asdict(one) for k, one in self.by_criterion.items()}}
        described = {"lm": self.judge.lm, "lm_args": self.judge.params, "settings": self.judge.fingerprint}
        return {
            **measured,
            "n": self.n,
            "raters": self.raters,
            "missing": self.missing,
            "tied": self.tied,
            "failures": dict(self.failures),
            "certificate": {"hash": self.judge.identity, "judge": described, "created": self.created},
        }


@dataclass(frozen=True, slots=True)
class Alignment:
    """A judge before and after its rubric was fitted to people's labels, on labels that were held out."""

    judge: AnyJudge
    """As it was."""
    aligned: AnyJudge
    """With the champion's rubric, whatever the verdict."""
    before: Mapping[str, Measured]
    after: Mapping[str, Measured]
    """By criterion, on the sealed labels; empty where they stayed sealed."""
    result: Result

    @property
    def recommended(self) -> AnyJudge:
        """The judge to use: the aligned one on PROMOTE, else the judge as it was."""
        return self.aligned if self.result.verdict == "PROMOTE" else self.judge

    def to_json(self) -> dict[str, Any]:
        """The contract of aligned.json."""
        return {
            "verdict": self.result.verdict,
            "reasons": list(self.result.reasons),
            "rubrics": {"before": dict(rubrics(self.judge)), "after": dict(rubrics(self.aligned))},
            "before": {name: asdict(one) for name, one in self.before.items()},
            "after": {name: asdict(one) for name, one in self.after.items()},
            "recommended": dict(rubrics(self.recommended)),
        }


def calibration(judge: AnyJudge, labels: Labels, rollouts: Sequence[Rollout], spent: Spend) -> Calibration:
    """The judge's answers in `rollouts`, one for each labelled item, held against people's."""
    return Calibration(
        judge=judge,
        raters=labels.raters,
        missing=sum(rollout.failure is not None for rollout in rollouts),
        tied=labels.tied,
        failures=Counter(rollout.failure.kind for rollout in rollouts if rollout.failure),
        by_criterion=measured(answers_of(judge), labels, rollouts),
        spent=spent,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def alignment(judge: AnyJudge, labels: Labels, result: Result, tested: Sequence[Rollout]) -> Alignment:
    """The two judges of an alignment, each with its answers on the sealed labels among `tested`."""
    arms = ([one for one in tested if one.candidate_id == side.id] for side in (result.baseline, result.best))
    before, after = (measured(answers_of(judge), labels, arm) if arm else {} for arm in arms)
    return Alignment(judge, Judging(judge).having(result.best), before, after, result)


def measured(answers: Mapping[str, Answer], labels: Labels, rollouts: Sequence[Rollout]) -> dict[str, Measured]:
    """By criterion, how the answers in `rollouts` compare with people's."""
    return {name: _measured(name, answer, labels, rollouts) for name, answer in answers.items()}


def _measured(name: str, answer: Answer, labels: Labels, rollouts: Sequence[Rollout]) -> Measured:
    given = {one.example_id: [said[name] for said in one.output] for one in rollouts if one.failure is None}
    items = {item.id: item for item in labels.items}
    both = [row for row in given if name in items[row].expected]
    people = [items[row].expected[name] for row in both]
    judge = [given[row][0] for row in both]
    rng, groups = np.random.default_rng(0), labels.groups_of(both)
    ratings = {row: [said.get(name) for said in told.values()] for row, told in labels.ratings.items()}
    judge_scores = [answer.score(one) for one in judge]
    people_scores = [fmean(answer.score(one) for one in ratings[row] if one is not None) for row in both]
    as_ratings = partial(_as_ratings, answer)
    options = None if answer.options is None else as_ratings(answer.options)
    scale = answer.level if answer.level in ("ordinal", "interval") else "nominal"
    alpha = partial(stats.krippendorff_alpha, rng=rng, scale=scale, options=options)
    lean = partial(bias_by_slice, judge_scores, people_scores, rng=rng, groups=groups)
    exactly = partial(_exactly, answer, judge, people, rng=rng, groups=groups)
    kappa = exactly(partial(stats.cohens_kappa, options=answer.options))
    weighted_kappa = (
        stats.weighted_kappa(as_ratings(judge), as_ratings(people), rng, options=options, groups=groups)
        if answer.ordered
        else UNDEFINED
    )
    return Measured(
        n=len(both),
        groups=None if groups is None else len(set(groups)),
        accuracy=exactly(stats.accuracy),
        balanced_accuracy=exactly(stats.balanced_accuracy),
        kappa=kappa,
        weighted_kappa=weighted_kappa,
        alpha=alpha([as_ratings([*ratings[row], given[row][0]]) for row in given], groups=labels.groups_of(given)),
        people_alpha=alpha(list(map(as_ratings, ratings.values())), groups=labels.groups_of(ratings)),
        consistency=stats.self_consistency(list(given.values()), rng, groups=labels.groups_of(given)),
        bias=_overall(lean({"": range(len(both))})),
        position=_position(rollouts, labels, rng),
        bias_by_slice={column: tuple(lean(_places(values, both))) for column, values in labels.slices.items()},
        confusion=_confusion(answer, judge, people),
        rows_to_settle=stats.rows_for_width(weighted_kappa if answer.ordered else kappa, len(both), PRECISE),
        disagreements=_disagreements(
            answer,
            [
                Disagreement(row, wanted, said, items[row].inputs)
                for row, wanted, said in zip(both, people, judge, strict=True)
            ],
        ),
    )


def _exactly(
    answer: Answer,
    judge: Sequence[Value],
    people: Sequence[Value],
    coefficient: Callable[..., Estimate],
    **sample: Any,
) -> Estimate:
    """A coefficient that counts equal answers: it says nothing of numbers, which are near each other or not."""
    return UNDEFINED if answer.options is None else coefficient(judge, people, **sample)


def _disagreements(answer: Answer, compared: Sequence[Disagreement]) -> tuple[Disagreement, ...]:
    """Those of the items on which people and the judge are apart, the furthest first."""

    def apart(one: Disagreement) -> float:
        if not answer.ordered:
            return float(one.people != one.judge)
        return round(abs(answer.score(one.people) - answer.score(one.judge)), 9)

    least = NEAR if answer.options is None else 0.0
    return tuple(sorted((one for one in compared if apart(one) > least), key=apart, reverse=True))


def _as_ratings(answer: Answer, said: Sequence[Value | None]) -> list[Any]:
    """Answers as the coefficients read them: ordered ones by their place, numbers and names as they are."""
    if answer.options is None or not answer.ordered:
        return list(said)
    places = {option: place for place, option in enumerate(answer.options)}
    return [None if one is None else places[cast(Any, one)] for one in said]


def _overall(bias: Sequence[SliceBias]) -> Estimate:
    """The bias on all rows, as an estimate."""
    return Estimate(bias[0].bias, bias[0].ci) if bias and bias[0].rows > 1 else UNDEFINED


def _position(rollouts: Sequence[Rollout], labels: Labels, rng: np.random.Generator) -> PositionBias | None:
    """Of the first answers of a pairwise judge."""
    orders = {one.example_id: one.output[0].get(ORDERS) for one in rollouts if one.failure is None}
    asked = {row: order for row, order in orders.items() if order}
    first, second = ([OUTCOMES.score(order[place]) for order in asked.values()] for place in (0, 1))
    return position_bias(first, second, rng, groups=labels.groups_of(asked))


def _places(values: Mapping[str, str], rows: Sequence[str]) -> dict[str, list[int]]:
    """By value of a column, the places of its rows."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(values.get(row, ""), []).append(place)
    return places


def _confusion(answer: Answer, judge: Sequence[Value], people: Sequence[Value]) -> dict[str, dict[str, int]]:
    met = Counter(zip(people, judge, strict=True))
    options = answer.options or ()  # a number has no cells
    return {str(wanted): {str(said): met[wanted, said] for said in options} for wanted in options}
