"""The breaker over a scripted far end, in virtual time."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from orrouter.core.call import ALL, PROBE, Attempt, Call, Target, Trail
from orrouter.core.errors import (
    BudgetExceeded,
    CapReached,
    CircuitOpen,
    DeadlineExceeded,
    InvalidRequest,
    NoRoute,
    Overloaded,
    RateLimited,
    ServerError,
    StreamBroken,
    UpstreamTimeout,
)
from orrouter.core.events import Chunk
from orrouter.core.facts import BreakerClosed, BreakerHalfOpened, BreakerOpened, IgnoreDropped, ProviderIgnored
from orrouter.core.pipeline import Pipeline
from orrouter.core.reply import EventStream, Reply
from orrouter.middleware.base import World
from orrouter.middleware.breaker import CIRCUIT, Breaker, BreakerOptions
from orrouter.middleware.fallback import FallbackOptions
from orrouter.testkit.clock import VirtualClock, run_virtual, virtual

TARGET = Target("openrouter", "acme/big", "key")


@dataclass
class Says:
    """Answers: the first word after `first` seconds, then `words` more, `every` so many seconds."""

    provider: str | None = "Fine"
    first: float = 0.0
    words: int = 0
    every: float = 0.0
    breaks: bool = False
    blames: str | None = None


Act = Says | Callable[[], BaseException]


def fails(provider: str | None = None, retry_after: float | None = None) -> Callable[[], BaseException]:
    return lambda: ServerError("HTTP 500", retry_after=retry_after).at(provider=provider)


class Tape:
    """The source of one answer: its first word at once, the others as its act says."""

    def __init__(self, far: Far, act: Says) -> None:
        self.over = False
        self._far, self._act, self._said = far, act, 0
        self._open = True
        far.open += 1

    async def read(self) -> list[Chunk]:
        if self._said > self._act.words:
            if self._act.breaks:
                raise StreamBroken("the connection broke in the middle of the answer").at(provider=self._act.blames)
            return []
        if self._said:
            await asyncio.sleep(self._act.every)
        self._said += 1
        return [word()]

    def close(self) -> None:
        self._far.open -= self._open
        self._open = False


def word() -> Chunk:
    chunk = Chunk(b"{}", {})
    chunk.text, chunk.semantic = "word ", True
    return chunk


class Far:
    """The far end: each try takes the next act, and the last one repeats."""

    def __init__(self, *acts: Act) -> None:
        self.acts = list(acts)
        self.calls: list[Call] = []
        self.open = 0

    async def __call__(self, call: Call) -> Reply:
        act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
        self.calls.append(call)
        if not isinstance(act, Says):
            raise act()
        attempt = Attempt(1, call.target, asyncio.get_running_loop().time())
        await asyncio.sleep(act.first)
        attempt.first_token, attempt.provider = asyncio.get_running_loop().time(), act.provider
        events = EventStream(Tape(self, act), lambda said: None)
        try:
            await events.ahead(call.buffer)
        except BaseException:
            events.close()
            raise
        return Reply(attempt, events)

    @property
    def ignored(self) -> list[list[str]]:
        return [list((call.body.get("provider") or {}).get("ignore", ())) for call in self.calls]


def world_of(**more: object) -> World:
    return World(clock=VirtualClock(), **more)


def layer_of(world: World, **options: object) -> Breaker:
    layer = BreakerOptions.model_validate(options).build(world)
    assert isinstance(layer, Breaker)
    return layer


def call_of(**fields: object) -> Call:
    fields = {"target": TARGET, "last": False, **fields}
    return Call(trail=Trail("req_1", asyncio.get_running_loop().time), **fields)


async def ask(layer: Breaker, far: Far, **fields: object) -> Call:
    """One call read to its end; its errors are of no interest here."""
    call = call_of(**fields)
    try:
        reply = await layer(call, far)
        async for _ in reply.events:
            pass
    except (ServerError, StreamBroken, CircuitOpen):
        pass
    return call


async def opened(layer: Breaker, retry_after: float | None = None) -> None:
    for _ in range(5):
        await ask(layer, Far(fails(retry_after=retry_after)))


def state_of(world: World, text: str = "openrouter/acme/big") -> str:
    shown = world.health.show(world.clock.now()).get("breaker", {})
    return str(shown[text]["state"]) if text in shown else "none"


def facts_of(call: Call, kind: type) -> list[object]:
    return [fact for fact in call.trail.facts if isinstance(fact, kind)]


# --- the model ----------------------------------------------------------------------------------------


@virtual
async def test_a_call_to_a_healthy_model_passes_as_it_is() -> None:
    """Nothing is changed and nothing is noted while all is well."""
    layer, far, call = layer_of(world_of()), Far(Says()), call_of()
    reply = await layer(call, far)
    await reply.completion()
    assert far.calls[0] is call
    assert [] == call.trail.facts


@virtual
async def test_five_failures_open_and_the_sixth_call_is_refused() -> None:
    """The refusal says why, when it is asked again, and nothing is sent."""
    world, far = world_of(), Far(fails())
    layer = layer_of(world)
    for _ in range(5):
        call = await ask(layer, far)
    with pytest.raises(CircuitOpen, match=r"openrouter/acme/big is left alone \(5 failures in a row\)") as caught:
        await layer(call_of(), far)
    assert 5 == len(far.calls)
    assert 4.5 <= (caught.value.retry_after or 0.0) <= 5.5
    [fact] = facts_of(call, BreakerOpened)
    assert ("openrouter/acme/big", "5 failures in a row") == (fact.subject, fact.reason)
    assert caught.value.retry_after == fact.for_s


@pytest.mark.parametrize(
    "error",
    [RateLimited, InvalidRequest, NoRoute, BudgetExceeded, DeadlineExceeded, CapReached, asyncio.CancelledError],
)
def test_what_says_nothing_about_the_model_is_not_counted(error: type[BaseException]) -> None:
    """Limits, refusals, the caller's faults and cancels open nothing and close nothing."""

    async def scene() -> None:
        world, far = world_of(), Far(lambda: error("no"))
        layer = layer_of(world)
        for _ in range(20):
            with pytest.raises(error):
                await layer(call_of(), far)
        [(_, circuit)] = world.health.each(CIRCUIT)
        assert 0 == circuit.show(0.0)["calls"]

    run_virtual(scene())


