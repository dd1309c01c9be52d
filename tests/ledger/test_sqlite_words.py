"""Words that no store can hold: each concerns whoever said it, and nobody else."""

from __future__ import annotations

import asyncio

import pytest

from orrouter.core.errors import LedgerUnavailable, Refused
from orrouter.core.limit import MOST, Account
from orrouter.ledger.base import Hold, new_hold_id
from orrouter.ledger.journal import lines_of, words_in
from orrouter.ledger.sqlite import SqliteLedger

NOON = 1_800_014_400.0
TEAM = Account("team:search", (("lifetime", 1000),))
FREE = Account("free", ())
LONE = "\ud800"
"""Half of a character: no text that could be encoded."""


def wall() -> float:
    return NOON


@pytest.fixture
def path(tmp_path):
    return tmp_path / "spend.db"


@pytest.fixture
def told():
    return []


@pytest.fixture
async def ledger(path, told):
    ledger = SqliteLedger(path, wall, tell=told.append)
    yield ledger
    await ledger.aclose()


def hold(amount=100, accounts=(TEAM,), **rest) -> Hold:
    return Hold(new_hold_id(), amount, accounts, **rest)


async def sums(ledger) -> tuple[int, int, int]:
    [balance] = await ledger.balances(TEAM)
    return balance.settled, balance.held, balance.suspense


async def states(ledger) -> dict[str, tuple[str, str]]:
    return {entry.id: (entry.state, entry.reason) for entry in await ledger.unsettled()}


@pytest.mark.parametrize(
    "bad",
    [
        hold(upstream=LONE), hold(model=LONE), hold(accounts=(Account(LONE, (("day", 1000),)),)),
        hold(2**70, (FREE,)), hold(upstream=["no text"]), hold("100"), hold(1.5),
    ],
)  # fmt: skip
async def test_a_hold_that_cannot_be_written_fails_alone(ledger, bad):
    """Those who ask in the same turn are admitted, and nothing of the bad one is left."""
    await ledger.open()
    fresh = Account("another", (("day", 1000),))
    asked = [hold(1), bad, hold(2, (TEAM, fresh)), hold(4)]
    outcomes = await asyncio.gather(*map(ledger.reserve, asked), return_exceptions=True)
    assert [(), Refused, (), ()] == [type(one) if isinstance(one, Exception) else one for one in outcomes]
    assert "admit cannot be written" in str(outcomes[1])
    assert (0, 7, 0) == await sums(ledger)
    assert {asked[0].id, asked[2].id, asked[3].id} == set(await states(ledger))
    assert "" == ledger.problem


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("word", [{"provider": LONE}, {"model": LONE}, {"model": 7.5j}])
async def test_a_word_that_cannot_be_written_is_told_and_never_tried_again(ledger, told, word, first):
    """Its hold stays charged at its worst case and may be reconciled; the others' words are written."""
    good, bad = hold(100), hold(30)
    for one in (good, bad):
        await ledger.reserve(one)
    for one in (bad, good) if first else (good, bad):
        ledger.settle(one.id, 10, **(word if one is bad else {}))
    await ledger.reserve(hold(5))
    assert (0, "") == (ledger.pending, ledger.problem)
    assert (10, 5, 30) == await sums(ledger)
    assert ("suspense", "unwritable") == (await states(ledger))[bad.id]
    [sentence] = told
    assert f"settle of '{bad.id}' cannot be written and is dropped" in sentence
    ledger.settle(bad.id, 20, provenance="reconciled")
    assert (30, 5, 0) == await sums(ledger)


async def test_a_name_that_cannot_be_written_leaves_its_hold_held(ledger, told):
    """Its end is still to come."""
    one = hold(100)
    await ledger.reserve(one)
    ledger.identify(one.id, LONE)
    await ledger.flush()
    assert {one.id: ("held", "")} == await states(ledger)
    assert 1 == len(told)
    ledger.settle(one.id, 7)
    assert (7, 0, 0) == await sums(ledger)


@pytest.mark.parametrize(("name", "provider"), [(LONE, "azure"), ("gen-1", LONE)])
async def test_of_a_name_and_a_cost_told_at_once_the_good_one_counts(ledger, told, name, provider):
    """They are written together; where one of them cannot be, the other still is."""
    one = hold(100)
    await ledger.reserve(one)
    ledger.identify(one.id, name)
    ledger.settle(one.id, 7, provider=provider)
    await ledger.flush()
    assert 1 == len(told)
    assert ((7, 0, 0) if name == LONE else (0, 0, 100)) == await sums(ledger)
    assert ([] if name == LONE else ["gen-1"]) == [entry.generation_id for entry in await ledger.unsettled()]


