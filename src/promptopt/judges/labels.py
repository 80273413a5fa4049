"""What people said about outputs: one item a row, with the answer that they agree on and each rater's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import median, median_high, median_low
from typing import Any, cast

from promptopt.config.judge import LabelSettings
from promptopt.core.example import Example, with_ids
from promptopt.data import Dataset
from promptopt.errors import ConfigError, DataError
from promptopt.judges.answers import Answer, Value

ONLY = ""
"""Stands for the one question of a judge without criteria."""
OUTPUT, EXPECTED, REASONS = "judged output", "its expected answer", "raters' reasons"
"""Where an item keeps what was judged (an input), the answer it should have been, and why people said so."""

Answers = Mapping[str, Value]
"""Answers by criterion; those of a judge without criteria stand under ONLY."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Items that people have judged."""

    items: tuple[Example, ...]
    """In the order of the file; `expected` has what people agree on, by criterion, without those that are tied."""
    ratings: Mapping[str, Mapping[str, Answers]]
    """By item and rater, what each said."""
    tied: int
    """Answers left out because as many people said one thing as another."""
    slices: Mapping[str, Mapping[str, str]]
    """By column, the value of each item."""
    grouped: bool = False
    """Whether items have a group that others may share."""

    @property
    def raters(self) -> int:
        return len({rater for said in self.ratings.values() for rater in said})

    def groups_of(self, rows: Iterable[str]) -> list[str] | None:
        """The group of each item in `rows`; None where every item stands for itself."""
        group = {item.id: item.group or item.id for item in self.items}
        return [group[row] for row in rows] if self.grouped else None


@dataclass(frozen=True, slots=True)
class _Rating:
    """One line of the file."""

    item: str
    rater: str | None
    said: Answers
    row: Example
    number: int
    """Of the row in the file."""

    def judged(self, settings: LabelSettings) -> tuple[Any, ...]:
        """What was rated: the inputs, the output and the expected answer, and the group they are of."""
        return (self.row.inputs, *(_cell(self.row, column) for column in settings.rated))


def read_labels(settings: LabelSettings, base: Path, answers: Mapping[str, Answer]) -> Labels:
    """The labels in a file, each read strictly as an answer of the judge.

    Raises DataError with the row for a label that is no answer, for a label of nothing, for an id that stands for two
    things, for a rater who says two things of one item, and where no row has a label; ConfigError where the columns do
    not fit the judge's criteria.
    """
    columns = label_columns(settings, answers)
    path = base / settings.path
    rows = Dataset.read(path, inputs=settings.inputs).examples
    single = (*settings.rated, settings.rater, settings.id, settings.reason)
    for needed in filter(None, [*columns.values(), *single, *settings.slices]):
        if not any(needed in row.inputs or needed in row.meta for row in rows):
            raise DataError(f"there is no column {needed!r}, which labels names", file=str(path), column=needed)
    ratings = [
        _Rating(_item(row, settings, str(path), number), _rater(row, settings), said, row, number)
        for number, row in enumerate(rows, 1)
        if (said := _said(row, columns, answers, str(path), number))
    ]
    if not ratings:
        raise DataError(f"no row has a label in {', '.join(columns.values())}", file=str(path))
    by_item: dict[str, list[_Rating]] = {}
    for rating in ratings:
        by_item.setdefault(rating.item, []).append(rating)
    for found in by_item.values():
        _check_same(found, settings, str(path))
    judged = [_judged(found[0], settings) for found in by_item.values()]
    ids = [item.id for item in (judged if settings.id else with_ids(judged))]
    ratings_of = {item: _by_rater(found, str(path)) for item, found in zip(ids, by_item.values(), strict=True)}
    agreed = {item: consensus(said.values(), answers, item) for item, said in ratings_of.items()}
    items = tuple(
        replace(one, id=item, expected=agreed[item], meta={**_said_beside(found, settings), **one.meta})
        for item, one, found in zip(ids, judged, by_item.values(), strict=True)
    )
    return Labels(
        items=items,
        ratings=ratings_of,
        tied=sum(len(answers) - len(said) for said in agreed.values()),
        slices={
            column: {item.id: str(value) for item in items if (value := _cell(item, column)) is not None}
            for column in settings.slices
        },
        grouped=settings.group is not None,
    )


def unlabelled(item: Example, columns: Collection[str]) -> Example:
    """The item as a judge that names these columns sees it: its paid answers stay when people think again."""
    kept = {name: value for name, value in item.meta.items() if name == EXPECTED or name in columns}
    return replace(item, expected=None, meta=kept)


