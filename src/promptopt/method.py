"""How a job searches: its strategy and its operators, built in or the user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from promptopt.core.search import Strategy
from promptopt.core.strategies.bootstrap import Bootstrap
from promptopt.core.strategies.drawing import OperatorPrior
from promptopt.core.strategies.hypotheses import Hypotheses
from promptopt.core.strategies.joint import Joint, ReflectiveJoint
from promptopt.core.strategies.racer import Limits, Task
from promptopt.core.strategies.reflective import Reflective
from promptopt.errors import ConfigError, did_you_mean
from promptopt.execute.user_code import load
from promptopt.reflect.operator import Asked, Drawn, Operator
from promptopt.reflect.proposer import OPERATORS

MakeStrategy = Callable[[Task, Sequence[OperatorPrior], Limits, int], Strategy]
"""A strategy's class: it is given the task, what is believed of the operators, the limits, and the run's seed."""

STRATEGIES: Mapping[str, MakeStrategy] = {
    "reflective": Reflective,
    "joint": Joint,
    "reflective+joint": ReflectiveJoint,
    "bootstrap": Bootstrap,
    "hypotheses": Hypotheses,
}
"""Every strategy by its name in `strategy.name`."""


def strategy_named(name: str, base: Path) -> MakeStrategy:
    """The strategy of that name, or the class that an import path such as `my_search.py:Mine` names.

    Raises ConfigError when there is none.
    """
    if name in STRATEGIES:
        return STRATEGIES[name]
    if ":" in name:
        return load(name, base)
    raise _unknown("strategy.name", name, STRATEGIES)


Known = Mapping[str, tuple[Operator, OperatorPrior]]
"""Operators by name, with what is believed of each before its first try."""


def operators_named(names: Iterable[str], base: Path, programs: Known) -> dict[str, tuple[Operator, OperatorPrior]]:
    """The operators of these names: built in, a user's, or one of those that the program brings along.

    A user's own is named by an import path; its class has a `prior` beside `draw`, or beside `ask` and `read`.
    Raises ConfigError when there is none of the name, or it is no operator.
    """
    found: dict[str, tuple[Operator, OperatorPrior]] = {}
    for name in names:
        if name in OPERATORS:
            make, prior = OPERATORS[name]
            found[name] = (make(), prior)
        elif name in programs:
            found[name] = programs[name]
        elif ":" in name:
            operator: object = load(name, base)()
            prior = getattr(operator, "prior", None)
            if not isinstance(operator, Drawn | Asked) or not isinstance(prior, OperatorPrior):
                raise ConfigError(
                    f"strategy.operators: {name} needs a `prior` (an OperatorPrior) and either draw(brief) or "
                    "ask(brief) and read(answer, brief)",
                    key="strategy.operators",
                )
            found[prior.name] = (operator, prior)
        else:
            raise _unknown("strategy.operators", name, [*OPERATORS, *programs])
    return found


def _unknown(key: str, name: str, known: Iterable[str]) -> ConfigError:
    hint = did_you_mean(name, known)
    return ConfigError(f"{key}: there is no {name!r}. {hint} Your own goes by a path such as my_file.py:Name.", key=key)
