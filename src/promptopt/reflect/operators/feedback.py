"""Feedback: what the metric says of several wrong replies in the same words, added as it stands.

Such words are a rule of the metric's author. A weak reflection model reads them and writes something else.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import cast

from promptopt.core.edit import AddLines, Brief, Edit, Evidence
from promptopt.metrics.answer_text import answered, mentions
from promptopt.programs.prompt import placeholders
from promptopt.reflect.added_lines import LONGEST_LINE, together
from promptopt.reflect.copying import holds_any, names_of_rows
from promptopt.reflect.evidence import feedback, plain, right, wrong
from promptopt.reflect.operator import Refused

MOST_LINES = 3
LEAST_ROWS = 2
"""Wrong replies of which the same must be said: what is said of one may be about that one."""
LEAST_WORDS = 4
"""Shorter ones name a fault and no remedy."""
LONGEST_SENTENCE = 1000
"""Characters of one; longer ones are data that a metric dumps."""
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
CLAUSE_END = re.compile(r"(?<=[:;])\s+")


class QuoteFeedback:
    """Adds at most three sentences that feedback on wrong replies repeats, or what follows a colon in one."""

    def draw(self, brief: Brief) -> Edit:
        lines = [f"- {said}" for said in _repeated(brief)]
        new = [line for line in lines if AddLines(brief.component.name, (line,)).note not in brief.rejected]
        if not new:
            raise Refused("no feedback to repeat")
        return together(new[:MOST_LINES], brief)


def _repeated(brief: Brief) -> list[str]:
    """What may be added, said of most rows first: of a sentence its whole, or else its longest end that is repeated."""
    failed = [(row, _sentences(row, brief)) for row in wrong(brief.evidence)]
    introduced = _introduced(sentence for _, sentences in failed for sentence in sentences)
    said_of: defaultdict[str, list[Evidence]] = defaultdict(list)
    for row, sentences in failed:
        for said in {end for sentence in sentences for end in _ends(sentence, introduced)}:
            said_of[said].append(row)
    praise = {
        end for row in right(brief.evidence) for said in _sentences(row, brief) for end in _ends(said, introduced)
    }
    names = names_of_rows(brief)
    rules = [
        said
        for said, rows in said_of.items()
        if len(rows) >= LEAST_ROWS
        and said not in praise
        and said not in brief.component.text
        and len(said.split()) >= LEAST_WORDS
        and len(said) <= LONGEST_LINE
        and not placeholders(said)
        and not holds_any(said, names)
        and not any(_gives_away(said, row) for row in rows)
    ]
    whole = [said for said in rules if not any(said != other and other.endswith(said) for other in rules)]
    return sorted(whole, key=lambda said: (-len(said_of[said]), said))


def _sentences(row: Evidence, brief: Brief) -> list[tuple[str, ...]]:
    """The sentences about a row, each as its clauses."""
    said = SENTENCE_END.split(feedback(row, brief.component).strip())
    return [tuple(CLAUSE_END.split(sentence)) for sentence in said if len(sentence) <= LONGEST_SENTENCE]


def _introduced(sentences: Iterable[tuple[str, ...]]) -> Mapping[tuple[str, ...], set[tuple[str, ...]]]:
    """What follows each beginning of these sentences."""
    found: defaultdict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
    for clauses in sentences:
        for place in range(1, len(clauses)):
            found[clauses[:place]].add(clauses[place:])
    return found


def _ends(clauses: tuple[str, ...], introduced: Mapping[tuple[str, ...], set[tuple[str, ...]]]) -> list[str]:
    """A sentence from each of its clauses on, but for those that introduce different things: `Hint:` is no rule."""
    places = [place for place in range(len(clauses)) if len(introduced.get(clauses[: place + 1], ())) < 2]
    return [" ".join(clauses[place:]) for place in places]


def _gives_away(said: str, row: Evidence) -> bool:
    """Whether it names what the row wants, or what it got: then it tells what happened, and holds for that row."""
    answers = map(plain, (*_leaves(row.example.expected), *_leaves(answered(row.example, row.rollout))))
    return any(mentions(plain(said), answer) for answer in answers if answer)


def _leaves(value: object) -> list[object]:
    """The single values of an answer that may have fields."""
    if isinstance(value, Mapping):
        value = list(cast("Mapping[str, object]", value).values())
    if not isinstance(value, list):
        return [value]
    return [leaf for part in cast("list[object]", value) for leaf in _leaves(part)]
