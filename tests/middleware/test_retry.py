"""retry: how often, how long, and who has to wait with whom."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrouter.core.call import Target
from orrouter.core.errors import (
    AuthFailed,
    ConnectionFailed,
    ContextOverflow,
    CoolingDown,
    CreditsExhausted,
    DeadlineExceeded,
    EmptyReply,
    InvalidRequest,
    KeyLimitReached,
    Moderated,
    NoRoute,
    Overloaded,
    RateLimited,
    ServerError,
    StreamBroken,
    Transient,
    UpstreamError,
    UpstreamTimeout,
)
from orrouter.core.facts import (
    GateArmed,
    GateAwaited,
    IgnoreDropped,
    ProviderIgnored,
    RetryDeclined,
    RetryScheduled,
    TokensLowered,
)
from orrouter.core.health import Subject
from orrouter.middleware.fallback import FallbackOptions
from orrouter.middleware.provider import ProviderOptions
from orrouter.middleware.retry import (
    BUCKET,
    GATE,
    Retry,
    RetryOptions,
    Setting,
    Tried,
    backoff,
    cost_of,
    next_try,
    spread,
)
from orrouter.testkit.clock import virtual
from orrouter.testkit.script import SENT

USUAL = RetryOptions()
PATIENT = RetryOptions(patience="60s")


def setting(
    *, retries: int = 0, left: float = float("inf"), last: bool = True, draw: float = 0.0, key_worked: bool = False
) -> Setting:
    return Setting(retries=retries, left=left, last=last, draw=lambda: draw, key_worked=key_worked)


def limited(seconds: float, scope: str = "target", provider: str | None = None) -> RateLimited:
    error = RateLimited("slow down", retry_after=seconds).at(provider=provider)
    error.scope = scope
    return error


def afford(tokens: int) -> CreditsExhausted:
    error = CreditsExhausted("can only afford some")
    error.affordable = tokens
    return error


# --- how long: backoff --------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "longest"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 8.0), (6, 8.0), (99, 8.0)])
def test_the_longest_pause_doubles_up_to_its_bound(number, longest):
    """With the highest draw the pauses are 0.5, 1, 2, 4, 8, 8 … seconds."""
    assert longest == backoff(number, 0.5, 8.0, 1.0)


@settings(deadline=None)
@given(number=st.integers(1, 10_000), draw=st.floats(0, 1))
def test_a_pause_is_drawn_from_nothing_to_its_bound(number, draw):
    """Full jitter: any part of the bound may come, and never more than the longest."""
    assert 0.0 <= backoff(number, 0.5, 8.0, draw) <= 8.0


def test_a_low_draw_is_no_pause():
    """Full jitter begins at zero."""
    assert 0.0 == backoff(3, 0.5, 8.0, 0.0)


@pytest.mark.parametrize(("pause", "added"), [(2.0, 0.2), (5.0, 0.5), (60.0, 1.0)])
def test_what_many_were_told_is_spread_by_a_tenth_and_at_most_a_second(pause, added):
    """The highest draw adds a tenth of the pause, and never more than a second."""
    assert added == spread(pause, 1.0)


def test_the_second_pause_of_a_server_error_is_up_to_twice_the_first():
    """The drawn pause grows with the tries at this target."""
    assert [0.5, 1.0] == [next_try(ServerError("x"), Tried(tries), setting(draw=1.0), USUAL) for tries in (1, 2)]


def test_a_rate_limit_without_a_hint_waits_twice_as_long():
    """Base 1 s and cap 20 s, where other failures have 0.5 s and 8 s."""
    options = RetryOptions(attempts=10)
    waits = [next_try(RateLimited("x"), Tried(tries), setting(draw=1.0), options) for tries in (1, 2, 3, 9)]
    assert [1.0, 2.0, 4.0, 20.0] == waits


# --- how long: what was told --------------------------------------------------------------------------


@settings(deadline=None)
@given(told=st.floats(0.001, 30.0), draw=st.floats(0, 1), tries=st.integers(1, 2))
def test_never_earlier_than_told_and_at_most_a_second_later(told, draw, tries):
    """Whatever is drawn, the pause is no shorter than Retry-After, and no longer than the spread or the backoff allow."""
    wait = next_try(limited(told), Tried(tries), setting(draw=draw), USUAL)
    assert told <= wait <= max(told + 1.0, 2.0)


@settings(deadline=None)
@given(told=st.floats(0, 60), left=st.floats(0, 60), draw=st.floats(0, 1), last=st.booleans())
def test_a_pause_fits_patience_and_deadline(told, left, draw, last):
    """A pause that is granted ends a second before the deadline and within the patience; else there is a reason."""
    verdict = next_try(limited(told), Tried(), setting(left=left, last=last, draw=draw), USUAL)
    assert isinstance(verdict, str) or told <= verdict <= min(30.0 if last else 3.0, left - 1.0)


@pytest.mark.parametrize(("told", "last"), [(3.0, False), (30.0, True)])
def test_a_pause_of_just_the_patience_is_waited(told, last):
    """3 s while another could serve and 30 s where nobody could, whatever is drawn for the spread."""
    assert told == next_try(limited(told), Tried(), setting(last=last, draw=1.0), USUAL)


@pytest.mark.parametrize(("told", "last", "patience"), [(3.1, False, "3s"), (30.1, True, "30s")])
def test_a_pause_beyond_the_patience_is_not_begun(told, last, patience):
    """The reason names both."""
    expected = f"a pause of {told}s is longer than the patience of {patience}"
    assert expected == next_try(limited(told), Tried(), setting(last=last), USUAL)


def test_a_pause_that_would_pass_the_deadline_is_not_begun():
    """A second must be left for the try behind it."""
    assert "a pause of 4s passes the deadline" == next_try(limited(4.0), Tried(), setting(left=5.0), USUAL)


def test_the_spread_is_cut_where_the_deadline_is_near():
    """Told 4 s with 5.1 s left: 4.1 s is the most, though the draw says 4.4 s."""
    assert pytest.approx(4.1) == next_try(limited(4.0), Tried(), setting(left=5.1, draw=1.0), USUAL)


# --- how often ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "last", "again"),
    [
        (ServerError("x"), False, True),
        (EmptyReply("x"), False, True),
        (RateLimited("x"), False, True),
        (ConnectionFailed("x"), False, True),
        (ConnectionFailed("x", again="once"), False, True),
        (Overloaded("x"), False, False),
        (Overloaded("x"), True, True),
        (StreamBroken("x"), False, False),
        (StreamBroken("x"), True, True),
        (UpstreamTimeout("x"), True, False),
        (InvalidRequest("x"), True, False),
        (ContextOverflow("x"), True, False),
        (Moderated("x"), True, False),
        (AuthFailed("x"), True, False),
        (CreditsExhausted("x"), True, False),
        (KeyLimitReached("x"), True, False),
        (NoRoute("x"), True, False),
        (Transient("x"), True, False),
        (UpstreamError("x"), True, False),
    ],
)
def test_who_is_asked_again_after_a_first_failure(error, last, again):
    """The verdict of each kind of error at its first occurrence."""
    assert again is not isinstance(next_try(error, Tried(), setting(last=last), USUAL), str)


@pytest.mark.parametrize("error", [Overloaded("x"), StreamBroken("x"), ConnectionFailed("x", again="once")])
def test_once_is_once(error):
    """What a retry has answered already is not answered by a second one."""
    verdict = next_try(error, Tried(2, [error.code]), setting(), USUAL)
    assert f"{error.code} was answered by a retry already" == verdict


def test_the_tries_at_a_target_are_bounded():
    """Three are made, of all kinds of errors."""
    assert "3 tries at this target were made" == next_try(ServerError("x"), Tried(3), setting(), USUAL)


def test_the_retries_of_a_call_are_bounded():
    """A further target may be asked, but not twice, when two retries were used before it."""
    assert "the call's 2 retries are used" == next_try(ServerError("x"), Tried(), setting(retries=2), USUAL)


@pytest.mark.parametrize(
    ("error", "tries", "cost"),
    [
        (ServerError("x", billed="no"), 1, 14.0),
        (ServerError("x"), 2, 14.0),
        (AuthFailed("x"), 1, 14.0),
        (ConnectionFailed("x", billed="maybe"), 1, 14.0),
        (ConnectionFailed("x"), 1, 0.0),
        (ConnectionFailed("x"), 2, 5.0),
        (RateLimited("x"), 1, 5.0),
        (Overloaded("x"), 1, 5.0),
    ],
)
def test_what_a_retry_costs(error, tries, cost):
    """Fourteen units, five where the upstream asked for patience or was not reached, and the first of those is free."""
    assert cost == cost_of(error, Tried(tries))


@virtual
async def test_a_target_is_tried_three_times(road):
    """Two pauses, drawn as half of 0.5 s and of 1 s; nothing is slept behind the last failure."""
    run = road({"m": ServerError("down")}, USUAL)
    await run.fails("m")
    assert ([0.0, 0.25, 0.75], 0.75) == (run.times, run.world.clock.now())


@virtual
async def test_a_success_ends_the_retries(road):
    """The second try serves, and the record tells of one retry."""
    run = road({"m": [ServerError("down"), "well again"]}, USUAL)
    done = await run.chat("m")
    assert ("well again", 2, [0.25]) == (
        done.text,
        len(run.times),
        [fact.delay_s for fact in run.facts(RetryScheduled)],
    )


@virtual
async def test_one_attempt_means_no_retry(road):
    """`attempts: 1` asks once, at once."""
    run = road({"m": ServerError("down")}, RetryOptions(attempts=1))
    await run.fails("m")
    assert [0.0] == run.times


@virtual
async def test_a_target_further_down_gets_its_first_try(road):
    """Three tries at the first use the call's retries up; the second is asked once, and so is the third."""
    down = ServerError("down")
    run = road({"a": down, "b": down, "c": down}, FallbackOptions(models=("a", "b", "c")), USUAL)
    await run.fails()
    assert ["a", "a", "a", "b", "c"] == run.far.models