@virtual
async def test_a_stream_that_breaks_counts_and_one_that_is_left_does_not() -> None:
    """A break after the first word is a failure; a reader who walks away says nothing."""
    world = world_of()
    layer = layer_of(world)
    for _ in range(9):
        reply = await layer(call_of(), Far(Says(words=3)))
        reply.close()
    for _ in range(4):
        await ask(layer, Far(Says(words=3, breaks=True)))
    assert "closed" == state_of(world)
    await ask(layer, Far(Says(words=3, breaks=True)))
    assert "open" == state_of(world)


@virtual
async def test_a_chat_that_breaks_while_it_is_held_back_counts() -> None:
    """A failure is one, however many events are waited for."""
    world = world_of()
    for _ in range(5):
        await ask(layer_of(world), Far(Says(words=3, breaks=True)), buffer=ALL)
    assert "open" == state_of(world)


@virtual
async def test_a_retry_after_raises_the_pause() -> None:
    """What the upstream asked for is longer than the first pause, so it holds."""
    layer = layer_of(world_of())
    await opened(layer, retry_after=42.0)
    with pytest.raises(CircuitOpen) as caught:
        await layer(call_of(), Far(Says()))
    assert 42.0 == caught.value.retry_after


@pytest.mark.parametrize(("last", "longest"), [(False, 16.5), (True, 330.0)])
def test_a_pause_is_short_where_another_could_serve(last: bool, longest: float) -> None:
    """The first choice is asked again within seconds, the last one may be left alone for minutes."""

    async def scene() -> None:
        layer, far, pauses = layer_of(world_of()), Far(fails()), []
        for _ in range(20):
            call = await ask(layer, far, last=last)
            pauses += [fact.for_s for fact in facts_of(call, BreakerOpened)]
            await asyncio.sleep(pauses[-1] if pauses else 0.0)
        assert 0.8 * longest < max(pauses) <= longest

    run_virtual(scene())


@virtual
async def test_recovery_takes_a_pause_and_two_good_probes() -> None:
    """Open, half open, closed; each change is noted once."""
    world, far = world_of(), Far(Says())
    layer = layer_of(world)
    await opened(layer)
    await asyncio.sleep(6.0)
    first, second = await ask(layer, far), await ask(layer, far)
    assert 1 == len(facts_of(first, BreakerHalfOpened))
    assert ("openrouter/acme/big",) == tuple(fact.subject for fact in facts_of(second, BreakerClosed))
    assert "closed" == state_of(world)


