"""`orrouter ledger`: recover, reconcile and audit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from orrouter.cli.ledger import (
    Audited,
    AuditOptions,
    ReconcileOptions,
    Window,
    compare,
    instant,
    reconciled_lines,
    recovered_line,
    unknown,
    until_nothing_is_due,
    verdict,
)
from orrouter.cli.store import must_be_kept
from orrouter.core.call import Target
from orrouter.core.errors import LedgerUnavailable, RouterError, ServerError
from orrouter.core.facts import HoldReconciled, ReconcileFailed
from orrouter.core.limit import Account
from orrouter.core.money import show as show_money
from orrouter.ledger.base import Hold
from orrouter.ledger.memory import MemoryLedger
from orrouter.ledger.reconcile import Reconciler, askable
from orrouter.ledger.sqlite import SqliteLedger
from orrouter.policy.load import Document
from orrouter.policy.schema import read_policy
from orrouter.testkit.clock import EPOCH, VirtualClock, virtual
from orrouter.testkit.server import FakeOpenRouter

CENT = 10_000_000
MODEL = "openai/gpt-4o-mini"
ROOT = Path(__file__).parents[2]
ORG = Account("org", (("lifetime", 10_000 * CENT),))
SQLITE = """\
version: 1
upstreams:
  openrouter:
    base_url: ${OPENROUTER_BASE_URL}
    api_key: ${OPENROUTER_API_KEY}
ledger: sqlite:///spend.db
policies:
  default:
    - budget: {account: org, limits: {day: $5}}
    - fallback: {models: [openai/gpt-4o-mini]}
    - reserve: {max_tokens: 500}
