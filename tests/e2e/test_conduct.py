"""Conduct under faults, over real sockets: judged by what the caller got and by what the far end saw.

Sixteen faults that a router must get right (S01 to S16, after the public Failover Bench), the failures that users of
other routers have met, and every fault of the fake upstream in turn. Times are short; only lower bounds of gaps are
asserted, from the far end's own log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import pytest_asyncio

from orrouter import Router
from orrouter.core.errors import (
    AuthFailed,
    CreditsExhausted,
    DeadlineExceeded,
    InvalidRequest,
    Moderated,
    Overloaded,
    RouterError,
    ServerError,
    StreamBroken,
    UpstreamError,
)
from orrouter.core.facts import EventsSkipped
from orrouter.core.money import nano
from orrouter.testkit.faults import FAULTS
from orrouter.testkit.server import FakeOpenRouter
from orrouter.testkit.speech import CANONICAL
from orrouter.testkit.twists import POLYGLOT

HELLO = [{"role": "user", "content": "Hello"}]
P, F = "openai/gpt-4o", "anthropic/claude-sonnet-4.5"
CLOCKS = {"connect": "2s", "first_token": "250ms", "last_first_token": "250ms", "stall": "250ms"}
RETRY = {"initial": "20ms", "max": "50ms"}


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[FakeOpenRouter]:
    async with FakeOpenRouter() as running:
        yield running


def upstream(fake: FakeOpenRouter, **more: Any) -> dict[str, Any]:
    return {"base_url": fake.url, "api_key": "sk-or-v1-0123456789abcdef", **more}


def layers(*models: Any, retry: dict | None = None, total: str = "10s", between: tuple[dict, ...] = ()) -> list[dict]:
    """The usual stack, with times for a test."""
    return [
        {"deadline": {"total": total}},
        {"fallback": {"models": list(models) or [P, F]}},
        {"provider": {"data_collection": "deny"}},
        {"retry": {**RETRY, **(retry or {})}},
        *between,
        {"deadline": CLOCKS},
    ]


@asynccontextmanager
async def routing(fake: FakeOpenRouter, stack: list[dict] | None = None, **upstreams: Any) -> AsyncIterator[Router]:
    """A router for one stack over the fake, and over other upstreams by name."""
    policy = {
        "version": 1,
        "upstreams": upstreams or {"openrouter": upstream(fake)},
        "policies": {"default": stack or layers()},
    }
    async with Router.from_policy(policy) as router:
        yield router


def asked(fake: FakeOpenRouter) -> list[str]:
    """The models asked, in order of arrival."""
    return [seen.model for seen in fake.requests]


def gaps(fake: FakeOpenRouter) -> list[float]:
    """Seconds between one request and the next, at the far end."""
    return [later.at - earlier.at for earlier, later in pairwise(fake.requests)]


async def read(router: Router, **body: Any) -> str:
    """A stream's whole text."""
    async with router.stream(HELLO, **body) as events:
        return "".join([event.text async for event in events])


async def broken(router: Router, **body: Any) -> tuple[list[str], RouterError]:
    """What a stream said that must break, and its error."""
    said: list[str] = []
    with pytest.raises(RouterError) as caught:
        async with router.stream(HELLO, **body) as events:
            async for event in events:
                said.append(event.text)
    return said, caught.value


# --- the wall -----------------------------------------------------------------------------------------


async def test_s01_retry_after_is_honoured(fake):
    """The same route is asked again, and not a moment before it said."""
    fake.script(P, ["429:0.4"])
    async with routing(fake) as router:
        done = await router.chat(HELLO)
    assert (CANONICAL, [P, P]) == (done.text, asked(fake))
    assert gaps(fake)[0] >= 0.4


async def test_s02_a_route_that_stays_limited_is_not_stormed(fake):
    """Three tries, each after its pause, and then somebody else."""
    fake.always(P, "429:0.1")
    async with routing(fake) as router:
        done = await router.chat(HELLO)
    assert (CANONICAL, F, [P, P, P, F]) == (done.text, done.model, asked(fake))
    assert min(gaps(fake)[:2]) >= 0.1


async def test_s03_one_server_error_is_retried_at_the_same_route(fake):
    """A hiccup costs one more request and no other model."""
    fake.script(P, ["500"])
    async with routing(fake) as router:
        done = await router.chat(HELLO)
    assert (CANONICAL, P, [P, P]) == (done.text, done.model, asked(fake))


