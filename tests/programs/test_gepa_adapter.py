"""gepa's adapter protocol as a program, with the adapters that gepa itself brings along."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from gepa.adapters.default_adapter.default_adapter import DefaultAdapter, EvaluationResult
from gepa.adapters.generic_rag_adapter.vector_store_interface import VectorStoreInterface
from gepa.adapters.optimize_anything_adapter.optimize_anything_adapter import OptimizeAnythingAdapter
from gepa.core.adapter import EvaluationBatch

import promptopt
from promptopt.api import evaluate, optimize
from promptopt.config import Config, load
from promptopt.core.candidate import Candidate
from promptopt.core.example import Example
from promptopt.errors import BaselineFailed, ConfigError
from promptopt.lm.message import CallFailed
from promptopt.programs.function import Context
from promptopt.programs.gepa_adapter import GepaAdapter, default_instance
from promptopt.testing.faulty import Behaviour, FaultyServer, completion, refuse, used
from promptopt.testing.scripted import ScriptedModel
from world import ANIMALS, SEED_PROMPT, answer, rows, student, team_of, world, write_job

ROW = Example("r1", {"text": "Ticket 1 is about the otter."}, "red")

ADAPTER = """
from gepa.adapters.default_adapter.default_adapter import DefaultAdapter, EvaluationResult

def exact(data, response):
    right = response == data["answer"]
    return EvaluationResult(float(right), "right" if right else f"wanted {data['answer']}")

def make(context):
    return DefaultAdapter(context.complete, evaluator=exact)
"""

DSPY = """
import dspy
from gepa.adapters.dspy_adapter.dspy_adapter import DspyAdapter

def exact(example, prediction, trace=None):
    return float(example.team == prediction.team)

def told(predictor_output, predictor_inputs, module_inputs, module_outputs, captured_trace):
    return dspy.Prediction(score=exact(module_inputs, module_outputs), feedback=f"wanted {module_inputs.team}")

def row(example):
    return dspy.Example(text=example.text, team=example.expected).with_inputs("text")

def make(context):
    lm = dspy.LM("openai/" + context.model, api_base=context.base_url, api_key=context.api_key, cache=False,
                 num_retries=0, max_tokens=50)
    student = dspy.Predict("text -> team")
    student.set_lm(lm)
    return DspyAdapter(student, exact, {"self": told}, num_threads=1)
