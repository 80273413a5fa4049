"""What `promptopt distill` refuses before anything is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from promptopt.testing.faulty import FaultyServer
from test_distillation import SMALL, behave, write
from world import command


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"margin": 0}, "margin must lie between 0 and 1"),
        ({"margin": 1.5}, "margin must lie between 0 and 1"),
        ({"students": []}, "students"),
        ({"students": [{"lm": "openai/small"}, {"lm": "openai/small"}]}, "openai/small twice"),
        ({"students": [SMALL, {**SMALL, "name": "again"}]}, "students.1 is openai/small again"),
        ({"students": [{**SMALL, "name": "Teacher"}]}, "students names one teacher, as reports call"),
        ({"students": [{"lm": "openai/frontier"}]}, "is the teacher's own model"),
        ({"students": [{"lm": "openai/frontier", "lm_args": {"max_tokens": 8}}]}, "is the teacher's own model"),
        ({"students": [SMALL, {**SMALL, "name": "again", "lm_args": {"max_tokens": 8}}]}, "is openai/small again"),
        ({"weak": ""}, "weak"),
        ({"students": [{**SMALL, "lm_args": {"lm": "openai/hopeless"}}]}, "must not set lm; that is the lm beside it"),
        ({"slices": ["teem"]}, "slices: the rows have no column teem. Did you mean team?"),
        ({"repeats": 1_000_000_000}, "repeats must be at most 20"),
        ({"margin": 0.02}, "not even an identical student"),
        ({"budget": {"rollouts": 500}}, "budget.rollouts is 500"),
        ({"references": "judge"}, "needs a judge as the metric"),
        ({"budget": {"usd": 5}, "students": [{"lm": "ollama/unheard-of"}]}, "price of ollama/unheard-of is not known"),
    ],
)
async def test_what_cannot_work_is_said_before_anything_is_spent(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    async with FaultyServer(behave()) as server:
        done = await command("distill", str(write(tmp_path, server.base_url, **changes)))
    assert done.exit_code == 2, done.output
    assert message in done.output
    assert server.calls == 0


async def test_a_teacher_that_is_no_mapping_is_the_only_thing_to_mend(tmp_path: Path) -> None:
    done = await command("distill", str(write(tmp_path, "http://127.0.0.1:9/v1", teacher="openai/frontier")))
    assert done.exit_code == 2, done.output
    assert "teacher must be a mapping, got 'openai/frontier'" in done.output
    assert "program" not in done.output


async def test_optimize_sends_a_distillation_where_it_belongs(tmp_path: Path) -> None:
    done = await command("optimize", str(write(tmp_path, "http://127.0.0.1:9/v1")))
    assert done.exit_code == 2, done.output
    assert "names students, so it is a distillation: promptopt distill" in done.output
