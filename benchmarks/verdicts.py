"""How often whole runs say PROMOTE: where no prompt matters, and where one truly does.

    python benchmarks/verdicts.py [--runs 200]

Each run is a real one, from split to sealed test, over a program whose answers are drawn by a hash of the prompt and
the row. *Null*: every prompt is right with probability 0.6. *Planted*: every prompt but the first one gains as much as
the test is planned to show 4 times in 5.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import promptopt
from promptopt.stats.power import detectable_gain

SEED_PROMPT = "Do it."
BASE, TRAIN, VAL, TEST = 0.6, 8, 40, 100


def draw(*parts: object) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def noise(gain: float) -> Callable[[Mapping[str, str], Any, Any], bool]:
    """A program that is right with probability BASE, plus `gain` for every prompt but the first one.

    Rows differ in how hard they are, so that prompts agree on many of them, as real ones do.
    """

    def run(components: Mapping[str, str], example: Any, context: Any) -> bool:
        text = components["prompt"]
        lift = 0.0 if text == SEED_PROMPT else gain
        own = draw("row", example.row) if draw("hard", example.row) < 0.5 else draw("row", example.row, text)
        return own < BASE + lift

    return run


def verdict(folder: Path, number: int, gain: float) -> str:
    """One whole run."""
    rows = [{"row": f"{number}/{i}", "wanted": True} for i in range(TRAIN + VAL + TEST)]
    data = promptopt.Dataset.from_rows(rows, inputs=["row"], expected="wanted")
    result = promptopt.optimize(
        promptopt.Function(noise(gain), components={"prompt": SEED_PROMPT}),
        data.split(train=TRAIN, val=VAL, test=TEST, seed=number),
        lambda example, output: output,
        budget=promptopt.Budget(rollouts=VAL + 2 * TEST + 8 * VAL),
        run={"dir": str(folder / f"{gain:.2f}-{number}"), "seed": number, "concurrency": 8},
    )
    return result.verdict


def share(kind: str, gain: float, runs: int) -> float:
    """The share of PROMOTE in `runs` runs, printed as a row."""
    with tempfile.TemporaryDirectory() as folder:
        counts = Counter(verdict(Path(folder), number, gain) for number in range(runs))
    promoted = counts["PROMOTE"] / runs
    error = math.sqrt(promoted * (1 - promoted) / runs)
    print(f"{kind:8} {gain:+.2f}  {promoted:6.1%} ± {error:.1%}   {dict(counts)}", flush=True)
    return promoted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    runs = parser.parse_args().runs
    print("kind     gain   PROMOTE          verdicts")
    share("null", 0.0, runs)
    share("planted", detectable_gain(TEST) or 0.0, runs)


if __name__ == "__main__":
    main()
