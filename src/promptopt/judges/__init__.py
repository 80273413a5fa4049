"""Judges: metrics that ask a model. The library's are called by name: `judges.correctness(lm="...")`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptopt.judges.library import (
        completeness,
        conciseness,
        correctness,
        guidelines,
        relevance_to_query,
        retrieval_groundedness,
        safety,
        tool_call_correctness,
        tool_call_efficiency,
    )
    from promptopt.judges.library import relevance_to_query as relevance
    from promptopt.judges.library import retrieval_groundedness as groundedness
    from promptopt.judges.library_conversation import (
        coherence,
        contradiction,
        conversation_completeness,
        conversational_guidelines,
        conversational_role_adherence,
        conversational_safety,
        escalation,
        knowledge_retention,
        repetition,
        user_frustration,
    )
    from promptopt.judges.library_conversation import conversation_completeness as goal_completion
    from promptopt.judges.library_conversation import conversational_role_adherence as role_adherence
    from promptopt.judges.library_conversation import knowledge_retention as context_retention

__all__ = [
    "coherence",
    "completeness",
    "conciseness",
    "context_retention",
    "contradiction",
    "conversation_completeness",
    "conversational_guidelines",
    "conversational_role_adherence",
    "conversational_safety",
    "correctness",
    "escalation",
    "goal_completion",
    "groundedness",
    "guidelines",
    "knowledge_retention",
    "relevance",
    "relevance_to_query",
    "repetition",
    "retrieval_groundedness",
    "role_adherence",
    "safety",
    "tool_call_correctness",
    "tool_call_efficiency",
    "user_frustration",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from promptopt.judges.library import LIBRARY

        return LIBRARY[name]
    raise AttributeError(f"module 'promptopt.judges' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
