"""The money of a router: what is left, what was paid, limits changed while running, and what a call may cost."""

from __future__ import annotations

import gc
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from orrouter.accounts import account_of
from orrouter.core.errors import BudgetExceeded, LedgerUnavailable, PolicyError
from orrouter.core.facts import LedgerTroubled
from orrouter.ledger.memory import MemoryLedger
from orrouter.policy.code import policy_in_code
from orrouter.policy.schema import read_policy
from orrouter.router import Router
from orrouter.sync import Router as SyncRouter
from orrouter.testkit.clock import VirtualClock, virtual
from orrouter.testkit.script import SENT, Finish, ScriptedTransport

HELLO = [{"role": "user", "content": "Hello"}]
TEAM = {"account": "team:{team}", "limits": {"day": "$1", "month": "$10"}}
PAID = [SENT, "Hello", Finish("stop", {"prompt_tokens": 3, "completion_tokens": 2, "cost": 0.25})]
GPT = "openai/gpt-4o"


def policy_of(*layers: dict, **top: object) -> dict:
    upstreams = {"openrouter": {"base_url": "http://fake.invalid/v1", "api_key": "sk-or-v1-0123456789"}}
    return {"version": 1, "upstreams": upstreams, **top, "policies": {"default": [*layers, {"retry": {}}]}}


@asynccontextmanager
async def over(*layers: dict, **options: object):
    """A router over a script in which each answer costs $0.25."""
    far = ScriptedTransport({GPT: [PAID]})
    async with Router.from_policy(policy_of(*layers), transport=far, **options) as router:
        yield router, far


@virtual
async def test_what_an_account_has_left():
    """In USD, for each of its windows."""
    async with over({"budget": TEAM}) as (router, _):
        await router.chat(HELLO, model=GPT, tags={"team": "a"})
        assert {"day": Decimal("0.75"), "month": Decimal("9.75")} == await router.remaining("team:a")
        assert {"day": Decimal(1), "month": Decimal(10)} == await router.remaining("team:b")


@virtual
async def test_the_balance_of_an_account():
    """Limit, settled, held and suspense of each window, and when it begins anew."""
    async with over({"budget": TEAM}) as (router, _):
        await router.chat(HELLO, model=GPT, tags={"team": "a"})
        day, month = await router.balances("team:a")
        assert ("day", 10**9, 250_000_000, 0, 0) == (day.period, day.limit, day.settled, day.held, day.suspense)
        assert 86_400 == day.resets_at - day.starts_at
        assert month.resets_at >= day.resets_at


@virtual
async def test_an_account_that_no_budget_names_is_refused():
    """The error names the nearest."""
    async with over({"budget": {"account": "org", "limits": {"day": "$1"}}}) as (router, _):
        with pytest.raises(PolicyError, match="no budget of the policy has an account 'orq'; did you mean 'org'"):
            await router.remaining("orq")


@virtual
async def test_a_limit_is_raised_while_running():
    """The call that was refused is answered."""
    async with over({"budget": {"account": "org", "limits": {"day": "$0.01"}}}) as (router, _):
        with pytest.raises(BudgetExceeded):
            await router.chat(HELLO, model=GPT)
        await router.set_limit("org", day="$5")
        await router.chat(HELLO, model=GPT)
        assert {"day": Decimal("4.75")} == await router.remaining("org")


@virtual
async def test_a_limit_is_lowered_while_running():
    """Below what was spent it stops admissions, and undoes nothing."""
    async with over({"budget": {"account": "org", "limits": {"day": "$1"}}}) as (router, _):
        await router.chat(HELLO, model=GPT)
        await router.set_limit("org", day="$0.10")
        with pytest.raises(BudgetExceeded):
            await router.chat(HELLO, model=GPT)
        assert {"day": Decimal("-0.15")} == await router.remaining("org")


