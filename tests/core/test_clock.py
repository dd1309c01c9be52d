"""The knife that ends a wait: it cuts in time, is never taken for a cancel, and never takes a cancel for itself."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress

import pytest

from orrouter.core.clock import KEPT, Cut, Cuts, LoopClock
from orrouter.testkit.clock import run_virtual, virtual


class Late(Exception):
    """The error of a cut."""


class Later(Exception):
    """The error of another."""


def cut_here() -> Cut:
    return Cut(asyncio.get_running_loop())


def now() -> float:
    return asyncio.get_running_loop().time()


def left_on_task() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def waits(cut: Cut, instant: float | None, seconds: float) -> float:
    """Sleep under a cut; returns when it was over."""
    with cut.at(instant, Late):
        await asyncio.sleep(seconds)
    return now()


@virtual
async def test_a_wait_that_is_over_in_time_is_left_alone():
    """The knife does nothing before its instant."""
    assert 1.0 == await waits(cut_here(), 2.0, 1.0)
    assert 0 == left_on_task()


@virtual
async def test_a_wait_that_takes_too_long_is_cut_at_the_instant():
    """It fails with the error told, at the time told, and no cancel stays on the task."""
    with pytest.raises(Late):
        await waits(cut_here(), 2.0, 3.0)
    assert (2.0, 0) == (now(), left_on_task())


@virtual
async def test_an_instant_that_has_passed_cuts_at_once():
    """At the first real wait, without letting time pass."""
    with pytest.raises(Late):
        await waits(cut_here(), -1.0, 3.0)
    assert 0.0 == now()


@virtual
async def test_none_never_cuts():
    """No instant, no end."""
    assert 1e6 == await waits(cut_here(), None, 1e6)


@virtual
async def test_what_does_not_wait_is_not_cut():
    """A block that never gives way runs through, and leaves no cancel to strike the next wait."""
    cut = cut_here()
    with cut.at(-1.0, Late):
        done = True
    await asyncio.sleep(1)
    assert (True, 0) == (done, left_on_task())


@virtual
async def test_the_error_of_a_cut_shows_no_cancel():
    """Who reads the error is not led to a CancelledError that nobody asked for."""
    with pytest.raises(Late) as caught:
        await waits(cut_here(), 1.0, 3.0)
    assert (None, True) == (caught.value.__cause__, caught.value.__suppress_context__)


@virtual
async def test_the_error_of_a_cut_does_not_hold_its_task():
    """An error is kept for the record; the task with everything in its frames must not be."""
    with pytest.raises(Late) as caught:
        await waits(cut_here(), 1.0, 3.0)
    frames, at = [], caught.value.__traceback__
    while at is not None:
        frames.append(at.tb_frame)
        at = at.tb_next
    assert [] == [frame for frame in frames if any(isinstance(one, asyncio.Task) for one in frame.f_locals.values())]


@virtual
async def test_another_error_inside_passes_as_it_is():
    """The knife translates nothing but its own cut."""
    with pytest.raises(ZeroDivisionError):
        with cut_here().at(5.0, Late):
            await asyncio.sleep(1)
            1 / 0  # noqa: B018
    assert 0 == left_on_task()


@virtual
async def test_a_block_that_answers_the_cut_itself_keeps_its_error():
    """What is awaited may clean up and fail in its own way; the cancel is taken back all the same."""

    async def stubborn() -> None:
        try:
            await asyncio.sleep(9)
        except asyncio.CancelledError:
            raise Later from None

    with pytest.raises(Later):
        with cut_here().at(1.0, Late):
            await stubborn()
    assert 0 == left_on_task()


@virtual
async def test_a_block_that_swallows_the_cut_goes_on():
    """No cancel is left behind to strike a later wait."""
    with cut_here().at(1.0, Late):
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(9)
    await asyncio.sleep(1)
    assert (2.0, 0) == (now(), left_on_task())


# --- beside a caller's cancel ---------------------------------------------------------------------------


async def cancelled_at(instant: float | None, cancel_at: float, *, cut_first: bool) -> asyncio.Task[float]:
    """A task under a cut and a cancel; where both come at one instant, the order of their timers is told."""
    loop = asyncio.get_running_loop()
    task: asyncio.Task[float] | None = None

    def cancel() -> None:
        assert task is not None
        task.cancel()

    if not cut_first:
        loop.call_at(cancel_at, cancel)
    task = loop.create_task(waits(Cut(loop), instant, 5.0))
    await asyncio.sleep(0)
    if cut_first:
        loop.call_at(cancel_at, cancel)
    await asyncio.wait([task])
    return task


@pytest.mark.parametrize("cut_first", [True, False])
@pytest.mark.parametrize("instant", [None, 1.0, 2.0])
def test_a_cancel_before_or_together_with_the_cut_stays_a_cancel(instant, cut_first):
    """Never, later, or in the same turn: the caller's cancel wins, and is counted once."""

    async def main() -> None:
        task = await cancelled_at(instant, 1.0, cut_first=cut_first)
        assert (True, 1) == (task.cancelled(), task.cancelling())

    run_virtual(main())


