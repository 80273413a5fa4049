"""What the built-in metrics share: options that are checked, and a fingerprint made of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, ClassVar, cast

from pydantic import ConfigDict

STRICT = ConfigDict(extra="forbid")
"""Options are checked where a metric is made, in YAML and in Python alike; an unknown one is an error."""


class BuiltIn:
    """Base of metrics that are plain options: a metric is its type and its options, and nothing else."""

    type: ClassVar[str]
    """The word in `metric: {type: ...}`."""

    @property
    def fingerprint(self) -> str:
        return json.dumps({"type": self.type, **asdict(cast(Any, self))}, sort_keys=True, default=str)