@virtual
async def test_retries_left_over_are_used_further_down(road):
    """An overloaded first target uses none, so the second may be asked three times."""
    acts = {"a": Overloaded("busy"), "b": [ServerError("down"), ServerError("down"), "served"]}
    run = road(acts, FallbackOptions(models=("a", "b")), USUAL)
    done = await run.chat()
    assert ("served", ["a", "b", "b", "b"]) == (done.text, run.far.models)


@virtual
async def test_the_retry_is_the_last_error_it_met(road):
    """At one target the latest failure is what the caller gets, with every try in its record."""
    run = road({"m": [ServerError("down"), InvalidRequest("wrong")]}, USUAL)
    error = await run.fails("m")
    assert ("wrong", ["server_error", "invalid_request"]) == (error.message, [one.outcome for one in error.attempts])


@virtual
async def test_a_connection_that_failed_is_tried_again_at_once(road):
    """The first retry waits for nothing; the second is drawn."""
    run = road({"m": ConnectionFailed("refused")}, USUAL)
    await run.fails("m")
    assert [0.0, 0.0, 0.5] == run.times


@virtual
async def test_a_connection_lost_behind_the_request_is_tried_again_once_and_later(road):
    """It may have been billed: one more try, behind a drawn pause."""
    run = road({"m": ConnectionFailed("reset", billed="maybe", again="once")}, USUAL)
    await run.fails("m")
    assert [0.0, 0.25] == run.times


