"""The one stream that everybody reads from: who is shown what, who is told of the end, and when it ends cleanly."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from orrouter.core.call import ALL, Attempt, Target, Trail
from orrouter.core.completion import Completion
from orrouter.core.errors import DeadlineExceeded, RouterError, ServerError, StreamBroken
from orrouter.core.events import Chunk, End, Event
from orrouter.core.reply import EventStream, Reply
from orrouter.testkit.clock import virtual

STOP = "<stop>"


class Planted(Exception):
    """An error put somewhere on purpose."""


def chunk(text: str) -> Chunk:
    """A word; STOP is the finish with its usage, "" an envelope."""
    made = Chunk(text.encode(), {}, "" if text == STOP else text)
    if text == STOP:
        made.finish_reason, made.usage = "stop", {"completion_tokens": 2}
    return made


class Tape:
    """A source that gives batches; an error is raised in its place, a future is awaited, the last batch is the end."""

    def __init__(self, *batches: Any, knows_its_end: bool = True) -> None:
        self.batches = list(batches)
        self.closed = 0
        self.over = False
        self._knows = knows_its_end

    async def read(self) -> list[Event]:
        if not self.batches:
            return []
        batch = self.batches.pop(0)
        if isinstance(batch, BaseException):
            raise batch
        if isinstance(batch, asyncio.Future):
            batch = await batch
        self.over = self._knows and not self.batches
        return [chunk(text) for text in batch]

    def close(self) -> None:
        self.closed += 1


class Stuck(Tape):
    """A source that cannot be closed."""

    def close(self) -> None:
        raise Planted("stuck")


def fold(said: Sequence[Event]) -> Completion:
    message = {"role": "assistant", "content": "".join(event.text for event in said)}
    trail = Trail("req_1", lambda: 0.0)
    return Completion({"choices": [{"message": message}]}, Attempt(1, Target(), 0.0), trail)


def stream_of(*batches: Any, **how: Any) -> EventStream:
    return EventStream(Tape(*batches, **how), fold)


async def texts(events: EventStream) -> list[str]:
    return [event.raw.decode() async for event in events]


class Ends(list[End]):
    """Counts the ends it is told."""

    def errors(self) -> list[type]:
        return [type(end.error) for end in self]


# --- reading --------------------------------------------------------------------------------------------


async def test_events_come_in_order_and_then_the_stream_ends():
    """A clean end, because the upstream said it all."""
    events = stream_of(["a", "b"], ["c", STOP])
    assert ["a", "b", "c", STOP] == await texts(events)
    assert [] == await texts(events)


@pytest.mark.parametrize("knows", [True, False])
async def test_the_end_is_told_with_reason_and_usage(knows):
    """Whether the source knows that it is over or gives nothing once more."""
    events, ends = stream_of(["a"], [STOP], knows_its_end=knows), Ends()
    events.on_end(ends.append)
    await texts(events)
    assert [End("stop", {"completion_tokens": 2}, None)] == ends


async def test_a_source_that_knows_its_end_is_let_go_of_with_the_last_event():
    """Nobody has to read once more: a permit goes back while the last words are being printed."""
    events, ends = stream_of(["a", STOP]), Ends()
    events.on_end(ends.append)
    await anext(events)
    assert (1, 1, True) == (len(ends), events._source.closed, events.ended)


async def test_the_completion_is_folded_from_what_was_said():
    """Once the stream has ended."""
    events = stream_of(["a"], ["b", STOP])
    await texts(events)
    assert "ab" + STOP == events.completion.raw["choices"][0]["message"]["content"] + STOP
    assert "stop" == events.finish_reason


async def test_there_is_no_completion_before_the_end():
    """Half an answer is not passed off as one; what was said so far is at hand."""
    events = stream_of(["a"], ["b", STOP])
    await anext(events)
    with pytest.raises(RouterError, match="partial"):
        _ = events.completion
    assert ("a", None, False) == (events.partial, events.finish_reason, events.ended)
    events.close()


async def test_there_is_no_completion_after_a_break():
    """Nor when it was closed."""
    broken, closed = stream_of(["a"], ServerError("broken")), stream_of(["a"], [STOP])
    with pytest.raises(ServerError):
        await texts(broken)
    closed.close()
    for events in (broken, closed):
        with pytest.raises(RouterError, match="has not been read"):
            _ = events.completion


# --- errors ---------------------------------------------------------------------------------------------


async def test_a_break_comes_behind_the_events_before_it():
    """What was read is not lost, and the same error comes each time one asks again."""
    broken = ServerError("broken")
    events, ends = stream_of(["a", "b"], broken), Ends()
    events.on_end(ends.append)
    await events.ahead(1)
    assert ["a", "b"] == [(await anext(events)).text for _ in range(2)]
    for _ in range(3):
        with pytest.raises(ServerError) as caught:
            await anext(events)
        assert broken is caught.value
    assert ([End(None, None, broken)], 1) == (ends, events._source.closed)


async def test_the_end_is_told_before_the_error_reaches_the_reader():
    """So a layer above, which sees the error, finds every permit given back."""
    events, order = stream_of(["a"], ServerError("broken")), []
    events.on_end(lambda end: order.append("told"))
    try:
        await texts(events)
    except ServerError:
        order.append("raised")
    assert ["told", "raised"] == order


@pytest.mark.parametrize("kind", [StreamBroken, DeadlineExceeded])
async def test_an_error_that_has_room_for_it_bears_what_was_said(kind):
    """`partial` is filled in by the stream, which alone knows it."""
    events = stream_of(["a", "b"], kind("cut"))
    with pytest.raises(kind) as caught:
        await texts(events)
    assert "ab" == caught.value.partial


async def test_an_error_that_brings_its_own_words_keeps_them():
    """Whoever knew better is not overruled."""
    broken = StreamBroken("cut")
    broken.partial = "mine"
    with pytest.raises(StreamBroken):
        await texts(stream_of(["a"], broken))
    assert "mine" == broken.partial


async def test_a_source_cannot_pass_an_end_off_as_clean():
    """StopAsyncIteration out of a read is a fault, as it is in a generator."""
    events, ends = stream_of(["a"], StopAsyncIteration()), Ends()
    events.on_end(ends.append)
    with pytest.raises(RuntimeError, match="StopAsyncIteration"):
        await texts(events)
    assert [RuntimeError] == ends.errors()


# --- cancelled ------------------------------------------------------------------------------------------


async def cancelled_reading(events: EventStream) -> None:
    task = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_read_lets_go_and_never_ends_cleanly():
    """The cancel passes on; who reads once more is told that something is missing."""
    events, ends = stream_of(["a"], asyncio.Future()), Ends()
    events.on_end(ends.append)
    await anext(events)
    await cancelled_reading(events)
    assert ([asyncio.CancelledError], 1) == (ends.errors(), events._source.closed)
    for _ in range(2):
        with pytest.raises(StreamBroken, match="cancelled") as caught:
            await anext(events)
        assert "a" == caught.value.partial


async def test_after_a_cancel_the_rest_is_no_answer():
    """Nor is there a completion."""
    events = stream_of(["a"], asyncio.Future())
    await anext(events)
    await cancelled_reading(events)
    with pytest.raises(RouterError):
        await events.rest()


# --- closed ---------------------------------------------------------------------------------------------


async def test_close_drops_what_is_in_hand_and_may_be_repeated():
    """The upstream is let go of once, and everybody is told once that the stream was left."""
    events, ends = stream_of(["a", "b"], ["c"]), Ends()
    events.on_end(ends.append)
    await anext(events)
    events.close()
    events.close()
    assert [] == await texts(events)
    assert ([GeneratorExit], 1) == (ends.errors(), events._source.closed)


async def test_close_behind_the_end_changes_nothing():
    """An answer that was read whole stays an answer."""
    events, ends = stream_of(["a", STOP]), Ends()
    events.on_end(ends.append)
    await texts(events)
    events.close()
    assert ([type(None)], "a") == (ends.errors(), events.completion.text)


async def test_a_read_that_is_under_way_while_somebody_closes_brings_nothing():
    """What comes late is dropped, as is what was in hand."""
    late, seen = asyncio.Future(), []
    events = stream_of(["a"], late, ["b"])
    events.watch(sees(seen))
    await anext(events)
    reading = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    events.close()
    late.set_result(["late"])
    with pytest.raises(StopAsyncIteration):
        await reading
    assert ("a", ["a"]) == (events.partial, seen)


async def test_a_reply_passes_its_close_on():
    """`Reply.close` is the stream's."""
    events, ends = stream_of(["a"], ["b"]), Ends()
    events.on_end(ends.append)
    Reply(Attempt(1, Target(), 0.0), events).close()
    assert [GeneratorExit] == ends.errors()


