"""A certified cascade in use: the student answers where it is sure of itself, and the teacher everything else.

    cascade = Cascade.load("distill.yaml")
    answer = cascade(text="My card has not come.")
    answer.output, answer.lm, answer.confidence

Source: Chen, Zaharia & Zou (2023), FrugalGPT; sources of how sure a student is: as `promptopt.core.cascade`.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from promptopt.config import loaded
from promptopt.config.distill import CascadeSettings, DistillConfig
from promptopt.core.budget import Spend
from promptopt.core.candidate import Candidate
from promptopt.core.example import Example
from promptopt.core.rollout import Failure, Rollout
from promptopt.distillation.escalation import Question, questions, untold, weighed
from promptopt.errors import ModelDown, UserError
from promptopt.lm.gateway import Gateway
from promptopt.lm.local import LocalServers
from promptopt.lm.message import CallFailed, Reply, Request, Scope
from promptopt.lm.session import Caller, Session
from promptopt.lm.settings import ModelSettings
from promptopt.metrics.build import build
from promptopt.metrics.metric import Metric
from promptopt.programs.build import build as build_program
from promptopt.programs.program import Program
from promptopt.running import blocking
from promptopt.store.run_dir import RESULT


@dataclass(frozen=True, slots=True)
class Answer:
    """What a cascade answers to one input."""

    output: Any
    lm: str
    """The model whose answer it is."""
    confidence: float
    """How sure the student was."""


@dataclass(frozen=True)
class Cascade:
    """A program on two models. It keeps nothing: what is asked twice is paid twice."""

    program: Program
    student: Candidate
    teacher: Candidate
    settings: CascadeSettings
    threshold: float
    """The least confidence at which the student's answer is taken."""
    models: Mapping[str, ModelSettings]
    judge: Metric | None = None

    @staticmethod
    def load(config: DistillConfig | str | Path, run_dir: str | Path | None = None) -> Cascade:
        """The cascade that the distillation of `config` certified.

        Raises UserError where it has not ended, certified none, or another one than the config names now.
        """
        said = loaded(config, DistillConfig)
        path = Path(run_dir or said.run_dir) / RESULT
        try:
            found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")).get("cascade")
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}. Run `promptopt distill` first") from error
        if said.cascade is None or found is None or found.get("verdict") != "NON-INFERIOR":
            why = (found or {}).get("note") or (found or {}).get("reason") or "the config asks for none"
            raise UserError(f"{path} has no certified cascade: {why}")
        how = said.cascade
        now = {"confidence": how.confidence, "samples": how.calls, "temperature": how.temperature}
        if changed := [name for name, value in now.items() if found[name] != value]:
            raise UserError(f"{path} certifies a cascade of other {' and '.join(changed)} than the config has now")
        program = build_program(said.program, said.base)
        return Cascade(
            program=program,
            student=Candidate.from_json(found["candidate"]),
            teacher=Candidate({component.name: component.text for component in program.components}),
            settings=said.cascade,
            threshold=found["threshold"],
            models={**getattr(program, "models", {}), **said.lms},
            judge=build(said.cascade.judge, said.base, key="cascade.judge") if said.cascade.judge else None,
        )

    def __call__(self, **inputs: Any) -> Answer:
        """The answer to one input. Raises CallFailed where the teacher is asked and has none, and ModelDown."""
        return self.answers([inputs])[0]

    def answers(self, inputs: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """The answers to several inputs, asked side by side; also under a running event loop."""
        return blocking(self._answers(inputs))

    async def answer(self, inputs: Mapping[str, Any], caller: Caller) -> Answer:
        """The answer to one input, through a gateway that is open."""
        row = Example(uuid.uuid4().hex, dict(inputs))
        output, confidence = await self._sure(row, caller)
        if confidence >= self.threshold:
            return Answer(output, str(self.student.settings["lm"]), confidence)
        session = self._session(self.teacher, row, caller, "teacher")
        return Answer(await self.program.run(self.teacher, row, session), session.model, confidence)

    async def _answers(self, inputs: Sequence[Mapping[str, Any]]) -> list[Answer]:
        with closing(LocalServers()) as local:
            async with Gateway(self.models, Unrecorded(), local) as gateway:
                try:
                    async with asyncio.TaskGroup() as asked:
                        found = [asked.create_task(self.answer(one, gateway)) for one in inputs]
                except ExceptionGroup as failed:
                    raise failed.exceptions[0] from None
        return [one.result() for one in found]

    async def _sure(self, row: Example, caller: Caller) -> tuple[Any, float]:
        """The student's answer, and how sure it is; not at all where it has none.

        An endpoint that is down, refuses the key or gives no log-probabilities where they are needed is an error: else
        the teacher would silently answer everything.
        """
        asked = questions(self.settings, self.student, self.judge)
        answered = [self._sample(one, row, caller) for one in asked if one.judge is None]
        replies = await asyncio.gather(*answered)
        replies += [await self._judged(one.judge, replies[0], row, caller) for one in asked if one.judge]
        if note := untold(replies, self.settings, str(self.student.settings["lm"])):
            raise UserError(note)
        voted = weighed(replies, self.settings)
        return None if voted.chosen is None else replies[voted.chosen].output, voted.confidence

    async def _sample(self, asked: Question, row: Example, caller: Caller) -> Rollout:
        """What the student answers; where it fails it is not sure, and the teacher is asked."""
        rollout = Rollout(asked.candidate.id, row.id, asked.sample)
        session = self._session(asked.candidate, row, caller, str(asked.sample))
        try:
            output = await self.program.run(asked.candidate, row, session)
        except ModelDown:
            raise
        except CallFailed as failed:
            return replace(rollout, failure=failed.failure)
        except Exception as error:
            return replace(rollout, failure=Failure("program", str(error)))
        return replace(rollout, output=output, certainty=session.certainty)

    async def _judged(self, judge: Metric, own: Rollout, row: Example, caller: Caller) -> Rollout:
        """The student's own answer with the judge's score; without one where either has failed."""
        if own.output is None:
            return own
        try:
            return replace(own, score=await judge.score(row, own, Session(caller, Scope("judge", row.id), "")))
        except (CallFailed, ValueError):
            return own

    def _session(self, candidate: Candidate, row: Example, caller: Caller, name: str) -> Session:
        assert self.program.lm is not None
        lm = self.program.lm.having(candidate.settings)
        session = Session(caller, Scope("program", f"{row.id}/{name}"), lm.name, dict(lm.args))
        session.max_calls = self.program.max_calls
        return session


class Unrecorded:
    """A book without caps or memory, for calls that belong to no run."""

    def recall(self, key: str, scope: Scope) -> Reply | None:
        return None

    async def reserve(self, scope: Scope, request: Request, key: str, worst: Spend) -> int:
        return 0

    def settle(self, call: int, true: Spend, outcome: Reply | Failure) -> None:
        """Nothing is kept."""
