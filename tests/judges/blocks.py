"""Reads a judge's request back, as one who follows its marks would."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any


def mark_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """The mark that the judge is told."""
    return re.findall(r"begins with a line <<<([0-9a-f]{16}) ", messages[0]["content"])[-1]


def blocks_of(messages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What stands between marks, by title."""
    mark = mark_of(messages)
    found = re.findall(rf"^<<<{mark}\n(.*?)\n{mark}>>>$", messages[1]["content"], re.DOTALL | re.MULTILINE)
    return dict(block.split(":\n", 1) for block in found)


def around_blocks(messages: Sequence[Mapping[str, Any]]) -> str:
    """The user's message without its blocks."""
    mark = mark_of(messages)
    return re.sub(rf"<<<{mark}\n.*?\n{mark}>>>", "", messages[1]["content"], flags=re.DOTALL).strip()
