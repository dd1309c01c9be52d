"""record: what a call leaves behind, on every road out."""

from __future__ import annotations

import asyncio
import pickle

import pytest

from orrouter.core.errors import ModelNotAllowed, RouterError, ServerError, StreamBroken
from orrouter.core.facts import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    FallbackTaken,
    RetryDeclined,
    RetryScheduled,
)
from orrouter.middleware.deadline import DeadlineOptions
from orrouter.middleware.fallback import FallbackOptions
from orrouter.middleware.record import RecordOptions
from orrouter.middleware.retry import RetryOptions
from orrouter.testkit.clock import virtual
from orrouter.testkit.script import EOF, SENT, Finish

AB = FallbackOptions(models=("a", "b"))
CONTENT = RecordOptions(content=True)


def kinds(run) -> list[type]:
    return [type(fact) for fact in run.told]


@virtual
async def test_facts_are_told_in_the_order_they_happen(road):
    """Call, try, its end, the decision, the next try, and the end of the call last."""
    run = road({"a": [ServerError("x")], "b": "served"}, AB, RetryOptions(attempts=2))
    await run.chat()
    tries = [AttemptStarted, AttemptEnded]
    expected = [CallStarted, *tries, RetryScheduled, *tries, RetryDeclined, FallbackTaken, *tries, CallEnded]
    assert expected == kinds(run)


@virtual
async def test_every_fact_bears_the_call_and_its_time(road):
    """The request's id, and seconds since the call began."""
    run = road({"m": [ServerError("x"), [SENT, 1.0, "served", Finish()]]}, RetryOptions())
    await asyncio.sleep(100.0)
    await run.chat("m")
    assert {"req_1"} == {fact.request_id for fact in run.told}
    assert [0.0, 0.0, 0.0, 0.0, 0.25, 1.25, 1.25] == [round(fact.at_s, 3) for fact in run.told]


@virtual
async def test_the_end_of_a_call_tells_how_it_went(road):
    """Outcome, tries, the model that answered, the time and what it cost."""
    paid = Finish("stop", {"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.25})
    run = road({"a": ServerError("x"), "b": [["hi", 2.0, paid]]}, AB)
    await run.chat()
    ended = run.told[-1]
    assert ("ok", 2, "b", 2.0, 250_000_000) == (
        ended.outcome,
        ended.attempts,
        ended.model,
        ended.duration_s,
        ended.cost_nano,
    )


@virtual
async def test_the_beginning_of_a_call_names_what_was_asked(road):
    """The caller's model where he names one, and his tags."""
    run = road({"b": "hi"}, AB)
    await run.chat(models=("b",), tags={"team": "search"})
    started = run.told[0]
    assert ("chat/completions", "b", {"team": "search"}) == (started.endpoint, started.model, started.tags)


@virtual
async def test_the_record_of_an_answer(road):
    """Every try with its outcome, and the decisions between them."""
    run = road({"a": ServerError("down"), "b": "served"}, AB, RetryOptions(attempts=1))
    record = (await run.chat()).record
    tries = [(one.number, one.model, one.outcome, one.message) for one in record.attempts]
    assert ("req_1", "ok", [(1, "a", "server_error", "down"), (2, "b", "ok", "")], [RetryDeclined, FallbackTaken]) == (
        record.request_id,
        record.outcome,
        tries,
        [type(fact) for fact in record.facts],
    )


@virtual
async def test_the_record_of_a_failure(road):
    """It hangs on the error, also after pickling."""
    run = road({"a": ServerError("down"), "b": ServerError("too")}, AB, RetryOptions(attempts=1))
    error = await run.fails()
    sent = pickle.loads(pickle.dumps(error))
    assert ("server_error", 2) == (error.record.outcome, len(error.attempts))
    assert error.record == sent.record


@virtual
async def test_the_record_of_a_refusal(road):
    """Nothing was tried, and the record is there."""
    run = road({}, AB)
    error = await run.fails(models=("z",))
    assert (ModelNotAllowed, "model_not_allowed", ()) == (type(error), error.record.outcome, error.attempts)


@virtual
async def test_the_record_of_a_stream_that_broke(road):
    """It is closed before its reader gets the error."""
    run = road({"m": [["Hel", "lo", 1.0, EOF]]})
    reply = await run.ask("m")
    with pytest.raises(StreamBroken) as caught:
        [event async for event in reply.events]
    record = caught.value.record
    assert ("stream_broken", "stream_broken", 1.0) == (record.outcome, record.attempts[0].outcome, record.duration_s)


@virtual
async def test_the_record_of_a_stream_that_was_left(road):
    """Closed early: `left`, in call and try."""
    run = road({"m": "one two three"})
    reply = await run.ask("m")
    assert "open" == run.trail.record().outcome
    reply.close()
    assert ("left", "left", CallEnded) == (
        run.trail.outcome,
        run.trail.record().attempts[0].outcome,
        type(run.told[-1]),
    )


@virtual
async def test_the_record_of_a_cancelled_call(road):
    """A cancel is no failure of anybody."""
    run = road({"m": [[SENT, 9.0]]})
    task = asyncio.create_task(run.chat("m"))
    await asyncio.sleep(1.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ("cancelled", "cancelled", 1.0) == (
        run.trail.outcome,
        run.trail.record().attempts[0].outcome,
        run.trail.record().duration_s,
    )


@virtual
async def test_the_record_of_a_call_that_ran_out_of_time(road):
    """The call is over its deadline; the try was cut for that."""
    run = road({"m": [[SENT, 9.0]]}, DeadlineOptions(total="2s"))
    error = await run.fails("m")
    assert ("deadline_exceeded", 2.0) == (error.record.outcome, error.record.duration_s)


@virtual
async def test_a_mistake_in_a_layer_is_recorded_too(road):
    """What is none of our errors counts as router_error, and is passed on as it is."""

    class Broken(RecordOptions):
        def build(self, world):
            async def layer(call, forward):
                raise ZeroDivisionError

            return layer

    run = road({"m": "never"}, RecordOptions(), Broken())
    with pytest.raises(ZeroDivisionError):
        await run.chat("m")
    assert "router_error" == run.trail.outcome


@virtual
async def test_the_end_is_told_once(road):
    """Reading to the end and closing afterwards is one end."""
    run = road({"m": "hi"})
    reply = await run.ask("m")
    [event async for event in reply.events]
    reply.close()
    assert 1 == kinds(run).count(CallEnded)


@virtual
async def test_what_was_said_is_not_kept(road):
    """Neither question nor answer stands in the record."""
    run = road({"m": "the answer"})
    record = (await run.chat("m")).record
    assert (None, False) == (record.content, "answer" in repr(record) or "Hello" in repr(record))


@virtual
async def test_content_is_kept_when_the_policy_says_so(road):
    """The body of the request, and the text said."""
    run = road({"m": "the answer"}, CONTENT)
    record = (await run.chat("m", {"temperature": 0.5})).record
    assert {
        "request": {"messages": [{"role": "user", "content": "Hello"}], "temperature": 0.5},
        "said": "the answer",
    } == record.content


@virtual
async def test_content_of_a_whole_answer_is_kept(road):
    """An answer in one JSON is said too."""
    whole = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}]}
    run = road({"m": whole}, CONTENT)
    assert "whole" == (await run.chat("m")).record.content["said"]


