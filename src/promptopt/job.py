"""A job: everything that one optimization needs, from a config file or from Python objects."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptopt.config import Config, group
from promptopt.config.identity import fingerprint
from promptopt.config.settings import BudgetSettings, RunSettings, StrategySettings
from promptopt.core import overlap
from promptopt.core.budget import Budget
from promptopt.core.candidate import Candidate, Component, Demo
from promptopt.core.example import Example
from promptopt.core.search import Strategy
from promptopt.core.selection import BYTES_A_TOKEN, prompt_tokens
from promptopt.core.split import Split, digest
from promptopt.core.strategies.drawing import OperatorPrior
from promptopt.core.strategies.racer import Limits, Task
from promptopt.data import split_of
from promptopt.errors import ConfigError, DataError
from promptopt.execute.user_code import source_hash
from promptopt.lm.pricing import check_model, price, require_price
from promptopt.lm.settings import ModelSettings
from promptopt.lm.spec import LM, agreed
from promptopt.method import STRATEGIES, Known, MakeStrategy, operators_named, strategy_named
from promptopt.metrics.build import AnyMetric, as_metric, build, models_in
from promptopt.metrics.metric import Metric
from promptopt.metrics.python import PythonMetric
from promptopt.programs.build import build as build_program
from promptopt.programs.program import Program, retrieves
from promptopt.reflect.operator import Operator
from promptopt.reflect.operators.rewrite import FullRewrite
from promptopt.reflect.proposer import ONLY_BOOTSTRAPPED, OPERATORS, USUAL

if TYPE_CHECKING:
    import dspy  # pyright: ignore[reportMissingTypeStubs]

Words = Mapping[str, Any]
"""What a group of a config says, from Python."""

MAX_PROMPT_TOKENS = 4000
"""Longest prompt, in estimated tokens, where the strategy names no limit."""


@dataclass(frozen=True)
class Job:
    """A program, its data, its metric, and how to search."""

    name: str
    program: Program
    split: Split
    metric: Metric
    reflection: LM | None
    template: str | None
    """What a full rewrite asks, in place of promptopt's own words."""
    strategy: StrategySettings
    make_strategy: MakeStrategy
    budget: Budget
    run: RunSettings
    directory: Path
    models: Mapping[str, ModelSettings]
    identity: Mapping[str, Any]
    """What decides the result; a run directory belongs to one identity."""
    base: Path = Path()
    """The folder that import paths are relative to."""
    start: Candidate | None = None
    """What the search starts from; None: the program as it is."""
    demos: Mapping[str, tuple[Demo, ...]] | None = None
    """By demo slot, the demos to choose from; None: those that train rows make."""

    @staticmethod
    def from_config(config: Config) -> Job:
        """Read the data and load the code that a config names. Raises ConfigError and DataError."""
        try:
            return Job._of(config)
        except ConfigError as error:
            raise config.located(error) from error

    @staticmethod
    def _of(config: Config) -> Job:
        program, metric = build_program(config.program, config.base), build(config.metric, config.base)
        reflection = LM(config.reflection.lm, **config.reflection.lm_args) if config.reflection else None
        job = Job(
            name=config.name,
            program=program,
            split=split_of(config.data, config.base, config.unanswered),
            metric=metric,
            reflection=reflection,
            template=config.reflection.template if config.reflection else None,
            strategy=config.strategy,
            make_strategy=strategy_named(config.strategy.name, config.base),
            budget=config.budget.caps,
            run=config.run,
            directory=config.run_dir,
            models=_models(program, metric, reflection, config.lms),
            identity=fingerprint(config),
            base=config.base,
        )
        job.check()
        return job

    @cached_property
    def baseline(self) -> Candidate:
        """What the search starts from: the program as it is, unless the job says otherwise."""
        return self.start or Candidate({component.name: component.text for component in self.program.components})

    @cached_property
    def labelled(self) -> Mapping[str, tuple[Demo, ...]]:
        """By demo slot, the demos to choose from: those that train rows make, unless the job brings others."""
        return self.demos or {
            slot: tuple(demo for row in self.split.train if (demo := self.program.labelled(slot, row)))
            for slot in self.program.demo_slots
        }

    @property
    def data(self) -> dict[str, Any]:
        """What the rows are, for recognising a run's data: sizes and content hashes."""
        return {name: {"rows": len(rows), "content": digest(rows)} for name, rows in self.split.parts.items()}

    @property
    def code(self) -> dict[str, str]:
        """Fingerprints of all that may be the user's own code, which change when it does."""
        own: dict[str, Any] = {
            name: type(operator) for name, (operator, _) in self.operators.items() if name not in OPERATORS
        }
        if self.make_strategy not in STRATEGIES.values():
            own["strategy"] = self.make_strategy
        hashes = {name: source_hash(code) for name, code in own.items()}
        return {"program": self.program.fingerprint, "metric": self.metric.fingerprint, **hashes}

    @property
    def splits(self) -> dict[str, str]:
        """The split of each example, by id."""
        return {example.id: name for name, rows in self.split.parts.items() for example in rows}

    @cached_property
    def lms(self) -> dict[str, LM]:
        """Every model that the job calls, by what for."""
        named = {"program": self.program.lm, "reflection": self.reflection}
        named |= {f"setting {i}": LM(name) for i, name in enumerate(self.strategy.settings.get("lm", ()), 1)}
        named |= {f"judge {i}": lm for i, lm in enumerate(models_in(self.metric), 1)}
        return {role: lm for role, lm in named.items() if lm is not None}

    def settings_of(self, model: str) -> ModelSettings:
        return self.models.get(model, ModelSettings())

    @cached_property
    def operators(self) -> Mapping[str, tuple[Operator, OperatorPrior]]:
        """The operators that can propose for this job, with what is believed of each."""
        named = self.named_operators
        usable = {name: (operator, prior) for name, (operator, prior) in named.items() if self._can_use(prior)}
        if not usable and not self.strategy.settings:
            raise ConfigError(
                "nothing can propose: give a reflection model, a program that takes demos, or other strategy.operators",
                key="strategy.operators",
            )
        if "bootstrap" in usable and self._unlabelled:
            operator, prior = usable["bootstrap"]
            usable["bootstrap"] = operator, replace(prior, wins=ONLY_BOOTSTRAPPED)
        return usable

    @cached_property
    def named_operators(self) -> Mapping[str, tuple[Operator, OperatorPrior]]:
        """Those and the others that it names: once a distillation's teacher has answered rows, more can be used."""
        uses: Sequence[str] = getattr(self.make_strategy, "uses", USUAL)
        programs: Known = getattr(self.program, "operators", {})
        named = operators_named(self.strategy.operators or uses, self.base, programs)
        if self.template and "rewrite" in named:
            named["rewrite"] = (FullRewrite(self.template), named["rewrite"][1])
        return named

    @cached_property
    def searched(self) -> Mapping[str, tuple[Any, ...]]:
        """The settings that are searched, with their values; what the program itself says comes first."""
        own = {"lm": self.program.lm.name, **self.program.lm.args} if self.program.lm else {}
        return {
            name: (own.get(name), *(value for value in values if value != own.get(name)))
            for name, values in self.strategy.settings.items()
        }

    @cached_property
    def teacher(self) -> Mapping[str, Any]:
        """Settings with which the reflection model runs the program; empty where nothing can be learned from that.

        So it is where that model is the program's own, and where labels say what every part should reply.
        """
        reflection, own = self.reflection, self.program.lm
        if reflection is None or own is None or not self._unlabelled:
            return {}
        same = reflection.name == self.baseline.settings.get("lm", own.name)
        return {} if same else {"lm": reflection.name, **reflection.args}

    @property
    def search_rollouts(self) -> int | None:
        """The search's share of the rollouts: the cap less the sealed test's."""
        cap = self.budget.rollouts
        return None if cap is None else cap - 2 * len(self.split.test)

    @property
    def priors(self) -> tuple[OperatorPrior, ...]:
        """What is believed of each operator."""
        return tuple(prior for _, prior in self.operators.values())

    def strategy_for_search(self) -> Strategy:
        """The strategy, ready to be asked."""
        settings = self.strategy
        limits = Limits(
            minibatch=settings.minibatch,
            block=settings.block,
            max_demos=settings.max_demos,
            max_bytes=BYTES_A_TOKEN * (settings.max_prompt_tokens or MAX_PROMPT_TOKENS),
            target=settings.target,
            patience=settings.patience,
            rollouts=self.search_rollouts,
            pool=settings.pool,
            objectives=tuple(settings.objectives),
        )
        task = Task(
            self.baseline, self._texts, self.labelled, self.split.train, self.split.val, self.searched, self.teacher
        )
        return self.make_strategy(task, self.priors, limits, self.run.seed)

    def check(self) -> None:
        """Raise ConfigError for everything that would fail later: placeholders, models, keys, prices, operators."""
        self.program.check(tuple(self.split.train[0].inputs))
        self._check_length()
        if not self._texts and not self.program.demo_slots:
            raise ConfigError("program.optimize names no component, so nothing can change", key="program.optimize")
        self.check_models()
        self._check_search()
        _ = self.operators

    def check_models(self) -> None:
        """Raise ConfigError for a model that cannot be called, or has no price under a dollar cap."""
        for name in {*(lm.name for lm in self.lms.values()), *getattr(self.program, "models", ())}:
            check_model(name, self.settings_of(name))
        callable_ones = [*(lm.name for lm in self.lms.values()), *(self.models if self.program.max_calls > 1 else ())]
        for name in callable_ones:
            require_price(name, self.settings_of(name), self.budget.usd is not None)
        self._check_names(callable_ones)

    def _check_search(self) -> None:
        """What only a joint search does is asked of no other strategy of ours; users' own see it in their task."""
        wanted, alone = self.strategy, StrategySettings()
        if self.make_strategy in [STRATEGIES[name] for name in ("reflective", "bootstrap", "hypotheses")]:
            for key in ("settings", "objectives"):
                if getattr(wanted, key) != getattr(alone, key):
                    raise ConfigError(
                        f"strategy.{key} is for a joint search: use strategy.name joint or reflective+joint",
                        key=f"strategy.{key}",
                    )
        if wanted.settings and self.program.lm is None:
            raise ConfigError(
                "strategy.settings are settings of the program's calls, but the program names no model (program.lm)",
                key="strategy.settings",
            )
        if "nearest" in (wanted.operators or ()) and not retrieves(self.program):
            raise ConfigError(
                "strategy.operators names nearest, which shows each input other demos; only a prompt can do that",
                key="strategy.operators",
            )
        for lm in self.lms.values() if "usd" in wanted.objectives else ():
            if price(lm.name, self.settings_of(lm.name)) is None:
                raise ConfigError(
                    f"strategy.objectives names usd, but the price of {lm.name} is not known. Give it in dollars per "
                    f"million tokens as lms.{lm.name}.price: {{input: ..., output: ...}}.",
                    key="strategy.objectives",
                )

    def _check_length(self) -> None:
        limit = self.strategy.max_prompt_tokens or MAX_PROMPT_TOKENS
        if (long := prompt_tokens(self.baseline)) > limit:
            raise ConfigError(
                f"strategy.max_prompt_tokens is {limit:,}, but the starting prompt has about {long:,} tokens already",
                key="strategy.max_prompt_tokens",
            )

    def _check_names(self, called: Sequence[str]) -> None:
        """A name in `lms` that no part calls is a typo when it is close to one that has no entry."""
        for name in self.models.keys() - set(called):
            near = get_close_matches(name, [model for model in called if model not in self.models], 1, 0.8)
            if near:
                raise ConfigError(f"lms.{name} is not a model of this job. Did you mean {near[0]}?", key=f"lms.{name}")

    def _can_use(self, prior: OperatorPrior) -> bool:
        if prior.name in ("demos", "bootstrap", "teacher", "nearest"):
            needs = {"demos": any(self.labelled.values()), "teacher": self.teacher, "nearest": retrieves(self.program)}
            return bool(self.program.demo_slots and needs.get(prior.name, True) and self.strategy.max_demos > 0)
        if prior.name == "contrast" and not any(row.expected is not None for row in self.split.train):
            return False
        return bool(self._texts) and (self.reflection is not None or not prior.asks)

    @property
    def _unlabelled(self) -> bool:
        """Whether a demo slot has no labelled demos, as that of a step between others."""
        return not all(map(self.labelled.get, self.program.demo_slots))

    @property
    def _texts(self) -> tuple[Component, ...]:
        """The components that may change."""
        return tuple(component for component in self.program.components if component.optimize)


