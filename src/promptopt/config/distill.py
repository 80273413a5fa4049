"""The settings of a distillation: a job as for optimize, and the models that it moves between."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, Field, field_validator, model_validator

from promptopt.config.document import read
from promptopt.config.settings import Config, LmArgs, Metric, Settings, Text
from promptopt.core.example import Example


def _different(students: list[StudentSettings]) -> list[StudentSettings]:
    names = [student.name for student in students]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"names {twice} twice; give one of them another name: or lm_args")
    if any(name.strip().casefold() == "teacher" for name in names):
        raise ValueError("names one teacher, as reports call the model that the program runs on; name it otherwise")
    return students


UNANSWERED = ("teacher", "mixed")
"""The references for which the teacher answers rows that have no answer."""


class ModelChoice(Settings):
    """A model that the program may run on."""

    lm: Text
    lm_args: LmArgs = Field(default_factory=dict[str, Any])
    """Arguments of its calls, beside the program's lm_args and before them; null takes one away."""


class StudentSettings(ModelChoice):
    """A model that may take the teacher's place."""

    name: Text = ""
    """What reports call it; its lm where it says nothing."""

    def model_post_init(self, context: object, /) -> None:
        """Take the model's name where there is no other."""
        if not self.name:
            object.__setattr__(self, "name", self.lm)


class TrafficSettings(Settings):
    """How often the program is asked."""

    requests_per_month: int = Field(gt=0)


class CascadeSettings(Settings):
    """A student that answers where it is sure, and the teacher behind it; see `distillation.escalation`."""

    confidence: Literal["self_consistency", "judge", "logprobs"] = "self_consistency"
    """How sure it is: the share of its samples that agree, what a judge thinks of its answer, or how likely it found
    the answer's tokens, where its endpoint tells log-probabilities."""
    samples: int = Field(default=3, ge=2, le=20)
    """How often the student answers each request for self_consistency, its own answer included."""
    temperature: float | None = Field(default=0.7, gt=0)
    """Of the samples beside its own answer, which would all be the same at 0; null: as its lm_args say."""
    judge: Metric | None = None
    """The judge, for confidence: judge. It is shown no right answers."""

    @property
    def calls(self) -> int:
        """How often the student answers a request."""
        return self.samples if self.confidence == "self_consistency" else 1

    @model_validator(mode="after")
    def _has_its_judge(self) -> CascadeSettings:
        if (self.confidence == "judge") != (self.judge is not None):
            raise ValueError("takes a judge: with confidence: judge, and with no other")
        return self


class DistillConfig(Config):
    """Moves a program from the teacher to the cheapest student that does the job as well."""

    teacher: ModelChoice
    """The model that the program runs on today."""
    students: Annotated[list[StudentSettings], Field(min_length=1), AfterValidator(_different)]
    margin: float = Field(gt=0, lt=1)
    """Quality that may be lost, on the metric's scale; fixed before anything runs."""
    references: Literal["human", "teacher", "judge", "mixed"] = "human"
    """What counts as right: data.expected, the teacher's outputs, a judge's word, or people's where there is one."""
    weak: Text | None = None
    """The stripped prompt that the teacher must beat, or the test can tell nothing; null: its first sentences."""
    repeats: int = Field(default=1, ge=1, le=20)
    """How often the teacher answers each val row, to see how far it agrees with itself."""
    traffic: TrafficSettings | None = None
    """For the saving a month."""
    max_latency_p95_ms: float | None = Field(default=None, gt=0)
    """A student whose slowest twentieth of requests takes longer than this is INFERIOR, however well it answers."""
    slices: list[Text] = Field(default_factory=list[Text])
    """Columns by whose values the test is looked at besides; the right answer and the group need not be named."""
    cascade: CascadeSettings | None = None
    """Where no student holds alone: one that asks the teacher where it is unsure; null: none."""

    @property
    def requests_per_month(self) -> int | None:
        return self.traffic.requests_per_month if self.traffic else None

    @property
    def unanswered(self) -> bool:
        return self.references in UNANSWERED

    def taught(self, row: Example) -> bool:
        """Whether the teacher's output is what counts as right on `row`."""
        return self.references == "teacher" or (self.references == "mixed" and row.expected is None)

    @model_validator(mode="before")
    @classmethod
    def _runs_on_the_teacher(cls, said: dict[str, Any]) -> dict[str, Any]:
        """The program's model is the teacher, whatever model it names; its lm_args hold for every model."""
        match said:
            case {"program": dict(), "teacher": {"lm": str(lm), **rest}}:
                program = cast("dict[str, Any]", said["program"])
                args: dict[str, Any] = {**(program.get("lm_args") or {}), **(rest.get("lm_args") or {})}
                return {**said, "program": {**program, "lm": lm, **({"lm_args": args} if args else {})}}
            case {"program": dict()}:  # the teacher is what is wrong then, and the only thing to complain about
                return {**said, "program": {"lm": "the teacher's", **cast("dict[str, Any]", said["program"])}}
            case _:
                return said

    @field_validator("margin", mode="before")
    @classmethod
    def _is_a_share(cls, margin: object) -> object:
        if isinstance(margin, int | float) and not isinstance(margin, bool) and not 0 < margin < 1:
            raise ValueError(f"must lie between 0 and 1: it is the quality that may be lost, not {margin}")
        return margin


def kind_of(config: Config | str | Path) -> type[Config]:
    """What a config is, or that in a file: DistillConfig where it names students. Raises ConfigError."""
    if isinstance(config, str | Path):
        return DistillConfig if "students" in read(Path(config)).values else Config
    return DistillConfig if isinstance(config, DistillConfig) else Config