@virtual
async def test_a_refused_try_says_why(road):
    """RetryDeclined stands in the record with its reason."""
    run = road({"m": UpstreamTimeout("silent")}, USUAL)
    await run.fails("m")
    (declined,) = run.facts(RetryDeclined)
    assert ("m", "upstream_timeout", "upstream_timeout is not cured by asking again") == (
        declined.model,
        declined.error,
        declined.reason,
    )


# --- a key that worked --------------------------------------------------------------------------------


@virtual
async def test_a_bad_key_is_not_tried_again(road):
    """A key that never worked is wrong."""
    run = road({"m": AuthFailed("no such key")}, USUAL)
    await run.fails("m")
    assert [0.0] == run.times


@virtual
async def test_a_key_that_worked_is_tried_once_more_after_a_second(road):
    """Outages have shown themselves as 401: one retry, one second later."""
    run = road({"m": ["hi", AuthFailed("no such key")]}, USUAL)
    await run.chat("m")
    await run.fails("m")
    assert [0.0, 0.0, 1.0] == run.times


@pytest.mark.parametrize(("later", "tries"), [(599.0, 2), (602.0, 1)])
def test_a_key_that_worked_long_ago_counts_as_never(road, later, tries):
    """Ten minutes are remembered."""

    @virtual
    async def story():
        run = road({"m": ["hi", AuthFailed("no such key")]}, USUAL)
        await run.chat("m")
        await asyncio.sleep(later)
        await run.fails("m")
        return len(run.times) - 1

    assert tries == story()


@pytest.mark.parametrize(
    "other", [Target("openrouter", "m", "another"), Target("elsewhere", "m", "main")], ids=["key", "upstream"]
)
def test_another_keys_success_says_nothing(road, other):
    """The same model under another key, or the same key elsewhere, is no evidence."""

    @virtual
    async def story():
        run = road({"m": ["hi", AuthFailed("no such key")]}, USUAL)
        await run.chat(target=other)
        await run.fails("m")
        return run.times

    assert [0.0, 0.0] == story()


