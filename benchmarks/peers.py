"""What other optimizers make of a task, each set up as its own documentation advises for the budget at hand.

None of them can be held to a number of calls, so their settings are chosen to come as near to it as they allow. Where a
task is a plain prompt, DSPy's programs start with DSPy's own answer format, which is a large part of what it gives a
small model; gepa optimizes the prompt through its own default adapter. Ours is here too, as what optimizes DSPy's
program.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

from counted import Model

from promptopt.core.example import Example
from promptopt.core.rollout import Score

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

DEMOS = 16
BOOTSTRAPS = 20
"""Calls that bootstrapping takes, about: a set of demos needs up to four right answers on train."""
MINIBATCH = 35
"""MIPROv2's default; it scores on all of val instead where val has no more than 50 rows."""
THREADS = 2
FORMAT_TOKENS = 48
"""Room for the field markers that DSPy asks for around an answer."""
REFLECTION_TOKENS = 1000
REFLECTIONS = 20
SECONDS = 600
"""For one call: a local model beside another one is slow."""

Answer = Callable[[Example], Any]
"""A program as an optimizer left it: the output for one example, which the task's metric reads."""


class Chat(NamedTuple):
    """A task's plain prompt."""

    system: str
    user: Callable[[Mapping[str, Any]], str]
    """An example's inputs as the user message."""


class Task(NamedTuple):
    """What every peer is given."""

    train: Sequence[Example]
    val: Sequence[Example]
    expected: str
    """The column that holds the answer."""
    program: Chat | Callable[[], Any]
    """What is optimized: a plain prompt, or what makes a DSPy program."""
    score: Callable[[Example, Any], Score]
    """Of an answer; of a DSPy program that is all its fields, by name."""
    student: Model
    student_args: Mapping[str, Any]
    reflection: Model
    reflection_args: Mapping[str, Any]
    calls: int
    """Program runs that the search should take; DSPy's second asking comes on top."""
    run_dir: Path
    """A new folder, for a search that leaves something to look at."""


class Spent(NamedTuple):
    """What a search took."""

    calls: int
    """Of the student."""
    reflections: int
    """Calls of the reflection model."""
    tokens: int
    """Of both, read and written."""


class Outcome(NamedTuple):
    """A program before and after the search, and what the search found."""

    before: Answer
    after: Answer
    found: str
    spent: Spent | None = None
    """None where the relays before the models have counted it."""


