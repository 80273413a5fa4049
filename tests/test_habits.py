"""What a student is told of its teacher where it goes wrong."""

from __future__ import annotations

from promptopt.core.rollout import Rollout, Score, Turn
from promptopt.distillation.habits import contrast


def ran(output: object, value: float, tools: tuple[str, ...] = ()) -> Rollout:
    calls = tuple({"id": "1", "function": {"name": name, "arguments": "{}"}} for name in tools)
    return Rollout("c", "e", output=output, score=Score(value), trace=(Turn((), "", tool_calls=calls),))


def test_what_the_teacher_did_right_stands_beside_the_failure() -> None:
    assert "It replied: blue" in contrast(ran("blue", 1), ran("red", 0))


def test_what_the_teacher_did_wrong_is_to_be_avoided() -> None:
    said = contrast(ran("green", 0), ran("red", 0))
    assert "do not imitate it: green" in said


def test_habits_of_form_and_length_are_told_by_contrast() -> None:
    said = contrast(ran('{"team": "blue"}', 1), ran("```\n" + "Well, let me think about this one. " * 4 + "\n```", 0))
    assert "this one is not" in said
    assert "code fence" in said
    assert "Its reply has 2 words, this one 30" in said
    assert "words" not in contrast(ran("blue", 1), ran("red", 0))


def test_tools_are_compared_by_what_was_called_and_not_by_wording() -> None:
    said = contrast(ran("done", 1, ("search", "read")), ran("done", 0, ("search",)))
    assert "It called search, read; this run called search." in said
