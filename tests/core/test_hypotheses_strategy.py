"""Hypotheses: stated first, then checked side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from driving import RULES, Drive, World, chance, rows, search_of

from promptopt.core.candidate import Candidate, Component
from promptopt.core.edit import AddLines, Hypothesis, Proposal, Together
from promptopt.core.example import Example
from promptopt.core.search import Ask, Propose
from promptopt.core.state import Told
from promptopt.core.strategies.drawing import OperatorPrior
from promptopt.core.strategies.hypotheses import ASK, CHECK, STUCK, Hypotheses
from promptopt.core.strategies.racer import Limits, Task
from promptopt.core.strategies.reflective import Reflective
from promptopt.errors import ConfigError

ASKING = OperatorPrior(ASK, 0.4, 1.2, needs_evidence=True, asks=True)
TRAP = "Begin with the answer, then say why."
SEED = f"Solve the problem.\n{TRAP}"
CAUSES = ("units", "signs", "rounding", "names", "dates", "order")


def trapped(candidate: Candidate, example: Example) -> float:
    """As long as the seed's trap stands nearly all is wrong, and every rule makes it worse; without it rules help."""
    text = candidate.components["p"]
    mended = sum(f"mind the {cause}" in text for cause in CAUSES[:3])
    share = 0.2 - 0.02 * text.count("mind") if TRAP in text else 0.5 + 0.15 * mended
    return float(chance("row", example.id) < share)


def stated(request: Propose) -> Proposal:
    """Three causes drawn from those that were not refuted; the trap is one of them."""
    brief = request.briefs[0]
    rng = Random(f"{brief.seed}")
    every = [Hypothesis(cause, "p", f"mind the {cause}") for cause in CAUSES]
    if TRAP in brief.component.text:
        every.append(Hypothesis("answer first", "p", "Say why first.", TRAP))
    refuted = {note.partition(":")[0] for note in brief.rejected}
    left = [one for one in every if one.name not in refuted and one.line not in brief.component.text]
    if not left:
        return Proposal(None, refused={"tried before": 1}, asked=True)
    return Proposal(Together(tuple(rng.sample(left, min(3, len(left))))), tokens=100, asked=True)


def task(val: int = 60) -> Task:
    return Task(Candidate({"p": SEED}), (Component("p", SEED),), {}, rows("train", 40), rows("val", val))


def hypotheses(seed: int = 0, **limits: int) -> Hypotheses:
    return Hypotheses(task(), (ASKING,), replace(Limits(), **limits), seed)


def played(
    propose: Callable[[Propose], Proposal] = stated, cap: int = 900, pipeline: int = 8, order: int = 0, seed: int = 0
) -> tuple[Drive, list[Told]]:
    drive = Drive(search_of(hypotheses(seed), cap=cap, pipeline=pipeline), World(trapped, propose))
    return drive, drive.play(Random(order))


def only_rules(request: Propose) -> Proposal:
    """What reflection that only adds makes of the same failures."""
    rng = Random(f"{request.briefs[0].seed}")
    return Proposal(AddLines("p", (f"mind the {rng.choice(CAUSES)}",)), tokens=100, asked=True)


@pytest.mark.parametrize("seed", range(4))
def test_a_defective_seed_is_mended_that_added_rules_cannot_mend(seed: int) -> None:
    drive, _ = played(seed=seed)
    state = drive.search.state
    best = state.candidates[state.incumbent].components["p"]
    assert TRAP not in best
    assert state.mean(state.incumbent) > 0.45
    plain = Drive(search_of(Reflective(task(), (RULES,), Limits(), seed), cap=900), World(trapped, only_rules))
    plain.play(Random(0))
    assert plain.search.state.incumbent == plain.search.state.baseline


def test_every_hypothesis_of_an_answer_is_checked_alone() -> None:
    _, tolds = played()
    first = next(told for told in tolds if told.operator == ASK)
    causes = [one["label"] for one in first.params["hypotheses"]]
    checks = tolds[first.step + 1 : first.step + 1 + len(causes)]
    assert [told.operator for told in checks] == [CHECK] * len(causes)
    for told, cause in zip(checks, causes, strict=True):
        assert told.note.startswith(f"{cause} in p: ")


