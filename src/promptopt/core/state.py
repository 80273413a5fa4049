"""What the steps of a search tell, and the state that is folded from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from promptopt.core.candidate import Candidate
from promptopt.core.racing import Scores, paired_gain

Outcome = Literal["baseline", "won", "lost", "behind", "refused", "repeat", "pooled", "no_room", "completed"]
FADING = 0.9
"""What a try of an operator counts, against one that came after it."""
REMEMBERED = 40
"""Edits that did not help, kept for the reflection."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a finished step tells: one event of the run."""

    step: int
    operator: str
    outcome: Outcome
    candidate: Candidate | None = None
    parent: str | None = None
    """The candidate that this one was made from by one edit."""
    component: str = ""
    """The component that the edit is about, where it is about one."""
    note: str = ""
    reason: str = ""
    """Why the outcome is what it is, in a few words."""
    refused: Mapping[str, int] = field(default_factory=dict[str, int])
    asked: bool = False
    """Whether a reflection model was asked."""
    gain: float = 0.0
    """What the race found that it gains on val over the incumbent of then."""
    estimate: float | None = None
    """The candidate's mean on all val rows as the race suggests it: the incumbent's, plus the gain."""
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What later steps or Optuna read: a trial's choices by parameter, or the hypotheses of an answer."""
    saved: int = 0
    """Val rows that the race did not run."""
    tokens: int = 0
    """Tokens of the reflection; the engine adds those of the step's rollouts."""
    usd: float = 0.0
    """Dollars of one rollout of the candidate on val, on average; the engine fills it in."""
    val: Mapping[str, Scores] = field(default_factory=dict[str, Scores])
    """Scores on val rows that the step asked for, by candidate id and example id; the engine fills it in."""
    train: Mapping[str, Scores] = field(default_factory=dict[str, Scores])
    """The same on train rows."""

    @property
    def scores(self) -> Scores:
        """The step's own candidate's scores on val rows; None where one is missing."""
        return self.val.get(self.candidate.id, {}) if self.candidate else {}

    def to_json(self) -> dict[str, Any]:
        return {
            "operator": self.operator,
            "outcome": self.outcome,
            "candidate": self.candidate.to_json() if self.candidate else None,
            "parent": self.parent,
            "component": self.component,
            "note": self.note,
            "reason": self.reason,
            "refused": dict(self.refused),
            "asked": self.asked,
            "gain": self.gain,
            "estimate": self.estimate,
            "params": dict(self.params),
            "saved": self.saved,
            "tokens": self.tokens,
            "usd": self.usd,
            "val": {name: dict(scores) for name, scores in self.val.items()},
            "train": {name: dict(scores) for name, scores in self.train.items()},
        }

    @staticmethod
    def from_json(step: int, body: Mapping[str, Any]) -> Told:
        """Read back what `to_json` wrote."""
        fields = dict(body)
        fields["candidate"] = Candidate.from_json(body["candidate"]) if body["candidate"] else None
        return Told(step, **fields)


@dataclass(frozen=True, slots=True)
class Tally:
    """How an operator has done so far."""

    tries: float = 0
    wins: float = 0
    gain: float = 0.0
    """What its wins gained on val over the incumbents of their time, summed."""
    tokens: float = 0

    def after(self, told: Told, fading: float = 1.0) -> Tally:
        """With one more try; what was before counts `fading` as much."""
        won = told.outcome == "won"
        return Tally(
            fading * self.tries + 1,
            fading * self.wins + won,
            fading * self.gain + told.gain * won,
            fading * self.tokens + told.tokens,
        )


