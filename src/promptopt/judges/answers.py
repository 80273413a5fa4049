"""What a judge may answer: its options from worst to best, how an answer is read, and what score it stands for."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, cast

from promptopt.metrics.answer_text import as_text, quote

Value = str | int | float
"""An answer in its one form: an option as it is spelled, or a number from 0 to 1."""
Level = Literal["binary", "ordinal", "nominal", "interval"]
AnswerForm = str | Sequence[str] | Mapping[str, float]
"""An answer as YAML says it."""

YES_NO = ("no", "yes")
MOST_LEVELS = 101
"""Whole numbers in a range; `number` is for what is finer."""

_FORMS = "yes_no, LOW-HIGH such as 1-5, number, a list of words from worst to best, or {word: score}"
_RANGE = re.compile(r"\s*(-?\d{1,9})\s*[-–]\s*(-?\d{1,9})\s*")
_AS_YES_OR_NO = {"true": "yes", "y": "yes", "1": "yes", "1.0": "yes", "false": "no", "n": "no", "0": "no", "0.0": "no"}
_YAML_BOOL = 'YAML reads a bare yes, no, on or off as true or false: put it in quotes, as in "yes"'


@dataclass(frozen=True, slots=True)
class Answer:
    """A typed answer. `Answer.of` makes one."""

    level: Level
    """`binary` with two options; `ordinal` with more in an order; `nominal` where some are worth the same, so that no
    order is known; `interval` for a number."""
    options: tuple[str, ...] | tuple[int, ...] | None
    """Every possible answer, worst first; None for a number from 0 to 1."""
    worths: tuple[float, ...] = ()
    """The score of each option."""

    @staticmethod
    def of(said: Any) -> Answer:
        """The answer that YAML's form describes. Raises ValueError that says what is wrong with it."""
        if isinstance(said, Answer):
            return said
        if isinstance(said, str):
            return _named(said)
        if isinstance(said, Mapping):
            return _scored(cast("Mapping[Any, Any]", said))
        if isinstance(said, Sequence):
            words = [_word(word) for word in cast("Sequence[Any]", said)]
            _check_words(words)
            return _with_options(words, [rank / (len(words) - 1) for rank in range(len(words))])
        hint = f". {_YAML_BOOL}, or say yes_no" if isinstance(said, bool) else ""
        raise ValueError(f"an answer is {_FORMS}; not {said!r}{hint}")

    @property
    def ordered(self) -> bool:
        """Whether the distance between two different answers means something."""
        return self.level in ("ordinal", "interval")

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of an answer. Not every model takes the bounds of a number, which are checked on reading."""
        if self.options is None:
            return {"type": "number"}
        kind = "integer" if isinstance(self.options[0], int) else "string"
        return {"type": kind, "enum": list(self.options)}

    @property
    def wording(self) -> str:
        """What is asked for, as the end of a sentence: `"no" or "yes"`, `a whole number from 1 to 5`."""
        if self.options is None:
            return "a number from 0 to 1"
        if isinstance(self.options[0], int):
            return f"a whole number from {self.options[0]} to {self.options[-1]}"
        *others, last = (json.dumps(option, ensure_ascii=False) for option in self.options)
        return f"{', '.join(others)} or {last}"

    def read(self, value: Any) -> Value:
        """The answer that `value` is; a word may differ in case, and true and false are yes and no.

        Raises ValueError for anything else, a number in quotes included.
        """
        value = _item(value)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if self.options is None:
            if is_number and 0 <= value <= 1:
                return float(value)
        elif isinstance(self.options[0], int):
            if is_number and value in self.options:
                return int(value)
        elif isinstance(value, bool) and self.options == YES_NO:
            return YES_NO[value]
        elif isinstance(value, str):
            folded = value.strip().casefold()
            for option in cast("tuple[str, ...]", self.options):
                if option.casefold() == folded:
                    return option
        raise ValueError(f"{quote(value)} is not {self.wording}")

    def from_cell(self, cell: Any) -> Value:
        """The answer in a table's cell, be it typed or text: `4`, `4.0`, `Yes`, `true`, `1`. Raises as `read`."""
        text = as_text(_item(cell))
        if self.options == YES_NO:
            return self.read(_AS_YES_OR_NO.get(text.strip().casefold(), text))
        if self.options is not None and isinstance(self.options[0], str):
            return self.read(text)
        try:
            return self.read(float(text))
        except ValueError:
            raise ValueError(f"{quote(text)} is not {self.wording}") from None

    def score(self, value: Value) -> float:
        """What an answer, as `read` gives it, is worth in [0, 1]."""
        return float(value) if self.options is None else self.worths[self.options.index(cast(Any, value))]


def _item(value: Any) -> Any:
    """A number of NumPy's as Python's."""
    return value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value


def _named(said: str) -> Answer:
    if said == "yes_no":
        return _with_options(YES_NO, (0.0, 1.0))
    if said == "number":
        return Answer("interval", None)
    ends = _RANGE.fullmatch(said)
    if ends is None:
        raise ValueError(f"an answer is {_FORMS}; not {said!r}")
    low, high = int(ends[1]), int(ends[2])
    if not 0 < high - low < MOST_LEVELS:
        raise ValueError(f"the range {said} must go up, by at most {MOST_LEVELS - 1} steps; say number for finer ones")
    return _with_options(range(low, high + 1), [(level - low) / (high - low) for level in range(low, high + 1)])


def _scored(said: Mapping[Any, Any]) -> Answer:
    worths = {_word(word): worth for word, worth in said.items()}
    for word, worth in worths.items():
        if isinstance(worth, bool) or not isinstance(worth, int | float) or not 0 <= worth <= 1:
            raise ValueError(f"the score of the answer {word!r} must be a number from 0 to 1, not {worth!r}")
    words = sorted(worths, key=worths.__getitem__)
    _check_words(words)
    if len(set(worths.values())) == 1:
        raise ValueError("every answer has the same score, so a judge could tell nothing apart")
    return _with_options(words, [float(worths[word]) for word in words])


def _with_options(options: Sequence[Any], worths: Sequence[float]) -> Answer:
    ordered = all(a < b for a, b in pairwise(worths))
    level = "nominal" if not ordered else "binary" if len(options) == 2 else "ordinal"
    return Answer(level, tuple(options), tuple(worths))


def _word(said: Any) -> str:
    if isinstance(said, bool):
        raise ValueError(f"the answer {said!r} is not a word. {_YAML_BOOL}, or say yes_no")
    if said is None or (isinstance(said, float) and math.isnan(said)):
        raise ValueError("an answer is empty. YAML reads a bare null or ~ as nothing: put it in quotes")
    if not isinstance(said, str):
        raise ValueError(f"the answer {said!r} is not a word: put it in quotes, or write whole numbers as 1-5")
    if not said.strip():
        raise ValueError("an answer is an empty text")
    return said.strip()


def _check_words(words: Sequence[str]) -> None:
    if len(words) < 2:
        raise ValueError("an answer needs at least two words to choose from")
    folded = [word.casefold() for word in words]
    if twice := next((word for word, fold in zip(words, folded, strict=True) if folded.count(fold) > 1), None):
        raise ValueError(f"the answer {twice!r} comes twice; upper and lower case are the same")
