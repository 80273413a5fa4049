"""What users call to move to a cheaper model: distill. Wiring, no algorithm."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from promptopt.config import load
from promptopt.config.distill import DistillConfig
from promptopt.distill.outcome import Distillation, outcome
from promptopt.distill.sweep import Sweep
from promptopt.distill_job import Distilling, distilling
from promptopt.execute.progress import Watch
from promptopt.execute.runner import Halted, Runner
from promptopt.metrics.metric import Metric
from promptopt.metrics.preflight import check_rows
from promptopt.running import blocking, open_ledger, runner_for, shown
from promptopt.store.run_dir import RESULT, check_openings, locked, write_json


def distill(
    config: DistillConfig | str | Path, run_dir: str | Path | None = None, watch: Watch | None = None
) -> Distillation:
    """Move a program to the cheapest student that does the teacher's job as well, with a certificate for each student.

    A run directory that holds a distillation of the same config is resumed; a finished one costs nothing. Raises
    UserError before anything is spent, and RunError when the run cannot go on; it can then be resumed.
    """
    work = distilling(config if isinstance(config, DistillConfig) else load(config, kind=DistillConfig))
    if run_dir is not None:
        work = replace(work, job=replace(work.job, directory=Path(run_dir)))
    with shown(watch, work.job.name) as display:
        return distill_job(work, display)


def distill_job(work: Distilling, watch: Watch) -> Distillation:
    """`distill` for work that is ready."""
    return blocking(_distill(work, watch))


async def _distill(work: Distilling, watch: Watch) -> Distillation:
    job = work.job
    if work.config.references in ("human", "judge"):
        await check_rows(job.metric, [*job.split.train, *job.split.val, *job.split.test])
    with locked(job.directory), closing(open_ledger(job, watch)) as ledger:
        check_openings(job.directory)
        async with runner_for(job, ledger, watch) as runner:

            def runner_with(metric: Metric) -> Runner:
                return Runner(
                    replace(runner.bench, metric=metric),
                    concurrency=job.run.concurrency,
                    timeout=job.run.rollout_timeout,
                )

            sweep = Sweep(work, runner_with, ledger, watch)
            try:
                found = await sweep.run()
            except Halted:
                watch.said("interrupted: run the same command again to go on")
                raise KeyboardInterrupt from None
        made = outcome(work, sweep.standings, found, ledger.spent(), ledger.seconds())
        write_json(job.directory / RESULT, made.to_json())
        return made
