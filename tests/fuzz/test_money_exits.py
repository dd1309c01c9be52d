"""Thousands of random exits from calls that are paid for, in virtual time: the far end bills whatever it can.

What it bills depends on the request as it was sent, and on nothing that this router believes. And a cancel at every
single turn of the loop: no hold is left behind, purse and ledger agree, nobody pays for what was not sent. A seed that
fails prints the command that plays it again.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orrouter import Router
from orrouter.catalog.model import Model
from orrouter.core.call import Attempt, Call
from orrouter.core.errors import (
    ConnectionFailed,
    InvalidRequest,
    NoRoute,
    Overloaded,
    RateLimited,
    RouterError,
    ServerError,
    StreamBroken,
    UpstreamError,
)
from orrouter.core.limit import Account, Cap
from orrouter.core.money import NANO, nano
from orrouter.ledger.base import Ledger
from orrouter.ledger.open import open_ledger
from orrouter.testkit.clock import VirtualClock, run_virtual
from orrouter.testkit.script import COMMENT, EOF, SENT, Act, Finish, ScriptedTransport, Step
from tests.e2e.audit import KEY, Auditor, hello
from tests.ticks import VirtualTicks

SEEDS, LONG = 300, 30_000
SILENCE = 10_000.0


def model(slug: str, prompt: str, completion: str) -> Model:
    return Model.read({"id": slug, "context_length": 64_000, "pricing": {"prompt": prompt, "completion": completion}})


LISTED = (model("big", "0.00001", "0.00005"), model("small", "0.000001", "0.000004"), model("tiny", "0", "0.0000003"))
SLUGS = tuple(one.id for one in LISTED)


def dearest(call: Call) -> int:
    """The most that an upstream that keeps to `max_tokens` and `max_price` can bill for a request, in nano-USD."""
    body = call.body
    price = {name: Decimal(str(rate)) / 1_000_000 for name, rate in body["provider"]["max_price"].items()}
    read = sum(len(message["content"].encode()) for message in body["messages"])
    return int((read * price["prompt"] + body["max_tokens"] * price["completion"] + price.get("request", 0)) * NANO)


class Biller:
    """A far end by chance. `bills` is what each try costs if it goes out; what is surely not billed costs nothing."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.bills: dict[Attempt, int] = {}
        self.calls: dict[Attempt, str] = {}
        self.far = ScriptedTransport(self.act)

    def act(self, call: Call) -> Act:
        assert call.attempt is not None
        chance, most = self.chance, dearest(call)
        bill = int(most * chance.choice([0.0, 0.05, 0.3, 0.9, 1]))
        steps, billed = self._play(call, bill)
        self.bills[call.attempt] = billed
        self.calls[call.attempt] = call.body["messages"][0]["content"]
        return steps

    def _play(self, call: Call, bill: int) -> tuple[list[Step], int]:
        chance, words = self.chance, range(min(self.chance.randrange(8), call.body["max_tokens"]))
        steps: list[Step] = [chance.choice([0.0, 0.0, 0.05, 3.0])]
        if chance.random() < 0.08:
            return [*steps, ConnectionFailed("no road")], bill
        steps += [SENT, chance.choice([0.0, 0.1, 1.5, SILENCE if chance.random() < 0.1 else 0.0])]
        if chance.random() < 0.25:
            fault = chance.choice(FAULTS)(chance)
            return [*steps, fault], 0 if fault.billed == "no" else bill
        for word in words:
            steps += [chance.choice([0.0, 0.01, 1.0]), chance.choice([f"w{word} ", COMMENT, "w "])]
            if chance.random() < 0.07:
                return [*steps, chance.choice([SILENCE, EOF, StreamBroken("cut"), ServerError("late")])], bill
        return self._finished(steps, bill)

    def _finished(self, steps: list[Step], bill: int) -> tuple[list[Step], int]:
        chance = self.chance
        usage: Mapping[str, Any] | None = {"prompt_tokens": 1, "completion_tokens": 1, "cost": bill / NANO}
        if chance.random() < 0.15:
            said = {"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}], "usage": usage}
            return [*steps[:3], said], bill
        if chance.random() < 0.2:
            usage = chance.choice([None, {"prompt_tokens": 0, "completion_tokens": 0, "cost": None, "x": 1}])
            return [*steps, "end", Finish(chance.choice(["stop", "error"]), usage)], 0 if usage else bill
        return [*steps, "end", Finish(chance.choice(["stop", "length", "stop", "error"]), usage)], bill

    def spent(self) -> int:
        """What has been billed by now: a try costs from the moment that it is out."""
        return sum(bill for attempt, bill in self.bills.items() if attempt.phase != "not_sent")

    def by_call(self) -> Counter[str]:
        """The same by the words of the call."""
        spent: Counter[str] = Counter()
        for attempt, bill in self.bills.items():
            spent[self.calls[attempt]] += bill if attempt.phase != "not_sent" else 0
        return spent


FAULTS: tuple[Callable[[random.Random], UpstreamError], ...] = (
    lambda chance: Overloaded("busy"),
    lambda chance: RateLimited("too many", retry_after=chance.choice([None, 0.5, 20.0])),
    lambda chance: ServerError("broken"),
    lambda chance: ConnectionFailed("reset", billed="maybe", again="once"),
    lambda chance: NoRoute("nobody"),
    lambda chance: InvalidRequest("wrong"),
)

CLOCKS = {"connect": "1s", "first_token": "2s", "stall": "1s", "dead": "4s", "attempt": "6s", "last_first_token": "3s"}
AGAIN: tuple[dict[str, Any], ...] = (
    {"fallback": {"models": list(SLUGS)}},
    {"retry": {}},
    {"breaker": {"consecutive": 3}},
    {"provider": {"data_collection": "deny"}},
    {"deadline": CLOCKS},
)


def routing(stack: Sequence[Any], far: ScriptedTransport, chance: random.Random, **more: Any) -> Router:
    """A router in virtual time."""
    policy = {
        "version": 1,
        "upstreams": {"openrouter": {"base_url": "https://openrouter.ai/api/v1", "api_key": KEY}},
        "policies": {"default": list(stack)},
    }
    router = Router.from_policy(policy, transport=far, clock=VirtualClock(), random=chance, **more)
    router.world.catalog.swap(LISTED, "here", "2026-01-01")
    return router


# --- the theorem ----------------------------------------------------------------------------------------


class Left(Exception):
    """A caller's own mistake, in the middle of reading."""


@dataclass(frozen=True)
class Visit:
    """One call: its words (no other has them), and how its caller leaves, at the event `at`."""

    words: str
    leave: str
    at: int
    tags: Mapping[str, str]
    body: Mapping[str, Any] = field(default_factory=dict)
    max_cost: str | None = None
    timeout: float | None = None
    before: float = 0.0


def random_visit(chance: random.Random, words: str) -> Visit:
    some = chance.random
    return Visit(
        words=words,
        leave=chance.choice(["chat", "chat", "read", "break", "drop", "throw", "close"]),
        at=chance.randrange(5),
        tags={"key": chance.choice("ab")} | ({"team": chance.choice("xy")} if some() < 0.7 else {}),
        body={} if some() < 0.4 else {"max_tokens": chance.choice([1, 20, 300, 9_000])},
        max_cost=chance.choice(["$0.002", "$0.02"]) if some() < 0.3 else None,
        timeout=some() * 6 if some() < 0.2 else None,
        before=chance.choice([0.0, 0.0, 0.5, 1_800.0]),
    )


def random_stack(chance: random.Random, per_call: str) -> list[Any]:
    some, which = chance.random, chance.choice
    rows: list[Any] = [
        {"cost_cap": {"per_call": per_call, "min_tokens": 16, "when_short": which(["clamp", "cheaper", "refuse"])}},
        {"budget": {"account": "key:{key}", "limits": {"hour": which(["$0.06", "$0.6"])}}},
        {"budget": {"account": "team:{team:-none}", "limits": {"day": which(["$0.1", "$1"]), "week": "$2"}}},
        {"budget": {"account": "org", "limits": {"month": "$3", "lifetime": which(["$0.1", "$0.8", "$3"])}}},
        *[one for one in AGAIN if some() < 0.85],
    ]
    if some() < 0.7:
        chance.shuffle(rows)
    return [{"deadline": {"total": "30s"}}, *rows] if some() < 0.7 else rows


async def come(router: Router, visit: Visit) -> None:
    """One caller: asks, reads, leaves."""
    how = {"tags": visit.tags, "timeout": visit.timeout, "max_cost": visit.max_cost, **visit.body}
    if "fallback" not in str(router.policy.stacks):
        how["model"] = SLUGS[len(visit.words) % 3]
    if visit.leave == "chat":
        await router.chat(hello(visit.words), **how)
        return
    asking = router.stream(hello(visit.words), **how)
    events = await asking.__aenter__()
    count = 0
    async for _ in events:
        count += 1
        if count > visit.at and visit.leave != "read":
            break
    if visit.leave == "throw":
        events.close()
        raise Left(visit.words)
    if visit.leave != "drop":
        await asking.__aexit__(None, None, None)


async def user(router: Router, visits: Sequence[Visit]) -> None:
    """One call after the other."""
    for visit in visits:
        await asyncio.sleep(visit.before)
        with suppress(RouterError, Left):
            await come(router, visit)


async def limits_change(router: Router, chance: random.Random) -> None:
    """Lowered beneath what may be charged already, and raised again."""
    for _ in range(3):
        await asyncio.sleep(chance.choice([0.0, 0.7, 3.0, 900.0]))
        await router.set_limit("org", lifetime=chance.choice(["$0.005", "$0.05", None]))
        await router.set_limit(f"key:{chance.choice('ab')}", hour=chance.choice(["$0.01", "$0.1", None]))


async def scene_of(seed: int) -> Counter[str]:
    """Four users of one router; returns what happened, by the name of the fact."""
    chance = random.Random(seed)
    biller = Biller(chance)
    auditor = Auditor(biller.spent)
    per_call = chance.choice(["$0.004", "$0.03", "$0.5"])
    router = routing(random_stack(chance, per_call), biller.far, chance, on_fact=auditor)
    auditor.watch(router)
    visits = [[random_visit(chance, f"{one} of {who}") for one in range(3)] for who in range(4)]
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(user(router, some)) for some in visits]
    for task in tasks:
        if chance.random() < 0.4:
            loop.call_later(chance.choice([0.0, 0.05, 3.0, chance.random() * 9]), task.cancel)
    if chance.random() < 0.4:
        tasks.append(loop.create_task(limits_change(router, chance)))
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [] == [one for one in outcomes if isinstance(one, Exception)]
    tasks.clear()
    await asyncio.sleep(60.0)
    gc.collect()
    await asyncio.sleep(0.001)
    auditor.check()
    assert 0 == biller.far.open
    spent = biller.by_call()
    for visit in (one for some in visits for one in some):
        cap = min(nano(amount.removeprefix("$")) for amount in (per_call, visit.max_cost or per_call))
        assert spent[visit.words] <= cap, f"{visit} cost {spent[visit.words]}"
    auditor.seen["tries"] = len(biller.bills)
    await router.aclose()
    return auditor.seen


