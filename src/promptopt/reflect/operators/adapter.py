"""Adapter: a gepa adapter's own `propose_new_texts`, asked where `strategy.operators` names it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from promptopt.core.edit import Brief, Edit, Rewrite, one_line
from promptopt.core.example import text_of
from promptopt.execute.user_code import call, described
from promptopt.lm.session import Session
from promptopt.programs.function import Context, on_endpoint
from promptopt.reflect.evidence import feedback, wrong
from promptopt.reflect.operator import Refused
from promptopt.reflect.reading import new_text

PATIENCE = 600.0
"""Seconds that a proposal may take."""
MOST_CALLS = 16
"""Calls that it may ask for."""


class AdapterProposal:
    """Builds the adapter on the reflection model's endpoint, and reads its text as strictly as any answer.

    Its reflective dataset has gepa's three keys: the row's inputs, the program's output, and the feedback.
    """

    def __init__(self, make: Callable[[Context], Any], turn: AbstractContextManager[Any]) -> None:
        """`turn` is held while the adapter is used: one that was built already is shared with rollouts."""
        self._make, self._turn = make, turn

    async def propose(self, brief: Brief, lm: Session) -> Edit:
        name = brief.component.name
        if not wrong(brief.evidence):
            raise Refused("nothing to mend")
        lm.max_calls = MOST_CALLS
        try:
            async with on_endpoint(lm, {}) as context:
                texts = await call(self._ask, context, brief, timeout=PATIENCE)
        except Exception as error:
            lm.check()
            raise Refused(one_line(f"the adapter raised {described(error)}")) from error
        said = texts.get(name) if isinstance(texts, Mapping) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if not isinstance(said, str):
            raise Refused("no text", f"propose_new_texts must return a mapping with a text for {name}")
        return Rewrite(name, new_text(f"```\n{said}\n```", brief), brief.component.text)

    def _ask(self, context: Context, brief: Brief) -> Any:
        """In a thread for the user's code."""
        name = brief.component.name
        with self._turn:
            propose = getattr(self._make(context), "propose_new_texts", None)
            if propose is None:
                raise TypeError("it has no propose_new_texts")
            return propose(dict(brief.parent.components), {name: _records(brief)}, [name])


def _records(brief: Brief) -> Sequence[Mapping[str, Any]]:
    return [
        {
            "Inputs": {column: text_of(value) for column, value in row.example.inputs.items()},
            "Generated Outputs": "" if row.rollout.output is None else text_of(row.rollout.output),
            "Feedback": feedback(row, brief.component) or (row.rollout.failure.message if row.rollout.failure else ""),
        }
        for row in brief.evidence
    ]
