"""What users call: optimize, plan, evaluate, compare, calibrate, align. Wiring, no algorithm."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, closing, contextmanager
from contextvars import copy_context
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from promptopt.calibration import ALIGNED, Alignment, Calibration, alignment, calibration
from promptopt.comparison import Evaluation, compare, evaluation
from promptopt.config import Config, JudgeConfig, changes, group, load
from promptopt.config.settings import BudgetSettings, RunSettings, StrategySettings
from promptopt.core.budget import Budget
from promptopt.core.candidate import Candidate
from promptopt.core.split import Split, inputs_digest
from promptopt.errors import ConfigError, LedgerCorrupt, RunChanged, UserError
from promptopt.execute.optimization import TEST_STEP, Optimization
from promptopt.execute.progress import Silent, Watch
from promptopt.execute.runner import Bench, Halted, Runner
from promptopt.job import Job, from_objects
from promptopt.judge_job import Measuring, aligning, measuring
from promptopt.judges.sheet import FEWEST_LABELS, read_sheet, scale_of, sheet
from promptopt.judges.trust import CALIBRATION, trust_in
from promptopt.lm.gateway import Gateway
from promptopt.lm.message import Scope
from promptopt.lm.session import Session
from promptopt.lm.settings import ModelSettings
from promptopt.lm.spec import LM
from promptopt.method import MakeStrategy
from promptopt.metrics.build import as_metric
from promptopt.metrics.metric import Metric
from promptopt.metrics.preflight import check_rows
from promptopt.metrics.python import PythonMetric
from promptopt.planning import Plan
from promptopt.planning import plan as plan_job
from promptopt.programs.program import Program
from promptopt.reflect.proposer import Proposer
from promptopt.result import Result, read_result, reading, rebuild
from promptopt.store.ledger import Ledger
from promptopt.store.run_dir import LEDGER, RESULT, check_openings, count_opening, locked, write_json

T = TypeVar("T")

__all__ = ["align", "calibrate", "compare", "correct", "evaluate", "label_sheet", "optimize", "plan"]

AnyMetric = Metric | Callable[..., Any] | str | Mapping[str, Any]


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
        job = Job.from_config(program if isinstance(program, Config) else load(program))
    else:
        metric = metric if metric is not None else getattr(program, "metric", None)
        if data is None or metric is None or budget is None:
            raise ConfigError("optimize needs a program with data, metric and budget, or a config alone")
        if not isinstance(cast(object, data), Split):
            raise ConfigError("data is not split: pass Dataset.split(train=..., val=..., test=...) or Split.given(...)")
        job = from_objects(
            program,
            data,
            as_metric(metric, of_function=getattr(program, "metric_of", PythonMetric)),
            reflection=LM.of(reflection) if reflection is not None else None,
            budget=budget if isinstance(budget, Budget) else group(BudgetSettings, budget, "budget").caps,
            strategy=group(StrategySettings, None if callable(strategy) else strategy, "strategy"),
            make_strategy=strategy if callable(strategy) else None,
            run=group(RunSettings, run, "run"),
            models={name: group(ModelSettings, settings, f"lms.{name}") for name, settings in (lms or {}).items()},
        )
    with shown(watch, job.name) as display:
        return optimize_job(job, display)


def optimize_job(job: Job, watch: Watch) -> Result:
    """`optimize` for a job that is ready."""
    return blocking(_optimize(job, watch))


def plan(config: Config | str | Path) -> Plan:
    """What a config's run would cost at most and what its test can show. Nothing is spent."""
    job = Job.from_config(config if isinstance(config, Config) else load(config))
    return plan_job(job)


async def _optimize(job: Job, watch: Watch) -> Result:
    plan_job(job)
    await check_rows(job.metric, [*job.split.train, *job.split.val, *job.split.test])
    if job.split.duplicates:
        watch.said(f"{job.split.duplicates} rows repeat the inputs of others; they stay on one side of the split")
    for warning in job.split.warnings:
        watch.said(f"warning: {warning}")
    with locked(job.directory), closing(_open_ledger(job, watch)) as ledger:
        check_openings(job.directory)
        async with _runner(job, ledger, watch) as runner:
            optimization = Optimization(job, runner, ledger, watch)
            try:
                await optimization.run()
            except Halted:
                watch.said("interrupted: run the same command again to go on")
        result = read_result(ledger, job.directory)
        result.save(job.directory)
        return result


