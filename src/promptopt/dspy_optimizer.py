"""The engine as one of DSPy's optimizers: change one line of a DSPy script, keep the rest."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import dspy  # pyright: ignore[reportMissingTypeStubs]
from dspy.teleprompt import Teleprompter  # pyright: ignore[reportMissingTypeStubs]

from promptopt.api import optimize_job
from promptopt.config.settings import StrategySettings
from promptopt.core.budget import Budget
from promptopt.core.record import examples_of
from promptopt.core.split import Split, given, split
from promptopt.errors import ConfigError
from promptopt.job import Job, from_objects
from promptopt.lm.spec import LM
from promptopt.method import MakeStrategy
from promptopt.metrics.build import AnyMetric
from promptopt.programs.dspy_module import DSPyModule
from promptopt.running import shown

logger = logging.getLogger(__name__)

FOLDER = Path("runs")
"""Where runs without a `run_dir` are kept."""


class DSPyOptimizer(Teleprompter):
    """Optimizes a DSPy module as `dspy.GEPA` or `dspy.MIPROv2` would be asked to, with everything this engine promises.

    ```python
    optimizer = promptopt.DSPyOptimizer(metric=metric, reflection_lm=strong, budget=promptopt.Budget(rollouts=600))
    better = optimizer.compile(student, trainset=trainset, valset=valset, testset=testset)
    better.save("better.json")
    ```
    `metric` is a DSPy metric (see `metrics.dspy_metric.DSPyMetric`), or the name or mapping of a built-in one. Without
    a `reflection_lm` only the operators that need no model run. `strategy` says what a config says under `strategy:`,
    or is a class of your own. `optimize` names what may change: instructions, demos, fields and tools.

    Without a `run_dir` a run gets a folder below `runs/` that is named after all that decides its result: the same
    `compile` again is read from there and pays for nothing, and one that was interrupted goes on.
    """

    def __init__(
        self,
        *,
        metric: AnyMetric,
        reflection_lm: str | LM | dspy.LM | None = None,
        budget: Budget | Mapping[str, Any],
        run_dir: str | Path | None = None,
        seed: int = 0,
        concurrency: int = 8,
        strategy: StrategySettings | Mapping[str, Any] | MakeStrategy | None = None,
        optimize: Sequence[str] = ("instructions", "demos"),
        max_calls: int = 32,
    ) -> None:
        super().__init__()
        self.metric = metric
        self.reflection_lm = reflection_lm
        self.budget = budget
        self.run_dir = run_dir
        self.seed = seed
        self.concurrency = concurrency
        self.strategy = strategy
        self.optimize = optimize
        self.max_calls = max_calls

    def compile(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        student: dspy.Module,
        *,
        trainset: Sequence[dspy.Example],
        teacher: dspy.Module | None = None,
        valset: Sequence[dspy.Example] | None = None,
        testset: Sequence[dspy.Example] | None = None,
    ) -> dspy.Module:
        """A copy of `student` with better texts and demos, and the run's Result as `.promptopt`.

        Its LMs are as they were, but predictors that searched settings are about get a copy of theirs with them.

        Without a `valset` half of `trainset`, drawn by the seed, selects. With a `testset` the copy is what the verdict
        recommends: `student` as it is, unless the test proves a gain. Without one it is the champion of `valset`, and
        the verdict says that nothing was proved.

        Raises UserError before anything is spent, and RunError when the run cannot go on; `compile` again resumes it.
        """
        if teacher is not None:
            raise ConfigError(
                "DSPyOptimizer has no use for a teacher: demos come from the student's own right rollouts"
            )
        program = DSPyModule(student, optimize=self.optimize, max_calls=self.max_calls)
        job = self._job(program, self._split(trainset, valset, testset))
        with shown(None, job.name) as display:
            result = optimize_job(job, display)
        module = program.build(result.recommended if testset else result.best)
        cast(Any, module).promptopt = result
        return module

    def _job(self, program: DSPyModule, data: Split) -> Job:
        job = from_objects(
            program,
            data,
            self.metric,
            reflection=self.reflection_lm,
            budget=self.budget,
            strategy=self.strategy,
            run={"seed": self.seed, "concurrency": self.concurrency},
        )
        name = type(program.student).__name__
        return replace(job, name=name, directory=Path(self.run_dir) if self.run_dir else _folder(name, job))

    def _split(
        self,
        trainset: Sequence[dspy.Example],
        valset: Sequence[dspy.Example] | None,
        testset: Sequence[dspy.Example] | None,
    ) -> Split:
        if valset is not None:
            return Split.given(trainset, valset, testset)
        rows = examples_of(trainset)
        halves = split(rows, train=0.5, val=0.5, test=0, seed=self.seed)
        parts = given(halves.train, halves.val, examples_of(testset or ()))
        logger.warning("no valset: %d rows of trainset teach, %d select", len(parts.train), len(parts.val))
        return replace(parts, duplicates=halves.duplicates, warnings=(*halves.warnings, *parts.warnings))


def _folder(name: str, job: Job) -> Path:
    """A folder for everything that has the same result."""
    content = json.dumps([job.identity, job.code, job.data], sort_keys=True, default=str)
    return FOLDER / f"{name}-{hashlib.blake2b(content.encode(), digest_size=6).hexdigest()}"
