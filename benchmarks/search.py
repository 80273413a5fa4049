"""How much better a prompt gets with every rollout: ours beside gepa and a plain greedy loop, on the simulated task.

    python benchmarks/search.py [--ours] [--gepa] [--greedy] [--seeds 0-11] [--json FILE]
    python benchmarks/search.py --ablate                    # ours with one part off at a time, at 600 rollouts

Each seed is another world with 80 rows of train, 80 of val and 440 held out. Figures are means over the seeds, with
their standard error. Rollouts and reflections are what was truly spent.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

from contenders import Outcome, gepa, greedy, ours
from rich.console import Console
from rich.table import Table
from simtask import Task, serving

OURS, GEPA = (300, 600, 1200), (600, 1200, 2400, 4800)
ABLATED_AT = 600
EVERYTHING = 1e6


@dataclass(frozen=True, slots=True)
class Variant:
    """Ours with something changed."""

    strategy: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Settings of the strategy."""
    constants: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """`module.NAME` below promptopt.core, and the value it has instead."""

    @contextmanager
    def applied(self) -> Generator[None]:
        """Within it, the constants have the variant's values."""
        with ExitStack() as stack:
            for path, value in self.constants.items():
                stack.enter_context(patch(f"promptopt.core.{path}", value))
            yield


MODEL_FREE = ["tips", "demos", "bootstrap", "remove"]
ABLATIONS = {
    "ours": Variant(),
    "races over all of val, in random order": Variant(constants={"racing.ROOM": EVERYTHING, "racing.FIRST_LOOK": 0}),
    "no opening on failed rows": Variant(constants={"racing.FIRST_LOOK": 0}),
    "any lead wins": Variant(constants={"racing.AHEAD_Z": 0.0}),
    "a lead of a whole error wins": Variant(constants={"racing.AHEAD_Z": 1.0}),
    "evidence from any train row": Variant(
        constants={"strategies.minibatch.FAILED": 1.0, "strategies.minibatch.PASSED": 1.0}
    ),
    "one parent": Variant(constants={"strategies.reflective.OFF_LINE": 0.0}),
    "no scan": Variant({"operators": [*MODEL_FREE, "rules", "contrast", "rewrite", "shorten"]}),
    "no operator that needs no model": Variant({"operators": ["scan", "rules", "contrast", "rewrite", "shorten"]}),
    "rules alone": Variant({"operators": ["rules"]}),
    "rewrite alone": Variant({"operators": ["rewrite"]}),
    "pipeline 1": Variant({"pipeline": 1}),
    "pipeline 32": Variant({"pipeline": 32}),
    "rebase 8": Variant({"rebase": 8}),
    "minibatch 3": Variant({"minibatch": 3}),
    "select the best": Variant({"select": "best"}),
}
"""Ours with one part off, or set otherwise."""


Engine = Literal["ours", "gepa", "greedy"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One search on one seed."""

    name: str
    engine: Engine
    seed: int
    budget: int
    """Rollouts."""
    variant: Variant = Variant()

    def run(self) -> Outcome:
        task = Task(self.seed)
        if self.engine == "gepa":
            return gepa(task, self.budget)
        if self.engine == "greedy":
            return greedy(task, self.budget)
        with tempfile.TemporaryDirectory() as folder, serving(self.seed) as base_url, self.variant.applied():
            return ours(task, base_url, Path(folder) / "run", self.budget, self.variant.strategy)


def trials(options: argparse.Namespace) -> list[Trial]:
    """What the options ask for; all three searches where they name none."""
    if options.ablate:
        return [
            Trial(name, "ours", seed, budget, variant)
            for budget in options.rollouts or [ABLATED_AT]
            for name, variant in ABLATIONS.items()
            for seed in options.seeds
        ]
    budgets: dict[Engine, Sequence[int]] = {"ours": OURS, "greedy": OURS, "gepa": GEPA}
    engines: list[Engine] = [engine for engine in budgets if getattr(options, engine)] or [*budgets]
    return [
        Trial(engine, engine, seed, budget)
        for engine in engines
        for budget in options.rollouts or budgets[engine]
        for seed in options.seeds
    ]


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean with its standard error, which is NaN for a single value."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.fmean(values), error


def table(done: Iterable[tuple[Trial, Outcome]]) -> Table:
    grouped: defaultdict[tuple[str, int], list[Outcome]] = defaultdict(list)
    for trial, outcome in done:
        grouped[trial.name, trial.budget].append(outcome)
    shown = Table("search", "budget", "held out", "val", "rollouts", "at most", "reflections", "seeds")
    for column in shown.columns[1:]:
        column.justify = "right"
    for (name, budget), outcomes in grouped.items():
        mean, error = mean_and_error([outcome.heldout for outcome in outcomes])
        shown.add_row(
            name,
            f"{budget:,}",
            f"{mean:.3f} ± {error:.3f}",
            f"{statistics.fmean(outcome.val for outcome in outcomes):.3f}",
            f"{statistics.fmean(outcome.rollouts for outcome in outcomes):,.0f}",
            f"{max(outcome.rollouts for outcome in outcomes):,}",
            f"{statistics.fmean(outcome.reflections for outcome in outcomes):.1f}",
            f"{len(outcomes)}",
        )
    return shown


def seeds(text: str) -> range:
    """`0-11` or `3` as numbers."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for engine in ("ours", "gepa", "greedy"):
        parser.add_argument(f"--{engine}", action="store_true", help=f"only {engine}; may be combined")
    parser.add_argument("--ablate", action="store_true", help=f"ours with one part off, at {ABLATED_AT} rollouts")
    parser.add_argument("--seeds", type=seeds, default=range(12), metavar="A-B")
    parser.add_argument("--rollouts", type=int, nargs="+", metavar="N", help="budgets in place of the usual ones")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every trial here")
    options = parser.parse_args(arguments)

    todo = trials(options)
    console = Console(width=100)
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
        outcomes = list(with_bar(pool.map(Trial.run, todo), len(todo)))
    done = list(zip(todo, outcomes, strict=True))
    console.print(table(done))
    if options.json:
        rows = [asdict(trial) | asdict(outcome) for trial, outcome in done]
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def with_bar(outcomes: Iterable[Outcome], total: int) -> Iterable[Outcome]:
    """The same outcomes, with a bar on stderr while they come in."""
    from rich.progress import track

    return track(outcomes, "searching", total, console=Console(stderr=True), transient=True)


if __name__ == "__main__":
    main()
