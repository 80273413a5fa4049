"""What a DSPy module holds decides whether a run is the same; how it was made, and what ran before, does not."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache, cached_property, partial
from pathlib import Path
from queue import Queue
from typing import Any

import dspy
import numpy as np
import pydantic
import pytest

from dspy_world import dspy_model, lm_at, run, unused
from promptopt.programs.dspy_module import DSPyModule
from promptopt.testing.faulty import FaultyServer


class Holder(dspy.Module):
    """Holds something besides its predictor."""

    def __init__(self, **held: Any) -> None:
        self.step = dspy.Predict("question -> answer")
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, question: str) -> dspy.Prediction:
        return self.step(question=question)


class Settings(pydantic.BaseModel):
    weights: dict[str, float] = {}


@dataclass
class Node:
    name: str
    beside: list[Node] = field(default_factory=list["Node"])


class Retriever:
    def __init__(self, documents: Any, api_key: str = "", seen: int = 0) -> None:
        self.documents, self.api_key, self._seen, self.lock = documents, api_key, seen, threading.Lock()

    @cached_property
    def longest(self) -> str:
        return max(self.documents, key=len)

    def search(self, question: str) -> Any:
        """Finds documents."""
        return self.documents


class Slotted:
    __slots__ = ("k",)

    def __init__(self, k: int) -> None:
        self.k = k


def reward_yes(_args: Any, _pred: Any) -> float:
    return 1.0


def reward_no(_args: Any, _pred: Any) -> float:
    return 0.0


def above(limit: Any) -> Callable[..., bool]:
    return lambda _args, pred: pred > limit


def prints(**held: Any) -> str:
    return printed(Holder(**held))


def printed(module: dspy.Module) -> str:
    return DSPyModule(module, lm=unused()).fingerprint


HELD: dict[str, Callable[[int], Any]] = {
    "a number": lambda n: n,
    "a dict": lambda n: {"red": {"x": [n]}},
    "a dict by its keys' types": lambda n: {[1, "1"][n]: "x"},
    "a tuple": lambda n: ("x", (n,)),
    "a set": lambda n: {"x", "y", ("z", n)},
    "a frozenset in a list": lambda n: [frozenset({str(n)})],
    "bytes": lambda n: bytes([n]),
    "a dataclass": lambda n: Node("x", [Node("y", [Node("z", [Node("w", [Node(str(n))])])])]),
    "a pydantic model": lambda n: Settings(weights={"x": n}),
    "an example": lambda n: [dspy.Example(question="?", answer=str(n))],
    "a signature": lambda n: dspy.Signature("question -> answer", ["Answer.", "Reply."][n]),
    "a function": lambda n: [reward_no, reward_yes][n],
    "a lambda on the same line": lambda n: [lambda x: x < 1, lambda x: x > 1][n],
    "a closure": lambda n: above({"limit": n}),
    "a closure in a closure": lambda n: above(above(n)),
    "a default": lambda n: lambda x=n: x,
    "a partial function": lambda n: partial(reward_no, _pred=n),
    "a cached function": lambda n: cache(above(n)),
    "a bound method": lambda n: Retriever([n]).search,
    "an object": lambda n: Retriever({"x": [n]}),
    "an object in an object": lambda n: Retriever(Retriever(np.array([0.5, n]))),
    "an object with slots": lambda n: Slotted(n),
    "an array": lambda n: np.array([[0.5, n]]),
    "a pattern": lambda n: re.compile(f"a{n}"),
    "a decimal": lambda n: Decimal(n),
    "a path": lambda n: Path(str(n)),
    "a tool's table": lambda n: dspy.Tool(Retriever([n]).search),
}


@pytest.mark.parametrize("what", HELD)
def test_what_a_module_holds_is_part_of_the_program(what: str) -> None:
    make = HELD[what]
    assert prints(held=make(0)) == prints(held=make(0))
    assert prints(held=make(0)) != prints(held=make(1))


@pytest.mark.parametrize("kind", [dspy.BestOfN, dspy.Refine])
def test_another_reward_function_is_another_program(kind: Any) -> None:
    def made(reward: Any) -> str:
        return printed(kind(dspy.Predict("question -> answer"), N=2, reward_fn=reward, threshold=1.0))

    assert made(reward_yes) == made(reward_yes)
    assert made(reward_yes) != made(reward_no)


def test_a_function_with_a_version_is_known_by_it() -> None:
    def versioned(limit: int, version: str) -> Any:
        function = above(limit)
        function.version = version  # type: ignore[attr-defined]
        return function

    assert prints(held=versioned(1, "1")) == prints(held=versioned(2, "1"))
    assert prints(held=versioned(1, "1")) != prints(held=versioned(1, "2"))


def test_keys_private_names_caches_and_what_dspy_keeps_are_not() -> None:
    used = Retriever(["x"], api_key="sk-2", seen=5)
    assert used.longest
    module = Holder(held=used, token="t", _cache={"x": 1})
    module.history.append({"prompt": "?"})
    module.callbacks.append(object())
    module.promptopt = object()
    assert printed(module) == prints(held=Retriever(["x"], api_key="sk-1"))
    assert prints(held=dspy.Retrieve(k=3)) == prints(held=dspy.Retrieve(k=3))  # which draws its `stage` by chance


async def test_running_a_module_changes_nothing() -> None:
    student = Holder(seen=[], search=Retriever(["x"]))
    async with FaultyServer(dspy_model()) as server:
        program = DSPyModule(student, lm=lm_at(server))
        before = program.fingerprint
        await run(program, {"question": "What is 3 plus 4?"})
        with dspy.context(lm=lm_at(server)):
            await asyncio.to_thread(student, question="What is 3 plus 4?")
    assert program.fingerprint == before


def test_no_text_in_a_container_can_be_read_from_it() -> None:
    assert "hidden" not in prints(headers={"Authorization": "hidden"}, held=Retriever(["hidden"]))


def test_what_cannot_be_copied_and_what_holds_itself_is_no_hindrance() -> None:
    def odd() -> Any:
        loop: list[Any] = [threading.Lock(), Queue(), sys, len, object(), iter(()), (n for n in "ab")]
        loop.append({"loop": loop})
        return loop

    assert prints(held=odd()) == prints(held=odd())


def test_a_graph_is_read_once_and_not_path_by_path() -> None:
    def graph(name: str) -> list[Node]:
        nodes = [Node("x") for _ in range(40)] + [Node(name)]
        for node in nodes:
            node.beside = nodes
        return nodes

    assert prints(held=graph("x")) == prints(held=graph("x")) != prints(held=graph("y"))


def test_it_is_the_same_in_every_process() -> None:
    code = "import test_dspy_content as t; print(t.prints(held=[make(0) for make in t.HELD.values()]))"
    folders = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent), *sys.path])
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": folders, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