# --- enders ---------------------------------------------------------------------------------------------


async def test_enders_are_told_in_the_order_they_asked():
    """Innermost first: money is settled before the record is closed."""
    events, order = stream_of([STOP]), []
    for name in "abc":
        events.on_end(lambda end, name=name: order.append(name))
    await texts(events)
    assert ["a", "b", "c"] == order


async def test_the_source_is_closed_before_anybody_is_told():
    """Whoever is told may count on it."""
    events, seen = stream_of([STOP]), []
    events.on_end(lambda end: seen.append(events._source.closed))
    await texts(events)
    assert [1] == seen


async def test_who_asks_behind_the_end_is_told_at_once():
    """Each once, whatever the end was."""
    events, ends = stream_of(["a"], ServerError("broken")), Ends()
    with pytest.raises(ServerError):
        await texts(events)
    events.on_end(ends.append)
    events.on_end(ends.append)
    assert [ServerError, ServerError] == ends.errors()


class Complaints:
    """What the loop's exception handler is told."""

    def __init__(self) -> None:
        self.contexts: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: self.contexts.append(context))

    def kinds(self) -> list[type]:
        return [type(context["exception"]) for context in self.contexts]


def fail(error: BaseException) -> Any:
    def tell(end: End) -> None:
        raise error

    return tell


