"""The ways in which other routers' budgets have leaked money or locked users out, one test each.

Each was met by users of a router that reserves in shared counters (public issues of LiteLLM's proxy, 2025 and 2026).
All in virtual time, over a scripted far end.
"""

from __future__ import annotations

import asyncio
import gc
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from orrouter import Router
from orrouter.catalog.model import Model
from orrouter.core.errors import (
    BudgetExceeded,
    LedgerUnavailable,
    RouterError,
    StreamBroken,
    Unpriced,
)
from orrouter.core.facts import BudgetThresholdPassed, HoldTaken, TokensClamped
from orrouter.core.money import NANO
from orrouter.ledger.base import Balance
from orrouter.ledger.memory import MemoryLedger
from orrouter.testkit.clock import VirtualClock, run_virtual, virtual
from orrouter.testkit.script import EOF, SENT, Finish, ScriptedTransport
from tests.e2e.audit import KEY, at_once, hello

DAY = 86_400.0


def row(slug: str, prompt: str, completion: str, **more: Any) -> Model:
    pricing = {"prompt": prompt, "completion": completion, **more}
    return Model.read({"id": slug, "context_length": 1_000_000, "pricing": pricing})


LISTED = (row("m", "0.000001", "0.000004"),)


def paid(cost: float) -> list[Any]:
    return [SENT, "Hello", Finish("stop", {"prompt_tokens": 3, "completion_tokens": 2, "cost": cost})]


class Shop:
    """A router with one account over a far end that plays `acts`."""

    def __init__(
        self, acts: Any, limit: str = "$1", *layers: Any, account: str = "org", models: Any = None, **more: Any
    ) -> None:
        self.far = ScriptedTransport({"m": acts})
        budget = {"budget": {"account": account, "limits": {"lifetime": limit}}}
        policy = {
            "version": 1,
            "upstreams": {"openrouter": {"base_url": "https://openrouter.ai/api/v1", "api_key": KEY}},
            "policies": {"default": [budget, *layers]},
        }
        self.router = Router.from_policy(policy, transport=self.far, clock=VirtualClock(), random=Random(0), **more)
        self.router.world.catalog.swap(models or LISTED, "here", "2026-01-01")

    async def chat(self, **asked: Any) -> Any:
        return await self.router.chat(**{"messages": hello(), "model": "m", **asked})

    async def fails(self, **asked: Any) -> RouterError:
        with pytest.raises(RouterError) as caught:
            await self.chat(**asked)
        return caught.value

    def stream(self, **asked: Any) -> Any:
        return self.router.stream(hello(), **{"model": "m", **asked})

    def balance(self, account: str = "org") -> Balance:
        return at_once(self.router.balances(account))[0]

    def sums(self, account: str = "org") -> tuple[int, int, int]:
        """Settled, held and in suspense."""
        one = self.balance(account)
        return one.settled, one.held, one.suspense

    def states(self) -> list[tuple[str, str]]:
        """State and reason of every hold that is open."""
        return [(entry.state, entry.reason) for entry in at_once(self.router.world.ledger.unsettled())]


async def cancelled(task: asyncio.Task[Any], after: float) -> None:
    await asyncio.sleep(after)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- a hold is leaked when its caller goes --------------------------------------------------------------


@virtual
async def test_a_cancel_before_sending_leaks_no_hold():
    """Defect: a cancelled request kept its reservation, and users were refused by budgets that nobody had used."""
    shop = Shop([[4.0, *paid(0.001)]], "$0.01")
    for _ in range(100):
        await cancelled(asyncio.create_task(shop.chat(max_tokens=1000)), 1.0)
    assert (0, 0, 0) == shop.sums()
    assert "Hello" == (await shop.chat(max_tokens=1000)).text


@virtual
async def test_a_cancel_after_sending_leaves_no_hold_behind_but_what_it_may_cost():
    """Defect: the same; here the hold is resolved at once, and what may have been billed stays charged."""
    shop = Shop([[SENT, 5.0, *paid(0.001)[1:]]])
    await cancelled(asyncio.create_task(shop.chat()), 1.0)
    assert [("suspense", "cancelled")] == shop.states()


@virtual
@pytest.mark.parametrize("how", ["break", "throw", "drop"])
async def test_a_stream_that_is_left_leaks_no_hold(how):
    """Defect: GeneratorExit in a stream skipped the settlement, and its hold was never resolved."""
    shop = Shop([[SENT, "a ", 1.0, "b ", 1.0, *paid(0.001)[1:]]])
    asking = shop.stream()
    events = await asking.__aenter__()
    await anext(events)
    if how == "throw":
        await asking.__aexit__(KeyError, KeyError(), None)
    elif how == "break":
        await asking.__aexit__(None, None, None)
    del asking, events
    gc.collect()
    await asyncio.sleep(0.1)
    assert [("suspense", "left")] == shop.states()
    assert 0 == shop.far.open