def from_objects(
    program: Program,
    data: Split,
    metric: AnyMetric,
    *,
    reflection: LM | str | dspy.BaseLM | None,
    budget: Budget | Words,
    strategy: StrategySettings | Words | MakeStrategy | None,
    run: RunSettings | Words | None,
    lms: Mapping[str, ModelSettings | Words] | None = None,
) -> Job:
    """The job that Python objects, and words as in YAML, describe. Raises ConfigError for what cannot work."""
    make_strategy = strategy if callable(strategy) else None
    strategy = group(StrategySettings, None if callable(strategy) else strategy, "strategy")
    run = group(RunSettings, run, "run")
    budget = budget if isinstance(budget, Budget) else group(BudgetSettings, budget, "budget").caps
    metric = as_metric(metric, of_function=getattr(program, "metric_of", PythonMetric))
    reflection = None if reflection is None else LM.of(reflection)
    if not _caps(budget):
        raise ConfigError("budget needs at least one cap: rollouts, calls, tokens, usd or minutes", key="budget")
    _check_split(data)
    narrowed: Callable[[Example], Example] | None = getattr(program, "narrowed", None)
    if narrowed is not None:
        data = replace(data, **{name: tuple(map(narrowed, part)) for name, part in data.parts.items()})
    said = {name: group(ModelSettings, settings, f"lms.{name}") for name, settings in (lms or {}).items()}
    known = _models(program, metric, reflection, said)
    texts = {component.name: [component.text, component.optimize] for component in program.components}
    identity = {
        "program": {"fingerprint": program.fingerprint, "components": texts},
        "metric": metric.fingerprint,
        "reflection": [reflection.name, reflection.args] if reflection else None,
        "strategy": strategy.model_dump(mode="json"),
        "budget": {name: str(cap) for name, cap in _caps(budget).items()},
        "run": {"seed": run.seed},
        "lms": {name: [settings.max_tokens, settings.json_schema] for name, settings in known.items()},
    }
    job = Job(
        name="python",
        program=program,
        split=data,
        metric=metric,
        reflection=reflection,
        template=None,
        strategy=strategy,
        make_strategy=make_strategy or strategy_named(strategy.name, Path()),
        budget=budget,
        run=run,
        directory=Path(run.dir or "runs/python"),
        models=known,
        identity=json.loads(json.dumps(identity, default=str)),
    )
    job.check()
    return job


