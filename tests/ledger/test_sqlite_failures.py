"""When the store fails: what is asked is refused with what to do, what was told is kept until it is written."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import sqlite3

import pytest

from orrouter.core.errors import LedgerUnavailable
from orrouter.core.limit import Account
from orrouter.ledger.base import Hold, new_hold_id
from orrouter.ledger.sqlite import SqliteLedger

NOON = 1_800_014_400.0
TEAM = Account("team:search", (("lifetime", 1000),))


def wall() -> float:
    return NOON


@pytest.fixture
def path(tmp_path):
    return tmp_path / "spend.db"


@pytest.fixture
async def ledger(path):
    ledger = SqliteLedger(path, wall)
    yield ledger
    await ledger.aclose()


def hold(amount=100) -> Hold:
    return Hold(new_hold_id(), amount, (TEAM,))


async def sums(ledger) -> tuple[int, int, int]:
    [balance] = await ledger.balances(TEAM)
    return balance.settled, balance.held, balance.suspense


@contextlib.contextmanager
def full(path):
    """No process may write more into a file than there is in the log already."""
    log = path.with_name("spend.db-wal").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log + 4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def written(ledger) -> None:
    """Until nothing is left to write, by the ledger's own tries alone."""
    async with asyncio.timeout(20):
        while ledger.pending:
            await asyncio.sleep(0)


async def refused(ledger) -> str:
    with pytest.raises(LedgerUnavailable) as caught:
        await ledger.reserve(hold(1))
    return caught.value.message


async def test_a_file_that_cannot_grow(ledger, path):
    """Holds are refused, words are kept and written as soon as there is room, and the sums are whole."""
    holds = [hold(100) for _ in range(5)]
    for one in holds:
        await ledger.reserve(one)
    with full(path):
        ledger.settle(holds[0].id, 60)
        ledger.suspend(holds[1].id, "left")
        ledger.release(holds[2].id)
        ledger.post(hold(0), 9)
        message = await refused(ledger)
        assert "the disk does not answer as it should; see the machine's log, and its free space" in message
        assert message == ledger.problem
        assert 4 == ledger.pending
    await written(ledger)
    assert (69, 200, 100) == await sums(ledger)
    assert "" == ledger.problem


async def test_a_full_disk(ledger, path):
    """The database may have no more pages: refused with what to do; nothing is lost."""
    one = hold(100)
    await ledger.reserve(one)
    db = ledger._store.session._db
    [(pages,)] = db.execute("PRAGMA page_count").fetchall()
    db.execute(f"PRAGMA max_page_count = {pages}")
    ledger.settle(one.id, 40)
    admitted = 0
    while not ledger.problem:
        with contextlib.suppress(LedgerUnavailable):
            await ledger.reserve(hold(1))
            admitted += 1
    assert f"{path}: database or disk is full; the disk is full; make room, and what was not written will be" == (
        ledger.problem
    )
    db.execute("PRAGMA max_page_count = 1000000")
    assert (40, admitted, 0) == await sums(ledger)


async def test_words_of_a_process_that_died_while_the_disk_was_full(ledger, path):
    """They stand in its owner's file, and whoever comes next says them again."""
    settled, lost, never = hold(100), hold(100), hold(100)
    for one in (settled, lost, never):
        await ledger.reserve(one)
    with full(path):
        ledger.settle(settled.id, 60)
        ledger.release(never.id)
        ledger.post(Hold(new_hold_id(), 0, (TEAM,), "openrouter", "main", "a/b"), 7)
        await refused(ledger)
        owner = ledger._store.session.owners
        owner.leave(remove=False)  # As when the process dies: the lock ends, the file stays.
        heir = SqliteLedger(path, wall)
    assert 1 == await heir.recover()
    assert (67, 0, 100) == await sums(heir)
    await heir.aclose()


async def test_words_are_struck_out_once_they_are_written(ledger, path):
    """When the store writes again, the owner's file is empty."""
    one = hold(100)
    await ledger.reserve(one)
    with full(path):
        ledger.settle(one.id, 60)
        await refused(ledger)
        [file] = (path.parent / "spend.db-owners").iterdir()
        assert b'["settle", "' in file.read_bytes()
    await written(ledger)
    assert b"" == file.read_bytes()


