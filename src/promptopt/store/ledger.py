"""The run's SQLite file: every paid call, every rollout, every decision, in order.

A call is written as *open*, at its worst case, before it leaves, and rewritten when it is settled. So a crash can lose
what the calls in flight answered, never what they may have cost: an open call of an earlier session stays charged at
its worst case. The write-ahead log survives the death of the process at any point; a power cut may lose the last
commits.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from copy import copy
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from promptopt.core.budget import Account, Budget, Spend
from promptopt.core.rollout import Failure, Rollout
from promptopt.errors import BudgetExhausted, LedgerCorrupt, LedgerUnwritable
from promptopt.lm.message import Purpose, Reply, Request, Scope

TOLD = "told"
"""The kind of what a step of a search told."""
DISTILLED = "distilled"
"""The kind of what a distillation came to."""
APPLICATION_ID = 0x504F5054  # "POPT", in the header of every ledger
SCHEMA_VERSION = 5

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sessions (id INTEGER PRIMARY KEY, pid INTEGER, host TEXT, started REAL, cached INTEGER DEFAULT 0);
CREATE TABLE events (seq INTEGER PRIMARY KEY, session INTEGER, at REAL, kind TEXT, step INTEGER, body TEXT);
CREATE TABLE calls (
  id INTEGER PRIMARY KEY, session INTEGER, key TEXT, purpose TEXT, scope TEXT, candidate TEXT, step INTEGER, model TEXT,
  state TEXT CHECK (state IN ('open', 'answered', 'failed')), tokens_in INTEGER, tokens_out INTEGER, usd TEXT,
  worst_in INTEGER, worst_out INTEGER, worst_usd TEXT, at REAL, seconds REAL, outcome TEXT);
CREATE UNIQUE INDEX answered ON calls (key) WHERE state = 'answered';
CREATE INDEX of_candidate ON calls (candidate);
CREATE TABLE shared (candidate TEXT, scope TEXT, call INTEGER, PRIMARY KEY (candidate, scope, call)) WITHOUT ROWID;
CREATE TABLE rollouts (
  key TEXT PRIMARY KEY, step INTEGER, split TEXT, candidate TEXT, example TEXT, failure TEXT, body TEXT) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Event:
    """One decision of the run."""

    kind: str
    """told, stop, opened, finished, distilled and the like."""
    step: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FailedRows:
    """Rollouts of one split that failed in the same way."""

    split: str
    kind: str
    rows: int
    message: str
    """What one of them said."""


class Ledger:
    """One run's ledger, open for its single writer; it also keeps the run's account against its caps."""

    def __init__(self, path: Path, budget: Budget, *, read_only: bool = False) -> None:
        """Open an existing ledger. Raises LedgerCorrupt when it is torn, foreign or newer; nothing is changed then."""
        check(path)
        mode = "ro" if read_only else "rw"
        self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)
        self._path = path
        self._cached = 0
        """Calls of this session that were answered from here; those of earlier ones stand in their rows."""
        self.account = Account(budget, self.spent())
        self._open: dict[int, Spend] = {}
        """Worst cases of the calls in flight."""
        self._settled = asyncio.Event()
        self._session = 0
        self._lanes = ("",)
        """What is put before the kinds of decisions: of all the parts that this search goes on from, its own last."""
        if not read_only:
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._session = self._insert(
                "INSERT INTO sessions (pid, host, started) VALUES (?, ?, ?)",
                os.getpid(),
                socket.gethostname(),
                time.time(),
            )

    def lane(self, name: str, *parts: str) -> Ledger:
        """This ledger for one search among several: it sees the decisions of its own name only.

        Calls, rollouts and the account are everybody's. A search goes on from part to part: what it decides is of the
        last of `parts`, and of those before it sees what their steps told.
        """
        lane = copy(self)
        lane._lanes = tuple(f"{name}/{part}/" for part in parts)
        return lane

    @staticmethod
    def create(path: Path, meta: Mapping[str, Any]) -> None:
        """Write an empty ledger, whole or not at all."""
        draft = path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        with closing(sqlite3.connect(draft, isolation_level=None)) as db:
            db.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};")
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(SCHEMA)
            db.executemany("INSERT INTO meta VALUES (?, ?)", [(key, json.dumps(value)) for key, value in meta.items()])
        draft.replace(path)

    def close(self) -> None:
        if self._session:
            self._db.execute("UPDATE sessions SET cached = ? WHERE id = ?", (self._cached, self._session))
        self._db.close()

    # what the run is

    def meta(self, key: str) -> Any:
        """A value that the ledger was created with, or that `set_meta` wrote; None when there is none."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    def set_meta(self, key: str, value: Any) -> None:
        self._write("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    # decisions

    def append(self, kind: str, step: int, body: Mapping[str, Any]) -> None:
        """Record a decision."""
        self._write(
            "INSERT INTO events (session, at, kind, step, body) VALUES (?, ?, ?, ?, ?)",
            (self._session, time.time(), f"{self._lanes[-1]}{kind}", step, json.dumps(body)),
        )

    def events(self, kind: str) -> list[Event]:
        """All decisions of a kind, in order."""
        lanes = self._lanes if kind == TOLD else self._lanes[-1:]
        rows = self._db.execute(
            f"SELECT step, body FROM events WHERE kind IN ({', '.join('?' * len(lanes))}) ORDER BY seq",
            [f"{lane}{kind}" for lane in lanes],
        )
        return [Event(kind, step, json.loads(body)) for step, body in rows]

    @property
    def decided(self) -> bool:
        """Whether any search has told something, or the sealed rows are open."""
        decisions = f"kind LIKE '%{TOLD}' OR kind = 'opened'"
        return self._db.execute(f"SELECT 1 FROM events WHERE {decisions} LIMIT 1").fetchone() is not None

    def searches(self) -> dict[str, int]:
        """Of each search among several, by its lane's name, how many steps have told something."""
        told = self._db.execute(f"SELECT kind FROM events WHERE kind LIKE '%/%/{TOLD}'")
        return dict(Counter(kind.rsplit("/", 2)[0] for (kind,) in told))

    # rollouts

    def rollout(self, key: str) -> Rollout | None:
        """The finished rollout under this key."""
        row = self._db.execute("SELECT body FROM rollouts WHERE key = ?", (key,)).fetchone()
        return Rollout.from_json(json.loads(row[0])) if row else None

    def record(self, key: str, rollout: Rollout, *, step: int, split: str) -> None:
        """Keep a finished rollout."""
        failure = rollout.failure.kind if rollout.failure else None
        body = json.dumps(rollout.to_json(), default=str)
        self._write(
            "INSERT INTO rollouts VALUES (?, ?, ?, ?, ?, ?, ?)",
            (key, step, split, rollout.candidate_id, rollout.example_id, failure, body),
        )

    def rollouts(self, split: str) -> Iterable[Rollout]:
        """All finished rollouts of a split."""
        for (body,) in self._db.execute("SELECT body FROM rollouts WHERE split = ?", (split,)):
            yield Rollout.from_json(json.loads(body))

    def failures(self) -> tuple[FailedRows, ...]:
        """The rollouts without a score, the most frequent kind first."""
        rows = self._db.execute(
            "SELECT split, failure, count(*), min(body) FROM rollouts WHERE failure IS NOT NULL "
            "GROUP BY split, failure ORDER BY count(*) DESC, split, failure"
        )
        return tuple(
            FailedRows(split, kind, count, json.loads(body)["failure"]["message"]) for split, kind, count, body in rows
        )

    def forget_failures(self, after_step: int, candidate: str = "%") -> None:
        """Drop the failed rollouts of steps after this one, those of one candidate where its id is given, so that a
        resumed run tries them again.

        Calls that were answered for them stay, and are not paid again.
        """
        failed = "failure IS NOT NULL AND step > ? AND candidate LIKE ?"
        self._write(f"DELETE FROM rollouts WHERE {failed}", (after_step, candidate))

    # calls: the gateway's book

    def recall(self, key: str, scope: Scope) -> Reply | None:
        """The answer of a call that was paid for under this key; one that another rollout paid for is noted."""
        row = self._db.execute(
            "SELECT id, scope, outcome FROM calls WHERE key = ? AND state = 'answered'", (key,)
        ).fetchone()
        if row is None:
            return None
        call, payer, outcome = row
        if payer != scope.key:
            self._write("INSERT OR IGNORE INTO shared VALUES (?, ?, ?)", (scope.candidate, scope.key, call))
        self._cached += 1
        return Reply.from_json(json.loads(outcome))

    async def reserve(self, scope: Scope, request: Request, key: str, worst: Spend) -> int:
        """Charge a call at its worst case before it leaves, waiting while other calls may still return room.

        Raises BudgetExhausted when no room will come.
        """
        while (room := self.account.room(worst)) != "yes":
            if room == "never":
                raise BudgetExhausted(self.account.binding(worst))
            self._settled.clear()
            await self._settled.wait()
        call = self._insert(
            "INSERT INTO calls (session, key, purpose, scope, candidate, step, model, state, tokens_in, tokens_out, "
            "usd, worst_in, worst_out, worst_usd, at) VALUES (?, ?, ?, ?, ?, ?, ?, 'open', ?, ?, ?, ?, ?, ?, ?)",
            *(self._session, key, scope.purpose, scope.key, scope.candidate, scope.step, request.model),
            *(2 * (worst.tokens_in, worst.tokens_out, str(worst.usd))),
            time.time(),
        )
        self.account.reserve(worst)
        self._open[call] = worst
        return call

    def settle(self, call: int, true: Spend, outcome: Reply | Failure) -> None:
        """Replace a call's worst case by its true cost, and keep what it answered."""
        worst = self._open.pop(call)
        self.account.settle(worst, true)
        self._settled.set()
        state = "answered" if isinstance(outcome, Reply) else "failed"
        body = json.dumps(outcome.to_json(), default=str)
        self._write(
            "UPDATE calls SET state = ?, tokens_in = ?, tokens_out = ?, usd = ?, seconds = ? - at, outcome = ? "
            "WHERE id = ?",
            (state, true.tokens_in, true.tokens_out, str(true.usd), time.time(), body, call),
        )

    # what it cost

    def spent(self, purpose: Purpose | None = None) -> Spend:
        """What all sessions have spent, open calls of earlier sessions at their worst case; of a purpose."""
        if purpose:
            return self._calls("purpose = ?", purpose)
        rolled = self._db.execute("SELECT count(*) FROM rollouts").fetchone()[0]
        return replace(self._calls("true"), rollouts=rolled, cached=self._all_cached())

    def settled(self, purpose: Purpose, step: int) -> Spend:
        """What a step's calls cost whose cost is known: a price is not made of those that a kill cut off."""
        return self._calls("purpose = ? AND step = ? AND state != 'open'", purpose, step)

    def _calls(self, where: str, *values: Any) -> Spend:
        rows = self._db.execute(f"SELECT tokens_in, tokens_out, usd FROM calls WHERE {where}", values).fetchall()
        return Spend(
            calls=len(rows),
            tokens_in=sum(row[0] for row in rows),
            tokens_out=sum(row[1] for row in rows),
            usd=sum((Decimal(row[2]) for row in rows), Decimal(0)),
        )

    def reported(self, model: str) -> tuple[str, ...]:
        """What the endpoint of `model` called itself in its answers, in the order of names."""
        rows = self._db.execute(
            "SELECT DISTINCT json_extract(outcome, '$.model') AS name FROM calls "
            "WHERE model = ? AND state = 'answered' AND purpose = 'program' ORDER BY name",
            (model,),
        )
        return tuple(name for (name,) in rows if name)

    def busy(self, purpose: Purpose, step: int) -> float:
        """Seconds in which at least one call of this purpose and step was under way, over all sessions."""
        calls = self._db.execute(
            "SELECT at, at + seconds FROM calls WHERE purpose = ? AND step = ? AND seconds IS NOT NULL ORDER BY at",
            (purpose, step),
        )
        total, until = 0.0, 0.0
        for began, ended in calls:
            total += max(0.0, ended - max(began, until))
            until = max(until, ended)
        return total

    def costs(self, candidate: str, beside: str = "") -> list[Spend]:
        """What each of a candidate's rollouts that called a model, and waits for none, has cost with its judgement.

        What others' rollouts had asked before is in it, except those of the candidate `beside`, which it runs beside.
        """
        figures = "state, tokens_in, tokens_out, CAST(usd AS REAL) AS usd"
        rows = self._db.execute(
            "SELECT count(*), sum(tokens_in), sum(tokens_out), sum(usd) FROM ("
            f"SELECT scope, {figures} FROM calls WHERE candidate = :candidate UNION ALL "
            f"SELECT shared.scope, {figures} FROM shared JOIN calls ON calls.id = shared.call "
            "WHERE shared.candidate = :candidate AND calls.candidate != :beside"
            ") GROUP BY scope HAVING NOT max(state = 'open')",
            {"candidate": candidate, "beside": beside},
        )
        return [Spend(1, calls, 0, tokens_in, tokens_out, Decimal(usd)) for calls, tokens_in, tokens_out, usd in rows]

    def worst_call(self, candidate: str) -> Spend:
        """The most that one of a candidate's calls was held at before it left; the figures may be of several calls."""
        row = self._db.execute(
            "SELECT coalesce(max(worst_in), 0), coalesce(max(worst_out), 0), coalesce(max(CAST(worst_usd AS REAL)), 0) "
            "FROM calls WHERE candidate = ?",
            (candidate,),
        ).fetchone()
        return Spend(tokens_in=row[0], tokens_out=row[1], usd=Decimal(str(row[2])))

    def seconds(self) -> float:
        """Wall-clock of all sessions, each from its start to the last thing it wrote."""
        ends = (
            "SELECT s.started, max(s.started, coalesce((SELECT max(at) FROM events WHERE session = s.id), 0), "
            "coalesce((SELECT max(at + coalesce(seconds, 0)) FROM calls WHERE session = s.id), 0)) FROM sessions s"
        )
        return sum(end - start for start, end in self._db.execute(ends))

    def last_write(self) -> float:
        """When the run last wrote something, in seconds since 1970."""
        times = "SELECT started AS at FROM sessions UNION ALL SELECT at FROM events UNION ALL SELECT at FROM calls"
        return self._db.execute(f"SELECT coalesce(max(at), 0) FROM ({times})").fetchone()[0]

    def _all_cached(self) -> int:
        total = self._db.execute("SELECT coalesce(sum(cached), 0) FROM sessions").fetchone()[0]
        return total + self._cached

    def _write(self, statement: str, values: Sequence[Any]) -> sqlite3.Cursor:
        try:
            return self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise LedgerUnwritable(
                f"{self._path} cannot be written ({error}). Nothing that was paid for is lost: mend it, such as by "
                "freeing disk space, and run the same command again to go on."
            ) from error

    def _insert(self, statement: str, *values: Any) -> int:
        number = self._write(statement, values).lastrowid
        assert number is not None
        return number


def check(path: Path) -> None:
    """Raise LedgerCorrupt unless `path` is a whole ledger of this version."""

    def refuse(reason: str, cause: Exception | None = None) -> None:
        raise LedgerCorrupt(f"{path} {reason}. Nothing was changed.") from cause

    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            application, version = (
                db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
            )
            if application != APPLICATION_ID:
                refuse("is not a ledger of promptopt; choose another run directory")
            if version < SCHEMA_VERSION:
                refuse(f"was written by an older promptopt (schema {version}); start the run anew in another directory")
            if version > SCHEMA_VERSION:
                refuse(f"was written by a newer promptopt (schema {version}); upgrade promptopt to open it")
            if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                refuse("is torn; restore it from a copy, or choose another run directory")
            for table, number in (("events", "seq"), ("calls", "id")):
                count, last = db.execute(f"SELECT count(*), coalesce(max({number}), 0) FROM {table}").fetchone()
                if count != last:
                    refuse(f"is torn: {table} are missing; restore it from a copy, or choose another run directory")
    except sqlite3.Error as error:
        if "unable to open" in str(error):
            refuse("cannot be opened here; copy the run directory to where files can be written", error)
        refuse(f"is torn, or is not a ledger ({error}); restore it from a copy, or choose another run directory", error)