@virtual
async def test_while_a_probe_is_under_way_others_are_refused() -> None:
    """The refusal says that somebody is trying it."""
    layer = layer_of(world_of())
    await opened(layer)
    await asyncio.sleep(6.0)
    probe = asyncio.create_task(ask(layer, Far(Says(first=3.0))))
    await asyncio.sleep(1.0)
    with pytest.raises(CircuitOpen, match="one call is trying it now"):
        await layer(call_of(), Far(Says()))
    await probe


@pytest.mark.parametrize("error", [DeadlineExceeded, RateLimited, InvalidRequest, asyncio.CancelledError])
def test_a_probe_that_says_nothing_makes_room_for_the_next(error: type[BaseException]) -> None:
    """Its permit comes back, and the circuit stays half open."""

    async def scene() -> None:
        world, far = world_of(), Far(lambda: error("no"))
        layer = layer_of(world)
        await opened(layer)
        await asyncio.sleep(6.0)
        for _ in range(3):
            with pytest.raises(error):
                await layer(call_of(), far)
        assert "half_open" == state_of(world)
        assert 3 == len(far.calls)

    run_virtual(scene())


@virtual
async def test_a_cancelled_probe_makes_room_for_the_next() -> None:
    """Also when the cancel comes while the far end is silent."""
    world = world_of()
    layer = layer_of(world)
    await opened(layer)
    await asyncio.sleep(6.0)
    probe = asyncio.create_task(ask(layer, Far(Says(first=30.0))))
    await asyncio.sleep(1.0)
    probe.cancel()
    await asyncio.wait([probe])
    await ask(layer, Far(Says()))
    await ask(layer, Far(Says()))
    assert "closed" == state_of(world)


@pytest.mark.parametrize("leave", ["close", "drop"])
def test_a_probe_whose_reader_leaves_makes_room_for_the_next(leave: str) -> None:
    """Closed or dropped unread: the permit comes back."""

    async def scene() -> None:
        world, far = world_of(), Far(Says(words=9, every=1.0))
        layer = layer_of(world)
        await opened(layer)
        await asyncio.sleep(6.0)
        reply = await layer(call_of(), far)
        [(_, circuit)] = world.health.each(CIRCUIT)
        assert circuit.probing
        gc.disable()  # A dropped reply must not need the collector.
        if leave == "close":
            reply.close()
        del reply
        await asyncio.sleep(0)
        gc.enable()
        assert not circuit.probing
        assert 0 == far.open

    run_virtual(scene())


@virtual
async def test_an_endless_probe_is_given_up() -> None:
    """After a minute without a verdict it is open again, and then another call probes."""
    world = world_of()
    layer = layer_of(world)
    await opened(layer)
    await asyncio.sleep(6.0)
    hung = asyncio.create_task(ask(layer, Far(Says(first=1e6))))
    await asyncio.sleep(60.5)
    call = await ask(layer, Far(Says()))
    assert ["a probe had no verdict after 1m"] == [fact.reason for fact in facts_of(call, BreakerOpened)]
    await asyncio.sleep(6.0)
    await ask(layer, Far(Says()))
    await ask(layer, Far(Says()))
    assert "closed" == state_of(world)
    hung.cancel()


# --- probes that stream -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "after", "state"),
    [
        (Says(words=30, every=0.1), 1.9, "half_open"),
        (Says(words=30, every=0.1), 2.1, "closed"),
        (Says(words=30, every=1.0), 4.5, "half_open"),
        (Says(words=30, every=1.0), 5.5, "closed"),
    ],
)
@pytest.mark.parametrize("buffer", [1, ALL])
def test_a_stream_need_not_end_to_be_well(act: Says, after: float, state: str, buffer: int) -> None:
    """Twenty events or five seconds behind the first word are enough, for a reader of a stream and of a chat."""

    async def scene() -> None:
        world = world_of()
        layer = layer_of(world, closes_after=1)
        await opened(layer)
        await asyncio.sleep(6.0)
        probe = asyncio.create_task(ask(layer, Far(act), buffer=buffer))
        await asyncio.sleep(after)
        assert state == state_of(world)
        await probe
        assert "closed" == state_of(world)

    run_virtual(scene())


