"""The reconciler without ids, in virtual time: what the growth of a key's usage proves, and what it does not."""

from __future__ import annotations

import asyncio

import pytest

from orrouter.core.errors import BudgetExceeded, ServerError
from orrouter.core.limit import Account
from orrouter.ledger.keywatch import LAG_S, WORKS_S
from orrouter.ledger.reconcile import WRITE_OFF_S
from orrouter.testkit.clock import virtual
from tests.ledger.unknown import CENT, Scene

HOUR = 3600.0
SOON = WORKS_S + LAG_S + 90
"""After so long, and a few looks, what can be bounded is."""


async def pays(scene: Scene, name: str, cost: int, **more) -> None:
    """A try that ends well, charged upstream and settled here."""
    await scene.hold(name, **more)
    scene.far.charge(cost)
    scene.ledger.settle(name, cost, provider="P")


async def begun(**options) -> Scene:
    """A reconciler at work for some minutes beside an idle key: it has its baseline. Its task is `scene.task`."""
    scene = Scene(**options)
    scene.far.charge(321 * CENT)
    await asyncio.sleep(2 * HOUR)
    scene.task = asyncio.create_task(scene.reconciler.run())
    await asyncio.sleep(60)
    return scene


async def over(scene: Scene, seconds: float) -> None:
    """Let time pass, and end the scene."""
    await asyncio.sleep(seconds)
    assert not scene.task.done()
    scene.task.cancel()


@virtual
async def test_what_was_never_billed_is_freed():
    """The key has not grown, in two readings ten minutes apart: nothing was charged."""
    scene = await begun()
    await scene.unknown("a")
    await scene.unknown("b")
    await over(scene, SOON)
    assert [("a", 0, "bounded"), ("b", 0, "bounded")] == scene.resolved
    assert (0, 0, 0) == await scene.sums()


@virtual
async def test_the_growth_is_shared_by_the_group_and_none_is_above_its_hold():
    """The oldest first; together they cost what the key has grown by, less what other tries cost."""
    scene = await begun()
    for name in ("a", "b", "c"):
        await scene.unknown(name)
        scene.far.charge(2 * CENT)
        await pays(scene, f"{name} paid", 3 * CENT)
    await over(scene, SOON)
    assert [("a", 5 * CENT, "bounded"), ("b", CENT, "bounded"), ("c", 0, "bounded")] == scene.resolved
    assert (15 * CENT, 0, 0) == await scene.sums()


@virtual
async def test_nothing_is_believed_before_two_readings_agree():
    """Nobody can still be at work, and the usage has had ten minutes to follow."""
    scene = await begun()
    await scene.unknown("a")
    await over(scene, WORKS_S + LAG_S - 30)
    assert [] == scene.resolved
    assert (0, 0, 5 * CENT) == await scene.sums()


@virtual
async def test_a_usage_that_lags_is_waited_for():
    """The first reading shows nothing yet, the second does: only when they agree is it believed."""
    scene = await begun(lag=WORKS_S + 300)
    await scene.unknown("a")
    scene.far.charge(CENT)
    await over(scene, SOON + LAG_S)
    assert [("a", CENT, "bounded")] == scene.resolved


@virtual
async def test_a_usage_below_what_was_surely_spent_is_not_believed():
    """Then it is late by more than anybody thought, and it would free what was billed."""
    scene = await begun(lag=20 * HOUR)
    await scene.unknown("a")
    await pays(scene, "b", 2 * CENT)
    await over(scene, 10 * HOUR)
    assert [] == scene.resolved


@virtual
async def test_two_bounds_that_contradict_each_other_are_not_believed():
    """The day's usage leaves room for what was surely spent, the growth since the baseline does not: it is late."""
    scene = await begun(lag=1.5 * HOUR)
    await scene.unknown("a", amount=400 * CENT)
    await pays(scene, "b", 2 * CENT)
    await over(scene, SOON)
    assert [] == scene.resolved


@virtual
async def test_a_key_that_others_use_grows_too_much_to_prove_anything():
    """More than all the holds together: they stay as they are until they are written off at the worst case."""
    scene = await begun()
    await scene.unknown("a")
    scene.far.charge(6 * CENT)
    await asyncio.sleep(WRITE_OFF_S - 60)
    assert [] == scene.resolved
    await over(scene, 120)
    assert [("a", 5 * CENT, "written_off")] == scene.resolved


