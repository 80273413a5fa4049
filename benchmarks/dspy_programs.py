"""One DSPy program, three optimizers: ours beside dspy.GEPA and dspy.MIPROv2, on the simulated task over HTTP.

    python benchmarks/dspy_programs.py [--seeds 0-4] [--rollouts 600] [--json FILE]

Each is given the same dspy.Predict, metric, rows and endpoint, and may run the program as often as the others. The
endpoint counts the calls of the task model and those that repeat an earlier one; the program that comes back is scored
on the held-out rows. MIPROv2 cannot be held to a number, so its trials are chosen to come as near as they allow.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from contenders import chat, score
from rich.console import Console
from rich.table import Table
from search import seeds
from simtask import REFLECT, SEED_PROMPT, TASK, Row, Task, serving, traffic_at

THREADS = 8
BOOTSTRAPS = 20
"""Calls that MIPROv2's bootstrapping takes, about."""
MINIBATCH = 35
"""MIPROv2's default."""

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an optimizer made of the program, and what that took at the endpoint."""

    name: str
    seed: int
    heldout: float
    """Share of the held-out rows that are right."""
    calls: int
    """Of the task model."""
    repeats: int
    """Task calls that asked what had been asked before."""
    reflections: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Setting:
    """What every optimizer is given."""

    task: Task
    base_url: str
    rollouts: int

    def lm(self, model: str) -> Any:
        import dspy

        return dspy.LM(f"openai/{model}", api_base=self.base_url, api_key="none", cache=False, max_tokens=400)

    def program(self) -> Any:
        import dspy

        predict = dspy.Predict(dspy.Signature("input -> answer", SEED_PROMPT))
        predict.set_lm(self.lm(TASK))
        return predict

    def examples(self, rows: Sequence[Row]) -> list[Any]:
        import dspy

        return [dspy.Example(**row).with_inputs("input") for row in rows]

    def metric(self, gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
        import dspy

        value, feedback = self.task.score(gold.id, pred.answer)
        return dspy.Prediction(score=value, feedback=feedback)

    def plain_metric(self, gold: Any, pred: Any, trace: Any = None) -> float:
        """The same without feedback, which MIPROv2 does not read."""
        return self.task.score(gold.id, pred.answer)[0]


def ours(setting: Setting, folder: Path) -> Any:
    import promptopt

    train, val, _ = setting.task.split()
    optimizer = promptopt.DSPyOptimizer(
        metric=setting.metric,
        reflection_lm=setting.lm(REFLECT),
        budget=promptopt.Budget(rollouts=setting.rollouts),
        run_dir=folder / "run",
        seed=setting.task.seed,
        concurrency=THREADS,
    )
    return optimizer.compile(setting.program(), trainset=setting.examples(train), valset=setting.examples(val))


def gepa(setting: Setting, folder: Path) -> Any:
    import dspy

    train, val, _ = setting.task.split()
    optimizer = dspy.GEPA(
        metric=setting.metric,
        max_metric_calls=setting.rollouts,
        reflection_lm=setting.lm(REFLECT),
        num_threads=THREADS,
        seed=setting.task.seed,
        log_dir=str(folder / "gepa"),
    )
    return optimizer.compile(setting.program(), trainset=setting.examples(train), valset=setting.examples(val))


def mipro(setting: Setting, folder: Path) -> Any:
    import dspy

    train, val, _ = setting.task.split()
    trials = (setting.rollouts - BOOTSTRAPS - 3 * len(val)) // MINIBATCH
    optimizer = dspy.MIPROv2(
        metric=setting.plain_metric,
        prompt_model=setting.lm(REFLECT),
        task_model=setting.lm(TASK),
        auto=None,
        num_candidates=6,
        num_threads=THREADS,
        seed=setting.task.seed + 9,  # its default is 9, and it takes 0 for none
        log_dir=str(folder / "mipro"),
    )
    return optimizer.compile(
        setting.program(),
        trainset=setting.examples(train),
        valset=setting.examples(val),
        num_trials=max(1, trials),
        minibatch_size=MINIBATCH,
    )


OPTIMIZERS: Mapping[str, Callable[[Setting, Path], Any]] = {
    "promptopt": ours,
    "dspy.GEPA": gepa,
    "dspy.MIPROv2": mipro,
}


def run(name: str, seed: int, rollouts: int) -> Outcome:
    """One optimizer on one world, with an endpoint of its own."""
    import dspy

    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    task = Task(seed)
    with serving(seed) as base_url, tempfile.TemporaryDirectory() as folder:
        setting = Setting(task, base_url, rollouts)
        dspy.configure(lm=setting.lm(TASK))
        began = time.monotonic()
        best = OPTIMIZERS[name](setting, Path(folder))
        seconds = time.monotonic() - began
        traffic = traffic_at(base_url)
    instructions = best.predictors()[0].signature.instructions
    heldout = score(task, task.split()[2], lambda row: chat(instructions, row))
    calls, reflections = traffic.calls[TASK], traffic.calls[REFLECT]
    return Outcome(name, seed, heldout, calls, traffic.repeats, reflections, round(seconds, 1))


def table(outcomes: Sequence[Outcome]) -> Table:
    """Means over the seeds, the held-out score with its standard error."""
    shown = Table("optimizer", "held-out", "task calls", "repeats", "reflections", "seconds")
    for name in dict.fromkeys(outcome.name for outcome in outcomes):
        rows = [outcome for outcome in outcomes if outcome.name == name]
        scores = [row.heldout for row in rows]
        error = statistics.stdev(scores) / len(scores) ** 0.5 if len(scores) > 1 else 0.0
        counts = ("calls", "repeats", "reflections", "seconds")
        means = [f"{statistics.fmean(getattr(row, count) for row in rows):.0f}" for count in counts]
        shown.add_row(name, f"{statistics.fmean(scores):.3f} ± {error:.3f}", *means)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=seeds, default=range(5), metavar="A-B")
    parser.add_argument("--rollouts", type=int, default=600)
    parser.add_argument("--only", choices=OPTIMIZERS, help="one of the optimizers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every outcome here")
    options = parser.parse_args()
    names = [options.only] if options.only else list(OPTIMIZERS)
    outcomes = [run(name, seed, options.rollouts) for name in names for seed in options.seeds]
    if options.json:
        options.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    Console().print(table(outcomes))


if __name__ == "__main__":
    main()