@pytest.mark.parametrize("error", [Planted("x"), asyncio.CancelledError(), GeneratorExit(), StopAsyncIteration()])
async def test_what_one_ender_raises_never_stops_the_next(error):
    """It is told to the loop's exception handler, and the reader sees a clean end."""
    events, ends, complaints = stream_of(["a", STOP]), Ends(), Complaints()
    events.on_end(fail(error))
    events.on_end(ends.append)
    assert ["a", STOP] == await texts(events)
    assert ([type(None)], [type(error)]) == (ends.errors(), complaints.kinds())


async def test_an_ender_that_asks_late_and_fails_is_guarded_too():
    """Whoever attaches it goes on."""
    events, complaints = stream_of([STOP]), Complaints()
    await texts(events)
    events.on_end(fail(Planted("late")))
    assert [Planted] == complaints.kinds()


async def test_an_interrupt_in_an_ender_passes_behind_everybody():
    """Ctrl-C is not swallowed, and nobody is left untold."""
    events, ends = stream_of(["a"], [STOP]), Ends()
    events.on_end(fail(KeyboardInterrupt()))
    events.on_end(ends.append)
    with pytest.raises(KeyboardInterrupt):
        events.close()
    assert [GeneratorExit] == ends.errors()


async def test_a_source_that_cannot_be_closed_stops_nobody():
    """The enders are told all the same."""
    ends, complaints = Ends(), Complaints()
    events = EventStream(Stuck(["a"], ["b"]), fold)
    events.on_end(ends.append)
    events.close()
    assert ([GeneratorExit], [Planted]) == (ends.errors(), complaints.kinds())


