"""Bootstrap: the program's own good replies as demos.

They show how to get to an answer, reasoning and all, where the labelled answer is only a reply's last word
(BootstrapFewShot: Khattab et al., 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from promptopt.core.candidate import Demo
from promptopt.core.edit import Brief, ChangeDemos, Edit, Evidence, joined
from promptopt.reflect.demo_rows import POOL, fitting
from promptopt.reflect.evidence import best, plain
from promptopt.reflect.operator import Refused

FEW = 4
"""Most demos put in at a time; replies with reasoning are long, and later steps add further ones."""


class BootstrappedDemos:
    """Puts replies that were right in the place of labelled demos, beside earlier ones of their kind.

    Of a program with several slots each is given what its part replied on the same rows.
    """

    def draw(self, brief: Brief) -> Edit:
        found = best(brief.evidence, FEW)
        rows = Random(f"{brief.seed}/bootstrap").sample(found, len(found))
        replies = {slot: demos for slot in brief.labelled if (demos := _replies(slot, rows, brief))}
        edits, child = list[ChangeDemos](), brief.parent
        for slot, demos in replies.items():
            share = max(1, brief.max_demos // len(replies))
            edits.append(_shown(slot, demos, replace(brief, parent=child), share))
            child = edits[-1].apply(child)
        edit = joined(edit for edit in edits if edit.add)
        if edit is None or edit.note in brief.rejected:
            raise Refused("nothing to bootstrap")
        return edit


def _shown(slot: str, demos: Sequence[Demo], brief: Brief, share: int) -> ChangeDemos:
    """A few of `demos` in a slot that may have `share` of them; the earliest that are there make way."""
    present, nearest = brief.parent.filling(slot)
    labels = [demo for demo in present if demo in brief.labelled[slot]]
    earlier = [demo for demo in present if demo not in labels]
    most = min(FEW, share, len(demos))
    crowded = earlier[: max(0, len(earlier) + most - (POOL if nearest else share))]
    kept = tuple(earlier[len(crowded) :])
    gone = tuple(demo.example_id for demo in (*labels, *crowded))
    return ChangeDemos(slot, gone, fitting(brief, slot, (kept, nearest), demos, most))


def _replies(slot: str, rows: Sequence[Evidence], brief: Brief) -> list[Demo]:
    """What the slot's part replied on these rows; none where all replies say only what labelled demos say."""
    made = [demo for row in rows if (demo := row.demo(slot))]
    said = {(demo.example_id, plain(demo.output)) for demo in brief.labelled[slot]}
    return [] if all((demo.example_id, plain(demo.output)) in said for demo in made) else made
