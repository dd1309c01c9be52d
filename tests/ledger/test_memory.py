"""memory://: what only this store does. Everything else it shares with the others, in the contract."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from orrouter.core.errors import BudgetExceeded
from orrouter.core.limit import Account
from orrouter.ledger.base import Hold, new_hold_id
from orrouter.ledger.memory import RECENT, MemoryLedger

NOON = 1_795_262_400.0  # 2026-11-21 12:00 UTC
DAY = 86_400.0
ACCOUNTS = tuple(Account(name, (("day", 10**15),), soft=(0.5,)) for name in ("key:a", "team:b", "org"))


class Wall:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.at = NOON

    def __call__(self) -> float:
        return self.at


def hold(name: str, amount: int = 10, accounts: tuple[Account, ...] = ACCOUNTS) -> Hold:
    return Hold(name, amount, accounts, "openrouter", "key", "model")


async def settled(ledger: MemoryLedger, wall: Wall, rounds: int) -> int:
    """Let so many holds come and go, some released, some in suspense for a while; how many bytes are in use then."""
    for _ in range(rounds):
        wall.at += 0.01
        name = new_hold_id()
        await ledger.reserve(hold(name))
        if name.endswith("00"):
            ledger.suspend(name, "left")
        if name.endswith("f"):
            ledger.release(name)
        ledger.settle(name, 7, provider="azure")
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def grown(rounds: int) -> int:
    """By how many bytes a ledger has grown over so many holds, once it has seen a few."""
    wall = Wall()
    ledger = MemoryLedger(wall)
    tracemalloc.start(1)
    try:
        before = await settled(ledger, wall, 4 * RECENT)
        return await settled(ledger, wall, rounds) - before
    finally:
        tracemalloc.stop()


async def test_ten_thousand_holds_take_no_more_room_than_a_few():
    """What is settled is added up and forgotten: less than 3 bytes are left of each."""
    assert 30_000 > await grown(10_000)


@pytest.mark.long
async def test_a_million_holds_take_no_more_room_than_a_few():
    """The same over hours of the statement."""
    assert 100_000 > await grown(1_000_000)


async def test_users_who_come_and_go_are_let_go_of():
    """Each with an account of his own, day after day: the memory holds a few days' users and not all there ever were."""
    wall = Wall()
    ledger = MemoryLedger(wall, retention_s=DAY)
    sizes = []
    for day in range(12):
        wall.at = NOON + day * DAY
        for user in range(200):
            name = f"user:{day}:{user}"
            await ledger.reserve(hold(name, 10, (Account(name, (("day", 100),)),)))
            ledger.settle(name, 7)
        sizes.append((len(ledger._book.kept), len(ledger._book._standings), len(ledger._statement)))
    assert max(sizes[-4:]) <= (600, 600, 400)


async def test_a_hold_that_is_over_is_not_open_whatever_is_said_of_it():
    """A second word, or the same reserve again, does not bring it back among what is held."""
    ledger = MemoryLedger(Wall())
    await ledger.reserve(hold("a"))
    ledger.settle("a", 7)
    ledger.settle("a", 9)
    ledger.identify("a", "gen-1")
    ledger.adjust("a", 7, provenance="reconciled")
    ledger.suspend("a", "left")
    assert () == await ledger.reserve(hold("a"))
    assert [] == await ledger.unsettled()
    assert [(1, 7, 0)] == [(line.tries, line.cost, line.open) for line in await ledger.statement()]


async def test_a_correction_of_a_hold_that_is_forgotten_changes_nothing():
    """Only so many of the last are remembered, and nothing is corrected by half."""
    ledger = MemoryLedger(Wall())
    for number in range(2 * RECENT + 1):
        await ledger.reserve(hold(str(number)))
        ledger.settle(str(number), 1)
    ledger.adjust("0", 1000, provenance="reconciled")
    ledger.adjust(str(2 * RECENT), 1000, provenance="reconciled")
    (balance, *_) = await ledger.balances(ACCOUNTS[0])
    assert 2 * RECENT + 1000 == balance.settled == sum(line.cost for line in await ledger.statement())


async def test_what_is_told_of_open_holds_is_a_copy():
    """Who looks at the list cannot change a hold."""
    ledger = MemoryLedger(Wall())
    await ledger.reserve(hold("a"))
    (entry,) = await ledger.unsettled()
    entry.state = "released"
    ledger.settle("a", 7)
    assert [7] == [line.cost for line in await ledger.statement()]


async def test_fifty_at_once_on_room_for_five():
    """Exactly five are admitted."""
    ledger, account = MemoryLedger(Wall()), Account("org", (("day", 59),))
    admitted = 0
    for number in range(50):
        try:
            await ledger.reserve(hold(str(number), 10, (account,)))
        except BudgetExceeded:
            continue
        admitted += 1
    assert 5 == admitted


async def test_a_clock_that_is_set_back_is_told_once_each_time():
    """As by a ledger in a file; a few seconds are no news."""
    wall, told = Wall(), []
    ledger = MemoryLedger(wall, tell=told.append)
    for at in (0, -4, -DAY, -DAY, 0, -DAY):
        wall.at = NOON + at
        await ledger.reserve(hold(new_hold_id(), 1))
    assert 2 == len(told)
    assert told[0].startswith("memory://: the clock of this machine was set back by 1d; until it is past")


async def test_a_clock_that_was_in_the_future_can_be_reset():
    """The windows of now are in force again, with what they held; what has ended has ended by now."""
    wall = Wall()
    ledger = MemoryLedger(wall)
    account = Account("org", (("day", 100),))
    await ledger.reserve(hold("now", 60, (account,)))
    wall.at += 400 * DAY
    await ledger.reserve(hold("then", 100, (account,)))
    ledger.suspend("then", "left")
    wall.at -= 400 * DAY
    assert (NOON + 400 * DAY, NOON) == await ledger.reset_clock()
    assert () == await ledger.reserve(hold("again", 40, (account,)))
    with pytest.raises(BudgetExceeded):
        await ledger.reserve(hold("more", 1, (account,)))
    assert [None, NOON, None] == [entry.ended for entry in await ledger.unsettled()]
    [balance] = await ledger.balances(Account("org", (("month", 1000),)))
    assert 100 == balance.held + balance.suspense