@asynccontextmanager
async def _runner(job: Job, ledger: Ledger, watch: Watch) -> AsyncGenerator[Runner]:
    """A runner with a gateway behind it, and local models that start when they are first called."""
    from promptopt.lm.local import LocalServers

    fetched = set[str]()

    def fetching(name: str, _done: int, _total: int) -> None:
        if name not in fetched:
            fetched.add(name)
            watch.said(f"fetching local/{name}, once")

    with closing(LocalServers(fetching)) as local:
        async with Gateway(job.models, ledger, local) as gateway:

            def session(key: str, step: int) -> Session:
                lm = job.reflection or LM("")
                return Session(gateway, Scope("reflection", key, step), lm.name, lm.args)

            operators = {name: operator for name, (operator, _) in job.operators.items()}
            bench = Bench(job.program, job.metric, Proposer(operators, session), gateway, ledger)
            yield Runner(bench, concurrency=job.run.concurrency, timeout=job.run.rollout_timeout)


def _open_ledger(job: Job, watch: Watch) -> Ledger:
    """The run directory's ledger: a new one, or that of the same job.

    Raises RunChanged when it belongs to another config, other code or other data, unless nothing was decided yet.
    """
    path = job.directory / LEDGER
    identity = {"config": job.identity, "code": job.code, "data": job.data}
    identity = json.loads(json.dumps(identity, default=str))
    about = {
        "baseline": job.baseline.to_json(),
        "val_rows": len(job.split.val),
        "test_rows": len(job.split.test),
        "select": job.strategy.select,
        "searched": {name: list(values) for name, values in job.searched.items()},
        "objectives": list(job.strategy.objectives),
        "trust": [asdict(known) for known in trust_in(job.metric, job.base)],
        "seed": job.run.seed,
        "name": job.name,
        "base": os.path.relpath(job.base.resolve(), job.directory.resolve()),
    }
    if not path.exists():
        if (job.directory / RESULT).exists():
            raise LedgerCorrupt(
                f"{job.directory} has a {RESULT} but no {LEDGER}. Restore it from a copy, or choose another --run-dir."
            )
        Ledger.create(path, {"run_id": uuid.uuid4().hex, "identity": identity, "job": about})
    ledger = Ledger(path, job.budget)
    differences = changes(ledger.meta("identity"), identity)
    decided = ledger.events("told")
    if differences and decided:
        ledger.close()
        lines = "\n".join(f"  {line}" for line in differences)
        raise RunChanged(
            f"{job.directory} holds a run of another job:\n{lines}\n"
            "Undo the change to resume it, or choose another --run-dir."
        )
    if differences:
        ledger.set_meta("identity", identity)
        ledger.set_meta("job", about)
    spent = ledger.account.spent
    if spent.rollouts or spent.calls:
        watch.said(f"resumed: {spent.rollouts} rollouts and {spent.calls} calls are in the ledger and not paid again")
    return ledger


