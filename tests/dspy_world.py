"""A simulated model that speaks DSPy's three adapters, and modules of many shapes that it can serve.

It reads which output fields the adapter asks for, works each out from the last user message, and answers in the form
that was asked for: sections, JSON or XML. Questions are sums such as `3 plus 4`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

import dspy
import pydantic
from aiohttp import web

from promptopt.core.budget import Budget
from promptopt.core.candidate import Candidate
from promptopt.core.example import Example
from promptopt.core.rollout import Invocation, Turn
from promptopt.lm.gateway import Gateway
from promptopt.lm.message import Scope
from promptopt.lm.session import Session
from promptopt.programs.dspy_module import DSPyModule
from promptopt.testing.books import MemoryBook
from promptopt.testing.faulty import Behaviour, Body, FaultyServer, completion, used
from world import rows

KEY = "sk-loopback-0123456789abcdef"
SOMEWHERE = "http://127.0.0.1:9/v1"
ADAPTERS = {"chat": dspy.ChatAdapter, "json": dspy.JSONAdapter, "xml": dspy.XMLAdapter}
Brain = Callable[[str, str, str], Any]
"""A field's value, from the field's name, the system message and the last user message."""


def think(field: str, system: str, user: str) -> Any:
    """What the model knows about every field that the modules below ask for."""
    found = re.search(r"(\d+) plus (\d+)", user)
    total = int(found[1]) + int(found[2]) if found else 0
    seen = "observation_0" in user
    return {
        "answer": total,
        "reasoning": f"{total} it is",
        "parity": "even" if total % 2 == 0 else "odd",
        "sum": {"total": total, "terms": [int(found[1]), int(found[2])] if found else []},
        "confidence": 0.5,
        "note": f"noted {total}",
        "next_thought": "look it up" if not seen else "I have it",
        "next_tool_name": "finish" if seen else "add",
        "next_tool_args": {} if seen else {"a": int(found[1]), "b": int(found[2])} if found else {},
    }[field]


def say(body: Body, brain: Brain = think) -> str:
    """The model's reply, in the form of the adapter that asks."""
    messages = body["messages"]
    system, user = str(messages[0]["content"]), str(messages[-1]["content"])
    asked = re.search(r"Your output fields are:\n(.*?)\nAll interactions", system, re.DOTALL)
    assert asked is not None, system
    fields = {name: brain(name, system, user) for name in re.findall(r"^\d+\. `(\w+)`", asked[1], re.MULTILINE)}
    if "Outputs will be a JSON object" in system:
        return json.dumps(fields)
    written = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    if "[[ ## completed ## ]]" in system:
        return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in written.items())
    return "\n".join(f"<{name}>\n{value}\n</{name}>" for name, value in written.items())


def dspy_model(brain: Brain = think, seconds: float = 0.0) -> Behaviour:
    """The endpoint's behaviour; each call takes `seconds`."""

    async def behave(_request: web.Request, body: Body) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.json_response(completion(say(body, brain), usage=used(10, 5)))

    return behave


def lm_at(server: FaultyServer, name: str = "openai/sim", **kwargs: Any) -> dspy.LM:
    """A user's own LM, configured for the server."""
    return dspy.LM(name, api_base=server.base_url, api_key=KEY, **kwargs)


def examples(n: int, start: int) -> list[dspy.Example]:
    """`n` of the tickets in world.py as DSPy takes rows; `start` makes another set."""
    return [dspy.Example(text=row["text"], team=row["team"]).with_inputs("text") for row in rows(n, start)]


def unused(name: str = "openai/sim", **kwargs: Any) -> dspy.LM:
    """An LM that no test calls."""
    return dspy.LM(name, **{"api_base": SOMEWHERE, **kwargs})


@asynccontextmanager
async def sessions(program: DSPyModule, budget: Budget | None = None) -> AsyncGenerator[Callable[[str], Session]]:
    """New sessions of one gateway, which has the program's models."""
    book = MemoryBook(budget)
    async with Gateway(program.models, book) as gateway:

        def session(key: str) -> Session:
            args: Mapping[str, Any] = program.lm.args
            scope = Scope("program", key)
            return Session(gateway, scope, program.lm.name, dict(args), max_calls=program.max_calls)

        yield session


