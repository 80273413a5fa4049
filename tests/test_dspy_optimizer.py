"""What DSPy users touch: the optimizer in their script, what they save and load, their data, and a config's module."""

from __future__ import annotations

import asyncio
import copy
import csv
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy
import pytest
from aiohttp import web
from dspy.evaluate import SemanticF1
from typer.testing import CliRunner
from typer.testing import Result as Done

import promptopt
from dspy_world import KEY, examples, lm_at, say
from promptopt.cli import app
from promptopt.config import load
from promptopt.dspy_optimizer import DSPyOptimizer
from promptopt.errors import BaselineFailed, ConfigError, DataError
from promptopt.job import Job, from_objects
from promptopt.testing.faulty import Body, FaultyServer, completion, used
from world import draw, reflector, rows, student

CONFIGS = Path(__file__).parent.parent / "configs"

MODULES = '''
from typing import Literal

import dspy

RULE = "Name the team of the ticket: red, green, blue or amber."


class Sort(dspy.Signature):
    """Name the team of the ticket: red, green, blue or amber."""

    text: str = dspy.InputField()
    team: Literal["red", "green", "blue", "amber"] = dspy.OutputField()


class Steps(dspy.Module):
    def __init__(self):
        self.find = dspy.Predict("text -> animal")
        self.sort = dspy.ChainOfThought(dspy.Signature("text, animal -> team", RULE))

    def forward(self, text):
        return self.sort(text=text, animal=self.find(text=text).animal)


def plain():
    return dspy.Predict(dspy.Signature("text -> team", RULE))


def typed():
    return dspy.ChainOfThought(Sort)


def steps():
    return Steps()


made = plain()


def nothing():
    return 42


def breaks():
    raise RuntimeError("no such file")


def metric(gold, pred, trace=None):
    wrong = gold.team != pred.team
    return dspy.Prediction(score=not wrong, feedback=f"{gold.text} Wanted {gold.team}." if wrong else "")
'''

ALONE = """
import json, sys
code, states, url, texts = sys.argv[1:]
sys.path.insert(0, code)
import dspy, modules
dspy.configure(lm=dspy.LM("openai/sim", api_base=url, api_key="any", cache=False))
for shape in ("plain", "typed", "steps"):
    module = getattr(modules, shape)()
    module.load(f"{states}/{shape}.json")
    print(json.dumps([module(text=text).toDict() for text in json.loads(texts)]))
assert not [name for name in sys.modules if name.startswith("promptopt")]
"""


def brain(field: str, system: str, user: str) -> Any:
    """What the model knows, field by field; of tickets' teams what the tickets' student knows."""
    match field:
        case "team":
            return student(system, user)
        case "animal":
            return user.rpartition("about the ")[-1].split(".")[0]
        case "expression":
            return known_sum(user)
        case "recall" | "precision":
            return 0.5
        case _:
            return f"some {field}"


