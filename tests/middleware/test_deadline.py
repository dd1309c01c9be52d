"""deadline: which clocks a try gets, and what happens when the total is over."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from orrouter.catalog.model import Model
from orrouter.core.call import Clocks
from orrouter.core.errors import ConnectionFailed, DeadlineExceeded, ServerError, StreamBroken, UpstreamTimeout
from orrouter.middleware.deadline import DeadlineOptions
from orrouter.middleware.fallback import FallbackOptions
from orrouter.middleware.retry import RetryOptions
from orrouter.testkit.clock import virtual
from orrouter.testkit.script import COMMENT, SENT, Finish

AB = FallbackOptions(models=("a", "b"))
FIRST = DeadlineOptions(first_token="15s")


def clocks(run) -> list[Clocks]:
    return [played.call.clocks for played in run.far.tries]


def thinker(**reasoning: object) -> Model:
    return Model.read({"id": "a", "supported_parameters": ["reasoning"], "reasoning": reasoning})


# --- options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "deadline needs at least one of total, connect, first_token, stall, dead, attempt"),
        ({"last_first_token": "60s"}, "deadline needs at least one of"),
        ({"total": "9s", "last_first_token": "60s"}, "last_first_token means nothing without first_token"),
        ({"total": 9}, "write it with its unit"),
        ({"total": "0s"}, "greater than 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, told):
    """With a sentence that says what is missing."""
    with pytest.raises(ValidationError, match=told):
        DeadlineOptions(**options)


def test_it_says_what_it_does():
    """Each clock in words."""
    assert "ends the whole call after 2m" == DeadlineOptions(total="120s").says()
    assert (
        "gives each try 5s to connect, 15s to the first word, 30s between words, 45s without a byte, 1m in all; "
        "waits 1m for the first word where no other target is left or the model reasons"
    ) == DeadlineOptions(connect="5s", first_token="15s", stall="30s", dead="45s", attempt="60s").says()


# --- clocks of a try ----------------------------------------------------------------------------------


@virtual
async def test_what_is_not_written_is_not_kept(road):
    """Save connect 5 s and dead 45 s, which the transport always keeps."""
    run = road({"m": "hi"}, DeadlineOptions(total="9s"))
    await run.chat("m")
    assert [Clocks(connect=5.0, first_token=None, stall=None, dead=45.0, attempt=None)] == clocks(run)


@virtual
async def test_what_is_written_reaches_the_transport(road):
    """Every clock by its name."""
    options = DeadlineOptions(connect="1s", first_token="70s", stall="3s", dead="4s", attempt="5s")
    run = road({"m": "hi"}, options)
    await run.chat("m")
    assert [Clocks(connect=1.0, first_token=70.0, stall=3.0, dead=4.0, attempt=5.0)] == clocks(run)


@virtual
async def test_the_innermost_clock_wins(road):
    """And what the inner one does not write is the outer one's."""
    run = road({"m": "hi"}, DeadlineOptions(stall="9s", dead="9s"), DeadlineOptions(stall="3s"))
    await run.chat("m")
    assert [(3.0, 9.0)] == [(one.stall, one.dead) for one in clocks(run)]


@virtual
async def test_the_last_target_gets_more_time_for_its_first_token(road):
    """15 s while another could serve, 60 s for the last."""
    run = road({"a": ServerError("x"), "b": "hi"}, AB, FIRST)
    await run.chat()
    assert [15.0, 60.0] == [one.first_token for one in clocks(run)]


@pytest.mark.parametrize(
    ("options", "last"),
    [({}, 60.0), ({"last_first_token": "20s"}, 20.0), ({"last_first_token": "2s"}, 15.0)],
)
def test_the_last_targets_time_may_be_written(road, options, last):
    """It is never shorter than `first_token` itself."""

    @virtual
    async def story():
        run = road({"m": "hi"}, DeadlineOptions(first_token="15s", **options))
        await run.chat("m")
        return clocks(run)[0].first_token

    assert last == story()


