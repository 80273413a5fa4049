"""Which train rows a parent is run on, for reflection to look at."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from promptopt.core.candidate import Candidate
from promptopt.core.example import Example
from promptopt.core.state import State

POOL = 4
"""Minibatches in the pool of rows that steps with one parent draw from; it grows as they use it up."""
FAILED, PASSED = 0.2, 0.05
"""How likely a row is drawn that an ancestor failed or passed, against one that none has run on: what a row had to
say about the ancestors is in the prompt already, or was refused."""


def minibatches(
    parent: Candidate, train: Sequence[Example], state: State, size: int, groups: int, rng: Random
) -> list[tuple[Example, ...]]:
    """`groups` minibatches of `size` rows; several overlap, so that they cost the rollouts of two at most."""
    ranked = _ranked(parent, train, state)
    pool = ranked[: max(POOL * size, len(state.train.get(parent.id, {})) + size // 2)]
    union = rng.sample(pool, min(width(size, groups), len(pool)))
    return [tuple(rng.sample(union, min(size, len(union)))) for _ in range(groups)]


def width(size: int, groups: int) -> int:
    """Most rows in `groups` minibatches of `size`."""
    return size if groups == 1 else 2 * size


def _ranked(parent: Candidate, train: Sequence[Example], state: State) -> list[Example]:
    """Train rows in the order of what they may tell of the parent; the parent's demos tell nothing."""
    shown = {demo.example_id for demos in parent.demos.values() for demo in demos}
    rows = [example for example in train if example.id not in shown] or list(train)
    tried = state.train.get(parent.id, {})
    last: dict[str, float | None] = {}
    for ancestor in reversed(list(state.lineage(parent.id))[1:]):
        last |= state.train.get(ancestor, {})

    def key(example: Example) -> tuple[bool, float]:
        value = last.get(example.id)
        weight = 1.0 if value is None else FAILED if value < 1 else PASSED
        # The draw depends on the parent and the row alone, so that steps with one parent share their pool.
        return example.id in tried, Random(f"{parent.id}/{example.id}").random() ** (1 / weight)

    return sorted(rows, key=key, reverse=True)
