"""Run directories: one writer, and a count of how often test rows were opened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from promptopt.errors import RunLocked, UserError
from promptopt.store.run_dir import count_opening, locked

HOLD = """
import sys, time
from pathlib import Path
from promptopt.store.run_dir import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_live_owner_keeps_others_out_and_a_killed_one_does_not(tmp_path: Path) -> None:
    run = tmp_path / "run"
    owner = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "held\n"
    with pytest.raises(RunLocked, match=f"in use by process {owner.pid}"), locked(run):
        pass
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    with locked(run):
        assert (run / "owner").read_text() == str(os.getpid())


def test_openings_of_the_same_rows_are_counted_over_runs_and_once_a_run(tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    assert [count_opening(a, "rows", "run a"), count_opening(b, "rows", "run b")] == [1, 2]
    assert count_opening(a, "rows", "run a") == 1
    assert count_opening(c, "other rows", "run c") == 1


def test_a_file_where_the_run_directory_should_be_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="cannot be a run directory"), locked(tmp_path / "run"):
        pass
