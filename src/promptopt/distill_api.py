"""What users call to move to a cheaper model: distill. Wiring, no algorithm."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from promptopt.config import loaded
from promptopt.config.distill import DistillConfig
from promptopt.distill_job import Distilling, distilling
from promptopt.distillation.binding import bound
from promptopt.distillation.escalation import unseen
from promptopt.distillation.outcome import Distillation
from promptopt.distillation.plan import plan
from promptopt.distillation.sweep import Sweep
from promptopt.distillation.verdicts import outcome
from promptopt.distillation.verify import CONFIG_FILE, Claim, Verification, claim
from promptopt.distillation.verify import verify as run_claim
from promptopt.execute.optimization import TEST_STEP
from promptopt.execute.progress import Watch
from promptopt.execute.runner import Halted
from promptopt.metrics.preflight import check_rows
from promptopt.running import blocking, in_time, open_ledger, runner_for, shown
from promptopt.store.ledger import DISTILLED, Ledger
from promptopt.store.run_dir import RESULT, check_openings, locked, write_json


def distill(
    config: DistillConfig | str | Path, run_dir: str | Path | None = None, watch: Watch | None = None
) -> Distillation:
    """Move a program to the cheapest student that does the teacher's job as well, with a certificate for each student.

    A run directory that holds a distillation of the same config is resumed; a finished one costs nothing. Raises
    UserError before anything is spent, and RunError when the run cannot go on; it can then be resumed.
    """
    work = distilling(loaded(config, DistillConfig), run_dir)
    with shown(watch, work.job.name) as display:
        return distill_job(work, display)


def verify(
    config: DistillConfig | str | Path,
    run_dir: str | Path | None = None,
    *,
    data: str | Path | None = None,
    student: str | None = None,
    lm: str | None = None,
    watch: Watch | None = None,
) -> Verification:
    """Test a distillation's certificate again, that of what it recommends, also a cascade, or of `student`.

    `data` is a file of fresh rows; without one the test rows are opened once more, at a stricter level. `lm` takes the
    place of the student's model, such as its next version. Writes verify.json into the run directory. Raises UserError
    where there is no such certificate, and RunError when it cannot go on; it can then be resumed.
    """
    work = distilling(loaded(config, DistillConfig), run_dir)
    asked = claim(work, data=None if data is None else Path(data), student=student, lm=lm)
    with shown(watch, work.job.name) as display:
        return verify_claim(asked, display)


def verify_claim(asked: Claim, watch: Watch) -> Verification:
    """`verify` for a claim that is ready."""
    with _interruptible(watch):
        return blocking(run_claim(asked, watch))


def distill_job(work: Distilling, watch: Watch) -> Distillation:
    """`distill` for work that is ready."""
    with _interruptible(watch):
        return blocking(_distill(work, watch))


@contextmanager
def _interruptible(watch: Watch) -> Generator[None]:
    """Say how a run goes on that was halted in this block."""
    try:
        yield
    except Halted:
        watch.said("interrupted: run the same command again to go on")
        raise KeyboardInterrupt from None


async def _distill(work: Distilling, watch: Watch) -> Distillation:
    job = work.job
    planned = plan(work)
    for warning in (*planned.warnings, *([] if planned.power.enough else [planned.power.sentence])):
        watch.said(f"warning: {warning}")
    rows = (row for part in job.split.parts.values() for row in part)
    await check_rows(job.metric, [row for row in rows if not work.config.taught(row)])
    if work.confidence is not None:
        await check_rows(work.confidence, [unseen(row) for row in job.split.val])
    with locked(job.directory), closing(open_ledger(job, watch)) as ledger:
        check_openings(job.directory)
        ledger.set_meta(CONFIG_FILE, work.config_file)
        made = bound(await _run(work, ledger, watch), work, ledger)
        body = made.to_json()
        earlier = ledger.events(DISTILLED)
        if not earlier or _lasting(earlier[-1].body) != _lasting(body):
            ledger.append(DISTILLED, TEST_STEP, body)
        write_json(job.directory / RESULT, body)
        return made


async def _run(work: Distilling, ledger: Ledger, watch: Watch) -> Distillation:
    job = work.job
    async with runner_for(job, ledger, watch) as runner:
        async with in_time(job, ledger):
            sweep = Sweep(work, runner.scored_by, ledger, watch)
            found = await sweep.run()
            if outcome(found, ledger.spent(), ledger.seconds()).recommendation is None:
                found = await sweep.escalate(found)
        return outcome(found, ledger.spent(), ledger.seconds())


def _lasting(body: Mapping[str, object]) -> str:
    """All of a result but its spend, which grows with every session."""
    return json.dumps({name: value for name, value in body.items() if name != "spent"}, sort_keys=True)