"""


def gepa_job(
    folder: Path, base_url: str, code: str = ADAPTER, program: Mapping[str, Any] | None = None, **changes: Any
) -> Config:
    """The tickets of the world with a gepa adapter as the program, scored by the adapter."""
    (folder / "adapter.py").write_text(code)
    settings = {"type": "gepa", "path": "adapter.py:make", "lm": "openai/student", "lm_args": {"max_tokens": 8},
                "components": {"system": SEED_PROMPT}, "max_calls": 1, **(program or {})}  # fmt: skip
    path = write_job(folder, base_url, program=settings, **changes)
    config = json.loads(path.read_text())
    del config["metric"]
    path.write_text(json.dumps(config))
    return load(path)


def exact(data: Mapping[str, str], response: str) -> EvaluationResult:
    return EvaluationResult(float(response == data["answer"]), f"wanted {data['answer']}")


# whole runs


async def test_gepas_default_adapter_is_optimized_under_the_caps_and_scored_by_itself(tmp_path: Path) -> None:
    async with FaultyServer(world()) as server:
        job = gepa_job(tmp_path, server.base_url, budget={"rollouts": 400, "calls": 420})
        result = await asyncio.to_thread(optimize, job)
    assert result.verdict == "PROMOTE"
    assert any(f"{animal} goes to {team_of(animal)}" in result.best.components["system"] for animal in ANIMALS)
    assert result.spent.calls == server.calls <= 420
    assert result.spent.rollouts <= 400


async def test_its_scores_and_feedback_are_those_that_gepa_would_see(tmp_path: Path) -> None:
    async with FaultyServer(world()) as server:
        scored = await asyncio.to_thread(evaluate, gepa_job(tmp_path, server.base_url))
    told = {row["id"]: row for row in rows(40, 1000)}
    seen = [told[rollout.example_id] for rollout in scored.rollouts]
    instances = [{"input": row["text"], "additional_context": {}, "answer": row["team"]} for row in seen]
    for_gepa = DefaultAdapter(lambda messages: student(messages[0]["content"], messages[1]["content"]), evaluator=exact)
    batch = for_gepa.evaluate(instances, {"system": SEED_PROMPT}, capture_traces=True)
    records = for_gepa.make_reflective_dataset({"system": SEED_PROMPT}, batch, ["system"])["system"]
    assert [rollout.value for rollout in scored.rollouts] == batch.scores
    assert [rollout.output for rollout in scored.rollouts] == batch.outputs
    learnt = [(rollout.value, rollout.score.feedback) for rollout in scored.rollouts if rollout.score]
    right = {1.0: "right"}  # ADAPTER says so
    assert learnt == [
        (score, right.get(score, record["Feedback"])) for record, score in zip(records, batch.scores, strict=True)
    ]


async def test_gepas_dspy_adapter_runs_on_the_gateway(tmp_path: Path) -> None:
    async with FaultyServer(in_dspys_form()) as server:
        program = {"row": "adapter.py:row", "components": {"self": SEED_PROMPT}, "max_calls": 3}
        budget = {"rollouts": 250, "calls": 900}
        job = gepa_job(tmp_path, server.base_url, DSPY, program, budget=budget)
        result = await asyncio.to_thread(optimize, job)
    assert any(f"{animal} goes to {team_of(animal)}" in result.best.components["self"] for animal in ANIMALS)
    assert result.spent.calls == server.calls <= 900
    assert result.val["best"] > result.val["baseline"]


def in_dspys_form() -> Behaviour:
    """The world, whose student answers in the form of DSPy's chat adapter."""

    async def behave(_request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        text = answer(body)
        if "[[ ##" in body["messages"][-1]["content"]:
            text = f"[[ ## team ## ]]\n{text}\n\n[[ ## completed ## ]]"
        return web.json_response(completion(text, usage=used(10, 10)))

    return behave


async def test_a_default_adapter_that_was_built_with_a_model_name_is_put_on_the_gateway(tmp_path: Path) -> None:
    """One line changes for whoever has an adapter and a seed candidate already."""
    parts = [promptopt.Dataset.from_rows(rows(n, start), inputs="text", expected="team", id="id")
             for n, start in ((40, 0), (40, 1000), (60, 2000))]  # fmt: skip
    settings = {"price": {"input": 1.0, "output": 2.0}}
    async with FaultyServer(world()) as server:
        models = {name: {**settings, "api_base": server.base_url} for name in ("openai/student", "openai/reflect")}
        result = await asyncio.to_thread(
            promptopt.optimize,
            GepaAdapter(
                DefaultAdapter("openai/student", exact, litellm_batch_completion_kwargs={"max_tokens": 8}),
                components={"system": SEED_PROMPT},
                max_calls=1,
            ),
            promptopt.Split.given(*(part.examples for part in parts)),
            reflection=promptopt.LM("openai/reflect", max_tokens=400),
            budget={"rollouts": 280, "usd": 1},
            run={"dir": str(tmp_path / "run")},
            lms=models,
        )
    assert result.spent.calls == server.calls
    assert result.val["best"] > result.val["baseline"]


async def test_where_the_strategy_names_it_the_adapter_itself_proposes(tmp_path: Path) -> None:
    """gepa's DSPy adapter asks its reflection model in its own words: here the run's, under the run's caps."""
    code = DSPY.replace("num_threads=1", "num_threads=1, reflection_lm=lm")
    program = {"row": "adapter.py:row", "components": {"self": SEED_PROMPT}, "max_calls": 3}
    async with FaultyServer(in_dspys_form()) as server:
        job = gepa_job(tmp_path, server.base_url, code, program, budget={"rollouts": 230},
                       strategy={"operators": ["adapter"]})  # fmt: skip
        result = await asyncio.to_thread(optimize, job)
    asked = [told for told in result.steps if told.asked]
    assert asked
    assert {told.operator for told in result.steps} <= {"baseline", "adapter", "merge", "finalist", ""}
    assert any("goes to" in told.candidate.components["self"] for told in asked if told.candidate)
    assert all(told.tokens for told in asked)
    assert result.spent.calls == server.calls


# one rollout


async def run(program: GepaAdapter, texts: Mapping[str, str] | None = None) -> Any:
    """Output and score of one rollout."""
    session = ScriptedModel([]).session()
    names = {component.name: component.text for component in program.components}
    output = await program.run(Candidate(texts or names), ROW, session)
    return output, session.own


def scoring(candidate: Mapping[str, str], example: Any, **_: Any) -> tuple[float, Any, dict[str, Any]]:
    return 0.5, None, {"Feedback": f"think of {example['answer']}", "scores": {"form": 1.0, "length": 17.0}}


async def test_an_adapter_that_was_built_already_runs_as_it_is() -> None:
    built = OptimizeAnythingAdapter(scoring, parallel=False)
    output, own = await run(GepaAdapter(built, components={"a": "one"}))
    assert output[0] == own.value == 0.5
    assert "think of red" in own.feedback
    assert own.parts == {"form": 1.0}


async def test_of_several_components_each_has_its_own_feedback() -> None:
    _, own = await run(GepaAdapter(OptimizeAnythingAdapter(scoring, parallel=False), components={"a": "1", "b": "2"}))
    assert own.feedback == ""
    assert own.feedback_for.keys() == {"a", "b"}
    assert all("think of red" in said for said in own.feedback_for.values())


class Shelf(VectorStoreInterface):
    """One document."""

    def similarity_search(self, query: str, k: int = 5, filters: Any = None) -> list[dict[str, Any]]:
        return [{"content": "The otter goes to the red team.", "metadata": {"doc_id": "d1"}, "score": 0.9}]

    def vector_search(self, query_vector: Any, k: int = 5, filters: Any = None) -> list[dict[str, Any]]:
        return self.similarity_search("")

    def get_collection_info(self) -> dict[str, Any]:
        return {"name": "shelf"}


RAG = """
from gepa.adapters.generic_rag_adapter.generic_rag_adapter import GenericRAGAdapter
from test_gepa_adapter import Shelf

def row(example):
    return {"query": example.text, "ground_truth_answer": example.expected, "relevant_doc_ids": ["d1"], "metadata": {}}

def make(context):
    return GenericRAGAdapter(Shelf(), context.complete)
"""


@pytest.fixture
def rag(tmp_path: Path) -> Mapping[str, Any]:
    return {"row": "adapter.py:row", "components": {"answer_generation": SEED_PROMPT}, "max_calls": 2}


async def test_gepas_rag_adapter_runs_on_the_gateway(tmp_path: Path, rag: Mapping[str, Any]) -> None:
    async with FaultyServer(world()) as server:
        scored = await asyncio.to_thread(evaluate, gepa_job(tmp_path, server.base_url, RAG, rag))
    assert server.calls == 40
    assert all(rollout.value is not None for rollout in scored.rollouts)
    assert {rollout.output["final_answer"] for rollout in scored.rollouts} <= {"red", "green", "blue", "amber"}


MATHS = """
from gepa.adapters.anymaths_adapter.anymaths_adapter import AnyMathsAdapter

def make(context):
    return AnyMathsAdapter("hosted_vllm/" + context.model, api_base=context.keyed_url)
"""


async def test_gepas_maths_adapter_which_takes_a_base_url_alone_runs_on_the_gateway(tmp_path: Path) -> None:
    async def solve(_request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        said = json.dumps({"final_answer": answer(body), "solution_pad": "by heart"})
        return web.json_response(completion(said, usage=used(10, 10)))

    async with FaultyServer(solve) as server:
        scored = await asyncio.to_thread(evaluate, gepa_job(tmp_path, server.base_url, MATHS))
    assert server.calls == 40
    assert 0 < scored.mean < 1


async def test_a_failed_call_that_an_adapter_scores_0_is_a_failure_and_no_score(
    tmp_path: Path, rag: Mapping[str, Any]
) -> None:
    """gepa's RAG adapter takes the error for the answer."""
    async with FaultyServer(refuse(400, "no such thing")) as server:
        scored = await asyncio.to_thread(evaluate, gepa_job(tmp_path, server.base_url, RAG, rag))
    assert {rollout.value for rollout in scored.rollouts} == {None}
    assert {rollout.failure.kind for rollout in scored.rollouts if rollout.failure} == {"bad_request"}


# what goes wrong


class Broken:
    """Does what the test says, where an adapter evaluates."""

    def __init__(self, does: Any) -> None:
        self.does = does

    def evaluate(self, batch: list[Any], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        return self.does(batch)

    def make_reflective_dataset(self, candidate: Any, eval_batch: Any, components_to_update: list[str]) -> Any:
        raise ValueError("no trace")


def raising(batch: list[Any]) -> EvaluationBatch[Any, Any]:
    raise KeyError("question")


@pytest.mark.parametrize(
    ("does", "said"),
    [
        (raising, r"the adapter raised KeyError: 'question' \(test_gepa_adapter.py:\d+\)"),
        (lambda batch: EvaluationBatch([1], [3.0], [{}]), r"must be a finite number in \[0, 1\], got 3"),
        (lambda batch: EvaluationBatch([1, 2], [1.0, 1.0], [{}, {}]), "one of scores for one row"),
        (lambda batch: (1, 2), "EvaluationBatch with one of scores for one row, not None"),
    ],
    ids=["raises", "score above 1", "two for one", "no batch"],
)
async def test_what_an_adapter_does_wrong_is_a_failure_that_says_so(does: Any, said: str) -> None:
    with pytest.raises(CallFailed, match=said) as failed:
        await run(GepaAdapter(Broken(does), components={"a": "one"}))
    assert failed.value.failure.kind == "program"


async def test_an_adapter_that_always_raises_ends_the_run_before_much_is_spent(tmp_path: Path) -> None:
    code = ADAPTER + "\n    raise KeyError('rows have no question')\n"
    async with FaultyServer(world()) as server:
        job = gepa_job(tmp_path, server.base_url, code.replace("return DefaultAdapter", "DefaultAdapter"))
        with pytest.raises(BaselineFailed, match="the adapter raised KeyError: 'rows have no question'"):
            await asyncio.to_thread(optimize, job)
    assert server.calls == 0


async def test_a_row_without_a_record_keeps_its_score() -> None:
    output, own = await run(GepaAdapter(Broken(lambda batch: EvaluationBatch([7], [1.0], [{}])), components={"a": "x"}))
    assert (output, own.value) == (7, 1.0)
    assert "no trace" in own.feedback


def test_an_object_that_is_no_adapter_is_refused() -> None:
    class Half:
        def evaluate(self) -> None: ...

    with pytest.raises(ConfigError, match="Half is no gepa adapter: it has no make_reflective_dataset"):
        GepaAdapter(Half(), components={"a": "x"})  # type: ignore[arg-type]


async def test_a_function_that_builds_no_adapter_is_refused() -> None:
    with pytest.raises(CallFailed, match="dict is no gepa adapter: it has no evaluate"):
        await run(GepaAdapter(lambda context: {}, components={"a": "x"}))  # type: ignore[arg-type,return-value]


def test_a_model_for_an_adapter_that_cannot_take_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="the Broken was built already and keeps the model it has"):
        GepaAdapter(Broken(raising), components={"a": "x"}, lm="openai/student")


def test_a_changed_adapter_row_or_model_is_another_program() -> None:
    def make(context: Context) -> Any:
        return None

    def of(**parts: Any) -> str:
        return GepaAdapter(parts.pop("make", make), components={"a": "x"}, **parts).fingerprint

    other = Broken(raising)
    other.version = "2"  # type: ignore[attr-defined]
    prints = [of(), of(lm="openai/a"), of(row=json.dumps), of(make=other), of(make=DefaultAdapter("openai/a"))]
    assert len(set(prints)) == len(prints)
    assert of() == of()


@pytest.mark.parametrize(
    ("example", "instance"),
    [
        (ROW, {"input": "Ticket 1 is about the otter.", "additional_context": {}, "answer": "red"}),
        (Example("r", {"a": "x", "b": 2}), {"input": "a: x\nb: 2", "additional_context": {}, "answer": ""}),
        (
            Example("r", {"q": "x"}, 4, meta={"additional_context": {"hint": "y"}}),
            {"input": "x", "additional_context": {"hint": "y"}, "answer": "4"},
        ),
    ],
)
def test_by_default_a_row_is_what_the_default_adapter_reads(example: Example, instance: Mapping[str, Any]) -> None:
    assert default_instance(example) == instance