async def test_an_ender_may_close_the_stream_or_ask_again():
    """Nobody is told twice because of it."""
    events, ends = stream_of(["a"], ServerError("broken")), Ends()
    events.on_end(lambda end: events.close())
    events.on_end(lambda end: events.on_end(ends.append))
    events.on_end(ends.append)
    with pytest.raises(ServerError):
        await texts(events)
    assert [ServerError, ServerError] == ends.errors()


# --- ahead and rest -------------------------------------------------------------------------------------


async def test_ahead_reads_until_so_many_words_are_in_hand():
    """Envelopes do not count, and nothing is lost to the reader."""
    events = stream_of([""], ["a", ""], ["b"], ["c"], [STOP])
    assert 2 == await events.ahead(2)
    assert 2 == await events.ahead(1)
    assert (2, ["", "a", "", "b", "c", STOP]) == (len(events._source.batches), await texts(events))


async def test_ahead_counts_what_is_in_hand_only():
    """Words that were read away are not there any more."""
    events = stream_of(["a", "b"], ["c"], [STOP])
    await events.ahead(1)
    await anext(events)
    assert 1 == await events.ahead(1)
    assert 2 == await events.ahead(2)
    assert ["b", "c", STOP] == await texts(events)


async def test_ahead_says_how_many_there_are_when_the_answer_is_shorter():
    """No error: the upstream said it all."""
    events = stream_of(["a"], [STOP])
    assert (1, 1) == (await events.ahead(5), await events.ahead(ALL))
    assert ["a", STOP] == await texts(events)


async def test_ahead_raises_a_break_as_if_nothing_had_begun():
    """Also behind events in hand, and each time."""
    events = stream_of(["a"], ServerError("broken"))
    for _ in range(2):
        with pytest.raises(ServerError):
            await events.ahead(2)


async def test_ahead_is_content_with_what_came_before_a_break():
    """Enough is enough: the break comes to whoever reads on."""
    events = stream_of(["a", "b"], ServerError("broken"))
    assert 2 == await events.ahead(2)
    assert ["a", "b"] == [(await anext(events)).text for _ in range(2)]
    with pytest.raises(ServerError):
        await anext(events)


async def test_rest_reads_to_the_end_and_folds():
    """Also what was read before."""
    events = stream_of(["a"], ["b"], ["c", STOP])
    await anext(events)
    assert "abc" == (await events.rest()).text
    assert "abc" == (await events.rest()).text


async def test_rest_raises_what_broke_the_answer():
    """No half answers."""
    with pytest.raises(ServerError):
        await stream_of(["a"], ServerError("broken")).rest()


async def test_rest_of_a_closed_stream_is_no_answer():
    """Nor does it hang."""
    events = stream_of(["a"], [STOP])
    events.close()
    with pytest.raises(RouterError):
        await events.rest()


# --- watchers -------------------------------------------------------------------------------------------


def objects_to(word: str, seen: list[str], error: BaseException) -> Any:
    """A watcher that writes down what it sees and raises at a word."""

    def look(event: Event) -> None:
        seen.append(event.raw.decode())
        if seen[-1] == word:
            raise error

    return look


def sees(seen: list[str]) -> Any:
    return objects_to("", seen, Planted())


async def test_a_watcher_sees_every_event_before_its_reader():
    """In order, each once."""
    events, seen = stream_of(["a", "b"], ["c", STOP]), []
    events.watch(sees(seen))
    assert ("a", ["a", "b"]) == ((await anext(events)).text, seen)
    await texts(events)
    assert ["a", "b", "c", STOP] == seen


