"""A model by name, with the parameters and settings a user gave it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from promptopt.errors import ConfigError
from promptopt.lm.arguments import fault
from promptopt.lm.settings import ModelSettings

if TYPE_CHECKING:
    import dspy


class LM:
    """A model: `LM("local/qwen2.5-coder-0.5b", temperature=0, max_tokens=24)`.

    `args` go with every call, as OpenAI names them; `settings` is what a config says under `lms:`. Where only a name is
    needed, the name alone will do. Raises ConfigError for an argument that calls may not have.
    """

    def __init__(self, name: str, *, settings: ModelSettings | Mapping[str, Any] | None = None, **args: Any) -> None:
        if wrong := fault(args):
            raise ConfigError(f"LM({name!r}) {wrong}")
        self.name = name
        self.args = args
        given = settings if isinstance(settings, ModelSettings) else ModelSettings.model_validate(settings or {})
        self.settings = given if settings is not None else None

    @staticmethod
    def of(lm: str | LM | dspy.BaseLM) -> LM:
        """`lm` itself, the model of that name, or a `dspy.LM` with its endpoint, key and parameters."""
        if any(base.__module__.startswith("dspy.") for base in type(lm).__mro__):
            from promptopt.lm.dspy_lm import taken_over

            return taken_over(cast("dspy.BaseLM", lm))
        if isinstance(lm, LM):
            return lm
        if not isinstance(cast(object, lm), str):
            raise ConfigError(f"a model is a name, a promptopt.LM or a dspy.LM, and not {lm!r}")
        return LM(cast(str, lm))

    def having(self, settings: Mapping[str, Any]) -> LM:
        """This model with a candidate's settings in place of its own; the setting `lm` names another model.

        A setting that is None takes the argument away.
        """
        args = {**self.args, **{name: value for name, value in settings.items() if name != "lm"}}
        return LM(
            str(settings.get("lm", self.name)), **{name: value for name, value in args.items() if value is not None}
        )

    def __repr__(self) -> str:
        args = "".join(f", {name}={value!r}" for name, value in self.args.items())
        return f"LM({self.name!r}{args})"


def agreed(said: Iterable[tuple[str, ModelSettings]]) -> dict[str, ModelSettings]:
    """What several objects say about models, by name. Raises ConfigError for one name at two endpoints or keys."""
    known: dict[str, ModelSettings] = {}
    for name, settings in said:
        other = known.get(name, settings)
        for what in ("api_base", "api_key", "api_key_env"):
            if getattr(other, what) != getattr(settings, what):
                thing = "endpoints (api_base)" if what == "api_base" else "keys"
                raise ConfigError(f"two LMs are called {name} but have different {thing}; a run knows a model by name")
        known[name] = other.changed_by(settings)
    return known