def test_a_longer_first_token_stays_longer(road):
    """90 s is not cut to 60 s for the last target."""

    @virtual
    async def story():
        run = road({"m": "hi"}, DeadlineOptions(first_token="90s"))
        await run.chat("m")
        return clocks(run)[0].first_token

    assert 90.0 == story()


@pytest.mark.parametrize(
    ("body", "model", "patient"),
    [
        ({}, None, False),
        ({"reasoning": {"effort": "high"}}, None, True),
        ({"reasoning": {"max_tokens": 2000}}, None, True),
        ({"reasoning": {}}, None, True),
        ({"reasoning": {"effort": "none"}}, None, False),
        ({"reasoning": {"enabled": False}}, None, False),
        ({"reasoning_effort": "low"}, None, True),
        ({"reasoning_effort": "none"}, None, False),
        ({}, thinker(mandatory=True), True),
        ({}, thinker(default_enabled=True), True),
        ({}, thinker(mandatory=False, default_enabled=False), False),
        ({}, Model.read({"id": "a", "supported_parameters": ["reasoning"]}), False),
        ({"reasoning": {"enabled": False}}, thinker(default_enabled=True), False),
    ],
)
def test_a_model_that_thinks_gets_more_time(road, body, model, patient):
    """Where thinking was asked for, or the model does it unasked; that it could is not enough."""

    @virtual
    async def story():
        run = road({"a": "hi", "b": "never"}, AB, FIRST, models=() if model is None else (model,))
        await run.chat(body=body)
        return clocks(run)[0].first_token

    assert (60.0 if patient else 15.0) == story()


@virtual
async def test_many_kinds_of_calls_each_get_their_clocks(road):
    """The clocks made ready for one case are never taken for another's."""
    run = road({"a": [ServerError("x"), "hi"], "b": "hi"}, DeadlineOptions(stall="9s"), AB, FIRST)
    await run.chat()
    await run.chat()
    await run.chat(clocks=Clocks(dead=7.0))
    assert [(15.0, 9.0, 45.0), (60.0, 9.0, 45.0), (15.0, 9.0, 45.0), (15.0, 9.0, 7.0)] == [
        (one.first_token, one.stall, one.dead) for one in clocks(run)
    ]


# --- clocks that ring ---------------------------------------------------------------------------------


@virtual
async def test_a_slow_first_token_is_answered_elsewhere(road):
    """12 s where 5 s are given: the next target serves at 5 s, and the silent one is not asked again."""
    run = road(
        {"a": [[SENT, 12.0, "late", Finish()]], "b": "in time"}, AB, RetryOptions(), DeadlineOptions(first_token="5s")
    )
    done = await run.chat()
    assert ("in time", ["a", "b"], 5.0) == (done.text, run.far.models, run.world.clock.now())


@virtual
async def test_comments_are_no_first_token(road):
    """Keep-alives for 8 s with 2 s to the first word: cut at 2 s."""
    beats = [SENT, *[1.0, COMMENT] * 8, "late", Finish()]
    run = road({"a": [beats], "b": "in time"}, AB, DeadlineOptions(first_token="2s"))
    await run.chat()
    assert [0.0, 2.0] == run.times


@virtual
async def test_a_silent_try_is_a_timeout_that_may_have_been_billed(road):
    """It says so, and is not asked again."""
    run = road({"m": [[SENT, 99.0]]}, RetryOptions(), DeadlineOptions(first_token="5s", last_first_token="5s"))
    error = await run.fails("m")
    assert (UpstreamTimeout, "maybe", [0.0]) == (type(error), error.billed, run.times)


@virtual
async def test_a_connection_that_takes_too_long_is_tried_again(road):
    """Nothing was sent: at once."""
    run = road({"m": [[9.0, "late"], "hi"]}, RetryOptions(), DeadlineOptions(connect="2s"))
    done = await run.chat("m")
    assert ("hi", [0.0, 2.0], "connection_failed") == (done.text, run.times, run.trail.record().attempts[0].outcome)


