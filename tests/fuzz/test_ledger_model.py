"""Any history of any ledger, beside a model that adds everything up anew: equal sums, and the theorem at every step.

The model knows nothing of buckets and books: it keeps every hold there ever was and counts. A seed that fails prints the
command that plays it again.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from orrouter.core.errors import BudgetExceeded
from orrouter.core.limit import Account, Period
from orrouter.ledger.base import Balance, Crossed, Entry, Hold, Line
from tests.contract.ledgers import LEDGERS, Wall

SEEDS, LONG, EXAMPLES, STEPS = 8, 600, 25, 50
SECONDS = {"hour": 3_600, "day": 86_400, "lifetime": 10**12}
NINE_HOURS = 9 * 3_600
ORG = Account("org", (("day", 60),), soft=(0.5, 0.8))
ROLLED_OUT = Account("org", (("day", 60), ("hour", 45)), soft=(0.5, 0.8))
TOKYO = Account("team", (("hour", 30), ("day", 50)), zone="Asia/Tokyo")
KEY = Account("key", (("lifetime", 120), ("day", 70)), soft=(1.0,))
FREE = Account("free", ())
PAYERS = ((ORG,), (KEY, TOKYO, ORG), (TOKYO, ROLLED_OUT), (FREE, KEY), (ORG, ROLLED_OUT), (FREE,))
ACCOUNTS = (ORG, ROLLED_OUT, TOKYO, KEY, FREE)

OPEN = ("held", "suspense")

Place = tuple[str, str, int]
"""An account, a period, and the number of the window counted from 1970."""


@dataclass
class Known:
    """A hold as the model knows it. `true` is what the upstream billed, and says when it is asked."""

    hold: Hold
    at: float
    true: int
    state: str = "held"
    cost: int = 0
    seen: int | None = None
    """The least that it was ever charged with: others may have been admitted beside that."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(account.name for account in self.hold.accounts))

    @property
    def charged(self) -> int:
        """What it takes from its windows."""
        return self.hold.amount if self.state in OPEN else self.cost

    @property
    def excess(self) -> int:
        """What no admission has seen: a cost above the hold, one never held, or one corrected upward since."""
        held = 0 if self.state == "posted" else self.hold.amount
        return max(0, self.charged - (held if self.seen is None else min(held, self.seen)))


def number(period: str, zone: str, at: float) -> int:
    return int(at + (NINE_HOURS if zone == "Asia/Tokyo" else 0)) // SECONDS[period]


