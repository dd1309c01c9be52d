"""Attacks on the money that once succeeded: each through the whole router, judged by its books."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from orrouter import Router
from orrouter.core.call import Call
from orrouter.core.errors import InvalidRequest, PolicyError, Rejected, ServerError, UpstreamError
from orrouter.core.limit import Account
from orrouter.core.money import usd
from orrouter.ledger.base import Balance, Hold, new_hold_id
from orrouter.ledger.memory import MemoryLedger
from orrouter.ledger.reconcile import Reconciler
from orrouter.testkit.clock import VirtualClock, virtual
from orrouter.testkit.script import ScriptedTransport
from orrouter.wire.request import request_of
from tests.e2e.audit import KEY, LISTED, MINI, hello
from tests.e2e.test_attacks import answer, far_end, whole

BUDGET = {"budget": {"account": "team:{team:-none}", "limits": {"lifetime": "$1"}}}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def router(url: str, ledger: str = "memory://", **options: Any) -> Router:
    """One team's budget over an upstream, without a second try."""
    upstreams = {"openrouter": {"base_url": url, "api_key": KEY}}
    stack = [BUDGET, {"retry": {"attempts": 1}}]
    policy = {"version": 1, "ledger": ledger, "upstreams": upstreams, "policies": {"default": stack}}
    made = Router.from_policy(policy, **options)
    made.world.catalog.swap(LISTED, "fake", "2026-01-01")
    return made


@asynccontextmanager
async def answered(body: Any, ledger: str = "memory://", head: bytes = b"") -> AsyncIterator[Router]:
    """A router whose upstream answers everything with this, and with one more line in its head."""

    async def act(_: int, writer: asyncio.StreamWriter) -> None:
        status, _, rest = whole(body).partition(b"\r\n")
        writer.write(status + b"\r\n" + head + rest)

    async with far_end(act) as url, router(url, ledger) as asked:
        yield asked


async def books(asked: Router, account: str = "team:none") -> Balance:
    return (await asked.balances(account))[0]


def sqlite(folder: Path) -> str:
    return f"sqlite:///{folder}/ledger.db"


# --- one poisoned word must not stop the ledger -----------------------------------------------------------


async def test_an_id_that_is_no_text_does_not_stop_the_ledger(tmp_path):
    """A generation's id of bytes that are no UTF-8 is no id: the file can be written by the next call and process."""
    paid = answer("hi", usage={**USAGE, "cost": 0.001})
    for _ in range(2):
        async with answered(paid, sqlite(tmp_path), b"X-Generation-Id: gen-\xff\xfe\r\n") as asked:
            await asked.chat(hello(), model=MINI)
            await asked.world.ledger.flush()
    assert 2_000_000 == (await settled(tmp_path)).settled


async def settled(folder: Path) -> Balance:
    async with router("http://127.0.0.1:9/v1", sqlite(folder)) as asked:
        return await books(asked)


async def test_costs_beyond_reason_do_not_stop_the_ledger(tmp_path):
    """An upstream that says each answer cost $900,000,000 has not said: the worst cases stay, and fit into a row."""
    async with answered(answer("hi", usage={**USAGE, "cost": 9e8}), sqlite(tmp_path)) as asked:
        done = await asyncio.gather(*(asked.chat(hello(), model=MINI) for _ in range(30)))
        await asked.world.ledger.flush()
        assert sum(round(one.held * 10**9) for one in done) == (await books(asked)).suspense


@pytest.mark.parametrize(
    "how",
    [
        {"tags": {"team": "\ud800"}},
        {"tags": {"\ud800": "a"}},
        {"request_id": "\ud800"},
        {"request_id": 12},
        {"request_id": object()},
        {"model": "\ud800"},
    ],
)
async def test_a_word_that_cannot_be_written_is_refused_alone(tmp_path, how):
    """It is told to its own caller before anything is held, and another call of the same moment goes through."""
    async with answered(answer("hi", usage={**USAGE, "cost": 0.001}), sqlite(tmp_path)) as asked:
        odd = asked.chat(hello(), **{"model": MINI, **how})
        sound = asked.chat(hello(), model=MINI)
        said, done = await asyncio.gather(odd, sound, return_exceptions=True)
        assert (InvalidRequest, "hi") == (type(said), getattr(done, "text", done))


async def test_a_limit_that_no_row_holds_is_refused(tmp_path):
    """A limit beyond 64 bits is an error of who sets it, for every store."""
    async with router("http://127.0.0.1:9/v1", sqlite(tmp_path)) as asked:
        with pytest.raises(PolicyError, match="more than a ledger can hold"):
            await asked.set_limit("team:a", lifetime="$99,999,999,999")


@pytest.mark.parametrize("account", ["team:\ud800", 12])
async def test_an_account_that_is_no_text_is_refused(tmp_path, account):
    """Its limits are not asked of the ledger, nor changed."""
    async with router("http://127.0.0.1:9/v1", sqlite(tmp_path)) as asked:
        with pytest.raises(PolicyError, match="no name of an account"):
            await asked.set_limit(account, lifetime="$1")


async def test_limits_are_changed_together_or_not_at_all():
    """A misspelt window leaves the one before it as it was."""
    async with router("http://127.0.0.1:9/v1") as asked:
        with pytest.raises(PolicyError):
            await asked.set_limit("team:none", lifetime="$9", dya="$1")
        assert 10**9 == (await books(asked)).limit