@pytest.mark.parametrize("buffer", [1, ALL])
def test_a_probe_that_breaks_at_once_reopens(buffer: int) -> None:
    """A first word is no recovery."""

    async def scene() -> None:
        world, far = world_of(), Far(Says(words=3, breaks=True))
        layer = layer_of(world)
        await opened(layer)
        await asyncio.sleep(6.0)
        await ask(layer, far, buffer=buffer)
        assert "open" == state_of(world)
        assert 0 == far.open

    run_virtual(scene())


@virtual
async def test_a_probe_that_breaks_late_is_an_ordinary_failure() -> None:
    """It closed the circuit with its first words and counts as one failure of the new window."""
    world = world_of()
    layer = layer_of(world, closes_after=1)
    await opened(layer)
    await asyncio.sleep(6.0)
    await ask(layer, Far(Says(words=30, every=0.1, breaks=True)))
    [(_, circuit)] = [pair for pair in world.health.each(CIRCUIT) if "@" not in str(pair[0])]
    shown = circuit.show(world.clock.now())
    assert ("closed", 1, 1) == (shown["state"], shown["calls"], shown["failures"])


@virtual
async def test_one_long_probe_is_one_success() -> None:
    """Told well in the middle and ended well, it still counts once."""
    world = world_of()
    layer = layer_of(world)
    await opened(layer)
    await asyncio.sleep(6.0)
    await ask(layer, Far(Says(words=30, every=0.1)))
    assert "half_open" == state_of(world)


# --- slowness -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "fields", "state"),
    [
        (31.0, {"streamed": True}, "open"),
        (29.0, {"streamed": True}, "closed"),
        (31.0, {"streamed": False}, "closed"),
        (31.0, {"streamed": True, "last": True}, "closed"),
    ],
)
def test_slow_first_words_open_where_another_could_serve(first: float, fields: dict[str, bool], state: str) -> None:
    """An answer in one piece is not judged by its length, and the last target not by its slowness."""

    async def scene() -> None:
        world = world_of()
        layer = layer_of(world, window="1h")
        for _ in range(10):
            await ask(layer, Far(Says(provider=None, first=first)), **fields)
        assert state == state_of(world)

    run_virtual(scene())


@virtual
async def test_silence_counts_as_failure_and_as_slow() -> None:
    """An answer that never came is the slowest of all."""
    world = world_of()
    layer, far = layer_of(world), Far(lambda: UpstreamTimeout("nothing"))
    for _ in range(3):
        with pytest.raises(UpstreamTimeout):
            await layer(call_of(), far)
    [(_, circuit)] = world.health.each(CIRCUIT)
    shown = circuit.show(world.clock.now())
    assert (3, 3) == (shown["failures"], shown["slow"])


# --- providers ----------------------------------------------------------------------------------------


async def ill_provider(layer: Breaker) -> None:
    """Of fifteen calls five fail at Ill: its circuit opens, and the model's does not."""
    for _ in range(5):
        await ask(layer, Far(Says()))
        await ask(layer, Far(Says()))
        await ask(layer, Far(fails("Ill")))


@virtual
async def test_an_ill_provider_is_left_out_while_its_model_serves_on() -> None:
    """It is added to what the caller ignores already, and said so."""
    world, far = world_of(), Far(Says())
    layer = layer_of(world)
    await ill_provider(layer)
    call = await ask(layer, far, body={"provider": {"ignore": ["Other"], "zdr": True}})
    assert ("closed", "open") == (state_of(world), state_of(world, "openrouter/acme/big@Ill"))
    assert {"ignore": ["Other", "Ill"], "zdr": True} == far.calls[0].body["provider"]
    assert ["Ill"] == [fact.provider for fact in facts_of(call, ProviderIgnored)]


@pytest.mark.parametrize(
    "fields",
    [
        {"body": {"provider": {"only": ["ill"]}}},
        {"body": {"provider": {"order": ["Ill"], "allow_fallbacks": False}}},
        {"endpoint": "embeddings"},
    ],
)
def test_a_provider_is_not_left_out_where_nobody_would_remain(fields: dict[str, object]) -> None:
    """Who is the only one allowed is asked, ill or not; other endpoints are left as they are."""

    async def scene() -> None:
        layer, far = layer_of(world_of()), Far(Says())
        await ill_provider(layer)
        call = await ask(layer, far, **fields)
        assert fields.get("body", {}) == far.calls[0].body
        assert [] == facts_of(call, ProviderIgnored)

    run_virtual(scene())


