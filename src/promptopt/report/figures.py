"""Text and figures as people may see them: nothing that a terminal would obey, nothing longer than it tells."""

from __future__ import annotations

import re
from decimal import Decimal

from rich.text import Text

from promptopt.core.edit import one_line

_ESCAPES = re.compile(
    r"(?:\x1b[P\]X^_]|[\x90\x9d\x98\x9e\x9f]).*?(?:\x1b\\|\x07|\x9c)"  # strings with an end, such as titles and links
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # control sequences, such as colours and cursor moves
    r"|\x1b[ -/]*[0-~]",
    re.DOTALL,
)
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
"""Control characters other than tab and newline, marks that reorder what is read, and halves of characters."""


def clean(text: str) -> str:
    """`text` without anything that a terminal obeys: escape sequences, control characters, reordering marks.

    Tabs and line ends stay, every line end as a newline.
    """
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROLS.sub("", _ESCAPES.sub("", plain))


def said(text: object, style: str = "") -> Text:
    """Whatever came from data, models or files, cleaned and free of markup."""
    return Text(clean(str(text)), style=style)


def line(text: object, width: int = 200) -> str:
    """`text` cleaned, on one line of at most `width` characters."""
    return one_line(clean(str(text)), width)


def score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def gain(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"


def interval(ends: tuple[float, float]) -> str:
    return f"{ends[0]:+.3f} to {ends[1]:+.3f}"


def dollars(usd: Decimal | float) -> str:
    """`$0`, `$12.50`, and below a dollar two digits that count: `$0.0042`."""
    amount = float(usd)
    if amount == 0 or amount >= 1:
        return f"${amount:,.2f}" if amount else "$0"
    return f"${amount:.2f}" if amount >= 0.1 else f"${float(f'{amount:.2g}'):.10f}".rstrip("0")


def duration(seconds: float) -> str:
    """`4 s`, `2 min 5 s`, `3 h 20 min`, `2 days`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} days"


def count(number: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
