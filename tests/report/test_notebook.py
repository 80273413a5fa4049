"""The notebook's view: complete in itself and inert."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from stories import BASELINE, Story, start, told, write

from promptopt.report.notebook import html

EVIL = "</pre></div><script>alert(1)</script><img src=http://x onerror=alert(1)>{{ 7 * 7 }}\x1b[2J"


class Reader(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_result_shows_its_verdict_scores_and_change(tmp_path: Path) -> None:
    best = BASELINE.with_text("system", "Name the team.\nBe brief.\nOtters are red.")
    result = write(tmp_path, Story([start(), told(1, "won", best, 15)], (0.2, 0.8), best))
    page = Reader(result._repr_html_())  # pyright: ignore[reportPrivateUsage]
    assert not page.open
    assert "PROMOTE: the new prompt scored 0.80" in page.text
    assert "selection score, optimistic" in page.text
    assert "+ Otters are red." in page.text


def test_nothing_in_a_run_can_act_in_the_notebook(tmp_path: Path) -> None:
    evil = BASELINE.with_text("system", EVIL).with_text(EVIL, EVIL)
    step = told(1, "won", evil, 15, operator=EVIL, note=EVIL, refused={EVIL: 1})
    page = html(write(tmp_path, Story([start(), step], (0.2, 0.8), evil, name=EVIL, reason=EVIL)))
    read = Reader(page)
    assert read.tags <= {"div", "p", "b", "i", "br", "table", "tr", "th", "td", "details", "summary", "pre", "span"}
    assert read.attributes == {"style"}
    assert "url(" not in page
    assert "<script>alert(1)</script>" in read.text
    assert "{{ 7 * 7 }}" in read.text
    assert "\x1b" not in page
