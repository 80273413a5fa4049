"""Examples: columns as attributes and items, and what makes two rows the same."""

from __future__ import annotations

import copy
import pickle

import pytest

from promptopt.core.example import Example

ROW = Example("a", {"text": "hi", "id": 7}, expected="greeting", group="g", meta={"label": "greeting", "note": None})


def test_columns_are_attributes_and_items():
    assert ROW.text == ROW["text"] == "hi"
    assert ROW.label == ROW["label"] == "greeting"
    assert ROW.note is None


def test_a_column_named_like_a_field_is_an_item_only():
    assert ROW.id == "a"
    assert ROW["id"] == 7


def test_an_unknown_column_names_those_there_are():
    with pytest.raises(AttributeError, match="no column 'txt'; it has text, id, label, note"):
        _ = ROW.txt
    with pytest.raises(KeyError):
        _ = ROW["txt"]
    assert getattr(ROW, "txt", "fallback") == "fallback"


def test_examples_survive_pickling_and_copying():
    for twin in (pickle.loads(pickle.dumps(ROW)), copy.copy(ROW), copy.deepcopy(ROW)):
        assert twin == ROW
        assert twin.text == "hi"
        assert hash(twin) == hash(ROW)
    assert len({ROW, copy.deepcopy(ROW)}) == 1


def test_the_digest_covers_every_column_but_not_the_id():
    same = Example("b", {"id": 7, "text": "hi"}, "greeting", "g", {"note": None, "label": "greeting"})
    assert same.digest == ROW.digest
    others = [
        Example("a", {"text": "ho", "id": 7}, "greeting", "g", ROW.meta),
        Example("a", ROW.inputs, "other", "g", ROW.meta),
        Example("a", ROW.inputs, "greeting", None, ROW.meta),
        Example("a", ROW.inputs, "greeting", "g", {"label": "greeting", "note": 1}),
        Example("a", {"text": "hi", "id": "7"}, "greeting", "g", ROW.meta),
    ]
    assert len({ROW.digest, *(other.digest for other in others)}) == 6


def test_equal_inputs_are_duplicates_whatever_the_answer():
    relabelled = Example("b", {"id": 7, "text": "hi"}, expected="other")
    assert relabelled.inputs_digest == ROW.inputs_digest
    assert Example("b", {"text": "hi"}).inputs_digest != ROW.inputs_digest