@virtual
async def test_the_key_of_whoever_answered_is_the_one_that_worked(road):
    """Above a chain, a success of the spare upstream says nothing about the main key."""
    acts = {
        "a": [ServerError("down"), ServerError("down"), ServerError("down"), AuthFailed("no")],
        "b": ["hi", ServerError("x")],
    }
    chain = FallbackOptions(models=("a", {"model": "b", "upstream": "spare"}))
    run = road(acts, RetryOptions(attempts=1), chain)
    await run.chat()
    layer = run.pipeline.layers[1]
    assert (False, True) == (
        layer.key_worked(Target("openrouter", "a", "main")),
        layer.key_worked(Target("spare", "b", "other")),
    )


@virtual
async def test_a_key_that_worked_under_another_policy_counts(road):
    """What is known of a key is shared by all layers of the router."""
    one = road({"m": ["hi"]}, USUAL)
    other = road({"m": AuthFailed("no such key")}, USUAL, world=one.world)
    await one.chat("m")
    await other.fails("m")
    assert [0.0, 1.0] == other.times


@virtual
async def test_a_retry_that_succeeds_proves_the_key(road):
    """The success behind a retry is as good as one without."""
    run = road({"m": [ServerError("down"), "hi", AuthFailed("no such key")]}, USUAL)
    await run.chat("m")
    await run.fails("m")
    assert [0.0, 0.25, 0.25, 1.25] == run.times


# --- mending the request ------------------------------------------------------------------------------


@virtual
async def test_fewer_tokens_are_asked_for_once(road):
    """402 "can only afford 100": the same request with 100 tokens, at once."""
    run = road({"m": [afford(100), "short"]}, USUAL)
    done = await run.chat("m", {"max_tokens": 500})
    assert ("short", [500, 100], [0.0, 0.0], [100]) == (
        done.text,
        [played.call.body["max_tokens"] for played in run.far.tries],
        run.times,
        [fact.max_tokens for fact in run.facts(TokensLowered)],
    )


@virtual
async def test_fewer_tokens_are_asked_for_under_the_callers_name(road):
    """`max_completion_tokens` stays what it is called."""
    run = road({"m": [afford(100), "short"]}, USUAL)
    await run.chat("m", {"max_completion_tokens": 500})
    assert (100, False) == (
        run.far.tries[1].call.body["max_completion_tokens"],
        "max_tokens" in run.far.tries[1].call.body,
    )


@virtual
async def test_fewer_tokens_are_not_asked_for_twice(road):
    """A second "can only afford" is raised."""
    run = road({"m": [afford(100), afford(50), "never"]}, USUAL)
    error = await run.fails("m")
    assert (50, 2) == (error.affordable, len(run.times))


@pytest.mark.parametrize("asked", [100, 50])
def test_more_than_was_asked_for_is_no_cure(road, asked):
    """Being able to afford as much as was asked and failing all the same is not mended by asking again."""

    @virtual
    async def story():
        run = road({"m": [afford(100), "never"]}, USUAL)
        await run.fails("m", {"max_tokens": asked})
        return run.times

    assert [0.0] == story()


@virtual
async def test_a_mended_request_may_be_retried(road):
    """The retries behind it keep the lower bound, and the mending used none of them."""
    run = road({"m": [afford(100), ServerError("x"), ServerError("x"), "served"]}, USUAL)
    done = await run.chat("m")
    assert ("served", [None, 100, 100, 100]) == (
        done.text,
        [played.call.body.get("max_tokens") for played in run.far.tries],
    )


@virtual
async def test_a_request_is_not_mended_in_the_last_second(road):
    """No try begins with less than a second left."""
    run = road({"m": [afford(100), "never"]}, USUAL)
    await run.fails("m", timeout=0.9)
    assert [0.0] == run.times


# --- gates --------------------------------------------------------------------------------------------


@virtual
async def test_retry_after_is_waited_for(road):
    """Told 1.5 s: the next try comes then, and not a moment earlier."""
    run = road({"m": [limited(1.5), "served"]}, RetryOptions(), draw=0.0)
    done = await run.chat("m")
    assert ("served", [0.0, 1.5]) == (done.text, run.times)