@pytest.mark.parametrize("at", [HoldTaken, TokensClamped, BudgetThresholdPassed])
def test_a_listener_that_stops_the_program_leaks_no_hold(at):
    """Defect: whatever was raised between the hold and the request left the hold behind."""

    class Stop(BaseException):
        pass

    def stop(fact: Any) -> None:
        if isinstance(fact, at):
            raise Stop

    async def ask() -> None:
        cap = {"cost_cap": {"per_call": "$0.004"}}
        shop = Shop([paid(0.001)], "$0.006", cap, on_fact=stop)
        with pytest.raises(Stop):
            await shop.chat()
        assert [] == shop.far.tries
        assert (0, 0, 0) == shop.sums()

    run_virtual(ask())


# --- what does not fit is admitted all the same ---------------------------------------------------------


@virtual
async def test_a_hold_that_does_not_fit_is_refused_and_not_resized():
    """Defect: a hold above the limit was shrunk to what was left, admitted, and the request cost what it cost."""
    shop = Shop([paid(0.001)], "$0.006")
    need = (await shop.fails(max_tokens=1_200)).needed
    assert [] == shop.far.tries
    assert (0, 0, 0) == shop.sums()
    await shop.router.set_limit("org", lifetime=f"${(need - 1) / NANO:.9f}")
    assert isinstance(await shop.fails(max_tokens=1_200), BudgetExceeded)
    await shop.router.set_limit("org", lifetime=f"${need / NANO:.9f}")
    await shop.chat(max_tokens=1_200)
    assert [1_200] == [played.call.body["max_tokens"] for played in shop.far.tries]


@virtual
async def test_a_model_without_a_price_is_refused():
    """Defect: for a model without a price nothing was reserved, and it was sent."""
    shop = Shop([paid(0.001)], models=(Model.read({"id": "m", "context_length": 1000}),))
    error = await shop.fails()
    assert isinstance(error, Unpriced)
    assert [] == shop.far.tries


class Full(MemoryLedger):
    """A store whose writes fail while `down`."""

    down = True

    async def reserve(self, hold: Any) -> Any:
        if self.down:
            raise LedgerUnavailable("the disk is full")
        return await super().reserve(hold)


@virtual
async def test_a_store_that_cannot_be_written_admits_nobody():
    """Defect: where the counter could not be written it was skipped, and the request went out uncounted."""
    shop = Shop([paid(0.001)], ledger=Full(VirtualClock().wall))
    assert isinstance(await shop.fails(), LedgerUnavailable)
    assert [] == shop.far.tries


@virtual
async def test_one_account_that_fails_closed_closes_the_call():
    """Defect: an account that may go uncounted let through a call that another account must count."""
    key = {"budget": {"account": "key:{key}", "limits": {"day": "$1"}, "on_store_error": "fail_open"}}
    shop = Shop([paid(0.001)], "$1", key, ledger=Full(VirtualClock().wall))
    assert isinstance(await shop.fails(tags={"key": "a"}), LedgerUnavailable)
    assert [] == shop.far.tries


