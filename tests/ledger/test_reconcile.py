"""The reconciler by generation ids, in virtual time: when it asks, what it believes, and when it gives up."""

from __future__ import annotations

import asyncio

import pytest

from orrouter.core.errors import AuthFailed, ConnectionFailed, LedgerUnavailable, RateLimited
from orrouter.core.facts import HoldReconciled, ReconcileFailed
from orrouter.ledger.lane import PACE_S
from orrouter.ledger.reconcile import BATCH, IDLE_S, WRITE_OFF_S, Reconciler
from orrouter.testkit.clock import virtual
from tests.ledger.unknown import CENT, Scene

HOUR = 3600.0


def running(scene: Scene) -> asyncio.Task[None]:
    """The reconciler at work, until its scene is over."""
    return asyncio.create_task(scene.reconciler.run())


async def passes(task: asyncio.Task[None], seconds: float) -> None:
    """Let time pass, and see that the reconciler lives."""
    await asyncio.sleep(seconds)
    assert not task.done()


@virtual
async def test_it_asks_at_1_2_4_8_16_32_seconds_2_10_60_minutes_then_hourly():
    """Counted from the end of the try, until two days are over; then the worst case is taken for the truth."""
    scene = Scene(keys=None)
    await scene.unknown("h", "gen-1")
    task = running(scene)
    scene.reconciler.wake()
    await passes(task, WRITE_OFF_S - 1)
    expected = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 120.0, 600.0, *(hour * HOUR for hour in range(1, 48))]
    assert pytest.approx(expected, abs=0.01) == [at for at, _ in scene.far.asked]
    assert (0, 0, 5 * CENT) == await scene.sums()
    await passes(task, 2)
    assert 48 * HOUR == pytest.approx(scene.far.asked[-1][0], abs=0.01)
    assert [("h", 5 * CENT, "written_off")] == scene.resolved
    task.cancel()


@virtual
async def test_a_404_is_never_a_zero():
    """Two days of 404 leave the worst case charged, and no answer that says nothing frees a cent of it."""
    scene = Scene()
    await scene.unknown("h", "gen-1")
    for _ in range(47):
        await asyncio.sleep(HOUR)
        assert 0 == await scene.reconciler.once()
        assert (0, 0, 5 * CENT) == await scene.sums()


@virtual
async def test_404s_and_then_a_value():
    """The hold is settled at what the upstream told at last, with its provider and model."""
    scene = Scene()
    await scene.unknown("h", "gen-1")
    scene.far.knows("gen-1", 0.012, after=7, model="a/b-2026", provider_name="Groq")
    task = running(scene)
    scene.reconciler.wake()
    await passes(task, 60)
    assert [1.0, 2.0, 4.0, 8.0] == [at for at, what in scene.far.asked if what == "gen-1"]
    assert (12_000_000, 0, 0) == await scene.sums()
    line = (await scene.ledger.statement())[0]
    assert ("a/b-2026", "Groq", 12_000_000) == (line.model, line.provider, line.cost)
    assert [
        HoldReconciled(
            request_id="req-h", hold="h", upstream="openrouter", model="a/b-2026", held_nano=5 * CENT,
            cost_nano=12_000_000, provenance="reconciled",
        )
    ] == scene.facts  # fmt: skip
    task.cancel()


@virtual
async def test_a_cancelled_generation_that_is_billed_on_is_believed_after_ten_minutes():
    """A figure told earlier may still grow: it would be settled too low."""
    scene = Scene()
    await scene.unknown("h", "gen-1")
    scene.far.knows("gen-1", 0.001, cancelled=True, streamed=True, provider_name="Google AI Studio")
    task = running(scene)
    scene.reconciler.wake()
    await passes(task, 300)
    assert [] == scene.resolved
    scene.far.knows("gen-1", 0.03, cancelled=True, streamed=True, provider_name="Google AI Studio")
    await passes(task, 301)
    assert [("h", 30_000_000, "reconciled")] == scene.resolved
    task.cancel()


@virtual
async def test_a_cancelled_generation_that_is_billed_no_more_is_believed_at_once():
    """Its provider stops when the stream is closed."""
    scene = Scene()
    await scene.unknown("h", "gen-1")
    scene.far.knows("gen-1", 0.001, cancelled=True, streamed=True, provider_name="Anthropic")
    await asyncio.sleep(1)
    assert 1 == await scene.reconciler.once()
    assert (1_000_000, 0, 0) == await scene.sums()


@virtual
async def test_a_new_reconciler_goes_on_by_the_ages_of_the_holds():
    """It asks once for what it may have missed, and then at the hours that are due: no memory is needed."""
    scene = Scene(keys=None)
    await scene.unknown("h", "gen-1")
    await asyncio.sleep(5.5 * HOUR)
    scene.reconciler = scene.another()
    task = running(scene)
    await passes(task, HOUR)
    assert [(5.5 * HOUR, "gen-1"), (6 * HOUR, "gen-1")] == scene.far.asked
    task.cancel()


