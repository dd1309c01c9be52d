"""The clocks of one try, in virtual time: what each of them counts, what it does not, and what its ringing is called."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from orrouter.core.call import ALL
from orrouter.core.errors import DeadlineExceeded, RouterError, UpstreamError
from orrouter.testkit.clock import virtual
from tests.transport.far import (
    ACCOUNT,
    COMMENT,
    DONE,
    FINISH,
    JSON,
    STREAM,
    USAGE,
    Tape,
    call,
    clocks,
    event,
    said,
    streamed,
)

CALL = event({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "now", "arguments": "{"}}]})


def now() -> float:
    return round(asyncio.get_running_loop().time(), 3)


async def failure(tape: Tape, asked) -> tuple:
    """Code, bill and time of what went wrong before the first word or behind it, and what had been said."""
    text = ""
    with pytest.raises(RouterError) as caught:
        stream = await tape.ask(asked)
        async for one in stream:
            text += one.text
    assert tape.response.closed or tape.response.content.at_eof() or asked.attempt.phase in ("not_sent", "sent")
    return caught.value.code, caught.value.billed, now(), text


async def answer(tape: Tape, asked) -> tuple[str, float]:
    """The whole answer, and when it was there."""
    stream = await tape.ask(asked)
    return (await stream.rest()).text, now()


# --- before the answer --------------------------------------------------------------------------------


@virtual
async def test_connecting_has_five_seconds():
    """Nothing was sent: nothing was billed."""
    asked = call()
    assert ("connection_failed", "no", 5.0, "") == await failure(Tape(connect=6), asked)
    assert "not_sent" == asked.attempt.phase


@virtual
async def test_connecting_has_as_long_as_is_written():
    """Another connect clock."""
    assert ("Hello there", 6.0) == await answer(
        Tape((0, JSON), (0, None), connect=6, kind="application/json"), call(clocks=clocks(connect=7))
    )


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ({"first_token": 15}, ("upstream_timeout", "maybe", 15.0, "")),
        ({"first_token": 60, "dead": 45}, ("upstream_timeout", "maybe", 45.0, "")),
        ({"attempt": 10}, ("upstream_timeout", "maybe", 10.0, "")),
    ],
)
@virtual
async def test_a_silent_upstream_is_cut(kept, expected):
    """The request went out and nothing came: it may have been billed."""
    asked = streamed(clocks=clocks(**kept))
    assert expected == await failure(Tape(silence=999), asked)
    assert "sent" == asked.attempt.phase


@virtual
async def test_the_first_token_counts_from_the_sending():
    """Connecting has its own clock."""
    asked = streamed(clocks=clocks(first_token=15))
    assert ("upstream_timeout", "maybe", 19.0, "") == await failure(Tape(connect=4, silence=999), asked)


@virtual
async def test_an_answer_in_one_json_knows_no_dead_clock():
    """A long answer without a stream is silent until it is there."""
    assert ("Hello there", 100.0) == await answer(
        Tape((10, JSON), (10, None), silence=90, kind="application/json"), call()
    )


@virtual
async def test_a_get_may_take_longer_than_connecting():
    """From the sending on the connect clock is off, also without a body."""
    tape = Tape((0, b'{"data": {}}'), (0, None), silence=9, kind="application/json")
    asked = call(endpoint="key", method="GET")
    assert ("", 9.0) == await answer(tape, asked)
    assert "committed" == asked.attempt.phase


@virtual
async def test_the_deadline_of_the_call_cuts_every_wait():
    """Before the sending nothing can have been billed."""
    assert ("deadline_exceeded", "maybe", 3.0, "") == await failure(Tape(silence=9), call(deadline=3.0))
    assert ("deadline_exceeded", "no", 5.0, "") == await failure(Tape(connect=9), call(deadline=5.0))


@virtual
async def test_of_deadline_and_attempt_the_nearer_wins():
    """And bears its own name."""
    assert "upstream_timeout" == (await failure(Tape(silence=99), call(deadline=20.0, clocks=clocks(attempt=10))))[0]
    assert "deadline_exceeded" == (await failure(Tape(silence=99), call(deadline=15.0, clocks=clocks(attempt=10))))[0]


# --- in the stream ------------------------------------------------------------------------------------


def comments(until: float, every: float = 10) -> list[tuple[float, bytes]]:
    return [(at * every, COMMENT) for at in range(int(until / every) + 1)]


@virtual
async def test_comments_do_not_feed_the_first_token():
    """They hide a stuck provider."""
    asked = streamed(clocks=clocks(first_token=15))
    assert ("upstream_timeout", "maybe", 15.0, "") == await failure(Tape(*comments(1000, 1)), asked)


@virtual
async def test_an_empty_role_is_no_first_token():
    """Nothing has been said by it."""
    asked = streamed(clocks=clocks(first_token=15))
    tape = Tape((1, event({"role": "assistant", "content": ""})), (14, event({"role": "assistant", "content": ""})))
    assert ("upstream_timeout", "maybe", 15.0, "") == await failure(tape, asked)


@virtual
async def test_comments_feed_the_dead_clock_and_no_other():
    """While they come the line is alive; when they stop it is dead 45 seconds later."""
    assert ("upstream_timeout", "maybe", 145.0, "") == await failure(Tape(*comments(100)), streamed())


@virtual
async def test_nothing_but_the_deadline_ends_comments_without_clocks():
    """Who writes no clock waits as long as the line lives."""
    assert ("deadline_exceeded", "maybe", 300.0, "") == await failure(Tape(*comments(1000)), streamed(deadline=300.0))


@virtual
async def test_a_stall_is_silence_between_words():
    """What was said stays, and it may have been billed."""
    tape = Tape((1, said("Hel")), (20, said("lo")), *((at + 20, COMMENT) for at in range(100)))
    assert ("stream_broken", "yes", 50.0, "Hello") == await failure(tape, streamed(clocks=clocks(stall=30)))


@virtual
async def test_an_envelope_ends_no_stall():
    """Empty deltas come, nothing is said."""
    tape = Tape((1, said("Hi")), *((at, event({"content": ""})) for at in range(2, 200, 5)))
    assert ("stream_broken", "yes", 31.0, "Hi") == await failure(tape, streamed(clocks=clocks(stall=30)))


@pytest.mark.parametrize(
    "delta", [CALL, event({"reasoning": "Hm"}), event({"reasoning_details": [{"type": "reasoning.text"}]})]
)
@virtual
async def test_thinking_and_tools_may_be_silent_three_times_as_long(delta):
    """Arguments and thoughts are written in one go by some providers."""
    silent = Tape((1, delta), *((at, COMMENT) for at in range(2, 500)))
    assert ("stream_broken", "yes", 91.0, "") == await failure(silent, streamed(clocks=clocks(stall=30)))


@virtual
async def test_behind_a_tool_call_words_have_the_usual_time_again():
    """Only the block itself is slow."""
    tape = Tape((1, CALL), *comments(200), (80, said("Hi")))
    assert ("stream_broken", "yes", 110.0, "Hi") == await failure(tape, streamed(clocks=clocks(stall=30)))


@virtual
async def test_a_slow_reader_is_no_stalled_provider():
    """No clock but the deadline counts while nobody reads."""
    tape = Tape((1, said("Hel")), (2, said("lo")), (3, FINISH + ACCOUNT + DONE), (3, None))
    asked = streamed(clocks=clocks(first_token=5, stall=5, dead=5))
    stream, text = await tape.ask(asked), ""
    async for one in stream:
        text += one.text
        await asyncio.sleep(100)
    assert ("Hello", None) == (text, stream._end.error)


@virtual
async def test_after_a_pause_of_the_reader_the_provider_has_its_whole_time():
    """The stall begins when the reader waits again, not when the last word came."""
    stream = await Tape((1, said("Hi"))).ask(streamed(clocks=clocks(stall=30)))
    await stream.__anext__()
    await asyncio.sleep(100)
    with pytest.raises(UpstreamError):
        await stream.__anext__()
    assert 131.0 == now()


@virtual
async def test_the_dead_clock_holds_in_the_middle_too():
    """Without a stall clock."""
    assert ("stream_broken", "yes", 46.0, "Hi") == await failure(Tape((1, said("Hi"))), streamed())


@virtual
async def test_the_attempt_clock_cuts_a_stream_that_goes_on():
    """However much is said."""
    tape = Tape(*((at, said("x")) for at in range(100)))
    code, billed, at, text = await failure(tape, streamed(clocks=clocks(attempt=9.5)))
    assert ("stream_broken", "yes", 9.5, "x" * 10) == (code, billed, at, text)


@virtual
async def test_a_json_where_a_stream_was_asked_for_keeps_the_clocks_of_a_stream():
    """A gateway that buffers: padding is no first token, and a dead line is dead."""
    padding = [(at, b"\n") for at in range(1000)]
    kept = streamed(clocks=clocks(first_token=15))
    assert ("upstream_timeout", "maybe", 15.0, "") == await failure(Tape(*padding, kind="application/json"), kept)
    ended = now() + 99 + 45
    assert ("upstream_timeout", "maybe", ended, "") == await failure(
        Tape(*padding[:100], kind="application/json"), streamed()
    )
    text, _ = await answer(Tape(*padding[:100], (100, JSON), (100, None), kind="application/json"), streamed())
    assert "Hello there" == text


# --- behind the finish --------------------------------------------------------------------------------


@virtual
async def test_the_finish_waits_for_its_usage():
    """Both come together."""
    stream = await Tape((0, said("Hi")), (1, FINISH), (4, ACCOUNT), (4, DONE), (4, None)).ask(streamed())
    given = [(one.finish_reason, one.usage, now()) async for one in stream]
    assert [(None, None, 0.0), ("stop", None, 4.0), ("stop", USAGE, 4.0)] == given


@virtual
async def test_a_usage_that_never_comes_is_waited_for_five_seconds():
    """The answer is whole all the same; comments prolong nothing."""
    tape = Tape((0, said("Hi")), (1, FINISH), *((at, COMMENT) for at in range(2, 60)))
    assert ("Hi", 6.0) == await answer(tape, streamed(clocks=clocks(stall=2)))
    assert tape.response.closed


@pytest.mark.parametrize("end", [DONE, b""])
@virtual
async def test_the_end_of_the_connection_is_waited_for_half_a_second(end):
    """All is in hand: it only saves the connection."""
    assert ("Hi", 1.5) == await answer(Tape((0, said("Hi")), (1, FINISH + ACCOUNT + end)), streamed())


@virtual
async def test_a_connection_that_ends_well_is_kept():
    """Read to its end, the answer is not closed but given back."""
    tape = Tape((0, STREAM), (0.25, None))
    assert ("Hello there", 0.25) == await answer(tape, streamed())
    assert not tape.response.closed


@virtual
async def test_a_deadline_that_passes_behind_the_finish_makes_no_failure():
    """The answer is whole and only its accounting is lost; it is there before whoever keeps the deadline rings."""
    tape = Tape((0, said("Hi")), (1, FINISH))
    assert ("Hi", 1.95) == await answer(tape, streamed(deadline=2.0))


@virtual
async def test_a_connection_that_breaks_behind_the_finish_makes_no_failure():
    """Nor does the end of it."""
    broken = aiohttp.ClientPayloadError("cut")
    assert ("Hi", 2.0) == await answer(Tape((0, said("Hi")), (1, FINISH), (2, broken)), streamed())


@virtual
async def test_a_connection_that_breaks_before_the_finish_does():
    """However it breaks."""
    for what in (aiohttp.ClientPayloadError("cut"), ConnectionResetError("reset"), None):
        start = now()
        assert ("stream_broken", "yes", start + 2, "Hi") == await failure(Tape((0, said("Hi")), (2, what)), streamed())


@virtual
async def test_an_empty_stop_is_judged_when_its_usage_has_come_or_will_not():
    """An empty reply, whose cost is known or not."""
    assert ("empty_reply", "yes", 1.0, "") == await failure(Tape((1, ACCOUNT)), streamed())
    assert ("empty_reply", "maybe", 7.0, "") == await failure(Tape((1, FINISH)), streamed())


# --- errors and their bodies ---------------------------------------------------------------------------


@virtual
async def test_the_status_decides_where_the_body_of_an_error_never_comes():
    """It is waited for five seconds."""
    asked = call()
    tape = Tape((0, b'{"error": {"mess'), status=503, kind="application/json", X_Generation_Id="gen-7")
    assert ("overloaded", 5.0) == (await failure(tape, asked))[::2][:2]
    assert (503, "gen-7", "headers") == (asked.attempt.status, asked.attempt.generation_id, asked.attempt.phase)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (301, ("server_error", "no", "no")), (307, ("server_error", "no", "no")), (204, ("server_error", "yes", "maybe")),
        (202, ("server_error", "no", "maybe")), (429, ("rate_limited", "yes", "no")), (401, ("auth_failed", "no", "no")),
        (400, ("invalid_request", "no", "no")), (502, ("server_error", "yes", "maybe")),
    ],
)  # fmt: skip
@virtual
async def test_every_status_but_200_is_a_failure(status, expected):
    """Redirects are not followed; what is a success elsewhere is no answer here."""
    body = (JSON,) if status == 202 else ()
    tape = Tape(
        *((0, data) for data in body),
        (0, None),
        status=status,
        kind="application/json",
        Location="https://else.where/x",
    )
    with pytest.raises(UpstreamError) as caught:
        await tape.ask(call())
    assert expected == (caught.value.code, caught.value.again, caught.value.billed)
    assert (status < 300 or status >= 400) != ("https://else.where/x" in str(caught.value))


@virtual
async def test_an_answer_larger_than_allowed_is_cut():
    """It was billed, and would be as large again."""
    tape = Tape(*((0, b" " * 1000) for _ in range(99)), kind="application/json")
    with pytest.raises(UpstreamError, match="larger than 5000 bytes") as caught:
        await tape.ask(call(), max_body=5000)
    assert ("yes", "no", True) == (caught.value.billed, caught.value.again, tape.response.closed)


@virtual
async def test_the_phases_of_a_try():
    """Not sent, sent, headers, committed: each as soon as it is true."""
    asked, seen = streamed(buffer=ALL), []
    loop = asyncio.get_running_loop()
    tape = Tape((1, said("Hi")), (2, FINISH + ACCOUNT + DONE), (2, None), connect=1, silence=1)
    for at in (0.5, 1.5, 2.5, 3.5):
        loop.call_at(at, lambda: seen.append(asked.attempt.phase))
    await tape.ask(asked)
    assert ["not_sent", "sent", "headers", "committed"] == seen
    assert (3.0, "served", "P", "gen-1") == (
        asked.attempt.first_token,
        asked.attempt.model,
        asked.attempt.provider,
        asked.attempt.generation_id,
    )


@virtual
async def test_the_callers_cancel_stays_a_cancel():
    """At whatever turn it comes, no clock takes it for its own."""
    tape = Tape((1, said("Hi")), (50, said("!")))
    for at in (0.5, 1.0, 1.5, 20):
        task = asyncio.ensure_future(tape.ask(streamed(buffer=ALL, clocks=clocks(first_token=15, stall=30))))
        asyncio.get_running_loop().call_later(at, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (1, True) == (task.cancelling(), tape.response.closed)
        tape = Tape((1, said("Hi")), (50, said("!")))


@virtual
async def test_the_message_of_a_clock_names_it_and_its_time():
    """For whoever has to set it right."""
    told = []
    for tape, kept in (
        (Tape(silence=99), {"first_token": 15}), (Tape((0, COMMENT)), {}), (Tape((0, said("Hi"))), {"stall": 30}),
        (Tape(connect=9), {}),
    ):  # fmt: skip
        with pytest.raises(RouterError) as caught:
            stream = await tape.ask(streamed(clocks=clocks(**kept)))
            await stream.rest()
        told.append(caught.value.message)
    assert [
        "no first token within 15s, the first_token clock",
        "not one byte within 45s, the dead clock",
        "nothing said for 30s, the stall clock",
        "no connection within 5s",
    ] == told
    assert DeadlineExceeded.code != "upstream_timeout"