@virtual
async def test_a_pause_told_is_not_waited_for_twice(road):
    """The gate that the error armed is open when the retry comes: one wait, and no wait at the gate."""
    run = road({"m": [limited(2.0), "served"]}, USUAL)
    await run.chat("m")
    assert ([0.0, 2.1], [], ["m"]) == (
        run.times,
        run.facts(GateAwaited),
        [fact.subject.rpartition("/")[2] for fact in run.facts(GateArmed)],
    )


@virtual
async def test_a_gate_holds_every_call_of_the_router(road):
    """A second call, also of another policy, waits for what the first one was told."""
    run = road({"m": [limited(2.0), "one", "two"]}, RetryOptions(attempts=1), draw=0.0)
    other = road({}, USUAL, far=run.far, world=run.world)
    await run.fails("m")
    done = await other.chat("m")
    assert ("one", [0.0, 2.0], [2.0]) == (done.text, run.times, [fact.delay_s for fact in other.facts(GateAwaited)])


@virtual
async def test_a_gate_that_reaches_beyond_the_patience_refuses(road):
    """Nobody is asked, and the refusal says when it would be."""
    run = road({"m": [limited(100.0), "never"]}, USUAL)
    await run.fails("m")
    error = await run.fails("m")
    assert (CoolingDown, 100.0, [0.0]) == (type(error), error.retry_after, run.times)


@virtual
async def test_a_gate_is_extended_and_never_shortened(road):
    """Told 20 s, and one second later 2 s by an answer to an older question: it stays closed until 20 s."""
    acts = [[0.0, limited(20.0)], [1.0, limited(2.0)]]
    run = road({"m": acts}, RetryOptions(attempts=1))
    await asyncio.gather(run.chat("m"), run.chat("m"), return_exceptions=True)
    gate = run.world.health.peek(GATE, Subject("openrouter", "main", "m"))
    assert 20.0 == gate.until


@virtual
async def test_a_gate_that_was_extended_meanwhile_is_waited_for_anew(road):
    """One call is told to come at 2.5 s; while it sleeps another is told 4 s, and both come then."""
    run = road({"m": [[0.5, limited(2.0)], [1.0, limited(3.0)], "served", "served"]}, USUAL, draw=0.0)
    await asyncio.gather(run.chat("m"), run.chat("m"))
    assert [0.0, 0.0, 4.0, 4.0] == run.times


@virtual
async def test_who_waits_at_a_gate_does_not_sleep_past_the_deadline(road):
    """Three seconds are left and the gate opens in 2.5: asking then would leave too little."""
    run = road({"m": [limited(2.5), "never"]}, RetryOptions(attempts=1))
    await run.fails("m")
    error = await run.fails("m", timeout=3.0)
    assert (CoolingDown, 0.0) == (type(error), run.world.clock.now())


@virtual
async def test_the_spread_at_a_gate_fits_the_deadline_too(road):
    """The gate opens in 9.95 s of 11: the highest draw would add a second, and only 0.05 s is taken."""
    run = road({"m": [limited(9.95), "served"]}, RetryOptions(attempts=1), draw=1.0)
    await run.fails("m")
    await run.chat("m", timeout=11.0)
    assert [0.0, 10.0] == run.times


@virtual
async def test_gates_one_behind_the_other_are_no_longer_than_the_patience(road):
    """Who waited until 20.5 s finds the gate closed until 40 s: that would be more than 30 s in all."""
    run = road({"m": [[0.5, limited(20.0)], [SENT, 19.0, limited(21.0)], "never"]}, RetryOptions(attempts=1), draw=0.0)
    others = asyncio.gather(run.chat("m"), run.chat("m"), return_exceptions=True)
    await asyncio.sleep(0.6)
    error = await run.fails("m")
    await others
    assert (CoolingDown, 20.5, 2) == (type(error), run.world.clock.now(), len(run.times))


@virtual
async def test_an_account_wide_limit_arms_the_key(road):
    """Another model under the same key waits; another key does not."""
    run = road({"m": limited(5.0, "key"), "n": "served"}, RetryOptions(attempts=1), draw=0.0)
    await run.fails("m")
    await run.chat(target=Target("openrouter", "n", "another"))
    await run.chat("n")
    assert [0.0, 0.0, 5.0] == run.times


@virtual
async def test_a_free_limit_holds_free_models_and_no_paid_one(road):
    """Every `:free` model of the key waits, and the paid ones are asked at once."""
    run = road({"m:free": limited(5.0, "free"), "n:free": "served", "n": "served"}, RetryOptions(attempts=1), draw=0.0)
    await run.fails("m:free")
    await run.chat("n")
    await run.chat("n:free")
    assert [0.0, 0.0, 5.0] == run.times


