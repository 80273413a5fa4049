"""What users call: optimize, plan, evaluate, compare. Wiring, no algorithm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from promptopt.comparison import Evaluation, compare, evaluation
from promptopt.config import Config, loaded
from promptopt.config.distill import DistillConfig, kind_of
from promptopt.config.settings import RunSettings, StrategySettings
from promptopt.core.budget import Budget
from promptopt.core.candidate import Candidate
from promptopt.core.split import Split, inputs_digest
from promptopt.errors import ConfigError
from promptopt.execute.optimization import Optimization
from promptopt.execute.progress import Silent, Watch
from promptopt.execute.runner import Halted
from promptopt.job import Job, from_objects
from promptopt.lm.settings import ModelSettings
from promptopt.lm.spec import LM
from promptopt.method import MakeStrategy
from promptopt.metrics.build import AnyMetric
from promptopt.metrics.preflight import check_rows
from promptopt.planning import Plan
from promptopt.planning import plan as plan_job
from promptopt.programs.program import Program, retrieves
from promptopt.result import Result, read_result, rebuild
from promptopt.running import blocking, evaluated, open_ledger, runner_for, shown
from promptopt.store.run_dir import check_openings, count_opening, locked

if TYPE_CHECKING:
    from promptopt.distillation.plan import DistillPlan

__all__ = ["compare", "evaluate", "optimize", "plan"]


def optimize(
    program: Program | Config | str | Path,
    data: Split | None = None,
    metric: AnyMetric | None = None,
    *,
    reflection: LM | str | None = None,
    budget: Budget | Mapping[str, Any] | None = None,
    strategy: StrategySettings | Mapping[str, Any] | MakeStrategy | None = None,
    run: RunSettings | Mapping[str, Any] | None = None,
    lms: Mapping[str, ModelSettings | Mapping[str, Any]] | None = None,
    watch: Watch | None = None,
) -> Result:
    """Search for a better prompt and judge it on the sealed test.

    Takes a program with its data, metric and budget, or a config (a path or a `Config`) alone. `strategy`, `run`
    and `lms` say what the YAML says under the same names; `strategy` may also be a class of your own. A run directory
    that holds a run of the same job is resumed.
    Also works under a running event loop, as in notebooks.

    `watch` is told what happens; without one, progress is shown on a terminal and in a notebook.

    Raises UserError before anything is spent, and RunError when the run cannot go on; it can then be resumed.
    """
    if isinstance(program, Config | str | Path):
        beside = (data, metric, reflection, budget, strategy, run, lms)
        if any(part is not None for part in beside):
            raise ConfigError("a config says it all: change it, or load it with overrides, in place of other arguments")
        job = Job.from_config(loaded(program, Config))
    else:
        metric = metric if metric is not None else getattr(program, "metric", None)
        if data is None or metric is None or budget is None:
            raise ConfigError("optimize needs a program with data, metric and budget, or a config alone")
        if not isinstance(cast(object, data), Split):
            raise ConfigError("data is not split: pass Dataset.split(train=..., val=..., test=...) or Split.given(...)")
        job = from_objects(
            program,
            data,
            metric,
            reflection=reflection,
            budget=budget,
            strategy=strategy,
            run=run,
            lms=lms,
        )
    with shown(watch, job.name) as display:
        return optimize_job(job, display)


def optimize_job(job: Job, watch: Watch) -> Result:
    """`optimize` for a job that is ready."""
    return blocking(_optimize(job, watch))


def plan(config: Config | str | Path) -> Plan | DistillPlan:
    """What a config's run would cost at most and what its test can show, also a distillation's. Nothing is spent."""
    settings = loaded(config, kind_of(config))
    if isinstance(settings, DistillConfig):
        from promptopt.distill_job import distilling
        from promptopt.distillation.plan import plan as plan_distillation

        return plan_distillation(distilling(settings))
    return plan_job(Job.from_config(settings))


async def _optimize(job: Job, watch: Watch) -> Result:
    plan_job(job)
    await check_rows(job.metric, [*job.split.train, *job.split.val, *job.split.test])
    if job.split.duplicates:
        watch.said(f"{job.split.duplicates} rows repeat the inputs of others; they stay on one side of the split")
    for warning in job.split.warnings:
        watch.said(f"warning: {warning}")
    with locked(job.directory), closing(open_ledger(job, watch)) as ledger:
        check_openings(job.directory)
        async with runner_for(job, ledger, watch) as runner:
            optimization = Optimization(job, runner, ledger, watch)
            try:
                await optimization.run()
            except Halted:
                watch.said("interrupted: run the same command again to go on")
        result = read_result(ledger, job.directory)
        result.save(job.directory)
        return result


def evaluate(
    config: Config | str | Path,
    candidate: Candidate | str | Path | None = None,
    split: Literal["train", "val", "test"] = "val",
    watch: Watch | None = None,
) -> Evaluation:
    """The score of one candidate on one split, under the config's caps: by default the program as it is.

    `candidate` may be a JSON file that `promptopt export --format json` wrote, or a run directory, which stands for its
    recommended candidate. What was scored before is read from the evaluations' own ledger, beside the run directory.
    Scoring test rows opens them: it is recorded, and later verdicts on these rows are tested more strictly.
    """
    if not isinstance(cast(object, config), Config | str | Path):
        raise ConfigError(
            f"evaluate takes a config or the path of one, and not a {type(config).__name__}. A program that is made "
            "in Python goes to optimize, with its data and metric"
        )
    job = Job.from_config(loaded(config, Config))
    return blocking(_evaluate(job, _candidate(job, candidate), split, watch or Silent()))


async def _evaluate(job: Job, candidate: Candidate, split: Literal["train", "val", "test"], watch: Watch) -> Evaluation:
    rows = job.split.parts[split]
    if not rows:
        raise ConfigError(f"there are no {split} rows to evaluate on", key=f"data.split.{split}")
    await check_rows(job.metric, rows)
    runs = job.directory.resolve()
    job = replace(job, directory=runs.with_name(f"{runs.name}-evaluate") / candidate.id)
    with locked(job.directory), closing(open_ledger(job, watch)) as ledger:
        if split == "test":
            count_opening(runs, inputs_digest(rows), ledger.meta("run_id"))
        rollouts = await evaluated(job, candidate, rows, split, ledger, watch)
        return evaluation(candidate, split, rollouts, ledger.spent())


def _candidate(job: Job, given: Candidate | str | Path | None) -> Candidate:
    """The candidate that `given` stands for, checked against the program."""
    if given is None:
        return job.baseline
    candidate = given if isinstance(given, Candidate) else _read_candidate(Path(given))
    if candidate.components.keys() != job.baseline.components.keys():
        have, want = ", ".join(candidate.components), ", ".join(job.baseline.components)
        raise ConfigError(f"the candidate has the components {have}; the program has {want}")
    if candidate.nearest and not retrieves(job.program):
        raise ConfigError("the candidate shows each input the demos nearest to it, which only a prompt can do")
    return candidate


def _read_candidate(path: Path) -> Candidate:
    if path.is_dir():
        return rebuild(path).recommended
    try:
        return Candidate.from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is not a candidate: export one with promptopt export --format json") from error