"""


async def ledger_with(clock, *settled: int, key: str = "k", suspended: str = "") -> MemoryLedger:
    """A ledger that has settled so much for a key, and one hold of five cents by a generation id in suspense."""
    ledger = MemoryLedger(clock.wall)
    for number, cost in enumerate(settled):
        await ledger.reserve(Hold(f"h{number}", 5 * CENT, (ORG,), "openrouter", key))
        ledger.settle(f"h{number}", cost)
    if suspended:
        await ledger.reserve(Hold("open", 5 * CENT, (ORG,), "openrouter", key, "a/b"))
        ledger.identify("open", suspended)
        ledger.suspend("open", "cancelled")
    return ledger


def far(**figures):
    """An upstream whose key has these figures, or that raises `failure`."""

    async def fetch(path, upstream, **query):
        failure = figures.get("failure")
        if failure is not None:
            raise failure
        if path == "key":
            return {"data": {"usage": 0, **figures}}
        raise ServerError("no", status=500)

    return fetch


# --- audit ----------------------------------------------------------------------------------------------


async def audited(settled: int, said: float, suspended: str = "") -> Audited:
    clock = VirtualClock()
    ledger = await ledger_with(clock, settled, suspended=suspended)
    found = await compare(ledger, far(usage_daily=said), {"openrouter": "k"}, Window.day, EPOCH)
    return found[0]


@pytest.mark.parametrize(
    ("settled", "said", "drift", "sound"),
    [
        (100 * CENT, 1.0, 0, True),
        (100 * CENT, 1.01, CENT, True),
        (100 * CENT, 1.0101, CENT + 100_000, False),
        (100 * CENT, 0.98, -2 * CENT, False),
        (100_000 * CENT, 1000.9, 90 * CENT, True),
        (100_000 * CENT, 1002.0, 200 * CENT, False),
        (0, 0.0, 0, True),
    ],
)
async def test_a_drift_of_more_than_a_cent_and_a_thousandth_is_told(settled, said, drift, sound):
    """Less than that is rounding; more is a try that the ledger does not know, or one that it has too dear."""
    found = await audited(settled, said)
    assert (drift, sound) == (found.drift, found.sound)


async def test_what_is_open_may_have_been_billed_or_not():
    """Between the settled sum and that with every open hold nothing differs."""
    assert 0 == (await audited(CENT, 0.01, "gen-1")).drift
    assert 0 == (await audited(CENT, 0.06, "gen-1")).drift
    assert CENT == (await audited(CENT, 0.07, "gen-1")).drift


async def test_each_window_is_compared_with_its_figure():
    """The day by default; all that the key ever spent where the ledger knows it from its beginning."""
    ledger = await ledger_with(VirtualClock(), CENT)
    fetch = far(usage=0.4, usage_daily=0.1, usage_weekly=0.2, usage_monthly=0.3)
    said = [(await compare(ledger, fetch, {"openrouter": "k"}, one, EPOCH))[0].said for one in Window]
    assert [10 * CENT, 20 * CENT, 30 * CENT, 40 * CENT] == said


async def test_what_another_key_has_spent_is_left_out():
    """The upstream tells of one key only."""
    ledger = await ledger_with(VirtualClock(), 50 * CENT, key="another")
    assert [Audited("openrouter")] == await compare(ledger, far(usage_daily=0), {"openrouter": "k"}, Window.day, EPOCH)


@pytest.mark.parametrize("figures", [{"failure": RouterError("no route")}, {"usage_daily": "much"}])
async def test_an_upstream_that_cannot_tell_is_no_agreement(figures):
    """It is named with its reason, and the command fails."""
    found = await compare(MemoryLedger(VirtualClock().wall), far(**figures), {"openrouter": "k"}, Window.day, EPOCH)
    assert not found[0].sound
    lines = [line.text for line in verdict(found, Window.day)]
    assert (True, "not every upstream could be asked") == ("openrouter: could not be asked: " in lines[0], lines[-1])


def test_the_verdict_says_what_a_difference_means():
    """Which side knows more, and by how much."""
    lines = verdict([Audited("a", 3 * CENT), Audited("b", 0, 2 * CENT), Audited("c")], Window.month)
    assert [
        "a: $0.03 were spent with the key that the ledger knows nothing of",
        "b: the ledger has $0.02 more than the upstream, whose usage may lag by minutes",
        "ledger and upstreams differ this UTC month",
    ] == [line.text for line in lines]
    assert ["ledger and upstreams agree in all"] == [line.text for line in verdict([Audited("c")], Window.lifetime)]


def test_only_upstreams_of_openrouters_kind_with_a_key_are_asked():
    """Others have no such paths."""
    upstreams = {"a": Target("a", key="a:1"), "b": Target("b"), "c": Target("c", key="c:1", dialect="openai")}
    assert {"a": "a:1"} == askable(upstreams)


# --- reconcile ------------------------------------------------------------------------------------------


@virtual
async def test_it_asks_until_nothing_is_due():
    """What is due later is left for later; what is due within the time to wait is waited for."""
    clock = VirtualClock()
    ledger = await ledger_with(clock, suspended="gen-1")
    asked = []

    async def fetch(path, upstream, **query):
        asked.append(clock.now())
        if clock.now() < 10:
            raise ServerError("not yet", status=404)
        return {"data": {"total_cost": 0.01, "finish_reason": "stop"}}

    reconciler = Reconciler(ledger, fetch, clock, Random(0))
    await until_nothing_is_due(reconciler, clock, 0)
    assert [] == asked
    await until_nothing_is_due(reconciler, clock, 5)
    assert [1, 2, 4] == pytest.approx(asked, abs=0.01)
    await until_nothing_is_due(reconciler, clock, 60)
    assert 16 == pytest.approx(clock.now(), abs=0.01)
    assert (0, 0) == await unknown(ledger)


def test_what_came_of_it_is_told():
    """Each hold, each failure, and what is left."""
    done = HoldReconciled(
        hold="h", upstream="o", model="a/b", held_nano=5 * CENT, cost_nano=CENT, provenance="reconciled"
    )
    failed = ReconcileFailed(upstream="o", error="no route", retry_in_s=30.0)
    assert [
        "a/b cost $0.01 of $0.05 held: reconciled",
        "o cannot tell unknown costs: no route; asks again in 30s",
        "1 hold resolved: $0.01 of $0.05 held; 2 still unknown, $0.10; asks again in 58s",
    ] == [line.text for line in reconciled_lines([done, failed], (2, 10 * CENT), 58.0)]
    assert ["0 holds resolved; nothing is unknown"] == [line.text for line in reconciled_lines([], (0, 0), None)]


def test_a_time_to_wait_has_its_unit():
    """A bare number is no duration."""
    import typer

    assert 900 == ReconcileOptions(wait="15m").patience()
    with pytest.raises(typer.BadParameter):
        ReconcileOptions(wait="15").patience()


# --- the commands ---------------------------------------------------------------------------------------


def test_recover_says_how_many_there_were():
    """One, several, none."""
    assert "nobody left anything under way" == recovered_line(0)
    assert recovered_line(1).startswith("1 hold of processes that are gone")
    assert recovered_line(3).startswith("3 holds of processes that are gone")


@pytest.mark.parametrize("name", ["audit", "recover", "reconcile"])
def test_a_ledger_in_memory_is_refused(run, env, policy, name):
    """There is nothing to look after: it exits 2 and says what to write."""
    result = run("ledger", name, "--policy", policy, env=env)
    assert 2 == result.exit_code
    assert "nothing is kept beyond the process" in result.stderr


@pytest.mark.parametrize("name", ["audit", "recover", "reconcile"])
def test_every_command_helps(run, name):
    """Each explains its options."""
    result = run("ledger", name, "--help")
    assert (0, True) == (result.exit_code, f"orrouter ledger {name}" in result.stdout)


def test_a_file_that_is_not_there_is_told(tmp_path):
    """Looking makes no file."""
    data = {
        "version": 1, "ledger": "sqlite:///spend.db", "upstreams": {"o": {"base_url": "http://far.invalid"}},
        "policies": {"default": [{"retry": {}}]},
    }  # fmt: skip

    class Absent(MemoryLedger):
        path = tmp_path / "spend.db"

    with pytest.raises(LedgerUnavailable, match="does not exist: no call has been made under a budget yet"):
        must_be_kept(read_policy(Document(data, "p.yaml")), Absent(VirtualClock().wall))


@pytest.fixture
def kept(tmp_path):
    """A policy whose accounts are kept in a file."""
    path = tmp_path / "policy.yaml"
    path.write_text(SQLITE)
    return path


def test_a_call_is_spent_audited_and_reconciled(run, env, kept):
    """The whole road: a call under a budget, its cost by account, and the key's usage that agrees with it."""
    assert 0 == run("chat", "Hello", "--policy", kept, env=env).exit_code
    spent = run("spend", "--policy", kept, "--by", "account", env=env)
    assert (0, "org") == (spent.exit_code, spent.stdout.splitlines()[1].split()[0])
    audit = run("ledger", "audit", "--policy", kept, env=env)
    assert (0, True) == (audit.exit_code, "ledger and upstreams agree this UTC day" in audit.stdout)
    reconciled = run("ledger", "reconcile", "--policy", kept, env=env)
    assert (0, "0 holds resolved; nothing is unknown\n") == (reconciled.exit_code, reconciled.stdout)
    recovered = run("ledger", "recover", "--policy", kept, env=env)
    assert (0, "nobody left anything under way\n") == (recovered.exit_code, recovered.stdout)