@virtual
async def test_a_limit_of_one_model_holds_no_other(road):
    """The gate stands before the target alone."""
    run = road({"m": limited(5.0), "n": "served"}, RetryOptions(attempts=1))
    await run.fails("m")
    await run.chat("n")
    assert [0.0, 0.0] == run.times


@virtual
async def test_forgetting_opens_the_gates(road):
    """`health.reset` lets the next call through at once."""
    run = road({"m": [limited(50.0), "served"]}, RetryOptions(attempts=1))
    await run.fails("m")
    run.world.health.reset("")
    await run.chat("m")
    assert [0.0, 0.0] == run.times


@virtual
async def test_above_a_chain_the_gate_is_that_of_the_target_that_failed(road):
    """A retry above a fallback arms the model that was limited, not the one that the caller named."""
    chain = FallbackOptions(models=("a", "b"))
    run = road({"a": limited(60.0), "b": ServerError("down")}, RetryOptions(attempts=1), chain)
    await run.fails("b")
    armed = [subject.model for subject, _ in run.world.health.each(GATE)]
    assert ["a"] == armed


# --- one provider of a model --------------------------------------------------------------------------


@virtual
async def test_a_provider_that_cools_down_is_left_out(road):
    """The next call names it in `provider.ignore` and is asked at once."""
    run = road({"m": [limited(20.0, "provider", "Azure"), "served"]}, RetryOptions(attempts=1))
    await run.fails("m")
    await run.chat("m", {"provider": {"ignore": ["groq"]}})
    assert ([0.0, 0.0], ["groq", "Azure"], ["Azure"]) == (
        run.times,
        run.far.tries[1].call.body["provider"]["ignore"],
        [fact.provider for fact in run.facts(ProviderIgnored)],
    )


@virtual
async def test_a_provider_is_left_out_for_that_model_only(road):
    """Another model's request says nothing of it."""
    run = road({"m": limited(20.0, "provider", "Azure"), "n": "served"}, RetryOptions(attempts=1))
    await run.fails("m")
    await run.chat("n")
    assert ({}, []) == (run.far.tries[1].call.body.get("provider", {}), run.facts(ProviderIgnored))


@virtual
async def test_a_provider_is_asked_again_when_its_pause_is_over(road):
    """After 20 s the request is as the caller wrote it."""
    run = road({"m": [limited(20.0, "provider", "Azure"), "served"]}, RetryOptions(attempts=1))
    await run.fails("m")
    await asyncio.sleep(20.1)
    await run.chat("m")
    assert "provider" not in run.far.tries[1].call.body


@virtual
async def test_a_provider_is_asked_again_while_others_still_cool_down(road):
    """Each has its own gate: the one whose pause is over is not left out any more."""
    limits = [limited(20.0, "provider", "Azure"), limited(60.0, "provider", "OpenAI")]
    run = road({"m": [*limits, "served"]}, RetryOptions(attempts=1))
    await run.fails("m")
    await run.fails("m")
    await asyncio.sleep(30.0)
    await run.chat("m")
    assert ["OpenAI"] == run.far.tries[2].call.body["provider"]["ignore"]


@virtual
async def test_the_only_provider_is_waited_for(road):
    """Nobody remains to go around to: the call waits, and does not come early."""
    only = {"provider": {"only": ["azure"]}}
    run = road({"m": [limited(5.0, "provider", "Azure"), "served"]}, RetryOptions(attempts=1), draw=0.0)
    await run.fails("m", only)
    await run.chat("m", only)
    assert ([0.0, 5.0], {"only": ["azure"]}) == (run.times, run.far.tries[1].call.body["provider"])


@virtual
async def test_a_provider_that_the_request_does_not_admit_holds_nobody(road):
    """Cooling of one that could not serve anyway is no reason to wait, nor to name it."""
    run = road({"m": [limited(5.0, "provider", "Azure"), "served"]}, RetryOptions(attempts=1))
    await run.fails("m")
    await run.chat("m", {"provider": {"only": ["openai"]}})
    assert ([0.0, 0.0], {"only": ["openai"]}) == (run.times, run.far.tries[1].call.body["provider"])


