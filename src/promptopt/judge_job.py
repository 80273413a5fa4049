"""From a judge's config to jobs: one that measures the judge against people's labels, one that aligns it to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

from promptopt.config.judge import JudgeConfig, LabelSettings
from promptopt.core.budget import Budget
from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.core.split import Split, split
from promptopt.errors import ConfigError, DataError
from promptopt.job import Job
from promptopt.judges.answers import Answer
from promptopt.judges.judging import Agreement, AnyJudge, Judging, answers_of
from promptopt.judges.labels import Labels, label_columns, read_labels, unlabelled
from promptopt.judges.pairwise import Pairwise
from promptopt.lm.session import Session
from promptopt.lm.spec import LM
from promptopt.method import strategy_named
from promptopt.metrics.build import build
from promptopt.metrics.metric import Metric


class JudgeJob(NamedTuple):
    """A judge, the labels to hold it against, and the job that has it answer."""

    judge: AnyJudge
    labels: Labels
    job: Job


@dataclass(frozen=True)
class Worth:
    """A metric: what a judge's first answers are worth, whatever people say, so correcting them costs nothing."""

    answers: Mapping[str, Answer]
    fingerprint = "the judge's own score"
    binary = False

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        return Score(fmean(answer.score(rollout.output[0][name]) for name, answer in self.answers.items()))


def measuring(config: JudgeConfig, out: Path | None = None) -> JudgeJob:
    """The job of `judge calibrate`. Raises ConfigError and DataError before anything is spent."""
    try:
        judge, labels = _read(config)
        agreed = _drawn([item for item in labels.items if item.expected], config)
        rows = tuple(unlabelled(item, judge.columns) for item in agreed)
        if not rows:
            raise DataError("people agree on no row, so there is nothing to hold the judge against")
        judging = Judging(judge, config.repeats)
        judging.check(tuple(rows[0].inputs))
        judging.check_rows(rows)
        job = _job(config, judging, Worth(answers_of(judge)), Split((), rows, ()), out or config.run_dir)
        job.check_models()
        cap = job.budget.rollouts
        if cap is not None and cap < len(rows):
            raise ConfigError(
                f"budget.rollouts is {cap:,}, but {len(rows):,} labelled items are to be judged: raise it, or take "
                "fewer by labels.rows",
                key="budget.rollouts",
            )
    except ConfigError as error:
        raise config.located(error) from error
    return JudgeJob(judge, labels, job)


def aligning(config: JudgeConfig, run_dir: Path | None = None) -> JudgeJob:
    """The job of `judge align`: the judge's rubric is optimized on a part of the labels, and tested on another.

    Raises ConfigError and DataError before anything is spent.
    """
    for key in ("split", "reflection", "budget"):
        if getattr(config, key) is None:
            raise config.located(ConfigError(f"judge align needs {key}: see docs/judges.md", key=key))
    assert config.split is not None
    try:
        judge, labels = _read(config)
        sizes, whole = config.split, len(answers_of(judge))
        rows = _drawn([item for item in labels.items if len(item.expected) == whole], config)
        parts = split(rows, train=sizes.train, val=sizes.val, test=sizes.test, seed=sizes.seed)
        judging = Judging(judge)
        directory = run_dir or config.run_dir.with_name(f"{config.run_dir.name}-align")
        job = _job(config, judging, Agreement(answers_of(judge)), parts, directory)
        job.check()
        judging.check_rows(rows)
    except ConfigError as error:
        raise config.located(error) from error
    return JudgeJob(judge, labels, job)


def _read(config: JudgeConfig) -> tuple[AnyJudge, Labels]:
    judge = build(config.judge, config.base, "judge")
    if not isinstance(judge, AnyJudge):
        raise ConfigError(f"judge.type must be a judge, and {config.judge['type']} is none", key="judge.type")
    if isinstance(judge, Pairwise) and config.labels.output is None:
        raise ConfigError(
            "labels.output must name the column with the texts that are compared; a label is win, tie or loss",
            key="labels.output",
        )
    _check_blind(judge, config.labels)
    return judge, read_labels(config.labels, config.base, answers_of(judge))


def _check_blind(judge: AnyJudge, labels: LabelSettings) -> None:
    """That no setting shows the judge what people said."""
    hidden = dict.fromkeys(label_columns(labels, answers_of(judge)).values(), "labels.label")
    hidden |= {labels.reason: "labels.reason"} if labels.reason else {}
    inputs = [labels.inputs] if isinstance(labels.inputs, str) else labels.inputs
    shown = {
        "labels.inputs": [*inputs, *(inputs.values() if isinstance(inputs, Mapping) else ())],
        "labels.output": [labels.output],
        "labels.expected": [labels.expected],
        **{f"judge.{setting}": [getattr(judge, setting, None)] for setting in ("against", "context")},
    }
    for key, columns in shown.items():
        for column in columns:
            if column in hidden:
                raise ConfigError(
                    f"{key} names {column!r}, which is what people said ({hidden[column]}): the judge would read the "
                    "answers that it is to be held against. Name another column, or none",
                    key=key,
                )


def _drawn(items: Sequence[Example], config: JudgeConfig) -> tuple[Example, ...]:
    """As many items as the config wants, in their order. Each has its own lot, whatever becomes of others."""
    lots = {item.id: Random(f"{config.run.seed}/labels/{item.id}").random() for item in items}
    drawn = set(sorted(lots, key=lots.__getitem__)[: config.labels.rows])
    return tuple(item for item in items if item.id in drawn)


def _job(config: JudgeConfig, program: Judging, metric: Metric, parts: Split, directory: Path) -> Job:
    reflection = config.reflection
    identity: Mapping[str, Any] = {
        "judge": program.fingerprint,
        "labels": config.labels.model_dump(mode="json"),
        "reflection": reflection.model_dump(mode="json") if reflection else None,
        "strategy": config.strategy.model_dump(mode="json"),
        "budget": config.budget.model_dump(mode="json") if config.budget else None,
        "run": {"seed": config.run.seed},
    }
    return Job(
        name=config.name,
        program=program,
        split=parts,
        metric=metric,
        reflection=LM(reflection.lm, **reflection.lm_args) if reflection else None,
        template=reflection.template if reflection else None,
        strategy=config.strategy,
        make_strategy=strategy_named(config.strategy.name, config.base),
        budget=config.budget.caps if config.budget else Budget(),
        run=config.run,
        directory=directory,
        models=config.lms,
        identity=identity,
        base=config.base,
    )
