from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
import time

import pytest

from promptopt.errors import ConfigError
from promptopt.execute import user_code


async def test_the_result_or_the_exception_comes_back():
    assert await user_code.call(lambda a, b: a + b, 1, 2, timeout=None) == 3
    with pytest.raises(ZeroDivisionError):
        await user_code.call(lambda: 1 / 0, timeout=None)


async def test_a_functions_own_timeout_error_is_not_ours():
    def raises():
        raise TimeoutError("theirs")

    with pytest.raises(TimeoutError, match="theirs") as caught:
        await user_code.call(raises, timeout=5)
    assert not isinstance(caught.value, user_code.TookTooLong)


async def test_the_callers_context_reaches_the_function():
    request = contextvars.ContextVar("request", default="none")
    request.set("seven")

    async def read():
        return request.get()

    assert await user_code.call(request.get, timeout=None) == "seven"
    assert await user_code.call(read, timeout=None) == "seven"


async def test_an_asynchronous_function_is_cancelled_at_its_timeout():
    ended = threading.Event()

    async def hang():
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    with pytest.raises(user_code.TookTooLong, match=r"hang took longer than 0\.05 s"):
        await user_code.call(hang, timeout=0.05)
    assert await asyncio.to_thread(ended.wait, 5)


async def test_a_cancelled_caller_does_not_wait_for_the_function():
    task = asyncio.create_task(user_code.call(time.sleep, 5, timeout=None))
    await asyncio.sleep(0.05)
    task.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 1


def test_a_busy_thread_does_not_keep_the_process_alive():
    script = (
        "import asyncio, time\n"
        "from promptopt.execute import user_code\n"
        "async def main():\n"
        "    try: await user_code.call(lambda: time.sleep(60), timeout=0.1)\n"
        "    except TimeoutError: print('abandoned')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "abandoned\n"


def test_a_function_is_loaded_from_a_file_or_a_module_with_what_stands_beside_it(tmp_path):
    (tmp_path / "labels_beside.py").write_text("KNOWN = ['a']\n")
    source = "import labels_beside\ndef known():\n    import labels_beside\n    return labels_beside.KNOWN\n"
    (tmp_path / "metric_with_import.py").write_text(source)
    assert user_code.load("metric_with_import.py:known", tmp_path)() == ["a"]
    assert user_code.load("metric_with_import:known", tmp_path)() == ["a"]


def test_a_file_is_imported_once_until_its_text_changes(tmp_path):
    (tmp_path / "once.py").write_text("def f():\n    return 1\n")
    first = user_code.load("once.py:f", tmp_path)
    assert user_code.load("once.py:f", tmp_path) is first
    (tmp_path / "once.py").write_text("def f():\n    return 2\n")
    assert user_code.load("once.py:f", tmp_path)() == 2


def test_a_file_named_like_a_library_does_not_shadow_it(tmp_path):
    (tmp_path / "json.py").write_text("def score():\n    return 'mine'\n")
    assert user_code.load("json.py:score", tmp_path)() == "mine"
    import json

    assert json.dumps(1) == "1"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("mine.py", "does not name a function; write file.py:function"),
        ("gone.py:f", "there is no file"),
        ("no.such.package:f", "cannot be imported: ModuleNotFoundError"),
        ("mine.py:scor", "there is no function scor. Did you mean score?"),
        ("mine.py:LIMIT", "LIMIT is not a function but int"),
        ("typo.py:f", r"cannot be imported: SyntaxError: .* \(typo.py:2\)"),
        ("quits.py:f", r"cannot be imported: SystemExit: 1 \(quits.py:1\)"),
    ],
)
def test_what_cannot_be_loaded_is_a_config_error_that_says_why(tmp_path, path, says):
    (tmp_path / "mine.py").write_text("LIMIT = 3\ndef score(example, output):\n    return 1\n")
    (tmp_path / "typo.py").write_text("\ndef f(:\n")
    (tmp_path / "quits.py").write_text("raise SystemExit(1)\n")
    with pytest.raises(ConfigError, match=says):
        user_code.load(path, tmp_path)


def test_a_function_without_a_source_must_have_a_version():
    namespace: dict = {}
    exec("def typed(example, output): return 1", namespace)
    with pytest.raises(ConfigError, match="set its version attribute"):
        user_code.source_hash(namespace["typed"])
    namespace["typed"].version = 2
    assert user_code.source_hash(namespace["typed"]) == "version 2"
    with pytest.raises(ConfigError, match="the source of len cannot be read"):
        user_code.source_hash(len)