def blocking(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, also where an event loop is running already: then it gets a thread and loop of its own.

    Ctrl-C cancels the work, waits until it has kept what was in flight, and raises KeyboardInterrupt.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    loop, task = asyncio.new_event_loop(), Future[T]()

    async def finish() -> None:
        running.append(asyncio.current_task())
        try:
            task.set_result(await work)
        except BaseException as error:
            task.set_exception(error)

    running: list[asyncio.Task[None] | None] = []
    in_context = copy_context().run  # DSPy, for one, keeps settings there
    thread = threading.Thread(
        target=in_context, args=(loop.run_until_complete, finish()), name="promptopt", daemon=True
    )
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        for main in filter(None, running):
            loop.call_soon_threadsafe(main.cancel)
        thread.join()
        raise
    finally:
        loop.close()
    return task.result()


@contextmanager
def shown(watch: Watch | None, name: str) -> Generator[Watch]:
    """`watch`, or else a display where somebody looks: on a terminal or in a notebook."""
    from rich.console import Console

    from promptopt.report.progress import watching

    console = Console(stderr=True)
    if watch is None and (console.is_terminal or console.is_jupyter):
        with watching(console, name) as display:
            yield display
    else:
        yield watch or Silent()


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
    job = Job.from_config(config if isinstance(config, Config) else load(config))
    return blocking(_evaluate(job, _candidate(job, candidate), split, watch or Silent()))


async def _evaluate(job: Job, candidate: Candidate, split: Literal["train", "val", "test"], watch: Watch) -> Evaluation:
    rows = job.split.parts[split]
    if not rows:
        raise ConfigError(f"there are no {split} rows to evaluate on", key=f"data.split.{split}")
    await check_rows(job.metric, rows)
    runs = job.directory.resolve()
    job = replace(job, directory=runs.with_name(f"{runs.name}-evaluate") / candidate.id)
    with locked(job.directory), closing(_open_ledger(job, watch)) as ledger:
        if split == "test":
            count_opening(runs, inputs_digest(rows), ledger.meta("run_id"))
        async with _runner(job, ledger, watch) as runner:
            rollouts = await runner.evaluate(candidate, rows, step=0, split=split)
        return evaluation(candidate, split, rollouts, ledger.spent())


def calibrate(
    config: JudgeConfig | str | Path, out: str | Path | None = None, watch: Watch | None = None
) -> Calibration:
    """How far a judge agrees with people's labels. `calibration.json` goes into `out`, by default the run directory.

    Answers that are in the ledger there are not paid again. Raises UserError before anything is spent, and RunError
    when the run cannot go on; the same call then goes on.
    """
    work = measuring(_judge_config(config), Path(out) if out is not None else None)
    with shown(watch, work.job.name) as display:
        return calibrate_job(work, display)


def calibrate_job(work: Measuring, watch: Watch) -> Calibration:
    """`calibrate` for a judge and labels that are ready."""
    return blocking(_calibrate(work, watch))


async def _calibrate(work: Measuring, watch: Watch) -> Calibration:
    job, rows = work.job, work.job.split.val
    with locked(job.directory), closing(_open_ledger(job, watch)) as ledger:
        async with _runner(job, ledger, watch) as runner:
            rollouts = await runner.evaluate(job.baseline, rows, step=0, split="val")
        made = calibration(work.judge, work.labels, rollouts, ledger.spent())
        write_json(job.directory / CALIBRATION, made.to_json())
        return made


def align(config: JudgeConfig | str | Path, run_dir: str | Path | None = None, watch: Watch | None = None) -> Alignment:
    """Improve a judge's rubric against people's labels, and judge that on labels that were held out.

    Raises as `optimize` does; a run directory that holds the same job is resumed.
    """
    work = aligning(_judge_config(config), Path(run_dir) if run_dir is not None else None)
    with shown(watch, work.job.name) as display:
        return align_job(work, display)


def align_job(work: Measuring, watch: Watch) -> Alignment:
    """`align` for a judge and labels that are ready."""
    result = optimize_job(work.job, watch)
    with reading(work.job.directory) as ledger:
        made = alignment(work.judge, work.labels, result, list(ledger.rollouts("test")))
    write_json(work.job.directory / ALIGNED, made.to_json())
    return made


def label_sheet(config: Config | str | Path, rows: int = 100, run_dir: str | Path | None = None) -> str:
    """A CSV for people to label: both prompts' outputs on `rows` random rows of a finished run's sealed test, blind."""
    job = _finished(config, run_dir)
    with reading(job.directory) as ledger:
        return sheet(job.split.test, ledger.rollouts("test"), rows, job.run.seed)


def correct(config: Config | str | Path, labels: str | Path, run_dir: str | Path | None = None) -> Result:
    """The run's verdict, corrected by what people wrote into a `label_sheet`. Every set of labels is another opening.

    Raises UserError for labels that cannot be read or are too few, and RunLocked while the run is at work.
    """
    job = _finished(config, run_dir)
    with locked(job.directory), closing(_open_ledger(job, Silent())) as ledger:
        scale = scale_of(job.metric)
        scores = read_sheet(Path(labels), scale, list(ledger.rollouts("test")), job.baseline.id)
        if len(scores) < FEWEST_LABELS:
            raise UserError(f"{labels} has both labels of {len(scores)} rows; at least {FEWEST_LABELS} are needed")
        ledger.append("labels", TEST_STEP, {"scores": scores})
        result = read_result(ledger, job.directory)
        result.save(job.directory)
        return result


def _finished(config: Config | str | Path, run_dir: str | Path | None) -> Job:
    """The job whose finished run is to be labelled."""
    job = Job.from_config(config if isinstance(config, Config) else load(config))
    job = job if run_dir is None else replace(job, directory=Path(run_dir))
    if not rebuild(job.directory).opened:
        raise UserError(f"{job.directory} has not opened its sealed test, so there is nothing to label")
    return job


def _judge_config(given: JudgeConfig | str | Path) -> JudgeConfig:
    return given if isinstance(given, JudgeConfig) else load(given, kind=JudgeConfig)


def _candidate(job: Job, given: Candidate | str | Path | None) -> Candidate:
    """The candidate that `given` stands for, checked against the program."""
    if given is None:
        return job.baseline
    candidate = given if isinstance(given, Candidate) else _read_candidate(Path(given))
    if candidate.components.keys() != job.baseline.components.keys():
        have, want = ", ".join(candidate.components), ", ".join(job.baseline.components)
        raise ConfigError(f"the candidate has the components {have}; the program has {want}")
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
