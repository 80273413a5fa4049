"""Runs operators: draws, or asks the reflection model and reads its answer, a bounded number of times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from promptopt.core.edit import Brief, Proposal
from promptopt.core.search import Propose
from promptopt.core.strategies.reflective import OperatorPrior
from promptopt.lm.message import CallFailed, Message
from promptopt.lm.session import Session
from promptopt.reflect.operator import Asked, Drawn, Operator, Question, Refused
from promptopt.reflect.operators.demos import LabelledDemos
from promptopt.reflect.operators.rewrite import FullRewrite
from promptopt.reflect.operators.rules import AddRules
from promptopt.reflect.operators.tips import AddTip

TRIES = 2
"""Times that one proposal may be asked for: a model that fails twice in a row will fail a third time."""

OPERATORS: Mapping[str, tuple[Callable[[], Operator], OperatorPrior]] = {
    "tips": (AddTip, OperatorPrior("tips", 1.0, 2.5, needs_evidence=False)),
    "demos": (LabelledDemos, OperatorPrior("demos", 1.0, 2.5, needs_evidence=False)),
    "rules": (AddRules, OperatorPrior("rules", 1.0, 3.0, needs_evidence=True)),
    "rewrite": (FullRewrite, OperatorPrior("rewrite", 1.0, 3.0, needs_evidence=True)),
}
"""Every operator by its name in `strategy.operators`, with what is believed of it before the first try."""


class Proposer:
    """Answers the search's requests for proposals."""

    def __init__(self, names: tuple[str, ...], session: Callable[[str, int], Session], template: str | None) -> None:
        """`session(key, step)` opens a session on the reflection model's account; `template` replaces rewrite's own."""
        self._operators = {name: OPERATORS[name][0]() for name in names}
        if template and "rewrite" in self._operators:
            self._operators["rewrite"] = FullRewrite(template)
        self._session = session

    async def propose(self, request: Propose, step: int) -> Proposal:
        operator = self._operators[request.operator]
        if isinstance(operator, Drawn):
            try:
                return Proposal(operator.draw(request.brief))
            except Refused as refused:
                return Proposal(None, {refused.reason: 1})
        return await self._ask(operator, request.brief, self._session(f"reflect/{step}", step))

    async def _ask(self, operator: Asked, brief: Brief, session: Session) -> Proposal:
        question = operator.ask(brief)
        refusals: Counter[str] = Counter()
        talk, tokens = question.messages, 0
        for _ in range(TRIES):
            try:
                reply = await session.complete(talk, schema=question.schema)
            except CallFailed as failed:
                refusals[f"call failed: {failed.failure.kind}"] += 1
                break
            tokens += reply.tokens_in + reply.tokens_out
            try:
                if reply.finish_reason == "length":
                    raise Refused("cut off", "the answer was cut off; be much shorter")
                return Proposal(operator.read(reply.text, brief), refusals, tokens)
            except Refused as refused:
                refusals[refused.reason] += 1
                talk = _again(question, reply.text, refused.advice)
        return Proposal(None, refusals, tokens)


def _again(question: Question, answer: str, advice: str) -> tuple[Message, ...]:
    """The same question with the refused answer and what was wrong with it."""
    turns = ({"role": "assistant", "content": answer[:2000]}, {"role": "user", "content": f"Not usable: {advice}."})
    return (*question.messages, *turns)