async def test_a_reason_that_cannot_be_written_is_another(ledger, told):
    """The hold is in suspense all the same."""
    one = hold(100)
    await ledger.reserve(one)
    ledger.suspend(one.id, LONE)
    assert {one.id: ("suspense", "unwritable")} == await states(ledger)
    assert 1 == len(told)


async def test_news_that_nobody_can_bear_spoil_no_turn(path):
    """Whoever is told raises; the ledger goes on."""

    def tell(sentence: str) -> None:
        raise RuntimeError(sentence)

    ledger = SqliteLedger(path, wall, tell=tell)
    one = hold(100)
    await ledger.reserve(one)
    ledger.settle(LONE, 1)
    ledger.settle(one.id, 60)
    assert (60, 0, 0) == await sums(ledger)
    await ledger.aclose()


async def test_sums_end_at_64_bits(ledger, told):
    """A cost that would take a window beyond them is told; the window stays as it was, and a new one is full."""
    posted = [hold(0) for _ in range(3)]
    for one in posted:
        ledger.post(one, MOST)
        await ledger.flush()
    assert (MOST, 0, 0) == await sums(ledger)
    assert 2 == len(told)
    for at, one in enumerate(posted):
        ledger.post(Hold(f"hold_{at}", 0, (FREE,), model=one.id), MOST)
    await ledger.flush()
    [balance] = await ledger.balances(Account("free", (("lifetime", 1000),)))
    assert (MOST, 1000 - MOST) == (balance.settled, balance.remaining)


async def test_other_owners_words_are_still_heeded_after_a_bad_one(path, ledger):
    """A hold of another ledger is settled in the turn of the bad word: its owner sees that."""
    other = SqliteLedger(path, wall)
    theirs = hold(100)
    await other.reserve(theirs)
    await ledger.open()
    ledger.settle(theirs.id, 60)
    ledger.suspend(LONE, "left")
    ledger.post(hold(0), 1)
    await ledger.flush()
    other.settle(theirs.id, 99)
    assert (61, 0, 0) == await sums(other)
    await other.aclose()


# --- words of the dead ----------------------------------------------------------------------------------


async def test_a_line_of_a_dead_owner_that_cannot_be_said_is_told_and_blocks_nothing(path, told):
    """The others are said again, and the file opens."""
    dead = SqliteLedger(path, wall)
    paid, lost = hold(100), hold(40)
    for one in (paid, lost):
        await dead.reserve(one)
    words = [
        ("settle", (lost.id, 1, "billed", LONE, "")), ("settle", (lost.id, 2**70, "billed", "", "")),
        ("settle", (lost.id, "x", "billed", "", "")), ("settle", (lost.id, 1.5, "billed", "", "")),
        ("release", (lost.id, "too", "much")), ("settle", ({}, 1, "billed", "", "")), ("identify", (7, 7)),
        ("settle", (paid.id, 60, "billed", "P", "a/b")),
    ]  # fmt: skip
    dead._store.session.owners.note(lines_of(words))
    dead._store.session.owners.leave(remove=False)  # As when the process dies: the lock ends, the file stays.
    heir = SqliteLedger(path, wall, tell=told.append)
    await heir.open()
    assert (60, 0, 40) == await sums(heir)
    assert {lost.id: ("suspense", "owner_gone")} == await states(heir)
    assert 6 == len(told)
    assert [] == [file.name for file in (path.parent / "spend.db-owners").iterdir() if file.name != heir.owner]
    await heir.aclose()


def test_a_word_that_json_cannot_say_is_left_out_of_the_journal():
    """The others stand."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    content = lines_of([("settle", ("h", object())), ("release", ("h",)), ("settle", (deep,))])
    assert [("release", ("h",))] == words_in(content)
    assert [("release", ("h",))] == words_in(b"[" * 100_000 + b"\n" + content)


async def test_a_store_that_fails_drops_no_word(path, told, ledger):
    """A database that may not be written says nothing about its words: they are kept, and written later."""
    one = hold(100)
    await ledger.reserve(one)
    ledger._store.session._db.execute("PRAGMA query_only = ON")
    ledger.settle(one.id, 60)
    ledger.settle(LONE, 60)
    with pytest.raises(LedgerUnavailable):
        await ledger.reserve(hold(1))
    assert (2, []) == (ledger.pending, told)
    assert (60, 0, 0) == await sums(ledger)
    assert 1 == len(told)
