"""The file of the SQLite ledger: whose it is, where it may lie, which version it has, what is wrong with it."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from pathlib import Path

import pytest

from orrouter.core.errors import LedgerUnavailable
from orrouter.core.limit import Account
from orrouter.ledger.base import Hold, new_hold_id
from orrouter.ledger.place import filesystem_of, refuse_network
from orrouter.ledger.sqlite import SqliteLedger
from orrouter.ledger.sqlite_file import STEPS, connect, refuse_old_sqlite, version_of

NOON = 1_800_014_400.0
TEAM = Account("team:search", (("day", 1000),))
MOUNTS = """\
/dev/vda / ext4 rw 0 0
proc /proc proc rw 0 0
server:/export /mnt/shared nfs4 rw 0 0
C:\\134 /mnt/c 9p rw 0 0
me@host:/ /home/me/far\\040away fuse.sshfs rw 0 0
/dev/vdb /mnt/shared/local xfs rw 0 0
"""


def wall() -> float:
    return NOON


def hold(amount=100) -> Hold:
    return Hold(new_hold_id(), amount, (TEAM,))


async def failure(path: Path) -> str:
    """What a reserve on the file fails with."""
    ledger = SqliteLedger(path, wall)
    with pytest.raises(LedgerUnavailable) as caught:
        await ledger.reserve(hold())
    assert caught.value.message == ledger.problem
    with contextlib.suppress(LedgerUnavailable):
        await ledger.aclose()
    return caught.value.message


async def make_one(path: Path) -> None:
    ledger = SqliteLedger(path, wall)
    await ledger.reserve(hold())
    await ledger.aclose()


# --- whose it is ----------------------------------------------------------------------------------------


async def test_everything_is_private_to_the_user(tmp_path):
    """File, log, shared memory, lock and owner's file: no other user may read one."""
    path = tmp_path / "money" / "spend.db"
    path.parent.mkdir()
    ledger = SqliteLedger(path, wall)
    await ledger.reserve(hold())
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    owner = next(iter((path.parent / "spend.db-owners").iterdir()))
    assert {
        "spend.db": 0o600, "spend.db-wal": 0o600, "spend.db-shm": 0o600, "spend.db-lock": 0o600,
        "spend.db-owners": 0o700,
    } == modes  # fmt: skip
    assert 0o600 == stat.S_IMODE(owner.stat().st_mode)
    await ledger.aclose()


async def test_a_folder_that_is_there_is_left_as_it_is(tmp_path):
    """Its rights are its owner's affair."""
    tmp_path.chmod(0o755)
    await make_one(tmp_path / "spend.db")
    assert 0o755 == stat.S_IMODE(tmp_path.stat().st_mode)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
async def test_a_file_that_others_may_write_is_refused(tmp_path, mode):
    """Whoever writes it can raise a budget; the error says which command mends it."""
    path = tmp_path / "spend.db"
    await make_one(path)
    path.chmod(mode)
    assert (
        f"{path}: other users may write it (mode {mode:o}), and who writes it can raise a budget; chmod 600 {path}"
    ) == await failure(path)


# --- where it lies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/spend.db", "ext4"),
        ("/mnt/shared/spend.db", "nfs4"),
        ("/mnt/shared/local/spend.db", "xfs"),
        ("/mnt/sharedness/spend.db", "ext4"),
        ("/mnt/c/spend.db", "9p"),
        ("/home/me/far away/spend.db", "fuse.sshfs"),
    ],
)
def test_the_file_system_is_that_of_the_longest_mount_point(path, kind):
    """Mount points are whole parts of a path; spaces in them are escaped."""
    assert kind == filesystem_of(Path(path), MOUNTS)


def test_a_network_file_system_is_refused():
    """Its locks cannot be relied on; the error names it."""
    with pytest.raises(LedgerUnavailable, match=r"network file system \(nfs4\).*put the ledger on a disk of this"):
        refuse_network(Path("/mnt/shared/spend.db"), MOUNTS)
    refuse_network(Path("/mnt/shared/local/spend.db"), MOUNTS)


async def test_a_file_in_place_of_the_folder(tmp_path):
    """The error says what to look at."""
    (tmp_path / "money").write_text("")
    message = await failure(tmp_path / "money" / "spend.db")
    assert "see that this user may read and write it and its folder" in message