def bfsrs(task: Task, seed: int, labels: bool = True) -> Outcome:
    """DSPy's BootstrapFewShotWithRandomSearch: 16 demos, as many candidates as the calls allow.

    With `labels` the answer is one of the labels, without it is plain text (see `_program`).
    """
    import dspy

    optimizer = dspy.BootstrapFewShotWithRandomSearch(
        metric=_metric(task),
        max_labeled_demos=DEMOS,
        num_candidate_programs=max(1, (task.calls - BOOTSTRAPS) // len(task.val) - 3),  # it tries three of its own
        num_threads=THREADS,
        max_errors=len(task.val),
    )
    program = _program(task, labels)
    best = optimizer.compile(program, trainset=_examples(task, task.train, seed), valset=_examples(task, task.val))
    return _outcome(task, program, best)


def mipro(task: Task, seed: int) -> Outcome:
    """DSPy's MIPROv2 with the candidates of `auto="light"`, as many trials as the calls allow, and up to 16 demos."""
    import dspy

    minibatch = len(task.val) > 50
    full = 3 * len(task.val) if minibatch else len(task.val)
    trials = (task.calls - BOOTSTRAPS - full) // (MINIBATCH if minibatch else len(task.val))
    program = _program(task)
    optimizer = dspy.MIPROv2(
        metric=_metric(task),
        prompt_model=_lm(task.reflection, {**task.reflection_args, "max_tokens": REFLECTION_TOKENS}),
        max_labeled_demos=DEMOS,
        auto=None,
        num_candidates=6,
        num_threads=THREADS,
        max_errors=len(task.val),
        seed=seed + 9,  # its default is 9, and it takes 0 for none
    )
    best = optimizer.compile(
        program,
        trainset=_examples(task, task.train, seed),
        valset=_examples(task, task.val),
        num_trials=trials,
        minibatch=minibatch,
        minibatch_size=MINIBATCH,
    )
    return _outcome(task, program, best)


def dspy_gepa(task: Task, seed: int) -> Outcome:
    """dspy.GEPA on DSPy's program, with the feedback of the task's metric."""
    import dspy

    optimizer = dspy.GEPA(
        metric=_metric(task, feedback=True),
        reflection_lm=_lm(task.reflection, {**task.reflection_args, "max_tokens": REFLECTION_TOKENS}),
        max_metric_calls=task.calls,
        num_threads=THREADS,
        seed=seed,
    )
    program = _program(task)
    best = optimizer.compile(program, trainset=_examples(task, task.train, seed), valset=_examples(task, task.val))
    return _outcome(task, program, best)


def promptopt_dspy(task: Task, seed: int) -> Outcome:
    """`promptopt.DSPyOptimizer` on the same program, with the same metric."""
    import promptopt

    program = _program(task)
    alone = task.reflection.name == task.student.name
    optimizer = promptopt.DSPyOptimizer(
        metric=_metric(task, feedback=True),
        reflection_lm=_lm(task.student if alone else task.reflection, task.reflection_args),  # one name, one endpoint
        budget=promptopt.Budget(rollouts=task.calls),
        run_dir=task.run_dir,
        seed=seed,
        concurrency=THREADS,
    )
    best = optimizer.compile(program, trainset=_examples(task, task.train), valset=_examples(task, task.val))
    asked, tokens = best.promptopt.by_purpose, best.promptopt.spent.tokens
    spent = Spent(asked["program"].calls, asked["reflection"].calls, tokens)
    return _outcome(task, program, best)._replace(spent=spent)


def gepa(task: Task, seed: int) -> Outcome:
    """gepa with its default adapter and prompt, the task's metric with its feedback, and at most 20 reflections."""
    from gepa import optimize
    from gepa.adapters.default_adapter.default_adapter import DefaultAdapter, EvaluationResult

    prompt = task.program
    assert isinstance(prompt, Chat), "gepa's default adapter runs plain prompts"

    def reply(messages: Sequence[Any]) -> str:
        return task.student.ask(messages, **task.student_args)

    def evaluate(row: Any, response: str) -> EvaluationResult:
        score = task.score(row["example"], response)
        return EvaluationResult(score.value, score.feedback)

    def reflect(asked: Any) -> str:
        messages = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
        return task.reflection.ask(messages, **{**task.reflection_args, "max_tokens": REFLECTION_TOKENS})

    def rows(examples: Sequence[Example]) -> list[Any]:
        return [{"input": prompt.user(example.inputs), "example": example} for example in examples]

    def answers(system: str) -> Answer:
        return lambda example: reply(chat(system, prompt.user(example.inputs)))

    result = optimize(
        seed_candidate={"system": prompt.system},
        trainset=rows(task.train),
        valset=rows(task.val),
        adapter=DefaultAdapter(reply, evaluate),
        reflection_lm=reflect,
        max_metric_calls=task.calls,
        stop_callbacks=lambda _: task.reflection.calls >= REFLECTIONS,
        seed=seed,
    )
    best = result.best_candidate["system"]
    return Outcome(answers(prompt.system), answers(best), best)


def chat(system: str, user: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


ARMS: Mapping[str, Callable[[Task, int], Outcome]] = {
    "bfsrs": bfsrs,
    "bfsrs-text": partial(bfsrs, labels=False),
    "mipro": mipro,
    "dspy-gepa": dspy_gepa,
    "promptopt-dspy": promptopt_dspy,
    "gepa": gepa,
}
ON_DSPY = ("bfsrs", "mipro", "dspy-gepa", "promptopt-dspy")
"""Arms that can begin with a DSPy program of the task's own."""


def _lm(model: Model, arguments: Mapping[str, Any]) -> Any:
    import dspy

    at = {"api_base": model.base_url, "api_key": "none", "timeout": SECONDS}
    return dspy.LM(f"openai/{model.name}", cache=False, **at, **arguments)


def _program(task: Task, labels: bool = True) -> Any:
    """The task's program, or DSPy's as its guides write it for a plain prompt: few answers as a `Literal`, answers to
    work out by a chain of thought.

    What the student says that is no label DSPy asks for again, as JSON: on banking that makes 1.6 calls a row.
    """
    import dspy

    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    if not isinstance(task.program, Chat):
        dspy.configure(lm=_lm(task.student, task.student_args))
        return task.program()
    room = task.student_args["max_tokens"] + FORMAT_TOKENS
    dspy.configure(lm=_lm(task.student, {**task.student_args, "max_tokens": room}))
    answers = sorted({str(example.expected) for example in task.train})
    few = 2 * len(answers) <= len(task.train)
    answer: Any = Literal[tuple(answers)] if few and labels else str
    fields: dict[str, Any] = {name: (str, dspy.InputField()) for name in task.train[0].inputs}
    signature = dspy.Signature({**fields, task.expected: (answer, dspy.OutputField())}, task.program.system)
    return dspy.Predict(signature) if few else dspy.ChainOfThought(signature)


def _examples(task: Task, rows: Sequence[Example], seed: int | None = None) -> list[Any]:
    """Rows as DSPy takes them, in an order of the seed's where there is one: its random search has no seed."""
    import dspy

    order = Random(seed).sample(rows, len(rows)) if seed is not None else rows
    return [
        dspy.Example(**row.inputs, row=row.id, **{task.expected: str(row.expected)}).with_inputs(*row.inputs)
        for row in order
    ]


def _metric(task: Task, feedback: bool = False) -> Callable[..., Any]:
    """The task's metric as DSPy calls one; with `feedback` as dspy.GEPA does."""
    rows = {row.id: row for row in (*task.train, *task.val)}

    def metric(example: Any, prediction: Any, trace: object = None) -> float:
        return task.score(rows[example.row], _said(task, prediction)).value

    def with_feedback(
        example: Any, prediction: Any, trace: object = None, pred_name: object = None, pred_trace: object = None
    ) -> Any:
        import dspy

        score = task.score(rows[example.row], _said(task, prediction))
        return dspy.Prediction(score=score.value, feedback=score.feedback)

    return with_feedback if feedback else metric


def _said(task: Task, prediction: Any) -> Any:
    """What the task's metric reads of a DSPy prediction."""
    return prediction[task.expected] if isinstance(task.program, Chat) else dict(prediction)


def _outcome(task: Task, before: Any, after: Any) -> Outcome:
    found = [f"{predict.signature.instructions}\n({len(predict.demos)} demos)" for predict in after.predictors()]
    return Outcome(_answers(task, before), _answers(task, after), "\n\n".join(found))


def _answers(task: Task, program: Any) -> Answer:
    from dspy.utils.exceptions import AdapterParseError

    def answer(example: Example) -> Any:
        try:
            return _said(task, program(**example.inputs))
        except AdapterParseError:
            return None

    return answer
