"""Which component is mended: a pipeline of two predictors, of which one or both matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from statistics import mean

import pytest
from driving import RULES, Drive, World, chance, rows, search_of

from promptopt.core.candidate import Candidate, Component
from promptopt.core.credit import blame, to_mend
from promptopt.core.edit import AddLines, Evidence, Proposal, Rewrite
from promptopt.core.example import Example
from promptopt.core.rollout import Failure, Invocation, Rollout, Score
from promptopt.core.search import Propose
from promptopt.core.state import State, Tally, Told
from promptopt.core.strategies.racer import Limits, Task
from promptopt.core.strategies.reflective import Reflective

TEXTS = {"find": "Find what bears on the question.", "answer": "Answer it."}
PARTS = tuple(Component(name, text, slot=name) for name, text in TEXTS.items())
SEEDS = range(8)


def pipeline(seed: int, world: World, cap: int = 1200) -> tuple[list[Told], State]:
    task = Task(Candidate(TEXTS), PARTS, {}, rows("train", 60), rows("val", 60))
    drive = Drive(search_of(Reflective(task, (RULES,), Limits(), seed), cap=cap), world)
    tolds = drive.play(Random(seed))
    return tolds, drive.search.state


def learn(request: Propose) -> Proposal:
    """A lesson from a failure, written where it was asked for; one in three misleads."""
    brief = request.briefs[0]
    wrong = [str(row.example.inputs["lesson"]) for row in brief.evidence if row.rollout.value == 0]
    new = [lesson for lesson in dict.fromkeys(wrong) if lesson not in brief.component.text]
    if not new:
        return Proposal(None, refused={"nothing to mend": 1}, asked=True)
    line = new[0] if chance("mislead", brief.seed) > 0.33 else f"mislead {brief.seed[1]}"
    return Proposal(AddLines(brief.component.name, (line,)), tokens=100, asked=True)


def by_the_answer(candidate: Candidate, example: Example) -> float:
    """Lessons help in `answer` alone."""
    known = str(example.inputs["lesson"]) in candidate.components["answer"]
    return float(known or chance("luck", example.id) < 0.2)


def shares_of_find(blamed: Callable[[Candidate, Example], Mapping[str, str]]) -> list[float]:
    """By seed, the share of proposals that were about the component that does nothing."""
    world = World(by_the_answer, learn, blamed)
    runs = [Counter(told.component for told in pipeline(seed, world)[0] if told.component) for seed in SEEDS]
    return [run["find"] / run.total() for run in runs]


def test_without_any_blame_less_goes_to_an_idle_component_than_round_robin_wastes() -> None:
    assert mean(shares_of_find(lambda *_: {})) < 0.35


def test_blame_that_falls_on_all_alike_is_no_worse_than_none() -> None:
    """gepa's adapters say something to every component of every row."""
    assert mean(shares_of_find(lambda *_: {"find": "look here", "answer": "and here"})) < 0.35


def test_where_feedback_names_a_component_the_other_is_nearly_left_alone() -> None:
    shares = shares_of_find(lambda candidate, row: {} if by_the_answer(candidate, row) else {"answer": "learn this"})
    assert mean(shares) < 0.1


def test_wrong_blame_does_not_hide_the_component_that_matters() -> None:
    def wrong(candidate: Candidate, row: Example) -> Mapping[str, str]:
        return {} if by_the_answer(candidate, row) else {"find": "you found nothing"}

    assert 0 < mean(shares_of_find(wrong)) < 0.9


def test_candidates_that_improved_different_components_are_merged() -> None:
    """Rows of one half need `find` to be better, those of the other `answer`."""

    def both(candidate: Candidate, example: Example) -> float:
        part = "find" if int(example.id[1:]) % 2 else "answer"
        return float("mended" in candidate.components[part] or chance("luck", example.id) < 0.1)

    def one_of_them(request: Propose) -> Proposal:
        """The four proposals of one time mend one component each."""
        brief = request.briefs[0]
        if brief.seed[1] > 4:
            return Proposal(None, refused={"nothing left": 1}, asked=True)
        name = ("find", "answer")[brief.seed[1] % 2]
        return Proposal(Rewrite(name, f"{TEXTS[name]} mended", TEXTS[name]), asked=True)

    task = Task(Candidate(TEXTS), PARTS, {}, rows("train", 60), rows("val", 60))
    strategy = Reflective(task, (RULES,), Limits(), 0)
    drive = Drive(search_of(strategy, pipeline=4, rebase=4), World(both, one_of_them))
    drive.play(Random(0), 60)
    state = drive.search.state
    texts = state.candidates[state.incumbent].components
    assert "mended" in texts["find"]
    assert "mended" in texts["answer"]
    assert any(told.operator == "merge" and told.outcome == "won" for told in state.history)


# what counts as blame


def row(score: Score | None, *runs: Invocation) -> Evidence:
    failure = None if score else Failure("malformed", "unreadable")
    return Evidence(Example("r", {"q": 1}), Rollout("c", "r", score=score, invocations=runs, failure=failure))


@pytest.mark.parametrize(
    ("seen", "blamed"),
    [
        (row(Score(0.0, feedback_for={"find": "worse"})), 1),
        (row(Score(1.0, feedback_for={"find": "well done"})), 0),
        (row(Score(0.0, "all wrong")), 0),
        (row(Score(0.0), Invocation("find", {}, "?!", fault="no JSON")), 1),
        (row(None, Invocation("find", {}, "?!", fault="no JSON")), 1),
        (row(Score(0.0), Invocation("answer", {}, "?!", fault="no JSON")), 0),
    ],
    ids=["feedback", "praise", "feedback to all", "unreadable", "failed", "the other's"],
)
def test_blame_is_feedback_by_name_or_a_reply_that_cannot_be_read(seen: Evidence, blamed: int) -> None:
    assert blame(PARTS[0], [seen]) == blamed


def test_the_more_blame_the_likelier_unless_it_never_paid() -> None:
    rng = Random(0)

    def share(credit: Mapping[str, Tally], blamed: int) -> float:
        """How often `find` is drawn with that much blame, and none on `answer`."""
        evidence = [row(Score(0.0, feedback_for={"find": "worse"}))] * blamed
        return mean(to_mend(PARTS, evidence, credit, rng).name == "find" for _ in range(1000))

    assert share({}, 0) == pytest.approx(0.5, abs=0.06)
    assert 0.6 < share({}, 1) < share({}, 8) < 1
    assert share({"find": Tally(tries=40), "answer": Tally(tries=20, wins=10)}, 1) < 0.2


def test_a_single_component_is_always_the_one() -> None:
    assert to_mend(PARTS[:1], [], {}, Random(0)) is PARTS[0]
