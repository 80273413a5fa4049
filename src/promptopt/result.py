"""What a run found, and how sure it is."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from promptopt.core.budget import Spend
from promptopt.core.candidate import Candidate
from promptopt.core.guard import Trust, Verdict, judge_test, no_test_rows, nothing_better, untested
from promptopt.core.sealed import Pair
from promptopt.core.search import CAP
from promptopt.core.selection import Offer, champion, front, prompt_tokens
from promptopt.core.state import State, Told, replay
from promptopt.errors import UserError
from promptopt.store.ledger import FailedRows, Ledger
from promptopt.store.run_dir import RESULT, reading, write_json

if TYPE_CHECKING:
    import pandas


INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Result:
    """The outcome of a run: a verdict, the candidates it is about, and what it cost."""

    judged: Verdict
    baseline: Candidate
    best: Candidate
    """The champion of val, whatever the verdict."""
    state: State
    steps: tuple[Told, ...]
    spent: Spend
    seconds: float
    """Wall-clock over all sessions."""
    stop_reason: str
    seed: int
    by_purpose: Mapping[str, Spend]
    """The part of `spent` that each purpose paid for: program, reflection, judge."""
    failures: tuple[FailedRows, ...]
    """Rollouts without a score."""
    val_rows: int
    test_rows: int
    """Rows of the sealed test, opened or not."""
    opened: bool
    """Whether the sealed test has been opened."""
    name: str
    directory: Path
    trust: tuple[Trust, ...] = ()
    """What is known of the judges that scored."""

    @property
    def verdict(self) -> str:
        """PROMOTE, REJECT or INCONCLUSIVE."""
        return self.judged.outcome

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why, and how far the judges can be trusted."""
        return (*self.judged.reasons, *(known.sentence for known in self.trust))

    @property
    def test(self) -> dict[str, Any] | None:
        """The sealed test as in result.json; None when it stayed sealed."""
        return self.judged.test.to_json() if self.judged.test else None

    @property
    def recommended(self) -> Candidate:
        """What to use: `best` on PROMOTE, otherwise what you have."""
        return self.best if self.verdict == "PROMOTE" else self.baseline

    @property
    def leader(self) -> Candidate:
        """The champion; before the run's end the candidate to beat, which may lead on few val rows."""
        unfinished = self.stop_reason == INTERRUPTED and not self.opened
        return self.state.candidates.get(self.state.incumbent, self.best) if unfinished else self.best

    @cached_property
    def origins(self) -> Mapping[str, Told]:
        """The step that each scored candidate came from; where several made the same one, the first that won."""
        made = [(told.candidate.id, told) for told in self.steps if told.candidate and told.outcome != "completed"]
        return dict(sorted(made, key=lambda pair: (pair[1].outcome == "won", -pair[1].step)))

    @property
    def val(self) -> dict[str, Any]:
        """Selection scores, optimistic: the best of many always looks better than it is. None before there are any.

        `rows` says on how many rows of val each arm is known: the baseline is not always run on all of them.
        """
        arms = {"baseline": self.baseline.id, "best": self.best.id}
        means = {arm: self.state.mean(name) if name in self.state.val else None for arm, name in arms.items()}
        rows = {arm: len(self.state.val.get(name, ())) for arm, name in arms.items()}
        return {**means, "rows": rows, "optimistic": True}

    @cached_property
    def front(self) -> tuple[Offer, ...]:
        """The candidates known on all of val that none beats in score, prompt tokens and dollars at once."""
        return front(self.state, self.val_rows)

    def candidate(self, name: str) -> Candidate:
        """The candidate `recommended`, `best` or `baseline`, or the one with this id. Raises UserError for another."""
        if name in ("recommended", "best", "baseline"):
            return cast(Candidate, getattr(self, name))
        if name not in self.state.candidates:
            raise UserError(
                f"{self.directory} has no candidate {name}: name recommended, best, baseline or an id that "
                "`promptopt report` or result.json shows"
            )
        return self.state.candidates[name]

    def to_json(self) -> dict[str, Any]:
        """The contract of result.json."""
        return {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "judges": [asdict(known) for known in self.trust],
            "recommended": "best" if self.verdict == "PROMOTE" else "baseline",
            "baseline": describe(self.baseline),
            "best": describe(self.best),
            "val": self.val,
            "test": self.test,
            "spent": spent_json(self.spent, self.seconds),
            "refused": dict(sorted(self.state.refused.items())),
            "candidates": len(self.state.candidates),
            "front": [
                {"id": one.candidate.id, "val": one.val, "prompt_tokens": one.prompt_tokens, "usd": one.usd}
                for one in self.front
            ],
            "stop_reason": self.stop_reason,
            "seed": self.seed,
            "versions": versions(),
        }

    def to_frame(self) -> pandas.DataFrame:
        """One row a step: operator, outcome, val mean over the rows that it ran, and what it changed."""
        import pandas

        rows = [
            {
                "step": told.step,
                "operator": told.operator,
                "outcome": told.outcome,
                "candidate": told.candidate.id if told.candidate else None,
                "parent": told.parent,
                "val": _mean(told),
                "val_rows": len(told.scores),
                "saved": told.saved,
                "prompt_tokens": prompt_tokens(told.candidate) if told.candidate else None,
                "tokens": told.tokens,
                "reason": told.reason,
                "note": told.note,
            }
            for told in self.steps
        ]
        return pandas.DataFrame(rows)

    def save(self, directory: str | Path) -> Path:
        """Write result.json into `directory`, and return its path."""
        path = Path(directory) / RESULT
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, self.to_json())
        return path

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself, which nothing changes: a DSPy module that carries it can be copied as often as DSPy likes."""
        return self

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        from promptopt.report.notebook import html

        return html(self)

    def __repr__(self) -> str:
        return f"Result({self.verdict}: {self.reasons[0]})"


def rebuild(directory: Path) -> Result:
    """The result of the run in `directory`, from its ledger alone; the run may still be going on.

    Raises LedgerCorrupt for a torn or foreign ledger and UserError where no run is.
    """
    with reading(directory) as ledger:
        return read_result(ledger, directory)


def read_result(ledger: Ledger, directory: Path) -> Result:
    """What `ledger` says of its run so far."""
    steps = tuple(Told.from_json(event.step, event.body) for event in ledger.events("told"))
    job: dict[str, Any] = ledger.meta("job")
    baseline = Candidate.from_json(job["baseline"])
    state = replay(steps)
    best = champion(state, job["val_rows"], job["select"]) if state.baseline else baseline
    opened, stops = ledger.events("opened"), ledger.events("stop")
    finished = bool(ledger.events("finished"))
    if opened:
        best = state.candidates[opened[0].body["best"]]
    if not finished:
        judged = Verdict("INCONCLUSIVE", (f"the run was {INTERRUPTED} before its end.", "Run it again to go on."))
    elif opened:
        judged = _judged(ledger, opened[0].body, job["seed"])
    elif not job["test_rows"]:
        judged = no_test_rows()
    elif best.id != baseline.id:
        judged = untested(f"{_bound(steps)} has no room for the sealed test of the best candidate; raise it")
    elif len(state.candidates) < 2:
        judged = untested(f"no other candidate was scored; the search stopped: {stops[0].body['reason']}")
    elif len(state.val[state.incumbent]) < job["val_rows"]:
        judged = untested(f"{_bound(steps)} has no room to score the leading candidate on all val rows; raise it")
    else:
        judged = nothing_better()
    return Result(
        judged=judged,
        baseline=baseline,
        best=best,
        state=state,
        steps=steps,
        spent=ledger.spent(),
        seconds=ledger.seconds(),
        stop_reason=stops[0].body["reason"] if finished and stops else INTERRUPTED,
        seed=job["seed"],
        by_purpose={purpose: ledger.spent(purpose) for purpose in ("program", "reflection", "judge")},
        failures=ledger.failures(),
        opened=bool(opened),
        val_rows=job["val_rows"],
        test_rows=job["test_rows"],
        name=job["name"],
        directory=directory,
        trust=tuple(Trust(**known) for known in job["trust"]),
    )


def _bound(steps: Sequence[Told]) -> str:
    """The budget, by the cap that left the latest step no room where it is known."""
    refused = (told.reason for told in reversed(steps) if told.outcome == "no_room")
    return next((reason.replace(CAP, "budget.") for reason in refused if reason.startswith(CAP)), "the budget")


def _judged(ledger: Ledger, opened: Mapping[str, Any], seed: int) -> Verdict:
    """The verdict on the test rollouts that the ledger holds; a row without one is missing."""
    values: dict[tuple[str, str], float | None] = {}
    for rollout in ledger.rollouts("test"):
        arm = "best" if rollout.candidate_id == opened["best"] else "baseline"
        values[arm, rollout.example_id] = rollout.value
    pairs = [
        Pair(row, values.get(("baseline", row)), values.get(("best", row)), group) for row, group in opened["rows"]
    ]
    labels = ledger.events("labels")
    people = {row: (said[0], said[1]) for row, said in labels[-1].body["scores"].items()} if labels else None
    opening = opened["opening"] + len(labels)  # every set of labels is another look at the same rows
    return judge_test(pairs, binary=opened["binary"], opening=opening, seed=seed, people=people)


def describe(candidate: Candidate) -> dict[str, Any]:
    """A candidate as result.json shows it."""
    return {"id": candidate.id, **candidate.to_json(), "prompt_tokens": prompt_tokens(candidate)}


def spent_json(spent: Spend, seconds: float) -> dict[str, Any]:
    """What a run has cost as result.json shows it."""
    names = ("rollouts", "calls", "cached", "tokens_in", "tokens_out")
    counts = {name: getattr(spent, name) for name in names}
    return {**counts, "usd": float(spent.usd), "seconds": round(seconds, 1)}


def versions() -> dict[str, str]:
    """What made the result: this package, Python and what the calls went through."""
    found = {"python": platform.python_version()}
    for name, package in {"promptopt": "promptopt-engine", "litellm": "litellm", "xllamacpp": "xllamacpp"}.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _mean(told: Told) -> float | None:
    known = [value for value in told.scores.values() if value is not None]
    return sum(known) / len(known) if known else None
