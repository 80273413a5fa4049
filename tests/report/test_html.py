"""The pages of `promptopt report --html`: complete in themselves, inert, whatever a run holds."""

from __future__ import annotations

import base64
import hashlib
import re
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pytest
from stories import BASELINE, Story, start, told, write
from students_of import distilled, student

from promptopt.core.budget import Spend
from promptopt.core.candidate import Demo
from promptopt.core.rollout import Failure
from promptopt.report.advice import Condition
from promptopt.report.distilled import Attempt, Underway
from promptopt.report.folder import Found
from promptopt.report.html import page

EVIL = (
    "</style></pre></main><script>alert(1)</script><svg onload=alert(1)><img src=http://x onerror=alert(1)>"
    "{{ 7 * 7 }}{% raw %}\x1b[2J\x1b]8;;http://x\x07\u202e\" style=x ' <!-- ünï → 漢字"
)
TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "section", "footer", "p", "b", "h1", "h2", "h3",
    "div", "table", "tr", "th", "td", "small", "pre", "span", "ul", "ol", "li", "br", "code", "details", "summary",
    "figure", "figcaption", "svg", "rect", "line", "circle", "text",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "open", "viewbox", "role", "aria-label", "x", "y",
    "width", "height", "x1", "x2", "y1", "y2", "cx", "cy", "r", "text-anchor",
}  # fmt: skip
EMPTY = {"meta", "br", "rect", "line", "circle"}


class Page(HTMLParser):
    """A page as a browser reads it: tags, attributes, text outside the style sheet."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text, self.style, self.policy = "", "", ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        named = dict(attrs)
        if named.get("http-equiv") == "Content-Security-Policy":
            self.policy = named["content"] or ""
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in EMPTY:
            assert self.open.pop() == tag
        self.text += " " * (tag in ("td", "th"))

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.text += data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def an_optimization(folder: Path, said: str) -> Found:
    """A run that names everything `said`."""
    best = (
        BASELINE.with_text("system", said).with_text(said, said).with_demos(said, (Demo(said, {"text": said}, said),))
    )
    step = told(1, "won", best, 15, operator=said, note=said, reason=said, parent=BASELINE.id, refused={said: 2})
    failed = Failure(said, said)
    return write(folder, Story([start(), step], (0.2, 0.8), best, name=said, reason=said, failure=failed))


def a_distillation(_folder: Path, said: str) -> Found:
    """The same of a distillation."""
    row = {"id": said, "inputs": {said: said}, "expected": said, "teacher": said, "student": said}
    part = {"column": said, "value": said, "n": 9, "teacher": 1.0, "student": 0.5, "p": 0.01, "lost": True}
    served = {"lm": said, "reported": [said], "price": {"input": 1.0, "output": 2.0}}
    certificate = {"hash": said, "teacher": served, "student": served, "prompt": said, "data": said, "margin": 0.05}
    candidate = {"id": said, "components": {said: said}, "demos": {}, "settings": {"lm": said}}
    more = {"slices": [part], "regressions": [row], "worse_on": 1, "certificate": certificate, "candidate": candidate}
    return distilled(student(said, reason=said, note=said, **more), name=said, remarks=[said])


def one_under_way(_folder: Path, said: str) -> Found:
    return Underway(said, Path(said), (Attempt(said, 0.5, 4, 0),), said, Spend(usd=Decimal("0.25")), 3.0)


@pytest.mark.parametrize("found", [an_optimization, a_distillation, one_under_way])
@pytest.mark.parametrize("condition", ["finished", "interrupted"])
def test_nothing_in_a_run_can_act_in_a_page(found, condition: Condition, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source = page(found(tmp_path, EVIL), "running" if found is one_under_way else condition)
    read = Page(source)
    assert not read.open
    assert read.tags <= TAGS
    assert read.attributes <= ATTRIBUTES
    assert "<script>alert(1)</script>" in read.text
    assert "{{ 7 * 7 }}" in read.text
    assert "漢字" in read.text
    assert not set(re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", source))


@pytest.mark.parametrize("found", [an_optimization, a_distillation, one_under_way])
def test_the_policy_allows_the_page_s_own_style_sheet_and_nothing_else(found, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source = page(found(tmp_path, "plain"), "running" if found is one_under_way else "finished")
    read = Page(source)
    style = base64.b64encode(hashlib.sha256(read.style.encode()).digest()).decode()
    assert read.policy == f"default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"
    assert "url(" not in source
    assert "@import" not in source
    assert "http" not in read.style


def test_an_optimization_s_page_tells_verdict_scores_change_and_spend(tmp_path: Path) -> None:
    best = BASELINE.with_text("system", "Name the team.\nBe brief.\nOtters are red.")
    won = told(1, "won", best, 15, parent=BASELINE.id, reason="+0.5 on 12 rows", refused={"too long": 2})
    story = Story([start(), won], (0.2, 0.8), best, calls={"program": 1000})
    words = Page(page(write(tmp_path, story))).words
    for said in (
        "PROMOTE: the new prompt scored 0.80 against 0.20 on 40 unseen rows",
        "+0.600",
        "selection score, optimistic",
        "+ Otters are red.",
        "step 1, rules: +0.5 on 12 rows",
        "too long: 2 proposals refused",
        "1,000",
        "promptopt export",
    ):
        assert said in words


def test_a_distillation_s_page_tells_what_to_switch_to_and_what_that_costs_and_loses() -> None:
    lost = {"id": "r7", "inputs": {"text": "where is it"}, "expected": "red", "teacher": "red", "student": "blue"}
    poor = {"verdict": "INFERIOR", "diff": -0.3, "ci": [-0.35, -0.25], "regressions": [lost], "worse_on": 31}
    candidate = {"id": "c2", "components": {"system": "Name the team.\nOtters are red.", "user": "{text}"}}
    read = Page(page(distilled(student("small", candidate=candidate), student("tiny", reason="It loses.", **poor))))
    for said in (
        "Switch to small: It held.",
        "-0.040 to +0.020",
        "$0.02",
        "+ Otters are red.",
        "tiny: 31 rows, the worst 1",
        "where is it red red blue",
        "the teacher answers 97 % of val rows alike",
        "900",
    ):
        assert said in read.words
    assert {"svg", "circle"} <= read.tags


def test_a_page_without_a_recommendation_says_to_stay() -> None:
    unclear = student("small", verdict="INCONCLUSIVE", reason="Too few rows.", ci=None, diff=None, margin=None)
    words = Page(page(distilled(unclear))).words
    assert "Stay with the teacher: No student is shown" in words
    assert "Too few rows." in words
