"""Running code that the user wrote, so that nothing it does can stop the run.

A call runs in a daemon thread of its own. A thread cannot be killed: after its timeout a synchronous function is
abandoned, goes on using CPU or whatever it waits for, and ends with the process, which it cannot keep alive. An
asynchronous function is cancelled where it awaits. Calls run side by side: a function that keeps state guards it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
import importlib
import importlib.util
import inspect
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from promptopt.errors import ConfigError, did_you_mean

UserFunction = Callable[..., Any]


class TookTooLong(TimeoutError):
    """The user's function was abandoned at its timeout; a TimeoutError of its own is another thing."""


async def call(function: UserFunction, *args: Any, timeout: float | None) -> Any:  # noqa: ASYNC109
    """What `function(*args)` returns, awaited where it is asynchronous; its exception is raised here.

    The function sees the caller's context variables. An asynchronous function runs on an event loop of its own.
    SystemExit and other exceptions that would end more than the call become RuntimeError.

    Raises TookTooLong after `timeout` seconds; None waits for as long as it takes.
    """
    job = _Job(function, args)
    threading.Thread(target=contextvars.copy_context().run, args=(job.run,), name="user code", daemon=True).start()
    try:
        done, _ = await asyncio.wait([job.outcome], timeout=timeout)
        if not done:
            raise TookTooLong(f"{name_of(function)} took longer than {timeout:g} s")
        return job.outcome.result()
    finally:
        job.abandon()


class _Job:
    """One call in its thread, and the future that its caller waits for."""

    def __init__(self, function: UserFunction, args: tuple[Any, ...]) -> None:
        self.function, self.args = function, args
        self.caller_loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[Any] = self.caller_loop.create_future()
        self._stop: Callable[[], object] | None = None

    def run(self) -> None:
        try:
            result = self.function(*self.args)
            if inspect.isawaitable(result):
                result = asyncio.run(self._finish(result))
        except BaseException as error:
            self._tell(self.outcome.set_exception, _ordinary(error))
        else:
            self._tell(self.outcome.set_result, result)

    async def _finish(self, result: Awaitable[Any]) -> Any:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        self._stop = lambda: loop.call_soon_threadsafe(task.cancel)
        if self.outcome.cancelled():
            raise asyncio.CancelledError
        return await result

    def _tell(self, setter: Callable[[Any], None], value: Any) -> None:
        def deliver() -> None:
            if not self.outcome.done():
                setter(value)

        with contextlib.suppress(RuntimeError):  # the caller's loop is closed: nobody waits any more
            self.caller_loop.call_soon_threadsafe(deliver)

    def abandon(self) -> None:
        """Stop what can be stopped of a call that nobody waits for; a finished call is left as it is."""
        if not self.outcome.done():
            self.outcome.cancel()
            if self._stop is not None:
                with contextlib.suppress(RuntimeError):  # it has just finished by itself
                    self._stop()


def _ordinary(error: BaseException) -> Exception:
    """`error` where a future can carry it, else a RuntimeError that names it."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    wrapped = RuntimeError(f"it raised {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped.with_traceback(error.__traceback__)


def load(path: str, base: Path) -> UserFunction:
    """The function that `"file.py:name"` or `"package.module:name"` names; files are relative to `base`.

    The file's folder (`base` for a module) joins the end of `sys.path`, so that what stands beside it can be imported
    and shadows nothing that is installed. A file is imported once for each text it has had.

    Raises ConfigError when the path has another form, the file or function is missing, or the import fails.
    """
    place, colon, name = path.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise ConfigError(f"{path!r} does not name a function; write file.py:function or package.module:function")
    file = base / place if place.endswith(".py") else None
    if file is not None and not file.is_file():
        raise ConfigError(f"{path!r}: there is no file {file}; the path is relative to {base.resolve()}")
    folder = str((file.parent if file else base).resolve())
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        module = _import_file(file.resolve()) if file else importlib.import_module(place)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ConfigError(f"{path!r} cannot be imported: {described(error)}") from error
    return _function(module, name, path)


def _import_file(file: Path) -> ModuleType:
    source = file.read_bytes()
    digest = hashlib.blake2b(str(file).encode() + b"\0" + source, digest_size=6).hexdigest()
    name = f"promptopt_user_{file.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses and pickling look their module up here
    try:
        exec(compile(source, file, "exec"), vars(module))  # not the loader: its bytecode cache may be a text behind
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _function(module: ModuleType, name: str, path: str) -> UserFunction:
    found = getattr(module, name, None)
    if callable(found):
        return cast(UserFunction, found)
    if found is not None:
        raise ConfigError(f"{path!r}: {name} is not a function but {type(found).__name__}")
    functions = [known for known, value in vars(module).items() if callable(value) and not known.startswith("_")]
    hint = did_you_mean(name, functions, f"It has {', '.join(functions) or 'no functions'}.")
    raise ConfigError(f"{path!r}: there is no function {name}. {hint}")


def source_hash(function: UserFunction) -> str:
    """What tells one version of `function` from another: its `version` attribute, else a hash of its source.

    The source is the text of the whole file, or of the function alone where it was typed into a notebook. Other files
    that it imports and values that it closes over are not seen: give the function a `version` where they matter.

    Raises ConfigError when there is no source to read.
    """
    version = getattr(function, "version", None)
    if version is not None:
        return f"version {version}"
    source = _source(function)
    if source is None:
        raise ConfigError(
            f"the source of {name_of(function)} cannot be read, so a changed one would go unnoticed; "
            'set its version attribute, as in score.version = "1"'
        )
    return hashlib.blake2b(source.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _source(function: UserFunction) -> str | None:
    bare = _bare(function)
    file = source_file(function)
    if file is not None:
        return file.read_text(encoding="utf-8", errors="replace")
    try:
        return inspect.getsource(bare)
    except (OSError, TypeError):
        return None


def source_file(function: UserFunction) -> Path | None:
    """The file that `function` was written in; None for a notebook, a prompt or a compiled function."""
    try:
        file = Path(inspect.getsourcefile(_bare(function)) or "")
    except TypeError:
        return None
    return file if file.is_file() else None


def _bare(function: UserFunction) -> Any:
    """What has the source: the function under decorators and partials, or the class of a callable object."""
    bare: Any = inspect.unwrap(function)
    while hasattr(bare, "func") and not inspect.isroutine(bare):
        bare = inspect.unwrap(bare.func)
    return bare if inspect.isroutine(bare) or inspect.isclass(bare) else cast(Any, type(bare))


def name_of(function: UserFunction) -> str:
    """The function's own name, or its class's."""
    return str(getattr(_bare(function), "__name__", type(function).__name__))


def described(error: BaseException, file: Path | None = None) -> str:
    """`ValueError: no such label (my_metric.py:12)`: what was raised, and where.

    The place is the innermost line inside `file`, or the innermost line of all where the error never passed there.
    """
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if file is not None and Path(frame.filename) == file]
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        return f"SyntaxError: {error.msg} ({Path(error.filename).name}:{error.lineno})"
    if not frames:
        return text
    last = (inside or frames)[-1]
    return f"{text} ({Path(last.filename).name}:{last.lineno})"
