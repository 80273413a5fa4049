"""The library's judges: each asks what it says it asks, needs what it says it needs, and scores by its verdict."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from promptopt import judges
from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Turn
from promptopt.errors import ConfigError, DataError
from promptopt.judges.answers import Answer
from promptopt.judges.conversation import checked_turns, rendered
from promptopt.judges.judge import Judge
from promptopt.judges.library import LIBRARY
from promptopt.judges.template import LibraryJudge, Template
from promptopt.lm.gateway import Gateway
from promptopt.lm.message import Scope
from promptopt.lm.session import Session
from promptopt.lm.settings import ModelSettings
from promptopt.metrics.build import as_metric, build
from promptopt.metrics.preflight import check_rows
from promptopt.testing.books import MemoryBook
from promptopt.testing.faulty import FaultyServer, reply
from promptopt.testing.scripted import ScriptedModel

PAGE = (Path(__file__).parent.parent.parent / "docs" / "judges.md").read_text(encoding="utf-8")
TEMPLATES = list(dict.fromkeys(LIBRARY.values()))
each = pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)

CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "name": "track", "arguments": {"order": 7}}]}
TURNS = [{"role": "user", "content": "Where is order 7?"}, {"role": "assistant", "content": "One moment."}]
NEEDED = {
    "context": "docs",
    "conversation": "turns",
    "guidelines": ["Name the order.", "Use no exclamation marks {text}."],
}
EXAMPLE = Example(
    "r7",
    {"question": "Is my order there?", "turns": TURNS},
    expected="It is on its way.",
    meta={"docs": ["Order 7 left on Monday."]},
)


def options_of(template: Template) -> dict[str, Any]:
    """What it needs besides a model."""
    return {need: NEEDED[need] for need in template.needs if need in NEEDED}


def made(template: Template, **options: Any) -> LibraryJudge:
    return template(lm="openai/judge", **options_of(template), **options)


def said(template: Template, verdict: str) -> str:
    one = {"reason": "Because.", "verdict": verdict}
    if "guidelines" in template.needs:
        return json.dumps({"guideline_1": one, "guideline_2": one})
    return json.dumps(one)


def asked(judge: Judge, output: Any = "It left on Monday.", example: Example = EXAMPLE) -> str:
    [question, *_] = judge.questions(example, output)
    return "\n".join(message["content"] for message in question.messages)


@each
def test_every_judge_says_what_it_measures_and_when_it_misleads(template: Template):
    doc = inspect.getdoc(template)
    assert doc == f"Measures {template.measures}.\n\nMisleads: {template.misleads}"
    assert len(template.measures) > 30
    assert len(template.misleads) > 60
    assert template.misleads.endswith(".")


@each
def test_every_answer_is_explained_in_the_rubric_on_a_line_of_its_own(template: Template):
    options = Answer.of(template.answer).options
    assert options is not None
    explained = re.findall(r"^(\w+): ", template.rubric, re.MULTILINE)
    assert sorted(explained) == sorted(options)


@each
async def test_on_a_real_endpoint_it_asks_once_and_tells_why(template: Template):
    options = Answer.of(template.answer).options
    assert options is not None
    async with FaultyServer(reply(said(template, str(options[0])))) as server:
        models = {"openai/judge": ModelSettings.model_validate({"api_base": server.base_url, "timeout": 5})}
        async with Gateway(models, MemoryBook()) as gateway:
            session = Session(gateway, Scope("judge", "work"), "openai/student")
            score = await made(template).score(EXAMPLE, Rollout("c", "r7", output="It left on Monday."), session)
    assert score.value == 0.0
    assert "Because." in score.feedback
    assert server.calls == 1


@each
async def test_its_worst_verdict_scores_0_its_best_1_and_those_between_score_between(template: Template):
    answer = Answer.of(template.answer)
    assert answer.options is not None
    values = []
    for option in answer.options:
        session = ScriptedModel([said(template, str(option))]).session("judge")
        values.append((await made(template).score(EXAMPLE, Rollout("c", "r7", output="x"), session)).value)
    assert values == sorted(set(values))
    assert (values[0], values[-1]) == (0.0, 1.0)


@each
def test_it_shows_what_it_needs_and_the_answer_only_where_it_is_compared(template: Template):
    text = asked(made(template))
    assert "It left on Monday." in text
    assert ('context:\n["Order 7 left on Monday."]' in text) == ("context" in template.needs)
    assert ("expected answer:\nIt is on its way." in text) == template.reference
    assert template.reference or "expected" not in template.needs
    conversation = (
        "[1] user\n| Where is order 7?\n[2] assistant\n| One moment.\n[3] assistant, the output to judge\n| It"
    )
    assert (conversation in text) == ("conversation" in template.needs)
    for number, guideline in enumerate(NEEDED["guidelines"], 1):
        rubric = f'"guideline_{number}": {template.rubric.replace("{guideline}", guideline)}'
        assert (rubric in text) == ("guidelines" in template.needs)
    assert "{guideline}" not in text
    assert "guidelines" in template.needs or template.rubric in text


@each
def test_any_of_them_can_be_shown_the_recorded_turns(template: Template):
    options = {**options_of(template), "conversation": "turns"}
    assert "[2] assistant\n| One moment." in asked(template(lm="m", **options))


@each
async def test_a_row_that_lacks_what_is_needed_is_found_before_anything_is_spent(template: Template):
    bare = Example("r8", {"question": "Is my order there?"})
    if {"expected", "context", "conversation"} & {*template.needs}:
        with pytest.raises(DataError, match=r"1 of 2 rows cannot be scored, .*row 'r8'.*Nothing was spent"):
            await check_rows(made(template), [EXAMPLE, bare])
    else:
        await check_rows(made(template), [EXAMPLE, bare])


@pytest.mark.parametrize(
    ("name", "row", "fault"),
    [
        ("correctness", {}, "row 'r' has no expected answer"),
        ("groundedness", {}, "row 'r' has no column 'docs'"),
        ("groundedness", {"docs": None}, "row 'r': retrieval_groundedness needs a context, and column 'docs' is empty"),
        ("coherence", {}, "row 'r' has no column 'turns'"),
        (
            "coherence",
            {"turns": [{"role": "bot", "content": "x"}]},
            "row 'r', column 'turns': turn 1 has the role 'bot'",
        ),
        ("coherence", {"turns": "hello"}, "row 'r', column 'turns': a conversation is a list"),
    ],
)
def test_the_fault_of_a_row_is_named(name: str, row: dict[str, Any], fault: str):
    with pytest.raises(ValueError, match=re.escape(fault)):
        asked(made(LIBRARY[name]), example=Example("r", {"question": "q", **row}))


def test_a_context_that_is_an_input_too_is_shown_once():
    row = Example("r", {"docs": "Order 7 left on Monday."})
    text = asked(judges.groundedness("m", context="docs"), example=row)
    assert text.count("Order 7 left on Monday.") == 1
    assert 'input "docs"' not in text


@each
def test_a_config_makes_the_judge_that_python_makes(template: Template):
    for name in filter(None, (template.name, template.also)):
        options = {**options_of(template), "lm": "openai/judge", "samples": 2, "lm_args": {"max_tokens": 300}}
        built = build({"type": name, **options}, Path())
        assert built == getattr(judges, name)(**options)
        assert isinstance(built, Judge)
        assert built.fingerprint == made(template, samples=2, lm_args={"max_tokens": 300}).fingerprint


@each
def test_what_decides_its_answers_decides_its_identity(template: Template):
    identities = {made(other).identity for other in TEMPLATES}
    assert len(identities) == len(TEMPLATES)
    assert made(template).identity == made(template, calibration="somewhere").identity
    assert made(template).identity != made(template, samples=3).identity


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"type": "groundedness", "lm": "m"}, "metric: retrieval_groundedness needs context: the column that holds"),
        ({"type": "guidelines", "lm": "m"}, "metric: guidelines needs guidelines: a list of texts"),
        ({"type": "guidelines", "lm": "m", "guidelines": "be kind"}, "guidelines must be a list of texts"),
        (
            {"type": "guidelines", "lm": "m", "guidelines": ["be kind", " "]},
            "metric: a guideline must be a text, got ' '",
        ),
        ({"type": "guidelines", "lm": "m", "guidelines": 7}, "guidelines must be a list of texts"),
        ({"type": "coherence", "lm": "m"}, "metric: coherence needs conversation: the column that holds the recorded"),
        ({"type": "safety"}, "metric.lm is missing"),
        ({"type": "safety", "lm": ""}, "metric.lm: "),
        ({"type": "safety", "lm": "m", "context": "docs"}, "metric.context is not a setting"),
        ({"type": "safety", "lm": "m", "sample": 3}, "metric.sample is not a setting. Did you mean samples?"),
        ({"type": "safety", "lm": "m", "samples": 0}, "metric.samples: "),
        ({"type": "groundednes", "lm": "m"}, "Did you mean groundedness?"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_it(options: dict[str, Any], fault: str):
    with pytest.raises(ConfigError, match=re.escape(fault)):
        as_metric(options)


def test_python_refuses_what_a_judge_has_no_use_for():
    with pytest.raises(ConfigError, match="safety has no context; it takes lm, conversation, inputs"):
        judges.safety("m", context="docs")
    with pytest.raises(ConfigError, match="safety has no rubric; it takes"):
        judges.safety("m", rubric="mine")


async def test_each_guideline_is_a_sub_score_and_the_score_their_share():
    verdicts = {"guideline_1": {"reason": "a", "verdict": "yes"}, "guideline_2": {"reason": "b!", "verdict": "no"}}
    session = ScriptedModel([json.dumps(verdicts)]).session("judge")
    score = await made(judges.guidelines).score(EXAMPLE, Rollout("c", "r7", output="x"), session)
    assert (score.value, score.parts) == (0.5, {"guideline_1": 1.0, "guideline_2": 0.0})
    assert "b!" in score.feedback
    assert "guideline_2 is: Use no exclamation marks {text}." in score.feedback
    assert "guideline_1 is" not in score.feedback


class TestTheCallsThatAJudgeOfToolsSees:
    done = "It left on Monday."

    async def asked(self, rollout: Rollout, **options: Any) -> str:
        model = ScriptedModel([said(judges.tool_call_correctness, "correct")])
        judge = judges.tool_call_correctness("m", **options)
        await judge.score(EXAMPLE, rollout, model.session("judge"))
        return "\n".join(message["content"] for message in model.requests[0].messages)

    async def test_are_those_of_an_output_that_holds_messages(self):
        text = await self.asked(Rollout("c", "r7", output=[CALL, {"role": "assistant", "content": self.done}]))
        assert (
            '[1] assistant, the output to judge\n[1] assistant calls "track" as "c1", the output to judge\n| {"' in text
        )
        assert "A line that begins with [" in text

    async def test_are_those_of_the_model_calls_behind_a_text(self):
        result = {"role": "tool", "tool_call_id": "c1", "content": "left on Monday"}
        trace = (Turn(({"role": "user", "content": "?"}, CALL, result), self.done),)
        rollout = Rollout("c", "r7", output=self.done, trace=trace)
        for options, first in (({}, 1), ({"conversation": "turns"}, 3)):
            text = await self.asked(rollout, **options)
            assert f'[{first}] assistant calls "track" as "c1", the output to judge' in text
            assert f'[{first + 1}] tool answers "c1", the output to judge\n| left on Monday' in text
            assert f"[{first + 2}] assistant, the output to judge\n| It left on Monday." in text

    async def test_are_none_where_none_were_made(self):
        assert "[1] assistant, the output to judge\n| It left on Monday." in await self.asked(
            Rollout("c", "r7", output=self.done)
        )


def test_every_judge_has_a_function_of_its_name():
    assert judges.__all__ == sorted(LIBRARY)
    assert {name: getattr(judges, name) for name in LIBRARY} == LIBRARY
    assert set(LIBRARY) <= set(dir(judges))
    with pytest.raises(AttributeError, match="no attribute 'correctnes'"):
        judges.correctnes  # noqa: B018


def test_names_are_mlflows_where_mlflow_has_the_judge():
    scorers = pytest.importorskip("mlflow.genai.scorers")
    ours_alone = {"conciseness", "coherence", "repetition", "contradiction", "escalation"}
    for template in TEMPLATES:
        class_name = "".join(word.title() for word in template.name.split("_"))
        assert hasattr(scorers, class_name) == (template.name not in ours_alone)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_page_has_every_judge_with_what_it_measures_and_when_it_misleads():
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    for template in TEMPLATES:
        names = f"`{template.name}`" + (f" (`{template.also}`)" if template.also else "")
        assert [line for line in rows if line.startswith(f"| {names} | {template.measures} | {template.misleads} |")]


def test_the_pages_metrics_can_be_made():
    said = [metric for block in blocks("yaml") if (metric := yaml.safe_load(block).get("metric"))]
    assert len(said) >= 5
    assert {build(metric, Path()).lm for metric in said} == {"openai/gpt-4.1-mini"}  # type: ignore[attr-defined]
    for block in blocks("python"):
        exec(block, {})


def test_the_pages_conversation_is_shown_as_the_page_says():
    (row,), (shown,) = blocks("json"), blocks("text")
    assert rendered(checked_turns(json.loads(row)["messages"]), "It is on its way.") == shown.strip()


def test_another_rubric_leaves_the_rest_of_a_judge_as_it_is():
    """So that `judge align` can improve it."""
    judge = made(judges.groundedness)
    other = replace(judge, rubric="Is it in the context?")
    assert "Is it in the context?" in asked(other)
    assert 'context:\n["Order 7 left on Monday."]' in asked(other)
    assert other.identity != judge.identity