@dataclass
class Model:
    """Every hold there ever was, and the limits that were changed."""

    now: float
    holds: dict[str, Known] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    changed: dict[tuple[str, Period], int] = field(default_factory=dict)
    told: set[tuple[str, str, int, float]] = field(default_factory=set)
    admitted_under: dict[Place, int] = field(default_factory=dict)

    def limits(self, account: Account) -> dict[Period, int]:
        changed = {period: amount for (name, period), amount in self.changed.items() if name == account.name}
        return {**dict(account.limits), **changed}

    def within(self, account: Account, period: str) -> list[Known]:
        """Every hold that is charged to the window of an account in which we are."""
        here = number(period, account.zone, self.now)
        return [
            known for known in self.holds.values()
            if account.name in known.names and number(period, account.zone, known.at) == here
        ]  # fmt: skip

    def sums(self, account: Account, period: str) -> tuple[int, int, int]:
        """Settled, held, in suspense."""
        charged = {"settled": 0, "held": 0, "suspense": 0}
        for known in self.within(account, period):
            charged["settled" if known.state in ("released", "posted") else known.state] += known.charged
        return charged["settled"], charged["held"], charged["suspense"]

    def place(self, account: Account, period: str) -> Place:
        return account.name, period, number(period, account.zone, self.now)

    def fits(self, hold: Hold) -> bool:
        return all(
            sum(self.sums(account, period)) + hold.amount <= limit
            for account in hold.accounts
            for period, limit in self.limits(account).items()
        )

    def admit(self, hold: Hold, true: int) -> list[Crossed]:
        """Take it, and say which thresholds are to be told."""
        self.holds[hold.id] = Known(hold, self.now, true)
        crossed = []
        for account in hold.accounts:
            limits = self.limits(account)
            for period in SECONDS:
                self.admitted_under.pop(self.place(account, period), None)
            for period, limit in limits.items():
                charged, place = sum(self.sums(account, period)), self.place(account, period)
                for part in account.soft:
                    if charged * 10 >= round(part * 10) * limit and (*place, part) not in self.told:
                        self.told.add((*place, part))
                        crossed.append(Crossed(account.name, period, part, charged, limit))
        for account in hold.accounts:
            self.admitted_under |= {
                self.place(account, period): limit for period, limit in self.limits(account).items()
            }
        return crossed

    def open(self) -> list[tuple[str, str]]:
        """Ids and states of what is held or in suspense, oldest first."""
        return [(id_, one.state) for id_, one in self.holds.items() if one.state in OPEN]

    def statement(self) -> list[Line]:
        """Every try once, with all its accounts."""
        lines: dict[tuple[int, tuple[str, ...], str], list[int]] = {}
        for known in self.holds.values():
            if known.state != "released":
                provider = "azure" if known.state == "settled" else ""
                sums = lines.setdefault((int(known.at) // 3600 * 3600, known.names, provider), [0, 0, 0])
                sums[0] += 1
                sums[2 if known.state in OPEN else 1] += known.charged
        return [
            Line(at, names, "openrouter", "model", provider, *sums, key="key")
            for (at, names, provider), sums in sorted(lines.items())
        ]


AMOUNTS = st.sampled_from([0, 1, 5, 10, 10, 10, 20, 29, 30, 31, 60])
AFTER = st.sampled_from([0.0, 0.0, 0.0, 0.0, 1_800.0, 3_600.0, 86_400.0])
REMEMBERED = 86_400.0
"""For so long, in seconds, a store remembers a hold that is over: then a word about it finds nothing."""


class AnyHistory(RuleBasedStateMachine):
    """The ledger under test and the model, told the same."""

    def __init__(self, store: str) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.wall = Wall()
        self.model = Model(self.wall.at)
        self.runner = asyncio.Runner()
        self.ledger = LEDGERS[store](Path(self.folder.name), self.wall)
        self.wait(self.ledger.open())
        self.made = 0

    def teardown(self) -> None:
        try:
            self.wait(self.ledger.aclose())
        finally:
            self.runner.close()
            self.folder.cleanup()

    def wait(self, awaited: Awaitable[Any]) -> Any:
        async def wait() -> Any:
            return await awaited

        return self.runner.run(wait())

    def say(self, word: Callable[[], None]) -> None:
        """A word that is not waited for, and that it is written."""

        async def say() -> None:
            word()
            await self.ledger.flush()

        self.runner.run(say())

    def some(self, pick: int, *states: str) -> Known | None:
        """One of the holds in one of these states; of those that are over, one of the last day."""
        known = [
            one
            for one in self.model.holds.values()
            if one.state in states and (one.state in OPEN or self.model.now - one.at < REMEMBERED)
        ]
        return known[pick % len(known)] if known else None

    # --- what can happen --------------------------------------------------------------------------------

    @rule(payers=st.sampled_from(PAYERS), amount=AMOUNTS, part=st.integers(0, 11), after=AFTER)
    def admit(self, payers: tuple[Account, ...], amount: int, part: int, after: float) -> None:
        """Every twelfth costs more than was held; now and then nobody has looked since a window ended."""
        self.time_goes_on(after)
        self.made += 1
        hold = Hold(f"hold{self.made}", amount, payers, "openrouter", "key", "model")
        if self.model.fits(hold):
            crossed = self.wait(self.ledger.reserve(hold))
            assert sorted(self.model.admit(hold, amount * part // 10)) == sorted(crossed)
        else:
            self.refused(hold)

    def refused(self, hold: Hold) -> None:
        with pytest.raises(BudgetExceeded):
            self.wait(self.ledger.reserve(hold))
        self.model.denied.add(hold.id)

    @rule(pick=st.integers(0, 10**6))
    def ask_again(self, pick: int) -> None:
        """The same hold once more: nothing changes, admitted stays admitted and denied denied."""
        known = self.some(pick, *OPEN, "settled", "released", "posted")
        if known is not None:
            assert () == self.wait(self.ledger.reserve(known.hold))
        denied = sorted(self.model.denied)
        if denied:
            self.refused(Hold(denied[pick % len(denied)], 0, (FREE,)))

    @rule(pick=st.integers(0, 10**6), times=st.integers(1, 2))
    def settle(self, pick: int, times: int) -> None:
        """Also what is in suspense, which is its reconciliation; also twice."""
        known = self.some(pick, *OPEN)
        if known is not None:
            known.state, known.cost = "settled", known.true
            for _ in range(times):
                self.say(lambda: self.ledger.settle(known.hold.id, known.true, provider="azure"))

    @rule(pick=st.integers(0, 10**6))
    def speak_of_what_is_over(self, pick: int) -> None:
        """No word changes what is settled or released."""
        known, ledger = self.some(pick, "settled", "released", "posted"), self.ledger
        if known is not None:
            id_ = known.hold.id
            words = (
                lambda: ledger.settle(id_, 99), lambda: ledger.release(id_), lambda: ledger.suspend(id_, "left"),
                lambda: ledger.identify(id_, "gen"), lambda: ledger.post(known.hold, 99),
            )  # fmt: skip
            self.say(words[pick % len(words)])

    @rule(pick=st.integers(0, 10**6))
    def release(self, pick: int) -> None:
        """Its owner knows that nothing was billed. From suspense nothing is released."""
        known = self.some(pick, *OPEN)
        if known is not None:
            if known.state == "held":
                known.state, known.true = "released", 0
            self.say(lambda: self.ledger.release(known.hold.id))

    @rule(pick=st.integers(0, 10**6), named=st.booleans())
    def suspend(self, pick: int, named: bool) -> None:
        """Nobody knows its cost; also told twice, or of one that is named."""
        known = self.some(pick, *OPEN)
        if known is not None:
            known.state = "suspense"
            if named:
                self.say(lambda: self.ledger.identify(known.hold.id, "gen"))
            self.say(lambda: self.ledger.suspend(known.hold.id, "left"))

    @rule(pick=st.integers(0, 10**6), cost=AMOUNTS)
    def adjust(self, pick: int, cost: int) -> None:
        """Only what is settled is corrected; and the truth is what was said last."""
        known = self.some(pick, "settled", "posted", "held", "suspense", "released")
        if known is not None:
            if known.state in ("settled", "posted"):
                known.seen = min(known.cost, cost, *([] if known.seen is None else [known.seen]))
                known.cost = known.true = cost
            self.say(lambda: self.ledger.adjust(known.hold.id, cost, provenance="reconciled"))

    @rule(payers=st.sampled_from(PAYERS), cost=AMOUNTS)
    def post(self, payers: tuple[Account, ...], cost: int) -> None:
        """It was spent while the store was down."""
        self.made += 1
        hold = Hold(f"hold{self.made}", 10, payers, "openrouter", "key", "model")
        self.model.holds[hold.id] = Known(hold, self.model.now, cost, "posted", cost)
        self.say(lambda: self.ledger.post(hold, cost))

    @rule(
        account=st.sampled_from(ACCOUNTS),
        period=st.sampled_from(sorted(SECONDS)),
        amount=st.none() | st.integers(0, 150),
    )
    def set_limit(self, account: Account, period: Period, amount: int | None) -> None:
        """Up, down, new, or as the policies say."""
        self.wait(self.ledger.set_limit(account.name, period, amount))
        if amount is None:
            self.model.changed.pop((account.name, period), None)
        else:
            self.model.changed[account.name, period] = amount

    @rule(by=st.sampled_from([0.5, 60.0, 1_800.0, 3_600.0, 40_000.0, 86_400.0, -1.0, -5_000.0]))
    def wait_a_while(self, by: float) -> None:
        """From half a second to a day."""
        self.time_goes_on(by)

    def time_goes_on(self, by: float) -> None:
        """Or the machine's clock is set back, which the ledger does not follow."""
        self.wall.at += by
        self.model.now = max(self.model.now, self.wall.at)

    # --- what must be so at every step ------------------------------------------------------------------

    @invariant()
    def all_is_as_the_model_says_and_the_theorem_holds(self) -> None:
        async def look() -> tuple[list[tuple[Balance, ...]], list[Entry], list[Line]]:
            ledger = self.ledger
            balances = [await ledger.balances(account) for account in ACCOUNTS]
            return balances, await ledger.unsettled(), await ledger.statement() if self.made % 5 == 0 else []

        balances, open_, lines = self.runner.run(look())
        for account, found in zip(ACCOUNTS, balances, strict=True):
            limits = self.model.limits(account)
            assert {period: (limit, *self.model.sums(account, period)) for period, limit in limits.items()} == {
                one.period: (one.limit, one.settled, one.held, one.suspense) for one in found
            }
            for balance in found:
                self.theorem(account, balance)
        assert self.model.open() == [(entry.id, entry.state) for entry in open_]
        if self.made % 5 == 0:
            assert self.model.statement() == lines

    def theorem(self, account: Account, balance: Balance) -> None:
        """What is charged was within the limit at the last admission; what was truly spent is charged.

        Save, in both, by as much as a try costs more than was held for it.
        """
        known = self.model.within(account, balance.period)
        charged = balance.settled + balance.held + balance.suspense
        limit = self.model.admitted_under.get(self.model.place(account, balance.period))
        assert limit is None or charged - sum(one.excess for one in known) <= limit
        open_ = [one for one in known if one.state in OPEN]
        assert sum(one.true for one in known) <= charged + sum(max(0, one.true - one.hold.amount) for one in open_)


def play(store: str, seed: int, examples: int) -> None:
    """Histories that a seed draws, and their shortest form when one fails."""
    machine = hypothesis.seed(seed)(lambda: AnyHistory(store))
    quiet = settings(
        report_multiple_bugs=False,
        max_examples=examples, stateful_step_count=STEPS, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    try:
        run_state_machine_as_test(machine, settings=quiet)
    except BaseException as error:
        error.add_note(
            f"play it again: ORROUTER_LEDGER={store} ORROUTER_SEED={seed} "
            "pytest tests/fuzz/test_ledger_model.py -k one_seed"
        )
        raise


@pytest.mark.parametrize("store", LEDGERS)
def test_any_history_is_that_of_the_model(store):
    """Whatever happens in whatever order, the sums are those of the model and the theorem holds after each step."""
    for seed in range(SEEDS):
        play(store, seed, EXAMPLES)


@pytest.mark.long
@pytest.mark.parametrize("store", LEDGERS)
def test_many_histories_are_those_of_the_model(store):
    """The same, for minutes."""
    for seed in range(LONG):
        play(store, seed, EXAMPLES)


def test_one_seed():
    """The histories that ORROUTER_SEED and ORROUTER_LEDGER name, for whoever looks into a failure."""
    play(os.environ.get("ORROUTER_LEDGER", "memory"), int(os.environ.get("ORROUTER_SEED", "0")), EXAMPLES)
