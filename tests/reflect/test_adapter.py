"""A gepa adapter's own proposals, read as strictly as a model's."""

from __future__ import annotations

from typing import Any

import pytest
from briefs import TEXT, TRAIN, applied, brief, seen

from promptopt.lm.session import Session
from promptopt.programs.gepa_adapter import GepaAdapter
from promptopt.reflect.operator import Called, Refused
from promptopt.testing.scripted import ScriptedModel


class Plain:
    """Evaluates, and proposes nothing."""

    def evaluate(self, batch: Any, candidate: Any, capture_traces: bool = False) -> Any: ...

    def make_reflective_dataset(self, candidate: Any, eval_batch: Any, components_to_update: Any) -> Any: ...


class Proposing(Plain):
    """Proposes what the test says."""

    def __init__(self, said: Any) -> None:
        self.said = said
        self.seen: list[Any] = []

    def propose_new_texts(self, candidate: Any, dataset: Any, components: list[str]) -> Any:
        self.seen.append((candidate, dataset, components))
        return self.said(candidate) if callable(self.said) else self.said


async def proposed(adapter: Any, text: str = TEXT) -> Any:
    """What it proposes for `text`, of which one row went wrong."""
    operator, _ = GepaAdapter(adapter, components={"system": text}).operators["adapter"]
    assert isinstance(operator, Called)
    return await operator.propose(brief(text, evidence=[seen(TRAIN[0], "lost", 0.0, "label0, please")]), no_model())


def no_model() -> Session:
    return ScriptedModel([]).session("reflection")


async def test_an_adapter_is_shown_gepas_records_and_its_text_becomes_an_edit() -> None:
    adapter = Proposing({"system": "Name the intent of {text}, in one word."})
    edit = await proposed(adapter)
    assert applied(edit, brief()) == "Name the intent of {text}, in one word."
    record = {"Inputs": {"text": "where is my card 0"}, "Generated Outputs": "lost", "Feedback": "label0, please"}
    assert adapter.seen == [({"system": TEXT}, {"system": [record]}, ["system"])]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({}, "no text"),
        ({"system": 3}, "no text"),
        (None, "no text"),
        ({"system": TEXT}, "unchanged"),
        ({"system": "Name the intent."}, "lost placeholder"),
        (lambda candidate: candidate["user"], r"the adapter raised KeyError: 'user' \(test_adapter.py:\d+\)"),
    ],
)
async def test_what_it_proposes_is_read_as_strictly_as_any_answer(said: Any, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        await proposed(Proposing(said))


async def test_an_adapter_that_proposes_nothing_says_so() -> None:
    with pytest.raises(Refused, match="it has no propose_new_texts"):
        await proposed(Plain())
