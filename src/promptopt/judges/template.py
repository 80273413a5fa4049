"""What a judge of the library is made of: a rubric with its answers, what it needs, and when it misleads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from pydantic.dataclasses import dataclass as checked_dataclass

from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Score
from promptopt.errors import ConfigError
from promptopt.judges.asking import Question, input_title
from promptopt.judges.conversation import READING, rendered, work_of
from promptopt.judges.judge import Judge, Judgement
from promptopt.lm.session import Session
from promptopt.metrics.answer_text import as_text, wanted
from promptopt.metrics.built_in import STRICT

Need = Literal["expected", "context", "tools", "conversation", "guidelines"]
"""`expected`: the row's expected answer. `context`, `conversation`: a column, named by the option that is called so.
`guidelines`: texts, given as the option. `tools`: the calls that a program made, in its output or in its trace."""

_MEANT: Mapping[str, str] = {
    "context": "the column that holds what the output must be supported by",
    "conversation": "the column that holds the recorded turns, a list of {role, content}",
    "guidelines": "a list of texts, each one thing to keep to",
}
_EACH = "Judge each guideline by itself: keeping one does not make up for breaking another."


@checked_dataclass(frozen=True, config=STRICT, kw_only=True)
class LibraryJudge(Judge):
    """A judge of the library: a row that lacks what it needs is an error before its model is asked."""

    name: str
    needs: tuple[Need, ...] = ()
    context: str | None = None
    """The column that is shown as the context, whether or not it is an input."""
    guidelines: tuple[str, ...] = ()
    """The texts behind its criteria, in their order."""

    @property
    def columns(self) -> tuple[str, ...]:
        return (*super().columns, *([self.context] if self.context else ()))

    @property
    def needs_expected(self) -> bool:
        return "expected" in self.needs

    def questions(self, example: Example, output: Any) -> list[Question[Any]]:
        if self.needs_expected:
            wanted(example)
        return super().questions(example, output)

    def row_blocks(self, example: Example) -> dict[str, str]:
        blocks = super().row_blocks(example)
        if self.context is None:
            return blocks
        context = self.column(example, self.context)
        if context is None:
            raise ValueError(f"row {example.id!r}: {self.name} needs a context, and column {self.context!r} is empty")
        blocks.pop(input_title(self.context), None)
        return {"context": as_text(context)} | blocks

    def output_text(self, example: Example, output: Any) -> str:
        if self.conversation is None and "tools" in self.needs:
            return rendered((), output)
        return super().output_text(example, output)

    async def score(self, example: Example, rollout: Rollout, lm: Session) -> Score:
        if "tools" in self.needs:
            rollout = replace(rollout, output=work_of(rollout))
        return await super().score(example, rollout, lm)

    async def verdict(self, example: Example, output: Any, lm: Session) -> Judgement:
        judgement = await super().verdict(example, output, lm)
        parts = judgement.score.parts
        named = zip(self.criteria, self.guidelines, strict=False)
        broken = [f"{name} is: {text}" for name, text in named if parts[name] < 1]
        told = "\n".join([judgement.score.feedback, *broken])
        return replace(judgement, score=replace(judgement.score, feedback=told))


@dataclass(frozen=True)
class Template:
    """One judge of the library. Called with a model it makes the judge; its docstring says what it is good for."""

    name: str
    measures: str
    misleads: str
    rubric: str
    """What is asked, and what each answer means; `{guideline}` stands for one of the guidelines."""
    answer: str | tuple[str, ...]
    """As `Judge.answer`; better work gets a better answer."""
    needs: tuple[Need, ...] = ()
    reference: bool = False
    """Show the expected answer, where the row has one."""
    also: str = ""
    """Another word for it, where people have one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", f"Measures {self.measures}.\n\nMisleads: {self.misleads}")

    @property
    def options(self) -> tuple[str, ...]:
        """What may be said about it, the options that it needs first."""
        needed = tuple(need for need in self.needs if need in _MEANT)
        return tuple(dict.fromkeys([*needed, "lm", "conversation", "inputs", "samples", "lm_args", "calibration"]))

    def __call__(
        self,
        lm: str,
        *,
        context: str | None = None,
        guidelines: Sequence[str] = (),
        conversation: str | None = None,
        **options: Any,
    ) -> LibraryJudge:
        """The judge that asks `lm`.

        `context` and `conversation` name columns, `guidelines` are texts; `inputs`, `samples`, `lm_args` and
        `calibration` are as `Judge` has them. Raises ConfigError where something that it needs is not said, and where
        something is said that it has no use for.
        """
        said = {"context": context, "guidelines": guidelines, "conversation": conversation}
        for option in [*(option for option, value in said.items() if value), *options]:
            if option not in self.options:
                raise ConfigError(f"{self.name} has no {option}; it takes {', '.join(self.options)}", key=option)
        for option, meant in _MEANT.items():
            if option in self.needs and not said[option]:
                raise ConfigError(f"{self.name} needs {option}: {meant}", key=option)
        texts = _texts(guidelines)
        return LibraryJudge(
            lm=lm,
            name=self.name,
            needs=self.needs,
            context=context,
            guidelines=texts,
            conversation=conversation,
            reference=self.reference,
            **self._question(texts, turns="tools" in self.needs and not conversation),
            **options,
        )

    def _question(self, guidelines: Sequence[str], turns: bool) -> Mapping[str, Any]:
        """What is asked, as `Judge` takes it; `turns` says that the output is shown as turns of a conversation."""
        if "guidelines" not in self.needs:
            return {"rubric": f"{self.rubric}\n{READING}" if turns else self.rubric, "answer": self.answer}
        criteria = {
            f"guideline_{number}": {"rubric": self.rubric.replace("{guideline}", text), "answer": self.answer}
            for number, text in enumerate(guidelines, 1)
        }
        return {"rubric": _EACH, "criteria": criteria}


def _texts(guidelines: Any) -> tuple[str, ...]:
    if not isinstance(guidelines, list | tuple):
        raise ConfigError(f"guidelines must be {_MEANT['guidelines']}; got {guidelines!r}", key="guidelines")
    for text in cast("Sequence[Any]", guidelines):
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(f"a guideline must be a text, got {text!r}", key="guidelines")
    return tuple(cast("Sequence[str]", guidelines))
