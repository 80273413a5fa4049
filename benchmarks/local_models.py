"""This optimizer and its peers on real models: the same rows, metric, student, reflection model and program runs.

    python benchmarks/local_models.py ARM [--task banking] [--seed 0] [--out runs/local_models.jsonl]
    python benchmarks/local_models.py table

A task is a config of `promptopt optimize` with a local student. Each arm may spend on its search the rollouts that the
config's budget leaves after the sealed test, and reads train and val only; then its program before and after the search
answers the test rows. Our calls are counted by the ledger, the peers' by a relay before the model. Wall-clock is shown
and not compared: it depends on what else the machine does.

The arms are `promptopt`, `promptopt-self` (the student as its own reflection model), and those of peers.py, among which
`promptopt-dspy` is ours on DSPy's program. The task `pipeline` is such a program already, so its arms are DSPy's and
`promptopt-dspy`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import peers
from counted import served
from peers import Answer, Chat, Outcome, Task

from promptopt.api import optimize_job
from promptopt.config import load
from promptopt.core.budget import Budget
from promptopt.core.candidate import Candidate
from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.execute.progress import Silent
from promptopt.job import Job
from promptopt.lm.session import Session
from promptopt.lm.spec import LM
from promptopt.programs.prompt import Prompt, render
from promptopt.stats.paired import tango_interval

HERE = Path(__file__).parent
CONFIGS = HERE.parent / "configs"
TASKS = {
    "banking": CONFIGS / "demo.yaml",
    "word-problems": HERE / "word_problems.yaml",
    "pipeline": CONFIGS / "dspy_pipeline.yaml",
}
OUT = HERE.parent / "runs" / "local_models.jsonl"
AT_ONCE = 4
"""Test rows that a model answers side by side."""
OURS = ("promptopt", "promptopt-self")
"""Arms that run the job itself; those of peers.py are given its parts."""


@dataclass(frozen=True)
class Run:
    """One arm on one task: which test rows it had right, in the split's order, and what the search took."""

    task: str
    arm: str
    seed: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    calls: int
    """Calls of the student during the search."""
    reflections: int
    """Calls of the reflection model."""
    tokens: int
    """Of both models during the search."""
    seconds: float
    """Of the search."""
    found: str
    """The prompt that the search returned, and how many demos."""
    repeats: int | None = None
    """Calls of the student that asked what had been asked before; None where no relay stood before it."""


def mean(rows: Sequence[int]) -> float:
    return sum(rows) / len(rows)


def gain(first: Sequence[int], second: Sequence[int]) -> tuple[float, float, float]:
    """How much more often the second is right on the same rows, with its 95 % interval (Tango)."""
    wins = sum(a < b for a, b in zip(first, second, strict=True))
    losses = sum(a > b for a, b in zip(first, second, strict=True))
    return (wins - losses) / len(first), *tango_interval(wins, losses, len(first))


def is_ours(run: Run) -> bool:
    return run.arm.startswith("promptopt")


def table(runs: Iterable[Run]) -> str:
    """Markdown: every run, and how far each of ours is ahead of each peer on the same test rows."""
    runs = sorted(runs, key=lambda run: (run.task, not is_ours(run), run.arm, run.seed))
    lines = [
        "| task | arm | seed | before | after | gain, 95 % interval | calls | repeats | reflections "
        "| tokens | minutes |",
        "|---|---|--:|--:|--:|---|--:|--:|--:|--:|--:|",
    ]
    for run in runs:
        repeats = "–" if run.repeats is None else run.repeats
        change = "{:+.3f} ({:+.3f} to {:+.3f})".format(*gain(run.before, run.after))
        lines.append(
            f"| {run.task} | {run.arm} | {run.seed} | {mean(run.before):.3f} | {mean(run.after):.3f} | {change} "
            f"| {run.calls} | {repeats} | {run.reflections} | {run.tokens:,} | {run.seconds / 60:.1f} |"
        )
    ahead = [
        f"| {ours.task} | {ours.arm}, seed {ours.seed} | {peer.arm}, seed {peer.seed} "
        "| {:+.3f} ({:+.3f} to {:+.3f}) |".format(*gain(peer.after, ours.after))
        for ours in runs
        for peer in runs
        if is_ours(ours) and not is_ours(peer) and ours.task == peer.task
    ]
    if ahead:
        lines += ["", "| task | ours | peer | ahead on the test, 95 % interval |", "|---|---|---|---|", *ahead]
    return "\n".join(lines)


