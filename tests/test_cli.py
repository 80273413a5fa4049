"""The command line as people and scripts use it: what it prints, where, and with which exit code."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from promptopt.cli import app
from promptopt.testing.faulty import FaultyServer
from world import world, write_job

COMMAND = [sys.executable, "-c", "from promptopt.cli import main; main()"]
KEY = {"OPENAI_API_KEY": "not-a-secret"}

PROGRAM = """
import time

def run(components, example, context):
    right = len(components["text"]) > 40 or example.inputs["n"] % 3 == 0
    return example.expected if right else "no"

def useless(components, example, context):
    return example.expected if example.inputs["n"] % 3 == 0 else "no"

def slow(components, example, context):
    time.sleep(0.02)
    return run(components, example, context)

def stuck(components, example, context):
    time.sleep(60)

def broken(example, output):
    return float("nan")
"""


QUICK_DATA: dict[str, Any] = {
    "path": "rows.jsonl",
    "inputs": ["n"],
    "expected": "label",
    "split": {"train": 30, "val": 30, "test": 60},
}


def write_quick_job(folder: Path, **changes: Any) -> Path:
    """A job without any model: a function that longer texts make better, whatever they say."""
    rows = [json.dumps({"n": n, "label": f"l{n % 4}"}) for n in range(120)]
    (folder / "rows.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    job: dict[str, Any] = {
        "name": "quick",
        "program": {"type": "function", "path": "program.py:run", "components": {"text": "Say the label."}},
        "data": QUICK_DATA,
        "metric": "exact_match",
        "budget": {"rollouts": 300},
    }
    path = folder / "quick.yaml"
    path.write_text(json.dumps({**job, **changes}, indent=1), encoding="utf-8")
    return path


def cli(*args: object) -> Result:
    """A command in this process."""
    return CliRunner().invoke(app, [str(arg) for arg in args])


def promptopt(*args: object, **env: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    words = [*COMMAND, *map(str, args)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, env={**os.environ, **KEY, **env})


async def start(*args: object) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *COMMAND, *map(str, args), stdout=pipe, stderr=pipe, env={**os.environ, **KEY}
    )


async def said(process: asyncio.subprocess.Process, words: str) -> None:
    """Wait until the process has written `words` to its standard error."""
    assert process.stderr is not None
    while words not in (line := (await asyncio.wait_for(process.stderr.readline(), 30)).decode()):
        assert line, f"it never said {words!r}"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, with its job beside it."""
    folder = tmp_path_factory.mktemp("done")
    run = promptopt("optimize", write_quick_job(folder), "--require", "promote", NO_COLOR="1")
    assert run.returncode == 0, run.stderr
    assert "PROMOTE: the new prompt scored 1.00 against" in run.stdout
    assert "quick: baseline; caps: 300 rollouts" in run.stderr
    assert "step 0: baseline" in run.stderr
    assert "\x1b" not in run.stdout + run.stderr
    return folder / "runs" / "quick"


# running


def test_the_required_verdict_decides_the_exit_code(tmp_path: Path) -> None:
    job = write_quick_job(tmp_path)
    run = cli("optimize", job, "--set", "program.path=program.py:useless", "--require", "promote")
    assert run.exit_code == 3
    assert "REJECT: no candidate beat the baseline on val." in run.stdout
    assert cli("optimize", job, "--set", "program.path=program.py:useless").exit_code == 0


def test_a_target_that_the_starting_prompt_meets_is_said_and_costs_val_only(tmp_path: Path) -> None:
    job = write_quick_job(tmp_path)
    run = cli("optimize", job, "--set", "strategy.target=0.2")
    assert run.exit_code == 0
    said = " ".join(cli("report", tmp_path / "runs" / "quick").stdout.split())
    assert "the starting prompt has 0.400, which is at least 0.2" in said
    written = json.loads((tmp_path / "runs" / "quick" / "result.json").read_text())
    assert written["spent"]["rollouts"] == 30
    assert written["candidates"] == 1


