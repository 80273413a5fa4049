"""The settings of a distillation: a job as for optimize, and the models that it moves between."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, Field, field_validator, model_validator

from promptopt.config.settings import Config, LmArgs, Settings, Text


def _different(students: list[StudentSettings]) -> list[StudentSettings]:
    names = [student.name for student in students]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"names {twice} twice; give one of them another name: or lm_args")
    return students


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


class DistillConfig(Config):
    """Moves a program from the teacher to the cheapest student that does the job as well."""

    teacher: ModelChoice
    """The model that the program runs on today."""
    students: Annotated[list[StudentSettings], Field(min_length=1), AfterValidator(_different)]
    margin: float = Field(gt=0, lt=1)
    """Quality that may be lost, on the metric's scale; fixed before anything runs."""
    references: Literal["human", "teacher", "judge", "mixed"] = "human"
    """What counts as right: data.expected, the teacher's outputs, a judge's word, or people's where there is one."""
    weak: str | None = None
    """The stripped prompt that the teacher must beat, or the test can tell nothing; null: its first sentences."""
    repeats: int = Field(default=1, ge=1)
    """How often the teacher answers each val row, to see how far it agrees with itself."""
    traffic: TrafficSettings | None = None
    """For the saving a month."""
    max_latency_p95_ms: float | None = Field(default=None, gt=0)
    """A student whose slowest twentieth of requests takes longer than this is not recommended."""

    @model_validator(mode="before")
    @classmethod
    def _runs_on_the_teacher(cls, said: dict[str, Any]) -> dict[str, Any]:
        """The program's model is the teacher, whatever model it names; its lm_args hold for every model."""
        match said:
            case {"program": dict(), "teacher": {"lm": str(lm), **rest}}:
                program = cast("dict[str, Any]", said["program"])
                args: dict[str, Any] = {**(program.get("lm_args") or {}), **(rest.get("lm_args") or {})}
                return {**said, "program": {**program, "lm": lm, **({"lm_args": args} if args else {})}}
            case _:
                return said

    @field_validator("margin", mode="before")
    @classmethod
    def _is_a_share(cls, margin: object) -> object:
        if isinstance(margin, int | float) and not isinstance(margin, bool) and not 0 < margin < 1:
            raise ValueError(f"must lie between 0 and 1: it is the quality that may be lost, not {margin}")
        return margin