def consensus(said: Iterable[Answers], answers: Mapping[str, Answer], item: str) -> Answers:
    """What most people say of an item; of ordered answers the median. A tie of answers without order has no consensus.

    Of two in the middle it is half-way: for a number their mean; for options the one between them, and where that falls
    between two, one of these by lot, drawn by the item's id. So the consensus leans neither up nor down.
    """
    every = list(said)
    agreed: dict[str, Value] = {}
    for name, answer in answers.items():
        given = [one[name] for one in every if name in one]
        ranked = Counter(given).most_common(2)
        if given and answer.ordered:
            agreed[name] = _middle(answer, given, Random(f"{item}/{name}"))
        elif ranked and (len(ranked) == 1 or ranked[0][1] > ranked[1][1]):
            agreed[name] = ranked[0][0]
    return agreed


def _middle(answer: Answer, given: Sequence[Value], lot: Random) -> Value:
    """The median of ordered answers."""
    if answer.options is None:
        return median(cast("Sequence[float]", given))
    places = [answer.options.index(cast(Any, one)) for one in given]
    return answer.options[(median_low(places) + median_high(places) + lot.randrange(2)) // 2]


def label_columns(settings: LabelSettings, answers: Mapping[str, Answer]) -> dict[str, str]:
    """The column of each criterion's labels. Raises ConfigError where they do not fit the criteria."""
    label = settings.label
    if isinstance(label, Mapping):
        columns = dict(label)
    elif isinstance(label, str) and len(answers) == 1:
        columns = dict.fromkeys(answers, label)
    else:
        columns = {column: column for column in ([label] if isinstance(label, str) else label)}
    if columns.keys() != answers.keys():
        wanted = "one column" if list(answers) == [ONLY] else f"a column for each criterion: {', '.join(answers)}"
        raise ConfigError(f"labels.label must name {wanted}", key="labels.label")
    return columns


def _said(row: Example, columns: Mapping[str, str], answers: Mapping[str, Answer], file: str, number: int) -> Answers:
    """A line's labels; an empty cell is none."""
    said: dict[str, Value] = {}
    for name, column in columns.items():
        value = _cell(row, column)
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        try:
            said[name] = answers[name].from_cell(value)
        except ValueError as error:
            raise DataError(
                f"the label in {column!r} is no answer of this judge: {error}", file=file, row=number, column=column,
                unit="row",
            ) from None  # fmt: skip
    return said


def _check_same(found: Sequence[_Rating], settings: LabelSettings, file: str) -> None:
    """That the ratings of an item are of the same thing."""
    first = found[0]
    for other in found[1:]:
        if other.judged(settings) != first.judged(settings):
            raise DataError(
                f"{first.item!r} in column {settings.id!r} stands for something else in row {first.number}: rows share "
                "an id where they rate the same inputs and output" + (", of one group" if settings.group else ""),
                file=file, row=other.number, column=settings.id, unit="row",
            )  # fmt: skip


def _by_rater(found: Sequence[_Rating], file: str) -> dict[str, Answers]:
    """Each rater's answers to one item; raters without a name are numbered."""
    named: dict[str, _Rating] = {}
    for place, rating in enumerate(found, 1):
        rater = rating.rater or f"rater {place}"
        before = named.setdefault(rater, rating)
        if before.said != rating.said:
            message = f"rater {rater!r} gives this item another label than in row {before.number}"
            raise DataError(message, file=file, row=rating.number, unit="row")
    return {rater: rating.said for rater, rating in named.items()}


def _judged(rating: _Rating, settings: LabelSettings) -> Example:
    """What people judged, without what they said of it: an id that is made of it stays when they correct themselves."""
    row = rating.row
    judged = {OUTPUT: _cell(row, settings.output)} if settings.output else {}
    expected = _cell(row, settings.expected)
    meta = {EXPECTED: None if expected == "" else expected}  # CSV has no other nothing
    group = None if settings.group is None else str(_cell(row, settings.group))
    return Example(rating.item if settings.id else "", {**row.inputs, **judged}, None, group, meta)


def _said_beside(found: Sequence[_Rating], settings: LabelSettings) -> dict[str, Any]:
    """The other columns of an item, and its raters' reasons."""
    reasons = [str(reason) for one in found if settings.reason and (reason := _cell(one.row, settings.reason))]
    return {**found[0].row.meta, REASONS: reasons}


def _rater(row: Example, settings: LabelSettings) -> str | None:
    """The name of who said so; None where the cell is empty, too."""
    name = _cell(row, settings.rater)
    return None if name is None else str(name).strip() or None


def _item(row: Example, settings: LabelSettings, file: str, number: int) -> str:
    """What rows of the same item share."""
    for column in (settings.id, settings.output, settings.group):
        value = _cell(row, column)
        if column and (value is None or (column != settings.output and not str(value).strip())):
            raise DataError(
                f"column {column!r} is empty, and the row has a label. Fill it in or leave the row out.",
                file=file, row=number, column=column, unit="row",
            )  # fmt: skip
    if settings.id is not None:
        return str(_cell(row, settings.id))
    return repr([row.inputs_digest, *(_cell(row, column) for column in settings.rated)])


def _cell(row: Example, column: str | None) -> Any:
    """A row's value in a column; None where it has none."""
    if column is None:
        return None
    return row.inputs[column] if column in row.inputs else row.meta.get(column)