@pytest.mark.parametrize("sum_", [b"$9", ["$9"], {}])
async def test_a_sum_that_is_no_text_is_refused_in_words(sum_):
    """Bytes and lists are no sums of money, and that is said as any other mistake is."""
    async with router("http://127.0.0.1:9/v1") as asked:
        with pytest.raises(InvalidRequest, match="max_cost must be a sum"):
            await asked.chat(hello(), model=MINI, max_cost=sum_)
        with pytest.raises(PolicyError, match="is no limit"):
            await asked.set_limit("team:none", lifetime=sum_)


# --- a bill that leaves something out ---------------------------------------------------------------------

HALF_SAID = [
    {"prompt_tokens": 10},
    {"prompt_tokens": 10, "completion_tokens": 0},
    {"prompt_tokens": 0, "completion_tokens": 0},
    {"prompt_tokens": 10, "completion_tokens": "500"},
    {"prompt_tokens": 10, "completion_tokens": -5},
    {"prompt_tokens": 10, "completion_tokens": True},
    {**USAGE, "prompt_tokens_details": {"cache_write_tokens": "9"}},
    {**USAGE, "completion_tokens_details": [1]},
    {"prompt_tokens": 1e300, "completion_tokens": 1},
    {"prompt_tokens": 1e25, "completion_tokens": 1e25},
    {**USAGE, "cost": -1},
    {**USAGE, "cost": "0.5"},
    {**USAGE, "cost": True},
    {**USAGE, "cost": 9e8},
]


@pytest.mark.parametrize("usage", HALF_SAID, ids=str)
@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_usage_that_cannot_be_believed_is_no_cost(tmp_path, usage, store):
    """A count that is missing, of nothing or beyond reason leaves the worst case charged, in suspense."""
    ledger = "memory://" if store == "memory" else sqlite(tmp_path)
    async with answered(answer("word " * 300, usage=usage), ledger) as asked:
        done = await asked.chat(hello(), model=MINI)
        now = await books(asked)
        assert ("unknown", 0, 0, done.held) == (done.provenance, now.held, now.settled, usd(now.suspense))


@pytest.mark.parametrize("own", [True, 1, "yes", "true"])
async def test_whatever_says_that_the_key_is_ones_own_counts(own):
    """The provider's bill is added where `is_byok` says anything but no."""
    usage = {**USAGE, "cost": 0.0001, "is_byok": own, "cost_details": {"upstream_inference_cost": 0.5}}
    async with answered(answer("hi", usage=usage)) as asked:
        await asked.chat(hello(), model=MINI)
        assert 500_100_000 == (await books(asked)).settled


# --- what is sent is what is held -------------------------------------------------------------------------


def listened(sent: list[dict[str, Any]]) -> ScriptedTransport:
    """A far end that keeps what it was sent."""

    def act(call: Call) -> dict[str, Any]:
        sent.append(orjson.loads(request_of(call).body or b""))
        return answer("hi")

    return ScriptedTransport(act)


@pytest.mark.parametrize("cap", [0, "0", 0.0, 1e-320, "1e-400"])
async def test_a_cap_of_nothing_is_sent_as_a_cap(cap):
    """A price of 0 might be read upstream as no cap at all, and nearly nothing is held for it."""
    sent: list[dict[str, Any]] = []
    async with router("http://127.0.0.1:9/v1", transport=listened(sent)) as asked:
        await asked.chat(hello(), model=MINI, provider={"max_price": {"prompt": cap, "completion": cap}})
    assert {"prompt": 1e-9, "completion": 1e-9} == {
        name: sent[0]["provider"]["max_price"][name] for name in ("prompt", "completion")
    }


async def test_all_of_a_part_is_weighed():
    """What stands beside the text of a part is sent too, and so it is held."""
    bare = {"type": "text", "text": "t"}
    async with router("http://127.0.0.1:9/v1", transport=listened([])) as asked:
        held = [
            (await asked.chat([{"role": "user", "content": [part]}], model=MINI)).held
            for part in (bare, {**bare, "more": "e" * 5000})
        ]
    assert 5000 * 187 <= (held[1] - held[0]) * 10**9


# --- one hold must not keep the others from their turn ----------------------------------------------------


@pytest.mark.parametrize(
    "error", [Rejected("no", status=400), Rejected("no", status=414), ServerError("no", status=500)]
)
@virtual
async def test_an_id_that_is_never_answered_starves_nobody(error: UpstreamError):
    """Holds whose cost can be told are settled, though the first that is asked for fails each time."""
    clock = VirtualClock()
    ledger = MemoryLedger(clock.wall)

    async def fetch(_path: str, _upstream: str, *, id: str) -> dict[str, Any]:  # noqa: A002  # as it stands in the query
        if id == "bad":
            raise error
        return {"data": {"id": id, "total_cost": 0.001, "finish_reason": "stop"}}

    for name in ("bad", "good", "better"):
        hold = Hold(new_hold_id(), 5_000_000, (Account("org", (("lifetime", 10**9),)),), "openrouter", "key")
        await ledger.reserve(hold)
        ledger.identify(hold.id, name)
        ledger.suspend(hold.id, "left")
    reconciler = Reconciler(ledger, fetch, clock, Random(1))
    for _ in range(20):
        await clock.sleep(60)
        await reconciler.once()
    assert ["bad"] == [entry.generation_id for entry in await ledger.unsettled()]
