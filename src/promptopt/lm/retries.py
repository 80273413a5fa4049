"""How long to wait before a call is tried again."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

FIRST = 0.5
LONGEST = 30.0


def pause(tries: int, asked: float | None) -> float:
    """Seconds to wait after the `tries`-th try failed.

    What the server `asked` for, and up to a tenth more; else exponential backoff with full jitter.
    Source: Brooker (2015), Exponential Backoff and Jitter, AWS Architecture Blog.
    """
    if asked is not None:
        return asked + random.uniform(0.0, max(0.1, asked / 10))
    return random.uniform(0.0, min(LONGEST, FIRST * 2 ** (tries - 1)))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, from Retry-After as a number or an HTTP date; None where it says nothing.

    `headers` are looked up in lower case.
    """
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    if text is None:
        return None
    if (seconds := _number(text)) is not None:
        return seconds
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - time.time())


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < float("inf") else None
