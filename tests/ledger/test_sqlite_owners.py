"""Who holds is known by a lock that dies with its process; a forked child has no part in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from orrouter.core.limit import Account
from orrouter.ledger.base import Hold, new_hold_id
from orrouter.ledger.filelock import FileLock
from orrouter.ledger.journal import lines_of, words_in
from orrouter.ledger.owners import Owners
from orrouter.ledger.sqlite import SqliteLedger

ROOT = Path(__file__).resolve().parents[2]
TEAM = Account("team:search", (("lifetime", 1000), ("day", 900)), "Europe/Berlin", (0.5,))


def wall() -> float:
    return 1_800_014_400.0


def hold(amount=100) -> Hold:
    return Hold(new_hold_id(), amount, (TEAM,), "openrouter", "main", "a/b", "req-1", streamed=True)


def in_a_child(work) -> str:
    """What a forked child says; it ends without cleaning up after its parent."""
    near, far = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(far, work().encode())
        except BaseException as error:
            os.write(far, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(far)
    os.waitpid(child, 0)
    said = os.read(near, 65536).decode()
    os.close(near)
    return said


def test_a_lock_is_taken_by_one(tmp_path):
    """A second one finds it taken until it is free."""
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.take()
    assert not second.take()
    first.free()
    assert second.take()
    second.close()
    assert first.take()
    first.close()


def test_a_child_that_ends_does_not_unlock_what_its_parent_locked(tmp_path):
    """The lock is the parent's, as long as that lives."""
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.take()
    assert "False" == in_a_child(lambda: str(second.take()))
    assert not second.take()
    first.close()
    second.close()


def test_a_child_keeps_no_lock_of_a_parent_that_has_gone(tmp_path):
    """The child closed what it inherited, so the lock ends with the parent's own descriptor."""
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.take()
    wait, go = os.pipe()
    ready, born = os.pipe()
    child = os.fork()
    if not child:
        os.write(born, b"x")
        os.read(wait, 1)
        os._exit(0)
    os.read(ready, 1)
    first.close()
    taken = second.take()
    os.write(go, b"x")
    os.waitpid(child, 0)
    for end in (wait, go, ready, born):
        os.close(end)
    second.close()
    assert taken


def test_an_owner_is_gone_when_its_lock_ends(tmp_path):
    """Those who live are never taken for gone; a buried one is not seen again."""
    one, other, third = (Owners(tmp_path / "owners") for _ in range(3))
    for owners in (one, other, third):
        owners.enter()
    one.look()
    assert [] == one.gone()
    name = other.me
    other.leave(remove=False)
    assert [name] == one.gone()
    one.spare([name])
    third.look()
    assert [name] == third.gone()
    third.bury([name])
    one.look()
    assert [] == one.gone()
    assert {one.me, third.me} == {file.name for file in (tmp_path / "owners").iterdir()}
    one.leave(remove=True)
    third.leave(remove=True)


async def test_two_ledgers_of_one_process_are_two_owners(tmp_path):
    """What one leaves behind, the other finds; what both hold is kept apart."""
    first, second = (SqliteLedger(tmp_path / "spend.db", wall) for _ in range(2))
    mine, yours = hold(), hold()
    await first.reserve(mine)
    await second.reserve(yours)
    assert {mine.id: first.owner, yours.id: second.owner} == {one.id: one.owner for one in await first.unsettled()}
    assert 0 == await second.recover()
    first._store.session.owners.leave(remove=False)
    assert 1 == await second.recover()
    assert [(mine.id, "owner_gone")] == [
        (one.id, one.reason) for one in await second.unsettled() if one.state == "suspense"
    ]
    await second.aclose()
    await first.aclose()


async def test_a_living_owner_may_settle_what_was_taken_for_lost(tmp_path):
    """Its file was removed by somebody: its holds are in suspense, and it still tells their costs."""
    first, second = (SqliteLedger(tmp_path / "spend.db", wall) for _ in range(2))
    one = hold()
    await first.reserve(one)
    (tmp_path / "spend.db-owners" / first.owner).unlink()
    await second.open()
    assert ["owner_gone"] == [entry.reason for entry in await second.unsettled()]
    first.release(one.id)
    assert ["suspense"] == [entry.state for entry in await first.unsettled()]
    first.settle(one.id, 70)
    await first.flush()
    assert [70] == [line.cost for line in await second.statement()]
    await first.aclose()
    await second.aclose()


async def test_a_forked_child_may_not_use_the_ledger(tmp_path):
    """Every word is refused with what to do instead; the parent goes on, and its holds stay its own."""
    ledger = SqliteLedger(tmp_path / "spend.db", wall)
    one = hold()
    await ledger.reserve(one)
    said = in_a_child(lambda: str(ledger.settle(one.id, 1)))
    assert "LedgerUnavailable: ledger_unavailable" in said
    assert "make the Router in the child, after the fork" in said
    assert "None" == in_a_child(lambda: str(_run_to_its_end(ledger.aclose())))
    assert [(one.id, "held")] == [(entry.id, entry.state) for entry in await ledger.unsettled()]
    await ledger.aclose()


async def test_a_forked_child_may_not_reserve(tmp_path):
    """Also not in a loop of its own."""
    ledger = SqliteLedger(tmp_path / "spend.db", wall)
    await ledger.reserve(hold())
    said = in_a_child(lambda: str(_run_to_its_end(ledger.reserve(hold()))))
    assert "this ledger was opened before the process forked" in said
    assert 1 == len(await ledger.unsettled())
    await ledger.aclose()


def _run_to_its_end(coroutine):
    """Run what never has to wait, without a loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


def test_where_there_is_no_flock_the_error_says_so(tmp_path):
    """As on Windows: nothing is opened."""
    program = (
        "import sys, time; sys.modules['fcntl'] = None\n"
        "from pathlib import Path\n"
        "from orrouter.ledger.open import open_ledger\n"
        "try: open_ledger('sqlite:///spend.db', wall=time.time, base=Path('/nowhere'))\n"
        "except Exception as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "this system has no flock, by which the processes that share a ledger keep apart" in said


def test_a_journal_says_what_was_said():
    """Every word comes back as it was, a hold with its accounts; a torn or foreign line is left out."""
    words = [
        ("settle", ("hold_1", 60, "billed", "P", "a/b")),
        ("suspend", ("hold_2", "left")),
        ("release", ("hold_3",)),
        ("identify", ("hold_4", "gen-ü\n")),
        ("adjust", ("hold_5", 1, "reconciled")),
        ("post", (hold(), 7)),
    ]
    content = lines_of(words)
    assert words == words_in(content)
    assert words[:-1] == words_in(content[:-9])
    assert [] == words_in(b'["leave"]\n{"a": 1}\nnonsense\n\n[]\n7\n')
