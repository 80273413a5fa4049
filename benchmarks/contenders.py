"""The searches that the benchmarks compare on the simulated task: ours, gepa and a plain greedy loop.

Each is given train and val and a number of rollouts; reflections are not counted against it. What it found is scored on
rows that it has never seen, outside of the search.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import simtask
from simtask import REFLECT, SEED_PROMPT, TASK, Row, Task

import promptopt
from promptopt.core.candidate import Candidate
from promptopt.core.example import Example
from promptopt.core.split import Split
from promptopt.execute.progress import Silent

Ask = Callable[[str, simtask.Messages], str]
"""Calls a model by name: `Task.complete`, or the same over HTTP."""
Many = Callable[[Callable[[Row], Any], Iterable[Row]], Iterable[Any]]
"""Runs a function for many rows: `map`, or that of a thread pool."""
MINIBATCH, BLOCK = 10, 8
"""Of the greedy loop: the best that a small grid found on these seeds."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search found, and what it truly spent."""

    heldout: float
    """Share of the held-out rows that are right."""
    val: float
    """The search's own score of what it found: optimistic."""
    rollouts: int
    reflections: int


def chat(prompt: str, row: Row) -> simtask.Messages:
    """A rollout's messages."""
    return [{"role": "system", "content": prompt}, {"role": "user", "content": row["input"]}]


def score(task: Task, rows: Sequence[Row], messages: Callable[[Row], simtask.Messages]) -> float:
    """The share of `rows` that the task model gets right when it is sent `messages(row)`."""
    return sum(task.score(row["id"], task.complete(TASK, messages(row)))[0] for row in rows) / len(rows)


def program(base_url: str) -> promptopt.Prompt:
    lm = promptopt.LM(f"openai/{TASK}", settings={"api_base": base_url})
    return promptopt.Prompt(lm, system=SEED_PROMPT, user="{input}")


def our_search(
    task: Task,
    base_url: str,
    folder: Path,
    *,
    rollouts: int,
    strategy: Mapping[str, Any],
    concurrency: int = 8,
) -> promptopt.Result:
    """A whole run of ours against the endpoint at `base_url`, without test rows."""
    parts = [
        promptopt.Dataset.from_rows(rows, inputs="input", expected="answer", id="id").examples
        for rows in task.split()[:2]
    ]

    def metric(example: Example, output: str) -> tuple[float, str]:
        return task.score(example.id, output)

    return promptopt.optimize(
        program(base_url),
        Split.given(*parts),
        metric,
        reflection=promptopt.LM(f"openai/{REFLECT}", settings={"api_base": base_url}),
        budget={"rollouts": rollouts},
        strategy=strategy,
        run={"dir": str(folder), "seed": task.seed, "concurrency": concurrency},
        watch=Silent(),
    )


def ours(task: Task, base_url: str, folder: Path, rollouts: int, strategy: Mapping[str, Any]) -> Outcome:
    """Ours, end to end; the champion of val is scored as the engine would send it, demos included."""
    result = our_search(task, base_url, folder, rollouts=rollouts, strategy=strategy)
    sent = messages_of(result.best, base_url)
    spent, asked = result.spent.rollouts, result.by_purpose["reflection"].calls
    return Outcome(score(task, task.split()[2], sent), result.val["best"], spent, asked)


def messages_of(candidate: Candidate, base_url: str) -> Callable[[Row], simtask.Messages]:
    prompt = program(base_url)
    return lambda row: prompt.preview(candidate, Example(row["id"], {"input": row["input"]}, row["answer"]))


def greedy(task: Task, rollouts: int) -> Outcome:
    """One parent: a minibatch, a rewrite, and a race on val that ends with the first block after which one is ahead."""
    (train, val, heldout), rng = task.split(), random.Random(task.seed)
    known: dict[tuple[str, str], tuple[float, str]] = {}
    reflections = 0

    def run(prompt: str, rows: Sequence[Row]) -> list[float]:
        for row in rows:
            if (prompt, row["id"]) not in known:
                known[prompt, row["id"]] = task.score(row["id"], task.complete(TASK, chat(prompt, row)))
        return [known[prompt, row["id"]][0] for row in rows]

    def wins(child: str) -> bool:
        for end in range(BLOCK, len(val) + 1, BLOCK):
            if len(known) + 2 * BLOCK > rollouts:
                break
            if lead := sum(run(child, val[:end])) - sum(run(parent, val[:end])):
                return lead > 0
        return False

    parent = SEED_PROMPT
    while len(known) + MINIBATCH + BLOCK <= rollouts and reflections < rollouts:
        batch = rng.sample(train, MINIBATCH)
        run(parent, batch)
        shown = "\n".join(f"{row['input']} Feedback: {known[parent, row['id']][1]}" for row in batch)
        asked = [{"role": "user", "content": f"Improve this prompt.\n```\n{parent}\n```\n{shown}"}]
        child = task.complete(REFLECT, asked).split("```")[1].strip()
        reflections += 1
        if child != parent and wins(child):
            parent = child
    scores = [known[parent, row["id"]][0] for row in val if (parent, row["id"]) in known]
    found = score(task, heldout, lambda row: chat(parent, row))
    return Outcome(found, sum(scores) / len(scores), len(known), reflections)


class GepaAdapter:
    """gepa's protocol for a program of one prompt, with feedback; `many` decides what runs at once."""

    propose_new_texts: Any = None

    def __init__(self, task: Task, ask: Ask, many: Many = map) -> None:
        self.task, self.ask, self.many = task, ask, many
        self.rollouts = self.reflections = 0

    def evaluate(self, batch: list[Row], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        from gepa.core.adapter import EvaluationBatch

        self.rollouts += len(batch)
        outputs = list(self.many(lambda row: self.ask(TASK, chat(candidate["system"], row)), batch))
        scored = [self.task.score(row["id"], output) for row, output in zip(batch, outputs, strict=True)]
        traces = [
            {"Inputs": row["input"], "Generated Outputs": output, "Feedback": feedback}
            for row, output, (_, feedback) in zip(batch, outputs, scored, strict=True)
        ]
        return EvaluationBatch(outputs, [value for value, _ in scored], traces if capture_traces else None)

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: Any, components_to_update: list[str]
    ) -> dict[str, Any]:
        return dict.fromkeys(components_to_update, eval_batch.trajectories)

    def reflect(self, prompt: str | list[dict[str, Any]]) -> str:
        self.reflections += 1
        return self.ask(REFLECT, [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt)


def gepa_search(adapter: GepaAdapter, rollouts: int, target: float | None = None) -> Any:
    """gepa's result with its default settings; it also stops where a candidate's val score has reached `target`."""
    from gepa.api import optimize

    class Quiet:
        def log(self, message: str) -> None: ...

    def reached(gepa_state: Any) -> bool:
        return target is not None and max(gepa_state.program_full_scores_val_set) >= target

    train, val, _ = adapter.task.split()
    return optimize(
        seed_candidate={"system": SEED_PROMPT},
        trainset=train,
        valset=val,
        adapter=adapter,
        reflection_lm=adapter.reflect,
        max_metric_calls=rollouts,
        stop_callbacks=reached,
        logger=Quiet(),
        seed=adapter.task.seed,
    )


def gepa(task: Task, rollouts: int) -> Outcome:
    """gepa in process: what it spends is counted where it is spent, not by its own count."""
    adapter = GepaAdapter(task, task.complete)
    result = gepa_search(adapter, rollouts)
    found = score(task, task.split()[2], lambda row: chat(result.best_candidate["system"], row))
    return Outcome(found, result.val_aggregate_scores[result.best_idx], adapter.rollouts, adapter.reflections)
