"""The table of the comparison on local models."""

from __future__ import annotations

import pytest
from local_models import Run, gain, table

from promptopt.stats.paired import tango_interval


def of(arm: str, before: tuple[int, ...], after: tuple[int, ...]) -> Run:
    return Run("banking", arm, 0, before, after, calls=500, reflections=20, tokens=1234, seconds=90.0, found="Sort.")


def test_arms_are_compared_on_the_rows_where_only_one_of_them_is_right() -> None:
    ours = of("promptopt", before=(0, 0, 0, 1, 0), after=(1, 1, 1, 1, 0))
    peer = of("gepa", before=(0, 0, 0, 1, 0), after=(0, 1, 0, 1, 1))
    low, high = tango_interval(2, 1, 5)
    assert gain(peer.after, ours.after) == pytest.approx((0.2, low, high))
    lines = table([peer, ours]).splitlines()
    assert [line.split(" | ")[1] for line in lines if line.startswith("| banking")] == [
        "promptopt",
        "gepa",
        "promptopt, seed 0",
    ]
    assert f"+0.200 ({low:+.3f} to {high:+.3f})" in lines[-1]
    assert "| 0.200 | 0.800 |" in lines[2]
