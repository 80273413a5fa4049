"""Rollouts until a planted best combination is found: ours beside plain Optuna and MIPROv2's search.

    python benchmarks/joint.py [--ours] [--optuna] [--mipro] [--seeds 0-11]

A surface has 8 instructions, 8 demo sets and 3 temperatures, 192 combinations. Each choice has an effect on how likely
a row is right, each pair of choices one of its own, and one combination is planted as the best. A rollout is right or
wrong by a draw that depends on the combination and the row alone. All searches choose among the same 192, on the same
100 rows of val, and repeated rollouts are free for all of them. The figure is how many seeds recommend the planted
combination after so many rollouts.

MIPROv2 searches no settings: its temperature is the instruction of a second predictor, so that it sees three choices
as well. It begins with these candidates, as ours does; what it costs to propose them is counted for neither.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.table import Table

import promptopt
from promptopt.core.candidate import Candidate, Component, Demo
from promptopt.core.edit import Brief, Edit, Rewrite, SetDemos
from promptopt.core.example import Example
from promptopt.core.split import Split
from promptopt.core.strategies.drawing import OperatorPrior
from promptopt.execute.progress import Silent
from promptopt.lm.session import Session

TEXTS = tuple(f"Instruction {number}." for number in range(8))
DEMOS = ((), *(tuple(Demo(f"d{number}-{i}", {"x": str(i)}, "y") for i in range(4)) for number in range(1, 8)))
TEMPERATURES = (0.0, 0.3, 0.7)
VAL = 100
ROWS = tuple(f"v{number}" for number in range(VAL))
BUDGETS = (500, 1000, 2000, 4000, 8000)
OURS = (500, 1000, 2000)
LEAD = 0.8
"""Log-odds by which the planted combination is ahead of the next: about 0.1 of the score."""
MINIBATCH, FULL_EVERY = 35, 5
"""MIPROv2's defaults."""

Combination = tuple[int, int, int]
"""The numbers of the instruction, the demo set and the temperature."""


@dataclass(frozen=True)
class Surface:
    """How likely each combination is right on each row."""

    seed: int

    @cached_property
    def planted(self) -> Combination:
        rng = Random(f"{self.seed}/planted")
        return rng.randrange(1, len(TEXTS)), rng.randrange(1, len(DEMOS)), rng.randrange(1, len(TEMPERATURES))

    @cached_property
    def quality(self) -> Mapping[Combination, float]:
        """Each combination's log-odds on a row of average difficulty."""
        rng = Random(f"{self.seed}/effects")
        best = self.planted
        sizes = (len(TEXTS), len(DEMOS), len(TEMPERATURES))
        spread = ((-1.0, 0.6, 0.9), (-1.0, 0.6, 0.9), (-0.5, 0.2, 0.5))
        main = [
            [top if choice == best[place] else rng.uniform(low, high) for choice in range(size)]
            for place, (size, (low, high, top)) in enumerate(zip(sizes, spread, strict=True))
        ]
        pairs = {
            (first, second, i, j): rng.gauss(0, 0.35)
            for first, second in ((0, 1), (0, 2), (1, 2))
            for i in range(sizes[first])
            for j in range(sizes[second])
        }
        every = [(i, j, k) for i in range(sizes[0]) for j in range(sizes[1]) for k in range(sizes[2])]
        plain = {
            one: -0.8
            + sum(main[place][choice] for place, choice in enumerate(one))
            + sum(pairs[first, second, one[first], one[second]] for first, second in ((0, 1), (0, 2), (1, 2)))
            for one in every
        }
        return {**plain, best: LEAD + max(plain.values())}

    @cached_property
    def difficulty(self) -> Mapping[str, float]:
        """Of each row of val, in log-odds."""
        return {row: Random(f"{self.seed}/{row}").gauss(0, 1) for row in ROWS}

    def right(self, combination: Combination, row: str) -> float:
        """1.0 or 0.0, always the same for the same combination and row."""
        likely = 1 / (1 + math.exp(self.difficulty[row] - self.quality[combination]))
        digest = hashlib.blake2b(f"{self.seed}/{combination}/{row}".encode(), digest_size=8).digest()
        return float(int.from_bytes(digest, "big") / 2**64 < likely)


@dataclass
class Count:
    """The rollouts of one search on a surface, each paid for once."""

    surface: Surface
    known: dict[tuple[Combination, str], float] = field(default_factory=dict[tuple[Combination, str], float])

    def mean(self, combination: Combination, rows: Iterable[str]) -> float:
        scores = [self.known.setdefault((combination, row), self.surface.right(combination, row)) for row in rows]
        return sum(scores) / len(scores)


Trace = list[tuple[int, Combination]]
"""What a search recommends once it has spent so many rollouts, for those that could be stopped at any time."""