def _models(
    program: Program, metric: Metric, reflection: LM | None, given: Mapping[str, ModelSettings]
) -> dict[str, ModelSettings]:
    """What the job's own objects say of its models, changed by what is `given` for them."""
    taken_over: Mapping[str, ModelSettings] = getattr(program, "models", {})
    lms = [lm for lm in (program.lm, reflection, *models_in(metric)) if lm is not None]
    known = agreed([*taken_over.items(), *((lm.name, lm.settings) for lm in lms if lm.settings is not None)])
    return known | {name: known[name].changed_by(said) if name in known else said for name, said in given.items()}


def _check_split(split: Split) -> None:
    """That no row both teaches and judges must hold for a split that was made by hand too."""
    parts = (split.train, split.val, split.test)
    ids = {example.id for part in parts for example in part}
    if not split.train or not split.val:
        raise DataError("train and val need rows")
    if len(ids) < sum(map(len, parts)) or overlap.exact(parts):
        raise DataError("train, val and test share rows or ids; make the split with Dataset.split or Split.given")


def _caps(budget: Budget) -> dict[str, Any]:
    caps = {name: getattr(budget, name) for name in ("rollouts", "calls", "tokens", "usd", "minutes")}
    return {name: cap for name, cap in caps.items() if cap is not None}