@virtual
async def test_when_nobody_else_serves_the_provider_is_waited_for(road):
    """Our `ignore` left nobody: it is dropped, and the call waits as long as the provider asked."""
    run = road(
        {"m": [limited(5.0, "provider", "Azure"), NoRoute("nobody"), "served"]}, RetryOptions(attempts=1), draw=0.0
    )
    await run.fails("m")
    done = await run.chat("m")
    assert ("served", [0.0, 0.0, 5.0], [("Azure",)]) == (
        done.text,
        run.times,
        [fact.providers for fact in run.facts(IgnoreDropped)],
    )
    assert "provider" not in run.far.tries[2].call.body


@virtual
async def test_when_nobody_else_serves_and_the_pause_is_long_the_call_is_refused(road):
    """100 s are too long: CoolingDown, and the provider is not asked early."""
    run = road({"m": [limited(100.0, "provider", "Azure"), NoRoute("nobody"), "never"]}, RetryOptions(attempts=1))
    await run.fails("m")
    error = await run.fails("m")
    assert (CoolingDown, [0.0, 0.0]) == (type(error), run.times)


@virtual
async def test_a_route_that_the_caller_closed_is_not_opened(road):
    """NoRoute without an `ignore` of ours is the caller's own: asked once."""
    run = road({"m": [NoRoute("nobody"), "never"]}, USUAL)
    error = await run.fails("m")
    assert (NoRoute, [0.0]) == (type(error), run.times)


@virtual
async def test_a_provider_of_an_upstream_without_routing_is_the_target(road):
    """There it cannot be left out, so the whole target waits."""
    target = Target("spare", "m", "other", "openai")
    run = road({"m": [limited(5.0, "provider", "Azure"), "served"]}, RetryOptions(attempts=1), draw=0.0)
    await run.fails(target=target)
    await run.chat(target=target)
    assert [0.0, 5.0] == run.times


@virtual
async def test_a_question_about_the_upstream_goes_around_nobody(road):
    """A GET is served by no provider."""
    run = road({"m": [limited(20.0, "provider", "Azure"), {"data": []}]}, RetryOptions(attempts=1))
    await run.fails("m")
    await run.chat("m", method="GET", endpoint="models")
    assert ([0.0, 0.0], []) == (run.times, run.facts(ProviderIgnored))


@virtual
async def test_our_ignore_joins_the_policys(road):
    """Below it, the provider layer adds its own to what the gate left out."""
    run = road(
        {"m": [limited(20.0, "provider", "Azure"), "served"]},
        RetryOptions(attempts=1),
        ProviderOptions(ignore=("groq",)),
    )
    await run.fails("m")
    await run.chat("m")
    assert ["groq", "Azure"] == run.far.tries[1].call.body["provider"]["ignore"]


# --- deadlines, budgets, ends -------------------------------------------------------------------------


@virtual
async def test_no_pause_passes_the_deadline(road):
    """With 1.2 s left a pause of 0.25 s would leave too little: the failure is raised at once."""
    run = road({"m": ServerError("down")}, USUAL)
    error = await run.fails("m", timeout=1.2)
    assert (ServerError, 0.0) == (type(error), run.world.clock.now())


@virtual
async def test_an_outage_is_not_answered_by_a_flood(road):
    """500 units pay 35 retries at 14; then only what refills (10 a second) is spent, whatever is asked."""
    run = road({"m": ServerError("down")}, RetryOptions(attempts=2), draw=0.0)
    for _ in range(100):
        await run.fails("m")
    (declined,) = run.facts(RetryDeclined)
    assert (135, "the target's retry budget is spent") == (len(run.times), declined.reason)


@virtual
async def test_an_outage_of_one_target_does_not_take_anothers_retries(road):
    """Each target has a budget of its own."""
    run = road({"m": ServerError("down"), "n": [ServerError("down"), "served"]}, RetryOptions(attempts=2), draw=0.0)
    for _ in range(100):
        await run.fails("m")
    done = await run.chat("n")
    assert "served" == done.text


@virtual
async def test_a_retry_that_helped_is_paid_back(road):
    """A success gives the last cost back, and a success without a retry one unit."""
    run = road({"m": [ServerError("x"), ServerError("x"), "one", "two", "three"]}, USUAL, draw=0.0)
    await run.chat("m")
    after_retry = run.world.health.peek(BUCKET, Subject("openrouter", "main", "m")).show(0.0)
    await run.chat("m")
    later = run.world.health.peek(BUCKET, Subject("openrouter", "main", "m")).show(0.0)
    assert ({"retry_units": 486.0}, {"retry_units": 487.0}) == (after_retry, later)


