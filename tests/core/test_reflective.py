"""The reflective strategy on scripted rows: the same at any order, within its cap, and stopping when it should."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from driving import (
    FEEDBACK,
    RULES,
    SCAN,
    TEACHER,
    TIPS,
    Drive,
    World,
    complete,
    failing,
    reflective,
    score,
    search_of,
    teach,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from promptopt.core.candidate import Candidate
from promptopt.core.edit import AddLines, Proposal, Rewrite
from promptopt.core.example import Example
from promptopt.core.frontier import wins_beyond
from promptopt.core.merge import merge
from promptopt.core.racing import FRESH_ROWS, LEAST_ROWS, MAX_MISSING
from promptopt.core.search import OUT_OF_ROLLOUTS, Propose, Search
from promptopt.core.state import State, Told, replay
from promptopt.core.strategies.reflective import USELESS

MOST = 500
"""Steps of a search that nothing else would end."""


@st.composite
def jobs(draw: st.DrawFn, *, capped: bool = False) -> Callable[[], Drive]:
    """Something that makes equal drives: rows, operators, limits and look-ahead of all sizes."""
    val, train = draw(st.integers(6, 50)), draw(st.integers(4, 40))
    pipeline, rebase = draw(st.integers(1, 9)), draw(st.integers(1, 4))
    operators = draw(
        st.sampled_from([(RULES, TIPS), (RULES,), (SCAN, RULES, TIPS), (RULES, FEEDBACK), (TEACHER, TIPS)])
    )
    limits = {"minibatch": draw(st.integers(1, 10)), "block": draw(st.integers(1, 12))}
    if not capped:
        limits["target"] = draw(st.sampled_from([None, 0.5, 0.9]))
        limits["patience"] = draw(st.sampled_from([None, 6]))
    seed, share = draw(st.integers(0, 9)), draw(st.sampled_from([0.0, 0.0, 0.1]))
    # The least that a plan lets through is the baseline on val and one step.
    least = 2 * val + reflective(val, train, operators, seed, **limits).start_cost
    cap = least + draw(st.integers(0, 300))

    def make() -> Drive:
        strategy = reflective(val, train, operators, seed, **limits)
        search = search_of(strategy, pipeline=pipeline, rebase=rebase, cap=cap if capped else None)
        return Drive(search, World(failing(share), teach))

    return make


def scored(tolds: list[Told]) -> bool:
    """Whether enough of the baseline could be scored for the engine to go on."""
    missing = sum(value is None for value in tolds[0].scores.values())
    return missing <= MAX_MISSING * len(tolds[0].scores)


def outcomes(tolds: list[Told], operator: str | None = None) -> Counter[str]:
    return Counter(told.outcome for told in tolds if operator in (None, told.operator))


# the same however it runs


@given(st.one_of(jobs(), jobs(capped=True)), st.integers(0, 10**6))
@settings(max_examples=40)
def test_what_is_told_does_not_depend_on_the_order_in_which_work_ends(make: Callable[[], Drive], seed: int) -> None:
    first, other = make(), make()
    tolds = first.play(Random(0), MOST)
    assert other.play(Random(seed), MOST) == tolds
    assert first.search.stop_reason == other.search.stop_reason
    assert first.search.state == replay(tolds)


@given(st.one_of(jobs(), jobs(capped=True)), st.integers(0, 10**6))
@settings(max_examples=30)
def test_a_search_that_is_rebuilt_from_what_was_told_goes_on_as_if_nothing_had_happened(
    make: Callable[[], Drive], seed: int
) -> None:
    whole = make().play(Random(0), MOST)
    kept = whole[: seed % (len(whole) + 1)]
    resumed = make()
    resumed.rebuild(kept)
    assert kept + resumed.play(Random(seed), MOST - len(kept)) == whole


# within its cap


@given(jobs(capped=True), st.integers(0, 10**6))
@settings(max_examples=60)
def test_the_cap_holds_with_the_finish_and_the_steps_that_were_cut_short(make: Callable[[], Drive], seed: int) -> None:
    drive = make()
    tolds = drive.play(Random(seed), MOST)
    cap, state = drive.search.max_rollouts, drive.search.state
    assert cap is not None
    assert state.rollouts <= len(drive.paid) <= cap
    assert not drive.overrun
    assume(scored(tolds) and drive.search.stop_reason == OUT_OF_ROLLOUTS)
    n_val = len({row for scores in state.val.values() for row in scores})
    assert len(state.val[state.incumbent]) >= n_val
    assert len(drive.paid) >= cap - 2 * drive.search.strategy.start_cost - 3 * drive.search.strategy.least_race


def test_most_of_the_steps_come_before_the_cap_and_not_after() -> None:
    drive = Drive(search_of(reflective(seed=2), cap=400), World(score, teach))
    drive.play(Random(3))
    state = drive.search.state
    assert drive.search.stop_reason == OUT_OF_ROLLOUTS
    assert len(drive.paid) > 0.9 * 400
    assert state.mean(state.incumbent) > state.mean(state.baseline) + 0.3
    assert complete(state, state.incumbent, 40)


def test_a_child_that_is_clearly_behind_costs_a_block_and_not_all_of_val() -> None:
    drive = Drive(search_of(reflective(operators=(TIPS,)), cap=300), World(score, teach))
    tolds = drive.play(Random(0))
    behind = [told for told in tolds if told.outcome == "behind"]
    assert behind
    assert all(len(told.scores) <= 8 and told.saved == 40 - len(told.scores) for told in behind)


def test_a_winner_is_known_on_rows_that_did_not_make_it_win_and_on_more_with_each_challenger() -> None:
    drive = Drive(search_of(reflective(operators=(RULES, TIPS)), pipeline=1, cap=600), World(score, teach))
    tolds, states = drive.play(Random(0)), [State()]
    for told in tolds:
        states.append(states[-1].fold(told))
    challenged = 0
    for before, told, after in zip(states, tolds, states[1:], strict=False):
        if told.operator != "finalist" and told.candidate and before.incumbent not in ("", before.baseline):
            wanted = LEAST_ROWS + FRESH_ROWS + before.since_win
            assert len(after.val[before.incumbent]) >= min(40, wanted)
            challenged += 1
    assert challenged > 5


# what is proposed


def test_every_operator_is_tried_before_any_is_tried_again() -> None:
    drive = Drive(search_of(reflective(operators=(TIPS, RULES, SCAN))), World(score, teach))
    tolds = drive.play(Random(0), 4)
    assert {told.operator for told in tolds[1:]} == {"tips", "rules", "scan"}


def test_operators_see_train_rows_only_and_each_brief_its_own() -> None:
    drive = Drive(search_of(reflective(operators=(SCAN, RULES)), cap=500), World(score, teach))
    drive.play(Random(0))
    for request in drive.asked:
        assert len(request.briefs) == (3 if request.operator == "scan" else 1)
        assert len({brief.seed for brief in request.briefs}) == len(request.briefs)
        for brief in request.briefs:
            assert len({row.example.id for row in brief.evidence}) == 8
            assert all(row.example.id.startswith("t") for row in brief.evidence)
            assert all(row.rollout.candidate_id == brief.parent.id for row in brief.evidence)
            assert all(example.id.startswith("t") for example in brief.train)


def test_an_operator_that_reads_all_is_shown_what_others_paid_for() -> None:
    drive = Drive(search_of(reflective(operators=(RULES, FEEDBACK)), pipeline=1, cap=500), World(score, teach))
    drive.play(Random(0))
    known: defaultdict[str, set[str]] = defaultdict(set)
    for request in drive.asked:
        evidence, parent = request.briefs[0].evidence, request.briefs[0].parent.id
        rows = {row.example.id for row in evidence}
        if request.operator == "feedback" and known:
            assert all(row.example.id in known[row.rollout.candidate_id] for row in evidence)
            assert known[parent] == {row.example.id for row in evidence if row.rollout.candidate_id == parent}
        else:
            known[parent] |= rows
    assert max(len(request.briefs[0].evidence) for request in drive.asked if request.operator == "feedback") > 8


def test_an_operator_by_teacher_is_shown_what_the_teacher_makes_of_the_parent() -> None:
    teacher = {"lm": "strong"}
    strategy = reflective(train=12, operators=(RULES, TEACHER))
    strategy.task = replace(strategy.task, teacher=teacher)
    drive = Drive(search_of(strategy, cap=500), World(score, teach))
    tolds = drive.play(Random(0))
    shown = [request.briefs[0] for request in drive.asked if request.operator == "teacher"]
    assert len({brief.parent.id for brief in shown}) > 1
    for brief in shown:
        assert not brief.parent.settings
        assert {row.rollout.candidate_id for row in brief.evidence} == {replace(brief.parent, settings=teacher).id}
        assert all(row.example.id.startswith("t") for row in brief.evidence)
    assert not any(told.candidate.settings for told in tolds if told.candidate)
    assert drive.search.state.rollouts == len(drive.paid)
    assert not drive.overrun


def test_what_did_not_help_is_told_to_the_operators_that_follow() -> None:
    drive = Drive(search_of(reflective(operators=(TIPS,)), pipeline=1), World(score, teach))
    tolds = drive.play(Random(0), 6)
    lost = next(told for told in tolds if told.outcome == "behind")
    assert drive.asked[lost.step].briefs[0].rejected == {lost.note: lost.reason}


def test_a_proposal_made_from_an_older_incumbent_adds_to_what_was_won_since() -> None:
    """Steps 1 and 2 start from the same text; the second child has both additions."""

    def each_another(request: Propose) -> Proposal:
        return Proposal(AddLines("p", (f"good {request.briefs[0].seed[1]}",)))

    def counted(candidate: Candidate, example: Example) -> float:
        return min(1.0, 0.1 * candidate.components["p"].count("good"))

    drive = Drive(search_of(reflective(operators=(TIPS,)), pipeline=2, rebase=1), World(counted, each_another))
    tolds = drive.play(Random(0), 4)
    assert outcomes(tolds) == {"baseline": 1, "won": 3}
    texts = [told.candidate.components["p"].split("\n")[1:] for told in tolds if told.candidate]
    assert texts == [[], ["good 1"], ["good 1", "good 2"], ["good 1", "good 2", "good 3"]]
    assert [told.parent for told in tolds[1:]] == [told.candidate.id for told in tolds[:3] if told.candidate]


def test_a_child_that_wins_where_the_incumbent_loses_is_merged_with_it() -> None:
    """Two halves of the rows, each mended by another line: neither child has both, their merge does."""

    def halves(candidate: Candidate, example: Example) -> float:
        text, odd = candidate.components["p"], int(example.id[1:]) % 2
        return float(("mends odd" if odd else "mends even") in text)

    def one_half(request: Propose) -> Proposal:
        step, text = request.briefs[0].seed[1], request.briefs[0].original
        if step > 4:
            return Proposal(None, refused={"nothing left": 1})
        new = f"{text}\nmends odd" if step % 2 else "Other words.\nmends even"
        return Proposal(Rewrite("p", new, text))

    drive = Drive(search_of(reflective(operators=(TIPS,)), pipeline=4, rebase=4), World(halves, one_half))
    tolds = drive.play(Random(0), 60)
    state = drive.search.state
    assert outcomes(tolds, "merge")["won"] == 1
    assert state.mean(state.incumbent) == 1


def test_the_base_of_a_merge_is_what_the_partner_was_made_from() -> None:
    """Whatever line a parent is on, each child's recorded parent is the text that its edit was applied to."""
    drive = Drive(search_of(reflective(operators=(RULES, SCAN)), cap=900), World(score, teach))
    tolds = drive.play(Random(0))
    state = drive.search.state
    checked = 0
    for told in tolds:
        if told.operator in ("rules", "scan") and told.candidate and told.parent:
            before = state.candidates[told.parent].components["p"].split("\n")
            assert told.candidate.components["p"].split("\n")[: len(before)] == before
            checked += 1
    assert checked > 5
    for name in wins_beyond(state):
        base = state.candidates[state.parents[name]]
        assert merge(base, base, state.candidates[name]) == state.candidates[name]


