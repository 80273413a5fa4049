"""The settings of a config file, as typed models.

Types are strict: `"8"` is no number and `true` is no 1. Paths stay as they are written, relative to the config's
folder, so that a folder can move; `Config.resolve` finds them. Validators phrase their errors as the end of a sentence
that starts with the setting's name.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from promptopt.config.document import Document
from promptopt.core.budget import Budget
from promptopt.core.strategies.racer import Objective
from promptopt.errors import ConfigError
from promptopt.lm.arguments import fault
from promptopt.lm.settings import ModelSettings
from promptopt.metrics.own import Own


def _slug(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", text):
        raise ValueError(
            "must be 1 to 64 letters, digits, dots, dashes or underscores, and not start with a dot or dash"
        )
    return text


def _path(text: str) -> str:
    if "\0" in text:
        raise ValueError("must be a path, and no path holds a NUL character")
    return text


def _import_path(text: str) -> str:
    if not re.fullmatch(r".+:[A-Za-z_]\w*", text):
        raise ValueError("must say a file and the function in it, such as my_program.py:run")
    return text


def _json(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise ValueError("must hold plain values only: text, finite numbers, true, false, lists and mappings") from None
    return value


def _model_arguments(value: dict[str, Any]) -> dict[str, Any]:
    if wrong := fault(value):
        raise ValueError(wrong)
    return value


def _template(text: str) -> str:
    for placeholder in ("<curr_param>", "<side_info>"):
        if placeholder not in text:
            raise ValueError(f"must contain {placeholder}")
    return text


def _metric(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


def _typed(value: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(value.get("type"), str):
        raise ValueError("needs a type, such as exact_match")
    return value


def _choices(value: dict[str, list[Any]]) -> dict[str, list[Any]]:
    for name, choices in value.items():
        for choice in choices:
            if name == "lm" and not isinstance(choice, str):
                raise ValueError(f"names models under lm, and {choice!r} is no name")
            if name != "lm":
                _model_arguments(_json({name: choice}))
        if any(choice in choices[:place] for place, choice in enumerate(choices)):
            raise ValueError(f"lists a value of {name} twice")
    return value


def _objectives(value: list[Objective]) -> list[Objective]:
    if value[0] != "score" or len(set(value)) < len(value):
        raise ValueError("must begin with score and name each objective once")
    return value


def _component(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


Text = Annotated[str, Field(min_length=1)]
FilePath = Annotated[Text, AfterValidator(_path)]
Slug = Annotated[str, AfterValidator(_slug)]
ImportPath = Annotated[str, AfterValidator(_import_path)]
LmArgs = Annotated[dict[str, Any], AfterValidator(_model_arguments), AfterValidator(_json)]
Metric = Annotated[dict[str, Any], BeforeValidator(_metric), AfterValidator(_typed), AfterValidator(_json)]
Columns = Text | Annotated[list[Text], Field(min_length=1)] | Annotated[dict[Text, Text], Field(min_length=1)]
"""A column, several, or the name each gets in the program with the column it is read from."""


class Settings(BaseModel):
    """One group of settings: unknown keys, look-alike types and changes are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class MessageSettings(Settings):
    """One chat message of a prompt."""

    role: Literal["system", "user", "assistant"]
    content: str
    """The template; {column} placeholders are filled from the row."""
    name: Slug | None = None
    """The component's name; its role when left out."""


class PromptSettings(Settings):
    """A prompt: either `system` and `user`, or chat `messages`; each text is a component (see `programs.Prompt`)."""

    type: Literal["prompt"]
    lm: Text
    """`local/NAME`, or any name that litellm knows."""
    lm_args: LmArgs = {}
    """Arguments of every call, such as temperature and max_tokens."""
    system: str | None = None
    user: str | None = None
    """Templates; {column} placeholders are filled from the row."""
    messages: list[MessageSettings] | None = Field(default=None, min_length=1)
    optimize: list[str] = Field(default=["system"], min_length=1)
    """The components that may change."""

    @model_validator(mode="after")
    def _has_one_set_of_texts(self) -> PromptSettings:
        if self.messages is not None and (self.system is not None or self.user is not None):
            raise ValueError("takes either system and user, or messages, not both")
        return self


class ComponentSettings(Settings):
    """One text of a function."""

    text: str
    role: str = ""
    """What the text is for, in words a reflection model understands."""
    placeholders: list[str] = []
    """Names that must stay in the text as `{name}`."""