async def test_s04_an_overloaded_route_is_left_at_once(fake):
    """One request, and the next model serves."""
    fake.always(P, "503")
    async with routing(fake) as router:
        done = await router.chat(HELLO)
    assert (CANONICAL, [P, F]) == (done.text, asked(fake))


async def test_s05_an_upstream_that_is_down_is_replaced(fake):
    """Nothing listens at the first; the second upstream serves."""
    async with FakeOpenRouter() as dead:
        gone = upstream(dead)
    stack = layers(P, {"model": P, "upstream": "spare"})
    async with routing(fake, stack, openrouter=gone, spare=upstream(fake, dialect="openai")) as router:
        done = await router.chat(HELLO)
    tries = [(one.upstream, one.outcome) for one in done.record.attempts]
    assert (CANONICAL, [P]) == (done.text, asked(fake))
    assert [*[("openrouter", "connection_failed")] * 3, ("spare", "ok")] == tries


async def test_s05_a_connection_that_is_reset_is_tried_again_once(fake):
    """The request was read: it may have been billed, so once and no more."""
    fake.always(P, "reset")
    async with routing(fake) as router:
        done = await router.chat(HELLO)
    assert (CANONICAL, [P, P, F]) == (done.text, asked(fake))


async def test_s06_a_silent_route_is_not_asked_twice(fake):
    """One request, cut by the clock; the next model serves."""
    fake.always(P, "silent")
    async with routing(fake) as router:
        done = await router.chat(HELLO)
    assert (CANONICAL, [P, F]) == (done.text, asked(fake))


@pytest.mark.parametrize("fault", ["slow_first:30", "comments_forever"])
async def test_s07_a_late_first_token_is_not_waited_for(fake, fault):
    """Headers and keep-alives are no token."""
    fake.always(P, fault)
    async with routing(fake) as router:
        done = await router.chat(HELLO)
    assert (CANONICAL, [P, F], "upstream_timeout") == (done.text, asked(fake), done.record.attempts[0].outcome)


@pytest.mark.parametrize(
    "fault", ["cut_mid:7", "stall:7", "stall_comments:7", "eof_no_finish:7", "error_mid:7", "finish_error:7"]
)
async def test_s08_s09_a_chat_that_breaks_is_whole_all_the_same(fake, fault):
    """Cut, stalled or failed in the middle: the answer comes whole, from one model."""
    fake.always(P, fault)
    async with routing(fake) as router:
        done = await router.chat(HELLO)
    assert (CANONICAL, F, [P, F]) == (done.text, done.model, asked(fake))


@pytest.mark.parametrize(
    "fault", ["cut_mid:7", "stall:7", "stall_comments:7", "eof_no_finish:7", "error_mid:7", "finish_error:7"]
)
async def test_s08_s09_a_stream_that_breaks_says_so(fake, fault):
    """What its reader has seen is not replayed: an error with what was said, and never a clean end."""
    fake.always(P, fault)
    async with routing(fake) as router:
        said, error = await broken(router)
    assert ([P], error.partial) == (asked(fake), "".join(said))
    assert CANONICAL.startswith("".join(said)) and 0 < len("".join(said)) < len(CANONICAL)


async def test_s10_a_malformed_event_is_skipped(fake):
    """The answer is whole, from the same request, and the record counts what was skipped."""
    fake.script(P, ["malformed_chunk:3"])
    async with routing(fake) as router:
        done = await router.chat(HELLO)
    skipped = [fact.count for fact in done.record.facts if isinstance(fact, EventsSkipped)]
    assert (CANONICAL, [P], [1]) == (done.text, asked(fake), skipped)


async def test_s11_a_stream_without_done_is_finished(fake):
    """finish_reason is the end; usage is there."""
    fake.script(P, ["no_done"])
    async with routing(fake) as router:
        done = await router.chat(HELLO)
    assert (CANONICAL, [P], "stop", 60) == (done.text, asked(fake), done.finish_reason, done.usage["completion_tokens"])


