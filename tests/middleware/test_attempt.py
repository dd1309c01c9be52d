"""attempt: one pass is one try, held back as long as the caller must not see it."""

from __future__ import annotations

import asyncio

import pytest

from orrouter.core.errors import BudgetExceeded, Refused, ServerError, StreamBroken, UpstreamError
from orrouter.core.facts import AttemptEnded, AttemptStarted, EventsSkipped
from orrouter.middleware.attempt import AttemptOptions
from orrouter.middleware.base import World
from orrouter.middleware.retry import RetryOptions
from orrouter.testkit.clock import VirtualClock, virtual
from orrouter.testkit.script import EOF, SENT, Finish


@virtual
async def test_a_try_is_written_down(road):
    """Number, target, times, who served, how it ended and what it used."""
    done = Finish("stop", {"prompt_tokens": 3, "completion_tokens": 2, "cost": 0.001})
    run = road({"m": [[SENT, 1.0, "Hel", 1.0, "lo", done]]})
    (one,) = (await run.chat("m")).record.attempts
    assert (1, "openrouter", "m", "Scripted", "ok", 200, "gen-1", "stop", 1_000_000) == (
        one.number, one.upstream, one.model, one.provider, one.outcome, one.status, one.generation_id, one.finish_reason,
        one.cost_nano,
    )  # fmt: skip
    assert (0.0, 1.0, 2.0, 2.0) == (one.started_s, one.first_token_s, one.ended_s, one.duration_s)


@virtual
async def test_each_try_has_its_number(road):
    """Counted from one over the whole call."""
    run = road({"m": [ServerError("x"), ServerError("x"), "hi"]}, RetryOptions())
    record = (await run.chat("m")).record
    assert [1, 2, 3] == [one.number for one in record.attempts]


@virtual
async def test_an_error_knows_where_it_happened(road):
    """Upstream, model and request are filled in."""
    run = road({"m": ServerError("down")})
    error = await run.fails("m")
    assert ("openrouter", "m", "req_1") == (error.upstream, error.model, error.request_id)


@virtual
async def test_what_an_error_says_of_itself_stands(road):
    """The upstream's own words go before ours."""
    run = road({"m": ServerError("down").at(model="m-2026")})
    assert "m-2026" == (await run.fails("m")).model


@virtual
async def test_an_error_in_mid_stream_knows_where_it_happened(road):
    """As one before the first word does."""
    run = road({"m": [["Hel", EOF]]})
    reply = await run.ask("m")
    with pytest.raises(StreamBroken) as caught:
        [event async for event in reply.events]
    assert ("openrouter", "m", "req_1") == (caught.value.upstream, caught.value.model, caught.value.request_id)


@virtual
async def test_a_stream_comes_up_with_its_first_word(road):
    """The rest is read as the caller reads."""
    run = road({"m": [[SENT, 1.0, "one ", 5.0, "two", Finish()]]})
    reply = await run.ask("m")
    at_first = run.world.clock.now()
    [event async for event in reply.events]
    assert (1.0, 6.0) == (at_first, run.world.clock.now())


@virtual
async def test_a_chat_comes_up_whole(road):
    """Nothing is seen of an answer before its end."""
    run = road({"m": [[SENT, 1.0, "one ", 5.0, "two", Finish()]]})
    reply = await run.pipeline(run.call("m", buffer=1 << 62))
    assert (6.0, True) == (run.world.clock.now(), reply.events.ended)


@virtual
async def test_a_break_while_it_is_held_back_is_a_plain_error(road):
    """It is raised from below, its source is closed, and it is written down once."""
    run = road({"m": [["Hel", "lo", EOF]]})
    error = await run.fails("m")
    assert (StreamBroken, "Hello", 0, 1, 1) == (
        type(error),
        error.partial,
        run.far.open,
        len(error.attempts),
        len([fact for fact in run.told if type(fact) is AttemptEnded]),
    )


@virtual
async def test_a_cancel_while_it_is_held_back_lets_go(road):
    """The source is closed, the try is cancelled."""
    run = road({"m": [["Hel", 9.0, "lo", Finish()]]})
    task = asyncio.create_task(run.chat("m"))
    await asyncio.sleep(1.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (0, "cancelled") == (run.far.open, run.trail.record().attempts[0].outcome)


@virtual
async def test_what_is_refused_below_was_no_try(road):
    """The money gate stands below: its refusal leaves no attempt, and its number is given again."""
    refusals = [BudgetExceeded("too dear"), None]

    async def gate(call):
        refusal = refusals.pop(0)
        if refusal is not None:
            raise refusal
        return await run.far(call)

    run = road({"m": "hi"})
    layer = AttemptOptions().build(World(clock=VirtualClock()))
    call = run.call("m")
    with pytest.raises(Refused):
        await layer(call, gate)
    assert [] == call.trail.attempts
    reply = await layer(call, gate)
    assert [1] == [one.number for one in call.trail.attempts]
    reply.close()


@virtual
async def test_a_refusal_of_something_that_was_sent_stays(road):
    """A try that went out is never forgotten, whatever ends it."""

    async def cut(call):
        call.attempt.phase = "sent"
        raise BudgetExceeded("outran it")

    run = road({})
    layer = AttemptOptions().build(World(clock=VirtualClock()))
    call = run.call("m")
    with pytest.raises(BudgetExceeded):
        await layer(call, cut)
    assert ["budget_exceeded"] == [one.outcome for one in call.trail.attempts]


@virtual
async def test_its_beginning_and_end_are_told(road):
    """With number, place, outcome and time."""
    run = road({"m": [[SENT, 2.0, ServerError("x", status=500)]]})
    await run.fails("m")
    started, ended = (fact for fact in run.told if type(fact) in (AttemptStarted, AttemptEnded))
    assert (1, "openrouter", "m") == (started.number, started.upstream, started.model)
    assert (1, "server_error", 2.0, 2.0) == (ended.number, ended.outcome, ended.duration_s, ended.at_s)


@virtual
async def test_skipped_events_are_counted(road):
    """An event that was no JSON stands in the record as a fact."""

    async def skips(call):
        call.attempt.malformed = 2
        return await run.far(call)

    run = road({"m": "hi"})
    layer = AttemptOptions().build(World(clock=VirtualClock()))
    call = run.call("m")
    reply = await layer(call, skips)
    [event async for event in reply.events]
    assert [2] == [fact.count for fact in call.trail.facts if type(fact) is EventsSkipped]


@virtual
async def test_a_foreign_error_is_written_down_and_passed_on(road):
    """It is not made one of ours."""

    async def broken(call):
        raise ZeroDivisionError

    run = road({})
    layer = AttemptOptions().build(World(clock=VirtualClock()))
    call = run.call("m")
    with pytest.raises(ZeroDivisionError):
        await layer(call, broken)
    assert ["router_error"] == [one.outcome for one in call.trail.attempts]


def test_an_error_out_of_any_call_is_placed_nowhere():
    """Its text has no bracket."""
    assert "upstream_error: x" == str(UpstreamError("x"))


def test_it_says_what_it_does():
    """In one line."""
    assert AttemptOptions().says().startswith("makes one try")