@virtual
async def test_what_others_spend_is_charged_to_the_group_and_never_taken_from_it():
    """The safe side: what the ledger has settled is no less than what the upstream has charged."""
    scene = await begun()
    await scene.unknown("a")
    scene.far.charge(CENT)
    scene.far.charge(2 * CENT)
    await over(scene, SOON)
    assert [("a", 3 * CENT, "bounded")] == scene.resolved


@virtual
async def test_a_try_under_way_keeps_the_key_from_being_read():
    """Its charge may come at any moment. Once it is over, the readings begin."""
    scene = await begun()
    await scene.unknown("a")
    await scene.hold("busy")
    await asyncio.sleep(5 * HOUR)
    assert [] == scene.resolved
    scene.far.charge(2 * CENT)
    scene.ledger.settle("busy", 2 * CENT, provider="P")
    await over(scene, LAG_S + 90)
    assert [("a", 0, "bounded")] == scene.resolved


@virtual
async def test_a_charge_between_the_readings_begins_them_anew():
    """The key was not quiet: what was settled may not stand in its usage yet."""
    scene = await begun()
    await scene.unknown("a")
    await asyncio.sleep(WORKS_S + LAG_S - 100)
    await pays(scene, "b", CENT)
    await asyncio.sleep(300)
    assert [] == scene.resolved
    await over(scene, 2 * LAG_S)
    assert [("a", 0, "bounded")] == scene.resolved


@virtual
async def test_an_id_that_the_upstream_does_not_find_keeps_its_key_from_being_read():
    """What it has not written down for the one it may not have added up for the other."""
    scene = await begun()
    await scene.unknown("named", "gen-1")
    await scene.unknown("nameless")
    await asyncio.sleep(10 * HOUR)
    assert [] == scene.resolved
    scene.far.knows("gen-1", 0.02)
    scene.far.charge(2 * CENT)
    await over(scene, HOUR + LAG_S + 90)
    assert [("named", 2 * CENT, "reconciled"), ("nameless", 0, "bounded")] == scene.resolved


@virtual
async def test_what_another_key_spends_is_not_subtracted():
    """Two services, one ledger, a key each: the growth of one key says nothing of the other."""
    scene = await begun()
    await scene.unknown("a")
    scene.far.charge(2 * CENT)
    await scene.hold("theirs", key="key-2")
    scene.ledger.settle("theirs", 2 * CENT, provider="P")
    await scene.unknown("their unknown", key="key-2")
    await over(scene, SOON)
    assert [("a", 2 * CENT, "bounded")] == scene.resolved


@virtual
async def test_a_restart_goes_on_by_the_upstreams_own_count_of_the_day():
    """A new reconciler has no baseline; the usage of the day, less what was settled today, bounds as well."""
    scene = await begun()
    await pays(scene, "b", 3 * CENT)
    await scene.unknown("a")
    scene.far.charge(CENT)
    scene.task.cancel()
    await asyncio.sleep(HOUR)
    scene.reconciler = scene.another()
    scene.task = asyncio.create_task(scene.reconciler.run())
    scene.far.charges[0] = (scene.clock.wall() - 86400, 321 * CENT)
    await over(scene, SOON)
    assert [("a", CENT, "bounded")] == scene.resolved


@virtual
async def test_no_account_pays_less_than_it_may_owe():
    """One of two accounts' tries cost $0.03, and nobody knows whose: each is charged with it, and keeps the rest."""
    other = Account("team:other", (("lifetime", 1000 * CENT),))
    scene = await begun()
    await scene.unknown("a")
    await scene.unknown("b", account=other)
    scene.far.charge(3 * CENT)
    await over(scene, SOON)
    assert [("a", 3 * CENT, "bounded"), ("b", 3 * CENT, "bounded")] == scene.resolved
    assert ((3 * CENT, 0, 0), (3 * CENT, 0, 0)) == (await scene.sums(), await scene.sums(other))


@virtual
async def test_a_worst_case_that_was_written_off_is_not_subtracted():
    """It is more than the upstream charged: what is left would be less than the open tries cost."""
    scene = await begun()
    await scene.unknown("old", "gen-1")
    await asyncio.sleep(WRITE_OFF_S - HOUR)
    await scene.unknown("young", amount=10 * CENT)
    scene.far.charge(4 * CENT)
    await over(scene, 2 * HOUR)
    assert [("old", 5 * CENT, "written_off"), ("young", 4 * CENT, "bounded")] == scene.resolved


