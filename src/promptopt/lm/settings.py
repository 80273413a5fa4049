"""What a user may say about a model in `lms:`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, field_validator


class Price(BaseModel):
    """US dollars per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: Decimal = Field(ge=0)
    output: Decimal = Field(ge=0)
    cached: Decimal | None = Field(default=None, ge=0)
    """Of input tokens that the provider had in its cache; None: as `input`."""


class ModelSettings(BaseModel):
    """One model's endpoint, key, price and limits; every field has a default that works."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    api_base: str | None = None
    """The endpoint, without a key in it; None leaves it to litellm, or to the local runtime for `local/NAME`."""
    api_key_env: str | None = None
    """The environment variable that holds the key; the key itself never stands in a file."""
    price: Price | None = None
    """None takes litellm's table; local models are free."""
    usd_per_hour: Annotated[Decimal, Field(ge=0, strict=False)] | None = None
    """What an hour of the machine costs that a model of one's own runs on; `distill` tells a request's share of it."""
    requests_per_minute: int | None = Field(default=None, gt=0)
    tokens_per_minute: int | None = Field(default=None, gt=0)
    concurrency: int | None = Field(default=None, gt=0)
    """Most calls in flight at this model; None leaves it to the run's concurrency and the slots of a local model."""
    retries: int = Field(default=4, ge=0)
    """Further tries after the first; a call is tried at most 1 + retries times, whatever goes wrong. The one try that
    shows that a model takes no JSON schema is not counted."""
    timeout: float | None = Field(default=None, gt=0)
    """Seconds for one try, from the first byte sent to the last byte read. None: 60, and 600 for local models."""
    deadline: float | None = Field(default=None, gt=0)
    """Seconds for a call with all its tries and waits. None: five times the timeout."""
    max_tokens: int = Field(default=1024, gt=0)
    """The `max_tokens` that is sent where a call names none, so that every call has a worst case."""
    json_schema: bool | Literal["auto"] = "auto"
    """Whether the model takes a JSON schema; `auto` tries once and remembers a refusal."""
    _api_key: SecretStr | None = PrivateAttr(default=None)

    @property
    def api_key(self) -> str | None:
        """A key that a user's own object held. It lives in memory alone: in no file, no dump and no repr."""
        return self._api_key.get_secret_value() if self._api_key else None

    def with_key(self, key: str | None) -> ModelSettings:
        """These settings with a key for this process."""
        keyed = self.model_copy()
        keyed._api_key = SecretStr(key) if key else None
        return keyed

    def changed_by(self, other: ModelSettings) -> ModelSettings:
        """These settings with all that `other` says in their place; a key goes with the variable that names it."""
        changed = self.model_copy(update={name: getattr(other, name) for name in other.model_fields_set})
        return changed.with_key(other.api_key or (None if other.api_key_env else self.api_key))

    @field_validator("api_base")
    @classmethod
    def _is_an_address(cls, base: str | None) -> str | None:
        if base is not None and not re.fullmatch(r"https?://[^@\s]+", base):
            raise ValueError("must be an address such as https://host/v1, without a key in it")
        return base

    @field_validator("api_key_env")
    @classmethod
    def _names_a_variable(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError("must be the name of an environment variable, never the key itself")
        return name
