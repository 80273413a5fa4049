"""`promptopt judge calibrate` and `align`, whole: a judge behind a server, labels in files, what is said of them."""

from __future__ import annotations

import asyncio
import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from promptopt.api import optimize
from promptopt.config import JudgeConfig, load
from promptopt.errors import BudgetExhausted, ConfigError, DataError, ModelDown
from promptopt.judge_api import align, calibrate
from promptopt.judge_job import aligning
from promptopt.judges.trust import trust_in
from promptopt.metrics.build import build
from promptopt.stats.agreement import krippendorff_alpha
from promptopt.testing.faulty import Behaviour, FaultyServer, completion, server_error, used
from world import ANIMALS, TEAMS, command, draw, team_of, write_job

RUBRIC = "Is the team the right one for the ticket?"


def items(n: int) -> Iterator[dict[str, str]]:
    """Tickets with a team that somebody named; people know whether it is the right one."""
    for number in range(n):
        animal = ANIMALS[int(draw("animal", number) * len(ANIMALS))]
        team = team_of(animal) if draw("right", number) < 0.5 else TEAMS[int(draw("wrong", number) * len(TEAMS))]
        yield {
            "id": f"i{number}",
            "text": f"Ticket {number} is about the {animal}.",
            "team": team,
            "fits": "yes" if team == team_of(animal) else "no",
            "why": f"{animal} goes to {team_of(animal)}",
            "kind": "bird" if animal in ("heron", "raven", "crane") else "other",
        }


def judging(body: Mapping[str, Any]) -> str:
    """A judge that knows the animals whose rule its rubric states, and guesses the others."""
    system, shown = body["messages"][0]["content"], body["messages"][1]["content"]
    animal = re.findall(r"about the (\w+)", shown)[-1]
    team = next(team for team in TEAMS if re.search(rf"^{team}$", shown, re.MULTILINE))
    right = team == team_of(animal) if f"{animal} goes to" in system else draw("guess", shown) < 0.5
    return json.dumps({"reason": f"It is about the {animal}.", "verdict": "yes" if right else "no"})


def reflecting(body: Mapping[str, Any]) -> str:
    """States the rules that raters' reasons give and the rubric lacks."""
    text = "\n".join(message["content"] for message in body["messages"])
    known = text[: text.find("Wanted")] if "Wanted" in text else ""
    found = sorted(set(re.findall(r"They say: (\w+ goes to \w+)", text)) - set(re.findall(r"\w+ goes to \w+", known)))
    rules = found[:2] or ["Look closely at the team."]
    if (body.get("response_format") or {}).get("json_schema"):
        return json.dumps({"why": "it does not know the teams", "rules": rules})
    return "```\n" + "\n".join([RUBRIC, *rules]) + "\n```"


def behave(judge: Any = judging) -> Behaviour:
    async def answer(_request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        text = reflecting(body) if "reflect" in body["model"] else judge(body)
        return web.json_response(completion(text, usage=used(100, 20)))

    return answer


def write(folder: Path, base_url: str, rows: Sequence[Mapping[str, str]] | None = None, **changes: Any) -> Path:
    """A judge's config in `folder`, with labels beside it."""
    given = list(rows if rows is not None else items(120))
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, given[0].keys())
        table.writeheader()
        table.writerows(given)
    model = {"api_base": base_url, "price": {"input": 1.0, "output": 2.0}, "timeout": 30.0}
    config: dict[str, Any] = {
        "name": "teams",
        "judge": {"type": "judge", "lm": "openai/judge", "rubric": RUBRIC, "lm_args": {"max_tokens": 100}},
        "labels": {"path": "labels.csv", "inputs": ["text"], "output": "team", "label": "fits", "reason": "why"},
        "run": {"dir": "runs/teams", "concurrency": 8},
        "lms": {"openai/judge": model, "openai/reflect": model},
    }
    path = folder / "judge.yaml"
    path.write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return path


JUDGE = {"type": "judge", "lm": "openai/judge", "rubric": RUBRIC}
WHO = {"rater": "who", "id": "id"}
ALIGNING = {
    "split": {"train": 60, "val": 60, "test": 120, "seed": 0},
    "reflection": {"lm": "openai/reflect", "lm_args": {"max_tokens": 300}},
    "budget": {"rollouts": 700},
}