@virtual
async def test_after_a_long_stop_it_asks_once_more_before_it_writes_off():
    """The upstream still knows what nobody asked for in a week."""
    scene = Scene()
    await scene.unknown("known", "gen-1")
    await scene.unknown("unknown", "gen-2")
    await scene.unknown("nameless")
    scene.far.knows("gen-1", 0.01)
    await asyncio.sleep(7 * 24 * HOUR)
    assert 3 == await scene.reconciler.once()
    assert [
        ("known", CENT, "reconciled"), ("unknown", 5 * CENT, "written_off"), ("nameless", 5 * CENT, "written_off"),
    ] == scene.resolved  # fmt: skip


@virtual
async def test_nothing_is_written_off_before_it_was_asked_for_once_more():
    """An upstream that fails on the last day may still tell when it is back."""
    scene = Scene(keys=None)
    await scene.unknown("h", "gen-1")
    scene.far.knows("gen-1", 0.01)
    scene.far.failures = [ConnectionFailed("no route")]
    await asyncio.sleep(WRITE_OFF_S)
    assert 0 == await scene.reconciler.once()
    await asyncio.sleep(30)
    assert 1 == await scene.reconciler.once()
    assert [("h", CENT, "reconciled")] == scene.resolved


@virtual
async def test_many_holds_at_once_are_looked_for_together():
    """A burst of a hundred calls that fail wakes it a hundred times, and costs a look or two."""
    scene, looks = Scene(keys=None), []

    class Counted(type(scene.ledger)):
        async def unsettled(self):
            looks.append(scene.clock.now())
            return await super().unsettled()

    scene.ledger.__class__ = Counted
    task = running(scene)
    await passes(task, 1)
    for number in range(100):
        await scene.unknown(f"h{number}")
        scene.reconciler.wake()
        await asyncio.sleep(0.005)
    await passes(task, 2)
    assert len(looks) <= 4
    task.cancel()


@virtual
async def test_it_asks_at_most_twice_a_second():
    """One worker for a key, one question after the other; what is left over has its turn in the next pass."""
    scene = Scene(keys=None)
    for number in range(50):
        await scene.unknown(f"h{number}", f"gen-{number}")
        scene.far.knows(f"gen-{number}", 0.01)
    task = running(scene)
    scene.reconciler.wake()
    await passes(task, 40)
    times = [at for at, _ in scene.far.asked]
    assert 50 == len(times) == len(scene.resolved)
    assert all(later - sooner >= PACE_S for sooner, later in zip(times, times[1:], strict=False))
    assert times[-1] <= 1 + 50 * PACE_S + 50 / BATCH
    task.cancel()


@virtual
async def test_two_upstreams_are_asked_side_by_side():
    """One that is slow to answer keeps no other waiting."""
    scene = Scene(keys=None)
    for number in range(6):
        await scene.unknown(f"h{number}", f"gen-{number}", upstream=("one", "two")[number % 2])
    await asyncio.sleep(1)
    await scene.reconciler.once()
    assert [1.0, 1.0, 1.5, 1.5, 2.0, 2.0] == [at for at, _ in scene.far.asked]


@virtual
async def test_a_429_is_waited_for():
    """As long as it says nobody is asked, and the question that was refused is asked again then."""
    scene = Scene(keys=None)
    await scene.unknown("h", "gen-1")
    scene.far.knows("gen-1", 0.01)
    scene.far.failures = [RateLimited("slow down", status=429, retry_after=90)]
    task = running(scene)
    scene.reconciler.wake()
    await passes(task, 200)
    assert [(1.0, "gen-1"), (91.0, "gen-1")] == scene.far.asked
    assert [("h", CENT, "reconciled")] == scene.resolved
    assert [("rate_limited: slow down (HTTP 429)", 90)] == scene.failures
    task.cancel()


@virtual
async def test_an_upstream_that_fails_is_left_alone_longer_each_time():
    """Half a minute, then twice as long; one question is enough to see that it fails."""
    scene = Scene(keys=None)
    for name in ("a", "b"):
        await scene.unknown(name, f"gen-{name}")
        scene.far.knows(f"gen-{name}", 0.01)
    scene.far.failures = [ConnectionFailed("no route"), AuthFailed("no such key", status=401), ValueError("odd")]
    task = running(scene)
    scene.reconciler.wake()
    await passes(task, 300)
    assert [1.0, 31.0, 91.0, 211.0, 211.5] == [at for at, _ in scene.far.asked]
    assert [30, 60, 120] == [pause for _, pause in scene.failures]
    assert "ValueError: odd" == scene.failures[-1][0]
    assert 2 == len(scene.resolved)
    task.cancel()