async def test_s12_a_prompt_too_long_goes_to_a_larger_window(fake):
    """One request at the first, none at a window that is no larger, and the largest serves."""
    fake.always(P, "400_context:128000")
    async with routing(fake, layers(P, "openai/gpt-4o-mini", F)) as router:
        done = await router.chat(HELLO)
    skipped = [(fact.model, fact.reason) for fact in done.record.skipped]
    assert (CANONICAL, [P, F]) == (done.text, asked(fake))
    assert [("openai/gpt-4o-mini", "its context is no larger")] == skipped


async def test_s13_refused_content_is_not_routed_around(fake):
    """One request; the error keeps the reason."""
    fake.always(P, "403_moderation")
    async with routing(fake) as router:
        with pytest.raises(Moderated) as caught:
            await router.chat(HELLO)
    assert ([P], ("violence/graphic",)) == (asked(fake), caught.value.reasons)


async def test_s13_an_answer_that_a_filter_ended_is_an_answer(fake):
    """Its reason is kept, and nobody else is asked."""
    fake.always(P, "content_filter:5")
    async with routing(fake) as router:
        done = await router.chat(HELLO)
    assert ("content_filter", [P], CANONICAL[: len(done.text)]) == (done.finish_reason, asked(fake), done.text)


async def test_s14_a_fallbacks_400_does_not_mask_the_break(fake):
    """The error is the first model's, with both tries."""
    fake.always(P, "cut_mid:7")
    fake.always(F, "400")
    async with routing(fake) as router:
        with pytest.raises(StreamBroken) as caught:
            await router.chat(HELLO)
    assert ([P, F], ["stream_broken", "invalid_request"]) == (
        asked(fake),
        [one.outcome for one in caught.value.attempts],
    )


async def test_s15_an_outage_is_served_around_and_ended_soon(fake):
    """Fifteen of fifteen are answered, the ill model is left alone, and it is back soon after it is well."""
    breaker = {"breaker": {"open": "200ms", "max_open_with_fallback": "300ms", "closes_after": 1}}
    fake.always(P, "502")
    async with routing(fake, layers(P, F, retry={"attempts": 1}, between=(breaker,))) as router:
        served = [(await router.chat(HELLO)).text for _ in range(15)]
        ill = asked(fake).count(P)
        fake.clear()
        async with asyncio.timeout(5):
            while (await router.chat(HELLO)).model != P:
                pass
    assert ([CANONICAL] * 15, 15) == (served, asked(fake)[: ill + 15].count(F))
    assert 5 <= ill < 10


async def test_s16_whoever_answered_is_named(fake):
    """Model, provider, usage and cost are the fallback's, and the record tells of both."""
    fake.always(P, "502")
    async with routing(fake, layers(P, F, retry={"attempts": 1})) as router:
        done = await router.chat(HELLO)
    assert (F, "Anthropic", fake.true_cost()) == (done.model, done.provider, nano(done.cost))
    assert [(P, "server_error"), (F, "ok")] == [(one.model, one.outcome) for one in done.record.attempts]


# --- what users of other routers have met ----------------------------------------------------------------


async def test_a_long_pause_is_not_waited_for_while_another_could_serve(fake):
    """Retry-After 5: the next model at once; and the next call does not ask the limited one at all."""
    fake.always(P, "429:5")
    async with routing(fake) as router:
        first, second = await router.chat(HELLO), await router.chat(HELLO)
    (skipped,) = second.record.skipped
    assert ([CANONICAL] * 2, [P, F, F], P) == ([first.text, second.text], asked(fake), skipped.model)


@pytest.mark.parametrize(
    ("fault", "told"),
    [("429:0.3", 0.3), ("429_ms:300", 0.3), ("429_body:0.3", 0.3), ("429_date:2", 1.0)],
)
async def test_a_pause_is_understood_in_every_form(fake, fault, told):
    """Seconds, milliseconds, in the body, as a date: waited for, then served."""
    fake.script(P, [fault])
    async with routing(fake, layers(P)) as router:
        done = await router.chat(HELLO)
    assert (CANONICAL, [P, P]) == (done.text, asked(fake))
    assert gaps(fake)[0] >= told


