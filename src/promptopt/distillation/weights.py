"""Fine-tuning files: a run's accepted traces as chats, in the JSONL that OpenAI's API and the open trainers read.

A line is `{"messages": [...]}`, with `"tools"` where the program offers any, and ends in the answer to learn. Only what
the metric passed is written. Test rows are never among it, nor do val rows come in unasked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from promptopt.config import group
from promptopt.config.distill import UNANSWERED
from promptopt.config.settings import DataSettings, PromptSettings
from promptopt.core.candidate import Candidate
from promptopt.core.example import Example
from promptopt.core.rollout import Rollout, Turn, exchanges
from promptopt.core.split import digest
from promptopt.data import split_of
from promptopt.distillation.teacher import TRACES
from promptopt.errors import UserError
from promptopt.programs.build import build as build_program
from promptopt.programs.prompt import Prompt
from promptopt.report.export import as_json
from promptopt.store.ledger import Ledger
from promptopt.store.run_dir import reading

VALID = 0.1
"""Share of the rows, whole groups of them, that go into the second file."""
FEWEST = 10
"""Examples below which OpenAI's API refuses a file."""
TRAIN_FILE, VALID_FILE, CANDIDATE_FILE = "train.jsonl", "valid.jsonl", "candidate.json"

CUT_OFF = "length"
"""The finish reason of an answer that max_tokens ended: it teaches nothing."""

_KEPT = ("role", "content", "name", "tool_calls", "tool_call_id")
"""What of a message trainers know; a provider's reasoning is not among it."""

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FineTuning:
    """What a model is tuned on, and the prompt to ask it with afterwards."""

    train: tuple[Line, ...]
    valid: tuple[Line, ...]
    candidate: Candidate
    """The texts that the chats hold; of a prompt without demos, for what they showed is in the weights then."""
    refused: int
    """Rollouts that did not pass."""

    def save(self, folder: Path) -> None:
        """Write train.jsonl, valid.jsonl and candidate.json into `folder`. Raises UserError where that cannot be."""
        files = {TRAIN_FILE: _jsonl(self.train), VALID_FILE: _jsonl(self.valid)}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in {**files, CANDIDATE_FILE: as_json(self.candidate) + "\n"}.items():
                (folder / name).write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise UserError(f"{folder} cannot be written: {error.strerror}") from error


def fine_tuning(
    run_dir: Path, traced: Candidate, asked: Candidate, *, least: float = 1.0, with_val: bool = False
) -> FineTuning:
    """The chats of `traced`, a teacher or a champion, from the run's train rollouts that score `least` or more.

    Of a prompt they are told with the texts of `asked`, without its demos: a student learns from what it will be asked,
    and a row must not find its own answer among the demos. Of any other program they are as they were sent, with the
    texts of `traced`. `with_val` takes val rows as well.

    Raises UserError where no rollout passed, or the data is no longer what was run.
    """
    with reading(run_dir) as ledger:
        splits = ("train", "val") if with_val else ("train",)
        rows, program = _rows(ledger, run_dir, splits), _prompt(ledger, run_dir)
        known = [one for name in (*splits, *([TRACES] if rows else [])) for one in ledger.rollouts(name)]
    ran = [one for one in known if one.candidate_id == traced.id and (not rows or one.example_id in rows)]
    passed = [one for one in ran if one.failure is None and one.value is not None and one.value >= least]
    if program is not None and rows:
        candidate = Candidate(asked.components)
        chats = [(one, _asked_anew(program, candidate, rows[one.example_id], one)) for one in passed if _whole(one)]
    else:
        candidate = replace(traced, settings={})
        chats = [(one, line) for one in passed for line in _as_sent(one)]
    groups = {row.id: row.group or row.id for row in rows.values()}
    train, valid = _halves([(groups.get(one.example_id, one.example_id), line) for one, line in chats])
    if not train:
        raise UserError(
            f"none of the {len(ran)} rollouts on {' and '.join(splits)} that the run holds of this prompt scores "
            f"{least:g} or more, so there is nothing to train on"
        )
    return FineTuning(tuple(train), tuple(valid), candidate, len(ran) - len(passed))


def _whole(rollout: Rollout) -> bool:
    return bool(rollout.trace) and rollout.trace[-1].finish_reason != CUT_OFF


def _asked_anew(program: Prompt, candidate: Candidate, row: Example, rollout: Rollout) -> Line:
    reply = {"role": "assistant", "content": rollout.trace[-1].reply}
    return {"messages": [*map(dict, program.preview(candidate, row)), reply]}


def _as_sent(rollout: Rollout) -> Iterator[Line]:
    """Every exchange of a rollout that ends in an answer."""
    for turn in exchanges(rollout.trace):
        if turn.finish_reason != CUT_OFF and (turn.reply or turn.tool_calls):
            messages = [_kept(message) for message in (*turn.messages, _reply(turn))]
            yield {"messages": messages, **({"tools": list(turn.tools)} if turn.tools else {})}


def _reply(turn: Turn) -> Mapping[str, Any]:
    if not turn.tool_calls:
        return {"role": "assistant", "content": turn.reply}
    said = {} if turn.reply == json.dumps(turn.tool_calls, ensure_ascii=False) else {"content": turn.reply}
    return {"role": "assistant", **said, "tool_calls": list(turn.tool_calls)}


def _kept(message: Mapping[str, Any]) -> Line:
    return {name: message[name] for name in _KEPT if message.get(name) is not None}


def _halves(lines: Sequence[tuple[str, Line]]) -> tuple[list[Line], list[Line]]:
    """Both files' lines, none of them twice; the lines of a group are in one file."""
    once = {json.dumps(line, sort_keys=True): (unit, line) for unit, line in reversed(lines)}
    units = sorted({unit for unit, _ in once.values()}, key=_place)
    chosen = set(units[: max(1, round(VALID * len(units))) if len(units) > 1 else 0])
    kept = list(reversed(once.values()))
    return [line for unit, line in kept if unit not in chosen], [line for unit, line in kept if unit in chosen]


def _place(unit: str) -> str:
    """Where a group stands in an order that has nothing to do with what it holds."""
    return hashlib.blake2b(unit.encode(), digest_size=8).hexdigest()


def _rows(ledger: Ledger, run_dir: Path, splits: Sequence[str]) -> Mapping[str, Example]:
    """The rows of these splits by id; none for a run from Python, whose data no file names."""
    said = ledger.meta("identity")
    if "data" not in said["config"]:
        return {}
    base = run_dir / ledger.meta("job").get("base", ".")
    unanswered = said.get("distill", {}).get("references") in UNANSWERED
    split = split_of(group(DataSettings, said["config"]["data"], "data"), base, unanswered)
    for name, part in split.parts.items():
        if digest(part) != said["data"][name]["content"]:
            raise UserError(f"the {name} rows are no longer those that {run_dir} was run with; restore the data")
    return {row.id: row for name in splits for row in split.parts[name]}


def _prompt(ledger: Ledger, run_dir: Path) -> Prompt | None:
    """The run's program, where it is a prompt that a config describes."""
    said = ledger.meta("identity")["config"]["program"]
    if said.get("type") != "prompt":
        return None
    built = build_program(group(PromptSettings, said, "program"), run_dir)
    assert isinstance(built, Prompt)
    return built


def _jsonl(lines: Iterable[Line]) -> str:
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
