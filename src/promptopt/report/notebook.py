"""The report of a run, or of a distillation, as a piece of HTML, for notebooks.

Inert by construction: jinja2 escapes every value, and there is no script, no link, no image, nothing to fetch. Colours
are the notebook's own, so that it reads in light and dark themes.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from promptopt.report import students
from promptopt.report.changes import changes
from promptopt.report.figures import clean, count, dollars, duration, line
from promptopt.report.history import OPERATOR_COLUMNS, OPERATOR_NOTE, ending, lineage, operator_rows, racing
from promptopt.report.scores import FRONT_COLUMNS, front_rows, level, score_rows
from promptopt.result import Result

if TYPE_CHECKING:
    import jinja2

    from promptopt.report.distilled import Distilled

GREEN, RED, AMBER = "#2e8b57", "#c0392b", "#b8860b"
COLOURS = {
    "PROMOTE": GREEN, "REJECT": RED, "INCONCLUSIVE": AMBER,
    "NON-INFERIOR": GREEN, "INFERIOR": RED,
}  # fmt: skip
MARKS = {"+": GREEN, "-": RED}

MACROS = """
{%- macro diff(changes) %}{% for change in changes.texts %}<p style="margin: .3em 0">{{ change.component }}</p>
<pre style="white-space: pre-wrap; margin: 0">
{%- for text in change.lines %}<span style="color: {{ marks.get(text[:1], 'inherit') }}">
{{- text }}</span>
{% endfor %}</pre>
{% endfor %}{% for demo in changes.demos %}<p style="margin: .3em 0">{{ demo.summary }}</p>
{% endfor %}{% endmacro %}
{%- macro grid(columns, rows) %}<table><tr>{% for name in columns %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endmacro %}
"""

OPTIMIZATION = """
<div style="max-width: 60em">
<p style="border-left: .3em solid {{ colour }}; padding-left: .6em; margin: .3em 0">
<b style="color: {{ colour }}">{{ verdict }}</b>: <b>{{ reasons[0] }}</b>
{%- for reason in reasons[1:] %}<br>{{ reason }}{% endfor %}</p>
<table>
<tr><th></th><th>current</th><th>new</th><th>difference</th><th>{{ level }}</th></tr>
{% for row in scores %}<tr><td>{{ row.label }}{% if row.note %}<br><i>{{ row.note }}</i>{% endif %}</td>
{%- for cell in (row.current, row.new, row.difference, row.interval) %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
{% if front %}<details><summary>The front: none beats these in score, length and price at once</summary>
{{ grid(front_columns, front) }}</details>
{% endif %}{% if changes.texts or changes.demos %}<details><summary>The prompt: what changed</summary>
{{ diff(changes) }}</details>
{% endif %}{% if lineage %}<details><summary>How it came about, step by step</summary>
{% for title, step in lineage %}<p style="margin: .6em 0 0"><b>{{ title }}</b></p>
{{ diff(step) }}{% endfor %}</details>
{% endif %}{% if operators %}<details><summary>What the search did</summary>
{{ grid(columns, operators) }}
{% for sentence in search if sentence %}<p style="margin: .3em 0">{{ sentence }}</p>
{% endfor %}</details>
{% endif %}<p style="opacity: .7; margin: .3em 0">{{ spent }}</p>
</div>
"""


DISTILLATION = """
<div style="max-width: 60em">
<p style="border-left: .3em solid {{ colour }}; padding-left: .6em; margin: .3em 0">
<b style="color: {{ colour }}">{{ headline[0] }}</b>: {{ headline[1] }}</p>
<table><tr>{% for name in quality_columns %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in quality %}<tr><td>{{ row.name }}{% if row.lm %}<br><i>{{ row.lm }}</i>{% endif %}</td>
<td style="color: {{ colours.get(row.verdict, "inherit") }}">{{ row.verdict }}</td>
{%- for cell in row.cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
{% for name, reason in reasons %}<p style="margin: .3em 0"><b>{{ name }}</b>: {{ reason }}</p>
{% endfor %}{% for sentence in notes %}<p style="margin: .3em 0">{{ sentence }}</p>
{% endfor %}{{ grid(cost_columns, cost) }}
{% if slices %}<details><summary>By slice, the surest losses first; exploratory</summary>
{{ grid(slice_columns, slices) }}</details>
{% endif %}{% for name, rows in regressions %}<details><summary>Rows that it does worse, to read: {{ name }}</summary>
{{ grid(regression_columns, rows) }}</details>
{% endfor %}{% for name, change in prompts %}<details><summary>The prompt of {{ name }}</summary>
{{ diff(change) }}</details>
{% endfor %}<p style="opacity: .7; margin: .3em 0">{{ spent }}</p>
</div>
"""


def html(result: Result) -> str:
    """The verdict, the scores, what changed and how that came about, what the search did and what it cost."""
    spent, state = result.spent, result.state
    cost = f"{spent.rollouts:,} rollouts, {spent.calls:,} calls, {spent.tokens:,} tokens, {dollars(spent.usd)}"
    if (judges := result.by_purpose["judge"]).calls:
        cost += f" (of which judges: {judges.calls:,} calls, {judges.tokens:,} tokens, {dollars(judges.usd)})"
    candidates = f"{count(len(state.candidates), 'candidate')} scored in {count(len(result.steps), 'step')}"
    ended = ending(result.stop_reason)
    return _template(OPTIMIZATION).render(
        verdict=result.verdict,
        colour=COLOURS[result.verdict],
        reasons=[clean(reason) for reason in result.reasons],
        level=level(result.judged.test),
        scores=list(score_rows(result)),
        front_columns=FRONT_COLUMNS,
        front=list(front_rows(result)),
        changes=changes(result.baseline, result.leader),
        marks=MARKS,
        lineage=[(clean(advance.title), advance.changes) for advance in lineage(result)],
        columns=OPERATOR_COLUMNS,
        operators=list(operator_rows(state)),
        search=[racing(result), OPERATOR_NOTE],
        spent=line(f"{candidates}; {cost}, {duration(result.seconds)}. {ended} {result.directory}", 400),
    )


def distillation_html(made: Distilled) -> str:
    """What to switch to, the students' quality and cost, what they lose, and their prompts."""
    spent = f"{students.spending(made.spent.spend)}, {duration(made.spent.seconds)}. {made.directory}"
    return _template(DISTILLATION).render(
        colour=GREEN if made.recommendation else AMBER,
        colours=COLOURS,
        marks=MARKS,
        headline=list(map(clean, students.headline(made))),
        quality_columns=students.QUALITY_COLUMNS,
        quality=list(students.quality_rows(made)),
        reasons=list(students.reasons(made)),
        notes=list(students.notes(made)),
        cost_columns=students.COST_COLUMNS,
        cost=list(students.cost_rows(made)),
        slice_columns=students.SLICE_COLUMNS,
        slices=list(students.slice_rows(made)),
        regression_columns=students.REGRESSION_COLUMNS,
        regressions=list(students.regressions(made)),
        prompts=list(students.prompts(made)),
        spent=line(spent, 400),
    )


@cache
def _template(body: str) -> jinja2.Template:
    import jinja2

    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(MACROS + body)
