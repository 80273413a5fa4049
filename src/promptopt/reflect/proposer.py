"""Runs operators: draws, or asks the reflection model and reads its answer, a bounded number of times."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

from promptopt.core.edit import Brief, Proposal, joined, one_line
from promptopt.core.search import Propose
from promptopt.core.strategies.drawing import OperatorPrior
from promptopt.lm.message import CallFailed, Message
from promptopt.lm.session import Session
from promptopt.reflect.copying import REPEATED
from promptopt.reflect.operator import Asked, Called, Drawn, Operator, Question, Refused
from promptopt.reflect.operators.bootstrap import BootstrappedDemos
from promptopt.reflect.operators.contrast import Contrast
from promptopt.reflect.operators.demos import LabelledDemos
from promptopt.reflect.operators.feedback import QuoteFeedback
from promptopt.reflect.operators.hypotheses import StateHypotheses
from promptopt.reflect.operators.nearest import NearestDemos
from promptopt.reflect.operators.remove import RemoveLine
from promptopt.reflect.operators.rewrite import FullRewrite
from promptopt.reflect.operators.rules import AddRules
from promptopt.reflect.operators.shorten import Shorten
from promptopt.reflect.operators.tips import AddTip

P = ParamSpec("P")
T = TypeVar("T")
TRIES = 2
"""Times that one proposal may be asked for: a model that fails twice in a row will fail a third time."""
QUOTED = 2000
"""Characters of a refused answer that the model sees again; of one that was cut off it sees none, or it repeats it."""

_ALL: Sequence[tuple[Callable[[], Operator], OperatorPrior]] = (
    # The form of the answer is the first thing to mend with a small model: one tip took it from 9 to 52 %.
    (AddTip, OperatorPrior("tips", 0.4, 1.0, needs_evidence=False, asks=False)),
    # The best single edit measured on a small model (64 to 72 %), and free of the reflection model.
    (LabelledDemos, OperatorPrior("demos", 0.4, 1.0, needs_evidence=False, asks=False, demos=True)),
    # Additive, so that neighbours' wins stay; one answer brings up to three.
    (AddRules, OperatorPrior("rules", 0.4, 1.2, needs_evidence=True, asks=True)),
    # Three such answers on other rows each, put together: what takes three races is tried in one.
    (AddRules, OperatorPrior("scan", 0.4, 1.2, needs_evidence=True, asks=True, calls=3)),
    # What the metric's author says is wanted, free of the reflection model; refused at no cost where feedback varies.
    (QuoteFeedback, OperatorPrior("feedback", 0.4, 1.2, needs_evidence=True, asks=False, reads_all=True)),
    # As rules, where replies are confused with one another; of no use where each is wrong in its own way.
    (Contrast, OperatorPrior("contrast", 0.4, 1.4, needs_evidence=True, asks=True)),
    # What GEPA lives on with a strong model; a weak one returns small talk.
    (FullRewrite, OperatorPrior("rewrite", 0.4, 1.2, needs_evidence=True, asks=True)),
    # Worth it where replies reason before they answer, or steps have no labels; elsewhere it is refused at no cost.
    (
        BootstrappedDemos,
        OperatorPrior("bootstrap", 0.3, 1.2, needs_evidence=True, asks=False, demos=True, reads_all=True),
    ),
    # Where the student's own right replies are few, or right by luck; a stronger model is there anyway.
    (
        BootstrappedDemos,
        OperatorPrior("teacher", 0.4, 1.2, needs_evidence=True, asks=False, demos=True, by_teacher=True),
    ),
    # The last of the first ones: where inputs have near rows little helps more, and where not a race soon says so.
    (NearestDemos, OperatorPrior("nearest", 0.3, 1.1, needs_evidence=False, asks=False, demos=True)),
    # Causes with a remedy each, for the strategy that checks them one by one.
    (StateHypotheses, OperatorPrior("hypotheses", 0.4, 1.2, needs_evidence=True, asks=True)),
    # Nothing to take out before something was added, and most lines that won their race do help.
    (RemoveLine, OperatorPrior("remove", 0.2, 1.2, needs_evidence=False, asks=False, shortens=True)),
    # Seldom wins on score: it pays in length, which decides only between equals.
    (Shorten, OperatorPrior("shorten", 0.15, 1.2, needs_evidence=False, asks=True, shortens=True)),
)
OPERATORS = {prior.name: (make, prior) for make, prior in _ALL}
"""Every operator by its name in `strategy.operators`, with what is believed of it before the first try."""
ONLY_BOOTSTRAPPED = 0.4
"""The wins of `bootstrap` where a slot has no labelled demos, as a step between others: as much as theirs."""
USUAL = tuple(name for name in OPERATORS if name != "hypotheses")
"""Those that propose where neither the job nor its strategy names any."""


class Proposer:
    """Answers the search's requests for proposals."""

    def __init__(self, operators: Mapping[str, Operator], session: Callable[[str, int], Session]) -> None:
        """`session(key, step)` opens a session on the reflection model's account."""
        self._operators, self._session = operators, session

    async def propose(self, request: Propose, step: int) -> Proposal:
        """One edit of each brief, asked side by side and put together.

        Raises what stops the run only once every call that was started has ended and is kept.
        """
        operator = self._operators[request.operator]
        keys = [f"reflect/{step}/{place}" for place in range(len(request.briefs))]
        asked = [
            self._propose(operator, brief, self._session(key, step))
            for key, brief in zip(keys, request.briefs, strict=True)
        ]
        done = await asyncio.gather(*asked, return_exceptions=True)
        for result in done:
            if isinstance(result, BaseException):
                raise result
        return _together([result for result in done if isinstance(result, Proposal)])

    async def _propose(self, operator: Operator, brief: Brief, session: Session) -> Proposal:
        try:
            if isinstance(operator, Drawn):
                return Proposal(_own(operator.draw, brief))
            if isinstance(operator, Called):
                return await _call(operator, brief, session)
            question = _own(operator.ask, brief)
        except Refused as refused:
            return Proposal(None, refused={refused.reason: 1})
        return await _ask(operator, question, brief, session)