# when it stops


def test_a_target_ends_the_search_once_a_candidate_reaches_it_on_all_of_val() -> None:
    drive = Drive(search_of(reflective(seed=2, target=0.7)), World(score, teach))
    tolds = drive.play(Random(0), MOST)
    state = drive.search.state
    assert re.fullmatch(r"target: val reached 0\.\d{3}, which is at least 0.7", drive.search.stop_reason or "")
    assert max(state.mean(name) for name in state.val if complete(state, name, 40)) >= 0.7
    assert len(tolds) < 60


def test_a_baseline_that_meets_the_target_is_all_there_is_and_nothing_is_proposed() -> None:
    drive = Drive(search_of(reflective(target=0.1)), World(score, teach))
    tolds = drive.play(Random(0), MOST)
    assert drive.search.stop_reason is not None
    assert drive.search.stop_reason.startswith("target: the starting prompt has 0.")
    assert drive.asked == []
    assert len(drive.paid) == 40
    assert set(outcomes(tolds)) == {"baseline"}


def test_a_target_that_few_rows_promised_and_val_did_not_keep_does_not_end_the_search() -> None:
    """The baseline's first rows are all right, the others wrong."""
    (baseline,) = Drive(search_of(reflective()), World(score)).play(Random(0), 1)
    first = set(baseline.scores)

    def flattering(candidate: Candidate, example: Example) -> float:
        return 1.0 if example.id in first else score(candidate, example)

    drive = Drive(search_of(reflective(target=0.9), cap=500), World(flattering, teach))
    drive.play(Random(0))
    assert drive.asked


