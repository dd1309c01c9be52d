"""Processes that share a ledger and die: no limit is passed, no hold is lost, the next admission recovers.

The long form, 2,000 deaths more: python -m pytest -m long tests/ledger/test_kill.py
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time

import pytest

from orrouter.ledger.base import Hold, new_hold_id
from orrouter.ledger.sqlite import SqliteLedger
from tests.ledger.nursery import Nursery, account

PLENTY, KILLS = 10**12, 200


async def charged(ledger: SqliteLedger, name: str, limit: int) -> tuple[int, int, int]:
    [balance] = await ledger.balances(account(name, limit))
    return balance.settled, balance.held, balance.suspense


async def test_after_a_kill_the_next_admission_recovers(tmp_path):
    """What a killed process held is in suspense as soon as another one is admitted, and stays charged."""
    path = tmp_path / "spend.db"
    with Nursery(path) as nursery:
        ledger = SqliteLedger(path, time.time)
        await ledger.open()
        child = nursery.bear("grip", limits={"org": 1000})
        while not nursery.spent:
            nursery.hear(1)
        await ledger.reserve(Hold(new_hold_id(), 1, (account("org", 1000),)))
        assert (0, 101, 0) == await charged(ledger, "org", 1000)
        owner = nursery.owners[child]
        nursery.kill(child)
        await ledger.reserve(Hold(new_hold_id(), 1, (account("org", 1000),)))
        assert [("hold_gripped", "suspense", "owner_gone", owner)] == [
            (entry.id, entry.state, entry.reason, entry.owner)
            for entry in await ledger.unsettled()
            if entry.owner != ledger.owner
        ]
        assert (0, 2, 100) == await charged(ledger, "org", 1000)
        assert [ledger.owner] == [file.name for file in (tmp_path / "spend.db-owners").iterdir()]
        await ledger.aclose()


async def test_a_ledger_that_is_opened_after_everybody_died_recovers(tmp_path):
    """Opening is enough; `recover` says how many holds there were."""
    path = tmp_path / "spend.db"
    with Nursery(path) as nursery:
        child = nursery.bear("grip", limits={"org": 1000})
        while not nursery.spent:
            nursery.hear(1)
        nursery.kill(child)
    ledger = SqliteLedger(path, time.time)
    assert 1 == await ledger.recover()
    assert 0 == await ledger.recover()
    assert (0, 0, 100) == await charged(ledger, "org", 1000)
    await ledger.aclose()


async def test_eight_processes_spend_a_limit_and_no_more(tmp_path):
    """400 tasks on one file: audits during it never see more than the limit, and in the end it is used up."""
    path, limit = tmp_path / "spend.db", 1_000_000
    auditor = SqliteLedger(path, time.time)
    with Nursery(path) as nursery:
        for seed in range(8):
            nursery.bear("spend", limits={"org": limit, "team": limit * 2}, seed=seed)
        while set(nursery.owners.values()) != {"done"}:
            nursery.hear(1)
            nursery.hear_all()
            sums = await charged(auditor, "org", limit)
            assert sum(nursery.spent.values()) <= sum(sums) <= limit
        settled, held, suspense = await charged(auditor, "org", limit)
        assert (0, 0) == (held, suspense)
        assert sum(nursery.spent.values()) == settled
        assert 0.95 * limit <= settled <= limit
        assert (settled, 0, 0) == await charged(auditor, "team", limit * 2)
    await auditor.aclose()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 11))])
async def test_kills_at_random_moments(tmp_path, seed):
    """After every `kill -9` the file is sound, what was sent is charged, and nothing is over a limit."""
    path, chance = tmp_path / "spend.db", random.Random(seed)
    auditor = SqliteLedger(path, time.time)
    with Nursery(path) as nursery:
        for number in range(KILLS):
            tight = f"team:{number // 20}"
            while len(nursery.owners) < 3:
                limits = {"org": PLENTY, tight: 100_000}
                nursery.bear("live", limits=limits, seed=f"{seed}.{number}.{len(nursery.owners)}")
            nursery.hear(chance.randint(1, 40))
            nursery.kill(chance.choice(list(nursery.owners)))
            nursery.hear_all()
            await audit(auditor, nursery, tight)
            if number % 50 == 49:
                await every_hold_is_there(auditor, nursery)
        for child in list(nursery.owners):
            nursery.kill(child)
        nursery.hear_all()
        await audit(auditor, nursery, tight)
        await every_hold_is_there(auditor, nursery)
    await auditor.aclose()


async def audit(auditor: SqliteLedger, nursery: Nursery, tight: str) -> None:
    """The theorem; and that no dead process holds anything after one admission."""
    true = nursery.settled + sum(nursery.spent.values())
    await auditor.reserve(Hold(new_hold_id(), 0, (account("org", PLENTY),)))
    assert true <= sum(await charged(auditor, "org", PLENTY)) <= PLENTY
    assert sum(await charged(auditor, tight, 100_000)) <= 100_000
    with contextlib.closing(sqlite3.connect(auditor.path)) as db:
        holders = {owner for (owner,) in db.execute("SELECT DISTINCT owner FROM hold WHERE state = 'held'")}
        assert set() == holders - {*nursery.owners.values(), auditor.owner}


async def every_hold_is_there(auditor: SqliteLedger, nursery: Nursery) -> None:
    """What was sent is settled at its cost, or still charged at its worst case; the sums are those of the statement."""
    sums = await charged(auditor, "org", PLENTY)
    lines = [line for line in await auditor.statement() if "org" in line.accounts]
    if not nursery.owners:
        assert sum(sums) == sum(line.cost + line.open for line in lines)
    with contextlib.closing(sqlite3.connect(auditor.path)) as db:
        assert [("ok",)] == db.execute("PRAGMA integrity_check").fetchall()
        kept = {id_: (state, cost) for id_, state, cost in db.execute("SELECT id, state, cost FROM hold")}
    states = {id_: kept.get(id_, ("lost", 0)) for id_ in nursery.spent}
    assert {} == {
        id_: found
        for id_, found in states.items()
        if found != ("settled", nursery.spent[id_]) and found[0] not in ("held", "suspense")
    }
    for id_, (state, _) in states.items():
        if state == "settled":  # Before the file forgets it.
            nursery.settled += nursery.spent.pop(id_)