async def test_a_watcher_that_comes_late_sees_what_nobody_above_has_seen():
    """Events in hand are shown when they are read; what was read away is gone."""
    events, early, late = stream_of(["a", "b"], ["c", STOP]), [], []
    events.watch(sees(early))
    await anext(events)
    events.watch(sees(late))
    assert [] == late
    await texts(events)
    assert (["a", "b", "c", STOP], ["b", "c", STOP]) == (early, late)


async def test_a_late_watcher_sees_an_answer_that_is_wholly_in_hand():
    """Also when the rest is folded and nobody reads event by event; each event once."""
    events, seen = stream_of(["a", "b"], [STOP]), []
    await events.ahead(ALL)
    events.watch(sees(seen))
    assert "ab" == (await events.rest()).text
    assert ["a", "b", STOP] == seen


async def test_a_watcher_may_bring_another():
    """The new one begins with the event at which it was brought, and sees none twice."""
    events, seen = stream_of(["a", "b"], ["c"], [STOP]), []

    def look(event: Event) -> None:
        if event.text == "b":
            events.watch(sees(seen))

    events.watch(look)
    await texts(events)
    assert ["a", "b", "c", STOP] == seen


async def test_an_objection_comes_behind_the_events_before_it():
    """In the middle of a batch: the earlier events are read, then the error, each time; the rest is never seen."""
    events, ends, seen, objection = stream_of(["a", "b", "c"], ["d"]), Ends(), [], Planted("no")
    events.on_end(ends.append)
    events.watch(objects_to("c", seen, objection))
    assert ["a", "b"] == [(await anext(events)).text for _ in range(2)]
    for _ in range(2):
        with pytest.raises(Planted):
            await anext(events)
    assert (["a", "b", "c"], "ab", 1) == (seen, events.partial, events._source.closed)
    assert [End(None, None, objection)] == ends


async def test_an_objection_to_the_last_batch_is_no_clean_end():
    """Though the source was over."""
    events, ends = stream_of(["a"], ["b", STOP]), Ends()
    events.on_end(ends.append)
    events.watch(objects_to(STOP, [], Planted()))
    with pytest.raises(Planted):
        await texts(events)
    assert [Planted] == ends.errors()


async def test_an_objection_ends_a_chat_too():
    """Whoever takes the answer whole gets the error and no answer."""
    events = stream_of(["a", "b"], [STOP])
    events.watch(objects_to("b", [], Planted()))
    with pytest.raises(Planted):
        await events.rest()


async def test_a_late_objection_ends_the_stream():
    """The events behind it are not read, and no clean end follows."""
    events, ends = stream_of(["a", "b", "c"], ["d", STOP]), Ends()
    events.on_end(ends.append)
    await events.ahead(1)
    events.watch(objects_to("b", [], Planted()))
    assert "a" == (await anext(events)).text
    for _ in range(3):
        with pytest.raises(Planted):
            await anext(events)
    assert ([Planted], 1) == (ends.errors(), events._source.closed)


async def test_a_late_objection_to_an_answer_in_hand_breaks_it_for_its_reader():
    """The upstream had said it all and was told so; the reader gets no answer, and who asks later hears why."""
    events, ends, later = stream_of(["a", "b"], [STOP]), Ends(), Ends()
    events.on_end(ends.append)
    await events.ahead(ALL)
    events.watch(objects_to("b", [], Planted()))
    with pytest.raises(Planted):
        await events.rest()
    for again in (events.rest(), anext(events)):
        with pytest.raises(Planted):
            await again
    with pytest.raises(RouterError):
        _ = events.completion
    events.on_end(later.append)
    assert ([type(None)], [Planted]) == (ends.errors(), later.errors())


@pytest.mark.parametrize("late", [False, True])
async def test_a_watcher_cannot_pass_an_end_off_as_clean(late):
    """A StopAsyncIteration that escapes from it is a fault, early or late."""
    events = stream_of(["a"], ["b", STOP])
    if late:
        await events.ahead(ALL)
    events.watch(objects_to("b", [], StopAsyncIteration()))
    with pytest.raises(RuntimeError, match="StopAsyncIteration"):
        await texts(events)
    with pytest.raises(RuntimeError, match="StopAsyncIteration"):
        await anext(events)


