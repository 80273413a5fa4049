"""The names that users import are a contract: add to them, don't break them."""

from __future__ import annotations

import subprocess
import sys

import pytest

import promptopt
from promptopt import errors

PINNED = [
    "LM", "Alignment", "Budget", "Calibration", "Candidate", "ConfigError", "DSPyModule", "DSPyOptimizer", "DataError",
    "Dataset", "Example", "Function", "GepaAdapter", "Judge", "Prompt", "PromptoptError", "Result", "RunError", "Score",
    "Split", "UserError", "align", "calibrate", "compare", "distill",
    "evaluate", "optimize", "plan",
]  # fmt: skip


def test_the_public_names_are_these():
    assert promptopt.__all__ == PINNED
    assert set(PINNED) <= set(dir(promptopt))


def test_every_public_name_is_itself_whatever_was_imported_before():
    """A submodule of the same name would hide it as soon as anything imports that submodule."""
    look = f"import promptopt.api, promptopt; print(*(getattr(promptopt, name).__name__ for name in {PINNED}))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == PINNED


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'optimise'"):
        promptopt.optimise  # noqa: B018


def test_every_error_is_drawn_in_the_tree():
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, Exception):
            assert name in (errors.__doc__ or "")
            assert issubclass(value, errors.PromptoptError)
