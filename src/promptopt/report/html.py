"""Reports as HTML pages: one file each, complete in itself, for browsers, phones and paper.

Inert by construction: jinja2 escapes every value, each cleaned of what a terminal would obey; there is no script, no
link and nothing to fetch, and the page's content policy forbids them all. Its one style sheet is named by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from promptopt.core.budget import Spend
from promptopt.report import students
from promptopt.report.advice import Condition, next_steps
from promptopt.report.changes import changes
from promptopt.report.distilled import Distilled, Underway
from promptopt.report.drawing import Difference, chart, forest
from promptopt.report.figures import clean, count, dollars, duration, line
from promptopt.report.folder import Found
from promptopt.report.front import front_of
from promptopt.report.history import OPERATOR_COLUMNS, OPERATOR_NOTE, ending, lineage, operator_rows, racing
from promptopt.report.scores import FRONT_COLUMNS, front_rows, level, method, score_rows
from promptopt.result import Result

if TYPE_CHECKING:
    import jinja2

SPENT_COLUMNS = ("", "rollouts", "calls", "cached", "tokens in", "out", "dollars")
TONES = {
    "PROMOTE": "good", "NON-INFERIOR": "good", "REJECT": "bad", "INFERIOR": "bad", "INCONCLUSIVE": "open",
    "RUNNING": "open", "INTERRUPTED": "open", "teacher": "teacher",
}  # fmt: skip
MARKS = {"+": "come", "-": "gone", "…": "left"}


def page(found: Found, condition: Condition = "finished") -> str:
    """The whole report of a run as an HTML document."""
    match found:
        case Result():
            return _page("optimization.html", "promptopt optimize", found, **_optimization(found, condition))
        case Distilled():
            return _page("distillation.html", "promptopt distill", found, **_distillation(found))
        case Underway():
            return _page("underway.html", "promptopt distill", found, **_underway(found, condition))


def _page(template: str, kind: str, found: Found, **values: Any) -> str:
    css = (files("promptopt.report") / "templates" / "report.css").read_text(encoding="utf-8")
    style = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return (
        _environment()
        .get_template(template)
        .render(
            policy=f"default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'",
            css=Markup(css),
            kind=kind,
            title=line(found.name, 80),
            footer=line(found.directory, 300),
            tones=TONES,
            marks=MARKS,
            **values,
        )
    )


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    def cleaned(value: Any) -> Any:
        return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    return jinja2.Environment(
        loader=jinja2.PackageLoader("promptopt.report"),
        autoescape=True,
        finalize=cleaned,
        undefined=jinja2.StrictUndefined,
    )


def _optimization(result: Result, condition: Condition) -> Mapping[str, Any]:
    test, word = result.judged.test, result.verdict if condition == "finished" else condition.upper()
    drawn = [Difference("new, less current", test.diff, test.ci, word)] if test else []
    return {
        "tone": TONES[word],
        "word": word,
        "reasons": result.reasons,
        "forest": forest(drawn) if drawn else None,
        "unseen": count(test.n, "row") if test else "",
        "method": method(test) if test else "",
        "level": level(test),
        "scores": list(score_rows(result)),
        "front_columns": FRONT_COLUMNS,
        "front": list(front_rows(result)),
        "changes": changes(result.baseline, result.leader),
        "lineage": [(advance.title, advance.changes) for advance in lineage(result)],
        "columns": OPERATOR_COLUMNS,
        "operators": list(operator_rows(result.state)),
        "search": [racing(result), OPERATOR_NOTE],
        "refused": [f"{line(why, 80)}: {count(times, 'proposal')} refused" for why, times in _most(result)],
        "failures": [f"{one.rows:,} on {one.split}: {one.kind}, {line(one.message)}" for one in result.failures],
        "spent_columns": SPENT_COLUMNS,
        "spent": list(_spent(result)),
        "ended": f"{duration(result.seconds)} of wall-clock. {ending(result.stop_reason)}",
        "advice": list(next_steps(result, condition)),
    }


def _most(result: Result) -> list[tuple[str, int]]:
    return sorted(result.state.refused.items(), key=lambda item: (-item[1], item[0]))


def _spent(result: Result) -> Iterator[tuple[str, ...]]:
    for purpose, spend in result.by_purpose.items():
        if spend.calls:
            yield purpose, "", f"{spend.calls:,}", "", *_tokens(spend)
    yield "the whole run", *_whole(result.spent)


def _whole(spend: Spend) -> tuple[str, ...]:
    return f"{spend.rollouts:,}", f"{spend.calls:,}", f"{spend.cached:,}", *_tokens(spend)


def _tokens(spend: Spend) -> tuple[str, str, str]:
    return f"{spend.tokens_in:,}", f"{spend.tokens_out:,}", dollars(spend.usd)


def _distillation(made: Distilled) -> Mapping[str, Any]:
    front, again = front_of(made), made.verified
    tested = [Difference(one.name, one.diff or 0.0, one.ci, one.verdict) for one in made.students if one.ci]
    if (two := made.cascade) and two.ci and two.verdict:
        tested.append(Difference(f"{two.student}, else teacher", two.diff or 0.0, two.ci, two.verdict))
    return {
        "tone": "good" if made.recommendation else "open",
        "headline": students.headline(made),
        "chart": chart(front) if front else None,
        "margin": "" if made.margin is None else f"{made.margin:g}",
        "forest": forest(tested, made.margin) if tested else None,
        "quality_columns": students.QUALITY_COLUMNS,
        "quality": list(students.quality_rows(made)),
        "reasons": list(students.reasons(made)),
        "cost_columns": students.COST_COLUMNS,
        "cost": list(students.cost_rows(made)),
        "slice_columns": students.SLICE_COLUMNS,
        "slices": list(students.slice_rows(made)),
        "slice_note": students.SLICE_NOTE,
        "prompts": list(students.prompts(made)),
        "regression_columns": students.REGRESSION_COLUMNS,
        "regressions": list(students.regressions(made)),
        "certificate_columns": students.CERTIFICATE_COLUMNS,
        "certificates": list(students.certificate_rows(made)),
        "certificate_note": students.CERTIFICATE_NOTE,
        "verified": again,
        "changed": students.changed(again) if again else (),
        "verified_columns": students.VERIFIED_COLUMNS,
        "verified_rows": list(students.verified_rows(again)) if again else [],
        "verified_note": students.verified_note(again) if again else "",
        "spent_columns": SPENT_COLUMNS,
        "spent": [("the distillation", *_whole(made.spent.spend))],
        "notes": list(students.notes(made)),
        "ended": f"{duration(made.spent.seconds)} of wall-clock.",
    }


def _underway(made: Underway, condition: Condition) -> Mapping[str, Any]:
    word = condition.upper()
    return {
        "tone": TONES[word],
        "word": word,
        "reasons": [made.stage],
        "columns": students.ATTEMPT_COLUMNS,
        "attempts": list(students.attempt_rows(made)),
        "spent": f"{students.spending(made.spent)}; {duration(made.seconds)} of wall-clock.",
    }
