"""The demos that are nearest to an input: each call shows those, and not the same ones every time.

Nearness is lexical, by BM25 over words and their parts of four letters, which bridge `arrive` and `arrival`: of banking
questions with 8 intents, the nearest of 60 others has the same intent for 77 %, and by whole words alone for 68 %.

Showing a model the nearest examples of a pool is KATE (Liu et al., 2022); with a teacher's replies as the pool it is
in-context distillation (Sarukkai et al., 2025, arXiv:2512.02543).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from promptopt.core.candidate import Demo
from promptopt.core.example import text_of

if TYPE_CHECKING:
    import bm25s

NEARNESS = "by BM25 over words and their parts of four letters, without a demo that has the same inputs"
"""How it is measured, for those who choose demos themselves."""
PART = 4
"""Letters of a part of a word."""
WORD = re.compile(r"\w+")


def nearest(demos: Sequence[Demo], inputs: Mapping[str, Any], count: int) -> tuple[Demo, ...]:
    """The `count` demos nearest to `inputs`, the nearest last: models weigh what they read last most.

    A demo with the same inputs is left out, so that no row is shown its own answer. Equally near ones, such as those
    without a word in common with the inputs, stand for each other in the order of `demos`.
    """
    query, texts = _text(inputs), tuple(_text(demo.inputs) for demo in demos)
    near = _index(texts).get_scores(_terms(query))
    others = [place for place, text in enumerate(texts) if text != query]
    closest = sorted(others, key=lambda place: -near[place])[:count]
    return tuple(demos[place] for place in reversed(closest))


@lru_cache(maxsize=64)
def _index(texts: tuple[str, ...]) -> bm25s.BM25:
    """An index of these texts. Many candidates share a pool, and every rollout asks."""
    import bm25s

    logging.getLogger("bm25s").setLevel(logging.NOTSET)  # its own is DEBUG, which would reach everybody's handlers
    index = bm25s.BM25(backend="numpy")
    index.index([_terms(text) for text in texts], show_progress=False)
    return index


def _text(inputs: Mapping[str, Any]) -> str:
    return "\n".join(text_of(inputs[column]) for column in sorted(inputs))


def _terms(text: str) -> list[str]:
    """The words of a text, and the parts of each, its edges marked; of a text without words, a mark that is no word."""
    words = [f" {word} " for word in WORD.findall(text.casefold())]
    parts = [word[i : i + PART] for word in words for i in range(len(word) - PART + 1) if len(word) > PART]
    return words + parts or [" "]