@virtual
async def test_without_a_baseline_what_the_key_spent_before_is_counted_too():
    """A start into a key that spent elsewhere today proves nothing, and frees nothing."""
    scene = Scene()
    await scene.unknown("a")
    scene.far.charge(321 * CENT)
    scene.task = asyncio.create_task(scene.reconciler.run())
    await over(scene, 5 * HOUR)
    assert [] == scene.resolved


@virtual
async def test_a_key_that_was_changed_proves_nothing_of_the_old_one():
    """Its usage begins elsewhere: the label tells them apart."""
    scene = await begun()
    await scene.unknown("a")
    scene.far.label = "sk-or-v1-new...key"
    scene.far.charges[:] = [(scene.clock.wall(), 321 * CENT)]
    await over(scene, 5 * HOUR)
    assert [] == scene.resolved


@virtual
async def test_the_old_path_of_the_key_is_asked_where_the_new_one_is_not_there():
    """Some upstreams have only that."""
    scene = Scene()
    scene.far.key_path = "auth/key"
    await scene.reconciler.once()
    await scene.unknown("a")
    await asyncio.sleep(WORKS_S)
    await scene.reconciler.once()
    await asyncio.sleep(LAG_S)
    assert 1 == await scene.reconciler.once()


@virtual
async def test_an_idle_key_is_read_once_an_hour():
    """Enough to know where growth begins; while calls come and go, every five minutes at most."""
    scene = await begun()
    await asyncio.sleep(5 * HOUR)
    assert 5 == len(scene.far.asked)
    for number in range(60):
        await pays(scene, f"call-{number}", CENT)
        await asyncio.sleep(60)
    assert 12 == pytest.approx(len(scene.far.asked) - 5, abs=2)
    scene.task.cancel()


@virtual
async def test_a_key_that_cannot_be_read_leaves_the_holds_as_they_are():
    """The upstream fails: the worst case stays charged."""
    scene = await begun()
    await scene.unknown("a")
    scene.far.failures = [ServerError("down")] * 100
    await over(scene, 3 * HOUR)
    assert [] == scene.resolved
    assert (0, 0, 5 * CENT) == await scene.sums()


@virtual
async def test_the_group_is_not_read_without_the_names_of_the_keys():
    """Nobody says with which key the upstream is asked: its usage may be another's."""
    scene = await begun(keys=None)
    await scene.unknown("a")
    await over(scene, 5 * HOUR)
    assert ([], []) == (scene.resolved, scene.far.asked)


async def silence(scene: Scene, budget: Account) -> int:
    """An hour in which a provider says nothing, and how many calls were refused in it.

    Once a minute a breaker lets one call through to it, which holds $0.05, is never answered, and is served for $0.01
    by a fallback on the same key. Three of the silent tries are billed $0.01 all the same.
    """
    refused = 0
    for minute in range(60):
        try:
            await scene.unknown(f"silent-{minute}", account=budget)
            if minute in (3, 17, 29):
                scene.far.charge(CENT)
            await pays(scene, f"served-{minute}", CENT, amount=CENT, account=budget)
        except BudgetExceeded:
            refused += 1
        assert sum(await scene.sums(budget)) <= budget.limits[0][1]
        await asyncio.sleep(60)
    return refused


@virtual
async def test_the_phantom_spend_of_an_hour_of_silence_is_freed_25_minutes_after_it():
    """After it $3.00 are held for $0.03 of work: $2.97 of phantom spend, all within the budget of $5.

    25 minutes after the last silent try it is gone, and the budget has paid what the upstream charged, to the cent.
    """
    budget = Account("team:search", (("day", 500 * CENT),))
    scene = await begun()
    assert 0 == await silence(scene, budget)
    assert (60 * CENT, 0, 300 * CENT) == await scene.sums(budget)
    await over(scene, WORKS_S + LAG_S)
    assert (63 * CENT, 0, 0) == await scene.sums(budget)
    assert 63 * CENT == sum(amount for _, amount in scene.far.charges[1:])


@virtual
async def test_a_budget_that_silence_has_filled_opens_again_by_itself():
    """$2 are full of $1.65 that nobody answers for; 25 minutes of refusals later the key's usage has freed it."""
    budget = Account("team:search", (("day", 200 * CENT),))
    scene = await begun()
    assert 0 < await silence(scene, budget) <= 26
    assert "bounded" in {provenance for _, _, provenance in scene.resolved}
    await over(scene, WORKS_S + LAG_S)
    settled, held, suspense = await scene.sums(budget)
    assert (sum(amount for _, amount in scene.far.charges[1:]), 0, 0) == (settled, held, suspense)