@virtual
async def test_content_of_a_failure_is_the_question(road):
    """Nothing was said."""
    run = road({"m": ServerError("x")}, CONTENT)
    content = (await run.fails("m")).record.content
    assert ("", "Hello") == (content["said"], content["request"]["messages"][0]["content"])


@virtual
async def test_content_of_a_broken_stream_is_what_was_said(road):
    """Up to the break."""
    run = road({"m": [["Hel", "lo", EOF]]}, CONTENT)
    reply = await run.ask("m")
    with pytest.raises(StreamBroken) as caught:
        [event async for event in reply.events]
    assert "Hello" == caught.value.record.content["said"]


@virtual
async def test_content_is_what_the_caller_got(road):
    """A try that broke unseen leaves no words of its own."""
    run = road({"a": [["wrong", EOF]], "b": "right"}, CONTENT, AB)
    assert "right" == (await run.chat()).record.content["said"]


@virtual
async def test_nobody_listens(road):
    """Without a listener the record is the same."""
    run = road({"a": ServerError("x"), "b": "served"}, AB)
    call = run.call(streamed=True)
    call.trail.listener = None
    reply = await run.pipeline(call)
    [event async for event in reply.events]
    assert ("ok", ["server_error", "ok"], []) == (
        call.trail.outcome,
        [one.outcome for one in call.trail.record().attempts],
        run.told,
    )


@virtual
async def test_a_call_that_waited_says_how_long(road):
    """`waited_s` is the sum of pauses."""
    run = road({"m": [ServerError("x"), ServerError("x"), "served"]}, RetryOptions())
    assert 0.75 == (await run.chat("m")).record.waited_s


def test_an_error_before_any_call_has_no_record():
    """And no tries."""
    assert (None, ()) == (RouterError("x").record, RouterError("x").attempts)


def test_it_says_what_it_does():
    """With content and without."""
    assert "without what was asked and answered" in RecordOptions().says()
    assert "with the request and the answer" in CONTENT.says()
