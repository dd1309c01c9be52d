"""reserve: nothing is sent before its worst case is held, and every hold is resolved."""

from __future__ import annotations

import asyncio

import pytest

from orrouter.catalog.model import Model
from orrouter.core.errors import (
    BudgetExceeded,
    CapReached,
    ConnectionFailed,
    CostCapExceeded,
    InvalidRequest,
    LedgerUnavailable,
    ServerError,
    StreamBroken,
    Unpriced,
)
from orrouter.core.facts import (
    AttemptEnded,
    AttemptStarted,
    BudgetThresholdPassed,
    HoldExceeded,
    HoldSettled,
    HoldSuspended,
    HoldTaken,
    LedgerBypassed,
    TokensClamped,
)
from orrouter.core.limit import Account, Cap, Purse
from orrouter.ledger.memory import MemoryLedger
from orrouter.middleware.base import World
from orrouter.middleware.budget import BudgetOptions
from orrouter.middleware.cost_cap import CostCapOptions
from orrouter.middleware.fallback import FallbackOptions
from orrouter.middleware.reserve import ReserveOptions
from orrouter.middleware.retry import RetryOptions
from orrouter.testkit.clock import virtual
from orrouter.testkit.script import EOF, SENT, Finish

DOLLAR = 10**9


def model(slug: str, prompt: str = "0.000001", completion: str = "0.000002") -> Model:
    row = {"id": slug, "context_length": 128_000, "pricing": {"prompt": prompt, "completion": completion}}
    return Model.read(row)


BIG, SMALL = model("big", "0.00001", "0.00002"), model("small")
MODELS = (model("m"), BIG, SMALL)
ORG = BudgetOptions(account="org", limits={"day": "$1"})
ACCOUNT = Account("org", (("day", DOLLAR),))
CAP = CostCapOptions(per_call="$0.50")
PAID = Finish("stop", {"prompt_tokens": 3, "completion_tokens": 2, "cost": 0.001})


def paid(cost: float) -> list:
    return [SENT, "Hello", Finish("stop", {"prompt_tokens": 3, "completion_tokens": 2, "cost": cost})]


async def org(run) -> tuple[int, int, int]:
    """Settled, held and suspense of the account."""
    (balance,) = await run.world.ledger.balances(ACCOUNT)
    return balance.settled, balance.held, balance.suspense


# --- without limits ---------------------------------------------------------------------------------------


@virtual
async def test_without_a_limit_nothing_is_touched(road):
    """No price is asked, no token counted, no field added."""
    run = road({"unknown": ["hi"]})
    await run.chat("unknown", {"tomorrow": 1})
    sent = run.far.tries[0].call.body
    assert {"messages", "tomorrow"} == set(sent)


# --- what is sent -----------------------------------------------------------------------------------------


@virtual
async def test_under_a_limit_tokens_and_price_are_bounded(road):
    """max_tokens and provider.max_price (USD a million, with headroom) go out with the request."""
    run = road({"m": [paid(0.001)]}, CAP, models=MODELS)
    await run.chat("m")
    sent = run.far.tries[0].call.body
    assert 4096 == sent["max_tokens"]
    assert (1.25, 2.5) == (sent["provider"]["max_price"]["prompt"], sent["provider"]["max_price"]["completion"])


@virtual
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_the_callers_own_bound_stands_under_its_own_name(road, name):
    """What the caller says is what is held and sent."""
    run = road({"m": [paid(0.001)]}, CAP, models=MODELS)
    await run.chat("m", {name: 100})
    sent = run.far.tries[0].call.body
    assert {name: 100} == {key: value for key, value in sent.items() if key.endswith("tokens")}


@virtual
async def test_the_callers_other_preferences_stay(road):
    """max_price is added to the provider object, and the lower of two prices is sent."""
    run = road({"m": [paid(0.001)]}, CAP, models=MODELS)
    await run.chat("m", {"provider": {"sort": "price", "max_price": {"completion": 1}}})
    provider = run.far.tries[0].call.body["provider"]
    assert ("price", 1, 1.25) == (
        provider["sort"],
        provider["max_price"]["completion"],
        provider["max_price"]["prompt"],
    )


@virtual
async def test_an_upstream_that_is_not_openrouter_gets_no_max_price(road):
    """Its bound is an estimate, and the record says so."""
    run = road({"m": [paid(0.001)]}, CAP, models=MODELS)
    done = await run.chat("m", target=run.world.upstreams["spare"].__class__("spare", "m", "other", "openai"))
    assert "provider" not in run.far.tries[0].call.body
    assert "" != done.record.attempts[0].estimate