async def test_a_file_that_may_not_be_written(ledger, path):
    """The error says whose rights are missing; with them it goes on."""
    one = hold(100)
    await ledger.reserve(one)
    ledger._store.session._db.execute("PRAGMA query_only = ON")
    ledger.settle(one.id, 60)
    message = await refused(ledger)
    assert "it may not be written; give this user the right to write it and its folder" in message
    assert (60, 0, 0) == await sums(ledger)


async def test_a_file_that_breaks_while_it_is_used(ledger, path):
    """It is let go of, looked at anew, and refused until it is put right."""
    await ledger.reserve(hold(100))
    db = ledger._store.session._db
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    whole = path.read_bytes()
    path.write_bytes(b"\x5a" * len(whole))
    db.execute("PRAGMA shrink_memory")
    message = await refused(ledger)
    assert "put this one aside" in message or "stop every process" in message
    path.write_bytes(whole)
    await refused_or_sound(ledger)


async def refused_or_sound(ledger) -> None:
    """The bytes are back: the ledger opens them again by itself."""
    assert (0, 100, 0) == await sums(ledger)


async def test_another_program_that_writes_is_waited_for(ledger, path):
    """A transaction of another tool holds a reserve up, and no longer than it lasts."""
    await ledger.open()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        task = asyncio.create_task(ledger.reserve(hold(100)))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not task.done()
        db.execute("ROLLBACK")
        assert () == await task


async def test_another_program_that_reads_holds_nothing_up(ledger, path):
    """A long reading transaction neither blocks a hold nor the closing."""
    await ledger.reserve(hold(100))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN")
        db.execute("SELECT * FROM hold").fetchall()
        await ledger.reserve(hold(100))
        await ledger.aclose()
    assert (0, 0, 200) == await sums(ledger)


async def test_a_process_that_hangs_with_the_lock(path):
    """After the patience a hold is refused, and says how to find the culprit; words are kept."""
    ledger = SqliteLedger(path, wall, patience_s=0.05)
    one = hold(100)
    await ledger.reserve(one)
    lock = os.open(path.with_name("spend.db-lock"), os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    ledger.settle(one.id, 60)
    assert (
        "another process has been writing to the ledger for more than 0.05 seconds; it may be stopped or hanging: "
        "see which one has the file open (fuser, lsof)"
    ) == await refused(ledger)
    os.close(lock)
    await written(ledger)
    assert (60, 0, 0) == await sums(ledger)
    await ledger.aclose()


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_is_taken_away_is_not_written_any_more(path, replaced):
    """A removed or replaced file would hide what is spent: everything is refused, and the words stay."""
    now = NOON
    ledger = SqliteLedger(path, lambda: now)
    one = hold(100)
    await ledger.reserve(one)
    aside = path.rename(path.with_name("aside.db"))
    if replaced:
        path.write_bytes(aside.read_bytes())
        path.chmod(0o600)
    ledger.settle(one.id, 60)
    now += 1
    message = await refused(ledger)
    assert f"{path}: was removed or replaced while it was in use; stop every process that uses it" in message
    assert 1 == ledger.pending
    aside.rename(path)
    assert (60, 0, 0) == await sums(ledger)
    await ledger.aclose()


async def test_a_lock_that_is_taken_away_is_made_anew(path):
    """Somebody tidied up: the next one locks a new file, and so do we."""
    now = NOON
    ledger = SqliteLedger(path, lambda: now)
    await ledger.reserve(hold(100))
    lock = path.with_name("spend.db-lock")
    lock.unlink()
    now += 1
    await ledger.reserve(hold(100))
    assert lock.exists()
    other = SqliteLedger(path, lambda: now)
    assert (0, 200, 0) == await sums(other)
    await other.aclose()
    await ledger.aclose()


async def test_closing_when_nothing_can_be_written(path):
    """It is said, and the file is let go of all the same; the words wait for whoever comes next."""
    ledger = SqliteLedger(path, wall)
    one = hold(100)
    await ledger.reserve(one)
    with full(path):
        ledger.settle(one.id, 60)
        with pytest.raises(LedgerUnavailable):
            await ledger.aclose()
    heir = SqliteLedger(path, wall)
    assert (60, 0, 0) == await sums(heir)
    await heir.aclose()
    await ledger.aclose()
