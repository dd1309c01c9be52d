"""An auditor who looks at the books after every fact, and the models, limits and calls of the scenes he looks at.

What he holds a router to: within each window of each account settled + held + suspense is no more than the limit, and
what was truly spent is no more than that sum. He knows the truth from the far end, never from the router.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from orrouter import Router
from orrouter.accounts import account_of
from orrouter.catalog.model import Model
from orrouter.core.errors import PolicyError
from orrouter.core.facts import Fact, HoldExceeded, HoldSettled, HoldSuspended, HoldTaken
from orrouter.core.limit import Account
from orrouter.ledger.base import Balance, Ledger
from orrouter.testkit.server import FakeOpenRouter
from orrouter.testkit.table import default_models

KEY = "sk-or-v1-0123456789abcdef"
GPT, MINI, CLAUDE, FLASH = (
    "openai/gpt-4o", "openai/gpt-4o-mini", "anthropic/claude-sonnet-4.5", "google/gemini-2.5-flash",
)  # fmt: skip
LISTED = tuple(Model.read(one.listed()) for one in default_models())
NAMES = ("org", "team:none", "team:x", "team:y", "key:a", "key:b")
"""Every account that the calls of a scene may pay from."""


def hello(words: str = "Hello") -> list[dict[str, str]]:
    return [{"role": "user", "content": words}]


def over(fake: FakeOpenRouter, stack: list[Any], **options: Any) -> Router:
    """A router for one stack over a fake, at whose prices it counts."""
    upstreams = {"openrouter": {"base_url": fake.url, "api_key": KEY}}
    policy = {"version": 1, "upstreams": upstreams, "policies": {"default": stack}}
    router = Router.from_policy(policy, **options)
    router.world.catalog.swap(LISTED, "fake", "2026-01-01")
    return router


def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that never waits: so the books can be read between two steps of a call."""
    try:
        work.send(None)
    except StopIteration as over:
        return over.value
    raise AssertionError("the ledger made its reader wait")


class Auditor:
    """Hears every fact; `check` raises what was ever wrong, and `seen` counts what happened, by the fact's name.

    `spent` says how many nano-USD the far end has charged by now for calls of all accounts together, which all pay
    into `org`.
    """

    def __init__(self, spent: Callable[[], int]) -> None:
        self.spent = spent
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.open: set[str] = set()
        """Holds whose end has not been told."""
        self.accounts: Mapping[str, Account] = {}
        self._ledger: Ledger | None = None
        self._highest: dict[tuple[str, str, float], int] = {}

    def watch(self, router: Router) -> None:
        """Look at this router's books from now on; it was given this auditor as `on_fact`."""
        self._ledger = router.world.ledger
        for name in NAMES:
            try:
                self.accounts = {**self.accounts, name: account_of(router.policy, name)}
            except PolicyError:
                continue

    def __call__(self, fact: Fact) -> None:
        kind = type(fact).__name__
        self.seen[kind] += 1
        if isinstance(fact, HoldExceeded):
            self.wrong.append(f"a try cost {fact.cost_nano} and only {fact.held_nano} were held")
        elif isinstance(fact, HoldTaken):
            self.open.add(fact.hold)
        elif isinstance(fact, HoldSettled | HoldSuspended):
            if fact.hold not in self.open:
                self.wrong.append(f"{fact.hold} was ended twice: {fact}")
            self.open.discard(fact.hold)
        if self._ledger is not None:
            admitted = fact.accounts if isinstance(fact, HoldTaken) else ()
            for name in self.accounts:
                self._look(name, kind, is_new=name in admitted)

    def balances(self, name: str) -> tuple[Balance, ...]:
        assert self._ledger is not None
        return at_once(self._ledger.balances(self.accounts[name]))

    def _look(self, name: str, when: str, *, is_new: bool) -> None:
        for one in self.balances(name):
            window = name, one.period, one.starts_at
            highest = self._highest[window] = max(one.limit, self._highest.get(window, 0))
            charged = one.settled + one.held + one.suspense
            # What was admitted before a limit was lowered stays; nothing new may be.
            if min(one.settled, one.held, one.suspense) < 0 or charged > (one.limit if is_new else highest):
                self.wrong.append(f"{when}: {one}")
            if name == "org" and one.period == "lifetime" and self.spent() > charged:
                self.wrong.append(f"{when}: {self.spent()} spent and only {charged} charged: {one}")

    def check(self) -> None:
        """Everybody has gone: nothing is held any more, and what was spent is charged."""
        for name in self.accounts:
            self._look(name, "at the end", is_new=False)
            for one in self.balances(name):
                if one.held:
                    self.wrong.append(f"a hold was forgotten: {one}")
        if self.open:
            self.wrong.append(f"never ended: {self.open}")
        assert [] == self.wrong


def costs_by_call(fake: FakeOpenRouter) -> Counter[str]:
    """Nano-USD truly spent, by what the call said: a scene gives each call words of its own."""
    spent: Counter[str] = Counter()
    for seen in fake.requests:
        spent[seen.body["messages"][0]["content"]] += seen.true_cost_nano
    return spent
