"""Values of any library as JSON can hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID


def plain_value(value: Any) -> Any:
    """The value as JSON can hold it: NaN, NaT and infinities are null, times are ISO 8601, decimals text.

    Raises ValueError, with the rest of a sentence, for a value that JSON cannot hold.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("holds half of a surrogate pair, which is not text") from None
        return str(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if abs(value) < float("inf") else None
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_value(item) for item in cast("Iterable[Any]", value)]
    if type(value).__module__ == "numpy":
        return plain_value(
            value.astype(f"{value.dtype.kind}8[us]").tolist() if value.dtype.kind in "mM" else value.tolist()
        )
    if type(value).__name__ in ("NaTType", "NAType"):
        return None
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID | timedelta):
        return str(value)
    raise ValueError(f"holds a {type(value).__name__}, which JSON cannot hold")