# --- what is held and settled -----------------------------------------------------------------------------


@virtual
async def test_the_worst_case_is_held_while_the_answer_is_read(road):
    """Before the first word, and until the last."""
    run = road({"m": [[SENT, "Hel", "lo", PAID]]}, ORG, models=MODELS)
    reply = await run.ask("m")
    settled, held, suspense = await org(run)
    assert (0, 0) == (settled, suspense)
    assert held == reply.attempt.held
    assert held >= 4096 * 2500
    await reply.completion()
    assert (1_000_000, 0, 0) == await org(run)


@virtual
async def test_the_true_cost_is_settled(road):
    """What the upstream billed, and the rest is given back; answer and record tell both."""
    run = road({"m": [paid(0.001)]}, CAP, ORG, models=MODELS)
    done = await run.chat("m")
    (attempt,) = done.record.attempts
    assert (1_000_000, "billed", "") == (attempt.cost_nano, attempt.provenance, attempt.estimate)
    assert attempt.held_nano > 1_000_000
    assert (1_000_000, 0, 0) == await org(run)
    assert "billed" == done.provenance
    assert done.held > done.cost


@virtual
async def test_a_usage_without_a_cost_is_computed(road):
    """3 tokens in and 2 out at list prices are 7,000 nano-USD; an endpoint may have been a quarter dearer."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    run = road({"m": [[SENT, "Hello", Finish("stop", usage)]]}, ORG, models=MODELS)
    done = await run.chat("m")
    assert ("computed", 8_750) == (done.provenance, done.record.attempts[0].cost_nano)
    assert (8_750, 0, 0) == await org(run)


@virtual
async def test_an_answer_without_usage_stays_charged(road):
    """Nobody knows what it cost: the worst case is in suspense."""
    run = road({"m": [[SENT, "Hello", Finish("stop", None)]]}, ORG, models=MODELS)
    done = await run.chat("m")
    settled, held, suspense = await org(run)
    assert (0, 0, "unknown", None) == (settled, held, done.provenance, done.cost)
    assert suspense == run.facts(HoldSuspended)[0].held_nano > 0


@virtual
async def test_a_provider_key_of_ones_own_costs_fee_and_inference(road):
    """BYOK: the fee of OpenRouter, and what the provider bills on top."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "cost": 0.001, "is_byok": True,
             "cost_details": {"upstream_inference_cost": 0.02}}  # fmt: skip
    run = road({"m": [[SENT, "Hello", Finish("stop", usage)]]}, ORG, models=MODELS)
    await run.chat("m")
    assert (21_000_000, 0, 0) == await org(run)


@virtual
async def test_what_was_not_sent_is_given_back(road):
    """No connection: nothing can have been billed."""
    run = road({"m": [[ConnectionFailed("refused")]]}, CAP, ORG, models=MODELS)
    error = await run.fails("m")
    assert (0, 0, 0) == await org(run)
    assert "free" == error.attempts[0].provenance


@virtual
async def test_what_was_surely_not_billed_is_given_back(road):
    """A 400 costs nothing."""
    run = road({"m": InvalidRequest("no")}, ORG, models=MODELS)
    await run.fails("m")
    assert (0, 0, 0) == await org(run)


@virtual
async def test_what_may_have_been_billed_stays_charged(road):
    """A 500 after sending: the worst case is in suspense, with its reason."""
    run = road({"m": ServerError("broken")}, ORG, models=MODELS)
    await run.fails("m")
    settled, held, suspense = await org(run)
    assert (0, 0) == (settled, held)
    assert suspense > 0
    assert ["server_error"] == [entry.reason for entry in await run.world.ledger.unsettled()]


@virtual
async def test_a_broken_stream_stays_charged_under_its_id(road):
    """The generation's id is in the ledger, so that its cost can be asked for."""
    run = road({"m": [[SENT, "Hel", EOF]]}, ORG, models=MODELS)
    reply = await run.ask("m")
    with pytest.raises(StreamBroken):
        [event async for event in reply.events]
    (entry,) = await run.world.ledger.unsettled()
    assert ("suspense", "stream_broken", "gen-1") == (entry.state, entry.reason, entry.generation_id)


@virtual
async def test_the_id_is_in_the_ledger_while_the_answer_is_read(road):
    """A process that dies now leaves it behind."""
    run = road({"m": [[SENT, "Hel", "lo", PAID]]}, ORG, models=MODELS)
    run.world.ledger.outlives = True
    reply = await run.ask("m")
    assert ["gen-1"] == [entry.generation_id for entry in await run.world.ledger.unsettled()]
    reply.close()


