"""The reconciler behind a Router: real questions to a fake upstream on a socket, asked through the policy's layers."""

from __future__ import annotations

import pytest

from orrouter.core.clock import LoopClock
from orrouter.core.limit import Account
from orrouter.ledger.memory import MemoryLedger
from orrouter.router import Router
from orrouter.testkit.desk import Rules
from orrouter.testkit.server import FakeOpenRouter

MODEL = "openai/gpt-4o-mini"
KEY = "sk-or-v1-0123456789abcdef"
HELLO = [{"role": "user", "content": "Hello"}]
ORG = Account("org", (("lifetime", 5_000_000_000),))


class Later(LoopClock):
    """The machine's clock, moved forward."""

    ahead = 0.0

    def wall(self) -> float:
        return super().wall() + self.ahead


def policy(url: str) -> dict:
    return {
        "version": 1,
        "upstreams": {"openrouter": {"base_url": url, "api_key": KEY}},
        "policies": {
            "default": [
                {"budget": {"account": "org", "limits": {"lifetime": "$5"}}},
                {"budget": {"account": "team:{team}", "limits": {"lifetime": "$5"}}},
                {"fallback": {"models": [MODEL]}},
                {"retry": {"attempts": 2, "initial": "1ms"}},
                {"breaker": {}},
                {"reserve": {"max_tokens": 500}},
            ]
        },
    }


async def leave_a_stream(router: Router) -> None:
    """Read one event and go."""
    async with router.stream(HELLO, tags={"team": "a"}) as events:
        async for _ in events:
            break


@pytest.mark.parametrize("misses", [0, 2])
async def test_a_stream_that_was_left_is_settled_at_what_the_upstream_billed(misses):
    """404s first where its index is late; then the accounts have paid the true cost to the nano-dollar."""
    rules = Rules(generation_misses=misses, pace=0.01)
    async with FakeOpenRouter(rules=rules) as fake:
        clock = Later()
        ledger = MemoryLedger(clock.wall)
        async with Router.from_policy(policy(fake.url), clock=clock, ledger=ledger) as router:
            await leave_a_stream(router)
            await fake.settled()
            assert ["suspense"] == [entry.state for entry in await ledger.unsettled()]
            resolved = []
            for age in (1, 2, 4, 600):
                clock.ahead = age
                resolved.append(await router.reconcile())
            assert 1 == sum(resolved)
            balance = (await ledger.balances(ORG))[0]
            assert (fake.true_cost(), 0, 0) == (balance.settled, balance.held, balance.suspense)
            assert fake.true_cost() > 0


async def test_a_question_about_money_is_charged_to_nobody():
    """It passes budgets without their tags, and leaves no hold."""
    async with FakeOpenRouter() as fake:
        ledger = MemoryLedger(LoopClock().wall)
        async with Router.from_policy(policy(fake.url), ledger=ledger) as router:
            await router.reconcile()
            assert [] == await ledger.unsettled()
        assert {"key"} == {seen.path for seen in fake.lookups if not seen.path.startswith("models")}