async def test_a_free_limit_leaves_paid_models_alone(fake):
    """The free model's day is over: it is left alone until midnight, and the paid one serves both times."""
    free = "meta-llama/llama-3.3-70b-instruct:free"
    fake.always(free, "429_free_day")
    stack = layers(free, P)
    stack[2] = {"provider": {"data_collection": "allow"}}
    async with routing(fake, stack) as router:
        texts = [(await router.chat(HELLO)).text for _ in range(2)]
    assert ([CANONICAL] * 2, [free, P, P]) == (texts, asked(fake))


async def test_a_limited_provider_is_left_out_of_the_next_request(fake):
    """By the name it goes by, for that model only."""
    fake.script(P, ["429_body:20"])
    async with routing(fake) as router:
        texts = [(await router.chat(HELLO)).text for _ in range(2)]
    first, second, third = fake.requests
    assert ([CANONICAL] * 2, [P, F, P]) == (texts, asked(fake))
    assert (None, None, ["OpenAI"]) == tuple(one.body["provider"].get("ignore") for one in (first, second, third))
    assert "Azure" == third.provider


async def test_a_callers_mistake_is_one_request(fake):
    """400 is neither retried nor routed around."""
    fake.always(P, "400")
    async with routing(fake) as router:
        with pytest.raises(InvalidRequest):
            await router.chat(HELLO)
    assert [P] == asked(fake)


@pytest.mark.parametrize(
    ("fault", "error"), [("402_credits", CreditsExhausted), ("401", AuthFailed), ("402_key_limit", UpstreamError)]
)
async def test_an_empty_account_or_a_bad_key_is_one_request(fake, fault, error):
    """The other model bears the same key."""
    fake.always("*", fault)
    async with routing(fake) as router:
        with pytest.raises(error):
            await router.chat(HELLO)
    assert [P] == asked(fake)


async def test_what_cannot_be_afforded_is_asked_for_in_part(fake):
    """402 "can only afford 300": once more with 300 tokens."""
    fake.script(P, ["402_afford:300"])
    async with routing(fake) as router:
        done = await router.chat(HELLO, max_tokens=5000)
    assert (CANONICAL, [5000, 300]) == (done.text, [one.body["max_tokens"] for one in fake.requests])


async def test_four_targets_that_fail_cost_no_more_than_they_may(fake):
    """Two retries in all and each target's first try: six requests, and the first one's error."""
    models = [P, F, "openai/gpt-4o-mini", "google/gemini-2.5-flash"]
    fake.always("*", "500")
    async with routing(fake, layers(*models)) as router:
        with pytest.raises(ServerError) as caught:
            await router.chat(HELLO)
    assert ([P, P, P, *models[1:]], P) == (asked(fake), caught.value.model)


async def test_four_overloaded_targets_cost_one_request_each_and_one_more(fake):
    """The last is asked once more, because nobody else is left."""
    models = [P, F, "openai/gpt-4o-mini", "google/gemini-2.5-flash"]
    fake.always("*", "503")
    async with routing(fake, layers(*models)) as router:
        with pytest.raises(Overloaded):
            await router.chat(HELLO)
    assert [*models, models[-1]] == asked(fake)


async def test_the_total_ends_a_call_in_which_everybody_is_silent(fake):
    """At 1.3 s, and the second try is cut with it: two requests, none of them open afterwards."""
    fake.always("*", "silent")
    stack = layers(total="1300ms")
    stack[-1] = {"deadline": {**CLOCKS, "first_token": "200ms", "last_first_token": "9s"}}
    async with routing(fake, stack) as router:
        with pytest.raises(DeadlineExceeded) as caught:
            await router.chat(HELLO)
        await fake.settled()
    assert ([P, F], "maybe", {"client_gone"}) == (
        asked(fake),
        caught.value.billed,
        {one.finished for one in fake.requests},
    )


async def test_a_callers_timeout_tightens_the_policy(fake):
    """0.2 s instead of 10: cut, and nobody else is asked in what is left."""
    fake.always(P, "silent")
    async with routing(fake) as router:
        with pytest.raises(DeadlineExceeded):
            await router.chat(HELLO, timeout=0.2)
    assert [P] == asked(fake)


async def test_fifty_calls_at_once_wait_for_one_gate(fake):
    """One is told to wait, and nobody else asks meanwhile: no request in the pause."""
    fake.script(P, ["429:0.5"])
    async with routing(fake, layers(P)) as router:
        first = asyncio.create_task(router.chat(HELLO))
        await fake.arrived()
        while "gate" not in router.health():
            await asyncio.sleep(0)
        texts = {(await call).text for call in asyncio.as_completed([router.chat(HELLO) for _ in range(50)])}
        texts.add((await first).text)
    told, *others = fake.requests
    assert ({CANONICAL}, 51) == (texts, len(others))
    assert min(one.at for one in others) - told.at >= 0.5