class CodeSettings(Settings):
    """A program that is the user's own code, with texts that a config names."""

    path: ImportPath
    """File and function, `my_program.py:run`, or an importable `package.module:run`."""
    lm: Text | None = None
    """The model that its context offers; null when the function calls none of ours."""
    lm_args: LmArgs = {}
    components: dict[Slug, Annotated[ComponentSettings, BeforeValidator(_component)]] = Field(min_length=1)
    """The texts by name: plain text, or a mapping with text, role and placeholders."""
    optimize: list[str] | None = Field(default=None, min_length=1)
    """The components that may change; null: all."""
    max_calls: int = Field(default=16, ge=1)
    """Most model calls of one rollout; one more makes the rollout fail."""


class FunctionSettings(CodeSettings):
    """A Python callable `(components, example, context) -> output`, sync or async."""

    type: Literal["function"]


class GepaSettings(CodeSettings):
    """A gepa adapter: `path` names a function that builds one, `make(context)`."""

    type: Literal["gepa"]
    row: ImportPath | None = None
    """What makes the adapter's data instance of an example; null: input, additional_context and answer."""


class DspySettings(Settings):
    """A DSPy module."""

    type: Literal["dspy"]
    path: ImportPath
    """A module, or a class or function that makes one when called with nothing: `my_module.py:build`."""
    lm: Text | None = None
    """The model of all predictors that have none of their own; null: the one that DSPy is configured with."""
    lm_args: LmArgs = {}
    optimize: Annotated[list[Literal["instructions", "demos", "fields", "tools"]], Field(min_length=1)] = [
        "instructions",
        "demos",
    ]
    """What may change of it; fields and tools are their descriptions."""
    max_calls: int = Field(default=32, ge=1)
    """Most model calls of one rollout; one more makes the rollout fail."""


ProgramSettings = Annotated[
    PromptSettings | FunctionSettings | DspySettings | GepaSettings, Field(discriminator="type")
]


class SplitSettings(Settings):
    """How many rows of `data.path` go where: numbers of rows, or shares below 1."""

    train: int | float = Field(ge=0)
    val: int | float = Field(ge=0)
    test: int | float = Field(ge=0)
    """0 is allowed, and makes the verdict INCONCLUSIVE."""
    seed: int = Field(default=0, ge=0)


class DataSettings(Settings):
    """Where the rows are: one file and how to split it, or a file for each split."""

    path: FilePath | None = None
    """CSV, JSONL, JSON or Parquet, as train, val and test are."""
    split: SplitSettings | None = None
    train: FilePath | None = None
    val: FilePath | None = None
    test: FilePath | None = None
    inputs: Columns
    """The columns that the program sees."""
    expected: Columns | None = None
    """The wanted answer: one column's value, or a mapping where it is a list or mapping of columns."""
    id: Text | None = None
    """The column of the rows' ids; null: a hash of the row."""
    group: Text | None = None
    """The column that names a row's session, customer or document; splits keep a group together."""

    @model_validator(mode="after")
    def _has_one_source(self) -> DataSettings:
        if self.path is not None:
            if self.train is not None or self.val is not None or self.test is not None:
                raise ValueError("takes either path with split, or train, val and test files, not both")
            if self.split is None:
                raise ValueError("needs a split for its path, such as split: {train: 60, val: 60, test: 150}")
        elif self.train is None or self.val is None:
            raise ValueError("needs a path with a split, or train and val files (and test, for a verdict)")
        elif self.split is not None:
            raise ValueError("takes no split where train and val are files of their own")
        return self


class ReflectionSettings(Settings):
    """The model that reads failures and proposes edits."""

    lm: Text
    lm_args: LmArgs = {}
    template: Annotated[str, AfterValidator(_template)] | None = None
    """What a full rewrite asks; <curr_param> and <side_info> are filled in. null: promptopt's own."""


