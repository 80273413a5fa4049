"""What the engine itself costs: CPU a rollout beside litellm's own, start-up time, and memory at scale.

    python benchmarks/overhead.py

Every figure is measured in a process of its own, the endpoint on loopback in another.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CALLS = 1200
ROWS, ROLLOUTS = 100_000, 20_000


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def job(folder: Path, base_url: str) -> dict[str, object]:
    """A config whose run makes about CALLS rollouts with two messages each, as the bare calls have."""
    for name, n, start in (("train", 20, 0), ("val", 200, 1000), ("test", 100, 2000)):
        rows = [json.dumps({"text": f"What is {start + i}?", "answer": ("ok", "no")[i % 2]}) for i in range(n)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    program = {"type": "prompt", "lm": "openai/x", "lm_args": {"max_tokens": 8}, "system": "Say.", "user": "{text}"}
    files = {name: f"{name}.jsonl" for name in ("train", "val", "test")}
    return {
        "name": "overhead",
        "program": program,
        "data": {**files, "inputs": "text", "expected": "answer"},
        "metric": "contains",
        "strategy": {"operators": ["tips"]},
        "budget": {"rollouts": CALLS},
        "run": {"dir": "run", "concurrency": 16},
        "lms": {"openai/x": {"api_base": base_url}},
    }


def engine(base_url: str) -> None:
    """CPU of a whole run, a rollout."""
    from promptopt.api import optimize
    from promptopt.config import parse
    from promptopt.lm.provider import load_litellm

    load_litellm()
    with tempfile.TemporaryDirectory() as folder:
        config = parse(job(Path(folder), base_url), base=folder)
        asyncio.run(bare_calls(base_url, 20))
        before = cpu()
        result = optimize(config)
        print((cpu() - before) / result.spent.rollouts)


def bare(base_url: str) -> None:
    """CPU of litellm alone, a call."""
    from promptopt.lm.provider import load_litellm

    load_litellm()
    asyncio.run(bare_calls(base_url, 20))
    before = cpu()
    asyncio.run(bare_calls(base_url, CALLS))
    print((cpu() - before) / CALLS)


async def bare_calls(base_url: str, n: int) -> None:
    import litellm

    slots = asyncio.Semaphore(16)

    async def call(number: int) -> None:
        messages = [{"role": "system", "content": "Say."}, {"role": "user", "content": f"What is {number}?"}]
        async with slots:
            await litellm.acompletion(
                model="openai/x", messages=messages, api_base=base_url, api_key="none", max_tokens=8, max_retries=0
            )

    await asyncio.gather(*(call(number) for number in range(n)))


def memory() -> None:
    """Peak memory of a run over ROWS examples with ROLLOUTS rollouts, and its CPU a rollout without any model."""
    import promptopt

    with tempfile.TemporaryDirectory() as folder:
        text = "A customer writes about a card that has not arrived yet and asks what to do, case"
        rows = ({"text": f"{text} {i}", "answer": "yes"} for i in range(ROWS))
        data = promptopt.Dataset.from_rows(rows, inputs="text", expected="answer")
        split = data.split(train=ROWS - 10_000, val=8000, test=2000)
        before = cpu()
        result = promptopt.optimize(
            promptopt.Function(lambda components, example, context: "yes", components={"p": "Say yes."}),
            split,
            lambda example, output: hash(example.id) % 2 == 0,
            budget=promptopt.Budget(rollouts=ROLLOUTS + 12_100),
            run={"dir": str(Path(folder) / "run")},
        )
        print((cpu() - before) / result.spent.rollouts)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, result.spent.rollouts)


def serve() -> None:
    """An endpoint that always says ok; prints its address."""
    from promptopt.testing.faulty import FaultyServer, reply

    async def forever() -> None:
        async with FaultyServer(reply("ok")) as server:
            print(server.base_url, flush=True)
            await asyncio.Event().wait()

    asyncio.run(forever())


def measured(*command: str) -> list[str]:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    return done.stdout.split()


def seconds(*command: str) -> float:
    """The best of five starts."""
    times: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    server = subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        base_url = server.stdout.readline().strip()
        own = [1000 * float(measured(__file__, "engine", base_url)[0]) for _ in range(3)]
        alone = [1000 * float(measured(__file__, "bare", base_url)[0]) for _ in range(3)]
    finally:
        server.kill()
        server.wait()
    cpu_bare, peak, rollouts = measured(__file__, "memory")
    print(f"CPU a rollout, whole run     {min(own):6.2f} ms")
    print(f"CPU a call, litellm alone    {min(alone):6.2f} ms")
    print(f"the engine's own             {min(own) - min(alone):6.2f} ms")
    print(f"CPU a rollout, no model      {1000 * float(cpu_bare):6.2f} ms  ({rollouts} rollouts)")
    print(f"peak memory                  {float(peak):6.0f} MiB ({ROWS:,} examples)")
    print(f"import promptopt             {seconds('-c', 'import promptopt'):6.2f} s")
    print(f"promptopt --help             {seconds(str(Path(sys.executable).with_name('promptopt')), '--help'):6.2f} s")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        {"engine": engine, "bare": bare, "memory": memory, "serve": serve}[sys.argv[1]](*sys.argv[2:])
    else:
        main()
