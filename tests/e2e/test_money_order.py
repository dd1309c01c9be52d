"""One cap, in whatever order the layers stand; and an upstream that is silent for an hour. In virtual time."""

from __future__ import annotations

import asyncio
from itertools import permutations
from random import Random
from typing import Any

import pytest

from orrouter import Router
from orrouter.catalog.model import Model
from orrouter.core.errors import BudgetExceeded, ConnectionFailed, RouterError, ServerError
from orrouter.core.money import NANO
from orrouter.ledger.reconcile import Reconciler
from orrouter.middleware.reserve import ReserveOptions, bound
from orrouter.testkit.clock import VirtualClock, run_virtual, virtual
from orrouter.testkit.script import EOF, SENT, Finish, ScriptedTransport
from tests.e2e.audit import KEY, at_once, hello


def model(slug: str, prompt: str, completion: str) -> Model:
    return Model.read({"id": slug, "context_length": 64_000, "pricing": {"prompt": prompt, "completion": completion}})


LISTED = (model("big", "0.00001", "0.00004"), model("small", "0.000001", "0.000004"))
PAID = Finish("stop", {"prompt_tokens": 3, "completion_tokens": 2, "cost": 0.0001})
LAYERS: dict[str, dict[str, Any]] = {
    "cost_cap": {"per_call": "$0.10"},
    "budget": {"account": "org", "limits": {"lifetime": "$0.15"}},
    "fallback": {"models": ["big", "small"]},
    "retry": {},
    "breaker": {},
    "provider": {"data_collection": "deny"},
}
CAP, LIMIT = NANO // 10, NANO * 15 // 100


def routing(acts: Any, stack: list[Any], **more: Any) -> tuple[Router, ScriptedTransport]:
    far = ScriptedTransport(acts)
    policy = {
        "version": 1,
        "upstreams": {"openrouter": {"base_url": "https://openrouter.ai/api/v1", "api_key": KEY}},
        "policies": {"default": stack},
    }
    router = Router.from_policy(policy, transport=far, clock=VirtualClock(), random=Random(0), **more)
    router.world.catalog.swap(LISTED, "here", "2026-01-01")
    return router, far


def charged(router: Router, account: str = "org") -> tuple[int, int, int]:
    """Settled, held and in suspense within the account's first window."""
    one = at_once(router.balances(account))[0]
    return one.settled, one.held, one.suspense


# --- any order ------------------------------------------------------------------------------------------


async def costs_no_more(order: tuple[str, ...]) -> None:
    """Dear tries that may have been billed, then a cheap answer; then calls until the account is full."""
    broken = [SENT, "half ", EOF]
    acts = {
        "big": [ServerError("x"), broken, ConnectionFailed("no road")],
        "small": [ServerError("x"), [SENT, "ok", PAID]],
    }
    router, far = routing(acts, [{name: LAYERS[name]} for name in order])
    outcomes = [await outcome(router)]
    tries = [played.call.attempt for played in far.tries]
    assert {"big", "small"} == set(far.models), f"{order}: nobody fell back"
    for played, attempt in zip(far.tries, tries, strict=True):
        worst = bound(played.call, played.call.body, router.world.catalog.get, ReserveOptions())
        assert worst.cost() == attempt.held, f"{order}: not held at the price and length that were sent"
    unknown = sum(one.held for one in tries if one.provenance == "unknown")
    known = sum(one.settled for one in tries if one.provenance != "unknown")
    assert (known, 0, unknown) == charged(router)
    assert 0 < unknown + known <= CAP
    outcomes += [await outcome(router) for _ in range(4)]
    assert "ok" in outcomes
    await router.aclose()


async def outcome(router: Router, **body: Any) -> str:
    try:
        return (await router.chat(hello(), **body)).text
    except RouterError as error:
        return error.code


@pytest.mark.parametrize("first", sorted(LAYERS))
def test_the_same_cap_holds_in_whatever_order_the_list_stands(first):
    """Every order that a policy may have: what failed is charged at its own target's price, and the sum stays below."""
    for rest in permutations([name for name in LAYERS if name != first]):
        run_virtual(costs_no_more((first, *rest)))