@pytest.mark.parametrize("patience", [1, 5])
def test_patience_ends_the_search_after_so_many_proposals_that_did_not_win(patience: int) -> None:
    drive = Drive(search_of(reflective(operators=(RULES,), patience=patience)), World(lambda *_: 0.5, teach))
    tolds = drive.play(Random(0), MOST)
    assert drive.search.stop_reason == f"patience: no improvement in the last {patience} proposals"
    assert len([told for told in tolds if told.operator == "rules"]) < patience + 8


def refusing(request: Propose) -> Proposal:
    if request.operator == "tips":
        return teach(replace(request, briefs=tuple(replace(brief, evidence=()) for brief in request.briefs)))
    return Proposal(None, refused={"no fenced block": 1, "small talk": 1}, tokens=50, asked=True)


def always_the_same(request: Propose) -> Proposal:
    brief = request.briefs[0]
    return Proposal(Rewrite("p", "Certainly, here it is.", brief.component.text), tokens=50, asked=True)


@pytest.mark.parametrize("propose", [refusing, always_the_same])
@pytest.mark.parametrize("pipeline", [1, 8])
def test_a_useless_reflection_model_alone_ends_the_search_at_a_bounded_cost(
    propose: Callable[[Propose], Proposal], pipeline: int
) -> None:
    drive = Drive(search_of(reflective(operators=(RULES, SCAN)), pipeline=pipeline), World(score, propose))
    drive.play(Random(0), MOST)
    said = drive.search.stop_reason or ""
    assert said.startswith("reflection: nothing usable ")
    assert ("no fenced block: " in said and "small talk: " in said) or "always the same text" in said
    assert len(drive.asked) <= USELESS + 2 * pipeline
    assert len(drive.paid) <= 40 + 40 + 12 * pipeline


