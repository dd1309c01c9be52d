"""The faults on the wire, by name, and the scenarios that bring them."""

from __future__ import annotations

import asyncio
import time
from email.utils import parsedate_to_datetime

import aiohttp
import pytest

from orrouter.testkit.faults import FAULTS, Scenarios, parse_fault
from orrouter.testkit.speech import CANONICAL

FIVE = "A river does not hurry"


def message(got):
    return got.json["error"]["message"]


def finishes(got):
    """The finish reasons of all chunks that have one."""
    events = [event for event in got.events if isinstance(event, dict) and event.get("choices")]
    return [reason for event in events if (reason := event["choices"][0].get("finish_reason"))]


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_every_fault_says_what_it_does(name):
    """The list for people has a sentence for each."""
    assert len(FAULTS[name].says) > 10


@pytest.mark.parametrize("status", [400, 401, 408, 413, 429, 500, 502, 503, 504, 529])
async def test_a_number_is_a_status(client, status):
    """`fault/503` answers 503 with a JSON error of that code."""
    got = await client.chat(f"fault/{status}")
    assert (status, status) == (got.status, got.json["error"]["code"])


async def test_any_status_can_be_asked_for(client):
    """`status:418` answers 418."""
    assert 418 == (await client.chat("fault/status:418")).status


async def test_429_hints_in_seconds(client):
    """Retry-After is 2 unless a number is given."""
    waits = [(await client.chat(f"fault/{name}")).headers["Retry-After"] for name in ("429", "429:7")]
    assert ["2", "7"] == waits


async def test_429_date_hints_by_a_date(client):
    """Retry-After is a date in the near future."""
    got = await client.chat("fault/429_date:60")
    assert 50 < parsedate_to_datetime(got.headers["Retry-After"]).timestamp() - time.time() <= 60


async def test_429_ms_hints_in_milliseconds(client):
    """retry-after-ms stands alone."""
    got = await client.chat("fault/429_ms")
    assert ("1500", None) == (got.headers["retry-after-ms"], got.headers.get("Retry-After"))


async def test_429_body_hints_in_the_body_only(client):
    """The wait stands in the metadata."""
    got = await client.chat("fault/429_body:4")
    assert (4, None) == (got.json["error"]["metadata"]["retry_after_seconds"], got.headers.get("Retry-After"))


@pytest.mark.parametrize("name", ["429_reset", "429_free_day"])
async def test_a_free_limit_resets_in_the_future(client, name):
    """X-RateLimit-Reset is epoch milliseconds, mirrored in the body."""
    got = await client.chat(f"fault/{name}")
    reset = got.headers["X-RateLimit-Reset"]
    assert reset == got.json["error"]["metadata"]["headers"]["X-RateLimit-Reset"]
    assert time.time() * 1_000 < int(reset)


async def test_429_pool_gives_no_hint(client):
    """The shared pool names itself and no time."""
    got = await client.chat("fault/429_pool")
    source = got.json["error"]["metadata"]["limit_source"]
    assert ("upstream_provider_shared_pool", None) == (source, got.headers.get("Retry-After"))


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("402_afford:7", 402, "requested up to 50 tokens, but can only afford 7."),
        ("402_in_flight", 402, "in-flight requests"),
        ("402_credits", 402, "Insufficient credits"),
        ("402_key_limit", 402, "Key limit"),
        ("403_key_limit", 403, "Key limit exceeded (daily limit)"),
        ("403_moderation", 403, "requires moderation on Fake One"),
        ("400_context:9", 400, "maximum context length is 9 tokens"),
        ("400_no_models", 400, "No models provided"),
        ("404_no_provider", 404, "No endpoints found for fault/404_no_provider."),
        ("404_transient", 404, "Provider returned error"),
        ("502_policy", 502, "flagged"),
    ],
)
async def test_a_refusal_speaks_as_openrouter_does(client, fault, status, words):
    """Status and the words that a client matches on."""
    got = await client.chat(f"fault/{fault}", max_tokens=50)
    assert (status, True) == (got.status, words in message(got))


