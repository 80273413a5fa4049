"""What every run needs: its ledger, a runner with a gateway behind it, an event loop, and a display for people."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, closing, contextmanager
from contextvars import copy_context
from dataclasses import asdict
from typing import Any, TypeVar

from promptopt.config import changes
from promptopt.core.candidate import Candidate
from promptopt.core.example import Example
from promptopt.core.rollout import Rollout
from promptopt.errors import BudgetExhausted, LedgerCorrupt, RunChanged, RunError
from promptopt.execute.progress import Phase, Progress, Running, Silent, Watch
from promptopt.execute.runner import Bench, Runner
from promptopt.job import Job
from promptopt.judges.trust import trust_in
from promptopt.lm.gateway import Gateway
from promptopt.lm.message import Scope
from promptopt.lm.session import Session
from promptopt.lm.spec import LM
from promptopt.reflect.proposer import Proposer
from promptopt.result import INTERRUPTED
from promptopt.store.ledger import Ledger
from promptopt.store.run_dir import LEDGER, RESULT

T = TypeVar("T")


@asynccontextmanager
async def runner_for(job: Job, ledger: Ledger, watch: Watch) -> AsyncGenerator[Runner]:
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

            operators = {name: operator for name, (operator, _) in job.named_operators.items()}
            bench = Bench(job.program, job.metric, Proposer(operators, session), gateway, ledger)
            yield Runner(bench, concurrency=job.run.concurrency, timeout=job.run.rollout_timeout)


async def evaluated(
    job: Job, candidate: Candidate, rows: Sequence[Example], split: str, ledger: Ledger, watch: Watch
) -> tuple[Rollout, ...]:
    """One rollout a row where there is no search, under the job's caps, those on all its sessions' minutes included.

    Raises RunError when it cannot go on. What failed up to there is tried again by the next session.
    """
    async with runner_for(job, ledger, watch) as runner, in_time(job, ledger):
        watch.began(Running(so_far(job, ledger, lambda: "evaluation"), lambda: runner.halt(INTERRUPTED)))
        return await runner.evaluate(candidate, rows, step=0, split=split)


def so_far(job: Job, ledger: Ledger, phase: Callable[[], Phase]) -> Callable[[], Progress]:
    """What is known at any moment of a run, or a part of one, that folds no steps."""
    earlier, began = ledger.seconds(), time.monotonic()
    return lambda: Progress(
        phase=phase(),
        spent=ledger.account.spent,
        budget=job.budget,
        seconds=earlier + time.monotonic() - began,
    )


@asynccontextmanager
async def in_time(job: Job, ledger: Ledger) -> AsyncGenerator[None]:
    """Work within the minutes that all sessions of the job may take.

    Raises RunError when it cannot go on. What failed up to there is tried again by the next session.
    """
    minutes = job.budget.minutes
    left = None if minutes is None else max(0.0, 60 * minutes - ledger.seconds())
    try:
        async with asyncio.timeout(left):
            yield
    except TimeoutError:
        raise BudgetExhausted("minutes") from None
    except RunError:
        ledger.forget_failures(after_step=-1)
        raise


def open_ledger(job: Job, watch: Watch) -> Ledger:
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
    if differences and ledger.decided:
        ledger.close()
        lines = "\n".join(f"  {line}" for line in differences)
        raise RunChanged(
            f"{job.directory} holds a run of another job:\n{lines}\n"
            "Undo the change to resume it, or choose another --run-dir."
        )
    if differences:
        ledger.set_meta("identity", identity)
    if differences or ledger.meta("job")["trust"] != about["trust"]:  # a judge may be calibrated after the run
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