def play(seed: int) -> Counter[str]:
    try:
        return run_virtual(scene_of(seed))
    except BaseException as error:
        error.add_note(f"play it again: ORROUTER_SEED={seed} pytest tests/fuzz/test_money_exits.py -k one_seed")
        raise


@pytest.fixture(autouse=True)
def _quick_collections() -> Iterator[None]:
    """What was there before a test need not be looked through a thousand times."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def test_whatever_an_upstream_bills_was_held_before():
    """After every fact: no window over its limit, no try billed above its hold, no call above its cap."""
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        seen += play(seed)
    happened = ("HoldSettled", "HoldSuspended", "TokensClamped", "BudgetThresholdPassed", "BreakerOpened")
    assert min(seen[name] for name in (*happened, "FallbackTaken", "RetryScheduled", "TargetSkipped")) > SEEDS // 10


@pytest.mark.long
def test_whatever_an_upstream_bills_was_held_before_in_thousands_of_scenes():
    """The same, for minutes."""
    for seed in range(SEEDS, SEEDS + LONG):
        play(seed)


def test_one_seed():
    """The scene that ORROUTER_SEED names, for whoever looks into a failure."""
    play(int(os.environ.get("ORROUTER_SEED", "0")))


# --- every turn -----------------------------------------------------------------------------------------

PAID = {"prompt_tokens": 3, "completion_tokens": 2, "cost": 0.0004}
WORDS: Act = [0.1, SENT, 0.1, "a ", 0.1, "b ", 0.1, Finish("stop", PAID)]
BROKEN: Act = [SENT, 0.1, "a ", 0.1, EOF]
SCENES: dict[str, tuple[list[Act], str]] = {
    "a chat": ([WORDS], "chat"),
    "a stream": ([WORDS], "read"),
    "a stream that is left": ([WORDS], "break"),
    "a stream that is dropped": ([WORDS], "drop"),
    "a stream that breaks": ([BROKEN], "read"),
    "tries that may have been billed": ([ServerError("broken"), BROKEN, WORDS], "chat"),
    "tries that were not": ([ConnectionFailed("no road"), RateLimited("later", retry_after=1.0), WORDS], "chat"),
    "a fallback behind silence": ([[SENT, SILENCE], NoRoute("nobody"), WORDS], "chat"),
    "nobody answers": ([[SENT, SILENCE]], "read"),
    "no usage": ([[0.1, SENT, 0.1, "a ", 0.1, Finish("stop", None)]], "chat"),
}
ORG = Account("org", (("lifetime", NANO),))


STACK: tuple[Any, ...] = (
    {"cost_cap": {"per_call": "$0.5"}},
    {"budget": {"account": "key:{key}", "limits": {"hour": "$1"}}},
    {"budget": {"account": "org", "limits": {"lifetime": "$1"}}},
    *AGAIN,
)


async def struck(name: str, loop: VirtualTicks, url: str) -> bool:
    """Play a fixed scene and cancel its caller when the loop says so; whether that was in time."""
    acts, leave = SCENES[name]
    in_turn = iter(acts)
    far = ScriptedTransport(lambda call: next(in_turn, acts[-1]))
    ledger = open_ledger(url, wall=VirtualClock().wall)
    router = routing(STACK, far, random.Random(0), ledger=ledger)
    visit = Visit(name, leave, 0, {"key": "a"})
    task = loop.create_task(user(router, [visit]))
    asked, hit = 0, False

    def strike() -> None:
        nonlocal asked, hit
        hit = hit or not task.done()
        asked += task.cancel()

    loop.strike = strike
    await asyncio.wait([task])
    assert asked == task.cancelling(), "a cancel that nobody asked for, or one that was swallowed"
    assert bool(asked) == task.cancelled()
    if not asked:
        task.result()
    loop.strike = task = None  # An ended task holds the frames of its error.
    await asyncio.sleep(10.0)
    gc.collect()
    await asyncio.sleep(0.1)
    await in_order(ledger, far)
    await router.aclose()
    return hit


async def in_order(ledger: Ledger, far: ScriptedTransport) -> None:
    """Every hold is over, purse and ledger agree, and each try costs what is known of it."""
    await ledger.flush()
    assert [] == [entry for entry in await ledger.unsettled() if entry.state == "held"]
    (org,) = await ledger.balances(ORG)
    expected = 0
    for attempt in (played.call.attempt for played in far.tries):
        assert attempt is not None
        if attempt.phase == "not_sent":
            assert ("free", 0) == (attempt.provenance, attempt.settled)
        elif attempt.settled is None:
            assert attempt.provenance == "unknown"
        expected += attempt.held or 0 if attempt.settled is None else attempt.settled
    assert (expected, 0) == (org.settled + org.suspense, org.held)
    purses = {limit.purse for played in far.tries for limit in played.call.limits if isinstance(limit, Cap)}
    assert {expected} == {purse.charged for purse in purses} or not far.tries
    assert 0 == far.open


def addresses(kind: str, folder: Path) -> Iterator[str]:
    """A new ledger each time."""
    number = 0
    while True:
        number += 1
        yield "memory://" if kind == "memory" else f"sqlite:///{folder}/spend{number}.db"


ON_DISK = ("a chat", "a stream that is left", "a fallback behind silence")
PLACES = [*[(name, "memory") for name in SCENES], *[(name, "sqlite") for name in ON_DISK]]


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize(("name", "kind"), PLACES)
def test_a_cancel_at_any_turn_leaves_the_books_in_order(name, kind, twice, tmp_path):
    """Whatever the next callback of the loop is: no hold is left, and what was not sent costs nothing."""
    at, hit, urls = 0, True, addresses(kind, tmp_path)
    while hit:
        at += 1
        loop = VirtualTicks(at, twice=twice)
        try:
            hit = run_virtual(struck(name, loop, next(urls)), loop)
        except BaseException as error:
            error.add_note(f"{name}: cancelled before callback {at}")
            raise
    assert at > 3
