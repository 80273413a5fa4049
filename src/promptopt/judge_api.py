"""What users call for judges: calibrate, align, and people's labels on a run's test. Wiring, no algorithm."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from promptopt.api import optimize_job
from promptopt.calibration import ALIGNED, Alignment, Calibration, alignment, calibration
from promptopt.config import Config, JudgeConfig, loaded
from promptopt.core.example import Example
from promptopt.core.rollout import Rollout
from promptopt.errors import BudgetExhausted, UserError
from promptopt.execute.optimization import TEST_STEP
from promptopt.execute.progress import Running, Silent, Watch
from promptopt.job import Job
from promptopt.judge_job import JudgeJob, aligning, measuring
from promptopt.judges.sheet import FEWEST_LABELS, read_sheet, scale_of, sheet
from promptopt.judges.trust import CALIBRATION
from promptopt.result import INTERRUPTED, Result, read_result, rebuild
from promptopt.running import blocking, in_time, open_ledger, runner_for, shown, so_far
from promptopt.store.ledger import Ledger
from promptopt.store.run_dir import locked, reading, write_json


def calibrate(
    config: JudgeConfig | str | Path, out: str | Path | None = None, watch: Watch | None = None
) -> Calibration:
    """How far a judge agrees with people's labels. `calibration.json` goes into `out`, by default the run directory.

    Answers that are in the ledger there are not paid again. Raises UserError before anything is spent, and RunError
    when the run cannot go on; the same call then goes on.
    """
    work = measuring(loaded(config, JudgeConfig), Path(out) if out is not None else None)
    with shown(watch, work.job.name) as display:
        return calibrate_job(work, display)


def calibrate_job(work: JudgeJob, watch: Watch) -> Calibration:
    """`calibrate` for a judge and labels that are ready."""
    return blocking(_calibrate(work, watch))


async def _calibrate(work: JudgeJob, watch: Watch) -> Calibration:
    job, rows = work.job, work.job.split.val
    with locked(job.directory), closing(open_ledger(job, watch)) as ledger:
        judged: dict[str, Rollout] = {}
        try:
            await _judge(job, judged, ledger, watch)
        except BudgetExhausted as stop:
            raise BudgetExhausted(stop.cap, f"{stop}: {_so_far(judged, len(rows))}") from stop
        made = calibration(work.judge, work.labels, [judged[row.id] for row in rows], ledger.spent())
        write_json(job.directory / CALIBRATION, made.to_json())
        return made


async def _judge(job: Job, judged: dict[str, Rollout], ledger: Ledger, watch: Watch) -> None:
    """Put the rollout of each row into `judged` as it ends. Raises as `evaluated` does."""
    async with runner_for(job, ledger, watch) as runner, in_time(job, ledger):

        async def one(row: Example) -> None:
            [judged[row.id]] = await runner.evaluate(job.baseline, [row], step=0, split="val")

        watch.began(Running(so_far(job, ledger, lambda: "evaluation"), lambda: runner.halt(INTERRUPTED)))
        ended = await asyncio.gather(*map(one, job.split.val), return_exceptions=True)
        for error in filter(None, ended):
            raise error


def _so_far(judged: Mapping[str, Rollout], rows: int) -> str:
    """How many of `rows` have an answer, and why others that were judged have none."""
    failed = [rollout.failure for rollout in judged.values() if rollout.failure]
    told = f"the judge answered {len(judged) - len(failed):,} of {rows:,} rows"
    if not failed:
        return told
    kinds = ", ".join(f"{kind} {times:,}" for kind, times in Counter(one.kind for one in failed).most_common())
    return f"{told} and gave no usable answer on {len(failed):,} ({kinds}). The first of them: {failed[0].message}"


def align(config: JudgeConfig | str | Path, run_dir: str | Path | None = None, watch: Watch | None = None) -> Alignment:
    """Improve a judge's rubric against people's labels, and judge that on labels that were held out.

    Raises as `optimize` does; a run directory that holds the same job is resumed.
    """
    work = aligning(loaded(config, JudgeConfig), Path(run_dir) if run_dir is not None else None)
    with shown(watch, work.job.name) as display:
        return align_job(work, display)


def align_job(work: JudgeJob, watch: Watch) -> Alignment:
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
    with locked(job.directory), closing(open_ledger(job, Silent())) as ledger:
        scale = scale_of(job.metric)
        scores = read_sheet(Path(labels), scale, list(ledger.rollouts("test")), job.baseline.id)
        if len(scores) < FEWEST_LABELS:
            raise UserError(f"{labels} has both labels of {len(scores)} rows; at least {FEWEST_LABELS} are needed")
        groups = {row.group or row.id for row in job.split.test if row.id in scores}
        if len(groups) < FEWEST_LABELS:
            raise UserError(
                f"{labels} has both labels of rows in {len(groups)} groups; at least {FEWEST_LABELS} are needed"
            )
        body, known = {"scores": {row: list(said) for row, said in scores.items()}}, ledger.events("labels")
        if not known or known[-1].body != body:  # the same labels again are no other look at the test
            ledger.append("labels", TEST_STEP, body)
        result = read_result(ledger, job.directory)
        result.save(job.directory)
        return result


def _finished(config: Config | str | Path, run_dir: str | Path | None) -> Job:
    """The job whose finished run is to be labelled."""
    job = Job.from_config(loaded(config, Config))
    job = job if run_dir is None else replace(job, directory=Path(run_dir))
    if not rebuild(job.directory).opened:
        raise UserError(f"{job.directory} has not opened its sealed test, so there is nothing to label")
    return job