def plain_optuna(surface: Surface, most: int) -> Trace:
    """TPE as it comes, every trial on all of val."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(multivariate=True, seed=surface.seed)
    )
    count, trace = Count(surface), Trace()
    names = {"text": len(TEXTS), "demos": len(DEMOS), "temperature": len(TEMPERATURES)}
    for _ in range(most):
        if len(count.known) >= most:
            break
        trial = study.ask()
        i, j, k = (trial.suggest_categorical(name, range(size)) for name, size in names.items())
        study.tell(trial, count.mean((i, j, k), ROWS))
        best = study.best_params
        trace.append((len(count.known), (best["text"], best["demos"], best["temperature"])))
    return trace


def mipro(surface: Surface, most: int) -> Trace:
    """MIPROv2's own search over the same choices; it recommends the best of those it ran on all of val."""
    import logging

    import dspy

    logging.getLogger("dspy").setLevel(logging.ERROR)

    class Pipeline(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.answer = dspy.Predict(dspy.Signature("x -> y", TEXTS[0]))
            self.temperature = dspy.Predict(dspy.Signature("x -> y", str(TEMPERATURES[0])))

    def combination(program: Any) -> Combination:
        text = TEXTS.index(program.answer.signature.instructions)
        return (
            text,
            DEMOS.index(tuple(program.answer.demos)),
            TEMPERATURES.index(float(program.temperature.signature.instructions)),
        )

    count, trace = Count(surface), Trace()
    full: dict[Combination, float] = {}

    def evaluate(program: Any, devset: Sequence[str], callback_metadata: Any = None) -> Any:
        one = combination(program)
        score = count.mean(one, devset)
        if len(devset) == VAL:
            full[one] = score
            trace.append((len(count.known), max(full, key=lambda found: full[found])))
        return dspy.Prediction(score=100 * score)

    search = dspy.MIPROv2(metric=lambda *_: 0.0, prompt_model="none", task_model="none", auto=None, seed=surface.seed)
    search._set_random_seeds(surface.seed)
    trials = most // (MINIBATCH + VAL // FULL_EVERY)
    search._optimize_prompt_parameters(
        Pipeline(),
        {0: list(TEXTS), 1: [str(value) for value in TEMPERATURES]},
        {0: [list(demos) for demos in DEMOS], 1: [[]]},
        evaluate,
        list(ROWS),
        trials,
        True,
        MINIBATCH,
        FULL_EVERY,
        surface.seed,
    )
    return trace


class Texts:
    """Proposes the surface's instructions, one after the other."""

    prior = OperatorPrior("texts", 0.4, 1.0, needs_evidence=False, asks=False)

    def draw(self, brief: Brief) -> Edit:
        return Rewrite("text", TEXTS[1 + (brief.seed[1] - 1) // 2 % 7], brief.component.text)


class DemoSets:
    """Proposes the surface's demo sets, one after the other."""

    prior = OperatorPrior("sets", 0.4, 1.0, needs_evidence=False, asks=False, demos=True)

    def draw(self, brief: Brief) -> Edit:
        return SetDemos("slot", DEMOS[1 + (brief.seed[1] - 1) // 2 % 7])


@dataclass
class Simulated:
    """A program that answers as the surface says, without any call."""

    surface: Surface
    components = (Component("text", TEXTS[0]),)
    demo_slots = ("slot",)
    lm = promptopt.LM("openai/none", settings={"api_base": "http://127.0.0.1:9"}, temperature=0.0)
    max_calls = 1

    @property
    def fingerprint(self) -> str:
        return f"surface {self.surface.seed}"

    def check(self, columns: Sequence[str]) -> None: ...

    def labelled(self, slot: str, example: Example) -> Demo | None:
        return None

    def preview(self, candidate: Candidate, example: Example) -> None:
        return None

    async def run(self, candidate: Candidate, example: Example, lm: Session) -> float:
        return self.surface.right(combination_of(candidate), example.id)


def combination_of(candidate: Candidate) -> Combination:
    demos = candidate.demos.get("slot", ())
    temperature = TEMPERATURES.index(candidate.settings.get("temperature", TEMPERATURES[0]))
    return TEXTS.index(candidate.components["text"]), DEMOS.index(demos), temperature


def ours(surface: Surface, rollouts: int) -> Combination:
    """A whole run of ours, which recommends the champion of val."""
    here = Path(__file__)
    with tempfile.TemporaryDirectory() as folder:
        result = promptopt.optimize(
            Simulated(surface),
            Split.given(
                tuple(Example(f"t{number}", {"x": f"t{number}"}) for number in range(8)),
                tuple(Example(row, {"x": row}) for row in ROWS),
            ),
            lambda example, output: output,
            budget={"rollouts": rollouts},
            strategy={
                "name": "joint",
                "pool": 7,
                "operators": [f"{here}:Texts", f"{here}:DemoSets"],
                "settings": {"temperature": list(TEMPERATURES)},
                "select": "best",
            },
            run={"dir": folder, "seed": surface.seed},
            watch=Silent(),
        )
    return combination_of(result.best)


def at(trace: Trace, rollouts: int) -> Combination | None:
    """What was recommended once `rollouts` were spent."""
    return next((found for spent, found in reversed(trace) if spent <= rollouts), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for arm in ("ours", "optuna", "mipro"):
        parser.add_argument(f"--{arm}", action="store_true", help=f"only {arm}, and the others named")
    parser.add_argument("--seeds", default="0-11")
    options = parser.parse_args()
    low, _, high = options.seeds.partition("-")
    seeds = range(int(low), int(high or low) + 1)
    arms: dict[str, Callable[[Surface], list[Combination | None]]] = {
        "ours": lambda surface: [ours(surface, budget) for budget in OURS],
        "optuna": lambda surface: [at(plain_optuna(surface, BUDGETS[-1]), budget) for budget in BUDGETS],
        "mipro": lambda surface: [at(mipro(surface, BUDGETS[-1]), budget) for budget in BUDGETS],
    }
    named = [arm for arm in arms if getattr(options, arm)] or list(arms)
    table = Table("search", *(f"{budget:,}" for budget in BUDGETS), title=f"seeds of {len(seeds)} that found it")
    for arm in named:
        found = [0] * len(OURS if arm == "ours" else BUDGETS)
        for seed in seeds:
            surface = Surface(seed)
            for place, one in enumerate(arms[arm](surface)):
                found[place] += one == surface.planted
        table.add_row(arm, *map(str, found))
    Console().print(table)


if __name__ == "__main__":
    main()
