"""Virtual time: hours pass at once, in order, and a test that would hang says so."""

from __future__ import annotations

import asyncio
import threading

import pytest

from orrouter.testkit.clock import EPOCH, VirtualClock, VirtualLoop, run_virtual, virtual


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual
async def test_time_begins_at_nothing_and_passes_by_sleeping():
    """Exactly, and without any real wait."""
    times = [now()]
    for delay in (0.25, 3600, 86_400 * 400):
        await asyncio.sleep(delay)
        times.append(now())
    assert [0.0, 0.25, 3600.25, 34_563_600.25] == times


@virtual
async def test_sleepers_wake_in_the_order_of_their_instants():
    """Whatever the order they lay down in."""
    woken = []

    async def sleeper(delay: float) -> None:
        await asyncio.sleep(delay)
        woken.append((delay, now()))

    await asyncio.gather(*map(sleeper, (3, 1, 2)))
    assert [(1, 1.0), (2, 2.0), (3, 3.0)] == woken


@virtual
async def test_what_is_ready_comes_before_time_passes():
    """Time moves on only when nothing else is to be done."""
    turns = 0
    sleeper = asyncio.ensure_future(asyncio.sleep(1))
    while now() < 1.0 and turns < 100:
        await asyncio.sleep(0)
        turns += 1
    assert (100, 0.0) == (turns, now())
    await sleeper
    assert 1.0 == now()


@virtual
async def test_timeouts_of_the_standard_library_obey_it():
    """`asyncio.timeout` and `wait_for` cut at their instant."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await asyncio.sleep(100)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 40)
    assert 100.0 == now()


@virtual
async def test_a_timer_rings_at_its_instant_also_far_out():
    """Where a float has few digits left behind the point."""
    await asyncio.sleep(1e9)
    rings = []
    for number in range(10):
        asyncio.get_running_loop().call_later(0.1 + number * 1e-7, lambda: rings.append(now()))
    await asyncio.sleep(1)
    assert rings == sorted(rings)
    assert [] == [ring for ring in rings if not 1e9 + 0.0999 < ring < 1e9 + 0.1001]


@virtual
async def test_what_another_thread_posts_is_seen():
    """As a collector may do from anywhere."""
    loop, posted = asyncio.get_running_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(posted.set))
    thread.start()
    thread.join()
    await posted.wait()
    assert 0.0 == now()


def test_a_test_that_would_hang_says_so():
    """Everybody waits and nothing will ever happen."""
    with pytest.raises(RuntimeError, match="would hang for ever"):
        run_virtual(_forever())


async def _forever() -> None:
    await asyncio.Event().wait()


def test_what_is_still_running_is_cancelled_and_cleaned_up():
    """As `asyncio.run` does it: no task and no generator is left behind."""
    ends = []

    async def lingers() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            ends.append("task")

    async def gives():
        try:
            yield 1
            yield 2
        finally:
            ends.append("generator")

    async def main() -> str:
        asyncio.get_running_loop().lingers = asyncio.create_task(lingers())
        numbers = gives()
        asyncio.get_running_loop().numbers = numbers
        await anext(numbers)
        await asyncio.sleep(0)
        return "done"

    assert "done" == run_virtual(main())
    assert ["generator", "task"] == sorted(ends)


def test_the_result_and_the_error_of_the_coroutine_come_out():
    """And afterwards there is no loop left set."""

    async def fails() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        run_virtual(fails())
    assert 3 == run_virtual(asyncio.sleep(5, 3))
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_a_loop_of_ones_own_may_be_given():
    """One that counts its turns, say; it is closed afterwards."""
    loop = VirtualLoop()
    assert 7 == run_virtual(asyncio.sleep(2, 7), loop)
    assert (2.0, True) == (loop.time(), loop.is_closed())


def test_a_virtual_test_is_given_its_arguments():
    """So that fixtures and parameters reach it, under its own name."""

    @virtual
    async def doubled(number: int, *, add: int) -> int:
        """Its sentence."""
        await asyncio.sleep(1)
        return 2 * number + add

    assert (7, "doubled", "Its sentence.") == (doubled(3, add=1), doubled.__name__, doubled.__doc__)


@virtual
async def test_the_clock_for_a_world():
    """It sleeps in virtual time, and its wall clock runs along from a known Monday."""
    clock = VirtualClock()
    await clock.sleep(90)
    assert (90.0, EPOCH + 90, 5090.0) == (clock.now(), clock.wall(), VirtualClock(5000.0).wall())