@virtual
async def test_a_cancel_during_the_pause_is_a_cancel(road):
    """Nothing is asked after it, and nothing is open."""
    run = road({"m": ServerError("down")}, USUAL, draw=1.0)
    task = asyncio.create_task(run.chat("m"))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (1, 0, "cancelled") == (len(run.times), run.far.open, run.trail.outcome)


@virtual
async def test_a_cancel_during_a_retry_is_a_cancel(road):
    """The second try is cut, and its cancel is not taken for a failure."""
    run = road({"m": [ServerError("down"), [10.0, "late"]]}, USUAL, draw=0.0)
    task = asyncio.create_task(run.chat("m"))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (2, 0, ["server_error", "cancelled"]) == (
        len(run.times),
        run.far.open,
        [one.outcome for one in run.trail.record().attempts],
    )


@virtual
async def test_a_gate_that_closes_between_tries_leaves_the_upstreams_word(road):
    """Another call's limit closes the gate for long: what this call's upstream had said is raised, not the refusal."""
    run = road({"m": [ServerError("down"), limited(99.0)]}, USUAL, draw=1.0)
    first = asyncio.create_task(run.fails("m"))
    await asyncio.sleep(0.1)
    await run.fails("m")
    error = await first
    assert (ServerError, CoolingDown, 2) == (type(error), type(error.__cause__), len(run.times))


@virtual
async def test_what_is_no_error_of_an_upstream_is_not_retried(road):
    """A deadline that passed below ends the call."""
    run = road({"m": DeadlineExceeded("over")}, USUAL)
    error = await run.fails("m")
    assert (DeadlineExceeded, 1) == (type(error), len(run.times))


@virtual
async def test_a_stream_is_retried_until_its_first_word(road):
    """Before it an error is retried; behind it the reader gets StreamBroken with what was said."""
    broken = ["Hel", "lo", StreamBroken("cut")]
    run = road({"m": [ServerError("down"), broken]}, USUAL)
    reply = await run.ask("m")
    with pytest.raises(StreamBroken) as caught:
        [event async for event in reply.events]
    assert ("Hello", 2) == (caught.value.partial, len(run.times))


@virtual
async def test_a_chat_that_breaks_is_asked_again_where_nobody_else_could_serve(road):
    """Its caller has seen nothing: once more at the same target."""
    run = road({"m": [["Hel", StreamBroken("cut")], "Hello there"]}, USUAL)
    done = await run.chat("m")
    assert ("Hello there", 2) == (done.text, len(run.times))


@settings(deadline=None)
@given(
    acts=st.lists(st.sampled_from(["ok", "500", "429", "503", "connect", "timeout", "400"]), max_size=6),
    draw=st.floats(0, 1),
)
def test_whatever_happens_the_tries_are_bounded_and_nothing_stays_open(road, acts, draw):
    """At most three tries, none after a success, and every source is closed."""
    kinds = {
        "ok": "fine", "500": ServerError("x"), "429": limited(1.0), "503": Overloaded("x"),
        "connect": ConnectionFailed("x"), "timeout": UpstreamTimeout("x"), "400": InvalidRequest("x"),
    }  # fmt: skip
    script = [kinds[act] for act in acts] or ["fine"]

    @virtual
    async def story():
        run = road({"m": script}, USUAL, draw=draw)
        with suppress(UpstreamError):
            await run.chat("m")
        return run.far

    far = story()
    told = [script[min(at, len(script) - 1)] for at in range(len(far.tries))]
    assert len(told) <= 3
    assert "fine" not in told[:-1]
    assert 0 == far.open


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (RetryOptions(attempts=1), "asks no target twice"),
        (USUAL, "up to 3 tries at a target"),
        (PATIENT, "at most 60s while another target could serve"),
    ],
)
def test_it_says_what_it_does(options, said):
    """In words, with its numbers."""
    assert said in options.says() or said.replace("60s", "1m") in options.says()


@virtual
async def test_a_budget_that_is_full_again_is_left_alone(road):
    """Successes fill it up after a retry; from then on none of them looks for it."""
    run = road({"m": [ServerError("x"), ServerError("x"), *["ok"] * 41]}, USUAL)
    await run.chat("m")
    (layer,) = [layer for layer in run.pipeline.layers if isinstance(layer, Retry)]
    bucket = layer.bucket(run.far.tries[0].call.target)
    assert not bucket.full
    for _ in range(39):
        await run.chat("m")
    assert bucket.full
    bucket.draw(1.0, run.world.clock.now())
    await run.chat("m")
    assert not bucket.full