def test_a_finished_run_is_not_run_again(done: Path) -> None:
    run = cli("optimize", done.parent.parent / "quick.yaml")
    assert run.exit_code == 0
    assert "are in the ledger and not paid again" in run.stderr
    assert "PROMOTE" in run.stdout


def test_the_run_directory_can_be_chosen(tmp_path: Path) -> None:
    job = write_quick_job(tmp_path)
    assert cli("optimize", job, "--run-dir", tmp_path / "here", "--set", "budget.rollouts=200").exit_code == 0
    assert (tmp_path / "here" / "result.json").exists()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupt_drains_and_leaves_a_run_that_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    job, directory = write_quick_job(tmp_path), tmp_path / "runs" / "quick"
    slow = ("--set", "program.path=program.py:slow")
    process = await start("optimize", job, *slow)
    await said(process, "step 0: baseline")
    process.send_signal(number)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 130, err.decode()
    assert b"interrupted: finishing the calls in flight" in err
    assert b"Run the same command again" in out
    assert json.loads((directory / "result.json").read_text())["stop_reason"] == "interrupted"
    assert "INTERRUPTED" in cli("report", directory).stdout
    again = cli("optimize", job, *slow)
    assert again.exit_code == 0
    assert "PROMOTE" in again.stdout


async def test_an_interrupted_run_pays_for_no_call_twice(tmp_path: Path) -> None:
    async with FaultyServer(world(0.05)) as server:
        job = write_job(tmp_path, server.base_url, budget={"rollouts": 260})
        process = await start("optimize", job)
        await asyncio.wait_for(server.called.wait(), 30)
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 130
        again = await asyncio.to_thread(promptopt, "optimize", job)
        assert again.returncode == 0, again.stderr
        written = json.loads((tmp_path / "runs" / "tickets" / "result.json").read_text())
        assert server.calls == written["spent"]["calls"]


async def test_a_second_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    process = await start("optimize", write_quick_job(tmp_path), "--set", "program.path=program.py:stuck")
    await said(process, "; caps: ")
    process.send_signal(signal.SIGINT)
    await said(process, "interrupted: finishing the calls in flight")
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 2) == 130


async def test_a_running_run_can_be_watched_from_outside(tmp_path: Path) -> None:
    process = await start("optimize", write_quick_job(tmp_path), "--set", "program.path=program.py:stuck")
    await said(process, "; caps: ")
    report, listed = cli("report", tmp_path / "runs" / "quick"), cli("runs", tmp_path / "runs")
    second = cli("optimize", tmp_path / "quick.yaml", "--set", "program.path=program.py:stuck")
    process.kill()
    await process.wait()
    assert "RUNNING" in report.stdout
    assert "running" in listed.stdout
    assert second.exit_code == 1
    assert f"is in use by process {process.pid}" in second.stderr
    assert "INTERRUPTED" in cli("report", tmp_path / "runs" / "quick").stdout


# errors

