"""Which arguments a model's calls may have: those that say what is asked, not where, how often or with what key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

ELSEWHERE = {
    "lm": "the lm beside it",
    "model": "the lm beside it",
    "name": "the lm beside it",
    "settings": "lms.MODEL",
    "api_key": "lms.MODEL.api_key_env, the name of the variable that holds it",
    "api_base": "lms.MODEL.api_base",
    "base_url": "lms.MODEL.api_base",
    "timeout": "lms.MODEL.timeout",
    "num_retries": "lms.MODEL.retries",
    "max_retries": "lms.MODEL.retries",
}
"""Arguments of litellm's that have a setting of their own."""
DECIDED = frozenset(
    {
        "cache",
        "caching",
        "callbacks",
        "component",
        "context_window_fallback_dict",
        "custom_llm_provider",
        "drop_params",
        "extra_body",
        "fallbacks",
        "messages",
        "mock_response",
        "model_list",
        "n",
        "retry_policy",
        "schema",
        "stream",
        "stream_timeout",
    }
)
"""Arguments that would spend, wait or repeat behind the gateway's back, or that it sets itself."""
NUMBERS = ("temperature", "top_p", "min_p", "frequency_penalty", "presence_penalty")
"""Arguments that every provider takes as a number."""
SECRET = re.compile(r"(^|_)(key|secret|password|token|credentials)(_|$)|headers$")
"""Names of arguments that hold secrets, which would reach the ledger."""


def fault(args: Mapping[str, Any]) -> str | None:
    """What is wrong with these arguments of a model's calls, as the end of a sentence; None when nothing is."""
    for name, value in args.items():
        if name in ELSEWHERE:
            return f"must not set {name}; that is {ELSEWHERE[name]}"
        if name in DECIDED:
            return f"must not set {name}; promptopt decides it for every call"
        if SECRET.search(name):
            return f"must not set {name}, which may hold a secret; name its variable as lms.MODEL.api_key_env"
        if name in ("max_tokens", "max_completion_tokens") and (type(value) is not int or value < 1):
            return f"must set {name} to a whole number above 0, not {value!r}"
        if name in NUMBERS and value is not None and type(value) not in (int, float):
            return f"must set {name} to a number, not {value!r}"
    return None
