"""What is asked of a store and told to it: in order, together, and again until it is done."""

from __future__ import annotations

import asyncio

import pytest

from orrouter.core.errors import BudgetExceeded, LedgerUnavailable
from orrouter.ledger.base import Hold
from orrouter.ledger.turns import BATCH, Busy, Turns

ONE = Hold("hold_1", 1, ())


class Script:
    """A store that fails as it is told, and keeps what was done in each turn."""

    def __init__(self, *failures):
        self.failures = list(failures)
        self.turns: list[list[str]] = []
        self.noted: list[str] = []
        self.struck = 0
        self.shared = False
        self.tries = 0

    def run(self, ops):
        self.tries += 1
        if self.failures:
            failure = self.failures.pop(0)
            if failure is not None:
                raise failure
        for op in ops:
            op.outcome = op.args[0] if op.args and isinstance(op.args[0], Exception) else op.name
            op.fresh = op.name == "admit"
        self.turns.append([op.name for op in ops])

    def note(self, ops):
        self.noted += [op.name for op in ops]

    def strike(self):
        self.struck += 1


async def until(true) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0)


async def test_what_many_ask_at_once_is_one_turn():
    """The first of them is served at once, the others together."""
    store = Script()
    turns = Turns(store)
    await asyncio.gather(*(turns.ask("admit", ONE) for _ in range(20)))
    assert [["admit"], ["admit"] * 19] == store.turns
    await asyncio.gather(*(turns.ask("admit", ONE) for _ in range(20)))
    assert ["admit"] * 20 == store.turns[-1]


async def test_who_is_alone_is_answered_without_waiting():
    """It costs no turn of the loop, unless it is the second in one."""
    store = Script()
    turns = Turns(store)
    alone, second = turns.ask("admit", ONE), turns.ask("admit", ONE)
    with pytest.raises(StopIteration):
        alone.send(None)
    assert not second.send(None).done()
    assert [["admit"]] == store.turns
    second.close()


async def test_only_the_word_told_last_is_taken_back():
    """And only where it is about the same, and nothing was written down elsewhere."""
    turns = Turns(Script())
    turns.say("identify", "hold_1", "gen-1")
    assert None is turns.unsay("identify", "hold_2")
    turns.say("identify", "hold_2", "gen-2")
    assert [None, "gen-2"] == [turns.unsay("identify", "hold_1"), turns.unsay("identify", "hold_2")]
    assert ("gen-1", 0) == (turns.unsay("identify", "hold_1"), len(turns))


async def test_what_was_told_rides_along_in_order():
    """A word waits for the next who asks, and goes before him."""
    store = Script()
    turns = Turns(store)
    await turns.ask("admit", ONE)
    turns.say("settle")
    turns.say("release")
    assert 2 == len(turns)
    await turns.ask("balances")
    assert [["admit"], ["settle", "release", "balances"]] == store.turns


async def test_what_was_told_is_written_soon_when_nobody_asks():
    """A word makes a turn of its own after a moment."""
    store = Script()
    turns = Turns(store)
    await turns.ask("nothing")
    turns.say("settle")
    await until(lambda: not len(turns))
    assert [["nothing"], ["settle"]] == store.turns


async def test_a_busy_store_is_asked_again():
    """Whoever asks sees nothing of it."""
    store = Script(Busy(), Busy(), Busy())
    assert "balances" == await Turns(store).ask("balances")
    assert 4 == store.tries


async def test_a_store_that_stays_busy_fails_what_is_asked_and_keeps_what_is_told():
    """After the patience; and the words are written when it is free."""
    store = Script(*[Busy()] * 1000)
    turns = Turns(store, patience=0.02)
    turns.say("settle")
    with pytest.raises(LedgerUnavailable, match=r"for more than 0\.02 seconds"):
        await turns.ask("admit", ONE)
    assert (1, []) == (len(turns), store.turns)
    store.failures.clear()
    await until(lambda: not len(turns))
    assert [["settle"]] == store.turns


async def test_a_store_that_fails_is_tried_again_with_what_was_told():
    """What was asked fails, each with an error of its own; words are noted once, and struck out when written."""
    store = Script(None, LedgerUnavailable("full"), LedgerUnavailable("still full"))
    turns = Turns(store)
    await turns.ask("nothing")
    turns.say("settle")
    turns.say("post")
    one, two = await asyncio.gather(turns.ask("admit", ONE), turns.ask("admit", ONE), return_exceptions=True)
    assert ["full", "still full"] == [one.message, two.message]
    assert turns.problem is not None
    assert (["settle", "post"], 0) == (store.noted, store.struck)
    await until(lambda: not len(turns))
    assert [["nothing"], ["settle", "post"]] == store.turns
    assert (["settle", "post"], 1, None) == (store.noted, store.struck, turns.problem)


async def test_an_error_that_an_operation_returns_is_raised_to_who_asked():
    """And to nobody else."""
    with pytest.raises(BudgetExceeded):
        await Turns(Script()).ask("balances", BudgetExceeded("no room"))


async def test_more_than_a_batch_takes_several_turns():
    """So that a long spool does not stop the loop."""
    store = Script()
    turns = Turns(store)
    await turns.ask("nothing")
    for _ in range(2 * BATCH):
        turns.say("settle")
    await turns.ask("nothing")
    assert [1, BATCH, BATCH, 1] == [len(turn) for turn in store.turns]


async def test_a_hold_that_was_made_for_somebody_who_left_is_released():
    """He was cancelled between the turn and his waking up."""
    store = Script()
    turns = Turns(store)
    first, second = (asyncio.create_task(turns.ask("admit", ONE)) for _ in range(2))
    while len(store.turns) < 2:
        await asyncio.sleep(0)
    second.cancel()
    assert ["admit"] == await asyncio.gather(first)
    with pytest.raises(asyncio.CancelledError):
        await second
    await until(lambda: not len(turns))
    assert ["release"] == store.turns[-1]


def test_another_loop_goes_on_with_the_words_of_the_first():
    """Who waited in a loop that has ended waits no more; what was told is written."""
    store = Script(*[Busy()] * 3)
    turns = Turns(store)

    async def leave() -> None:
        task = asyncio.create_task(turns.ask("admit", ONE))
        await asyncio.sleep(0)
        turns.say("settle")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())
    store.failures.clear()
    asyncio.run(turns.ask("balances"))
    assert [["settle", "balances"]] == store.turns
