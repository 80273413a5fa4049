"""Bootstrap: the program's own good replies as demos.

They show how to get to an answer, reasoning and all, where the labelled answer is only a reply's last word
(BootstrapFewShot: Khattab et al., 2023).
"""

from __future__ import annotations

from random import Random

from promptopt.core.candidate import Demo
from promptopt.core.edit import Brief, ChangeDemos, Edit, Evidence
from promptopt.core.example import text_of
from promptopt.reflect.demo_rows import fitting
from promptopt.reflect.evidence import best, plain
from promptopt.reflect.operator import Refused

FEW = 4
"""Most demos put in at a time; replies with reasoning are long, and later steps add further ones."""


class BootstrappedDemos:
    """Puts replies that were right in the place of labelled demos, beside earlier ones of their kind."""

    def draw(self, brief: Brief) -> Edit:
        replies = [row for row in best(brief.evidence, FEW) if row.rollout.output is not None]
        if not brief.slots or all(_says_only_the_label(row) for row in replies):
            raise Refused("nothing to bootstrap")
        rng = Random(f"{brief.seed}/bootstrap")
        slot = rng.choice(brief.slots)
        present = brief.parent.demos.get(slot, ())
        labels = {row.id: text_of(row.expected) for row in brief.train}
        plain = [demo for demo in present if demo.output == labels.get(demo.example_id)]
        earlier = [demo for demo in present if demo not in plain]
        crowded = earlier[: max(0, len(earlier) + FEW - brief.max_demos)]
        gone = [*plain, *crowded]
        shown = rng.sample([_demo(row) for row in replies], len(replies))
        edit = ChangeDemos(slot, tuple(demo.example_id for demo in gone), fitting(brief, shown, FEW, gone))
        if not edit.add or edit.note in brief.rejected:
            raise Refused("nothing to bootstrap")
        return edit


def _says_only_the_label(row: Evidence) -> bool:
    return row.example.expected is not None and plain(row.rollout.output) == plain(row.example.expected)


def _demo(row: Evidence) -> Demo:
    return Demo(row.example.id, dict(row.example.inputs), text_of(row.rollout.output))