def test_a_key_that_others_use_is_told_by_the_audit(run, env, kept, fake_openrouter):
    """Calls without a budget cost more than a cent: it exits 1."""
    from orrouter.router import Router

    assert 0 == run("chat", "Hello", "--policy", kept, env=env).exit_code

    async def elsewhere():
        async with Router.from_env(env=env) as router:
            for _ in range(30):
                await router.chat([{"role": "user", "content": "Hello " * 500}], model="openai/gpt-4o")

    asyncio.run(elsewhere())
    assert fake_openrouter.true_cost() > 2 * CENT
    audit = run("ledger", "audit", "--policy", kept, env=env)
    assert 1 == audit.exit_code
    assert "were spent with the key that the ledger knows nothing of" in audit.stdout


async def leave(path, *named: str) -> None:
    """Holds of five cents that were left unknown an hour ago, each by its generation id."""
    ledger = SqliteLedger(path, lambda: time.time() - 3600)
    for name in named:
        await ledger.reserve(Hold(f"h-{name}", 5 * CENT, (ORG,), "openrouter", "k", MODEL))
        ledger.identify(f"h-{name}", name)
        ledger.suspend(f"h-{name}", "cancelled")
    await ledger.flush()
    await ledger.aclose()


def test_reconcile_settles_what_the_upstream_tells(run, env, kept, tmp_path, fake_openrouter):
    """One that it knows is settled at what was billed; one that it does not know stays, and its time is told."""
    assert 0 == run("chat", "Hello", "--model", MODEL, env=env).exit_code
    billed = fake_openrouter.requests[-1]
    asyncio.run(leave(tmp_path / "spend.db", billed.generation_id, "gen-nobody-knows"))
    result = run("ledger", "reconcile", "--policy", kept, env=env)
    assert 0 == result.exit_code
    cost = show_money(billed.true_cost_nano)
    told = result.stdout.splitlines()
    assert [f"{MODEL} cost {cost} of $0.05 held: reconciled"] == told[:-1]
    assert told[-1].startswith(f"1 hold resolved: {cost} of $0.05 held; 1 still unknown, $0.05; asks again in 59m")


