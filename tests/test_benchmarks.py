"""The benchmarks' world stays the one that published figures were measured in, and the benchmarks run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import search
from contenders import chat, score
from simtask import FILLER, REFLECT, SEED_PROMPT, TASK, Task, Traffic

from promptopt.config.settings import StrategySettings


def digest(value: object) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=6).hexdigest()


def lineage(task: Task, steps: int) -> list[str]:
    """Prompts that the reflection model makes, each from the one before and eight train rows."""
    prompts, (train, _, _) = [SEED_PROMPT], task.split()
    for step in range(steps):
        rows = train[8 * step : 8 * step + 8]
        outputs = [task.complete(TASK, chat(prompts[-1], row)) for row in rows]
        told = [f"{row['input']} {task.score(row['id'], said)[1]}" for row, said in zip(rows, outputs, strict=True)]
        asked = "\n".join([f"```\n{prompts[-1]}\n```", *told])
        prompts.append(task.complete(REFLECT, [{"role": "user", "content": asked}]).split("```")[1].strip())
    return prompts


@pytest.mark.parametrize(
    ("seed", "rows", "prompts", "scores"),
    [
        (0, "9ab8a7515999", "24662ab0de3a", [3, 16, 19, 24, 42, 44, 54]),
        (7, "be22fd8017b9", "2afc0ff613f7", [5, 18, 27, 50, 45, 40, 41]),
    ],
)
def test_the_simulated_task_is_the_pinned_one(seed: int, rows: str, prompts: str, scores: Sequence[int]):
    """Pinned from the task's first version: other draws would be another world, and no figure would compare."""
    task = Task(seed)
    found = lineage(task, 6)
    val = task.split()[1]
    assert digest(task.split()) == rows
    assert digest(found) == prompts
    assert [round(80 * score(task, val, lambda row, prompt=prompt: chat(prompt, row))) for prompt in found] == scores


def test_the_simulated_reflection_model_fills_a_schema_with_additions():
    rules = {"type": "array", "items": {"type": "string"}, "maxItems": 3}
    schema = {"type": "object", "properties": {"why": {"type": "string"}, "rules": rules}}
    task = Task(0)
    asked = f"{SEED_PROMPT}\n\nParcel Q00001: it should have known: {task.notes[4]}"
    answer = json.loads(task.complete(REFLECT, [{"role": "user", "content": asked}], schema))
    assert answer == {"why": "It lacks notes.", "rules": [task.notes[4], FILLER[21]]}


def test_calls_in_flight_are_averaged_over_each_second():
    traffic = Traffic(changes=[(10.0, 4, 0), (10.5, 2, 1), (12.0, 2, 0), (12.25, 0, 0)])
    assert traffic.mean_in_flight(TASK) == pytest.approx([3.0, 2.0, 0.5])
    assert traffic.mean_in_flight(REFLECT) == pytest.approx([0.5, 1.0, 0.0])


def test_searches_are_tabled_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "trials.json"
    search.main(["--greedy", "--seeds", "0-1", "--rollouts", "120", "300", "--processes", "1", "--json", str(file)])
    trials = json.loads(file.read_text())
    assert [(trial["seed"], trial["budget"]) for trial in trials] == [(0, 120), (1, 120), (0, 300), (1, 300)]
    assert all(trial["rollouts"] <= trial["budget"] for trial in trials)
    assert f"{(trials[2]['heldout'] + trials[3]['heldout']) / 2:.3f} ±" in capsys.readouterr().out


@pytest.mark.parametrize("name", search.ABLATIONS)
def test_every_ablation_names_settings_and_constants_that_exist(name: str):
    variant = search.ABLATIONS[name]
    StrategySettings(**variant.strategy)
    with variant.applied():
        pass


@pytest.mark.parametrize("name", ["ours", "races over all of val, in random order"])
def test_our_search_is_measured_end_to_end(name: str):
    outcome = search.Trial(name, "ours", seed=0, budget=240, variant=search.ABLATIONS[name]).run()
    assert 80 < outcome.rollouts <= 240
    assert 0 < outcome.heldout < 1