@pytest.mark.parametrize(("fault", "status"), [("502_html", 502), ("524_html", 524), ("html_200", 200)])
async def test_a_page_is_no_json(client, fault, status):
    """A proxy's page has its status and its content type."""
    got = await client.chat(f"fault/{fault}")
    assert (status, True, "<") == (got.status, got.headers["Content-Type"].startswith("text/html"), got.text[0])


@pytest.mark.parametrize(("fault", "status"), [("empty_200", 200), ("429_empty", 429)])
async def test_a_reply_may_be_empty(client, fault, status):
    """Not a byte of body."""
    got = await client.chat(f"fault/{fault}")
    assert (status, "") == (got.status, got.text)


async def test_padding_precedes_valid_json(client):
    """A mebibyte of newlines, then the answer."""
    got = await client.chat("fault/padded:1")
    assert (1 << 20, CANONICAL) == (
        len(got.text) - len(got.text.lstrip()),
        got.json["choices"][0]["message"]["content"],
    )


async def test_padding_without_an_answer_is_charged(fake, client):
    """Newlines, a clean end, and the full price."""
    got = await client.chat("fault/padded_cut:1")
    assert ("", 122_000) == (got.text.strip(), fake.true_cost())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["error_in_200", "error_first"])
async def test_an_error_wears_the_status_200(client, fault, stream):
    """The error stands in the body, or in the first event."""
    got = await client.chat(f"fault/{fault}", stream=stream)
    body = got.events[0] if stream else got.json
    assert (200, 502) == (got.status, body["error"]["code"])


async def test_an_error_may_be_a_string(client):
    """`error` is no object."""
    assert {"error": "upstream timeout"} == (await client.chat("fault/string_error")).json


@pytest.mark.parametrize("stream", [False, True])
async def test_choices_may_be_empty(client, stream):
    """No choice, no error."""
    got = await client.chat("fault/choices_empty", stream=stream)
    body = got.events[0] if stream else got.json
    assert ([], False) == (body["choices"], "error" in body)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_may_stand_in_the_choice(client, stream):
    """A part of the answer, then an error in the choice."""
    got = await client.chat("fault/choice_error", stream=stream)
    choice = got.events[-2]["choices"][0] if stream else got.json["choices"][0]
    said = got.said if stream else choice["message"]["content"]
    assert (FIVE, "error", 502) == (said, choice["finish_reason"], choice["error"]["code"])


async def test_an_error_may_come_in_mid_stream(client):
    """Five deltas, then an event with a top-level error."""
    got = await client.chat("fault/error_mid", stream=True)
    assert (FIVE, 502, "[DONE]") == (got.said, got.events[-2]["error"]["code"], got.events[-1])


async def test_a_finish_may_be_an_error_without_words(fake, client):
    """finish_reason error, no error object, nothing charged."""
    got = await client.chat("fault/finish_error", stream=True)
    assert (["error"], False, 0) == (finishes(got), '"error":' in got.text, fake.true_cost())


async def test_a_slow_first_token_waits_behind_the_headers(client):
    """The answer is whole; headers came at once."""
    assert CANONICAL == (await client.chat("fault/slow_first:12", stream=True)).said


async def test_slow_headers_bring_a_whole_answer(client):
    """Nothing for a while, then all of it."""
    assert CANONICAL == (await client.chat("fault/slow_headers:12")).json["choices"][0]["message"]["content"]


@pytest.mark.parametrize("fault", ["silent", "stall:0", "stall_comments:2", "comments_forever"])
async def test_a_hanging_reply_ends_with_the_client(fake, client, fault):
    """The client gives up, and the log says so."""
    asking = asyncio.create_task(client.chat(f"fault/{fault}", stream=True))
    await fake.arrived()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await fake.settled()
    assert "client_gone" == fake.requests[0].finished


