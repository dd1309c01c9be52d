"""No cent beyond the limit, over real sockets: judged by the far end's own log of what it charged.

The theorem: at every instant, within each window of each account, settled + held + suspense is no more than the limit,
and what was truly spent is no more than that sum. A seed that fails prints the command that plays it again.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from orrouter import Router
from orrouter.core.errors import BudgetExceeded, RouterError
from orrouter.core.facts import IgnoreDropped, TokensLowered
from orrouter.core.money import nano, show
from orrouter.testkit.desk import Rules
from orrouter.testkit.faults import FAULTS
from orrouter.testkit.server import FakeOpenRouter
from orrouter.testkit.table import FakeModel, FakeProvider
from tests.e2e.audit import CLAUDE, FLASH, GPT, MINI, Auditor, at_once, costs_by_call, hello, over
from tests.ticks import SocketTicks

SEEDS, LONG = 100, 5_000
MODELS = (GPT, MINI, CLAUDE, FLASH)
SHORT = {
    "429": "0.01", "429_ms": "10", "429_body": "0.01", "slow_first": "0.02", "slow_headers": "0.02", "padded": "0.1",
    "padded_cut": "0.1", "huge_line": "20", "drip": "200", "429_date": "0", "429_reset": "0.01", "402_in_flight": "0",
    "402_afford": "40",
}  # fmt: skip
"""Numbers that keep a fault short."""
WAITED = ("silent", "comments_forever", "stall", "stall_comments")
"""Faults that last until a clock rings."""
QUICK = tuple(sorted(set(FAULTS) - set(WAITED)))
PATIENT = {"connect": "5s", "first_token": "2s", "last_first_token": "2s", "stall": "200ms", "attempt": "10s"}
"""Clocks that ring for a fault, and not because the machine is busy."""
CLOCKS = {"connect": "2s", "first_token": "60ms", "last_first_token": "60ms", "stall": "60ms", "attempt": "300ms"}


def written(fault: str) -> str:
    return f"{fault}:{SHORT[fault]}" if fault in SHORT else fault


# --- the theorem ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ask:
    """One call of a scene: its words (no other call has them), how it is asked, and how its caller leaves."""

    words: str
    tags: dict[str, str]
    body: dict[str, Any]
    max_cost: str | None
    streamed: bool
    leaves_at: int | None
    timeout: float | None
    cancelled_after: float | None


def random_ask(chance: random.Random, number: int) -> Ask:
    some = chance.random
    body = {} if some() < 0.4 else {"max_tokens": chance.choice([1, 5, 40, 200, 3_000])}
    if some() < 0.3:
        body["model"] = chance.choice(MODELS)
    return Ask(
        words=f"call {number} {'long ' * chance.choice([0, 0, 400])}",
        tags={"key": chance.choice("ab")} | ({"team": chance.choice("xy")} if some() < 0.7 else {}),
        body=body,
        max_cost=chance.choice(["$0.001", "$0.004", "$0.02"]) if some() < 0.3 else None,
        streamed=some() < 0.5,
        leaves_at=chance.randrange(6) if some() < 0.25 else None,
        timeout=chance.choice([0.01, 0.05, 2.0]) if some() < 0.2 else None,
        cancelled_after=some() * 0.08 if some() < 0.25 else None,
    )


def random_stack(chance: random.Random, per_call: str) -> list[Any]:
    """Cap, three accounts and the layers that ask again, in any order; the total stands on top."""

    def sum_of(*sums: str) -> str:
        return chance.choice(sums)

    rows: list[Any] = [
        {"cost_cap": {"per_call": per_call, "min_tokens": 16, "when_short": sum_of("clamp", "cheaper", "refuse")}},
        {"budget": {"account": "key:{key}", "limits": {"hour": sum_of("$0.02", "$0.2"), "lifetime": "$1"}}},
        {"budget": {"account": "team:{team:-none}", "limits": {"day": sum_of("$0.03", "$0.3"), "week": "$0.4"}}},
        {"budget": {"account": "org", "limits": {"month": "$2", "lifetime": sum_of("$0.05", "$0.5", "$2")}}},
        {"fallback": {"models": chance.sample(MODELS, 3), "open": True}},
        {"retry": {"initial": "1ms", "max": "4ms", "patience": "30ms"}},
        {"breaker": {"consecutive": 3, "open": "20ms", "max_open": "40ms", "max_open_with_fallback": "30ms"}},
        {"provider": {"data_collection": "deny"}},
        {"deadline": CLOCKS},
    ]
    chance.shuffle(rows)
    return [{"deadline": {"total": "2s"}}, *rows]


def misbehave(fake: FakeOpenRouter, chance: random.Random) -> None:
    """Every model does well half of the time, and else whatever there is."""
    for model in MODELS:
        faults = ["ok" if chance.random() < 0.5 else written(chance.choice(QUICK)) for _ in range(12)]
        if chance.random() < 0.2:
            faults[chance.randrange(4)] = chance.choice(WAITED)
        fake.script(model, faults)
    if chance.random() < 0.2:
        own = FakeProvider("OpenAI", "openai", "$2.50/M", "$10/M", byok=True)
        fake.add_model(FakeModel(GPT, (own,)))


async def come(router: Router, ask: Ask) -> None:
    """One caller: asks, reads, leaves."""
    how = {"tags": ask.tags, "timeout": ask.timeout, "max_cost": ask.max_cost, **ask.body}
    try:
        if not ask.streamed:
            await router.chat(hello(ask.words), **how)
            return
        read = 0
        async with router.stream(hello(ask.words), **how) as events:
            async for _ in events:
                read += 1
                if read == ask.leaves_at:
                    break
    except RouterError:
        pass


async def lower(router: Router, chance: random.Random) -> None:
    """Limits change while calls are under way."""
    await asyncio.sleep(chance.random() * 0.03)
    await router.set_limit("org", lifetime=chance.choice(["$0.01", "$0.04", "$0.2"]))
    await asyncio.sleep(chance.random() * 0.03)
    await router.set_limit("org", lifetime=chance.choice([None, "$0.3"]))


async def scene(seed: int) -> Counter[str]:
    """Callers of one router over one fake; returns what happened, by the name of the fact."""
    chance = random.Random(seed)
    per_call = chance.choice(["$0.003", "$0.01", "$0.05", "$0.50"])
    asks = [random_ask(chance, number) for number in range(10)]
    async with FakeOpenRouter(seed=seed, rules=Rules(pace=chance.choice([0.0, 0.0, 0.0005]))) as fake:
        misbehave(fake, chance)
        auditor = Auditor(fake.true_cost)
        async with over(fake, random_stack(chance, per_call), on_fact=auditor, random=chance) as router:
            auditor.watch(router)
            loop = asyncio.get_running_loop()
            tasks = [loop.create_task(come(router, ask)) for ask in asks]
            for task, ask in zip(tasks, asks, strict=True):
                if ask.cancelled_after is not None:
                    loop.call_later(ask.cancelled_after, task.cancel)
            if chance.random() < 0.4:
                await lower(router, chance)
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            await fake.settled()
            auditor.check()
        wrong = [one for one in outcomes if isinstance(one, Exception)]
        assert [] == wrong
        spent = costs_by_call(fake)
        for ask in asks:
            cap = min(nano(sum_.removeprefix("$")) for sum_ in (per_call, ask.max_cost or per_call))
            assert spent[ask.words] <= cap, f"{ask.words!r} cost {show(spent[ask.words])}, its cap is {show(cap)}"
        auditor.seen["requests"] = len(fake.requests)
    return auditor.seen


async def play(seed: int) -> Counter[str]:
    try:
        return await scene(seed)
    except BaseException as error:
        error.add_note(f"play it again: ORROUTER_SEED={seed} pytest tests/e2e/test_money.py -k one_seed")
        raise


async def test_no_window_is_ever_over_its_limit_and_every_cent_spent_is_charged():
    """After every fact of every scene: faults, fallbacks, retries, streams, cancels, caps, limits that change."""
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        seen += await play(seed)
    often = ("HoldTaken", "HoldSettled", "HoldSuspended", "TokensClamped", "BudgetThresholdPassed", "FallbackTaken")
    assert min(seen[name] for name in often) > SEEDS
    assert min(seen[name] for name in ("RetryScheduled", "GateArmed")) > 0
    assert seen["BreakerOpened"] + seen["TokensLowered"] > 0  # seldom: how often depends on the machine's pace
    assert seen["requests"] > SEEDS * 3


@pytest.mark.long
async def test_no_window_is_ever_over_its_limit_in_thousands_of_scenes():
    """The same, for minutes."""
    for seed in range(SEEDS, SEEDS + LONG):
        await play(seed)


async def test_one_seed():
    """The scene that ORROUTER_SEED names, for whoever looks into a failure."""
    await play(int(os.environ.get("ORROUTER_SEED", "0")))


# --- fifty at once --------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[FakeOpenRouter]:
    async with FakeOpenRouter() as running:
        yield running


def worst(fake: FakeOpenRouter, **body: Any) -> int:
    """The worst case of a call that says hello, in nano-USD."""
    with_price = over(fake, [{"fallback": {"models": [GPT]}}]).estimate(hello(), **body)
    cost = with_price[0].cost
    assert cost is not None
    return nano(cost)


def worth(fake: FakeOpenRouter, calls: float, **body: Any) -> list[Any]:
    """One model and a budget for so many of these calls."""
    limit = int(worst(fake, **body) * calls)
    budget = {"account": "team:{team}", "limits": {"day": f"${limit / 1e9:.9f}", "lifetime": "$5"}}
    return [{"budget": budget}, {"fallback": {"models": [GPT]}}]


def sums(router: Router, account: str) -> tuple[int, int, int]:
    """Settled, held and in suspense in the account's first window."""
    one = at_once(router.balances(account))[0]
    return one.settled, one.held, one.suspense