@pytest.mark.parametrize("late", [False, True])
async def test_an_interrupt_in_a_watcher_ends_the_stream(late):
    """It passes at once, the upstream is let go of, and nothing clean follows."""
    events, ends = stream_of(["a", "b"], [STOP]), Ends()
    events.on_end(ends.append)
    if late:
        await events.ahead(1)
    events.watch(objects_to("a", [], KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        await anext(events)
    assert ([KeyboardInterrupt], 1) == (ends.errors(), events._source.closed)
    with pytest.raises(StreamBroken):
        await anext(events)


async def test_a_watcher_may_close_the_stream():
    """What is in hand is dropped, as for any close, and the reader's loop ends."""
    events, ends = stream_of(["a"], ["b", "c"], [STOP]), Ends()
    events.on_end(ends.append)
    events.watch(lambda event: events.close() if event.text == "b" else None)
    assert ["a"] == await texts(events)
    assert ([GeneratorExit], "a") == (ends.errors(), events.partial)


# --- dropped --------------------------------------------------------------------------------------------


async def test_a_stream_that_is_dropped_is_closed_in_the_next_turn():
    """Its end is only posted: a collector may run in the middle of anything."""
    events, ends = stream_of(["a", STOP], ["b"]), Ends()
    events.on_end(ends.append)
    source = events._source
    await anext(events)
    del events
    assert ([], 0) == (ends, source.closed)
    await asyncio.sleep(0)
    assert ([GeneratorExit], 1, "stop") == (ends.errors(), source.closed, ends[0].finish_reason)


async def test_a_stream_dropped_in_another_thread_is_closed_in_its_loop():
    """Garbage is collected wherever it happens to be."""
    held, where, told = [stream_of(["a"], ["b"])], [], asyncio.Event()

    def tell(end: End) -> None:
        where.append(threading.current_thread())
        told.set()

    held[0].on_end(tell)
    thread = threading.Thread(target=held.clear)
    thread.start()
    await told.wait()
    thread.join()
    assert [threading.current_thread()] == where


async def test_a_stream_that_has_ended_is_dropped_without_a_word():
    """Nobody is told a second time."""
    events, ends = stream_of([STOP]), Ends()
    events.on_end(ends.append)
    await texts(events)
    del events
    gc.collect()
    await asyncio.sleep(0)
    assert 1 == len(ends)


async def test_an_ender_that_holds_its_stream_is_told_once_all_the_same():
    """The two are collected together; what the ender then does to the stream tells nobody again."""
    events, ends = stream_of(["a"], ["b"]), Ends()

    def tell(end: End, events: EventStream = events) -> None:
        ends.append(end)
        events.close()

    events.on_end(tell)
    del events, tell
    gc.collect()
    await asyncio.sleep(0)
    assert [GeneratorExit] == ends.errors()


def test_a_stream_dropped_behind_its_loop_makes_no_noise():
    """There is nobody left to be told, and no warning about it."""
    held = []

    async def main() -> None:
        held.append(stream_of(["a"], ["b"]))

    asyncio.run(main())
    held.clear()
    gc.collect()


def test_a_stream_needs_a_running_loop():
    """Built outside of one it says so, and leaves nothing behind that fails again."""
    with pytest.raises(RuntimeError, match="no running event loop"):
        EventStream(Tape(), fold)
    gc.collect()


@virtual
async def test_a_stream_can_be_left_by_the_callers_timeout():
    """The standard library's timeout ends it like any cancel, and leaves nothing on the task."""
    events, ends = stream_of(["a"], asyncio.Future()), Ends()
    events.on_end(ends.append)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await texts(events)
    assert ([asyncio.CancelledError], 0) == (ends.errors(), asyncio.current_task().cancelling())
