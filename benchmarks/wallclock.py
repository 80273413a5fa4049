"""How long a search takes until val reaches what gepa reaches with 2400 rollouts: ours beside gepa, over HTTP.

    python benchmarks/wallclock.py [--ours] [--gepa] [--seeds 0-2] [--pipeline 8] [--figure FILE.png] [--json FILE]

Both call the same endpoint: 300 ms a rollout, 3 s a reflection, both lognormal. At most 32 rollouts are in flight; gepa
evaluates each of its batches in 32 threads. A search that ends below the target counts with all of its time, so gepa's
figure is a lower bound where it did not get there. Our calls in flight are shown second by second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import simtask
from contenders import GepaAdapter, gepa_search, our_search
from rich.console import Console
from rich.table import Table
from search import seeds
from simtask import REFLECT, TASK, Task, serving, traffic_at

from promptopt.lm.provider import load_litellm

TASK_MS, REFLECT_MS, IN_FLIGHT = 300.0, 3000.0, 32
ROLLOUTS = 2400
TARGET = 0.568
"""gepa 0.1.4's val score after 2400 rollouts: the mean over seeds 0 to 11 of `search.py --gepa` (held out: 0.541)."""
BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Timing:
    """One search against the clock."""

    engine: str
    seed: int
    seconds: float
    """Until the target was reached, or the search ended."""
    reached: bool
    val: float
    """The best score over all val rows."""
    rollouts: int
    reflections: int
    tasks_in_flight: tuple[float, ...]
    """Rollouts in flight, the mean of each second."""
    reflections_in_flight: tuple[float, ...]


def time_ours(seed: int, target: float, base_url: str, pipeline: int) -> tuple[float, float]:
    """Seconds of a whole run that stops at the target, and the best val score."""
    task = Task(seed)
    load_litellm()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        strategy = {"target": target, "pipeline": pipeline}
        result = our_search(
            task, base_url, Path(folder) / "run", rollouts=ROLLOUTS, strategy=strategy, concurrency=IN_FLIGHT
        )
    seconds = time.monotonic() - began
    whole = [name for name, scores in result.state.val.items() if len(scores) == len(task.split()[1])]
    return seconds, max(result.state.mean(name) for name in whole)


def time_gepa(seed: int, target: float, base_url: str) -> tuple[float, float]:
    """Seconds and the best val score."""
    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    with httpx.Client(limits=limits, timeout=60) as client, ThreadPoolExecutor(IN_FLIGHT) as threads:

        def ask(model: str, messages: simtask.Messages) -> str:
            body = {"model": model, "messages": messages}
            answer = client.post(f"{base_url}/chat/completions", json=body).raise_for_status().json()
            return answer["choices"][0]["message"]["content"]

        began = time.monotonic()
        result = gepa_search(GepaAdapter(Task(seed), ask, threads.map), ROLLOUTS, target)
        return time.monotonic() - began, max(result.val_aggregate_scores)


def timed(engine: str, seed: int, target: float, pipeline: int) -> Timing:
    """One search against an endpoint of its own."""
    with serving(seed, task_ms=TASK_MS, reflect_ms=REFLECT_MS) as base_url:
        if engine == "ours":
            seconds, val = time_ours(seed, target, base_url, pipeline)
        else:
            seconds, val = time_gepa(seed, target, base_url)
        traffic = traffic_at(base_url)
    return Timing(
        engine=engine,
        seed=seed,
        seconds=seconds,
        reached=val >= target,
        val=val,
        rollouts=traffic.calls[TASK],
        reflections=traffic.calls[REFLECT],
        tasks_in_flight=tuple(traffic.mean_in_flight(TASK)),
        reflections_in_flight=tuple(traffic.mean_in_flight(REFLECT)),
    )


def table(timings: Sequence[Timing], target: float) -> Table:
    shown = Table(
        "search", "seed", "seconds", "val", "rollouts", "reflections", title=f"until val reaches {target:.3f}"
    )
    for column in shown.columns[1:]:
        column.justify = "right"
    for timing in timings:
        shown.add_row(
            timing.engine,
            f"{timing.seed}",
            f"{'' if timing.reached else '> '}{timing.seconds:.1f}",
            f"{timing.val:.3f}",
            f"{timing.rollouts:,}",
            f"{timing.reflections}",
        )
    return shown


def ratio(timings: Sequence[Timing]) -> str:
    """Our mean time over gepa's, where both were timed."""
    means = {
        engine: statistics.fmean(timing.seconds for timing in timings if timing.engine == engine)
        for engine in {timing.engine for timing in timings}
    }
    if len(means) < 2:
        return "  ".join(f"{engine}: {seconds:.1f} s in the mean" for engine, seconds in means.items())
    share = means["ours"] / means["gepa"]
    return f"ours {means['ours']:.1f} s, gepa {means['gepa']:.1f} s in the mean: a share of {share:.3f}"


def bars(values: Sequence[float], full: float) -> str:
    """One bar a value, of eighths of `full`."""
    return "".join(BARS[min(8, round(8 * value / full))] for value in values)


def curves(timing: Timing) -> str:
    """Calls in flight in each second of a search."""
    tasks, reflections = timing.tasks_in_flight, timing.reflections_in_flight
    mean, most = statistics.fmean(tasks), max(1.0, *reflections)
    return (
        f"{timing.engine}, seed {timing.seed}: {mean:.1f} rollouts in flight in the mean, of {IN_FLIGHT}\n"
        f"  rollouts     0 to {IN_FLIGHT:<4} {bars(tasks, IN_FLIGHT)}\n"
        f"  reflections  0 to {most:<4.0f} {bars(reflections, most)}"
    )


def draw_figure(timings: Sequence[Timing], path: Path) -> None:
    """Calls in flight over time, one row for each search."""
    import matplotlib.pyplot as plt

    figure, rows = plt.subplots(len(timings), figsize=(9, 2 * len(timings)), squeeze=False, layout="constrained")
    for axes, timing in zip(rows[:, 0], timings, strict=True):
        axes.step(range(len(timing.tasks_in_flight)), timing.tasks_in_flight, where="post", label="rollouts")
        reflections = timing.reflections_in_flight
        axes.step(range(len(reflections)), reflections, where="post", label="reflections")
        axes.axhline(IN_FLIGHT, color="grey", linewidth=0.5)
        axes.set(title=f"{timing.engine}, seed {timing.seed}", xlabel="seconds", ylabel="in flight", ylim=(0, None))
        axes.legend(loc="upper right")
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for engine in ("ours", "gepa"):
        parser.add_argument(f"--{engine}", action="store_true", help=f"only {engine}")
    parser.add_argument("--seeds", type=seeds, default=range(3), metavar="A-B")
    parser.add_argument("--pipeline", type=int, default=8, help="proposals of ours under way at once")
    parser.add_argument("--target", type=float, default=TARGET, help="val score to reach")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="also draw calls in flight, as PNG")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every timing here")
    options = parser.parse_args(arguments)

    engines = [engine for engine in ("ours", "gepa") if getattr(options, engine)] or ["ours", "gepa"]
    timings = [timed(engine, seed, options.target, options.pipeline) for engine in engines for seed in options.seeds]
    console = Console(width=100)
    console.print(table(timings, options.target))
    console.print(ratio(timings))
    for timing in timings:
        if timing.engine == "ours":
            print(curves(timing))
    if options.figure:
        draw_figure(timings, options.figure)
    if options.json:
        options.json.write_text(json.dumps([asdict(timing) for timing in timings], indent=1) + "\n")


if __name__ == "__main__":
    main()