def test_recover_finds_what_a_process_that_died_had_under_way(run, env, kept, tmp_path, clean_env):
    """Its holds are in suspense afterwards: charged, and no longer waited for."""
    code = (
        "import asyncio, os, sys, time; from pathlib import Path;"
        "from orrouter.core.limit import Account; from orrouter.ledger.base import Hold;"
        "from orrouter.ledger.sqlite import SqliteLedger;"
        "ledger = SqliteLedger(Path(sys.argv[1]), time.time);"
        "hold = Hold('h', 1000, (Account('org', (('day', 10**9),)),), 'openrouter', 'k');"
        "asyncio.run(ledger.reserve(hold)) and None; os._exit(9)"
    )
    dead = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "spend.db")], env=clean_env | {"PYTHONPATH": str(ROOT)}, timeout=60,
        check=False,
    )  # fmt: skip
    assert 9 == dead.returncode
    result = run("ledger", "recover", "--policy", kept, env=env)
    assert (0, True) == (result.exit_code, result.stdout.startswith("1 hold of processes that are gone"))
    assert "nobody left anything under way\n" == run("ledger", "recover", "--policy", kept, env=env).stdout


async def spent_in_the_future(path) -> None:
    """A clock that was ten years ahead, while all of a day was held."""
    ledger = SqliteLedger(path, lambda: 2_200_000_000.0)
    await ledger.reserve(Hold("h", 500 * CENT, (Account("org", (("day", 500 * CENT),)),), "openrouter", "k"))
    await ledger.aclose()


def test_recover_goes_by_the_clock_again(run, env, kept, tmp_path, fake_openrouter):
    """Calls are refused until the window that will be is over; after the reset they pass, and it is told."""
    asyncio.run(spent_in_the_future(tmp_path / "spend.db"))
    assert 0 != run("chat", "Hello", "--policy", kept, env=env).exit_code
    assert 0 == run("ledger", "recover", "--policy", kept, env=env).exit_code
    assert 0 != run("chat", "Hello", "--policy", kept, env=env).exit_code
    result = run("ledger", "recover", "--clock", "--policy", kept, env=env)
    assert (0, "") == (result.exit_code, result.stderr)
    nobody, told, warned = result.stdout.splitlines()
    assert "nobody left anything under way" == nobody
    assert told.startswith("the latest time seen was 2039-09-18 23:06:40 UTC; it is 20")
    assert "windows that were used since may open anew, and be used a second time" == warned
    assert 0 == run("chat", "Hello", "--policy", kept, env=env).exit_code
    again = run("ledger", "recover", "--clock", "--policy", kept, env=env)
    assert "the ledger goes by the clock already" == again.stdout.splitlines()[-1]


def test_an_instant_that_no_calendar_has_is_a_number():
    """A clock may say anything."""
    assert "2026-11-21 12:00:00 UTC" == instant(1_795_262_400.0)
    assert "1000000000000000 s since 1970" == instant(1e15)


def test_audit_has_the_upstream_that_is_not_there(run, env, kept):
    """An upstream that cannot be asked is no agreement."""
    with FakeOpenRouter.in_thread() as gone:
        url = gone.url
        assert 0 == run("chat", "Hello", "--policy", kept, env=env | {"OPENROUTER_BASE_URL": url}).exit_code
    audit = run("ledger", "audit", "--policy", kept, env=env | {"OPENROUTER_BASE_URL": url})
    assert 1 == audit.exit_code
    assert "could not be asked: connection_failed" in audit.stdout


def test_the_options_have_sound_defaults():
    """A day, and no waiting."""
    assert (Window.day, 0.0) == (AuditOptions().window, ReconcileOptions().patience())