def _together(proposals: Sequence[Proposal]) -> Proposal:
    """All edits as one."""
    edit = joined(proposal.edit for proposal in proposals if proposal.edit is not None)
    refused: Counter[str] = Counter()
    for proposal in proposals:
        refused.update(proposal.refused)
    tokens = sum(proposal.tokens for proposal in proposals)
    return Proposal(edit, refused, tokens, asked=any(proposal.asked for proposal in proposals))


async def _call(operator: Called, brief: Brief, session: Session) -> Proposal:
    """The edit of an operator that asks the model itself; its tokens are estimated by length."""
    edit, refused = None, {}
    try:
        edit = await operator.propose(brief, session)
    except Refused as reason:
        refused = {reason.reason: 1}
    shown = sum(len(str(message.get("content"))) for turn in session.trace for message in turn.messages)
    written = sum(len(turn.reply) for turn in session.trace)
    return Proposal(edit, refused, (shown + written) // 4, asked=bool(session.trace))


async def _ask(operator: Asked, question: Question, brief: Brief, session: Session) -> Proposal:
    """The edit in the first usable answer to `question`."""
    refusals: Counter[str] = Counter()
    talk, tokens = question.messages, 0
    for _ in range(TRIES):
        try:
            reply = await session.complete(talk, schema=question.schema)
        except CallFailed as failed:
            refusals[f"call failed: {failed.failure.kind}"] += 1
            break
        tokens += reply.tokens_in + reply.tokens_out
        whole = reply.finish_reason != "length"
        try:
            if not whole:
                raise Refused("cut off", "the answer was cut off; be much shorter")
            return Proposal(_own(operator.read, reply.text, brief), refusals, tokens, asked=True)
        except Refused as refused:
            refusals[refused.reason] += 1
            talk = _again(question, reply.text[:QUOTED] if whole else "…", refused)
    return Proposal(None, refusals, tokens, asked=True)


def _own(code: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What an operator's code returns; what it raises is a refusal, or the same answer would break every resume."""
    try:
        return code(*args, **kwargs)
    except Refused:
        raise
    except Exception as error:
        raise Refused(one_line(f"{type(error).__name__}: {error}", 80)) from error


def _again(question: Question, answer: str, refused: Refused) -> tuple[Message, ...]:
    """The same question with the refused answer and what was wrong with it; of a copied sample nothing is shown."""
    if refused.reason == REPEATED and question.bare:
        return question.bare
    turns = ({"role": "assistant", "content": answer}, {"role": "user", "content": f"Not usable: {refused.advice}."})
    return (*question.messages, *turns)
