"""What a ledger's file no longer needs is dropped, and no sum changes by it."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from orrouter.core.limit import Account
from orrouter.ledger import sqlite_sweep
from orrouter.ledger.base import Hold, new_hold_id
from orrouter.ledger.sqlite import SqliteLedger
from orrouter.ledger.sqlite_file import connect
from orrouter.ledger.sqlite_sweep import Sweep

NOON = 1_800_014_400.0
DAY = 86400.0
TEAM = Account("team:search", (("hour", 10**9), ("month", 10**9), ("lifetime", 10**9)))


class Wall:
    now = NOON

    def __call__(self):
        return self.now


@pytest.fixture
async def ledger(tmp_path):
    ledger = SqliteLedger(tmp_path / "spend.db", Wall(), retention_s=40 * DAY)
    yield ledger
    await ledger.aclose()


def count(path, table: str) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


async def pay(ledger, cost=5) -> str:
    one = Hold(new_hold_id(), 10, (TEAM,), "openrouter", "main", "a/b")
    await ledger.reserve(one)
    ledger.settle(one.id, cost)
    return one.id


async def settled(ledger, period="lifetime") -> int:
    return next(one.settled for one in await ledger.balances(TEAM) if one.period == period)


async def test_finished_holds_go_after_a_day_and_the_sums_stay(ledger, tmp_path):
    """The statement knows what they cost; what is open, however old, is kept."""
    for _ in range(20):
        await pay(ledger)
    lost = Hold(new_hold_id(), 10, (TEAM,), "openrouter", "main", "a/b")
    await ledger.reserve(lost)
    ledger.suspend(lost.id, "left")
    ledger._store._wall.now += DAY + 7200
    await pay(ledger)
    await ledger.flush()
    assert 2 == count(tmp_path / "spend.db", "hold")
    assert [lost.id] == [entry.id for entry in await ledger.unsettled()]
    assert 105 == await settled(ledger)
    ledger.settle(lost.id, 3)
    assert 108 == await settled(ledger)
    assert [(21, 103), (1, 5)] == [(line.tries, line.cost) for line in await ledger.statement()]


async def test_a_window_that_is_new_counts_what_was_dropped(ledger):
    """A kind of window that is limited only later knows the holds that are in the statement alone."""
    for _ in range(3):
        await pay(ledger)
    ledger._store._wall.now += DAY + 7200
    await pay(ledger)
    await ledger.flush()
    [week] = await ledger.balances(Account("team:search", (("week", 100),)))
    assert 20 == week.settled


async def test_windows_that_are_over_go_unless_something_is_open(ledger, tmp_path):
    """Hours of the day before yesterday are dropped; the one with a hold in suspense stays until that is settled."""
    lost = Hold(new_hold_id(), 10, (TEAM,))
    await ledger.reserve(lost)
    ledger.suspend(lost.id, "left")
    for _ in range(5):
        ledger._store._wall.now += 3600
        await pay(ledger)
    await ledger.flush()
    assert 8 == count(tmp_path / "spend.db", "bucket")
    ledger._store._wall.now += 2 * DAY
    await pay(ledger)
    await ledger.flush()
    assert 4 == count(tmp_path / "spend.db", "bucket")
    ledger.settle(lost.id, 10)
    ledger._store._wall.now += 2 * DAY
    await pay(ledger)
    await ledger.flush()
    assert 3 == count(tmp_path / "spend.db", "bucket")
    assert 45 == await settled(ledger)


async def test_lines_go_after_their_time(ledger):
    """The retention that the policy says."""
    await pay(ledger)
    await ledger.flush()
    ledger._store._wall.now += 41 * DAY
    await pay(ledger)
    await ledger.flush()
    assert [int(NOON + 41 * DAY)] == [line.at for line in await ledger.statement()]


async def test_the_list_of_holds_is_bounded(tmp_path):
    """Of many finished holds of one day the last are kept, step by step, and the open ones."""
    db = connect(tmp_path / "spend.db", "process")
    ledger = SqliteLedger(tmp_path / "spend.db", Wall())
    ids = [await pay(ledger) for _ in range(40)]
    open_ = Hold(ids[0] + "open", 10, (TEAM,))
    await ledger.reserve(open_)
    for _ in range(39):
        ids.append(await pay(ledger))
    await ledger.aclose()
    sweep = Sweep(db.execute, 40 * DAY, finished=30)
    sweep.holds(NOON)
    kept = [id_ for (id_,) in db.execute("SELECT id FROM hold ORDER BY seq")]
    assert [open_.id, *ids[-30:]] == kept
    db.close()


async def test_a_sweep_of_many_goes_on_where_it_stopped(tmp_path):
    """One step looks at so many holds and no more; the next goes on behind them."""
    db = connect(tmp_path / "spend.db", "process")
    rows = [
        (f"hold_{at}", 1, "[]", "", "", "", "", 0, NOON, "", "", "settled", 1, "", "", "", "", NOON, "")
        for at in range(3 * sqlite_sweep.STEP)
    ]
    db.executemany(f"INSERT INTO hold VALUES (NULL, {', '.join('?' * 19)})", rows)
    sweep = Sweep(db.execute, 40 * DAY, finished=100)
    left = []
    for _ in range(4):
        sweep.holds(NOON)
        left += db.execute("SELECT count(*) FROM hold").fetchone()
    assert [1000, 500, 100, 100] == left
    db.close()