@virtual
async def test_a_user_never_seen_before_is_counted_from_the_first_call():
    """Defect: a first-seen user was looked up, found without spend, and let through many times at once."""
    shop = Shop([[SENT, 1.0, *paid(0.001)[1:]]], "$0.008", account="user:{user}")
    asked = [shop.chat(max_tokens=1_000, tags={"user": "new"}) for _ in range(50)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert 49 == sum(isinstance(one, BudgetExceeded) for one in outcomes)
    assert 1 == len(shop.far.tries)


# --- what was spent is forgotten ------------------------------------------------------------------------


@virtual
async def test_what_may_have_been_spent_never_ages_out():
    """Defect: a hold without an end was dropped after some minutes, though the money was gone."""
    shop = Shop([[SENT, "half ", EOF]])
    error = await shop.fails()
    assert isinstance(error, StreamBroken)
    before = shop.sums()
    await asyncio.sleep(400 * DAY)
    assert (0, 0, error.attempts[0].held_nano) == before == shop.sums()


@virtual
async def test_a_call_that_hangs_keeps_its_hold():
    """Defect: the same with a request that is still under way when its hold's time is over."""
    shop = Shop([[SENT, "a ", 10 * DAY, *paid(0.002)[1:]]], "$1", {"deadline": {"dead": "30d"}})
    async with shop.stream() as events:
        await anext(events)
        await asyncio.sleep(9 * DAY)
        assert shop.balance().held > 0
        assert "Hello" == [event.text async for event in events][0]
    assert (2_000_000, 0, 0) == shop.sums()


@virtual
async def test_a_cancelled_stream_costs_more_than_its_prompt():
    """Defect: a cancelled stream was settled at its prompt's price, though providers bill what they have written."""
    shop = Shop([[SENT, *["word "] * 500, 9.0, *paid(0.002)[1:]]])
    async with shop.stream(max_tokens=1_000) as events:
        for _ in range(500):
            await anext(events)
    settled, held, suspense = shop.sums()
    assert (0, 0) == (settled, held)
    assert suspense >= 1_000 * 5_000


# --- too much is held, or too little --------------------------------------------------------------------


@virtual
async def test_a_call_without_max_tokens_does_not_hold_the_whole_account():
    """Defect: an omitted max_tokens reserved all that was left, and everybody else was refused meanwhile."""
    shop = Shop([[SENT, 1.0, *paid(0.001)[1:]]], "$0.1")
    first = asyncio.create_task(shop.chat())
    await asyncio.sleep(0.5)
    assert shop.balance().held < NANO // 10 // 4
    assert ["Hello"] * 3 == [one.text for one in await asyncio.gather(first, shop.chat(), shop.chat())]
    assert {4_096} == {played.call.body["max_tokens"] for played in shop.far.tries}


@virtual
async def test_a_longer_context_is_held_at_its_own_price():
    """Defect: a prompt of the dearer tier was reserved at the plain price; $0.60 were spent under a cap of $0.45."""
    tier = {"min_prompt_tokens": 200_000, "prompt": "0.000006", "completion": "0.0000225"}
    tiered = row("m", "0.000003", "0.000015", overrides=[tier])
    long = [{"role": "user", "content": "x" * 200_001}]
    shop = Shop([paid(0.001)], "$2", models=(tiered,))
    error = await shop.fails(max_tokens=20_000, messages=long)
    assert isinstance(error, BudgetExceeded)
    assert error.needed >= (200_001 * 6_000 + 20_000 * 22_500) * 5 // 4
    await shop.chat(max_tokens=15_000, messages=long)
    sent = shop.far.tries[0].call.body["provider"]["max_price"]
    assert (7.5, 28.125) == (sent["prompt"], sent["completion"])


@virtual
async def test_a_dearer_service_tier_is_refused():
    """Defect: a priority tier was reserved at the plain price."""
    shop = Shop([paid(0.001)])
    error = await shop.fails(service_tier="priority")
    assert isinstance(error, Unpriced)
    assert "service_tier" in str(error)
    assert [] == shop.far.tries


@virtual
async def test_sums_are_exact():
    """Defect: floats added up to 25.000000000000004, and a budget was over by dust."""
    shop = Shop([paid(0.1)], "$1.1")
    for _ in range(10):
        await shop.chat(max_tokens=1_000)
    assert (NANO, 0, 0) == shop.sums()
    assert {"lifetime": Decimal("0.1")} == await shop.router.remaining("org")


# --- a loop without an end ------------------------------------------------------------------------------


class Counting(asyncio.SelectorEventLoop):
    """Counts its callbacks."""

    count = 0

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        self.count += 1
        return super().call_soon(callback, *args, context=context)


LATE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    b'data: {"id":"gen-1","choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}\n\n'
    b'data: {"id":"gen-1","error":{"code":429,"message":"Rate limit exceeded"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}\n\n'
)


async def limited_in_the_middle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says a word to whoever asks, and then that he asks too often."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(LATE)
    await writer.drain()
    writer.close()


def test_a_limit_in_the_middle_of_a_stream_is_no_loop():
    """Defect: a 429 in mid-stream was retried in a tight loop at full CPU, without a cooldown for a single target."""

    async def ask() -> None:
        far = await asyncio.start_server(limited_in_the_middle, "127.0.0.1", 0)
        port = far.sockets[0].getsockname()[1]
        upstreams = {"openrouter": {"base_url": f"http://127.0.0.1:{port}", "api_key": KEY}}
        stack = [
            {"budget": {"account": "org", "limits": {"lifetime": "$1"}}},
            {"retry": {}},
            {"breaker": {"consecutive": 3}},
        ]
        policy = {"version": 1, "upstreams": upstreams, "policies": {"default": stack}}
        async with far, Router.from_policy(policy) as router:
            router.world.catalog.swap(LISTED, "here", "2026-01-01")
            codes = [await broken(router) for _ in range(10)]
            (balance,) = await router.balances("org")
        assert (["stream_broken"] * 3 + ["circuit_open"] * 7) == codes
        assert (0, 0) == (balance.settled, balance.held)
        assert balance.suspense >= 3 * 10 * 5_000

    with asyncio.Runner(loop_factory=Counting) as runner:
        loop = runner.get_loop()
        runner.run(ask())
        assert isinstance(loop, Counting)
        assert loop.count < 1_000


async def broken(router: Router) -> str:
    """How a stream ended."""
    try:
        async with router.stream(hello(), model="m", max_tokens=10) as events:
            async for _ in events:
                pass
    except RouterError as error:
        return error.code
    return "ok"
