"""What metrics that ask a model have in common: whom they ask, what they show, and how a bad answer is mended."""

from __future__ import annotations

import asyncio
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Annotated, Any, Generic, TypeVar, cast

from pydantic import BeforeValidator, Field, StrictBool, field_validator
from pydantic.dataclasses import dataclass as checked

from promptopt.core.example import Example
from promptopt.core.rollout import Failure
from promptopt.judges.conversation import READING, checked_turns, rendered
from promptopt.judges.fences import FENCES, fenced, inert
from promptopt.judges.verdicts import INSTRUCTIONS
from promptopt.lm.arguments import fault
from promptopt.lm.message import CallFailed, Message, Reply, Request
from promptopt.lm.session import Session
from promptopt.lm.spec import LM
from promptopt.metrics.answer_text import as_text, quote, wanted
from promptopt.metrics.built_in import STRICT, BuiltIn
from promptopt.metrics.json_fields import read_json

T = TypeVar("T")

REASKS = 2
"""How often one judgement asks again for answers that cannot be used, its samples together, before it is missing."""
LONGEST_SHOWN = 2000
"""Characters of an unusable answer that its author is shown again."""

EXPECTED_TITLE = "expected answer"
"""The title of its block."""

_AGAIN = "That answer cannot be used: {fault}. Answer again, with the JSON object alone."
_SPECIMEN = "…"


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """One request for an answer, and how the answer is read."""

    messages: tuple[Message, ...]
    schema: Mapping[str, Any]
    read: Callable[[Any], T]
    """Raises ValueError for a JSON value that is no answer; it is told to the model, and must not quote it."""


def _path_text(path: Any) -> Any:
    return fspath(cast("PathLike[str]", path)) if isinstance(path, PathLike) else path