@virtual
async def test_a_limit_goes_back_to_the_policys():
    """None is as the policy says."""
    async with over({"budget": {"account": "org", "limits": {"day": "$1"}}}) as (router, _):
        await router.set_limit("org", day="$5", hour="$2")
        assert {"day": Decimal(5), "hour": Decimal(2)} == await router.remaining("org")
        await router.set_limit("org", day=None, hour=None)
        assert {"day": Decimal(1)} == await router.remaining("org")


@virtual
@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"dya": "$1"}, "there is no window 'dya'; did you mean 'day'"),
        ({"day": "5"}, "'5' is no limit"),
        ({"day": 5}, "5 is no limit"),
    ],
)
async def test_a_limit_that_cannot_be_meant_is_refused(limits, said):
    """A number without its unit, a window that there is not."""
    async with over({"budget": {"account": "org", "limits": {"day": "$1"}}}) as (router, _):
        with pytest.raises(PolicyError, match=said):
            await router.set_limit("org", **limits)


@virtual
async def test_what_was_paid():
    """Each try stands in one line, with all that paid for it."""
    async with over({"budget": TEAM}, {"budget": {"account": "org", "limits": {"day": "$9"}}}) as (router, _):
        for _ in range(2):
            await router.chat(HELLO, model=GPT, tags={"team": "a"})
        (line,) = await router.spend()
        assert (("team:a", "org"), GPT, "Scripted", 2, 500_000_000, 0) == (
            line.accounts, line.model, line.provider, line.tries, line.cost, line.open,
        )  # fmt: skip


@virtual
async def test_what_a_call_may_cost():
    """At each target it could be sent to; nothing is sent."""
    chain = {"fallback": {"models": [GPT, "openai/gpt-4o-mini", "no/such"]}}
    async with over({"cost_cap": {}}, chain) as (router, far):
        dear, cheap, unknown = router.estimate(HELLO, max_tokens=100)
        assert dear.cost > cheap.cost > 0
        assert (100, "") == (dear.worst.tokens, dear.worst.estimate)
        assert (None, True) == (unknown.cost, "unknown_price" in unknown.unpriced)
        assert [] == far.tries


@virtual
async def test_a_longer_answer_may_cost_more():
    """Exactly its tokens more."""
    async with over({"cost_cap": {}}) as (router, _):
        (short,), (long,) = (router.estimate(HELLO, model=GPT, max_tokens=tokens) for tokens in (100, 300))
        assert long.worst.cost() - short.worst.cost() == 200 * short.worst.atto // 10**9


@virtual
async def test_of_models_that_the_upstream_chooses_from_the_dearest_counts():
    """Without a chain of ours `models` is sent on, and any of them may answer."""
    async with over({"cost_cap": {}}) as (router, _):
        (dear,), (either,) = (
            router.estimate(HELLO, **named) for named in ({"model": GPT}, {"models": ["openai/gpt-4o-mini", GPT]})
        )
        assert dear.cost == either.cost


def test_the_tightest_limit_of_several_budgets_counts():
    """Two policies that name one account: each window with its lower limit."""
    org = {"account": "org", "limits": {"day": "$5"}}
    read = read_policy(
        policy_in_code(policy_of({"budget": org}, {"budget": {**org, "limits": {"day": "$3", "hour": "$1"}}}), {})
    )
    assert (("day", 3 * 10**9), ("hour", 10**9)) == account_of(read, "org").limits


def test_the_ledger_of_a_running_router_cannot_be_changed(tmp_path):
    """The money is where it is; the rest of the policy may change."""
    file = tmp_path / "p.yaml"
    text = "version: 1\nupstreams: {openrouter: {base_url: https://a.b}}\npolicies: {default: [{retry: {}}]}\n"
    file.write_text(text)
    router = Router.from_file(file, env={})
    file.write_text(text + "ledger: sqlite:///spend.db\n")
    with pytest.raises(PolicyError, match=r"p.yaml:4:9: the ledger of a running Router cannot be changed"):
        router.reload()