@virtual
async def test_a_plain_upstream_has_no_providers() -> None:
    """Only OpenRouter chooses providers, so only there they have circuits."""
    world = world_of()
    for _ in range(3):
        await ask(layer_of(world), Far(fails("Ill")), target=Target("spare", "m", "k", dialect="openai"))
    assert ["spare/m"] == [str(subject) for subject, _ in world.health.each(CIRCUIT)]


@virtual
async def test_one_call_at_a_time_tries_an_ill_provider_again() -> None:
    """After its pause one call does not ignore it, the others still do."""
    layer, far = layer_of(world_of()), Far(Says(first=1.0))
    await ill_provider(layer)
    await asyncio.sleep(6.0)
    await asyncio.gather(*(ask(layer, far) for _ in range(3)))
    assert [[], ["Ill"], ["Ill"]] == far.ignored


@virtual
async def test_a_provider_is_judged_only_by_answers_of_its_own() -> None:
    """Answered by another the probe says nothing, and the next call may try; answered by itself twice it is well."""
    world, far = world_of(), Far(Says("Fine"), Says("Fine"), Says("Ill"), Says("Fine"), Says("Ill"), Says("Fine"))
    layer = layer_of(world)
    await ill_provider(layer)
    await asyncio.sleep(6.0)
    states = []
    for _ in range(6):
        await ask(layer, far)
        states.append(state_of(world, "openrouter/acme/big@Ill"))
    assert [[]] * 6 == far.ignored
    assert ["half_open"] * 4 + ["closed"] * 2 == states


@virtual
async def test_a_provider_that_is_well_again_costs_nothing() -> None:
    """Once its circuit is closed calls pass as they are."""
    layer, far, call = layer_of(world_of()), Far(Says("Ill")), call_of()
    await ill_provider(layer)
    await asyncio.sleep(6.0)
    await ask(layer, far)
    await ask(layer, far)
    await layer(call, far)
    assert far.calls[2] is call


@virtual
async def test_a_provider_that_fails_its_probe_is_left_out_again() -> None:
    """The failure counts for the provider, and as one of many for the model."""
    world, far = world_of(), Far(fails("Ill"), Says())
    layer = layer_of(world)
    await ill_provider(layer)
    await asyncio.sleep(6.0)
    for _ in range(2):
        await ask(layer, far)
    assert [[], ["Ill"]] == far.ignored
    assert "closed" == state_of(world)


@virtual
async def test_a_broken_stream_blames_the_provider_that_its_error_names() -> None:
    """Where the answer itself did not say who wrote it."""
    world = world_of()
    layer = layer_of(world, consecutive=1, mode="active")
    await ask(layer, Far(Says(provider=None, breaks=True, blames="Ill")))
    assert "open" == state_of(world, "openrouter/acme/big@Ill")


@virtual
async def test_the_probe_of_two_providers_frees_the_other_ones_place_once() -> None:
    """Told well it gives the other provider's permit back; breaking later it does not give it back again."""
    world = world_of()
    layer = layer_of(world)
    for provider in ("Ill", "Sick"):
        for _ in range(5):
            await ask(layer, Far(Says()))
            await ask(layer, Far(Says()))
            await ask(layer, Far(fails(provider)))
    await asyncio.sleep(6.0)
    breaks = asyncio.create_task(ask(layer, Far(Says("Ill", words=10, every=1.0, breaks=True))))
    await asyncio.sleep(5.5)
    probe = asyncio.create_task(ask(layer, Far(Says("Sick", first=20.0))))
    await breaks
    far = Far(Says())
    await ask(layer, far)
    assert [["Ill", "Sick"]] == far.ignored
    await probe


@virtual
async def test_what_began_before_a_provider_opened_does_not_judge_it() -> None:
    """A late success of an earlier request neither closes a half-open provider nor counts for it."""
    world = world_of()
    layer = layer_of(world, closes_after=1)
    late = asyncio.create_task(ask(layer, Far(Says("Ill", first=8.0))))
    await asyncio.sleep(0)
    await ill_provider(layer)
    await asyncio.sleep(6.0)
    await ask(layer, Far(Says("Fine")))
    await late
    assert "half_open" == state_of(world, "openrouter/acme/big@Ill")