BAD_JOBS = {
    "unknown key": (["--set", "budget.rolouts=60"], "Did you mean budget.rollouts?"),
    "wrong type": (["--set", "budget.rollouts=many"], "budget.rollouts"),
    "no such setting": (["--set", "budget"], "must be key=value"),
    "missing data": (["--set", "data.path=nowhere.jsonl"], "nowhere.jsonl"),
    "missing column": (["--set", "data.expected=lable"], "Did you mean 'label'?"),
    "missing function": (["--set", "program.path=program.py:rum"], "Did you mean run?"),
    "unknown operator": (["--set", "strategy.operators=[magic]"], "strategy.operators: there is no 'magic'"),
    "unknown strategy": (["--set", "strategy.name=refective"], "Did you mean reflective?"),
    "no operator": (["--set", "strategy.operators=[]"], "strategy.operators must not be empty"),
    "another strategy": (["--set", "strategy.name=greedy"], "strategy.name: there is no 'greedy'. Known:"),
    "a target above the best score": (["--set", "strategy.target=1.5"], "strategy.target must be at most 1, got 1.5"),
    "a target that all prompts meet": (["--set", "strategy.target=0"], "strategy.target must be above 0, got 0"),
    "no patience": (["--set", "strategy.patience=0"], "strategy.patience must be at least 1, got 0"),
    "no look-ahead": (["--set", "strategy.pipeline=0"], "strategy.pipeline must be at least 1, got 0"),
    "too small a budget": (["--set", "budget.rollouts=50"], "budget.rollouts is 50, but"),
    "no such rows": (["--set", "data.split.test=600"], "the split asks for"),
}
PROMPT = {"type": "prompt", "lm": "openai/x", "lm_args": {"max_tokens": 9}, "system": "Say it.", "user": "{n}"}
BAD_PROMPTS = {
    "a placeholder without a column": ({"user": "{text}"}, {}, "{text}"),
    "an unknown model": ({"lm": "nobody/knows"}, {}, "nobody/knows"),
    "a missing key variable": ({}, {"openai/x": {"api_key_env": "NO_SUCH_KEY"}}, "NO_SUCH_KEY"),
    "an unpriced model under a dollar cap": ({"lm": "openai/x"}, {"openai/x": {}}, "price"),
}


def assert_one_message(run: Result, words: str) -> None:
    assert run.exit_code == 2, run.output
    assert run.stdout == ""
    assert run.stderr.startswith("error: ")
    assert run.stderr.count("error: ") == 1
    assert "Traceback" not in run.stderr
    assert words in run.stderr


@pytest.mark.parametrize("name", ["optimize", "plan"])
@pytest.mark.parametrize(("options", "words"), BAD_JOBS.values(), ids=BAD_JOBS.keys())
def test_a_bad_job_is_one_message_before_anything_is_spent(
    tmp_path: Path, name: str, options: list[str], words: str
) -> None:
    assert_one_message(cli(name, write_quick_job(tmp_path), *options), words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("program", "lms", "words"), BAD_PROMPTS.values(), ids=BAD_PROMPTS.keys())
def test_a_bad_program_is_one_message(
    tmp_path: Path, program: dict[str, Any], lms: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-secret")
    budget = {"rollouts": 300, "usd": 1.0}
    job = write_quick_job(tmp_path, program={**PROMPT, **program}, lms=lms, budget=budget)
    assert_one_message(cli("optimize", job), words)


def test_an_error_about_a_setting_says_where_it_stands(tmp_path: Path) -> None:
    job = write_quick_job(tmp_path, budget={"rollouts": 50})
    line = next(i for i, text in enumerate(job.read_text().splitlines(), 1) if '"rollouts"' in text)
    assert_one_message(cli("plan", job), f"quick.yaml, line {line}: budget.rollouts is 50")


@pytest.mark.parametrize(
    ("text", "words"),
    [("name: [", "not valid YAML"), ("", "quick.yaml"), ("\x1b[31mname: x", "quick.yaml"), (None, "quick.yaml")],
)
def test_a_config_that_cannot_be_read_is_one_message(tmp_path: Path, text: str | None, words: str) -> None:
    job = write_quick_job(tmp_path)
    job.unlink()
    if text is not None:
        job.write_text(text, encoding="utf-8")
    run = cli("plan", job)
    assert_one_message(run, words)
    assert "\x1b" not in run.stderr


def test_a_broken_row_is_named(tmp_path: Path) -> None:
    job = write_quick_job(tmp_path)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"n": 1, "label" "x"}\n')
    assert_one_message(cli("optimize", job), "rows.jsonl, line 121")


def test_a_metric_that_returns_nan_stops_the_run_and_can_be_mended(tmp_path: Path) -> None:
    job = write_quick_job(tmp_path, metric={"type": "python", "path": "program.py:broken"})
    run = cli("optimize", job)
    assert run.exit_code == 1
    assert "finite number" in run.stderr
    assert "Traceback" not in run.stderr