def run(name: str, arm: str, seed: int, folder: Path, overrides: Sequence[str] = ()) -> Run:
    """One arm on one task. Its search sees no test row; ours leave their run directories in `folder`."""
    config = load(TASKS[name], [*overrides, f"run.seed={seed}"])
    job = Job.from_config(config)
    if arm == "promptopt-self":
        job = replace(job, reflection=LM(job.lms["program"].name, **job.lms["reflection"].args))
    program, reflector = job.lms["program"], job.lms["reflection"]
    with served(program.name, reflector.name) as (student, reflection):
        task = Task(
            train=job.split.train,
            val=job.split.val,
            expected=config.data.expected,
            program=to_optimize(job),
            score=partial(score, job),
            student=student,
            student_args=program.args,
            reflection=reflection,
            reflection_args=reflector.args,
            calls=search_calls(job),
            run_dir=run_dir(job, folder),
        )
        began = time.monotonic()
        outcome = ours(job, task) if arm in OURS else peers.ARMS[arm](task, seed)
        seconds = time.monotonic() - began
        spent = outcome.spent or peers.Spent(student.calls, reflection.calls, student.tokens + reflection.tokens)
        repeats = None if arm in OURS else student.repeats
        before, after = (rows_right(task, job.split.test, answer) for answer in (outcome.before, outcome.after))
    return Run(
        name,
        arm,
        seed,
        before,
        after,
        **spent._asdict(),
        seconds=round(seconds, 1),
        found=outcome.found,
        repeats=repeats,
    )


def to_optimize(job: Job) -> Chat | Callable[[], Any]:
    """The job's program as peers take it."""
    if isinstance(job.program, Prompt):
        texts = job.baseline.components
        return Chat(texts["system"], partial(render, texts["user"]))
    return partial(cast(Any, job.program).build, job.baseline)


def run_dir(job: Job, folder: Path) -> Path:
    """A new place below `folder` for one run."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"{job.name}-{job.run.seed}-", dir=folder)) / "run"


def ours(job: Job, task: Task) -> Outcome:
    """The job as `promptopt optimize` runs it, but without the sealed test, which all arms take outside."""
    search = replace(job, split=replace(job.split, test=()), budget=Budget(rollouts=task.calls), directory=task.run_dir)
    result = optimize_job(search, Silent())
    program = cast(Prompt, job.program)

    def answers(candidate: Candidate) -> Answer:
        return lambda example: task.student.ask(program.preview(candidate, example), **task.student_args)

    return Outcome(
        before=answers(result.baseline),
        after=answers(result.best),
        found=f"{result.best.components['system']}\n({result.best.n_demos} demos)",
        spent=peers.Spent(
            result.by_purpose["program"].calls, result.by_purpose["reflection"].calls, result.spent.tokens
        ),
    )


def search_calls(job: Job) -> int:
    """The rollouts that the budget leaves once the sealed test's, two a row, are set aside."""
    assert job.budget.rollouts is not None
    return job.budget.rollouts - 2 * len(job.split.test)


def score(job: Job, example: Example, output: Any) -> Score:
    """The job's metric; none of the built-in ones that tasks use asks a model."""
    rollout = Rollout("", example.id, output=output)
    return asyncio.run(job.metric.score(example, rollout, cast(Session, None)))


def rows_right(task: Task, rows: Sequence[Example], answer: Answer) -> tuple[int, ...]:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        answers = threads.map(answer, rows)
        return tuple(int(task.score(row, said).value == 1) for row, said in zip(rows, answers, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arm", choices=[*OURS, *peers.ARMS, "table"], help="what to run, or the table of what has run")
    parser.add_argument("--task", choices=TASKS, default="banking")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT, help="JSON lines, one a run; more are appended")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    if given.task == "pipeline" and given.arm not in ("table", *peers.ON_DSPY):
        parser.error(f"the task pipeline is a DSPy program: its arms are {', '.join(peers.ON_DSPY)}")
    if given.arm != "table":
        done = run(given.task, given.arm, given.seed, given.out.with_suffix(""), given.overrides)
        given.out.parent.mkdir(parents=True, exist_ok=True)
        with given.out.open("a") as file:
            file.write(json.dumps(asdict(done)) + "\n")
    print(table(Run(**json.loads(line)) for line in given.out.read_text().splitlines()))


if __name__ == "__main__":
    main()