@virtual
async def test_our_own_ignore_is_taken_back_where_it_leaves_nobody() -> None:
    """The request is sent once more with what the caller ignores, and said so."""
    layer, far = layer_of(world_of()), Far(lambda: NoRoute("no provider is left"), Says())
    await ill_provider(layer)
    call = await ask(layer, far, body={"provider": {"ignore": ["Other"]}})
    assert [["Other", "Ill"], ["Other"]] == far.ignored
    assert [("Ill",)] == [fact.providers for fact in facts_of(call, IgnoreDropped)]


@virtual
async def test_it_is_taken_back_only_once() -> None:
    """Where that does not help either the error goes up."""
    layer, far = layer_of(world_of()), Far(lambda: NoRoute("no provider is left"))
    await ill_provider(layer)
    with pytest.raises(NoRoute):
        await layer(call_of(), far)
    assert [["Ill"], []] == far.ignored


@virtual
async def test_the_callers_own_ignore_is_never_taken_back() -> None:
    """What we did not add is not ours to drop."""
    layer, far = layer_of(world_of()), Far(lambda: NoRoute("no provider is left"))
    await ill_provider(layer)
    with pytest.raises(NoRoute):
        await layer(call_of(body={"provider": {"ignore": ["Ill"]}}), far)
    assert [["Ill"]] == far.ignored


# --- the last resort ----------------------------------------------------------------------------------


@virtual
async def test_who_has_nobody_else_left_may_probe_once_a_second() -> None:
    """An open circuit then admits one call ahead of its time; it is no excuse for a provider that is ill."""
    layer, far = layer_of(world_of()), Far(fails())
    await ill_provider(layer)
    await opened(layer)
    seen = []
    for _ in range(4):
        call = call_of(last=True).hang(PROBE, True)
        with pytest.raises((ServerError, CircuitOpen)) as caught:
            await layer(call, far)
        seen.append(type(caught.value))
        await asyncio.sleep(0.6)
    assert [ServerError, CircuitOpen, ServerError, CircuitOpen] == seen
    assert [["Ill"], ["Ill"]] == far.ignored


@virtual
async def test_a_chain_passes_an_open_model_by_and_probes_when_all_are_open() -> None:
    """With fallback above: the next model serves; when all are open the soonest is asked at once."""
    world = world_of(upstreams={"openrouter": Target("openrouter", "", "key")})
    ill: set[str] = {"one"}
    asked: list[str] = []

    async def far(call: Call) -> Reply:
        asked.append(call.target.model)
        return await Far(fails() if call.target.model in ill else Says())(call)

    chain = FallbackOptions(models=("one", "two")).build(world)
    pipeline = Pipeline([chain, layer_of(world)], far)
    for _ in range(5):
        await (await pipeline(call_of())).completion()
    del asked[:]
    await (await pipeline(call_of())).completion()
    assert ["two"] == asked
    await asyncio.sleep(2.0)
    ill.add("two")
    for _ in range(5):
        with pytest.raises(ServerError):
            await pipeline(call_of())
    ill.clear()
    del asked[:]
    await (await pipeline(call_of())).completion()
    assert ["one"] == asked


# --- modes and state ----------------------------------------------------------------------------------


@virtual
async def test_metrics_only_counts_and_never_refuses() -> None:
    """Failures are shown, everything passes, no provider is left out."""
    world, far = world_of(), Far(fails("Ill"))
    layer = layer_of(world, mode="metrics_only")
    for _ in range(20):
        await ask(layer, far)
    assert [[]] * 20 == far.ignored
    shown = world.health.show(world.clock.now())["breaker"]
    assert {"openrouter/acme/big": 20, "openrouter/acme/big@Ill": 20} == {
        subject: state["failures"] for subject, state in shown.items()
    }


@virtual
async def test_forced_open_refuses_everything() -> None:
    """And the refusal names the mode."""
    far = Far(Says())
    with pytest.raises(CircuitOpen, match="acme/big .*forced_open"):
        await layer_of(world_of(), mode="forced_open")(call_of(), far)
    assert [] == far.calls