@virtual
async def test_a_reader_who_leaves_stays_charged(road):
    """Leaving does not stop every provider from billing."""
    run = road({"m": [[SENT, "Hel", 1.0, "lo", PAID]]}, ORG, models=MODELS)
    (await run.ask("m")).close()
    assert ["left"] == [entry.reason for entry in await run.world.ledger.unsettled()]


@virtual
async def test_a_cancelled_call_stays_charged(road):
    """A task that is cancelled after sending."""
    run = road({"m": [[SENT, 10.0, "Hello", PAID]]}, ORG, models=MODELS)
    task = asyncio.create_task(run.chat("m"))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ["cancelled"] == [entry.reason for entry in await run.world.ledger.unsettled()]


@virtual
async def test_a_call_cancelled_before_sending_is_given_back(road):
    """Nothing had left."""
    run = road({"m": [[10.0, SENT, "Hello", PAID]]}, ORG, models=MODELS)
    task = asyncio.create_task(run.chat("m"))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (0, 0, 0) == await org(run)


@virtual
async def test_a_cost_above_the_hold_is_booked_and_told(road):
    """The truth first; the fact names model, provider, hold and cost."""
    run = road({"m": [paid(0.5)]}, ORG, models=MODELS)
    await run.chat("m")
    assert (500_000_000, 0, 0) == await org(run)
    (fact,) = run.facts(HoldExceeded)
    assert ("m", "Scripted", 500_000_000) == (fact.model, fact.provider, fact.cost_nano)
    assert fact.held_nano < fact.cost_nano


@virtual
async def test_each_try_is_held_on_its_own(road):
    """Two tries that may have been billed and one that was: two in suspense, one settled."""
    run = road({"m": [ServerError("x"), ServerError("x"), paid(0.001)]}, ORG, RetryOptions(), models=MODELS)
    done = await run.chat("m")
    settled, held, suspense = await org(run)
    assert (1_000_000, 0) == (settled, held)
    assert suspense == sum(attempt.held_nano for attempt in done.record.attempts[:2])
    assert 3 == len({fact.hold for fact in run.told if isinstance(fact, HoldTaken)})


@virtual
async def test_facts_tell_what_was_held_and_settled(road):
    """For whoever listens; the record has it in its tries."""
    run = road({"m": [paid(0.001)]}, ORG, models=MODELS)
    await run.chat("m")
    (taken,) = [fact for fact in run.told if isinstance(fact, HoldTaken)]
    (settled,) = [fact for fact in run.told if isinstance(fact, HoldSettled)]
    assert (("org",), taken.hold, 1_000_000, "billed") == (
        taken.accounts, settled.hold, settled.cost_nano, settled.provenance,
    )  # fmt: skip


# --- purses -----------------------------------------------------------------------------------------------


@virtual
async def test_a_short_purse_asks_for_fewer_tokens(road):
    """And says so in the answer and the record."""
    run = road({"m": [paid(0.0001)]}, CostCapOptions(per_call="$0.004"), models=MODELS)
    done = await run.chat("m")
    sent = run.far.tries[0].call.body["max_tokens"]
    assert 64 <= sent == done.clamped < 4096
    (fact,) = run.facts(TokensClamped)
    assert (4096, sent, 4_000_000) == (fact.asked, fact.max_tokens, fact.room_nano)
    assert done.record.attempts[0].held_nano <= 4_000_000


@virtual
async def test_a_purse_covers_the_whole_call(road):
    """Tries that may have been billed stay charged: what is left buys less and less, and then nothing is sent."""
    run = road({"m": ServerError("x")}, CostCapOptions(per_call="$0.02"), RetryOptions(attempts=3), models=MODELS)
    error = await run.fails("m")
    held = [attempt.held_nano for attempt in error.attempts]
    assert sum(held) <= 20_000_000
    assert held == sorted(held, reverse=True)


@virtual
async def test_a_cap_that_buys_nothing_is_refused_before_anything_is_sent(road):
    """No socket is touched, and no try stands in the record."""
    run = road({"m": ["hi"]}, CostCapOptions(per_call="$0.00001"), models=MODELS)
    error = await run.fails("m")
    assert isinstance(error, CostCapExceeded)
    assert ([], ()) == (run.far.tries, error.attempts)