@dataclass(frozen=True, slots=True)
class State:
    """Everything the folded steps have told. Immutable: a step may hold on to the one it started from."""

    history: tuple[Told, ...] = ()
    """All that was told, in order."""
    candidates: Mapping[str, Candidate] = field(default_factory=dict[str, Candidate])
    parents: Mapping[str, str] = field(default_factory=dict[str, str])
    """The candidate that each one was made from."""
    val: Mapping[str, Scores] = field(default_factory=dict[str, Scores])
    """Known val scores by candidate id and example id."""
    train: Mapping[str, Scores] = field(default_factory=dict[str, Scores])
    """The same on train rows, also of what is no candidate: a parent under its teacher's settings."""
    incumbent: str = ""
    """The candidate to beat: the latest that led its race. Its evidence may be thin yet."""
    baseline: str = ""
    winners: tuple[str, ...] = ()
    """All that led their race against the incumbent of their time, in order."""
    tallies: Mapping[str, Tally] = field(default_factory=dict[str, Tally])
    """By operator, the whole run."""
    credit: Mapping[str, Tally] = field(default_factory=dict[str, Tally])
    """By component, the whole run."""
    form: Mapping[str, Tally] = field(default_factory=dict[str, Tally])
    """By operator, the latest tries most: tips run out, and gains get smaller."""
    rejected: Mapping[str, str] = field(default_factory=dict[str, str])
    """Notes of edits that did not help, and why; newest last."""
    refused: Mapping[str, int] = field(default_factory=dict[str, int])
    rollouts: int = 0
    """Distinct (candidate, example) pairs so far."""
    idle: int = 0
    """Steps in a row that ran nothing new."""
    useless: int = 0
    """Times in a row that asking the reflection model led to no new candidate."""
    since_win: int = 0
    """Proposals in a row that did not win."""

    def fold(self, told: Told) -> State:
        """The state after `told`."""
        fresh = _fresh(told.val, self.val) + _fresh(told.train, self.train)
        state = replace(
            self,
            history=(*self.history, told),
            rollouts=self.rollouts + fresh,
            idle=0 if fresh or (told.outcome == "pooled" and told.candidate) else self.idle + 1,
            refused={
                reason: self.refused.get(reason, 0) + told.refused.get(reason, 0)
                for reason in dict.fromkeys((*self.refused, *told.refused))
            },
        )._scored(told)
        if told.candidate is not None and told.outcome == "baseline":
            return replace(state, baseline=told.candidate.id, incumbent=told.candidate.id)
        return state if told.outcome in ("no_room", "completed") else state._proposed(told)

    @property
    def folded(self) -> int:
        """How many steps have been folded: the number of the next one."""
        return len(self.history)

    @property
    def pool(self) -> tuple[Candidate, ...]:
        """Candidates that were proposed to be combined and not raced, in order."""
        return tuple(told.candidate for told in self.history if told.outcome == "pooled" and told.candidate)

    def mean(self, candidate_id: str) -> float:
        """A candidate's mean over its known val scores; 0.0 when it has none."""
        return mean(self.val[candidate_id])

    def estimate(self, candidate_id: str) -> float:
        """A candidate's mean on all val rows as its race suggested; of one without a race, its mean so far."""
        raced = (told for told in self.history if told.candidate and told.candidate.id == candidate_id)
        return next((told.estimate for told in raced if told.estimate is not None), self.mean(candidate_id))

    def usd(self, candidate_id: str) -> float:
        """Dollars of one of its rollouts, as the latest step that ran it on val found."""
        runs = (told for told in reversed(self.history) if told.candidate and told.candidate.id == candidate_id)
        return next((told.usd for told in runs if told.scores), 0.0)

    def promise(self, candidate_id: str) -> float:
        """A guess at a candidate's mean on all val rows: the baseline's, plus its lead on the rows that both have."""
        return self.mean(self.baseline) + paired_gain(self.val[candidate_id], self.val[self.baseline])

    def lineage(self, candidate_id: str) -> Iterable[str]:
        """The candidate, its parent, its parent's parent, and so on up to the baseline."""
        name: str | None = candidate_id
        while name is not None:
            yield name
            name = self.parents.get(name)

    def _scored(self, told: Told) -> State:
        """With the scores that it tells; a candidate counts from its first val score."""
        candidates, parents = self.candidates, self.parents
        if told.candidate is not None and told.scores and told.candidate.id not in candidates:
            candidates = {**candidates, told.candidate.id: told.candidate}
            parents = {**parents, told.candidate.id: told.parent} if told.parent else parents
        raced = {name: scores for name, scores in told.val.items() if name in candidates}
        val, train = _with(self.val, raced), _with(self.train, told.train)
        return replace(self, candidates=candidates, parents=parents, val=val, train=train)

    def _proposed(self, told: Told) -> State:
        won = told.outcome == "won"
        credit = self.credit
        if told.component:
            credit = {**credit, told.component: credit.get(told.component, Tally()).after(told)}
        useless = self.useless + 1 if told.outcome in ("refused", "repeat") else 0
        state = replace(
            self,
            tallies={**self.tallies, told.operator: self.tallies.get(told.operator, Tally()).after(told)},
            form={**self.form, told.operator: self.form.get(told.operator, Tally()).after(told, FADING)},
            useless=useless if told.asked else self.useless,
            credit=credit,
            since_win=0 if won else self.since_win + (told.outcome != "pooled"),
        )
        if told.outcome in ("lost", "behind"):
            kept = [(note, why) for note, why in self.rejected.items() if note != told.note][1 - REMEMBERED :]
            return replace(state, rejected=dict([*kept, (told.note, told.reason)]))
        if not won or told.candidate is None:
            return state
        # Two steps that raced side by side may both win; the better one stays.
        ahead = told.parent == self.incumbent or paired_gain(told.scores, state.val[self.incumbent]) > 0
        incumbent = told.candidate.id if ahead else self.incumbent
        return replace(state, winners=(*self.winners, told.candidate.id), incumbent=incumbent)


def mean(scores: Scores) -> float:
    """The mean of the known scores; 0.0 when there are none."""
    known = [value for value in scores.values() if value is not None]
    return sum(known) / len(known) if known else 0.0


def _fresh(told: Mapping[str, Scores], known: Mapping[str, Scores]) -> int:
    return sum(row not in known.get(name, {}) for name, scores in told.items() for row in scores)


def _with(known: Mapping[str, Scores], told: Mapping[str, Scores]) -> Mapping[str, Scores]:
    return {**known, **{name: {**known.get(name, {}), **scores} for name, scores in told.items()}}


def replay(tolds: Iterable[Told]) -> State:
    """The state after these steps, in their order."""
    state = State()
    for told in tolds:
        state = state.fold(told)
    return state