@virtual
async def test_disabled_does_nothing() -> None:
    """Nothing is refused and nothing is remembered."""
    world, far = world_of(), Far(fails())
    for _ in range(20):
        await ask(layer_of(world, mode="disabled"), far)
    assert 20 == len(far.calls)
    assert {} == world.health.show(0.0)


@virtual
async def test_layers_share_what_they_know_only_under_the_same_options() -> None:
    """Two policies with the same breaker share its state, ill providers too; another setting has its own."""
    world, far = world_of(), Far(Says())
    await ill_provider(layer_of(world))
    await ask(layer_of(world), far)
    await ask(layer_of(world, consecutive=4), far)
    assert [["Ill"], []] == far.ignored


@virtual
async def test_each_key_upstream_and_model_has_its_own_circuit() -> None:
    """One that is open refuses no other."""
    world, far = world_of(), Far(Says())
    layer = layer_of(world)
    await opened(layer)
    for target in (Target("spare", "acme/big", "key"), Target("openrouter", "acme/small", "key")):
        await ask(layer, far, target=target)
    await ask(layer, far, target=Target("openrouter", "acme/big", "other"))
    assert 3 == len(far.calls)


@pytest.mark.parametrize("text", ["", "@Ill", "acme/big"])
def test_a_reset_forgets(text: str) -> None:
    """Who was told to forget a provider asks it again at once."""

    async def scene() -> None:
        world, far = world_of(), Far(Says())
        layer = layer_of(world)
        await ill_provider(layer)
        world.health.reset(text)
        await ask(layer, far)
        assert [[]] == far.ignored

    run_virtual(scene())


# --- options ------------------------------------------------------------------------------------------


def test_a_first_pause_longer_than_the_longest_is_an_error() -> None:
    """The message names both options and what to set."""
    with pytest.raises(ValidationError, match=r"open \(20s\) is longer than max_open_with_fallback \(15s\): set"):
        BreakerOptions.model_validate({"open": "20s"})
    options = BreakerOptions.model_validate({"open": "20s", "max_open_with_fallback": "20s"})
    assert 20.0 == options.rules().open


@pytest.mark.parametrize(("slow", "patience"), [("10s", 60.0), ("90s", 180.0), (None, 60.0)])
def test_a_probe_may_take_twice_what_is_slow_and_a_minute_at_least(slow: str | None, patience: float) -> None:
    """The patience with a probe follows `slow`."""
    assert patience == BreakerOptions.model_validate({"slow": slow}).rules().patience


# --- any history --------------------------------------------------------------------------------------

ACTS: list[Act] = [
    Says(),
    Says("Ill", first=2.0, words=3, every=1.0),
    Says("Ill", words=40, every=0.25, breaks=True),
    Says(words=2, every=1.0, breaks=True),
    fails("Ill"),
    fails(),
    lambda: Overloaded("busy", retry_after=3.0),
    lambda: NoRoute("nobody"),
    lambda: RateLimited("slower"),
]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(ACTS), st.sampled_from([0.0, 1.0, 7.0]), st.sampled_from([None, 0.0, 0.5, 1.0, 4.0]),
            st.sampled_from([1, ALL]), st.booleans(),
        ),
        min_size=10, max_size=60,
    )
)  # fmt: skip
def test_no_permit_is_lost_whatever_happens(history: list[tuple[Act, float, float | None, int, bool]]) -> None:
    """Calls come, fail, break and are cancelled in any order: in the end no circuit waits for a probe."""

    async def scene() -> None:
        world = world_of()
        layer, tasks = layer_of(world), []
        for act, pause, cancel, buffer, early in history:
            extras = {PROBE: True} if early else {}
            task = asyncio.create_task(any_end(layer, Far(act), buffer=buffer, extras=extras))
            if cancel is not None:
                asyncio.get_running_loop().call_later(cancel, task.cancel)
            tasks.append(task)
            await asyncio.sleep(pause)
        await asyncio.wait(tasks)
        assert [] == [str(subject) for subject, circuit in world.health.each(CIRCUIT) if circuit.probing]

    run_virtual(scene())


async def any_end(layer: Breaker, far: Far, **fields: object) -> None:
    try:
        await ask(layer, far, **fields)
    except (NoRoute, RateLimited, Overloaded):
        pass
    finally:
        assert far.open == 0
