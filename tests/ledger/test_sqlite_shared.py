"""Two ledgers on one file, used in turns: together they are one ledger in memory."""

from __future__ import annotations

import random

import pytest

from orrouter.core.errors import BudgetExceeded
from orrouter.core.limit import Account
from orrouter.ledger.base import Hold
from orrouter.ledger.memory import MemoryLedger
from orrouter.ledger.sqlite import SqliteLedger

NOON = 1_800_014_400.0
ORG = Account("org", (("day", 600),), soft=(0.5, 0.8))
LATER = Account("org", (("day", 600), ("hour", 300), ("lifetime", 5000)), soft=(0.5, 0.8))
TEAM = Account("team", (("hour", 200), ("month", 2000)), zone="Asia/Tokyo")
PAYERS = ((ORG,), (TEAM, ORG), (TEAM,), (LATER,), (TEAM, LATER))


class Wall:
    now = NOON

    def __call__(self) -> float:
        return self.now


async def outcome(awaited) -> object:
    try:
        return await awaited
    except BudgetExceeded as error:
        return error.account, error.period, error.remaining


async def state(ledger) -> object:
    """Everything that can be asked."""
    return (
        [sorted(map(repr, await ledger.balances(account))) for account in (ORG, LATER, TEAM)],
        [
            (entry.id, entry.state, entry.amount, entry.reason, entry.generation_id)
            for entry in await ledger.unsettled()
        ],
        await ledger.statement(),
    )


@pytest.mark.parametrize("seed", range(12))
async def test_two_in_turns_are_as_one_in_memory(tmp_path, seed):
    """The same words, each said to one of the two: the same answers, and the same state after every few."""
    chance, wall = random.Random(seed), Wall()
    memory = MemoryLedger(wall)
    pair = [SqliteLedger(tmp_path / "spend.db", wall) for _ in range(2)]
    ids: dict[str, float] = {}
    for step in range(120):
        one, what = chance.choice(pair), chance.random()
        # A hold that is over is forgotten after a day.
        hold = chance.choice([id_ for id_, at in ids.items() if wall.now - at < 80_000] or ["nobody"])
        if what < 0.4:
            asked = Hold(f"hold_{step}", chance.randint(0, 90), chance.choice(PAYERS), "openrouter", "main", "a/b")
            expected = await outcome(memory.reserve(asked))
            assert expected == await outcome(one.reserve(asked))
            ids[asked.id] = wall.now
        elif what < 0.8:
            word = chance.choice(("settle", "suspend", "release", "identify", "adjust", "post"))
            cost = chance.randint(0, 100)
            posted = Hold(f"hold_p{step}", 0, chance.choice(PAYERS), "openrouter", "main", "a/b")
            for ledger in (memory, one):
                {
                    "settle": lambda ledger: ledger.settle(hold, cost, provider="P", model="a/b:exact"),
                    "suspend": lambda ledger: ledger.suspend(hold, "left"),
                    "release": lambda ledger: ledger.release(hold),
                    "identify": lambda ledger: ledger.identify(hold, f"gen-{hold}"),
                    "adjust": lambda ledger: ledger.adjust(hold, cost, provenance="reconciled"),
                    "post": lambda ledger: ledger.post(posted, cost),
                }[word](ledger)
            await one.flush()
        elif what < 0.9:
            limit = chance.choice((None, 150, 400, 10_000))
            period = chance.choice(("hour", "day"))
            for ledger in (memory, one):
                await ledger.set_limit("org", period, limit)
        else:
            wall.now += chance.choice((60, 1800, 3600, 40_000, -600))
            for ledger in (memory, one):
                await ledger.balances(ORG)  # Each has seen that time.
        if step % 5 == 0:
            assert await state(memory) == await state(chance.choice(pair))
    for ledger in pair:
        assert await state(memory) == await state(ledger)
    while pair:
        await pair.pop().aclose()
