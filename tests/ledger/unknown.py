"""A far end for reconciliation, in virtual time: generations that appear late, a key whose usage lags, and failures."""

from __future__ import annotations

from random import Random

from orrouter.core.errors import ModelNotFound
from orrouter.core.facts import HoldReconciled, ReconcileFailed
from orrouter.core.limit import Account
from orrouter.ledger.base import Hold
from orrouter.ledger.memory import MemoryLedger
from orrouter.ledger.reconcile import Reconciler
from orrouter.testkit.clock import VirtualClock

CENT = 10_000_000
KEY = "key-1"
TEAM = Account("team:search", (("lifetime", 1000 * CENT),))


class Far:
    """What the upstream knows: `generations` by id with the time from which they are found, and what it has charged.

    `failures` are raised first, one for each question. `asked` is (virtual second, path or id) of every question.
    """

    def __init__(self, clock, lag: float = 0.0) -> None:
        self.clock, self.lag, self.label = clock, lag, "sk-or-v1-abc...xyz"
        self.generations, self.failures, self.asked = {}, [], []
        self.charges: list[tuple[float, int]] = []
        self.key_path = "key"

    def charge(self, amount: int) -> None:
        """The key has spent so much, in nano-USD, from now on."""
        self.charges.append((self.clock.wall(), amount))

    def knows(self, generation_id, cost, *, after=0.0, **more):
        """From `after` (virtual seconds) on the generation is found."""
        data = {"id": generation_id, "total_cost": cost, "finish_reason": "stop", "provider_name": "OpenAI", **more}
        self.generations[generation_id] = (after, {"data": data})

    async def fetch(self, path, upstream, **query):
        self.asked.append((round(self.clock.now(), 3), query.get("id", path)))
        if self.failures:
            failure = self.failures.pop(0)
            if failure is not None:
                raise failure
        if path == "generation":
            after, answer = self.generations.get(query["id"], (float("inf"), None))
            if self.clock.now() >= after:
                return answer
        elif path == self.key_path:
            return {"data": {"label": self.label, **self.usage()}}
        raise ModelNotFound("Not Found", status=404)

    def usage(self):
        """The figures of the key as USD, as late as they are."""
        wall = self.clock.wall() - self.lag
        midnight = self.clock.wall() // 86400 * 86400
        seen = [(at, amount) for at, amount in self.charges if at <= wall]
        whole, daily = sum(amount for _, amount in seen), sum(amount for at, amount in seen if at >= midnight)
        return {"usage": whole / 1e9, "usage_daily": daily / 1e9, "byok_usage": 0}


class Scene:
    """A ledger, a far end and a reconciler in virtual time."""

    def __init__(self, *, keys=(("openrouter", KEY),), lag: float = 0.0) -> None:
        self.clock = VirtualClock()
        self.ledger = MemoryLedger(self.clock.wall)
        self.far = Far(self.clock, lag)
        self.facts = []
        self.keys = None if keys is None else dict(keys)
        self.reconciler = self.another()

    def another(self):
        """A reconciler that remembers nothing, over the same ledger."""
        keys = None if self.keys is None else lambda: self.keys
        return Reconciler(self.ledger, self.far.fetch, self.clock, Random(0), self.facts.append, keys=keys)

    async def hold(self, name: str, amount: int = 5 * CENT, *, upstream="openrouter", key=KEY, account=TEAM) -> str:
        """A try under way."""
        await self.ledger.reserve(Hold(name, amount, (account,), upstream, key, "a/b", f"req-{name}", streamed=True))
        return name

    async def unknown(self, name: str, generation_id: str = "", amount: int = 5 * CENT, **more) -> str:
        """A try of which nobody knows what it cost."""
        await self.hold(name, amount, **more)
        if generation_id:
            self.ledger.identify(name, generation_id)
        self.ledger.suspend(name, "upstream_timeout")
        return name

    async def sums(self, account=TEAM) -> tuple[int, int, int]:
        """Settled, held and in suspense within the first window."""
        balance = (await self.ledger.balances(account))[0]
        return balance.settled, balance.held, balance.suspense

    @property
    def resolved(self):
        """What was told: (hold, cost, provenance)."""
        told = [fact for fact in self.facts if isinstance(fact, HoldReconciled)]
        return [(fact.hold, fact.cost_nano, fact.provenance) for fact in told]

    @property
    def failures(self):
        """What could not be asked: (error, seconds until it is asked again)."""
        return [(fact.error, fact.retry_in_s) for fact in self.facts if isinstance(fact, ReconcileFailed)]