async def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    """A disk that is not mounted must not look like a ledger in which nothing was spent."""
    message = await failure(tmp_path / "money" / "spend.db")
    assert f"there is no folder {tmp_path}/money; make it (mkdir -m 700), or mount its disk" in message
    assert not (tmp_path / "money").exists()


# --- which version it has -------------------------------------------------------------------------------


def test_an_older_file_is_brought_up_to_date(tmp_path):
    """A file of the first version passes the steps that came later, and keeps what it holds."""
    path = tmp_path / "spend.db"
    first = connect(path, "process", STEPS[:1])
    first.execute("INSERT INTO override VALUES ('org', 'day', 7)")
    first.close()
    later = connect(path, "process", (STEPS[0], "ALTER TABLE override ADD COLUMN note TEXT;", "CREATE TABLE more (a);"))
    assert 3 == version_of(later)
    assert [("org", "day", 7, None)] == later.execute("SELECT * FROM override").fetchall()
    assert [] == later.execute("SELECT * FROM more").fetchall()
    later.close()


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path):
    """All steps are one transaction."""
    path = tmp_path / "spend.db"
    connect(path, "process", STEPS[:1]).close()
    with pytest.raises(sqlite3.OperationalError):
        connect(path, "process", (STEPS[0], "CREATE TABLE more (a);", "this is no SQL;"))
    again = connect(path, "process", STEPS[:1])
    assert 1 == version_of(again)
    assert [] == again.execute("SELECT name FROM sqlite_schema WHERE name = 'more'").fetchall()
    again.close()


async def test_a_newer_file_is_refused_and_not_touched(tmp_path):
    """What a later version wrote is not understood."""
    path = tmp_path / "spend.db"
    connect(path, "process", (*STEPS, "CREATE TABLE more (a);")).close()
    assert (
        f"{path}: was written by a newer orrouter (version 2 of the file, this one knows 1); upgrade orrouter"
    ) == await failure(path)


def test_an_old_sqlite_is_refused():
    """Without STRICT tables nothing is opened."""
    refuse_old_sqlite(Path("spend.db"), (3, 37, 0))
    with pytest.raises(LedgerUnavailable, match=r"this Python carries SQLite 3\.36\.0, and the ledger needs 3\.37\.0"):
        refuse_old_sqlite(Path("spend.db"), (3, 36, 0))


async def test_the_file_is_set_up_as_the_theorem_needs(tmp_path):
    """WAL, no checkpoints of SQLite's own, no memory map, strict tables, sync as said."""
    for durable, level in (("process", 1), ("power", 2)):
        db = connect(tmp_path / "spend.db", durable)
        found = [
            db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "wal_autocheckpoint", "busy_timeout", "synchronous")
        ]
        assert ["wal", 0, 0, level] == found
        assert [] == [row for row in db.execute("PRAGMA mmap_size").fetchall() if row[0]]
        tables = db.execute("SELECT name, strict FROM pragma_table_list WHERE schema = 'main'").fetchall()
        assert set() == {name for name, strict in tables if not strict and not name.startswith("sqlite_")}
        db.close()


# --- what is wrong with it ------------------------------------------------------------------------------


async def test_the_database_of_another_program_is_refused_and_not_touched(tmp_path):
    """Its bytes are the same afterwards."""
    path = tmp_path / "spend.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (a)")
    path.chmod(0o600)
    before = path.read_bytes()
    assert f"{path}: is the database of another program; name another file" == await failure(path)
    assert before == path.read_bytes()


async def test_what_is_no_database_is_refused_and_not_touched(tmp_path):
    """A text file stays a text file."""
    path = tmp_path / "spend.db"
    path.write_text("version: 1\n" * 100)
    path.chmod(0o600)
    assert (
        f"{path}: file is not a database; it is no database; name another file, or put this one aside"
    ) == await failure(path)
    assert "version: 1\n" * 100 == path.read_text()


async def test_a_damaged_file_is_refused(tmp_path):
    """The check at the start finds it, and the error says how to get at what is left."""
    path = tmp_path / "spend.db"
    ledger = SqliteLedger(path, wall)
    for _ in range(200):
        one = hold(1)
        await ledger.reserve(one)
        ledger.settle(one.id, 1)
    await ledger.aclose()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\x5a" * (len(content) - 4096)
    path.write_bytes(content)
    message = await failure(path)
    assert "stop every process that uses it, put it aside, and bring back a copy" in message