async def test_an_endpoint_that_is_down_is_one_message(tmp_path: Path) -> None:
    async with FaultyServer() as server:
        model = {"api_base": server.base_url, "price": {"input": 1, "output": 2}, "retries": 0}
        job = write_job(tmp_path, "", lms={"openai/student": model, "openai/reflect": model})
    run = await asyncio.to_thread(promptopt, "optimize", job)
    assert run.returncode == 1
    assert run.stderr.count("error: ") == 1
    assert "Traceback" not in run.stderr


def test_a_run_directory_in_use_or_foreign_is_refused(tmp_path: Path, done: Path) -> None:
    assert_one_message(cli("report", tmp_path), "is not a run directory")
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database at all")
    torn = cli("report", tmp_path)
    assert torn.exit_code == 1
    assert "Nothing was changed" in torn.stderr
    changed = cli("optimize", done.parent.parent / "quick.yaml", "--set", "run.seed=5")
    assert_one_message(changed, "holds a run of another job")


def test_what_nobody_foresaw_is_a_line_and_a_way_to_see_more(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def burst(_directory: Path) -> None:
        raise RuntimeError("a \x1b[31mbug")

    monkeypatch.setattr("promptopt.report.folder.look_into", burst)
    run = cli("report", done)
    assert run.exit_code == 1
    assert run.stderr == "error: RuntimeError: a bug. This should not happen; PROMPTOPT_DEBUG=1 shows where it does.\n"
    monkeypatch.setenv("PROMPTOPT_DEBUG", "1")
    assert isinstance(cli("report", done).exception, RuntimeError)


def test_wrong_usage_exits_with_2() -> None:
    assert cli("optimise").exit_code == 2
    assert cli("export", "x", "--format", "pickle").exit_code == 2
    assert cli("optimize", "x", "--require", "luck").exit_code == 2


# reading


def test_the_plan_says_rows_costs_and_what_the_test_can_show(tmp_path: Path) -> None:
    run = cli("plan", write_quick_job(tmp_path))
    assert run.exit_code == 0
    assert "train 30, val 30, test 60" in run.stdout
    assert "the sealed test, set aside" in run.stdout
    assert "60 test rows show a gain of" in run.stdout


def test_the_plan_counts_how_often_the_test_rows_were_opened_before(tmp_path: Path) -> None:
    job = write_quick_job(tmp_path)
    first, second = (("--set", f"run.dir=runs/{number}") for number in (1, 2))
    before = cli("plan", job, *second).stdout
    assert cli("optimize", job, *first).exit_code == 0
    assert "opened" not in before
    assert "opened" not in cli("plan", job, *first).stdout, "a run's own opening is no further one"
    after = " ".join(cli("plan", job, *second).stdout.split())
    assert "They were opened once before, and so tested at a level of 0.025." in after
    assert _smallest_gain(after) > _smallest_gain(before)


def test_a_test_that_other_runs_have_worn_out_is_refused_to_all_but_those_that_have_begun(tmp_path: Path) -> None:
    job = write_quick_job(tmp_path, data={**QUICK_DATA, "split": {"train": 30, "val": 30, "test": 7}})
    run = ("--set", "run.dir=runs/begun")
    assert cli("optimize", job, *run).exit_code == 0
    (tmp_path / "runs" / "test-openings.jsonl").unlink()
    for number in range(3):
        assert cli("optimize", job, "--set", f"run.dir=runs/{number}").exit_code == 0
    worn_out = "opened 3 times before, and so tested at a level of 0.0063"
    assert_one_message(cli("optimize", job, "--set", "run.dir=runs/new"), f"test has 7 rows {worn_out}, too few")
    planned = " ".join(cli("plan", job, *run).stdout.split())
    assert f"7 test rows can show no gain any more. They were {worn_out}. Take others." in planned
    assert cli("optimize", job, *run).exit_code == 0


def _smallest_gain(planned: str) -> float:
    return float(planned.split("show a gain of ")[1].split()[0])


def test_a_plan_without_test_rows_says_so(tmp_path: Path) -> None:
    run = cli("plan", write_quick_job(tmp_path), "--set", "data.split.test=0")
    assert "the verdict will be INCONCLUSIVE" in run.stdout


def test_a_report_comes_from_the_ledger_alone(done: Path) -> None:
    result = done / "result.json"
    kept = result.read_text()
    result.unlink()
    run = cli("report", done)
    machine = cli("report", done, "--json")
    result.write_text(kept)
    assert "PROMOTE" in run.stdout
    assert "Candidates" in run.stdout
    assert json.loads(machine.stdout) == json.loads(kept)


def test_an_exported_candidate_scores_as_it_did(done: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompt.json"
    assert cli("export", done, "--format", "json", "--output", file).exit_code == 0
    assert json.loads(file.read_text()).keys() == {"components", "demos", "settings"}
    job = write_quick_job(tmp_path)
    for candidate in (file, done):
        run = cli("evaluate", job, "--candidate", candidate)
        assert run.exit_code == 0, run.stderr
        assert "1.000 on 30 val rows" in run.stdout
    assert "0.400 on 30 val rows" in cli("evaluate", job).stdout


def test_export_prints_the_recommended_prompt_and_nothing_else(done: Path) -> None:
    run = cli("export", done)
    best = json.loads((done / "result.json").read_text())["best"]["components"]["text"]
    assert run.stdout == best + "\n"
    assert run.stderr == ""


def test_export_says_when_the_current_prompt_is_recommended(tmp_path: Path) -> None:
    job = write_quick_job(tmp_path)
    assert cli("optimize", job, "--set", "data.split.test=0").exit_code == 0
    run = cli("export", tmp_path / "runs" / "quick")
    assert run.stdout == "Say the label.\n"
    assert "INCONCLUSIVE: this is the current prompt" in run.stderr
    assert "\n" in cli("export", tmp_path / "runs" / "quick", "--candidate", "best").stdout.strip()


def test_compare_takes_the_rows_that_both_have_scored(done: Path, tmp_path: Path) -> None:
    run = cli("compare", done, done)
    assert run.exit_code == 0
    assert "difference +0.000" in run.stdout
    assert_one_message(cli("compare", done, tmp_path), "is not a run directory")


def test_runs_lists_every_run_and_also_the_torn_ones(done: Path) -> None:
    torn = done.parent / "torn"
    torn.mkdir()
    (torn / "ledger.sqlite").write_bytes(b"x" * 5000)
    listed = cli("runs", done.parent)
    (torn / "ledger.sqlite").unlink()
    assert listed.exit_code == 0
    assert "PROMOTE" in next(line for line in listed.stdout.splitlines() if line.startswith("quick "))
    assert any(line.startswith("torn ") for line in listed.stdout.splitlines())


def test_runs_of_an_empty_folder_and_of_none(tmp_path: Path) -> None:
    assert "there are no runs" in cli("runs", tmp_path).stderr
    assert_one_message(cli("runs", tmp_path / "nowhere"), "is not a folder")


def test_init_writes_a_job_that_plans_and_overwrites_nothing(tmp_path: Path) -> None:
    assert cli("init", tmp_path / "new").exit_code == 0
    assert cli("plan", tmp_path / "new" / "start.yaml").exit_code == 0
    assert_one_message(cli("init", tmp_path / "new"), "exists already")


def test_models_are_listed_with_what_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTOPT_MODELS", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "140")
    run = cli("models", "list")
    row = next(line for line in run.stdout.splitlines() if "smollm2-135m" in line)
    assert row.split()[:5] == ["local/smollm2-135m", "Apache-2.0", "no", "98", "MB"]
    assert_one_message(cli("models", "pull", "qwen-9000"), "is not a local model")


def test_the_version_and_the_help() -> None:
    assert cli("--version").stdout.startswith("promptopt 0.")
    for command in ("optimize", "plan", "evaluate", "compare", "report", "runs", "export", "models", "init"):
        assert command in cli("--help").stdout
        assert cli(command, "--help").exit_code == 0