@virtual
async def test_a_cancel_after_the_cut_comes_too_late():
    """What was cut is over."""
    task = await cancelled_at(1.0, 2.0, cut_first=True)
    assert (Late, 0) == (type(task.exception()), task.cancelling())


@virtual
async def test_a_cancel_that_was_swallowed_before_does_not_hide_a_cut():
    """Cancels that stood on the task before the block belong to others."""

    async def marked() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(9)
        with pytest.raises(Late):
            await waits(cut_here(), 5.0, 9.0)
        assert 1 == left_on_task()

    task = asyncio.get_running_loop().create_task(marked())
    await asyncio.sleep(1)
    task.cancel()
    await task


# --- one in the other -----------------------------------------------------------------------------------


async def nested(outer: float, inner: float) -> None:
    loop = asyncio.get_running_loop()
    with Cut(loop).at(outer, Later):
        with Cut(loop).at(inner, Late):
            await asyncio.sleep(9)


@pytest.mark.parametrize(("outer", "inner", "wins"), [(2.0, 1.0, Late), (1.0, 2.0, Later), (1.0, 1.0, Later)])
def test_the_sooner_of_two_cuts_wins(outer, inner, wins):
    """And the outer one where both come together: it has more to end."""

    async def main() -> None:
        with pytest.raises(wins):
            await nested(outer, inner)
        assert (1.0, 0) == (now(), left_on_task())

    run_virtual(main())


@virtual
async def test_a_cut_inside_asyncio_timeout():
    """The standard library's timeout and the knife respect each other, also at one instant."""
    for ours, theirs in itertools.product((1.0, 2.0), repeat=2):
        began = now()
        wins = Late if ours < theirs else TimeoutError
        with pytest.raises(wins):
            async with asyncio.timeout(theirs):
                await waits(cut_here(), began + ours, 9.0)
        assert (began + min(ours, theirs), 0) == (now(), left_on_task())


# --- used again -----------------------------------------------------------------------------------------


@virtual
async def test_one_knife_serves_many_waits():
    """Each wait has its own instant, sooner or later than the one before."""
    cut = cut_here()
    ends = []
    for instant, seconds in ((1.0, 5.0), (9.0, 2.0), (4.0, 5.0), (20.0, 1.0), (None, 30.0), (36.0, 5.0)):
        try:
            ends.append(await waits(cut, instant, seconds))
        except Late:
            ends.append(-now())
    assert [-1.0, 3.0, -4.0, 5.0, 35.0, -36.0] == ends


@virtual
async def test_a_timer_left_from_an_earlier_wait_does_not_cut_a_later_one():
    """An early ring sets the timer again."""
    cut = cut_here()
    await waits(cut, 2.0, 1.0)
    with pytest.raises(Late):
        await waits(cut, 7.0, 9.0)
    assert 7.0 == now()


@virtual
async def test_a_timer_that_rings_between_two_waits_cuts_neither():
    """Between them nobody waits under the knife; the second is cut at its own instant."""
    cut = cut_here()
    await waits(cut, 2.0, 1.0)
    await asyncio.sleep(4)
    with pytest.raises(Late):
        with cut.at(8.0, Late):
            await asyncio.sleep(1)
            await asyncio.sleep(9)
    assert 8.0 == now()


@virtual
async def test_a_knife_set_before_its_block_is_entered_late():
    """It may have rung already: then it is set once more when the block begins."""
    cut = cut_here().at(1.0, Late)
    await asyncio.sleep(3)
    with pytest.raises(Late):
        with cut:
            await asyncio.sleep(9)
    assert 3.0 == now()


@pytest.mark.parametrize(("moved", "ends"), [(4.0, 4.0), (12.0, 12.0), (0.5, 2.0), (None, 20.0)])
def test_the_instant_may_be_moved_inside_the_block(moved, ends):
    """Sooner, later, into the past or away, with another error, as when a new phase begins."""

    async def main() -> None:
        cut = cut_here()
        try:
            with cut.at(6.0, Late):
                await asyncio.sleep(2)
                cut.at(moved, Later)
                await asyncio.sleep(18)
        except Later:
            assert moved is not None
        assert ends == now()

    run_virtual(main())


