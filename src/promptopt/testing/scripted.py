"""A model that answers from a script, for tests of programs, metrics and judges without any model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from promptopt.core.rollout import Failure
from promptopt.lm.message import CallFailed, Purpose, Reply, Request, Scope
from promptopt.lm.session import Endpoint, Session

Answer = str | Reply | Failure | Exception
"""A text, a whole reply, or what goes wrong: a failure is raised as CallFailed, an exception as it is."""


class ScriptedModel:
    """Answers each call by a function of the request, or with the next of a list of answers.

    ```python
    model = ScriptedModel(["first answer", "second answer"])
    score = await my_judge.score(example, rollout, model.session("judge"))
    assert "rubric" in model.requests[0].messages[0]["content"]
    ```
    A list that runs out raises AssertionError: the code under test has made more calls than the script foresees.
    """

    def __init__(self, answers: Callable[[Request], Answer] | Iterable[Answer]) -> None:
        self._answer = answers if callable(answers) else _one_by_one(answers)
        self.requests: list[Request] = []
        """Every request, in order."""
        self.scopes: list[Scope] = []
        """The scope of each request."""

    async def complete(self, request: Request, scope: Scope) -> Reply:
        self.requests.append(request)
        self.scopes.append(scope)
        answer = self._answer(request)
        if isinstance(answer, Failure):
            raise CallFailed(answer)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Reply) else _reply(request, answer)

    def open_endpoint(self, session: Session) -> Endpoint:
        """An address at which nothing listens: a script has no HTTP."""
        return Endpoint("http://127.0.0.1:9/v1", "scripted", session.model)

    def close_endpoint(self, endpoint: Endpoint) -> None:
        pass

    def session(self, purpose: Purpose = "program", *, model: str = "scripted", **params: Any) -> Session:
        """A session whose calls this script answers."""
        return Session(self, Scope(purpose, "scripted"), model, params)


def _one_by_one(answers: Iterable[Answer]) -> Callable[[Request], Answer]:
    left = iter(answers)

    def answer(request: Request) -> Answer:
        try:
            return next(left)
        except StopIteration:
            raise AssertionError(f"the script has no answer left for {request.messages}") from None

    return answer


def _reply(request: Request, text: str) -> Reply:
    """`text` as a whole answer, counting a token for every four characters."""
    asked = sum(len(str(message.get("content") or "")) for message in request.messages)
    message = {"role": "assistant", "content": text}
    return Reply(text, "stop", tokens_in=1 + asked // 4, tokens_out=1 + len(text) // 4, message=message)
