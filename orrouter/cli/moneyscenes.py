"""The scenes of `orrouter demo` about money: what a cap, a clamp and a budget do, and what becomes of an unknown cost.

Law: as in `scenes.py`; what the fake upstream has truly charged is the judge.
"""

from __future__ import annotations

import asyncio
from typing import Final

from orrouter.cli.show import count, money
from orrouter.cli.stage import FIRST, QUESTION, Otherwise, Scene, Stage, asked, must
from orrouter.core.errors import BudgetExceeded, CostCapExceeded
from orrouter.core.money import nano, show

TEAM: Final = "team:demo"
TAGS: Final = {"team": "demo"}
ROOM_FOR: Final = 3
"""So many worst cases fit in the budget of the demo."""
CALLERS: Final = 12
TOKENS: Final = 100


async def refused(stage: Stage) -> str:
    """A call that may cost more than its caller allows."""
    stage.clear()
    try:
        await stage.router.chat(QUESTION, policy="money", tags=TAGS, max_cost="$0.0001")
    except CostCapExceeded as error:
        asked(stage)
        return f"CostCapExceeded: {money(error.needed)} needed, {money(error.remaining)} allowed; nothing was sent"
    raise Otherwise("it was answered")


async def clamped(stage: Stage) -> str:
    """A cap that buys a shorter answer."""
    stage.clear()
    done = await stage.router.chat(QUESTION, policy="money", tags=TAGS, max_cost="$0.01")
    asked(stage, FIRST)
    (seen,) = stage.seen
    must(done.clamped is not None and seen.body.get("max_tokens") == done.clamped, "its tokens were not cut")
    held, cost = nano(done.held or 0), nano(done.cost or 0)
    must(seen.true_cost_nano <= held <= nano("0.01"), f"it held {money(held)}")
    return f"an answer of at most {done.clamped} tokens: {money(held)} held, {money(cost)} paid"


async def full(stage: Stage) -> str:
    """Many callers at once on a budget for a few."""
    stage.clear()
    (worst, *_) = stage.router.estimate(QUESTION, policy="money", max_tokens=TOKENS)
    must(worst.cost is not None, "nobody knows what it may cost")
    spent = sum(one.settled + one.held + one.suspense for one in await stage.router.balances(TEAM))
    limit = spent + ROOM_FOR * nano(worst.cost or 0)
    await stage.router.set_limit(TEAM, day=show(limit))
    before = stage.fake.true_cost()
    calls = (stage.router.chat(QUESTION, policy="money", tags=TAGS, max_tokens=TOKENS) for _ in range(CALLERS))
    ended = await asyncio.gather(*calls, return_exceptions=True)
    unsent = sum(isinstance(one, BudgetExceeded) for one in ended)
    must(len(stage.seen) == ROOM_FOR == CALLERS - unsent, f"{count(len(stage.seen), 'call')} went out")
    await stage.router.set_limit(TEAM, day=None)
    paid = money(stage.fake.true_cost() - before)
    return f"{ROOM_FOR} of {CALLERS} at once are answered for {paid}; {unsent} get BudgetExceeded unsent"


async def unknown(stage: Stage) -> str:
    """A reader who leaves in mid-answer."""
    stage.clear()
    async with stage.router.stream(QUESTION, policy="money", tags=TAGS) as events:
        await anext(events)
    (balance,) = await stage.router.balances(TEAM)
    must(balance.suspense > 0, "nothing stayed charged")
    await stage.fake.settled()
    after = balance
    for _ in range(20):
        if not after.suspense:
            break
        await asyncio.sleep(0.25)
        await stage.router.reconcile()
        (after,) = await stage.router.balances(TEAM)
    must(after.suspense == 0, "nobody found out what it cost")
    paid = money(after.settled - balance.settled)
    return f"{money(balance.suspense)} stayed charged until GET /generation told the cost: {paid}"


MONEY_SCENES: Final = (
    Scene("cost cap", "a call may cost $0.0001", refused),
    Scene("clamp", "a call may cost $0.01", clamped),
    Scene("budget", f"{CALLERS} callers, money for {ROOM_FOR}", full),
    Scene("unknown cost", "a reader leaves in mid-answer", unknown),
)
