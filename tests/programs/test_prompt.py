"""Prompt programs: one-pass rendering, demos as turns, and what is refused before anything is spent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptopt.core.candidate import Candidate, Demo
from promptopt.core.example import Example
from promptopt.errors import ConfigError
from promptopt.programs.prompt import Prompt, render
from promptopt.testing.scripted import ScriptedModel

ROW = Example("r1", {"text": "lost card", "n": 3})


@given(st.text(), st.text())
def test_a_value_is_never_read_as_a_template(value: str, other: str) -> None:
    assert render("{a}|{b}", {"a": value, "b": other}) == f"{value}|{other}"


def test_double_braces_are_literal_and_unknown_names_stay() -> None:
    assert render('{{"x": {a}}} {later}', {"a": 1}) == '{"x": 1} {later}'


async def test_demos_stand_as_turns_before_the_last_user_message() -> None:
    prompt = Prompt("openai/x", system="Be brief.", user="Query: {text}")
    start = Candidate({"system": "Be brief.", "user": "Query: {text}"})
    candidate = start.with_demos("prompt", (Demo("d", {"text": "hi"}, "hello"),))
    model = ScriptedModel(["answer"])
    assert await prompt.run(candidate, ROW, model.session()) == "answer"
    assert [(m["role"], m["content"]) for m in model.requests[0].messages] == [
        ("system", "Be brief."),
        ("user", "Query: hi"),
        ("assistant", "hello"),
        ("user", "Query: lost card"),
    ]


def test_chat_messages_are_components_by_their_names() -> None:
    messages = [
        {"role": "system", "content": "A"},
        {"role": "user", "content": "first {text}", "name": "opening"},
        {"role": "assistant", "content": "go on"},
        {"role": "user", "content": "{n}"},
    ]
    prompt = Prompt("openai/x", messages=messages, optimize=["system", "opening"])
    assert [(c.name, c.placeholders, c.optimize) for c in prompt.components] == [
        ("system", (), True),
        ("opening", ("text",), True),
        ("assistant", (), False),
        ("user", ("n",), False),
    ]


def test_a_placeholder_without_a_column_is_refused_with_the_nearest_column() -> None:
    prompt = Prompt("openai/x", user="{txt}", system="", optimize=["system"])
    with pytest.raises(ConfigError, match=r"placeholder \{txt\}.*Did you mean \{text\}"):
        prompt.check(["text", "n"])


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"system": "no user"}, "needs a user message"),
        ({"user": "{text}", "optimize": ["sytem"]}, "there is no message 'sytem'"),
        ({"messages": [{"role": "user", "content": "a"}] * 2}, "different names"),
        ({"messages": [{"role": "tool", "content": "a"}, {"role": "user", "content": "b"}]}, "'tool' is not one of"),
    ],
)
def test_a_prompt_that_cannot_work_is_refused(given_: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Prompt("openai/x", **given_)  # type: ignore[arg-type]


def test_the_fingerprint_changes_with_the_model_and_its_arguments() -> None:
    from promptopt import LM

    prints = {Prompt(lm, user="{text}", optimize=["user"]).fingerprint
              for lm in (LM("a/x"), LM("a/y"), LM("a/x", temperature=1))}  # fmt: skip
    assert len(prints) == 3