class StrategySettings(Settings):
    """How candidates are proposed, raced and chosen."""

    name: Text = "reflective"
    """A strategy of promptopt's, or your own by its import path, such as my_search.py:Mine."""
    settings: Annotated[dict[Text, Annotated[list[Any], Field(min_length=1)]], AfterValidator(_choices)] = {}
    """Settings of the program's calls to search, with their values: `{temperature: [0, 0.7], lm: [..]}`; joint only."""
    pool: int = Field(default=6, ge=1)
    """Proposals for each text and each demo slot whose combinations are searched; joint only."""
    objectives: Annotated[list[Objective], Field(min_length=1), AfterValidator(_objectives)] = ["score"]
    """What to search for: score, and prompt_tokens or usd beside it, which ends in a front; joint only."""
    pipeline: int = Field(default=8, ge=1)
    """Step i uses only what steps up to i - pipeline have told: more of it overlaps more work and knows less."""
    rebase: int = Field(default=2, ge=1)
    """Just before its child is assembled, step i takes over the incumbent as of step i - rebase; at most pipeline."""
    minibatch: int = Field(default=8, ge=1)
    """Train rows that a step runs its parent on, and reflects about."""
    block: int = Field(default=8, ge=1)
    """Val rows that a race evaluates at a time, before it decides whether to go on."""
    target: float | None = Field(default=None, gt=0, le=1)
    """Stop as soon as a candidate scores this on all val rows; null: use the budget."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many proposals in a row that did not win; null: use the budget."""
    max_prompt_tokens: int | None = Field(default=None, ge=1)
    """No candidate's texts and demos together may be longer, at four bytes a token; null: 4000."""
    max_demos: int = Field(default=16, ge=0)
    """Most demos that a candidate may carry."""
    operators: list[Text] | None = Field(default=None, min_length=1)
    """The operators that may propose, your own by import path; null: all that the program and the settings allow."""
    select: Literal["one_se", "best"] = "one_se"
    """one_se: the shortest finalist within one paired standard error of the best; best: the highest val score."""


class BudgetSettings(Settings):
    """Hard caps on everything the run pays for; see `core.budget.Budget`."""

    rollouts: int | None = Field(default=None, gt=0)
    """Runs of the program on a row, in the search and in the sealed test."""
    calls: int | None = Field(default=None, gt=0)
    """Calls of models, with every try."""
    tokens: int | None = Field(default=None, gt=0)
    """In and out together."""
    usd: float | None = Field(default=None, gt=0)
    minutes: float | None = Field(default=None, gt=0)
    """Wall-clock over all sessions of the run."""

    @property
    def caps(self) -> Budget:
        return Budget(**self.model_dump())

    @model_validator(mode="after")
    def _has_a_cap(self) -> BudgetSettings:
        if all(cap is None for cap in self.model_dump().values()):
            raise ValueError("needs at least one cap: rollouts, calls, tokens, usd or minutes")
        return self


class RunSettings(Settings):
    """Where and how fast the run goes; only the seed decides what it finds."""

    dir: FilePath | None = None
    """The run directory; null: runs/NAME beside the config."""
    seed: int = Field(default=0, ge=0)
    concurrency: int = Field(default=8, ge=1)
    """Most rollouts in flight."""
    rollout_timeout: float = Field(default=600, gt=0)
    """Seconds for one rollout with all its calls; a longer one ends as a failure, which is missing data."""


class FileSettings(Settings):
    """The settings of a whole file, which know where they were written."""

    name: Slug
    run: RunSettings = RunSettings()
    lms: dict[Text, ModelSettings] = {}
    """By model name: endpoint, key's variable, price and limits."""

    _document: Document = PrivateAttr(default=Document({}, "config"))
    _base: Path = PrivateAttr(default=Path())

    def model_post_init(self, context: Any, /) -> None:
        """Take from the validation's context where the settings were written."""
        if context:
            self._document, self._base = context["document"], context["base"]

    @property
    def base(self) -> Path:
        """The folder that relative paths start from."""
        return self._base

    @property
    def file(self) -> Path | None:
        """The file that they were read from; None where they were spelled in Python."""
        path = Path(self._document.source)
        return path if path.is_file() else None

    def resolve(self, path: str) -> Path:
        """Where a path of this config is on disk."""
        whole = self._base / path
        plain = Path(os.path.normpath(whole))
        return plain if plain.resolve() == whole.resolve() else whole  # behind a link, `..` leads elsewhere

    @property
    def run_dir(self) -> Path:
        return self.resolve(self.run.dir or f"runs/{self.name}")

    def located(self, error: ConfigError) -> ConfigError:
        """`error`, which was raised about one of these settings, with the file and line of its key."""
        return self._document.error(self._document.path(error.key or ""), str(error)) if not error.located else error


class Config(FileSettings):
    """A whole job."""

    program: ProgramSettings
    data: DataSettings
    metric: Metric
    """`{type: ...}` with the metric's own settings; a bare name is short for its type."""
    reflection: ReflectionSettings | None = None
    """Without it only the operators that need no model run."""
    strategy: StrategySettings = StrategySettings()
    budget: BudgetSettings

    @property
    def unanswered(self) -> bool:
        """Whether rows may lack the wanted answer."""
        return False

    @model_validator(mode="before")
    @classmethod
    def _scores_itself(cls, said: Any) -> Any:
        """A gepa adapter brings its own score along."""
        match said:
            case {"program": {"type": "gepa"}}:
                return {"metric": Own.type, **said}
            case _:
                return said