def test_the_checks_of_an_answer_run_side_by_side_and_the_next_question_beside_them() -> None:
    drive = Drive(search_of(hypotheses()), World(trapped, stated))
    most = 0
    order = Random(0)
    for _ in range(200):
        drive.add(drive.search.ask())
        if not drive.search.in_flight:
            break
        most = max(most, len(drive.running))
        oldest = drive.search.state.folded
        while oldest not in drive.done:
            drive.advance(order.choice(drive.ready()))
        drive.search.tell(drive.done.pop(oldest))
    assert most == 4


def test_a_refuted_label_is_told_to_the_model_and_never_raced_again() -> None:
    def obstinate(request: Propose) -> Proposal:
        """Never reads what was refuted."""
        every = tuple(Hypothesis(cause, "p", f"mind the {cause} {request.briefs[0].seed[1]}") for cause in CAUSES[3:])
        return Proposal(Together(every), tokens=100, asked=True)

    drive, tolds = played(obstinate, cap=2000)
    refuted: dict[str, int] = {}
    for told in tolds:
        if told.operator == CHECK:
            name = told.note.partition(":")[0]
            if told.outcome in ("lost", "behind"):
                refuted.setdefault(name, told.step)
            if told.candidate:
                assert refuted.get(name, told.step) == told.step, "it was refuted and raced again"
    assert len(refuted) == 3
    assert any("refuted since" in told.reason for told in tolds)
    later = [request for request in drive.asked if request.briefs[0].seed[1] > max(refuted.values()) + 8]
    assert all(any(name in note for note in later[-1].briefs[0].rejected) for name in refuted)
    assert drive.search.stop_reason


def test_when_nothing_wins_hypotheses_are_about_another_parent() -> None:
    """The incumbent is as good as its line gets; only the baseline, without its first rule, can become better."""

    def dead_end(candidate: Candidate, example: Example) -> float:
        text = candidate.components["p"]
        odd = int(example.id[1:]) % 2
        if "fool's gold" in text:
            return float(odd)
        return (
            float(odd or chance("even", example.id) < 0.8) if "gold" in text else float(odd and example.id[-1] != "1")
        )

    def proposed(request: Propose) -> Proposal:
        number, text = request.briefs[0].seed[1], request.briefs[0].component.text
        if number == 1:
            return Proposal(Hypothesis("first", "p", "fool's gold"), asked=True)
        line = f"nothing {number}" if "fool's" in text else f"gold {number}"
        return Proposal(Hypothesis(f"cause {number}", "p", line), asked=True)

    drive = Drive(search_of(hypotheses(), cap=2000, pipeline=1), World(dead_end, proposed))
    tolds = drive.play(Random(0))
    state = drive.search.state
    wins = [told.step for told in tolds if told.outcome == "won"]
    assert wins[0] == 2
    assert "fool's gold" not in state.candidates[state.incumbent].components["p"]
    assert wins[1] > 2 + STUCK
    assert tolds[wins[1]].parent == state.baseline


@pytest.mark.parametrize("pipeline", [1, 3, 8])
def test_the_order_in_which_work_is_done_decides_nothing(pipeline: int) -> None:
    assert played(pipeline=pipeline, order=1)[1] == played(pipeline=pipeline, order=2)[1]


@pytest.mark.parametrize("kept", [1, 2, 4, 9, 15])
def test_a_search_that_was_killed_goes_on_as_if_nothing_had_happened(kept: int) -> None:
    """What was told comes back as JSON; steps that were in flight start anew."""
    _, whole = played()
    drive = Drive(search_of(hypotheses(), cap=900), World(trapped, stated))
    pending: dict[int, Ask] = {}
    for told in whole[:kept]:
        pending |= {ask.number: ask for ask in drive.search.ask()}
        del pending[told.step]
        drive.search.tell(Told.from_json(told.step, json.loads(json.dumps(told.to_json()))))
    drive.add(list(pending.values()))
    assert drive.play(Random(3)) == whole[kept:]


def test_a_model_that_states_nothing_usable_ends_the_search() -> None:
    drive, _ = played(lambda request: Proposal(None, refused={"not JSON": 2}, asked=True), cap=3000)
    assert (drive.search.stop_reason or "").startswith("reflection: nothing usable 8 times in a row")


def test_the_strategy_says_which_operator_it_needs() -> None:
    with pytest.raises(ConfigError, match="needs hypotheses among them"):
        Hypotheses(task(), (RULES,), Limits(), 0)
