"""What people agree on, and what a judge is said to be worth by it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from promptopt.calibration import calibration
from promptopt.config import JudgeConfig, load
from promptopt.core.budget import Spend
from promptopt.core.example import Example
from promptopt.core.rollout import Rollout
from promptopt.errors import ConfigError
from promptopt.judge_job import measuring
from promptopt.judges.answers import Answer, Value
from promptopt.judges.labels import ONLY, Labels, consensus
from promptopt.judges.trust import trust_in
from promptopt.metrics.build import build
from promptopt.report import calibration as report
from world import draw


def agreed(form: Any, *said: Value, item: str = "i") -> Value:
    return consensus([{ONLY: one} for one in said], {ONLY: Answer.of(form)}, item)[ONLY]


def asking(form: str, **settings: Any) -> Any:
    return build({"type": "judge", "lm": "openai/judge", "rubric": "Good?", "answer": form, **settings}, Path())


def labels_of(form: str, said: Mapping[str, Sequence[Value]]) -> Labels:
    answers = {ONLY: Answer.of(form)}
    ratings = {item: {f"rater {n}": {ONLY: one} for n, one in enumerate(given)} for item, given in said.items()}
    items = tuple(
        Example(item, {"text": item}, consensus(given.values(), answers, item)) for item, given in ratings.items()
    )
    return Labels(items, ratings, tied=0, slices={})


def judged(form: str, said: Mapping[str, Sequence[Value]], judge: Mapping[str, Value]) -> Any:
    """A calibration of a judge that answers so where people say that."""
    rollouts = [Rollout("c", item, output=[{ONLY: one}]) for item, one in judge.items()]
    asked = asking(form)
    return calibration(asked, labels_of(form, said), rollouts, Spend())


def printed(made: Any) -> str:
    console = Console(width=120)
    with console.capture() as shown:
        console.print(report.calibration(made))
    return shown.get()


class TestConsensus:
    def test_of_numbers_it_is_the_median_and_of_two_in_the_middle_the_mean(self) -> None:
        assert agreed("number", 0.2, 0.4) == pytest.approx(0.3)
        assert agreed("number", 0.0, 0.2, 1.0) == 0.2

    def test_of_options_it_is_the_one_half_way(self) -> None:
        assert agreed("1-5", 2, 4) == 3
        assert agreed("1-5", 1, 5, 5) == 5
        assert agreed(["missed", "partly", "complete"], "complete", "missed") == "partly"

    def test_between_two_options_a_lot_decides_that_leans_neither_way_and_stays(self) -> None:
        drawn = [agreed("1-5", 2, 3, item=f"i{n}") for n in range(400)]
        assert set(drawn) == {2, 3}
        assert abs(drawn.count(2) / 400 - 0.5) < 0.08  # three standard errors
        assert drawn == [agreed("1-5", 3, 2, item=f"i{n}") for n in range(400)]


@pytest.mark.parametrize("form", ["1-5", "number"])
def test_an_honest_judge_is_not_said_to_lean_where_two_raters_err_to_both_sides(form: str) -> None:
    def as_answer(level: int) -> Value:
        return level if form == "1-5" else (level - 1) / 4

    truth = {f"i{n}": 2 + int(3 * draw("true", n)) for n in range(200)}
    said = {
        item: [as_answer(level + int(3 * draw(who, item)) - 1) for who in ("ann", "bob")]
        for item, level in truth.items()
    }
    bias = judged(form, said, {item: as_answer(level) for item, level in truth.items()}).by_criterion[ONLY].bias
    assert bias.ci is not None
    assert bias.ci[0] < 0 < bias.ci[1]


class TestOrderedAnswers:
    """A judge that is always near, and hardly ever equal."""

    truth: ClassVar = {f"i{n}": round(0.9 * draw("true", n), 2) for n in range(100)}
    near: ClassVar = {item: round(value + 0.01, 2) for item, value in truth.items()}

    def test_a_judge_that_is_near_people_s_numbers_is_called_good(self, tmp_path: Path) -> None:
        made = judged("number", {item: [value] for item, value in self.truth.items()}, self.near)
        text = printed(made)
        assert "It agrees with people clearly more than chance would." in text
        assert "weighted kappa" in text
        assert "accuracy" not in text
        assert "Cohen's kappa" not in text
        assert "disagree" not in text
        measured = made.by_criterion[ONLY]
        assert measured.accuracy.value is measured.kappa.value is None
        assert measured.rows_to_settle < 100
        (tmp_path / "calibration.json").write_text(json.dumps(made.to_json()))
        asked = asking("number", calibration="calibration.json")
        [known] = trust_in(asked, tmp_path)
        assert "on 100 rows, with a weighted kappa of 1.00 (95 % interval" in known.sentence
        assert "weak" not in known.sentence

    def test_a_judge_that_is_one_step_off_is_not_called_weak(self, tmp_path: Path) -> None:
        truth = {f"i{n}": 1 + n % 9 for n in range(120)}
        made = judged("1-10", {item: [level] for item, level in truth.items()}, {i: v + 1 for i, v in truth.items()})
        assert made.by_criterion[ONLY].kappa.value < 0.1
        assert "It agrees with people clearly more than chance would." in printed(made)
        (tmp_path / "calibration.json").write_text(json.dumps(made.to_json()))
        asked = asking("1-10", calibration="calibration.json")
        [known] = trust_in(asked, tmp_path)
        assert "weighted kappa 0.9" in known.sentence
        assert "weak" not in known.sentence

    def test_the_worst_disagreements_come_first_and_numbers_that_are_near_are_none(self) -> None:
        said = {"a": [0.5], "b": [0.5], "c": [0.1], "d": [0.4]}
        made = judged("number", said, {"a": 0.6, "b": 0.8, "c": 1.0, "d": 0.42})
        assert [one.id for one in made.by_criterion[ONLY].disagreements] == ["c", "b"]
        assert "People and the judge disagree by more than 0.1 on 2 rows" in printed(made)
        levels = judged("1-5", {"a": [1], "b": [1], "c": [3]}, {"a": 2, "b": 5, "c": 3})
        assert [one.id for one in levels.by_criterion[ONLY].disagreements] == ["b", "a"]


class TestWhatPeopleSaidIsHidden:
    @pytest.mark.parametrize(
        ("labels", "judge", "message"),
        [
            ({"inputs": ["text", "fits"]}, {}, "labels.inputs names 'fits', which is what people said (labels.label)"),
            ({"inputs": {"hint": "fits"}}, {}, "labels.inputs names 'fits'"),
            ({"inputs": {"fits": "team"}}, {}, "labels.inputs names 'fits'"),
            ({"output": "fits"}, {}, "labels.output names 'fits'"),
            ({"expected": "fits"}, {}, "labels.expected names 'fits'"),
            ({"expected": "why"}, {}, "labels.expected names 'why', which is what people said (labels.reason)"),
            ({}, {"type": "groundedness", "context": "fits"}, "judge.context names 'fits'"),
            ({}, {"type": "pairwise", "rubric": "Better?", "against": "fits"}, "judge.against names 'fits'"),
        ],
    )
    def test_no_setting_shows_it_to_the_judge(
        self, labels: dict[str, Any], judge: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        (tmp_path / "labels.csv").write_text("text,team,fits,why\na,red,yes,so\nb,blue,no,so\n")
        columns = {"path": "labels.csv", "inputs": ["text"], "output": "team", "label": "fits", "reason": "why"}
        config = {
            "judge": {"lm": "openai/judge", **(judge or {"type": "judge", "rubric": "Good?"})},
            "labels": {**columns, **labels},
            "lms": {"openai/judge": {"api_base": "http://127.0.0.1:9/v1", "price": {"input": 1.0, "output": 2.0}}},
        }
        (tmp_path / "judge.yaml").write_text(json.dumps(config))
        with pytest.raises(ConfigError) as refused:
            measuring(load(tmp_path / "judge.yaml", kind=JudgeConfig))
        assert message in str(refused.value)