@virtual
async def test_the_loop_outlives_a_store_that_fails_and_a_listener_that_does():
    """What could not be looked at is looked at later; a broken listener leaves no cost unknown."""
    scene = Scene()
    await scene.unknown("h", "gen-1")
    scene.far.knows("gen-1", 0.01)

    class Broken(type(scene.ledger)):
        async def flush(self):
            if scene.clock.now() < 50:
                raise LedgerUnavailable("the disk is full")

    scene.ledger.__class__ = Broken

    def tell(fact):
        scene.facts.append(fact)
        raise RuntimeError("nobody home")

    scene.reconciler = Reconciler(scene.ledger, scene.far.fetch, scene.clock, FixedRandom(), tell)
    task = running(scene)
    await passes(task, 100)
    assert "ledger_unavailable: the disk is full" == scene.failures[0][0]
    assert (CENT, 0, 0) == await scene.sums()
    task.cancel()


@virtual
async def test_what_another_process_left_is_found_within_half_a_minute():
    """Nobody wakes this reconciler for it."""
    scene = Scene(keys=None)
    task = running(scene)
    await passes(task, 3)
    await scene.unknown("h", "gen-1")
    scene.far.knows("gen-1", 0.01)
    await passes(task, IDLE_S + 1)
    assert [("h", CENT, "reconciled")] == scene.resolved
    task.cancel()


@virtual
async def test_nothing_is_asked_while_nothing_is_unknown():
    """Not even for tries under way: their owner is at work."""
    scene = Scene(keys=None)
    await scene.hold("h")
    scene.ledger.identify("h", "gen-1")
    task = running(scene)
    await passes(task, 3 * HOUR)
    assert [] == scene.far.asked
    assert scene.reconciler.due_in is None
    task.cancel()


@virtual
async def test_an_upstream_that_cannot_be_asked_is_never_asked():
    """One that has no such paths, or that the policy has no more: its holds are written off in time."""
    scene = Scene(keys=(("openrouter", "key-1"),))
    await scene.unknown("h", "gen-1", upstream="spare", key="key-9")
    await asyncio.sleep(WRITE_OFF_S)
    assert 1 == await scene.reconciler.once()
    assert [("h", 5 * CENT, "written_off")] == scene.resolved
    assert "gen-1" not in [what for _, what in scene.far.asked]


@virtual
async def test_it_says_when_it_will_be_needed_next():
    """For whoever calls pass after pass: the time of the next question, or that of giving up."""
    scene = Scene(keys=None)
    await scene.unknown("h", "gen-1")
    await scene.reconciler.once()
    assert 1.0 == pytest.approx(scene.reconciler.due_in, abs=0.01)
    await asyncio.sleep(40)
    await scene.reconciler.once()
    assert 80.0 == pytest.approx(scene.reconciler.due_in, abs=0.01)
    assert [40.0] == [at for at, _ in scene.far.asked]


@virtual
async def test_a_pass_that_is_cut_leaves_the_hold_as_it_was():
    """Cancelled while it waits for an answer: nothing is settled, and the next pass asks again."""
    scene = Scene(keys=None)
    await scene.unknown("h", "gen-1")

    async def never(path, upstream, **query):
        await asyncio.Event().wait()

    await asyncio.sleep(1)
    cut = asyncio.create_task(Reconciler(scene.ledger, never, scene.clock, FixedRandom()).once())
    await asyncio.sleep(0.1)
    cut.cancel()
    await asyncio.gather(cut, return_exceptions=True)
    assert (0, 0, 5 * CENT) == await scene.sums()
    scene.far.knows("gen-1", 0.01)
    assert 1 == await scene.reconciler.once()


@virtual
async def test_an_upstream_that_never_answers_stops_nobody():
    """A policy need not have a deadline: after half a minute the question counts as failed."""
    scene = Scene(keys=None)
    await scene.unknown("silent", "gen-1")
    await scene.unknown("told", "gen-2", upstream="other")
    scene.far.knows("gen-2", 0.01)

    async def fetch(path, upstream, **query):
        if upstream == "openrouter":
            await asyncio.Event().wait()
        return await scene.far.fetch(path, upstream, **query)

    await asyncio.sleep(1)
    reconciler = Reconciler(scene.ledger, fetch, scene.clock, FixedRandom(), scene.facts.append)
    assert 1 == await reconciler.once()
    assert ["upstream_timeout: no answer to generation within 30s (upstream openrouter)"] == [
        error for error, _ in scene.failures
    ]


class FixedRandom:
    """No chance at all."""

    def random(self) -> float:
        return 0.5


def test_the_facts_bear_their_units():
    """Amounts in nano-USD, times in seconds."""
    assert {"held_nano", "cost_nano"} <= set(HoldReconciled.__dataclass_fields__)
    assert "retry_in_s" in ReconcileFailed.__dataclass_fields__
