"""The scripted far end: what it plays, under which clocks, and what it remembers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orrouter.core.call import ALL, Attempt, Call, Clocks, Target, Trail
from orrouter.core.errors import (
    ConnectionFailed,
    DeadlineExceeded,
    EmptyReply,
    Overloaded,
    RouterError,
    ServerError,
    StreamBroken,
    UpstreamTimeout,
)
from orrouter.core.reply import Reply
from orrouter.testkit.clock import run_virtual, virtual
from orrouter.testkit.script import COMMENT, EOF, SENT, Act, Finish, ScriptedTransport, steps_of

KEPT = Clocks(connect=1.0, first_token=2.0, stall=3.0, dead=4.0)
HUNDRED = 100.0
WHOLE = {"message": {"content": "whole"}, "finish_reason": "stop"}


def call_of(model: str = "big", **fields: Any) -> Call:
    loop = asyncio.get_running_loop()
    target = Target(model=model)
    fields.setdefault("clocks", KEPT)
    return Call(
        trail=Trail("req_1", loop.time), target=target, streamed=True, attempt=Attempt(1, target, loop.time()), **fields
    )


async def texts(reply: Reply) -> list[str]:
    return [event.text async for event in reply.events]


def played(act: Act, **fields: Any) -> tuple[Any, float]:
    """What a try brings (the texts, or its error) and when it was over."""

    async def main() -> tuple[Any, float]:
        far = ScriptedTransport({"big": [act]})
        try:
            said: Any = await texts(await far(call_of(**fields)))
        except RouterError as error:
            said = error
        assert 0 == far.open
        return said, asyncio.get_running_loop().time()

    return run_virtual(main())


# --- acts -----------------------------------------------------------------------------------------------


@virtual
async def test_a_text_is_said_word_by_word():
    """Joined it is whole, and it ends well with its usage."""
    far = ScriptedTransport({"big": "the quick fox"})
    reply = await far(call_of())
    assert ["the ", "quick ", "fox", ""] == await texts(reply)
    done = reply.events.completion
    assert ("the quick fox", "stop", {"prompt_tokens": 1, "completion_tokens": 1}) == (
        done.text,
        done.finish_reason,
        done.usage,
    )


@virtual
async def test_each_try_takes_the_next_act_and_the_last_repeats():
    """For each model on its own."""
    far = ScriptedTransport({"big": [Overloaded("busy"), "hello"], "small": "hi"})
    with pytest.raises(Overloaded):
        await far(call_of())
    said = [await texts(await far(call_of(model))) for model in ("big", "small", "big")]
    assert [["hello", ""], ["hi", ""], ["hello", ""]] == said
    assert (["big", "big", "small", "big"], 0) == (far.models, far.open)


@virtual
async def test_an_act_may_be_chosen_by_the_call():
    """A function of it, for what no list can say."""
    far = ScriptedTransport(lambda call: f"you asked {call.target.model}")
    assert "you asked tiny" == (await (await far(call_of("tiny"))).completion()).text


@virtual
async def test_a_dict_is_the_body_of_an_answer():
    """Given as one event, with its origin noted."""
    body = {"id": "gen-9", "model": "used", "provider": "Acme", "choices": [WHOLE]}
    reply = await ScriptedTransport({"big": body})(call_of())
    done = await reply.completion()
    assert ("whole", "used", "Acme", "gen-9", body) == (done.text, done.model, done.provider, done.id, done.raw)


@virtual
async def test_every_try_gets_an_error_of_its_own():
    """Whoever catches one writes its place and record onto it; the next must start clean."""
    far = ScriptedTransport({"big": [Overloaded("busy", retry_after=3.0)]})
    caught = []
    for _ in range(2):
        with pytest.raises(Overloaded) as one:
            await far(call_of())
        caught.append(one.value.at(request_id=f"req_{len(caught)}"))
    assert ["req_0", "req_1"] == [error.request_id for error in caught]
    assert [3.0, 3.0] == [error.retry_after for error in caught]


@virtual
async def test_an_error_that_is_none_of_ours_is_raised_as_it_is():
    """To see what a layer makes of a bug."""
    bug = KeyError("bug")
    with pytest.raises(KeyError) as caught:
        await ScriptedTransport({"big": bug})(call_of())
    assert bug is caught.value


@virtual
async def test_a_model_without_an_act_is_told_with_those_that_have_one():
    """A script that forgot somebody fails where it was forgotten."""
    for acts in ({"small": "hi"}, {"small": "hi", "big": []}):
        with pytest.raises(LookupError, match="no act for the model 'big'.*small"):
            await ScriptedTransport(acts)(call_of())


@pytest.mark.parametrize("step", [SENT, 0.5, Finish()])
def test_a_step_is_no_act(step):
    """Steps of one try stand in a list of their own, and who forgets it is told so."""
    with pytest.raises(TypeError, match="a list of their own"):
        steps_of(step)


# --- steps ----------------------------------------------------------------------------------------------


def test_numbers_wait():
    """So many seconds, where they stand."""
    assert (["a", "b", ""], 0.75) == played([0.25, SENT, "a", 0.25, "b", 0.25, Finish()])


def test_eof_ends_without_a_finish():
    """What stands behind it is not played."""
    said, _ = played([SENT, "a", EOF, "b", Finish()])
    assert (StreamBroken, "a") == (type(said), said.partial)


def test_a_script_that_just_stops_is_cut_there():
    """As if EOF stood at its end."""
    assert (StreamBroken, EmptyReply) == (type(played([SENT, "a"])[0]), type(played([SENT])[0]))


def test_an_error_stands_where_it_happens():
    """Behind what was said before it."""

    async def main() -> None:
        reply = await ScriptedTransport({"big": [[SENT, "a", ServerError("broken")]]})(call_of())
        assert "a" == (await anext(reply.events)).text
        with pytest.raises(ServerError):
            await anext(reply.events)

    run_virtual(main())


@pytest.mark.parametrize("reason", ["stop", "end_turn", "tool"])
def test_a_finish_with_nothing_said_is_an_empty_reply(reason):
    """Unless the reason is an answer in itself."""
    assert EmptyReply is type(played([SENT, "", Finish(reason)])[0])


@pytest.mark.parametrize("reason", ["length", "content_filter", "tool_calls"])
def test_some_reasons_are_an_answer(reason):
    """Though nothing was said."""
    assert [""] == played([SENT, Finish(reason)])[0]


def test_a_finish_may_come_without_usage():
    """As from upstreams that do not count."""

    async def main() -> None:
        done = await (await ScriptedTransport({"big": [[SENT, "a", Finish(usage=None)]]})(call_of())).completion()
        assert ("a", {}) == (done.text, done.usage)

    run_virtual(main())


def test_a_finish_that_is_an_error_breaks_the_stream():
    """As OpenRouter says that a provider failed in the middle."""
    said, _ = played([SENT, "a", Finish("error")])
    assert (StreamBroken, "a") == (type(said), said.partial)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"code": 503, "message": "busy", "metadata": {"error_type": "provider_overloaded"}}}, Overloaded),
        ({"choices": []}, EmptyReply),
        ({"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}, EmptyReply),
        ({"choices": [{"message": {"content": "cut sho"}}]}, StreamBroken),
        ({"nothing": 1}, ServerError),
    ],
)
def test_a_body_is_judged_as_one_that_came_over_http(body, kind):
    """An error inside a 200, and an answer that says nothing, are no answers."""
    assert kind is type(played(body)[0])


def test_the_body_of_another_endpoint_needs_no_choices():
    """Lists, embeddings: `data`."""
    assert [""] == played({"data": [{"id": "big"}]}, endpoint="models", method="GET")[0]


# --- what it writes down --------------------------------------------------------------------------------


@virtual
async def test_the_attempt_tells_how_far_it_came():
    """From not sent to committed, with the status and the times."""
    far = ScriptedTransport({"big": [[0.5, SENT, 0.5, COMMENT, 0.5, "a", 0.5, Finish()]]})
    call, phases = call_of(), []
    attempt = call.attempt
    asked = asyncio.ensure_future(far(call))
    for _ in range(3):
        await asyncio.sleep(0.4)
        phases.append((attempt.phase, attempt.status))
        await asyncio.sleep(0.1)
    reply = await asked
    assert [("not_sent", None), ("sent", None), ("headers", 200)] == phases
    assert ("committed", 1.5, "Scripted", "gen-1") == (
        attempt.phase,
        attempt.first_token,
        attempt.provider,
        attempt.generation_id,
    )
    reply.close()


@virtual
async def test_it_remembers_who_asked_when_and_who_was_let_go_of():
    """`open` counts the sources that nobody has closed."""
    far = ScriptedTransport({"big": "a b"})
    await asyncio.sleep(2)
    one, other = await far(call_of()), await far(call_of())
    assert 2 == far.open
    one.close()
    one.close()
    assert (1, [True, False], [2.0, 2.0]) == (
        far.open,
        [played.closed for played in far.tries],
        [played.at for played in far.tries],
    )
    await other.completion()
    assert 0 == far.open


@virtual
async def test_closing_ends_a_wait_that_is_under_way():
    """As a socket that is closed wakes its reader, who gets an end."""
    far = ScriptedTransport({"big": [[SENT, "a", 2.0, "b", Finish()]]})
    reply = await far(call_of())
    await anext(reply.events)
    reading = asyncio.ensure_future(texts(reply))
    await asyncio.sleep(1)
    reply.close()
    assert ([], 1.0, 0) == (await reading, asyncio.get_running_loop().time(), far.open)


@virtual
async def test_a_cancelled_try_leaves_nothing_on_the_loop():
    """No timer, no task, no open source."""
    far = ScriptedTransport({"big": [[SENT, HUNDRED]]})
    asked = asyncio.ensure_future(far(call_of(clocks=Clocks())))
    await asyncio.sleep(1)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    timers = [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]
    assert (0, []) == (far.open, timers)


# --- clocks ---------------------------------------------------------------------------------------------

CLOCKS: dict[str, tuple[Act, dict[str, Any], type[RouterError], float]] = {
    "connect": ([HUNDRED, SENT, "a"], {}, ConnectionFailed, 1.0),
    "first_token": ([0.5, SENT, HUNDRED, "a"], {}, UpstreamTimeout, 2.5),
    "first_token, comments": ([SENT, 1.5, COMMENT, 1.5, "", HUNDRED], {}, UpstreamTimeout, 2.0),
    "stall": ([SENT, 1.0, "a", HUNDRED], {}, StreamBroken, 4.0),
    "stall, comments": ([SENT, "a", 1.5, COMMENT, 1.0, COMMENT, HUNDRED], {}, StreamBroken, 3.0),
    "dead": ([SENT, "a", 1.0, COMMENT, HUNDRED], {"clocks": Clocks(dead=4.0)}, StreamBroken, 5.0),
    "dead, first": ([SENT, 3.0, COMMENT, HUNDRED], {"clocks": Clocks(dead=4.0)}, UpstreamTimeout, 7.0),
    "attempt": ([SENT, 2.0, "a", 2.0, "b", HUNDRED], {"clocks": Clocks(attempt=5.0)}, StreamBroken, 5.0),
    "attempt, first": ([SENT, HUNDRED], {"clocks": Clocks(attempt=5.0)}, UpstreamTimeout, 5.0),
    "total": ([SENT, 1.0, "a", HUNDRED], {"deadline": 2.5}, DeadlineExceeded, 2.5),
    "total, passed": ([SENT, "a", 1.0, "b"], {"deadline": -1.0}, DeadlineExceeded, 0.0),
}


@pytest.mark.parametrize("name", CLOCKS)
def test_each_clock_cuts_at_its_instant(name):
    """Comments feed the dead clock and no other."""
    act, fields, kind, ends = CLOCKS[name]
    said, at = played(act, **fields)
    assert (kind, ends) == (type(said), at)


@pytest.mark.parametrize(("act", "billed"), [([HUNDRED], "no"), ([SENT, HUNDRED], "maybe")])
def test_a_deadline_says_whether_it_may_be_billed(act, billed):
    """Only what was sent can be."""
    assert billed == played(act, deadline=0.5)[0].billed


@virtual
async def test_no_clock_counts_while_nobody_reads():
    """A slow reader is no stalled provider."""
    far = ScriptedTransport({"big": [[SENT, "a", 2.5, "b", 2.5, Finish()]]})
    reply = await far(call_of())
    said = []
    async for event in reply.events:
        said.append(event.text)
        await asyncio.sleep(HUNDRED)
    assert ["a", "b", ""] == said


@virtual
async def test_an_answer_that_is_no_stream_has_no_dead_clock():
    """Nobody asked for a stream, so silence means nothing; the clocks of the whole try hold."""
    far = ScriptedTransport({"big": [[SENT, HUNDRED, {"choices": [WHOLE]}]]})
    patient = call_of(clocks=Clocks(dead=4.0), buffer=ALL).to(streamed=False)
    assert "whole" == (await (await far(patient)).completion()).text
    with pytest.raises(UpstreamTimeout):
        await far(patient.to(clocks=Clocks(attempt=5.0), attempt=Attempt(1, Target(), 0.0)))
