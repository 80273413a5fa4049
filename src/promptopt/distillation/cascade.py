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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptopt.config import loaded
from promptopt.config.distill import CascadeSettings, DistillConfig
from promptopt.core.budget import Spend
from promptopt.core.candidate import Candidate
from promptopt.core.cascade import vote
from promptopt.core.example import Example
from promptopt.core.rollout import Failure, Rollout
from promptopt.distillation.escalation import Unseen, again, canonical
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
        assert self.program.lm is not None
        return Answer(await self._run(self.teacher, row, caller, "teacher"), self.program.lm.name, confidence)

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
        """The student's answer, and how sure it is; not at all where it has none."""
        hot = again(self.settings, self.student)
        further = [] if self.judge else [hot] * (self.settings.samples - 1)
        asked = [self._sample(one, row, caller, number) for number, one in enumerate([self.student, *further])]
        samples = await asyncio.gather(*asked)
        if self.judge is None:
            voted = vote([None if one is None else canonical(one) for one in samples])
            return None if voted.chosen is None else samples[voted.chosen], voted.confidence
        if samples[0] is None:
            return None, 0.0
        session = Session(caller, Scope("judge", row.id), "")
        try:
            score = await Unseen(self.judge).score(row, Rollout(self.student.id, row.id, output=samples[0]), session)
        except (CallFailed, ValueError):
            return samples[0], 0.0
        return samples[0], score.value

    async def _sample(self, candidate: Candidate, row: Example, caller: Caller, number: int) -> Any:
        """What a candidate answers; None where it fails, for then it is not sure.

        An endpoint that is down or refuses the key is an error: else the teacher would silently answer everything.
        """
        try:
            return await self._run(candidate, row, caller, str(number))
        except ModelDown:
            raise
        except Exception:
            return None

    async def _run(self, candidate: Candidate, row: Example, caller: Caller, name: str) -> Any:
        assert self.program.lm is not None
        lm = self.program.lm.having(candidate.settings)
        session = Session(caller, Scope("program", f"{row.id}/{name}"), lm.name, dict(lm.args))
        session.max_calls = self.program.max_calls
        return await self.program.run(candidate, row, session)


class Unrecorded:
    """A book without caps or memory, for calls that belong to no run."""

    def recall(self, key: str) -> Reply | None:
        return None

    async def reserve(self, scope: Scope, request: Request, key: str, worst: Spend) -> int:
        return 0

    def settle(self, call: int, true: Spend, outcome: Reply | Failure) -> None:
        """Nothing is kept."""