@virtual
async def test_a_stream_that_stalls_is_broken(road):
    """Its reader gets what was said."""
    run = road({"m": [["Hel", "lo", 31.0, "late", Finish()]]}, DeadlineOptions(stall="30s"))
    reply = await run.ask("m")
    with pytest.raises(StreamBroken) as caught:
        [event async for event in reply.events]
    assert ("Hello", 30.0) == (caught.value.partial, run.world.clock.now())


@virtual
async def test_a_slow_reader_is_no_stalled_provider(road):
    """What is in hand may lie there for an hour, and reading goes on behind it."""
    run = road({"m": [["one ", "two ", 20.0, "three", Finish()]]}, DeadlineOptions(stall="30s"))
    reply = await run.ask("m")
    said = []
    async for event in reply.events:
        said.append(event.text)
        await asyncio.sleep(3600)
    assert "one two three" == "".join(said)


@virtual
async def test_a_whole_try_is_bounded(road):
    """`attempt` ends one that never comes to its end, however much it says."""
    run = road({"a": [["word ", *[1.0, "word "] * 20, Finish()]], "b": "short"}, AB, DeadlineOptions(attempt="8s"))
    done = await run.chat()
    assert ("short", [0.0, 8.0]) == (done.text, run.times)


# --- the total ----------------------------------------------------------------------------------------


@virtual
async def test_the_total_ends_the_call(road):
    """At its very instant, whatever is going on; what was sent may be billed."""
    run = road({"m": [[SENT, 99.0]]}, DeadlineOptions(total="7s"))
    error = await run.fails("m")
    assert (DeadlineExceeded, "maybe", 7.0, 0) == (type(error), error.billed, run.world.clock.now(), run.far.open)


@virtual
async def test_a_try_that_the_total_cut_says_so(road):
    """Its outcome is the deadline's, and not that somebody cancelled it."""
    run = road({"m": [[SENT, 99.0]]}, DeadlineOptions(total="7s"))
    error = await run.fails("m")
    assert ["deadline_exceeded"] == [attempt.outcome for attempt in error.attempts]


@virtual
async def test_a_total_that_is_over_before_anything_was_sent_bills_nothing(road):
    """The connection was not there yet."""
    run = road({"m": [[99.0]]}, DeadlineOptions(total="3s"))
    error = await run.fails("m")
    assert (DeadlineExceeded, "no") == (type(error), error.billed)


@virtual
async def test_a_total_that_cuts_a_layer_bills_nothing(road):
    """No try was under way when a layer above waited for something."""

    class Waits(DeadlineOptions):
        def build(self, world):
            async def layer(call, forward):
                await world.clock.sleep(99.0)
                return await forward(call)

            return layer

    run = road({"m": "never"}, DeadlineOptions(total="3s"), Waits(total="1s"))
    error = await run.fails("m")
    assert ("no answer within 3s, the call's total", "no", []) == (error.message, error.billed, run.far.models)


@virtual
async def test_a_total_that_cuts_a_pause_bills_what_failed_before(road):
    """The try before it had ended by itself and says what it cost; nothing was cut."""

    class Waits(DeadlineOptions):
        def build(self, world):
            async def layer(call, forward):
                with suppress(ServerError):
                    await forward(call)
                await world.clock.sleep(99.0)

            return layer

    run = road({"m": ServerError("x")}, DeadlineOptions(total="3s"), Waits(total="1s"))
    error = await run.fails("m")
    assert (DeadlineExceeded, "no", ["server_error"]) == (
        type(error),
        error.billed,
        [one.outcome for one in error.attempts],
    )