@virtual
async def test_a_cheaper_target_is_asked_when_the_cap_is_short(road):
    """The dear one is skipped, and the record says why."""
    chain = FallbackOptions(models=("big", "small"))
    run = road({"small": [paid(0.0001)]}, CostCapOptions(per_call="$0.003", min_tokens=200), chain, models=MODELS)
    done = await run.chat()
    assert ["small"] == run.far.models
    assert "cost_cap allows $0.003" in done.record.skipped[0].reason


@virtual
async def test_a_dearer_target_is_not_asked_when_the_cap_is_short(road):
    """It could not be paid either."""
    chain = FallbackOptions(models=("small", "big"))
    run = road({"small": ["x"], "big": ["x"]}, CostCapOptions(per_call="$0.00001"), chain, models=MODELS)
    error = await run.fails()
    assert isinstance(error, CostCapExceeded)
    assert [] == run.far.tries


@virtual
async def test_one_silent_target_does_not_eat_the_cap_of_the_next(road):
    """The first may hold half; what it leaves in suspense is not missing for the second."""
    chain = FallbackOptions(models=("m", "small"))
    run = road(
        {"m": ServerError("x"), "small": [paid(0.0001)]}, CostCapOptions(per_call="$0.004"), chain, models=MODELS
    )
    done = await run.chat()
    first, second = done.record.attempts
    assert first.held_nano <= 2_000_000
    assert "small" == second.model


@virtual
async def test_the_callers_cap_tightens_the_policys(road):
    """Both are purses: the tighter one counts."""
    run = road({"m": [paid(0.0001)]}, CAP, models=MODELS)
    done = await run.chat("m", limits=(Cap(Purse(4_000_000), named="max_cost"),))
    assert done.record.attempts[0].held_nano <= 4_000_000


@virtual
async def test_a_stream_that_outruns_its_tokens_is_cut(road):
    """What was said is in the error, and the hold stays charged."""
    run = road({"m": [[SENT, *["x"] * 200, PAID]]}, CAP, ORG, models=MODELS)
    reply = await run.ask("m", {"max_tokens": 50})
    with pytest.raises(CapReached) as caught:
        [event async for event in reply.events]
    assert 50 <= len(caught.value.partial) <= 70
    assert caught.value.held == reply.attempt.held
    assert ["cap_reached"] == [entry.reason for entry in await run.world.ledger.unsettled()]


@virtual
async def test_a_stream_as_long_as_allowed_is_not_cut(road):
    """Every token that was paid for may be said."""
    run = road({"m": [[SENT, *["x"] * 50, PAID]]}, CAP, models=MODELS)
    reply = await run.ask("m", {"max_tokens": 50})
    assert "x" * 50 == (await reply.completion()).text


@virtual
async def test_a_refused_try_is_not_told_as_one(road):
    """Whoever counts tries by their facts counts those that were let go, each with its end."""
    chain = FallbackOptions(models=("big", "small"))
    run = road({"small": [paid(0.0001)]}, CostCapOptions(per_call="$0.003", min_tokens=200), chain, models=MODELS)
    await run.chat()
    started = [fact.model for fact in run.told if isinstance(fact, AttemptStarted)]
    ended = [fact.model for fact in run.told if isinstance(fact, AttemptEnded)]
    assert (["small"], ["small"]) == (started, ended)


# --- accounts ---------------------------------------------------------------------------------------------


@virtual
async def test_a_full_account_refuses_before_anything_is_sent(road):
    """Who is short, of what, and until when."""
    run = road({"m": ["hi"]}, BudgetOptions(account="org", limits={"day": "$0.001"}), models=MODELS)
    error = await run.fails("m")
    assert isinstance(error, BudgetExceeded)
    assert ("org", "day", 1_000_000, 1_000_000) == (error.account, error.period, error.limit, error.remaining)
    assert [] == run.far.tries
    assert "org has $0.001 left of $0.001 a day until 1970-01-02 00:00 UTC" in str(error) or error.resets_at


@virtual
async def test_a_refused_hold_gives_the_purse_back(road):
    """What the account refuses is not missing in the cap."""
    cap = Cap(Purse(DOLLAR))
    run = road({"m": ["hi"]}, BudgetOptions(account="org", limits={"day": "$0.001"}), models=MODELS)
    await run.fails("m", limits=(cap,))
    assert 0 == cap.purse.charged


@virtual
async def test_all_accounts_or_none(road):
    """Where one has no room, nothing is held in the other."""
    full = BudgetOptions(account="team:{team}", limits={"day": "$0.001"})
    run = road({"m": ["hi"]}, ORG, full, models=MODELS)
    await run.fails("m", tags={"team": "a"})
    assert (0, 0, 0) == await org(run)