async def run(
    program: DSPyModule, inputs: Mapping[str, Any], candidate: Candidate | None = None
) -> tuple[Any, list[Invocation], list[Turn]]:
    """One rollout's output, invocations and trace."""
    async with sessions(program) as session:
        one = session("row")
        output = await program.run(candidate or Candidate({}), Example("row", inputs), one)
        return output, one.invocations, one.trace


class Sum(pydantic.BaseModel):
    total: int
    terms: list[int]


class Typed(dspy.Signature):
    """Add the numbers."""

    question: str = dspy.InputField()
    answer: int = dspy.OutputField()
    parity: Literal["even", "odd"] = dspy.OutputField()
    sum: Sum = dspy.OutputField()


class Twins(dspy.Module):
    """Two predictors with equal signatures."""

    def __init__(self) -> None:
        self.draft = dspy.Predict("question -> answer")
        self.check = dspy.Predict("question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        draft = self.draft(question=question)
        return self.check(question=f"{question} Was it {draft.answer}?")


class Inner(dspy.Module):
    def __init__(self) -> None:
        self.steps = [dspy.Predict("question -> note"), dspy.Predict("question, note -> answer")]

    def forward(self, question: str) -> dspy.Prediction:
        note = self.steps[0](question=question).note
        return self.steps[1](question=question, note=note)


class Nested(dspy.Module):
    def __init__(self) -> None:
        self.parts = {"inner": Inner()}

    def forward(self, question: str) -> dspy.Prediction:
        return self.parts["inner"](question=question)


class Loop(dspy.Module):
    """One predictor, called three times."""

    def __init__(self) -> None:
        self.step = dspy.Predict("question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        return [self.step(question=f"{question} (pass {number})") for number in range(3)][-1]


class Awaited(dspy.Module):
    """A module that is only asynchronous."""

    def __init__(self) -> None:
        self.step = dspy.ChainOfThought("question -> answer")

    async def aforward(self, question: str) -> dspy.Prediction:
        return await self.step.acall(question=question)


class InParallel(dspy.Module):
    """One predictor, called in threads of DSPy's own."""

    def __init__(self) -> None:
        self.step = dspy.Predict("question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        pairs = [(self.step, {"question": f"{question} (pass {number})"}) for number in range(3)]
        return dspy.Parallel(num_threads=3, disable_progress_bar=True)(pairs)[0]


def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


async def add_later(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


def best_of_three() -> dspy.Module:
    return dspy.BestOfN(dspy.Predict("question -> answer"), N=3, reward_fn=lambda _args, _pred: 0.0, threshold=1.0)


SHAPES: dict[str, tuple[Callable[[], dspy.Module], list[str]]] = {
    "predict": (lambda: dspy.Predict("question -> answer"), ["self"]),
    "chain of thought": (lambda: dspy.ChainOfThought("question -> answer: int"), ["predict"]),
    "typed": (lambda: dspy.Predict(Typed), ["self"]),
    "several fields": (lambda: dspy.Predict("question, context: list[str] -> answer, confidence: float"), ["self"]),
    "twins": (Twins, ["draft", "check"]),
    "nested": (Nested, ["parts['inner'].steps[0]", "parts['inner'].steps[1]"]),
    "react": (lambda: dspy.ReAct("question -> answer", tools=[add]), ["react", "react", "extract.predict"]),
    "react, async tool": (
        lambda: dspy.ReAct("question -> answer", tools=[dspy.Tool(add_later, name="add")]),
        ["react", "react", "extract.predict"],
    ),
    "loop": (Loop, ["step"] * 3),
    "awaited": (Awaited, ["step.predict"]),
    "parallel": (InParallel, ["step"] * 3),
    "best of three": (best_of_three, ["module"] * 3),
}
"""Modules by shape, each with the predictors that one rollout runs, in order."""
