"""Rows of the database, and the values of a book that they stand for.

Law: SQL and its order of columns live here; sums are made in `rules` alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

from orrouter.core.limit import MOST, Period
from orrouter.ledger.base import Bucket, BucketKey, Entry, Hold, Line
from orrouter.ledger.rules import Correction
from orrouter.ledger.statement import hour_of

Row = tuple[Any, ...]
_Line = tuple[int, tuple[str, ...], str, str, str, str]
"""A line of the statement: hour, accounts, upstream, key, model, provider."""
Run = Callable[..., Any]
"""`Cursor.execute`."""
Fetch = Callable[[BucketKey], Bucket]
"""The book's own way to a window, so that both have the same one in hand."""

ENTRY: Final = (
    "id, amount, upstream, key, model, request_id, streamed, accounts, admitted, owner, buckets, state, cost,"
    " billed_model, provider, provenance, generation_id, ended, reason"
)
OPEN: Final = "state IN ('held', 'suspense')"
INSERT_ENTRY: Final = f"INSERT INTO hold ({ENTRY}) VALUES ({', '.join('?' * 19)})"  # noqa: S608  # our own columns
UPDATE_ENTRY: Final = (
    "UPDATE hold SET buckets = ?, state = ?, cost = ?, billed_model = ?, provider = ?, provenance = ?,"
    " generation_id = ?, ended = ?, reason = ? WHERE id = ?"
)
SELECT_BUCKET: Final = "SELECT id, account, period, start, settled, held, suspense, told, until FROM bucket"
INSERT_BUCKET: Final = (
    "INSERT INTO bucket (account, period, start, settled, held, suspense, told, until) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
SELECT_LINE: Final = (
    "SELECT id FROM statement"
    " WHERE hour = ? AND accounts = ? AND upstream = ? AND key = ? AND model = ? AND provider = ?"
)
INSERT_LINE: Final = (
    "INSERT INTO statement (tries, cost, hour, accounts, upstream, key, model, provider) "
    "VALUES (0, 0, ?, ?, ?, ?, ?, ?)"
)
KNOWN: Final = 10_000
"""Windows in hand before all are dropped: they are read again when they are needed."""


@lru_cache(maxsize=1024)
def written(names: tuple[str, ...]) -> str:
    """The accounts of an entry as a column."""
    return json.dumps(names, ensure_ascii=False)


@lru_cache(maxsize=1024)
def read(column: str) -> tuple[str, ...]:
    """The accounts of an entry from its column."""
    return tuple(json.loads(column))


class Rows:
    """Fetches and writes through `run`. Remembers which windows and holds have a row, until `forget`."""

    def __init__(self, run: Run, many: Run) -> None:
        self._run, self._many = run, many
        self._ids: dict[Bucket, int] = {}
        self._by_id: dict[int, Bucket] = {}
        self._columns: dict[tuple[Bucket, ...], str] = {}
        """How windows are written in the row of a hold."""
        self._written: set[str] = set()
        self._paid: dict[_Line, tuple[int, int]] = {}
        self._lines: dict[_Line, int] = {}
        """The rows of lines of the statement."""

    def forget(self) -> None:
        """Somebody else has written: nothing is known any more."""
        self._ids.clear()
        self._by_id.clear()
        self._columns.clear()
        self._written.clear()
        self._paid.clear()
        self.forget_lines()

    def forget_lines(self) -> None:
        """Lines were dropped: their numbers may come to mean others."""
        self._lines.clear()

    @property
    def full(self) -> bool:
        """Whether more windows are in hand than is worth while."""
        return len(self._ids) > KNOWN

    # --- windows ----------------------------------------------------------------------------------------

    def bucket(self, key: BucketKey) -> Bucket | None:
        """One window, if it is kept."""
        row = self._run(f"{SELECT_BUCKET} WHERE account = ? AND period = ? AND start = ?", key).fetchone()
        return None if row is None else self._bucket(row)

    def kept(self, account: str, now: float) -> list[Bucket]:
        """The windows of an account that are kept and not over."""
        rows = self._run(f"{SELECT_BUCKET} WHERE account = ? AND until > ?", (account, now))
        return [self._bucket(row) for row in rows.fetchall()]

    def _bucket(self, row: Row) -> Bucket:
        """There is one object for a row, so that no sum is in hand twice."""
        known = self._by_id.get(row[0])
        if known is not None:
            return known
        number, account, period, start, *sums = row
        return self._know(number, Bucket(BucketKey(account, period, start), *sums))

    def _know(self, number: int, bucket: Bucket) -> Bucket:
        self._ids[bucket] = number
        self._by_id[number] = bucket
        return bucket

    def buckets(self, column: str, fetch: Fetch) -> tuple[Bucket, ...]:
        """The windows that an entry is charged to; those that are long over may be gone."""
        keys = [self._key(int(number)) for number in column.split()]
        return tuple([fetch(key) for key in keys if key is not None])

    def _key(self, number: int) -> BucketKey | None:
        known = self._by_id.get(number)
        if known is not None:
            return known.key
        row = self._run("SELECT account, period, start FROM bucket WHERE id = ?", (number,)).fetchone()
        return None if row is None else BucketKey(*row)

    def write_buckets(self, buckets: Iterable[Bucket]) -> bool:
        """Write the sums of windows; whether one of them is new."""
        known: list[Bucket] = []
        new: list[Bucket] = []
        for bucket in buckets:
            (known if bucket in self._ids else new).append(bucket)
        if known:
            self._many(
                "UPDATE bucket SET settled = ?, held = ?, suspense = ?, told = ?, until = ? WHERE id = ?",
                [(one.settled, one.held, one.suspense, one.told, one.until, self._ids[one]) for one in known],
            )
        for one in new:
            values = (*one.key, one.settled, one.held, one.suspense, one.told, one.until)
            self._know(self._run(INSERT_BUCKET, values).lastrowid, one)
        return bool(new)

    # --- holds ------------------------------------------------------------------------------------------

    def entry(self, hold: str, fetch: Fetch) -> Entry | None:
        """A hold, if it is known (any more)."""
        row = self._run(f"SELECT {ENTRY} FROM hold WHERE id = ?", (hold,)).fetchone()  # noqa: S608  # our own columns
        if row is None:
            return None
        self._written.add(hold)
        return self._entry(row, fetch)

    def knows(self, hold: str) -> bool:
        """Whether a hold is known to have a row."""
        return hold in self._written

    def known(self, entry: Entry) -> None:
        """It has a row."""
        self._written.add(entry.hold.id)

    def _entry(self, row: Row, fetch: Fetch) -> Entry:
        id_, amount, upstream, key, model, request_id, streamed, accounts, admitted, owner, buckets, *rest = row
        hold = Hold(id_, amount, (), upstream, key, model, request_id, bool(streamed))
        return Entry(hold, read(accounts), self.buckets(buckets, fetch), admitted, owner, *rest)

    def open_ids(self) -> list[str]:
        """The ids of holds that are held or in suspense, oldest first."""
        return self._ids_where(f"{OPEN} ORDER BY admitted, seq")

    def open_of(self, account: str, since: int, until: float) -> list[str]:
        """Those that may be charged to an account and were admitted from `since` to `until`."""
        name = json.dumps(account, ensure_ascii=False)
        where = f"{OPEN} AND admitted BETWEEN ? AND ? AND instr(accounts, ?) ORDER BY admitted, seq"
        return self._ids_where(where, since, until, name)

    def held_by(self, owner: str) -> list[str]:
        """What an owner has held and not told the end of."""
        return self._ids_where(f"{OPEN} AND state = 'held' AND owner = ?", owner)

    def holders(self) -> list[str]:
        """Every owner that holds something."""
        rows = self._run(f"SELECT DISTINCT owner FROM hold WHERE {OPEN} AND state = 'held'")  # noqa: S608  # our own words
        return [owner for (owner,) in rows.fetchall()]

    def _ids_where(self, where: str, *values: object) -> list[str]:
        return [id_ for (id_,) in self._run(f"SELECT id FROM hold WHERE {where}", values).fetchall()]  # noqa: S608  # ours

    def write_entries(self, entries: Iterable[Entry]) -> None:
        """Write what became of holds, and new ones whole. Their windows are written before."""
        new, changed = [], []
        for entry in entries:
            hold = entry.hold
            columns = self._columns.get(entry.buckets)
            if columns is None:
                columns = self._columns[entry.buckets] = " ".join([str(self._ids[bucket]) for bucket in entry.buckets])
            after = (
                columns, entry.state, entry.cost, entry.model, entry.provider, entry.provenance, entry.generation_id,
                entry.ended, entry.reason,
            )  # fmt: skip
            if hold.id in self._written:
                changed.append((*after, hold.id))
            else:
                self._written.add(hold.id)
                new.append((
                    hold.id, hold.amount, hold.upstream, hold.key, hold.model, hold.request_id, int(hold.streamed),
                    written(entry.accounts), entry.admitted, entry.owner, *after,
                ))  # fmt: skip
        if new:
            self._many(INSERT_ENTRY, new)
        if changed:
            self._many(UPDATE_ENTRY, changed)

    def end_by(self, now: float) -> None:
        """No open hold's end lies in the future."""
        self._run(f"UPDATE hold SET ended = ? WHERE {OPEN} AND ended > ?", (now, now))  # noqa: S608  # our own words

    def over(self, hold: str) -> None:
        """A hold is settled or released: it is not kept in hand."""
        self._written.discard(hold)

    # --- the statement ----------------------------------------------------------------------------------

    def pay(self, entry: Entry, cost: int, tries: int) -> None:
        """Add to the line of an entry; written with the rest."""
        hold = entry.hold
        line = (hour_of(entry.admitted), entry.accounts, hold.upstream, hold.key, entry.model, entry.provider)
        before = self._paid.get(line, (0, 0))
        self._paid[line] = (before[0] + tries, before[1] + cost)

    def write_lines(self) -> None:
        """Write what was paid since they were written before."""
        for line, (tries, cost) in self._paid.items():
            number = self._lines.get(line)
            if number is None:
                number = self._lines[line] = self._line(line)
            self._run("UPDATE statement SET tries = tries + ?, cost = cost + ? WHERE id = ?", (tries, cost, number))
        self._paid.clear()

    def _line(self, line: _Line) -> int:
        """The row of a line, made where there is none."""
        at, accounts, *rest = line
        if len(self._lines) >= KNOWN:
            self._lines.clear()
        values = (at, written(accounts), *rest)
        row = self._run(SELECT_LINE, values).fetchone()
        if row is not None:
            return int(row[0])
        number = int(self._run(INSERT_LINE, values).lastrowid)
        payers = [(account, at, number) for account in dict.fromkeys(accounts)]
        self._many("INSERT INTO payer VALUES (?, ?, ?)", payers)
        return number

    def lines(self, since: float, until: float) -> list[Line]:
        """The lines of hours that begin in `[since, until)`."""
        rows = self._run(
            "SELECT hour, accounts, upstream, model, provider, tries, cost, key FROM statement"
            " WHERE hour >= ? AND hour < ?",
            (since, until),
        )
        return [
            Line(at, read(accounts), upstream, model, provider, tries, cost, key=key)
            for at, accounts, upstream, model, provider, tries, cost, key in rows.fetchall()
        ]

    def paid(self, account: str, since: int, until: float) -> int:
        """What an account has paid in hours that begin from `since` to `until`; at most `MOST`: no limit is above.

        In two halves, since SQLite's own sum ends at 64 bits.
        """
        (high, low) = self._run(
            "SELECT coalesce(sum(cost >> 31), 0), coalesce(sum(cost & 0x7fffffff), 0)"
            " FROM payer JOIN statement ON statement.id = payer.line"
            " WHERE payer.account = ? AND payer.hour BETWEEN ? AND ?",
            (account, since, until),
        ).fetchone()
        return min((int(high) << 31) + int(low), MOST)

    # --- the rest ---------------------------------------------------------------------------------------

    def write_corrections(self, corrections: Iterable[Correction]) -> None:
        """Write them down for ever."""
        self._many(
            "INSERT INTO correction VALUES (?, ?, ?, ?, ?)",
            [(one.hold, one.before, one.after, one.provenance, one.at) for one in corrections],
        )

    def limits(self) -> dict[tuple[str, Period], int]:
        """The limits that were changed while running."""
        rows = self._run("SELECT account, period, amount FROM override").fetchall()
        return {(account, period): amount for account, period, amount in rows}

    def write_limit(self, account: str, period: Period, amount: int | None) -> None:
        """Change a limit; None: as the policies say."""
        if amount is None:
            self._run("DELETE FROM override WHERE account = ? AND period = ?", (account, period))
        else:
            self._run("INSERT OR REPLACE INTO override VALUES (?, ?, ?)", (account, period, amount))

    def meta(self) -> dict[str, float]:
        """The latest time seen, and how many owners ever entered."""
        return dict(self._run("SELECT name, value FROM meta").fetchall())

    def write_meta(self, name: str, value: float) -> None:
        """Change one of them."""
        self._run("UPDATE meta SET value = ? WHERE name = ?", (value, name))
