"""Which candidate goes to the sealed test."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from heapq import nlargest
from typing import Literal

from promptopt.core.candidate import Candidate, Demo
from promptopt.core.racing import gaps, paired_gain, standard_error
from promptopt.core.state import State

BYTES_A_TOKEN = 4
"""What a token is taken for where a length must not depend on the model."""
ROUNDING = 1e-9
"""A row lost and none won is one standard error exactly, and not within it; floats come out on either side."""
Rule = Literal["one_se", "best"]


def prompt_bytes(candidate: Candidate) -> int:
    """UTF-8 bytes of the texts and demos that a candidate adds to a call; demos that vary count at their mean."""
    sizes = ((list(map(demo_bytes, demos)), candidate.shown(slot)) for slot, demos in candidate.demos.items())
    return _texts(candidate) + sum(-(-sum(each) * shown // len(each)) for each, shown in sizes if each)


def longest_prompt_bytes(candidate: Candidate) -> int:
    """As `prompt_bytes`, at the most: where demos vary, the longest are shown."""
    sizes = (nlargest(candidate.shown(slot), map(demo_bytes, demos)) for slot, demos in candidate.demos.items())
    return _texts(candidate) + sum(map(sum, sizes))


def _texts(candidate: Candidate) -> int:
    return sum(len(text.encode()) for text in candidate.components.values())


def demo_bytes(demo: Demo) -> int:
    """UTF-8 bytes of what a demo shows."""
    return sum(len(str(value).encode()) for value in (*demo.inputs.values(), demo.output))


def prompt_tokens(candidate: Candidate) -> int:
    """The prompt's length in tokens, estimated by its bytes: models count differently, this never changes."""
    return -(-prompt_bytes(candidate) // BYTES_A_TOKEN)


def champion(state: State, n_val: int, rule: Rule, barred: Collection[str] = ()) -> Candidate:
    """The candidate to test: the best on val, or a shorter one within one paired standard error of it.

    Only candidates that ran on all `n_val` rows count, and only those that beat the baseline there; without any, the
    baseline is returned. The baseline itself never wins by being short. `barred` are ids that may not be chosen.
    """
    baseline = state.val[state.baseline]
    ahead = {
        name: scores
        for name, scores in state.val.items()
        if name != state.baseline and name not in barred and len(scores) == n_val and paired_gain(scores, baseline) > 0
    }
    if not ahead:
        return state.candidates[state.baseline]

    def rank(name: str) -> tuple[float, int, str]:
        return -state.mean(name), prompt_bytes(state.candidates[name]), name

    best = min(ahead, key=rank)
    if rule == "best":
        return state.candidates[best]
    close = [name for name in ahead if _within_one_error(ahead[best], ahead[name])]
    return state.candidates[min(close, key=lambda name: (rank(name)[1], rank(name)))]


@dataclass(frozen=True, slots=True)
class Offer:
    """A candidate with all that may speak for it."""

    candidate: Candidate
    val: float
    """Its mean on val."""
    prompt_tokens: int
    usd: float
    """Dollars of one rollout; 0.0 where nobody knows a price."""

    @staticmethod
    def of(candidate: Candidate, val: float, usd: float) -> Offer:
        return Offer(candidate, val, prompt_tokens(candidate), usd)

    def beats(self, other: Offer) -> bool:
        """Whether it is as good in everything and better in something."""
        mine = (-self.val, self.prompt_tokens, self.usd)
        theirs = (-other.val, other.prompt_tokens, other.usd)
        return mine != theirs and all(one <= two for one, two in zip(mine, theirs, strict=True))


def front(state: State, n_val: int) -> tuple[Offer, ...]:
    """The candidates known on all `n_val` rows that no other beats, the best score first."""
    offers = [
        Offer.of(state.candidates[name], state.mean(name), state.usd(name))
        for name, scores in state.val.items()
        if len(scores) == n_val
    ]
    kept = [offer for offer in offers if not any(other.beats(offer) for other in offers)]
    return tuple(sorted(kept, key=lambda offer: (-offer.val, offer.prompt_tokens, offer.usd, offer.candidate.id)))


def _within_one_error(best: Mapping[str, float | None], other: Mapping[str, float | None]) -> bool:
    lost = gaps(best, other)
    return sum(lost) <= max(0.0, standard_error(lost) * len(lost) - ROUNDING)
