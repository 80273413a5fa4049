"""A config to start from, with the rows it needs."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from promptopt.errors import ConfigError

TEMPLATES = ("start.yaml", "rows.csv")


def init(directory: str | Path) -> list[Path]:
    """Write the starting files into `directory`, which is made if need be, and return their paths.

    Never overwrites: raises ConfigError, having written nothing, where one of them exists or cannot be written.
    """
    targets = [Path(directory) / name for name in TEMPLATES]
    for target in targets:
        if target.exists():
            raise ConfigError("exists already, and init overwrites nothing; choose another folder", file=str(target))
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        for target in targets:
            with target.open("x", encoding="utf-8", newline="") as file:
                file.write(files("promptopt").joinpath("templates", target.name).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot be written ({error.strerror})", file=str(error.filename or directory)) from None
    return targets