@checked(frozen=True, config=STRICT, kw_only=True)
class Asking(BuiltIn, ABC):
    """A metric that asks the model `lm`, on the judge's account.

    A judgement costs one call a question and at most `REASKS` more. Without a usable answer it raises CallFailed: the
    score is missing, never 0.
    """

    lm: str = Field(min_length=1)
    """The model that judges."""
    inputs: tuple[str, ...] | None = None
    """The input columns that are shown; None shows all."""
    reference: StrictBool = True
    """Show the expected answer, where the row has one."""
    conversation: str | None = Field(None, min_length=1)
    """The column that holds recorded turns, a list of {role, content}; the output is what came next."""
    samples: int = Field(1, ge=1, le=100, strict=True)
    """Independent answers, of which the mean is taken."""
    lm_args: Mapping[str, Any] = Field(default_factory=dict)
    """Parameters of the calls. Temperature is 0 unless set here, and null leaves it to the model, as several samples do
    that set none."""
    calibration: Annotated[str, Field(min_length=1), BeforeValidator(_path_text)] | None = None
    """The file, or the folder of the file, that says how well the judge agrees with people."""

    @field_validator("lm_args")
    @classmethod
    def _are_parameters(cls, lm_args: Mapping[str, Any]) -> Mapping[str, Any]:
        if wrong := fault(lm_args):
            raise ValueError(wrong)
        return lm_args

    @property
    def lms(self) -> tuple[LM, ...]:
        """The model that is called."""
        return (LM(self.lm),)

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of every call."""
        return dict(self.lm_args) if self.samples > 1 else {"temperature": 0, **self.lm_args}

    @property
    def needs_expected(self) -> bool:
        """Whether a row without an expected answer cannot be judged."""
        return False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names, which every row must have."""
        return (*(self.inputs or ()), *([self.conversation] if self.conversation else ()))

    @property
    def fingerprint(self) -> str:
        """Everything that decides an answer, down to the wording; `calibration` only says how far to trust it."""
        row: dict[str, Any] = dict.fromkeys(self.columns or ("input",), _SPECIMEN)
        if self.conversation:
            row[self.conversation] = [{"role": "user", "content": _SPECIMEN}]
        asked = self.questions(Example("", row, expected=_SPECIMEN), _SPECIMEN)
        prompt = [[question.messages, question.schema] for question in asked]
        settings = [self.lm, self.params, self.inputs, self.reference, self.conversation, self.samples]
        return json.dumps([self.type, settings, prompt, _AGAIN, REASKS], sort_keys=True, default=str)

    @property
    def identity(self) -> str:
        """A hash of the fingerprint, which a calibration is bound to."""
        return hashlib.blake2b(self.fingerprint.encode(), digest_size=16).hexdigest()

    @abstractmethod
    def questions(self, example: Example, output: Any) -> list[Question[Any]]:
        """What is asked about `output`. Raises ValueError for a row that lacks what is to be shown."""

    def requests(self, example: Example, output: Any) -> list[Request]:
        """Every call of one judgement at the worst."""
        asked = self.questions(example, output)
        reply = Reply("x" * LONGEST_SHOWN, "stop", 0, 0)
        again = [*asked[0].messages, *_ask_again(reply, "x" * 400) * REASKS]
        calls = [*(question.messages for question in asked), *[tuple(again)] * REASKS]
        return [Request(self.lm, messages, self.params, asked[0].schema) for messages in calls]

    def row_blocks(self, example: Example) -> dict[str, str]:
        """What is shown of a row by title, but for its conversation: its inputs and the expected answer."""
        columns = example.inputs if self.inputs is None else self.inputs
        blocks = {
            input_title(column): as_text(self.column(example, column))
            for column in columns
            if column != self.conversation
        }
        if self.reference and example.expected is not None:
            blocks[EXPECTED_TITLE] = as_text(wanted(example))
        return blocks

    def prompt(self, blocks: Mapping[str, str], salt: str, closing: str, **told: str) -> tuple[Message, ...]:
        """What the model is asked about `blocks`; `told` fills in the instructions, and `salt` is `fenced`'s."""
        mark, shown = fenced(blocks, salt)
        reading = (f"{READING}\n\n" if self.conversation else "") + FENCES.format(mark=mark)
        system = INSTRUCTIONS.format(reading=reading, **told)
        return ({"role": "system", "content": system}, {"role": "user", "content": f"{shown}\n\n{closing}"})

    def output_text(self, example: Example, output: Any) -> str:
        """An output as it is shown: alone, or as the end of the row's conversation."""
        if self.conversation is None:
            return as_text(output)
        try:
            return rendered(checked_turns(self.column(example, self.conversation)), output)
        except ValueError as error:
            raise ValueError(f"row {example.id!r}, column {self.conversation!r}: {error}") from None

    def column(self, example: Example, name: str) -> Any:
        """A column that the settings name."""
        try:
            return example[name]
        except KeyError:
            raise ValueError(f"row {example.id!r} has no column {name!r}, which the judge is to be shown") from None

    async def ask(self, questions: Sequence[Question[T]], row: str, lm: Session) -> list[T]:
        """The answer to each question, asked side by side. Raises CallFailed when one has none."""
        left = iter(range(REASKS))
        answers = await asyncio.gather(
            *(self._answer(question, row, lm, left) for question in questions), return_exceptions=True
        )
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        if errors:
            raise next((error for error in errors if not isinstance(error, CallFailed)), errors[0])
        return cast("list[T]", answers)

    async def _answer(self, question: Question[T], row: str, lm: Session, left: Iterator[int]) -> T:
        """`left` is what remains of the judgement's re-asks."""
        messages = question.messages
        while True:
            reply = await lm.complete(messages, model=self.lm, schema=question.schema, **self.params)
            try:
                return question.read(_whole(reply))
            except ValueError as error:
                wrong = str(error)
            if next(left, None) is None:
                told = f"{self.lm} gave no usable verdict, asked again {REASKS} times: {wrong}"
                raise CallFailed(Failure("judge", f"row {row!r}: {told}; its last answer was {quote(reply.text)}"))
            messages = (*messages, *_ask_again(reply, wrong))


def input_title(column: str) -> str:
    """The title of an input's block; a column's name stands in it as a JSON string."""
    return f"input {json.dumps(column, ensure_ascii=False)}"


def _whole(reply: Reply) -> Any:
    """The one JSON value that a reply is; ValueError, for its author to read, for a reply that is anything else."""
    if reply.finish_reason == "length":
        raise ValueError("the answer was cut off; keep the reason short")
    try:
        return read_json(reply.text)
    except ValueError:
        raise ValueError("it is not one JSON object and nothing else") from None


def _ask_again(reply: Reply, fault: str) -> list[Message]:
    return [
        {"role": "assistant", "content": inert(reply.text[:LONGEST_SHOWN]) or "(nothing)"},
        {"role": "user", "content": _AGAIN.format(fault=fault)},
    ]