async def test_comments_go_on_for_ever(fake, client):
    """Keep-alive comments, and nothing that is an event."""
    body = {"model": "fault/comments_forever", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    async with client.session.post(f"{fake.url}/chat/completions", json=body) as reply:
        lines = [(await reply.content.readline()).strip() for _ in range(5)]
    assert [b": OPENROUTER PROCESSING", b""] * 2 == lines[:4]


async def test_a_reset_is_a_reset(client):
    """The client sees a reset before any header."""
    with pytest.raises(aiohttp.ClientOSError):
        await client.chat("fault/reset")


@pytest.mark.parametrize("fault", ["cut_before_first", "cut_mid:3"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_cut_breaks_the_payload(client, fault, stream):
    """The client sees that the reply is not whole."""
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.chat(f"fault/{fault}", stream=stream)


async def test_a_cut_stream_is_charged_for_what_it_carried(fake, client):
    """Two prompt tokens and three words."""
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.chat("fault/cut_mid:3", stream=True)
    await fake.settled()
    assert ("cut", 3, 2_000 + 3 * 2_000) == (
        fake.requests[0].finished,
        fake.requests[0].completion_tokens,
        fake.true_cost(),
    )


async def test_a_stream_may_end_without_a_finish(fake, client):
    """Five deltas, a clean end; no finish, no [DONE]; charged for five words."""
    got = await client.chat("fault/eof_no_finish", stream=True)
    assert (FIVE, [], False, 2_000 + 5 * 2_000) == (got.said, finishes(got), "[DONE]" in got.text, fake.true_cost())


async def test_an_answer_may_end_without_a_finish(client):
    """The same as one JSON: finish_reason null."""
    choice = (await client.chat("fault/eof_no_finish")).json["choices"][0]
    assert (FIVE, None) == (choice["message"]["content"], choice["finish_reason"])


async def test_done_may_be_missing(client):
    """The whole answer with usage, and no [DONE]."""
    got = await client.chat("fault/no_done", stream=True)
    assert (CANONICAL, True, False) == (got.said, "usage" in got.events[-1], "[DONE]" in got.text)


async def test_one_broken_event_leaves_the_rest_whole(client):
    """An event that is no JSON among events that are."""
    got = await client.chat("fault/malformed_chunk", stream=True)
    broken = [event for event in got.events[:-1] if isinstance(event, str)]
    assert (1, CANONICAL, "[DONE]") == (len(broken), got.said, got.events[-1])


async def test_a_comment_may_leak_into_the_data(client):
    """`data: : OPENROUTER PROCESSING`, then the whole answer."""
    got = await client.chat("fault/comment_as_data", stream=True)
    assert (": OPENROUTER PROCESSING", CANONICAL) == (got.events[0], got.said)


async def test_a_line_may_be_huge(client):
    """One line of 100 KiB and more."""
    got = await client.chat("fault/huge_line:100", stream=True)
    assert (True, CANONICAL) == (max(map(len, got.text.splitlines())) > 102_400, got.said)


async def test_lines_may_end_in_cr_lf(client):
    """No bare LF is left."""
    got = await client.chat("fault/crlf", stream=True)
    assert (0, CANONICAL) == (got.text.replace("\r\n", "").count("\n"), got.said)


async def test_characters_may_be_split_between_writes(client):
    """Joined, the text is whole."""
    assert "🎉" in (await client.chat("fault/multibyte", stream=True)).said


async def test_an_answer_may_drip(fake, client):
    """A byte at a time, it is whole in the end."""
    fake.say("fault/drip", "Drip drop.")
    assert "Drip drop." == (await client.chat("fault/drip", stream=True)).said


async def test_a_role_may_be_missing(client):
    """No delta has one."""
    got = await client.chat("fault/no_role", stream=True)
    assert (False, CANONICAL) == ('"role"' in got.text, got.said)


@pytest.mark.parametrize("stream", [False, True])
async def test_usage_may_be_missing(fake, client, stream):
    """Nothing is said about tokens, and all of it is charged."""
    got = await client.chat("fault/usage_missing", stream=stream)
    assert (False, 122_000) == ('"usage"' in got.text, fake.true_cost())


async def test_a_filter_stops_an_answer(client):
    """content_filter after so many words."""
    choice = (await client.chat("fault/content_filter:2")).json["choices"][0]
    assert ("A river", "content_filter") == (choice["message"]["content"], choice["finish_reason"])


async def test_a_refusal_is_an_output(client):
    """`refusal` instead of content."""
    choice = (await client.chat("fault/refusal_output")).json["choices"][0]
    assert (None, "I can't help with that.") == (choice["message"]["content"], choice["message"]["refusal"])


@pytest.mark.parametrize("stream", [False, True])
async def test_reasoning_may_eat_the_whole_answer(fake, client, stream):
    """Nothing said, finish_reason length, and every token charged."""
    got = await client.chat("fault/length_empty", max_tokens=40, stream=stream)
    usage = got.events[-2]["usage"] if stream else got.json["usage"]
    assert (40, 39, 40) == (
        usage["completion_tokens"],
        usage["completion_tokens_details"]["reasoning_tokens"],
        fake.requests[0].completion_tokens,
    )


async def test_an_answer_may_stop_before_it_begins(client):
    """stop, and not a word."""
    got = await client.chat("fault/empty_stop", stream=True)
    assert ("", ["stop", "stop"]) == (got.said, finishes(got))


async def test_an_unknown_fault_is_explained(client):
    """A misspelt name is a 400 that says what was meant."""
    got = await client.chat("fault/slow_frist")
    assert (400, True) == (got.status, "did you mean 'slow_first'" in message(got))


async def test_a_script_is_used_up_step_by_step(fake, client):
    """503, then a rate limit, then all is well."""
    fake.script("openai/gpt-4o", ["503", "429"])
    assert [503, 429, 200, 200] == [(await client.chat()).status for _ in range(4)]


async def test_always_lasts_until_it_is_cleared(fake, client):
    """Every request fails, until clear()."""
    fake.always("openai/gpt-4o", "500")
    failing = [(await client.chat()).status for _ in range(2)]
    fake.clear("openai/gpt-4o")
    assert [500, 500, 200] == [*failing, (await client.chat()).status]


async def test_the_log_names_the_fault(fake, client):
    """What went wrong stands beside the request, with the provider that it happened at."""
    fake.script("openai/gpt-4o", ["cut_before_first", "503"])
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.chat()
    await client.chat()
    assert [("cut_before_first", "OpenAI"), ("503", "OpenAI")] == [(one.fault, one.provider) for one in fake.requests]


def test_a_scenario_may_concern_one_provider():
    """`model@tag` applies only while that provider serves."""
    scenarios = Scenarios()
    scenarios.always("openai/gpt-4o@azure", "503")
    assert ["ok", "503"] == [scenarios.next("openai/gpt-4o", tag).text for tag in ("openai", "azure")]


def test_the_narrower_key_wins():
    """A model's own scenario stands before a pattern's."""
    scenarios = Scenarios()
    scenarios.always("*", "500")
    scenarios.script("openai/gpt-4o", ["503"])
    assert ["503", "500"] == [scenarios.next("openai/gpt-4o", "openai").text for _ in range(2)]


def test_a_misspelt_fault_is_refused_at_once():
    """script() raises, with the nearest name."""
    with pytest.raises(ValueError, match="did you mean 'no_done'"):
        Scenarios().script("*", ["no_dnoe"])


def test_a_number_must_be_one():
    """`cut_mid:x` is refused with an example."""
    with pytest.raises(ValueError, match="write cut_mid:5"):
        parse_fault("cut_mid:x")