async def test_of_fifty_calls_on_a_budget_worth_five_exactly_five_go_out(fake):
    """The others are refused at once, and told whose budget it is, how much is left of what, and until when."""
    fake.always(GPT, "slow_headers:0.1")
    async with over(fake, worth(fake, 5.5, max_tokens=100)) as router:
        asked = (router.chat(hello(), max_tokens=100, tags={"team": "x"}) for _ in range(50))
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        refused = [one for one in outcomes if isinstance(one, BudgetExceeded)]
        assert (5, 45) == (len(fake.requests), len(refused))
        need, limit = worst(fake, max_tokens=100), router.policy.stacks["default"][0].options.limits["day"]
        told = {(one.account, one.period, one.limit, one.remaining, one.needed) for one in refused}
        assert {("team:x", "day", limit, limit - 5 * need, need)} == told
        assert all(0 < one.resets_at - router.world.clock.wall() <= 86_400 for one in refused)
        assert "team:x has $0.00" in str(refused[0]) and "a day until 20" in str(refused[0])
        assert (fake.true_cost(), 0, 0) == sums(router, "team:x")


@pytest.mark.parametrize("seed", range(5))
async def test_the_same_with_all_but_one_cancelled_at_random(fake, seed):
    """No more than five are ever sent, the money of those that were stays charged, and no hold is left."""
    chance = random.Random(seed)
    fake.always(GPT, "slow_headers:0.05")
    async with over(fake, worth(fake, 5.5)) as router:
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(router.chat(hello(), tags={"team": "x"})) for _ in range(50)]
        for task in chance.sample(tasks, 49):
            loop.call_later(chance.random() * 0.08, task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        await fake.settled()
        settled, held, suspense = sums(router, "team:x")
        assert len(fake.requests) <= 5
        assert 0 == held
        assert fake.true_cost() <= settled + suspense <= 5 * worst(fake)


# --- a cancel at every turn -----------------------------------------------------------------------------


async def struck(fake: FakeOpenRouter, loop: SocketTicks, *, streamed: bool) -> bool:
    """One call, cancelled when the loop says so; whether that was in time. Then the books must be in order."""
    before = len(fake.requests), fake.true_cost()
    async with over(fake, [{"budget": {"account": "org", "limits": {"lifetime": "$1"}}}]) as router:
        ask = Ask("Hello", {}, {"model": GPT, "max_tokens": 50}, None, streamed, None, None, None)
        task = loop.create_task(come(router, ask))
        loop.strike = task.cancel
        await asyncio.wait([task])
        loop.strike = None
        await fake.settled()
        settled, held, suspense = sums(router, "org")
        requests, cost = len(fake.requests) - before[0], fake.true_cost() - before[1]
        assert 0 == held
        assert cost <= settled + suspense
        assert (requests > 0) or settled == 0
        assert task.cancelled() or (settled, suspense) == (cost, 0)
        return task.cancelled()


@pytest.mark.parametrize("streamed", [False, True], ids=["a chat", "a stream"])
def test_a_cancel_at_any_turn_over_a_socket_leaves_the_books_in_order(streamed):
    """What the far end has charged is charged here, and what it has not seen was not settled."""
    with FakeOpenRouter.in_thread() as fake:
        at, hit = 0, True
        while hit:
            at += 1
            with asyncio.Runner(loop_factory=partial(SocketTicks, at)) as runner:
                loop = runner.get_loop()
                hit = runner.run(struck(fake, loop, streamed=streamed))
        assert at > 3


# --- how a try is settled -------------------------------------------------------------------------------


def one_model(*layers: Any) -> list[Any]:
    """A budget over one model."""
    return [{"budget": {"account": "org", "limits": {"lifetime": "$1"}}}, {"fallback": {"models": [GPT]}}, *layers]


async def charge_of(fake: FakeOpenRouter, *, streamed: bool, **body: Any) -> tuple[tuple[int, int, int], str]:
    """What one call leaves in the books, and how its last try's cost is known."""
    facts: list[Any] = []
    async with over(fake, one_model({"deadline": PATIENT}), on_fact=facts.append) as router:
        try:
            if streamed:
                async with router.stream(hello(), **body) as events:
                    async for _ in events:
                        pass
            else:
                await router.chat(hello(), **body)
        except RouterError:
            pass
        await fake.settled()
        ends = [getattr(fact, "provenance", "unknown") for fact in facts if type(fact).__name__ in ENDS]
        return sums(router, "org"), ends[-1]


ENDS = ("HoldSettled", "HoldSuspended")


@pytest.mark.parametrize("streamed", [False, True], ids=["a chat", "a stream"])
async def test_with_a_provider_key_of_ones_own_the_inference_is_charged_too(fake, streamed):
    """`cost` is 0, and the provider bills the caller directly: that is what counts here."""
    fake.add_model(FakeModel(GPT, (FakeProvider("OpenAI", "openai", "$2.50/M", "$10/M", byok=True),)))
    charged, known = await charge_of(fake, streamed=streamed)
    assert ((fake.true_cost(), 0, 0), "billed") == (charged, known)
    assert fake.true_cost() > 0


@pytest.mark.parametrize(
    ("fault", "streamed"),
    [
        ("usage_missing", True), ("usage_missing", False), ("cut_mid:3", True), ("error_mid:3", True),
        ("finish_error:3", True), ("finish_error:3", False), ("reset", False), ("stall:3", True), ("empty_200", False),
        ("html_200", False), ("eof_no_finish:3", False), ("padded_cut:0.1", False), ("cut_before_first", True),
    ],
)  # fmt: skip
async def test_what_nobody_can_know_stays_charged_at_its_worst_case(fake, fault, streamed):
    """No usage, cut, failed in the middle: in suspense, and never less than what the far end took."""
    fake.always(GPT, fault)
    (settled, held, suspense), known = await charge_of(fake, streamed=streamed, max_tokens=200)
    assert ("unknown", 0, 0) == (known, settled, held)
    assert suspense == len(fake.requests) * worst(fake, max_tokens=200) > fake.true_cost()


@pytest.mark.parametrize("streamed", [False, True], ids=["a chat", "a stream"])
@pytest.mark.parametrize("fault", ["error_in_200", "503", "400", "402_credits", "429:0.01", "404_no_provider"])
async def test_what_was_surely_not_billed_is_given_back(fake, fault, streamed):
    """An error before any work, also inside a 200."""
    fake.always(GPT, fault)
    charged, known = await charge_of(fake, streamed=streamed)
    assert ((0, 0, 0), "free", 0) == (charged, known, fake.true_cost())


async def test_an_answer_without_its_last_line_is_settled_by_its_usage(fake):
    """The finish and the usage came, only `[DONE]` did not: nothing is unknown."""
    fake.always(GPT, "no_done")
    charged, known = await charge_of(fake, streamed=True)
    assert ((fake.true_cost(), 0, 0), "billed") == (charged, known)


async def test_what_cannot_be_afforded_is_held_anew_with_fewer_tokens(fake):
    """402 "can only afford 300": the first hold is given back, the second is for 300 tokens, and nobody asks thrice."""
    fake.script(GPT, ["402_afford:300"])
    async with over(fake, one_model({"retry": {"initial": "1ms"}})) as router:
        done = await router.chat(hello())
        first, second = done.record.attempts
        assert [4096, 300] == [seen.body["max_tokens"] for seen in fake.requests]
        assert (0, "free") == (first.cost_nano, first.provenance)
        assert (worst(fake), worst(fake, max_tokens=300)) == (first.held_nano, second.held_nano)
        assert (fake.true_cost(), 0, 0) == sums(router, "org")
        assert [300] == [fact.max_tokens for fact in done.record.facts if isinstance(fact, TokensLowered)]


async def test_an_upstream_that_never_affords_it_is_asked_twice(fake):
    """The second refusal is the error."""
    fake.always(GPT, "402_afford:300")
    async with over(fake, one_model({"retry": {"initial": "1ms"}})) as router:
        with pytest.raises(RouterError):
            await router.chat(hello())
        assert 2 == len(fake.requests)
        assert (0, 0, 0) == sums(router, "org")


# --- the price that is sent -----------------------------------------------------------------------------


def prices(fake: FakeOpenRouter) -> list[Any]:
    """The `max_price` of each request: (prompt, completion), or None."""
    sent = [seen.body.get("provider", {}).get("max_price") for seen in fake.requests]
    return [one and (one["prompt"], one["completion"]) for one in sent]


async def test_every_request_under_a_limit_bears_its_price(fake):
    """Chats, streams, retries, fallbacks, each at a quarter above its own model's list price."""
    fake.script(GPT, ["500", "503", "503"])
    stack = [{"cost_cap": {}}, {"fallback": {"models": [GPT, MINI]}}, {"retry": {"initial": "1ms"}}]
    async with over(fake, stack) as router:
        await router.chat(hello())
        async with router.stream(hello()) as events:
            async for _ in events:
                pass
    assert {(3.125, 12.5), (0.1875, 0.75)} == set(prices(fake))
    assert len(fake.requests) >= 4


def alone(fake: FakeOpenRouter) -> None:
    """Nobody else serves the model."""
    fake.add_model(FakeModel(GPT, (FakeProvider("OpenAI", "openai", "$2.50/M", "$10/M"),)))


async def test_the_price_stays_when_the_breakers_own_ignore_is_dropped(fake):
    """Where nobody else serves the model it is asked again without our ignore, and with our price."""
    alone(fake)
    fake.script(GPT, ["404_transient", "404_transient"])
    async with over(fake, one_model({"breaker": {"consecutive": 2}})) as router:
        for _ in range(2):
            with pytest.raises(RouterError):
                await router.chat(hello())
        done = await router.chat(hello())
    assert 1 == len([fact for fact in done.record.facts if isinstance(fact, IgnoreDropped)])
    assert [None, None, ["OpenAI"], None] == [seen.body["provider"].get("ignore") for seen in fake.requests]
    assert {(3.125, 12.5)} == set(prices(fake))


async def test_the_price_stays_when_the_gates_own_ignore_is_dropped(fake):
    """The same where a provider had asked for a pause."""
    alone(fake)
    fake.script(GPT, ["429_body:0.3"])
    async with over(fake, one_model({"retry": {"initial": "1ms"}})) as router:
        first = asyncio.create_task(router.chat(hello()))
        while "gate" not in router.health():
            await asyncio.sleep(0)
        done = await router.chat(hello())
        await first
    assert 1 == len([fact for fact in done.record.facts if isinstance(fact, IgnoreDropped)])
    assert ["OpenAI"] in [seen.body["provider"].get("ignore") for seen in fake.requests]
    assert {(3.125, 12.5)} == set(prices(fake))


async def test_an_endpoint_dearer_than_the_price_sent_serves_nobody(fake):
    """Listed at $10 and now at $20: the upstream finds no route, and nothing is charged."""
    fake.add_model(FakeModel(GPT, (FakeProvider("OpenAI", "openai", "$2.50/M", "$20/M"),)))
    charged, known = await charge_of(fake, streamed=False)
    assert ((0, 0, 0), "free", 404) == (charged, known, fake.requests[0].status)


async def test_a_callers_lower_price_is_kept(fake):
    """The lower of both is sent, and held."""
    async with over(fake, one_model()) as router:
        done = await router.chat(hello(), provider={"max_price": {"completion": 11}})
    assert [(3.125, 11)] == prices(fake)
    assert done.held is not None and nano(done.held) < worst(fake)