def judge_config(path: Path) -> JudgeConfig:
    return load(path, kind=JudgeConfig)


class TestCalibrate:
    async def test_the_command_measures_writes_and_prints(self, tmp_path: Path) -> None:
        async with FaultyServer(behave()) as server:
            labels = {"path": "labels.csv", "inputs": ["text"], "output": "team", "label": "fits", "slices": ["kind"]}
            path = write(tmp_path, server.base_url, labels=labels)
            done = await command("judge", "calibrate", str(path), "--out", str(tmp_path / "out"))
        assert done.exit_code == 0, done.output
        written = json.loads((tmp_path / "out" / "calibration.json").read_text())
        right = [row["fits"] == json.loads(judging(asked))["verdict"] for row, asked in said(server)]
        assert written["accuracy"]["value"] == pytest.approx(sum(right) / 120)
        low, high = written["accuracy"]["ci"]
        assert low < written["accuracy"]["value"] < high
        assert (written["n"], written["raters"], written["missing"]) == (120, 1, 0)
        assert {"kappa", "balanced_accuracy", "weighted_kappa", "alpha"} <= written.keys()
        assert sum(map(sum, (row.values() for row in written["confusion"].values()))) == 120
        assert len(written["disagreements"]) == 120 - sum(right)
        assert {one["name"] for one in written["bias_by_slice"]["kind"]} == {"bird", "other"}
        assert written["certificate"].keys() == {"hash", "judge", "created"}
        assert f"{written['accuracy']['value']:.3f}" in done.output
        assert "People and the judge disagree" in done.output

    async def test_the_label_is_never_shown_to_the_judge(self, tmp_path: Path) -> None:
        rows = [{**row, "fits": "yes", "why": "CANARY"} for row in items(8)] + [
            {**row, "fits": "no", "why": "CANARY"} for row in items(16)
        ][8:]
        async with FaultyServer(behave()) as server:
            await asyncio.to_thread(calibrate, judge_config(write(tmp_path, server.base_url, rows)))
        assert server.calls == 16
        assert not any("CANARY" in json.dumps(body) for body in server.bodies)

    async def test_the_same_again_pays_for_nothing(self, tmp_path: Path) -> None:
        async with FaultyServer(behave()) as server:
            config = judge_config(write(tmp_path, server.base_url))
            first = await asyncio.to_thread(calibrate, config)
            calls = server.calls
            again = await asyncio.to_thread(calibrate, config)
        assert server.calls == calls == 120
        assert again.by_criterion == first.by_criterion

    @pytest.mark.parametrize("columns", [{}, {"id": "id"}, {"rows": 8}])
    async def test_labels_that_are_corrected_pay_for_nothing(self, columns: dict[str, Any], tmp_path: Path) -> None:
        labels = {"path": "labels.csv", "inputs": ["text"], "output": "team", "label": "fits", "reason": "why"}
        rows = list(items(12))
        async with FaultyServer(behave()) as server:
            path = write(tmp_path, server.base_url, rows, labels=labels | columns)
            first = await asyncio.to_thread(calibrate, judge_config(path))
            calls = server.calls
            for row in rows:
                row |= {"fits": "no" if row["fits"] == "yes" else "yes", "why": "on second thoughts", "kind": "new"}
            write(tmp_path, server.base_url, rows, labels=labels | columns)
            again = await asyncio.to_thread(calibrate, judge_config(path))
        assert server.calls == calls == first.n
        was, now = (made.by_criterion[""].accuracy.value for made in (first, again))
        assert was is not None
        assert now == pytest.approx(1 - was)

    @pytest.mark.parametrize("budget", [{"calls": 16}, pytest.param({"minutes": 0.2}, marks=pytest.mark.slow)])
    async def test_a_cap_that_ends_it_says_which_rows_have_no_answer_and_why(
        self, budget: dict[str, Any], tmp_path: Path
    ) -> None:
        asked = iter(range(10**6))

        async def prose(_request: web.Request, _body: Mapping[str, Any]) -> web.StreamResponse:
            if next(asked) >= 9:
                await asyncio.sleep(2 if "minutes" in budget else 0)
            return web.json_response(completion("I think this is fine, yes.", usage=used(100, 20)))

        async with FaultyServer(prose) as server:
            path = write(
                tmp_path, server.base_url, list(items(60)), budget=budget, run={"dir": "out", "concurrency": 1}
            )
            done = await command("judge", "calibrate", path)
        assert done.exit_code != 0
        told = " ".join(done.output.split())
        [cap] = budget
        assert re.search(
            rf"the budget's {cap} are used up: the judge answered 0 of 60 rows and gave no usable answer "
            r"on (\d+) \(judge \1\)\. The first of them: row .* asked again 2 times",
            told,
        ), told

    async def test_answers_that_cannot_be_read_are_missing_and_not_wrong(self, tmp_path: Path) -> None:
        def broken(body: Mapping[str, Any]) -> str:
            return "I would say yes." if "heron" in json.dumps(body) else judging(body)

        async with FaultyServer(behave(broken)) as server:
            made = await asyncio.to_thread(calibrate, judge_config(write(tmp_path, server.base_url)))
        herons = sum("heron" in row["text"] for row in items(120))
        assert made.missing == herons > 0
        assert made.n == 120 - herons
        assert server.calls == 120 + 2 * herons

    async def test_asking_again_measures_how_far_it_agrees_with_itself(self, tmp_path: Path) -> None:
        asked = iter(range(10**6))

        def fickle(body: Mapping[str, Any]) -> str:
            return json.dumps({"reason": "so", "verdict": "yes" if next(asked) % 3 else "no"})

        async with FaultyServer(behave(fickle)) as server:
            made = await asyncio.to_thread(
                calibrate, judge_config(write(tmp_path, server.base_url, list(items(30)), repeats=3))
            )
        assert server.calls == 90
        consistency = made.by_criterion[""].consistency
        assert consistency.value is not None
        assert consistency.value < 0.9

    async def test_several_raters_are_taken_together_and_ties_left_out(self, tmp_path: Path) -> None:
        rows: list[dict[str, str]] = []
        for row in items(30):
            other = "no" if row["fits"] == "yes" else "yes"
            tied = row["id"] in ("i1", "i2")
            rows += [{**row, "who": "ann"}, {**row, "who": "ben"}]
            rows += [{**row, "who": "cy", "fits": other}, {**row, "who": "dee", "fits": other if tied else row["fits"]}]
        labels = {"path": "labels.csv", "inputs": ["text"], "output": "team", "label": "fits"} | WHO
        async with FaultyServer(behave()) as server:
            made = await asyncio.to_thread(
                calibrate, judge_config(write(tmp_path, server.base_url, rows, labels=labels))
            )
        assert (made.raters, made.tied, made.n) == (4, 2, 28)
        people = made.by_criterion[""].people_alpha.value
        assert people is not None
        assert people < 0.5
        assert server.calls == 28

    async def test_what_divides_people_counts_where_they_are_measured_against_each_other(self, tmp_path: Path) -> None:
        rows: list[dict[str, str]] = []
        for row in items(30):
            other = "no" if row["fits"] == "yes" else "yes"
            divided = row["id"] in ("i1", "i2", "i3")
            rows += [{**row, "who": "ann"}, {**row, "who": "ben", "fits": other if divided else row["fits"]}]
        labels = {"path": "labels.csv", "inputs": ["text"], "output": "team", "label": "fits"} | WHO
        async with FaultyServer(behave()) as server:
            made = await asyncio.to_thread(
                calibrate, judge_config(write(tmp_path, server.base_url, rows, labels=labels))
            )
        assert (made.tied, made.n) == (3, 27)
        pairs = [[rows[place]["fits"], rows[place + 1]["fits"]] for place in range(0, len(rows), 2)]
        wanted = krippendorff_alpha(pairs, np.random.default_rng(0)).value
        people = made.by_criterion[""].people_alpha.value
        assert people == pytest.approx(wanted)
        assert people < 0.9

    async def test_several_criteria_are_measured_one_by_one(self, tmp_path: Path) -> None:
        def both(body: Mapping[str, Any]) -> str:
            shown = body["messages"][1]["content"]
            polite = {"reason": "so", "verdict": 1 + int(draw("p", shown) * 5)}
            return json.dumps({"right": json.loads(judging(body)), "polite": polite})

        judge = {
            "type": "judge",
            "lm": "openai/judge",
            "criteria": {
                "right": {"rubric": RUBRIC, "answer": "yes_no"},
                "polite": {"rubric": "How polite is it?", "answer": "1-5"},
            },
            "lm_args": {"max_tokens": 100},
        }
        rows = [{**row, "manners": str(1 + int(draw("m", row["id"]) * 5))} for row in items(40)]
        label = {"right": "fits", "polite": "manners"}
        labels = {"path": "labels.csv", "inputs": ["text"], "output": "team", "label": label}
        async with FaultyServer(behave(both)) as server:
            made = await asyncio.to_thread(
                calibrate, judge_config(write(tmp_path, server.base_url, rows, judge=judge, labels=labels))
            )
        assert made.by_criterion["right"].weighted_kappa.value is None
        assert made.by_criterion["polite"].weighted_kappa.value is not None
        written = json.loads((tmp_path / "runs/teams/calibration.json").read_text())
        assert written["criteria"]["polite"]["n"] == 40
        [known] = trust_in(build({**judge, "calibration": "runs/teams"}, tmp_path), tmp_path)
        assert known.state == "calibrated"
        assert re.search(r"\d+ % of 40 rows as to right .*; \d+ % of 40 rows as to polite", known.sentence)

    async def test_a_pairwise_judge_shows_how_far_it_favours_what_stands_first(self, tmp_path: Path) -> None:
        def first(body: Mapping[str, Any]) -> str:
            shown = body["messages"][1]["content"]
            wanted = team_of(re.findall(r"about the (\w+)", shown)[-1])
            right = f"text A:\n{wanted}\n" in shown
            return json.dumps({"reason": "so", "verdict": "A" if right or draw("first", shown) < 0.5 else "B"})

        rows = [
            {**row, "other": TEAMS[int(draw("other", row["id"]) * 4)], "best": ["win", "tie", "loss"][number % 3]}
            for number, row in enumerate(items(60))
        ]
        judge = {"type": "pairwise", "lm": "openai/judge", "rubric": "Which is right?", "against": "other"}
        labels = {"path": "labels.csv", "inputs": ["text", "other"], "output": "team", "label": "best"}
        judge |= {"lm_args": {"max_tokens": 100}}
        async with FaultyServer(behave(first)) as server:
            config = judge_config(write(tmp_path, server.base_url, rows, judge=judge, labels=labels))
            made = await asyncio.to_thread(calibrate, config)
        assert (made.n, server.calls) == (60, 2 * sum(row["team"] != row["other"] for row in rows))
        position = made.by_criterion[""].position
        assert position is not None
        assert position.net > 0.2
        written = json.loads((tmp_path / "runs/teams/calibration.json").read_text())
        assert written["position"]["net"] == position.net

    async def test_items_of_one_group_count_as_one_unit(self, tmp_path: Path) -> None:
        def by_animal(body: Mapping[str, Any]) -> str:
            animal = re.findall(r"about the (\w+)", body["messages"][1]["content"])[-1]
            return json.dumps({"reason": "so", "verdict": "yes" if draw("mood", animal) < 0.5 else "no"})

        rows = [{**row, "animal": row["why"].split()[0]} for row in items(80)]
        rows = [{**row, "fits": "no" if draw("lot", row["animal"]) < 0.5 else "yes"} for row in rows]
        labels = {"path": "labels.csv", "inputs": ["text"], "output": "team", "label": "fits", "slices": ["kind"]}
        async with FaultyServer(behave(by_animal)) as server:
            alone = await asyncio.to_thread(
                calibrate, judge_config(write(tmp_path, server.base_url, rows, labels=labels))
            )
            path = write(
                tmp_path, server.base_url, rows, labels={**labels, "group": "animal"}, run={"dir": "runs/grouped"}
            )
            done = await command("judge", "calibrate", path)
        assert f"on 80 rows in {len(ANIMALS)} groups" in done.output
        grouped, single = json.loads((tmp_path / "runs/grouped/calibration.json").read_text()), alone.by_criterion[""]
        assert (grouped["groups"], single.groups) == (len(ANIMALS), None)
        assert grouped["accuracy"]["value"] == single.accuracy.value
        for figure in ("accuracy", "balanced_accuracy", "kappa", "alpha", "bias"):
            low, high = grouped[figure]["ci"]
            ends = getattr(single, figure).ci
            assert high - low > 1.5 * (ends[1] - ends[0])
        assert {one["p"] for one in grouped["bias_by_slice"]["kind"] if one["name"] == "bird"} == {
            None
        }  # three animals

    async def test_typed_labels_are_taken_as_those_of_a_csv_are(self, tmp_path: Path) -> None:
        spelt = {"yes": (1, True, "1", "Yes"), "no": (0, False, "0", "No")}
        rows = [{**row, "fits": spelt[row["fits"]][number % 4]} for number, row in enumerate(items(12))]
        labels = {"path": "labels.jsonl", "inputs": ["text"], "output": "team", "label": "fits"}
        async with FaultyServer(behave()) as server:
            path = write(tmp_path, server.base_url, labels=labels)
            (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
            made = await asyncio.to_thread(calibrate, judge_config(path))
        people = [sum(row.values()) for row in made.by_criterion[""].confusion.values()]
        assert people == [sum(row["fits"] == said for row in items(12)) for said in ("no", "yes")]

    async def test_raters_who_never_overlap_and_always_say_the_same_are_told_apart_from_agreement(
        self, tmp_path: Path
    ) -> None:
        rows = [{**row, "fits": "yes", "who": "ann" if number % 2 else "ben"} for number, row in enumerate(items(20))]
        labels = {"path": "labels.csv", "inputs": ["text"], "output": "team", "label": "fits"} | WHO
        always = json.dumps({"reason": "so", "verdict": "yes"})
        async with FaultyServer(behave(lambda _: always)) as server:
            path = write(tmp_path, server.base_url, rows, labels=labels)
            done = await command("judge", "calibrate", path)
        assert done.exit_code == 0, done.output
        assert "against 2 raters on 20 rows" in done.output
        assert "Kappa cannot be told: people or the judge gave one and the same" in done.output
        written = json.loads((tmp_path / "runs/teams/calibration.json").read_text())
        assert written["accuracy"]["value"] == 1
        assert written["accuracy"]["ci"][0] < 0.9
        assert {figure: written[figure]["value"] for figure in ("kappa", "alpha", "people_alpha")} == dict.fromkeys(
            ("kappa", "alpha", "people_alpha")
        )
        [known] = trust_in(build({**judge_config(path).judge, "calibration": "runs/teams"}, tmp_path), tmp_path)
        assert "nobody knows whether it could tell others apart" in known.sentence

    async def test_an_output_with_two_expected_answers_is_two_items(self, tmp_path: Path) -> None:
        first, *rest = items(8)
        rows = [{**row, "right": team_of(row["why"].split()[0])} for row in (first, *rest)]
        rows.append({**rows[0], "right": "violet"})
        labels = {"path": "labels.csv", "inputs": ["text"], "output": "team", "label": "fits", "expected": "right"}
        judge = {"type": "correctness", "lm": "openai/judge"}
        async with FaultyServer(behave()) as server:
            path = write(tmp_path, server.base_url, rows, judge=judge, labels=labels)
            assert (await asyncio.to_thread(calibrate, judge_config(path))).n == 9
            rows[3]["right"] = ""
            path = write(tmp_path, server.base_url, rows, judge=judge, labels=labels)
            with pytest.raises(DataError, match=r"1 of 9 labelled rows cannot be judged.*under labels\.expected"):
                await asyncio.to_thread(calibrate, judge_config(path))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"fits": "perhaps"}, "row 1: the label in 'fits' is no answer of this judge: \"perhaps\" is not"),
            ({"fits": ""}, None),
        ],
    )
    async def test_a_label_that_is_no_answer_is_told_with_its_row(
        self, change: dict[str, str], message: str | None, tmp_path: Path
    ) -> None:
        rows = [{**row, **change} if number == 0 else row for number, row in enumerate(items(10))]
        async with FaultyServer(behave()) as server:
            config = judge_config(write(tmp_path, server.base_url, rows))
            if message is None:  # an empty cell is no label
                assert (await asyncio.to_thread(calibrate, config)).n == 9
                return
            with pytest.raises(DataError, match=re.escape(message)):
                await asyncio.to_thread(calibrate, config)
        assert server.calls == 0

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"judge": {"type": "exact_match"}}, "judge.type must be a judge"),
            ({"labels": {"path": "labels.csv", "inputs": ["text"], "label": "fit"}}, "column 'fit'"),
            ({"labels": {"path": "labels.csv", "inputs": ["txt"], "label": "fits"}}, "txt"),
            ({"labels": {"path": "labels.csv", "inputs": ["text"], "label": "fits", "rater": "who"}}, "'who'"),
            ({"repeats": 0}, "repeats"),
            (
                {"judge": {**JUDGE, "conversation": "turns"}},
                "judge.conversation names 'turns', but labels.inputs has text",
            ),
            ({"judge": {**JUDGE, "conversation": "text"}}, "120 of 120 labelled rows cannot be judged"),
            ({"judge": {"type": "correctness", "lm": "openai/judge"}}, "its column under labels.expected"),
            ({"budget": {"rollouts": 50}}, "budget.rollouts is 50, but 120 labelled items are to be judged"),
            ({"label": {}}, "label is not a setting. Did you mean labels?"),
        ],
    )
    async def test_what_cannot_work_is_said_before_anything_is_spent(
        self, changes: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        async with FaultyServer(behave()) as server:
            path = write(tmp_path, server.base_url, **changes)
            done = await command("judge", "calibrate", str(path))
        assert done.exit_code == 2
        assert message in done.output
        assert server.calls == 0

    async def test_raters_who_contradict_themselves_are_named(self, tmp_path: Path) -> None:
        first, *rest = items(10)
        rows = [{**first, "who": "ann"}, {**first, "fits": "no" if first["fits"] == "yes" else "yes", "who": "ann"}]
        rows += [{**row, "who": "ann"} for row in rest]
        labels = {"path": "labels.csv", "inputs": ["text"], "output": "team", "label": "fits"} | WHO
        with pytest.raises(DataError, match="row 2: rater 'ann' gives this item another label than in row 1"):
            await asyncio.to_thread(
                calibrate, judge_config(write(tmp_path, "http://127.0.0.1:9/v1", rows, labels=labels))
            )

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"id": ""}, "row 2: column 'id' is empty"),
            ({"id": "i0"}, "row 2: 'i0' in column 'id' stands for something else in row 1"),
        ],
    )
    async def test_an_id_that_is_no_item_s_own_does_not_merge_rows(
        self, change: dict[str, str], message: str, tmp_path: Path
    ) -> None:
        first, second, *rest = items(10)
        labels = {"path": "labels.csv", "inputs": ["text"], "output": "team", "label": "fits", "id": "id"}
        path = write(tmp_path, "http://127.0.0.1:9/v1", [first, {**second, **change}, *rest], labels=labels)
        with pytest.raises(DataError, match=re.escape(message)):
            await asyncio.to_thread(calibrate, judge_config(path))

    async def test_nulls_are_no_labels_no_outputs_and_no_names(self, tmp_path: Path) -> None:
        rows: list[dict[str, Any]] = [{**row, "who": None} for row in items(10)]
        rows[1]["fits"], rows[2]["who"] = None, "ann"
        del rows[0]["why"]  # reasons may be rare
        labels = {"path": "labels.jsonl", "inputs": ["text"], "output": "team", "label": "fits", "reason": "why"}
        labels["rater"] = "who"
        async with FaultyServer(behave()) as server:
            path = write(tmp_path, server.base_url, labels=labels)
            (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
            made = await asyncio.to_thread(calibrate, judge_config(path))
            assert (made.n, server.calls) == (9, 9)
            rows[3]["team"] = None
            (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
            with pytest.raises(DataError, match="row 4: column 'team' is empty, and the row has a label"):
                await asyncio.to_thread(calibrate, judge_config(path))

    async def test_rows_that_failed_while_the_judge_was_down_are_asked_again(self, tmp_path: Path) -> None:
        async with FaultyServer(*[behave()] * 40, server_error()) as server:
            config = judge_config(write(tmp_path, server.base_url))
            with pytest.raises(ModelDown):
                await asyncio.to_thread(calibrate, config)
            down, server.script = server.calls, [behave()]
            made = await asyncio.to_thread(calibrate, config)
        assert (made.n, made.missing) == (120, 0)
        assert server.calls == down + 80  # the 40 that were answered are not paid again

    async def test_the_cap_on_minutes_holds(self, tmp_path: Path) -> None:
        async with FaultyServer(behave()) as server:
            config = judge_config(write(tmp_path, server.base_url, budget={"minutes": 1e-6}))
            with pytest.raises(BudgetExhausted, match="minutes"):
                await asyncio.to_thread(calibrate, config)
        assert server.calls < 120

    async def test_a_judge_that_never_answers_is_said_to_be_unknown(self, tmp_path: Path) -> None:
        async with FaultyServer(behave(lambda _: "I would say yes.")) as server:
            path = write(tmp_path, server.base_url, list(items(5)))
            done = await command("judge", "calibrate", str(path))
        assert done.exit_code == 0, done.output
        assert "There is nothing to compare" in done.output
        metric = build({**judge_config(path).judge, "calibration": "runs/teams"}, tmp_path)
        [known] = trust_in(metric, tmp_path)
        assert known.state == "never"
        assert "gave no answer on the rows" in known.sentence


class TestAlign:
    async def test_a_rubric_learns_from_people_and_is_tested_on_held_out_labels(self, tmp_path: Path) -> None:
        async with FaultyServer(behave()) as server:
            made = await asyncio.to_thread(
                align, judge_config(write(tmp_path, server.base_url, list(items(240)), **ALIGNING))
            )
        assert made.result.verdict == "PROMOTE"
        before, after = (arm[""].accuracy.value for arm in (made.before, made.after))
        assert before is not None
        assert after is not None
        assert after > before + 0.1
        assert "goes to" in made.recommended.rubric
        written = json.loads((tmp_path / "runs/teams-align/aligned.json").read_text())
        assert written["recommended"] == {"rubric": made.recommended.rubric}
        assert made.after[""].n == 120

    async def test_a_search_that_finds_nothing_better_leaves_the_judge_as_it_is(self, tmp_path: Path) -> None:
        def alike(body: Mapping[str, Any]) -> str:
            return json.dumps({"reason": "so", "verdict": "yes"})

        async with FaultyServer(behave(alike)) as server:
            budget = {"rollouts": 400}
            config = write(tmp_path, server.base_url, list(items(240)), **{**ALIGNING, "budget": budget})
            made = await asyncio.to_thread(align, judge_config(config))
        assert made.recommended == made.judge
        assert (made.before, made.after) == ({}, {})

    @pytest.mark.slow
    async def test_the_command_prints_both_and_the_verdict(self, tmp_path: Path) -> None:
        async with FaultyServer(behave()) as server:
            path = write(tmp_path, server.base_url, list(items(240)), **ALIGNING)
            done = await command("judge", "align", str(path))
        assert done.exit_code == 0, done.output
        assert "PROMOTE" in done.output
        assert "Agreement on 120 held-out labels" in done.output

    def test_the_split_keeps_groups_on_one_side(self, tmp_path: Path) -> None:
        rows = [{**row, "session": str(number // 6)} for number, row in enumerate(items(240))]
        labels = {"path": "labels.csv", "inputs": ["text"], "output": "team", "label": "fits", "group": "session"}
        path = write(tmp_path, "http://127.0.0.1:9/v1", rows, labels=labels, **ALIGNING)
        parts = aligning(judge_config(path)).job.split.parts
        sessions = [{row.group for row in part} for part in parts.values()]
        assert [len(part) for part in parts.values()] == [60, 60, 120]
        assert sum(map(len, sessions)) == len(set().union(*sessions)) == 40

    async def test_it_says_what_is_missing(self, tmp_path: Path) -> None:
        done = await command("judge", "align", str(write(tmp_path, "http://127.0.0.1:9/v1")))
        assert done.exit_code == 2
        assert "judge align needs split" in done.output


class TestTrust:
    """What a run's verdict says of the judge that scored it."""

    @staticmethod
    async def verdict_of(folder: Path, calibration: str | None, **change: Any) -> Any:
        def scores(body: Mapping[str, Any]) -> str:
            if "judge" not in body["model"]:
                return answer_ticket(body)
            return judging(body)

        async with FaultyServer(behave(scores)) as server:
            config = judge_config(write(folder, server.base_url))
            await asyncio.to_thread(calibrate, config, folder / "trust")
            judge = {**config.judge, **change, **({"calibration": calibration} if calibration else {})}
            model = {"api_base": server.base_url, "price": {"input": 1.0, "output": 2.0}}
            lms = dict.fromkeys(("openai/student", "openai/reflect", "openai/judge"), model)
            job = write_job(folder, server.base_url, metric=judge, lms=lms, budget={"rollouts": 320})
            return await asyncio.to_thread(optimize, job)

    async def test_a_judge_without_a_calibration_is_named_as_unchecked(self, tmp_path: Path) -> None:
        result = await self.verdict_of(tmp_path, None)
        assert [known.state for known in result.trust] == ["never"]
        assert "Nobody has checked the judge (openai/judge) against people" in result.reasons[-1]

    async def test_one_with_a_calibration_says_how_far_it_agrees(self, tmp_path: Path) -> None:
        result = await self.verdict_of(tmp_path, "trust")
        assert [known.state for known in result.trust] == ["calibrated"]
        assert re.search(r"agrees with people on \d+ % of 120 rows", result.reasons[-1])

    async def test_a_judge_may_be_calibrated_after_the_run(self, tmp_path: Path) -> None:
        before = await self.verdict_of(tmp_path, None)
        after = await self.verdict_of(tmp_path, "trust")
        assert [known.state for known in after.trust] == ["calibrated"]
        assert (after.verdict, after.test, after.spent.calls) == (before.verdict, before.test, before.spent.calls)

    async def test_one_that_has_changed_since_is_stale(self, tmp_path: Path) -> None:
        result = await self.verdict_of(tmp_path, "trust", rubric="Is it right?")
        assert [known.state for known in result.trust] == ["stale"]
        assert "have changed since" in result.reasons[-1]
        written = json.loads((tmp_path / "runs/tickets/result.json").read_text())
        assert written["judges"][0]["state"] == "stale"
        assert result.reasons[-1] in written["reasons"]

    async def test_a_calibration_that_is_none_is_refused_before_anything_is_spent(self, tmp_path: Path) -> None:
        share = {"value": 0.9, "ci": [0.8, 0.95]}
        certificate = {"hash": "0", "created": "2026-01-01"}
        whole = {
            "certificate": certificate,
            "n": 9,
            "accuracy": share,
            "kappa": share,
            "weighted_kappa": {"value": None, "ci": None},
        }
        damaged: dict[str, Any] = {
            "empty.json": {},
            "list.json": [],
            "nan.json": {**whole, "kappa": {**share, "value": float("nan")}},
            "text.json": {**whole, "n": "many"},
            "high.json": {**whole, "accuracy": {**share, "value": 9}},
            "open.json": {**whole, "accuracy": {**share, "ci": None}},
            "criteria.json": {"certificate": certificate, "n": 9, "criteria": ["polite"]},
        }
        for name, content in damaged.items():
            (tmp_path / name).write_text(json.dumps(content))
        (tmp_path / "deep.json").write_text("[" * 100_000)
        for said, message in (
            *((name, "is no calibration") for name in (*damaged, "deep.json")),
            ("nowhere.json", "cannot be read"),
        ):
            metric = {"type": "judge", "lm": "openai/student", "rubric": RUBRIC, "calibration": said}
            with pytest.raises(ConfigError, match=message):
                optimize(write_job(tmp_path, "http://127.0.0.1:9/v1", metric=metric))


def answer_ticket(body: Mapping[str, Any]) -> str:
    return TEAMS[int(draw("team", body["messages"][-1]["content"]) * len(TEAMS))]


def said(server: FaultyServer) -> Iterator[tuple[dict[str, str], Mapping[str, Any]]]:
    """Each labelled item with what the judge was asked of it."""
    asked = {re.findall(r"Ticket (\d+) is", body["messages"][1]["content"])[-1]: body for body in server.bodies}
    for number, row in enumerate(items(120)):
        yield row, asked[str(number)]