@virtual
async def test_a_cheaper_target_is_asked_when_the_account_is_short(road):
    """A budget never clamps: it moves on to what it can pay."""
    chain = FallbackOptions(models=("big", "small"))
    run = road({"small": [paid(0.001)]}, BudgetOptions(account="org", limits={"day": "$0.05"}), chain, models=MODELS)
    assert "small" == (await run.chat()).model


@virtual
async def test_a_threshold_is_told_once(road):
    """Half of the budget: one fact, in the call that passed it."""
    run = road({"m": [paid(0.009)]}, BudgetOptions(account="org", limits={"day": "$0.03"}, soft=["50%"]), models=MODELS)
    told = []
    for _ in range(3):
        await run.chat("m", {"max_tokens": 1000})
        told.append(len(run.facts(BudgetThresholdPassed)))
    assert 1 == sum(told)


class Down(MemoryLedger):
    """A store that cannot be asked."""

    async def reserve(self, hold):
        raise LedgerUnavailable("the disk is full")


@virtual
async def test_a_store_that_is_down_refuses(road):
    """fail_closed: nothing is sent, and the purse is whole again."""
    cap = Cap(Purse(DOLLAR))
    run = road({"m": ["hi"]}, ORG, models=MODELS)
    run.world.ledger = Down(lambda: 0.0)
    error = await run.fails("m", limits=(cap,))
    assert isinstance(error, LedgerUnavailable)
    assert ([], 0) == (run.far.tries, cap.purse.charged)


@virtual
async def test_fail_open_goes_on_and_counts_later(road):
    """The call is answered, told as bypassed, and its cost booked all the same."""
    free = BudgetOptions(account="org", limits={"day": "$1"}, on_store_error="fail_open")
    run = road({"m": [paid(0.001)]}, free, models=MODELS)
    run.world.ledger = Down(lambda: 0.0)
    await run.chat("m")
    (fact,) = run.facts(LedgerBypassed)
    assert (("org",), "the disk is full") == (fact.accounts, fact.error)
    assert (1_000_000, 0, 0) == await org(run)


# --- what nobody can price --------------------------------------------------------------------------------


@virtual
async def test_an_unknown_price_is_refused(road):
    """And the error names the option that admits it."""
    run = road({"new": ["hi"]}, CAP, models=MODELS)
    error = await run.fails("new")
    assert isinstance(error, Unpriced)
    assert "unknown_price" in str(error)
    assert [] == run.far.tries


@virtual
async def test_an_unknown_price_with_a_sum_of_its_own_is_held(road):
    """The policy says how much; it is an estimate."""
    run = road({"new": [paid(0.001)]}, CAP, ReserveOptions(unknown_price="$0.10"), models=MODELS)
    (attempt,) = (await run.chat("new")).record.attempts
    assert (100_000_000, "unknown_price") == (attempt.held_nano, attempt.estimate)


@virtual
async def test_an_unknown_price_moves_the_chain(road):
    """Another target may be known."""
    chain = FallbackOptions(models=("new", "small"))
    run = road({"small": [paid(0.001)]}, CAP, chain, models=MODELS)
    assert "small" == (await run.chat()).model


@virtual
async def test_an_unknown_field_is_refused(road):
    """Nobody knows whether it costs something; the error names the field and the option."""
    run = road({"m": ["hi"]}, CAP, models=MODELS)
    error = await run.fails("m", {"tomorrow": 1})
    assert isinstance(error, Unpriced)
    assert "tomorrow" in str(error)
    assert "admit" in str(error)


@virtual
async def test_an_admitted_field_is_an_estimate(road):
    """It is sent, and the record says that the bound is no proof."""
    run = road({"m": [paid(0.001)]}, CAP, ReserveOptions(admit=("tomorrow",)), models=MODELS)
    done = await run.chat("m", {"tomorrow": 1})
    assert 1 == run.far.tries[0].call.body["tomorrow"]
    assert "tomorrow" in done.record.attempts[0].estimate


def test_what_it_says_of_itself():
    """max_tokens, headroom and what is done without a price."""
    assert "4096 tokens where none are named, at 1.25 times the price" in ReserveOptions().says()
    assert "refuses a model without a price" in ReserveOptions().says()
    assert "holds $0.10 for a model" in ReserveOptions(unknown_price="$0.10").says()


def test_a_world_has_a_ledger():
    """Whoever builds one without naming it keeps budgets in memory."""
    assert isinstance(World().ledger, MemoryLedger)