@virtual
async def test_a_ledger_that_is_named_is_asked_when_getting_ready(tmp_path):
    """A folder that cannot be used is told before the first caller waits."""
    (tmp_path / "spend.db").mkdir()
    policy = policy_of({"budget": TEAM}, ledger=f"sqlite:///{tmp_path}/spend.db")
    async with Router.from_policy(policy, transport=ScriptedTransport({"": [{"data": {}}]})) as router:
        told = {check.name: check for check in (await router.ready()).checks}
    assert not told["ledger"].ok
    assert "spend.db" in told["ledger"].detail


@virtual
async def test_trouble_of_the_ledger_is_a_fact(tmp_path):
    """A clock that was set back refuses nothing, and whoever listens hears of it."""
    told, wall = [], [1_800_000_000.0]

    class Clock(VirtualClock):
        def wall(self) -> float:
            return wall[0]

    policy = policy_of({"budget": TEAM}, ledger=f"sqlite:///{tmp_path}/spend.db")
    far = ScriptedTransport({GPT: [PAID]})
    async with Router.from_policy(policy, transport=far, clock=Clock(), on_fact=told.append) as router:
        await router.chat(HELLO, model=GPT, tags={"team": "a"})
        wall[0] -= 86_400 * 30
        await router.chat(HELLO, model=GPT, tags={"team": "a"})
    (trouble,) = [fact for fact in told if isinstance(fact, LedgerTroubled)]
    assert "set back" in trouble.message


@virtual
async def test_the_ledger_is_closed_with_the_router():
    """Nothing is left to be written."""
    closed = []

    class Ledger(MemoryLedger):
        async def aclose(self) -> None:
            closed.append(True)

    async with Router.from_policy(policy_of(), transport=ScriptedTransport({}), ledger=Ledger(lambda: 0.0)):
        assert [] == closed
    assert [True] == closed


@virtual
async def test_a_ledger_that_cannot_be_asked_says_so():
    """Whoever asks for balances gets its error."""

    class Down(MemoryLedger):
        async def balances(self, account):
            raise LedgerUnavailable("the disk is full")

    policy = policy_of({"budget": {"account": "org", "limits": {"day": "$1"}}})
    async with Router.from_policy(policy, transport=ScriptedTransport({}), ledger=Down(lambda: 0.0)) as router:
        with pytest.raises(LedgerUnavailable, match="the disk is full"):
            await router.remaining("org")


def test_it_is_the_same_without_an_event_loop():
    """Remaining, balances, limits, statement, estimate and reconcile block."""
    far = ScriptedTransport({GPT: [PAID]})
    policy = policy_of({"budget": {"account": "org", "limits": {"day": "$1"}}})
    with SyncRouter.from_policy(policy, transport=far) as router:
        router.chat(HELLO, model=GPT)
        assert {"day": Decimal("0.75")} == router.remaining("org")
        router.set_limit("org", day="$2")
        (balance,) = router.balances("org")
        assert (2 * 10**9, 250_000_000) == (balance.limit, balance.settled)
        assert [250_000_000] == [line.cost for line in router.spend()]
        assert router.estimate(HELLO, model=GPT)[0].cost > 0
        assert 0 == router.reconcile()


@pytest.mark.parametrize("ledger", ["memory://", "sqlite"])
async def test_a_call_that_is_over_leaves_nothing_for_the_garbage_collector(ledger, tmp_path):
    """All that it was made of is let go of at once: a search for what holds itself would be paid by other calls."""
    address = f"sqlite:///{tmp_path}/spend.db" if ledger == "sqlite" else ledger
    far = ScriptedTransport({GPT: [PAID]})
    policy = policy_of({"cost_cap": {}}, {"budget": {"account": "org", "limits": {"day": "$100"}}}, ledger=address)
    async with Router.from_policy(policy, transport=far) as router:

        async def calls(count: int) -> None:
            for _ in range(count):
                await router.chat(HELLO, model=GPT)
                far.tries.clear()  # It keeps what it was asked.

        await calls(5)
        gc.collect()
        gc.disable()
        try:
            await calls(50)
            assert gc.collect() < 50
        finally:
            gc.enable()
