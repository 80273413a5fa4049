"""Bootstrap: the program's own good replies as demos.

They show how to get to an answer, reasoning and all, where the labelled answer is only a reply's last word
(BootstrapFewShot: Khattab et al., 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from promptopt.core.candidate import Demo
from promptopt.core.edit import Brief, ChangeDemos, Edit, Evidence
from promptopt.reflect.demo_rows import POOL, fitting
from promptopt.reflect.evidence import best, plain
from promptopt.reflect.operator import Refused

FEW = 4
"""Most demos put in at a time; replies with reasoning are long, and later steps add further ones."""


class BootstrappedDemos:
    """Puts replies that were right in the place of labelled demos, beside earlier ones of their kind."""

    def draw(self, brief: Brief) -> Edit:
        rng = Random(f"{brief.seed}/bootstrap")
        replies = {slot: _replies(slot, best(brief.evidence, FEW), brief) for slot in brief.labelled}
        slots = [slot for slot, demos in replies.items() if demos]
        if not slots:
            raise Refused("nothing to bootstrap")
        slot = rng.choice(slots)
        present, nearest = brief.parent.filling(slot)
        labels = [demo for demo in present if demo in brief.labelled[slot]]
        earlier = [demo for demo in present if demo not in labels]
        crowded = earlier[: max(0, len(earlier) + FEW - (POOL if nearest else brief.max_demos))]
        gone = [*labels, *crowded]
        kept = tuple(earlier[len(crowded) :])
        shown = rng.sample(replies[slot], len(replies[slot]))
        added = fitting(brief, slot, (kept, nearest), shown, FEW)
        edit = ChangeDemos(slot, tuple(demo.example_id for demo in gone), added)
        if not edit.add or edit.note in brief.rejected:
            raise Refused("nothing to bootstrap")
        return edit


def _replies(slot: str, rows: Sequence[Evidence], brief: Brief) -> list[Demo]:
    """What the slot's part replied on these rows; none where all replies say only what labelled demos say."""
    made = [demo for row in rows if (demo := row.demo(slot))]
    said = {(demo.example_id, plain(demo.output)) for demo in brief.labelled[slot]}
    return [] if all((demo.example_id, plain(demo.output)) in said for demo in made) else made