@virtual
async def test_a_timer_is_set_only_when_the_one_there_would_ring_too_late():
    """Waits whose instants move on share one timer: that is what makes the knife cheap."""
    loop = asyncio.get_running_loop()
    cut = Cut(loop)
    cut.at(10.0, Late)
    first = cut._handle
    for instant in (11.0, 50.0, None, 12.0):
        cut.at(instant, Late)
    assert first is cut._handle
    cut.at(5.0, Late)
    assert (True, 5.0) == (first.cancelled(), cut._handle.when())


@virtual
async def test_stop_takes_the_timer_off_the_loop():
    """Nothing is left to ring, and the knife can be used again."""
    cut = cut_here()
    await waits(cut, 5.0, 1.0)
    timer = cut._handle
    cut.stop()
    cut.stop()
    assert (True, None) == (timer.cancelled(), cut._handle)
    with pytest.raises(Late):
        await waits(cut, 3.0, 9.0)


# --- knives at rest -------------------------------------------------------------------------------------


@virtual
async def test_a_knife_given_back_is_taken_again():
    """With its timer, which serves the next wait."""
    cuts = Cuts()
    cut = cuts.take()
    await waits(cut, 9.0, 1.0)
    cuts.give(cut)
    assert cut is cuts.take()
    with pytest.raises(Late):
        await waits(cut, 12.0, 20.0)
    assert 12.0 == now()


@virtual
async def test_two_waits_at_once_have_a_knife_each():
    """One that is in use is never handed out."""
    cuts = Cuts()
    cuts.give(cuts.take())
    assert cuts.take() is not cuts.take()


@virtual
async def test_a_knife_somebody_waits_under_is_not_kept():
    """It is only stopped: the wait goes on uncut, and the next one to take a knife gets another."""
    cuts = Cuts()
    cut = cuts.take()
    task = asyncio.get_running_loop().create_task(waits(cut, 3.0, 5.0))
    await asyncio.sleep(1)
    cuts.give(cut)
    assert cut is not cuts.take()
    assert 5.0 == await task


@virtual
async def test_a_knife_at_rest_holds_no_error():
    """What it would have raised may hold a whole call."""
    cuts = Cuts()
    cut = cuts.take()
    cut.at(5.0, Late)
    cuts.give(cut)
    assert (RuntimeError, None) == (cut._error, cut._task)


@virtual
async def test_only_so_many_knives_are_kept():
    """A burst of calls does not leave its timers for ever."""
    cuts = Cuts()
    many = [cuts.take() for _ in range(KEPT + 1)]
    for cut in many:
        cut.at(5.0, Late)
        cuts.give(cut)
    assert (None, KEPT) == (many[-1]._handle, len(cuts._rest))


def test_a_knife_belongs_to_its_loop():
    """Another loop gets knives of its own, and takes back none of a stranger's."""
    cuts, taken = Cuts(), []

    async def main() -> None:
        cut = cuts.take()
        assert cut not in taken
        with pytest.raises(Late):
            await waits(cut, 1.0, 2.0)
        cuts.give(cut)
        if taken:
            cuts.give(taken[0])
            assert cut is cuts.take()
        taken.append(cut)

    run_virtual(main())
    run_virtual(main())


async def test_the_clock_of_the_loop():
    """It tells the loop's time, sleeps by it, and knows what day it is."""
    clock = LoopClock()
    began = clock.now()
    await clock.sleep(0.001)
    assert began < clock.now() <= asyncio.get_running_loop().time()
    assert 1_700_000_000 < clock.wall()


# --- the clock of the loop ------------------------------------------------------------------------------


async def test_the_clock_tells_the_time_of_the_loop():
    """From the first time on, in seconds that do not run backward."""
    clock = LoopClock()
    before, times, after = now(), [clock.now() for _ in range(5)], now()
    assert sorted([before, *times, after]) == [before, *times, after]


def test_the_clock_of_a_loop_with_a_time_of_its_own():
    """It is asked each time."""

    async def hour() -> list[float]:
        clock = LoopClock()
        first = clock.now()
        await asyncio.sleep(3600)
        return [first, clock.now()]

    assert [0.0, 3600.0] == run_virtual(hour())


async def test_a_clock_that_tells_another_time_keeps_its_word():
    """What a subclass says stands, also when it asks the loop itself."""

    class Ahead(LoopClock):
        def now(self) -> float:
            return super().now() + 1e6

    clock = Ahead()
    assert all(clock.now() > now() + 1e5 for _ in range(3))