def known_sum(user: str) -> str:
    """The calculation of a word problem; of every second one a wrong one."""
    with (CONFIGS / "data" / "word_problems.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["question"] in user]
    return "1 + 1" if draw("sum", user) < 0.5 else f"{rows[0]['number']} * 1"


async def model(_request: web.Request, body: Body) -> web.StreamResponse:
    asked = "\n".join(message["content"] for message in body["messages"] if message["role"] != "system")
    schema = (body.get("response_format") or {}).get("json_schema")
    text = reflector(asked, schema) if "reflect" in body["model"] else say(body, brain)
    return web.json_response(completion(text, usage=used(10, 5)))


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    """The endpoint, in a thread of its own: a DSPy script is synchronous."""
    loop, running = asyncio.new_event_loop(), FaultyServer(model)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(running.__aenter__(), loop).result()
    yield running
    asyncio.run_coroutine_threadsafe(running.__aexit__(None, None, None), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A user's own file with DSPy modules."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "modules.py").write_text(MODULES, encoding="utf-8")
    sys.path.insert(0, str(folder))
    yield __import__("modules")
    sys.path.remove(str(folder))
    del sys.modules["modules"]


@pytest.fixture(autouse=True)
def _configured(server: FaultyServer) -> Iterator[None]:
    with dspy.context(lm=lm_at(server, temperature=0)):
        yield


def optimizer(server: FaultyServer, modules: Any, **changes: Any) -> DSPyOptimizer:
    arguments: dict[str, Any] = {
        "metric": modules.metric,
        "reflection_lm": lm_at(server, "openai/reflect", max_tokens=300),
        "budget": promptopt.Budget(rollouts=60),
        **changes,
    }
    return DSPyOptimizer(**arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def compiled(server: FaultyServer, modules: Any, folder: Path) -> tuple[dspy.Module, dspy.Module]:
    """A student and what became of it; a test half full of tickets proves it."""
    before = modules.plain()
    teleprompter = optimizer(server, modules, run_dir=folder / "run", budget={"rollouts": 220})
    parts = {"trainset": examples(20, 0), "valset": examples(20, 1000), "testset": examples(40, 2000)}
    with dspy.context(lm=lm_at(server, temperature=0)):
        return before, teleprompter.compile(before, **parts)


class TestCompiled:
    """A compiled module, seen from all sides."""

    def test_it_is_a_better_module_of_the_same_class(self, compiled: tuple[Any, Any]) -> None:
        before, after = compiled
        assert after.promptopt.verdict == "PROMOTE"
        assert type(after) is type(before)
        assert "goes to" in after.signature.instructions
        assert after.signature.instructions == after.promptopt.recommended.components["self"]
        assert [name for name, _ in after.named_predictors()] == ["self"]

    def test_the_student_is_as_it_was(self, compiled: tuple[Any, Any], modules: Any) -> None:
        before, after = compiled
        assert before.dump_state() == modules.plain().dump_state()
        assert (before.lm, after.lm) == (None, None)
        assert not hasattr(before, "promptopt")

    def test_copies_carry_the_result(self, compiled: tuple[Any, Any]) -> None:
        _, after = compiled
        for copied in (copy.deepcopy(after), after.deepcopy()):
            assert copied.promptopt is after.promptopt
            assert copied.dump_state() == after.dump_state()

    def test_it_loads_whole_with_its_result(self, compiled: tuple[Any, Any], tmp_path: Path) -> None:
        _, after = compiled
        after.save(tmp_path / "whole", save_program=True)
        loaded = dspy.load(str(tmp_path / "whole"), allow_pickle=True)
        assert loaded.signature.instructions == after.signature.instructions
        assert loaded.promptopt.verdict == "PROMOTE"

    def test_the_same_compile_again_pays_for_nothing(
        self, compiled: tuple[Any, Any], server: FaultyServer, modules: Any, folder: Path
    ) -> None:
        before, after = compiled
        calls = server.calls
        teleprompter = optimizer(server, modules, run_dir=folder / "run", budget={"rollouts": 220})
        parts = {"trainset": examples(20, 0), "valset": examples(20, 1000), "testset": examples(40, 2000)}
        assert teleprompter.compile(before, **parts).dump_state() == after.dump_state()
        assert server.calls == calls

    def test_no_key_is_written(self, compiled: tuple[Any, Any], folder: Path) -> None:
        assert not [path for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]

    def test_a_run_from_python_is_exported_by_the_module_itself(self, compiled: tuple[Any, Any], folder: Path) -> None:
        done = cli("export", folder / "run", "--format", "dspy")
        assert done.exit_code == 2
        assert "call save(...) on what compile returned" in done.stderr


def test_what_is_saved_is_loaded_by_dspy_alone_with_equal_outputs(
    server: FaultyServer, modules: Any, tmp_path: Path
) -> None:
    texts = [row["text"] for row in rows(4, 3000)]
    told: list[Any] = []
    for shape, rollouts in (("plain", 60), ("typed", 60), ("steps", 120)):
        teleprompter = optimizer(server, modules, run_dir=tmp_path / shape, seed=1, budget={"rollouts": rollouts})
        parts = {"trainset": examples(12, 0), "valset": examples(12, 1000)}
        after: Any = teleprompter.compile(getattr(modules, shape)(), **parts)
        assert after.promptopt.best.id != after.promptopt.baseline.id
        after.save(tmp_path / f"{shape}.json")
        told.append([after(text=text).toDict() for text in texts])
    code, words = str(Path(modules.__file__).parent), json.dumps(texts)
    command = [sys.executable, "-c", ALONE, code, str(tmp_path), server.base_url, words]
    alone = subprocess.run(command, capture_output=True, text=True, check=False)
    assert alone.returncode == 0, alone.stderr
    assert [json.loads(line) for line in alone.stdout.splitlines()] == told


def test_candidates_that_share_a_step_ask_it_once_at_temperature_0(
    server: FaultyServer, modules: Any, tmp_path: Path
) -> None:
    before = server.calls
    teleprompter = optimizer(server, modules, run_dir=tmp_path / "run", budget={"rollouts": 120})
    after: Any = teleprompter.compile(modules.steps(), trainset=examples(12, 0), valset=examples(12, 1000))
    asked = [json.dumps(body, sort_keys=True) for body in server.bodies[before:] if body.get("temperature") == 0]
    assert len(asked) == len(set(asked))
    assert after.promptopt.spent.rollouts < len(asked) < 2 * after.promptopt.spent.rollouts


def test_demos_alone_may_be_searched(server: FaultyServer, modules: Any, tmp_path: Path) -> None:
    teleprompter = optimizer(server, modules, run_dir=tmp_path / "run", optimize=("demos",), budget={"rollouts": 100})
    before = modules.plain()
    after: Any = teleprompter.compile(before, trainset=examples(12, 0), valset=examples(12, 1000))
    tried = after.promptopt.state.candidates.values()
    assert {candidate.components["self"] for candidate in tried} == {before.signature.instructions}
    assert any(candidate.n_demos for candidate in tried)
    assert server.calls
    assert not after.promptopt.by_purpose["reflection"].calls


def test_without_a_testset_the_champion_of_val_is_returned_unproved(
    server: FaultyServer, modules: Any, tmp_path: Path
) -> None:
    after: Any = optimizer(server, modules, run_dir=tmp_path, budget={"rollouts": 160}).compile(
        modules.plain(), trainset=examples(16, 0), valset=examples(16, 1000)
    )
    assert after.promptopt.verdict == "INCONCLUSIVE"
    assert after.promptopt.reasons[0] == "no held-out rows."
    assert after.signature.instructions == after.promptopt.best.components["self"]
    assert after.promptopt.recommended.id != after.promptopt.best.id


def test_without_a_valset_half_of_the_trainset_selects_and_that_is_said(
    server: FaultyServer, modules: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    teleprompter = optimizer(server, modules, run_dir=tmp_path, budget={"rollouts": 40})
    with caplog.at_level(logging.WARNING):
        after: Any = teleprompter.compile(modules.plain(), trainset=examples(24, 0))
    assert "no valset: 12 rows of trainset teach, 12 select" in caplog.text
    assert after.promptopt.val_rows == 12


def test_without_a_run_dir_runs_that_differ_get_folders_of_their_own(
    server: FaultyServer, modules: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parts = {"trainset": examples(8, 0), "valset": examples(8, 1000)}
    for seed in (0, 1, 1):
        optimizer(server, modules, seed=seed, budget={"rollouts": 30}).compile(modules.plain(), **parts)
    runs = sorted(path.name for path in Path("runs").iterdir() if path.is_dir())
    assert len(runs) == 2
    assert all(name.startswith("Predict-") for name in runs)


def test_a_module_with_another_table_is_compiled_anew(
    server: FaultyServer, modules: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parts = {"trainset": examples(8, 0), "valset": examples(8, 1000)}
    paid: list[int] = []
    for table in ({}, {}, {"green": "red"}):
        calls = server.calls
        student = modules.plain()
        student.table = table
        optimizer(server, modules, budget={"rollouts": 30}).compile(student, **parts)
        paid.append(server.calls - calls)
    assert [bool(calls) for calls in paid] == [True, False, True]


def test_a_forward_without_a_return_stops_at_the_starting_prompt(
    server: FaultyServer, modules: Any, tmp_path: Path
) -> None:
    class Forgetful(dspy.Module):
        def __init__(self) -> None:
            self.sort = modules.plain()

        def forward(self, text: str) -> None:
            self.sort(text=text)

    with pytest.raises(BaselineFailed, match=r"on 8 of 8 val rows; 8 times: program: the module returned None: does"):
        optimizer(server, modules, run_dir=tmp_path).compile(
            Forgetful(), trainset=examples(8, 0), valset=examples(8, 1000)
        )


def test_evaluate_says_that_it_takes_a_config(modules: Any) -> None:
    for given in (promptopt.DSPyModule(modules.plain()), modules.plain()):
        with pytest.raises(ConfigError, match=rf"evaluate takes a config .* and not a {type(given).__name__}\. "):
            promptopt.evaluate(given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": "joint"}, "strategy must be a mapping, got 'joint'"),
        ({"budget": 60}, "budget must be a mapping, got 60"),
        ({"seed": "a"}, "run.seed must be a whole number"),
        ({"concurrency": 0}, "run.concurrency must be at least 1"),
        ({"max_calls": 0}, "program.max_calls must be a whole number from 1"),
        ({"reflection_lm": 5}, "a model is a name"),
    ],
)
def test_what_cannot_be_a_setting_is_said_before_anything_is_spent(
    server: FaultyServer, modules: Any, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    calls = server.calls
    with pytest.raises(ConfigError, match=message):
        optimizer(server, modules, run_dir=tmp_path, **change).compile(
            modules.plain(), trainset=examples(8, 0), valset=examples(8, 1000)
        )
    assert server.calls == calls


async def test_it_compiles_under_a_running_event_loop(server: FaultyServer, modules: Any, tmp_path: Path) -> None:
    teleprompter = optimizer(server, modules, run_dir=tmp_path, budget={"rollouts": 30}, metric="exact_match")
    after: Any = teleprompter.compile(modules.typed(), trainset=examples(8, 0), valset=examples(8, 1000))
    assert after.promptopt.spent.rollouts <= 30
    assert not after.promptopt.failures


def test_a_built_in_metric_compares_the_answer_and_not_the_reasoning(
    server: FaultyServer, modules: Any, tmp_path: Path
) -> None:
    teleprompter = optimizer(server, modules, run_dir=tmp_path, budget={"rollouts": 30}, metric="exact_match")
    after: Any = teleprompter.compile(modules.typed(), trainset=examples(8, 0), valset=examples(8, 1000))
    assert after.promptopt.val["baseline"] > 0


@pytest.mark.parametrize("kind", ["plain", "steps"])
def test_labels_that_the_module_does_not_make_are_no_part_of_the_answer(
    kind: str, server: FaultyServer, modules: Any
) -> None:
    given = [dspy.Example(**row, ticket=n).with_inputs("text") for n, row in enumerate(examples(16, 0))]
    program = promptopt.DSPyModule(getattr(modules, kind)())
    data = promptopt.Split.given(given[:8], given[8:])
    job = from_objects(program, data, modules.metric, reflection=None, budget={"rollouts": 30}, strategy=None, run=None)
    assert {(row["ticket"], row.expected) for row in job.split.train} == {(one.ticket, one.team) for one in given[:8]}
    chosen = promptopt.Dataset.from_rows(map(dict, given), inputs="text", expected=["team", "ticket"])[0]
    assert program.narrowed(replace(chosen, meta={**chosen.meta, "more": 1})).expected == chosen.expected


def test_a_dspy_metric_works_with_optimize_too(server: FaultyServer, modules: Any, tmp_path: Path) -> None:
    data = promptopt.Split.given(examples(8, 0), examples(8, 1000))
    result = promptopt.optimize(
        promptopt.DSPyModule(modules.steps()),
        data,
        modules.metric,
        reflection=lm_at(server, "openai/reflect", max_tokens=300),
        budget={"rollouts": 30},
        run={"dir": str(tmp_path)},
    )
    assert result.val["baseline"] is not None
    assert not result.failures


def test_what_a_metric_asks_is_paid_by_the_run(server: FaultyServer, modules: Any, tmp_path: Path) -> None:
    rows = [dspy.Example(question=f"Really {n}?", response="Yes.").with_inputs("question") for n in range(16)]
    teleprompter = optimizer(server, modules, run_dir=tmp_path, budget={"rollouts": 30}, metric=SemanticF1())
    calls = server.calls
    after: Any = teleprompter.compile(dspy.Predict("question -> response"), trainset=rows[:8], valset=rows[8:])
    result = after.promptopt
    assert result.val["baseline"] == 0.5
    assert result.by_purpose["judge"].calls == result.spent.rollouts
    assert result.spent.calls == server.calls - calls


class TestRefused:
    def test_a_metric_of_another_arity(self, server: FaultyServer, modules: Any) -> None:
        with pytest.raises(ConfigError, match="must be metric"):
            optimizer(server, modules, metric=len_of_gold).compile(
                modules.plain(), trainset=examples(8, 0), valset=examples(8, 1000)
            )

    def test_a_metric_that_returns_no_score(self, server: FaultyServer, modules: Any, tmp_path: Path) -> None:
        with pytest.raises(BaselineFailed, match=r"percent returned no score: .* must be .* in \[0, 1\], got 85"):
            optimizer(server, modules, metric=percent, run_dir=tmp_path).compile(
                modules.plain(), trainset=examples(8, 0), valset=examples(8, 1000)
            )

    def test_a_teacher(self, server: FaultyServer, modules: Any) -> None:
        with pytest.raises(ConfigError, match="no use for a teacher"):
            optimizer(server, modules).compile(modules.plain(), trainset=examples(8, 0), teacher=modules.plain())

    def test_examples_that_do_not_say_their_inputs(self, server: FaultyServer, modules: Any) -> None:
        bare = [dspy.Example(text="a", team="red"), dspy.Example(text="b", team="red")]
        with pytest.raises(DataError, match=r"row 1: its inputs are not named; call with_inputs"):
            optimizer(server, modules).compile(modules.plain(), trainset=bare)

    def test_an_empty_trainset(self, server: FaultyServer, modules: Any) -> None:
        with pytest.raises(DataError):
            optimizer(server, modules).compile(modules.plain(), trainset=[])

    def test_a_row_that_teaches_and_judges(self, server: FaultyServer, modules: Any) -> None:
        with pytest.raises(DataError, match="cannot judge"):
            optimizer(server, modules).compile(
                modules.plain(), trainset=examples(8, 0), valset=examples(8, 1000), testset=examples(2, 0)
            )


def len_of_gold(gold: Any) -> int:
    return len(gold)


def percent(gold: Any, pred: Any) -> int:
    return 85


# the same from a config


def cli(*args: object) -> Done:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def write_job(folder: Path, server: FaultyServer, **changes: Any) -> Path:
    """A config of the module in `modules.py`, its data beside it."""
    (folder / "modules.py").write_text(MODULES, encoding="utf-8")
    for name, n, start in (("train", 12, 0), ("val", 12, 1000), ("test", 14, 2000)):
        lines = [json.dumps(row) for row in rows(n, start)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = {"api_base": server.base_url, "price": {"input": 0, "output": 0}}
    config: dict[str, Any] = {
        "name": "tickets",
        "program": {"type": "dspy", "path": "modules.py:steps", "lm": "openai/sim", "lm_args": {"temperature": 0}},
        "data": {
            **{name: f"{name}.jsonl" for name in ("train", "val", "test")},
            "inputs": ["text"],
            "expected": "team",
        },
        "metric": {"type": "dspy", "path": "modules.py:metric"},
        "reflection": {"lm": "openai/reflect", "lm_args": {"max_tokens": 300}},
        "budget": {"rollouts": 90},
        "lms": {"openai/sim": settings, "openai/reflect": settings},
    }
    path = folder / "job.yaml"
    path.write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return path


def test_a_config_names_a_module_and_export_writes_what_dspy_loads(
    server: FaultyServer, modules: Any, tmp_path: Path
) -> None:
    done = cli("optimize", write_job(tmp_path, server))
    assert done.exit_code == 0, done.stderr
    state = tmp_path / "state.json"
    done = cli("export", tmp_path / "runs" / "tickets", "--format", "dspy", "--candidate", "best", "--out", state)
    assert done.exit_code == 0, done.stderr
    best = json.loads((tmp_path / "runs" / "tickets" / "result.json").read_text())["best"]
    loaded = modules.steps()
    loaded.load(state)
    assert loaded.sort.predict.signature.instructions == best["components"]["sort.predict"]
    assert len(loaded.find.demos) == len(best["demos"].get("find", ()))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("modules.py:nothing", "line 1: program.path: modules.py:nothing makes int, not a dspy.Module"),
        ("modules.py:breaks", "program.path: modules.py:breaks raised RuntimeError: no such file (modules.py:"),
        ("modules.py:stepz", "there is no function stepz. Did you mean steps?"),
    ],
)
def test_a_path_that_makes_no_module_is_told(path: str, said: str, server: FaultyServer, tmp_path: Path) -> None:
    done = cli("plan", write_job(tmp_path, server, program={"type": "dspy", "path": path, "lm": "openai/sim"}))
    assert done.exit_code == 2
    assert said in done.stderr


def test_where_a_step_has_no_labels_right_replies_are_shown_sooner(server: FaultyServer, tmp_path: Path) -> None:
    def wins(path: str) -> float:
        program = {"type": "dspy", "path": path, "lm": "openai/sim"}
        job = Job.from_config(load(write_job(tmp_path, server, program=program)))
        return job.operators["bootstrap"][1].wins

    assert wins("modules.py:plain") < wins("modules.py:steps")


def test_a_module_may_be_named_as_it_stands(server: FaultyServer, tmp_path: Path) -> None:
    program = {"type": "dspy", "path": "modules.py:made", "lm": "openai/sim", "optimize": ["instructions"]}
    done = cli("plan", write_job(tmp_path, server, program=program))
    assert done.exit_code == 0, done.stderr


def test_export_says_when_the_run_is_of_another_kind_of_program(server: FaultyServer, tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text("def run(components, example, context):\n    return 'red'\n", encoding="utf-8")
    program = {"type": "function", "path": "f.py:run", "components": {"text": "Sort."}}
    job = write_job(tmp_path, server, program=program, metric="exact_match")
    assert cli("optimize", job).exit_code == 0
    done = cli("export", tmp_path / "runs" / "tickets", "--format", "dspy")
    assert done.exit_code == 2
    assert "is no run of a DSPy module but of a function" in done.stderr


def test_export_says_when_the_module_is_no_longer_what_was_run(server: FaultyServer, tmp_path: Path) -> None:
    small = write_job(tmp_path, server, budget={"rollouts": 70})
    done = cli("optimize", small)
    assert done.exit_code == 0, done.stderr
    changed = MODULES.replace("self.find", "self.look")
    (tmp_path / "modules.py").write_text(changed, encoding="utf-8")
    done = cli("export", tmp_path / "runs" / "tickets", "--format", "dspy")
    assert done.exit_code == 2
    assert "the run's module cannot be made again: the candidate has text for 'find'" in done.stderr


def test_the_pipeline_that_comes_along_runs(server: FaultyServer, tmp_path: Path) -> None:
    settings = {"api_base": server.base_url, "price": {"input": 0, "output": 0}}
    changes = {
        "program.lm": "openai/sim",
        "reflection.lm": "openai/reflect",
        "lms": json.dumps({"openai/sim": settings, "openai/reflect": settings}),
        "data.split": json.dumps({"train": 8, "val": 8, "test": 10, "seed": 0}),
        "budget.rollouts": 60,
    }
    words = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    done = cli("optimize", CONFIGS / "dspy_pipeline.yaml", *words, "--run-dir", tmp_path)
    assert done.exit_code == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert 0 < result["val"]["baseline"] < 1
    assert [*result["baseline"]["components"]] == ["read", "plan"]


@pytest.mark.parametrize(
    ("expression", "number"),
    [("40 + (40 - 10)", 70.0), (" -3 * .5 ", -1.5), ("1/0", None), ("x = 3", None), ("9**9**9", None), ("1e400", None)],
)
def test_its_calculator_knows_numbers_and_nothing_else(
    expression: str, number: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(CONFIGS)
    assert __import__("dspy_pipeline").calculated(expression) == number