async def test_a_listener_that_fails_costs_no_call_anything(fake):
    """Its mistake is told to the loop's exception handler."""
    told: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    def listener(fact: object) -> None:
        raise ZeroDivisionError

    fake.script(P, ["503"])
    policy = {"version": 1, "upstreams": {"openrouter": upstream(fake)}, "policies": {"default": layers()}}
    async with Router.from_policy(policy, on_fact=listener) as router:
        text, streamed = (await router.chat(HELLO)).text, await read(router)
    assert ([CANONICAL] * 2, [P, F, P]) == ([text, streamed], asked(fake))
    assert {ZeroDivisionError} == {type(context["exception"]) for context in told}


async def test_a_cancelled_call_closes_its_connection(fake):
    """The far end sees its client go, and nothing is asked after it."""
    fake.always(P, "comments_forever")
    stack = [{"fallback": {"models": [P, F]}}, {"retry": RETRY}]
    async with routing(fake, stack) as router:
        call = asyncio.create_task(read(router))
        await fake.arrived()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await fake.settled()
    assert ([P], "client_gone") == (asked(fake), fake.requests[0].finished)


# --- every fault there is -------------------------------------------------------------------------------

_SHORT = {
    "429": "0.05", "429_ms": "50", "429_body": "0.05", "slow_first": "0.05", "slow_headers": "0.05", "padded": "0.2",
    "padded_cut": "0.2", "huge_line": "100", "drip": "40", "429_date": "0", "429_reset": "0.05", "402_in_flight": "0",
}  # fmt: skip
"""Numbers that keep a fault short."""
_RAISED = {
    "400": InvalidRequest, "413": InvalidRequest, "403_moderation": Moderated, "401": AuthFailed, "502_policy": Moderated,
    "402_credits": CreditsExhausted, "402_key_limit": UpstreamError, "403_key_limit": UpstreamError,
}  # fmt: skip
"""Faults that end a chain whose targets share a key, and with what."""
_SAID = {"multibyte": {POLYGLOT}, "content_filter": {""}, "refusal_output": {""}, "length_empty": {""}}
"""Faults that are an answer of their own."""
_BREAKS = {"cut_mid", "stall", "stall_comments", "eof_no_finish", "error_mid", "choice_error", "finish_error"}
"""Faults that a stream's reader has seen the beginning of."""
_WAITED = {"silent", "comments_forever", "stall", "stall_comments"}
"""Faults that last until a clock rings: each has a test of its own above."""


@pytest.mark.parametrize("name", sorted(set(FAULTS) - _WAITED))
async def test_a_chat_is_whole_or_fails_in_so_many_words(fake, name):
    """Whatever happens to the first request: the whole text, an answer of its own kind, or the error that it is."""
    fake.script(P, [f"{name}:{_SHORT[name]}" if name in _SHORT else name])
    async with routing(fake) as router:
        if name in _RAISED:
            with pytest.raises(_RAISED[name]) as caught:
                await router.chat(HELLO)
            assert [P] == asked(fake) == [one.model for one in caught.value.attempts]
        else:
            done = await router.chat(HELLO)
            assert done.text in _SAID.get(name, {CANONICAL})
            assert len(done.record.attempts) == len(fake.requests) <= 2


@pytest.mark.parametrize("name", sorted(set(FAULTS) - set(_RAISED) - {"stall", "stall_comments"}))
async def test_a_stream_ends_cleanly_only_when_it_is_whole(fake, name):
    """What breaks before the first word is asked again unseen; what breaks later raises StreamBroken."""
    fake.script(P, [f"{name}:{_SHORT[name]}" if name in _SHORT else name])
    async with routing(fake) as router:
        if name in _BREAKS:
            said, error = await broken(router)
            assert CANONICAL.startswith("".join(said)) and "" != "".join(said)
            assert ("".join(said), [P]) == (error.partial, asked(fake))
        else:
            assert await read(router) in _SAID.get(name, {CANONICAL})
