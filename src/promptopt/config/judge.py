"""The settings of a judge's file: the judge, people's labels, and how the two are brought together."""

from __future__ import annotations

from pydantic import Field

from promptopt.config.settings import (
    BudgetSettings,
    Columns,
    FileSettings,
    Metric,
    ReflectionSettings,
    Settings,
    Slug,
    SplitSettings,
    StrategySettings,
    Text,
)


class LabelSettings(Settings):
    """Where people's labels are: one row a label, or one a rater."""

    path: Text
    inputs: Columns
    """The columns that the judge may be shown."""
    output: Text | None = None
    """The column with the output that was judged; null where the inputs hold all there is."""
    expected: Text | None = None
    """The column with the expected answer, for a judge that is shown one."""
    label: Columns
    """What people said: a column, or for each criterion one, as `{polite: polite_label}`."""
    rater: Text | None = None
    """Who said so. Without it rows with equal inputs are ratings by different people."""
    id: Text | None = None
    """What rows of the same item have in common; null: equal inputs."""
    group: Text | None = None
    """What items have in common that are not independent: a session, a customer, a document."""
    reason: Text | None = None
    """Why they said so, for `judge align`."""
    rows: int | None = Field(default=None, ge=1)
    """How many items to use, drawn by the seed; null: all."""
    slices: list[Text] = Field(default_factory=list[str])
    """Columns whose values split the rows, to see where the judge is off."""

    @property
    def rated(self) -> tuple[str | None, ...]:
        """The columns, beside the inputs, in which two ratings of one item are the same."""
        return (self.output, self.expected, self.group)


class JudgeConfig(FileSettings):
    """A judge and people's labels: what `promptopt judge` works with."""

    name: Slug = "judge"
    judge: Metric
    """The block that stands under `metric:` in a job."""
    labels: LabelSettings
    repeats: int = Field(default=1, ge=1)
    """How often each row is judged; more than once measures how far the judge agrees with itself."""
    budget: BudgetSettings | None = None
    split: SplitSettings | None = None
    reflection: ReflectionSettings | None = None
    strategy: StrategySettings = StrategySettings()
    """`split`, `reflection` and `strategy` are for `judge align`."""