@pytest.mark.parametrize("propose", [refusing, always_the_same])
def test_without_a_useful_reflection_model_the_other_operators_go_on(
    propose: Callable[[Propose], Proposal],
) -> None:
    def tips_only(request: Propose) -> Proposal:
        return (refusing if request.operator == "tips" else propose)(request)

    drive = Drive(search_of(reflective(operators=(RULES, TIPS))), World(score, tips_only))
    tolds = drive.play(Random(0), MOST)
    asked = [told.step for told in tolds if told.asked]
    after = [told for told in tolds if told.step > max(asked)]
    assert 0 < len(asked) <= USELESS + 16
    assert outcomes(after, "tips")
    assert (drive.search.stop_reason or "").startswith("no new proposals")


def test_an_answer_of_use_is_reason_enough_to_ask_on() -> None:
    """Every third answer is usable."""
    asked = Counter[str]()

    def now_and_then(request: Propose) -> Proposal:
        asked["all"] += 1
        return teach(request) if asked["all"] % 3 == 0 else refusing(request)

    drive = Drive(search_of(reflective(operators=(RULES,)), pipeline=1, cap=600), World(score, now_and_then))
    drive.play(Random(0))
    assert asked["all"] > 3 * USELESS


def test_a_search_that_only_fails_to_score_its_children_ends() -> None:
    def only_the_baseline(candidate: Candidate, example: Example) -> float | None:
        return score(candidate, example) if candidate.components["p"] == "Answer the question." else None

    drive = Drive(search_of(reflective(seed=2), cap=400), World(only_the_baseline, teach))
    tolds = drive.play(Random(0))
    assert drive.search.finishing
    assert not outcomes(tolds)["won"]
    assert all("rows failed" in told.reason for told in tolds if told.outcome == "behind")


def test_a_search_knows_its_end() -> None:
    search: Search = search_of(reflective(), cap=150)
    Drive(search, World(score, teach)).play(Random(0))
    assert search.finishing
    assert search.ask() == []