@pytest.mark.parametrize("first", sorted(LAYERS))
def test_the_same_account_is_full_in_whatever_order_the_list_stands(first):
    """An upstream that bills the whole of every try and never answers: charged up to the limit and not beyond."""

    async def fill(order: tuple[str, ...]) -> None:
        acts = {name: [[SENT, "half ", EOF]] for name in ("big", "small")}
        router, far = routing(acts, [{name: LAYERS[name]} for name in order])
        codes = {await outcome(router) for _ in range(12)}
        total = sum(charged(router))
        assert "budget_exceeded" in codes or "circuit_open" in codes
        assert total <= LIMIT
        assert total == sum(played.call.attempt.held for played in far.tries)

    for rest in permutations([name for name in LAYERS if name != first]):
        run_virtual(fill((first, *rest)))


# --- an hour of silence ---------------------------------------------------------------------------------

HOUR = 3600
SILENCE = 1_000_000.0


class Key:
    """An upstream that tells what the key has spent."""

    def __init__(self, spent: int) -> None:
        self.spent = spent

    async def fetch(self, path: str, upstream: str, **query: str) -> dict[str, Any]:
        usage = self.spent / NANO
        return {"data": {"label": "sk-or-v1-abc...xyz", "usage": usage, "usage_daily": usage, "byok_usage": 0}}


async def silent_hour(*layers: Any, limit: str = "$1000", **body: Any) -> tuple[Router, int]:
    """A call each second while an upstream takes every request and answers none; the router, and how many went out."""
    budget = {"budget": {"account": "org", "limits": {"lifetime": limit}}}
    clocks = {"deadline": {"first_token": "10s", "last_first_token": "10s"}}
    router, far = routing({"big": [[SENT, SILENCE]]}, [budget, *layers, clocks])
    tasks = []
    for _ in range(HOUR):
        tasks.append(asyncio.create_task(outcome(router, **body)))
        await asyncio.sleep(1.0)
    await asyncio.gather(*tasks)
    return router, len(far.tries)


CHAIN: dict[str, Any] = {"fallback": {"models": ["big"]}}


@virtual
async def test_an_hour_of_silence_costs_what_the_breaker_lets_through():
    """Of 3,600 calls at $0.22 thirty go out, $6.54; two readings of the key's usage free all but what was billed."""
    router, sent = await silent_hour({"breaker": {}}, model="big")
    settled, held, suspense = charged(router)
    assert (0, 0, 30) == (settled, held, sent)
    assert suspense == 30 * 217_862_500
    billed = 7 * NANO // 100
    clock, key = router.world.clock, router.world.upstreams["openrouter"].key
    reconciler = Reconciler(router.world.ledger, Key(billed).fetch, clock, Random(0), keys=lambda: {"openrouter": key})
    began = clock.now()
    while charged(router)[2] and clock.now() - began < HOUR:
        await reconciler.once()
        await asyncio.sleep(60.0)
    assert (billed, 0, 0) == charged(router)


@virtual
async def test_in_a_chain_the_last_hope_is_asked_one_at_a_time():
    """Where nobody else is left an open breaker still lets one probe at a time through: one each ten seconds here."""
    router, sent = await silent_hour(CHAIN, {"breaker": {}})
    settled, held, suspense = charged(router)
    assert (0, 0) == (settled, held)
    assert 30 < sent <= HOUR / 10 + 15
    assert suspense == sent * 217_862_500


@virtual
async def test_without_a_breaker_the_same_hour_fills_the_account():
    """The bound is the breaker's: without it the account's limit is the only one, and it holds."""
    router, sent = await silent_hour(CHAIN, limit="$100")
    settled, held, suspense = charged(router)
    assert (0, 0) == (settled, held)
    assert suspense == sent * 217_862_500
    assert 99 * NANO < suspense <= 100 * NANO
    with pytest.raises(BudgetExceeded):
        await router.chat(hello())