@virtual
async def test_the_total_counts_from_the_calls_beginning(road):
    """Not from when the layer was reached."""
    run = road({"m": [[SENT, 99.0]]}, DeadlineOptions(total="7s"))
    call = run.call("m", streamed=True)
    await asyncio.sleep(2.0)
    with pytest.raises(DeadlineExceeded):
        await run.pipeline(call)
    assert 7.0 == run.world.clock.now()


@pytest.mark.parametrize(("timeout", "ends"), [(3.0, 3.0), (99.0, 7.0), (None, 7.0)])
def test_a_callers_timeout_tightens_and_never_loosens(road, timeout, ends):
    """Of two deadlines the nearer wins."""

    @virtual
    async def story():
        run = road({"m": [[SENT, 99.0]]}, DeadlineOptions(total="7s"))
        await run.fails("m", timeout=timeout)
        return run.world.clock.now()

    assert ends == story()


@virtual
async def test_of_two_totals_the_nearer_wins(road):
    """In whatever order they stand."""
    for pair in (("9s", "4s"), ("4s", "9s")):
        run = road({"m": [[SENT, 99.0]]}, *(DeadlineOptions(total=total) for total in pair))
        began = run.world.clock.now()
        await run.fails("m")
        assert 4.0 == run.world.clock.now() - began


@virtual
async def test_the_total_holds_while_a_stream_is_read(road):
    """From the first word on the transport keeps it."""
    run = road({"m": [["word ", *[1.0, "word "] * 20, Finish()]]}, DeadlineOptions(total="5500ms"))
    reply = await run.ask("m")
    with pytest.raises(DeadlineExceeded) as caught:
        [event async for event in reply.events]
    assert (5.5, "word " * 6) == (run.world.clock.now(), caught.value.partial)


@virtual
async def test_nothing_sleeps_past_the_total(road):
    """The retry's pause is not begun: the failure itself is raised, with what the upstream said."""
    run = road({"m": ServerError("down")}, DeadlineOptions(total="1200ms"), RetryOptions(), draw=1.0)
    error = await run.fails("m")
    assert (ServerError, 0.0) == (type(error), run.world.clock.now())


@virtual
async def test_a_callers_cancel_is_no_deadline(road):
    """A cancelled call is cancelled, and its task keeps no cancel of ours."""
    run = road({"m": [[SENT, 99.0]]}, DeadlineOptions(total="7s"))
    task = asyncio.create_task(run.chat("m"))
    await asyncio.sleep(2.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ("cancelled", 1, 0) == (run.trail.outcome, task.cancelling(), run.far.open)


@virtual
async def test_a_deadline_leaves_no_cancel_on_the_task(road):
    """The next wait of the same task is not cut."""
    run = road({"m": [[SENT, 99.0]]}, DeadlineOptions(total="7s"))
    await run.fails("m")
    await asyncio.sleep(1.0)
    task = asyncio.current_task()
    assert (0, 8.0) == (task.cancelling(), run.world.clock.now())


@settings(deadline=None)
@given(
    faults=st.lists(st.sampled_from(["500", "silent", "slow", "ok", "drop"]), min_size=1, max_size=5),
    total=st.floats(0.5, 40.0),
)
def test_a_call_never_outlives_its_total(road, faults, total):
    """Whatever the tries do, the call ends at its total at the latest."""
    acts = {
        "500": ServerError("x"), "silent": [SENT, 500.0], "slow": [SENT, 9.0, "slow", Finish()], "ok": "fine",
        "drop": ConnectionFailed("x"),
    }  # fmt: skip

    @virtual
    async def story():
        script = [acts[fault] for fault in faults]
        run = road({"a": script, "b": script[::-1]}, DeadlineOptions(total=f"{total:.3f}s"), AB, RetryOptions(), FIRST)
        with suppress(DeadlineExceeded, ServerError, UpstreamTimeout, ConnectionFailed):
            await run.chat()
        assert run.world.clock.now() <= round(total, 3) + 1e-6
        assert 0 == run.far.open
        assert all(one <= other for one, other in pairwise(run.times))

    story()
