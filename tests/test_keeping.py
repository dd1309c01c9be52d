"""What a router keeps: the calls under way, its transports, and the catalog beside them."""

from __future__ import annotations

import asyncio
import gc
import random
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

import orrouter
from orrouter.catalog.catalog import Catalog
from orrouter.core.call import Target
from orrouter.core.clock import LoopClock
from orrouter.core.errors import Overloaded, RouterError, StreamBroken
from orrouter.core.facts import CallStarted, CatalogKept, CatalogRefreshed, Fact
from orrouter.keeping import FIRST_REFRESH_S, REFRESH_S, keep_catalog
from orrouter.middleware.base import World
from orrouter.router import DRAIN_S, Router
from orrouter.testkit.clock import VirtualClock, virtual
from orrouter.testkit.script import SENT, Finish, ScriptedTransport
from orrouter.testkit.server import FakeOpenRouter
from orrouter.testkit.speech import CANONICAL
from orrouter.testkit.table import FakeModel, FakeProvider

ROOT = Path(__file__).parent.parent
HELLO = [{"role": "user", "content": "Hello"}]
GPT = "openai/gpt-4o"
KEY = "sk-or-v1-0123456789abcdef"
SLOW = [SENT, 5.0, "done", Finish()]


def policy_of(url: str = "http://far.invalid/v1", *stack: dict) -> dict:
    upstreams = {"openrouter": {"base_url": url, "api_key": KEY}}
    return {
        "version": 1,
        "upstreams": upstreams,
        "policies": {"default": list(stack) or [{"deadline": {"total": "60s"}}]},
    }


class Closing(ScriptedTransport):
    """A far end that counts how often it was closed."""

    closed = 0

    async def aclose(self) -> None:
        self.closed += 1


def over(far: ScriptedTransport, *stack: dict, **options: object) -> Router:
    return Router.from_policy(policy_of("http://far.invalid/v1", *stack), transport=far, **options)


def now() -> float:
    return asyncio.get_running_loop().time()


def open_sessions() -> int:
    """Aiohttp sessions of this process that nobody has closed."""
    return sum(isinstance(one, aiohttp.ClientSession) and not one.closed for one in gc.get_objects())


# --- closing --------------------------------------------------------------------------------------------


@virtual
async def test_closing_waits_for_the_calls_under_way():
    """As long as they need, when that is less than the drain."""
    router = over(ScriptedTransport({"a/b": [SLOW]}))
    calls = [asyncio.create_task(router.chat(HELLO, model="a/b")) for _ in range(3)]
    await asyncio.sleep(1)
    await router.aclose(drain=10)
    assert (5.0, ["done"] * 3) == (now(), [(await call).text for call in calls])


@virtual
async def test_closing_waits_no_longer_than_it_may():
    """A call that outlives the drain asks nobody again: its retry is refused, and says why."""
    far = ScriptedTransport({"a/b": [[SENT, 5.0, Overloaded("busy")], "too late"]})
    router = over(far, {"retry": {}})
    call = asyncio.create_task(router.chat(HELLO, model="a/b"))
    await asyncio.sleep(1)
    await router.aclose(drain=2)
    closed_at = now()
    with pytest.raises(RouterError, match="this Router was closed while the call was under way") as caught:
        await call
    assert (3.0, 1, 0) == (closed_at, len(far.tries), far.open)
    assert "router_error" == caught.value.record.outcome


@virtual
async def test_a_stream_is_under_way_until_it_is_read_or_left():
    """Closing waits for its reader, and not for its upstream."""
    router = over(ScriptedTransport({"a/b": "one two"}))

    async def read() -> None:
        async with router.stream(HELLO, model="a/b") as events:
            async for _ in events:
                await asyncio.sleep(2)

    reader = asyncio.create_task(read())
    await asyncio.sleep(1)
    await router.aclose(drain=10)
    assert now() in (4.0, 6.0)
    await reader


@virtual
async def test_a_closed_router_takes_no_calls():
    """Also while it drains; each way to ask says the same, and `ready` tells it."""
    router = over(ScriptedTransport({"a/b": [SLOW]}))
    call = asyncio.create_task(router.chat(HELLO, model="a/b"))
    await asyncio.sleep(1)
    closing = asyncio.create_task(router.aclose())
    await asyncio.sleep(1)
    for ask in (router.chat(HELLO, model="a/b"), router.stream(HELLO, model="a/b").__aenter__(), router.models()):
        with pytest.raises(RouterError, match="this Router is closed: build a new one"):
            await ask
    await closing
    ready = await router.ready()
    assert ("done", False) == ((await call).text, ready.ok)
    assert "this Router is closed: build a new one" == ready.checks[0].detail


@virtual
async def test_a_closed_router_is_not_reloaded(tmp_path):
    """It says so, and nothing is built."""
    file = tmp_path / "policy.yaml"
    file.write_text(
        "version: 1\nupstreams: {far: {base_url: 'http://far.invalid/v1'}}\npolicies: {default: [{retry: {}}]}\n"
    )
    router = Router.from_file(file, env={}, transport=ScriptedTransport({}))
    await router.aclose()
    with pytest.raises(RouterError, match="this Router is closed"):
        router.reload()


@virtual
async def test_closing_twice_is_closing_once():
    """One after the other, side by side, and before anything was asked."""
    far = Closing({"a/b": [SLOW]})
    router = over(far)
    call = asyncio.create_task(router.chat(HELLO, model="a/b"))
    await asyncio.sleep(1)
    await asyncio.gather(router.aclose(8), router.aclose(8))
    both_at = now()
    await router.aclose()
    unused = over(Closing({}))
    await unused.aclose()
    await unused.aclose()
    assert (5.0, "done", 1) == (both_at, (await call).text, far.closed)


@virtual
async def test_an_impatient_close_ends_a_patient_one():
    """What the first still waits for, the second cuts; the first then has nothing to wait for."""
    far = ScriptedTransport({"a/b": [[SENT, 5.0, Overloaded("busy")]]})
    router = over(far, {"retry": {"initial": "1ms"}})
    call = asyncio.create_task(router.chat(HELLO, model="a/b"))
    await asyncio.sleep(1)
    patient = asyncio.create_task(router.aclose(100))
    await asyncio.sleep(1)
    await router.aclose(0)
    with pytest.raises(RouterError, match="closed while the call was under way"):
        await call
    await patient
    assert 10 > now()


@virtual
async def test_leaving_by_an_exception_does_not_drain():
    """Whoever failed wants to be gone; whoever leaves in order waits."""
    far = ScriptedTransport({"a/b": [[SENT, 3600.0, "late", Finish()]]})
    calls = []
    with pytest.raises(ZeroDivisionError):
        async with over(far) as router:
            calls.append(asyncio.create_task(router.chat(HELLO, model="a/b")))
            await asyncio.sleep(1)
            raise ZeroDivisionError
    failed_at = now()
    async with over(far) as router:
        calls.append(asyncio.create_task(router.chat(HELLO, model="a/b")))
        await asyncio.sleep(1)
    assert (1.0, 2.0 + DRAIN_S) == (failed_at, now())
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)


@virtual
async def test_a_close_that_is_cancelled_lets_go_all_the_same():
    """No connection is left open by an impatient caller."""
    far = Closing({"a/b": [SLOW]})
    router = over(far)
    call = asyncio.create_task(router.chat(HELLO, model="a/b"))
    await asyncio.sleep(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await router.aclose(100)
    assert (2.0, 1) == (now(), far.closed)
    await call


@pytest.mark.parametrize("waiting", [True, False])
async def test_a_stream_left_open_is_cut_and_never_ends_as_if_it_were_whole(waiting):
    """Its reader gets an error with what had been said, whether it waits at that moment or comes later."""
    async with FakeOpenRouter() as fake:
        fake.always(GPT, "stall:5")
        router = Router.from_policy(policy_of(fake.url))
        async with router.stream(HELLO, model=GPT) as events:
            said = [(await anext(events)).text for _ in range(5)]
            reader = asyncio.create_task(_rest(events))
            for _ in range(10 * waiting):
                await asyncio.sleep(0)
            await router.aclose(drain=0)
            with pytest.raises(StreamBroken) as caught:
                await reader
    assert caught.value.partial.startswith("".join(said))
    assert caught.value.partial != CANONICAL


async def _rest(events) -> list[str]:
    return [event.text async for event in events]


async def test_a_chat_that_outlives_the_drain_fails_and_asks_nobody_again():
    """The upstream sees one request, and no session stays open."""
    before = open_sessions()
    async with FakeOpenRouter() as fake:
        fake.always(GPT, "silent")
        router = Router.from_policy(policy_of(fake.url, {"retry": {"initial": "1ms"}}))
        call = asyncio.create_task(router.chat(HELLO, model=GPT))
        await fake.arrived(1)
        await router.aclose(drain=0)
        with pytest.raises(RouterError):
            await call
        assert (1, before) == (len(fake.requests), open_sessions())


# --- reloading ------------------------------------------------------------------------------------------


def _file(tmp_path, url: str) -> Path:
    file = tmp_path / "policy.yaml"
    file.write_text(
        f"version: 1\nupstreams: {{openrouter: {{base_url: '{url}', api_key_file: '{tmp_path}/key'}}}}\n"
        "policies: {default: [{deadline: {total: 60s}}]}\n"
    )
    (tmp_path / "key").write_text(KEY)
    return file


async def test_many_reloads_leave_one_session(tmp_path):
    """That of each policy before is closed once its calls are over."""
    before = open_sessions()
    async with FakeOpenRouter() as fake, Router.from_file(_file(tmp_path, fake.url), env={}) as router:
        for _ in range(20):
            await router.chat(HELLO, model=GPT)
            router.reload()
        await router.chat(HELLO, model=GPT)
        assert before + 1 == open_sessions()
    assert before == open_sessions()


async def test_a_stream_ends_as_it_began_over_a_reload(tmp_path):
    """Its session is closed behind it; the next call has one of its own."""
    before = open_sessions()
    async with FakeOpenRouter() as fake, Router.from_file(_file(tmp_path, fake.url), env={}) as router:
        async with router.stream(HELLO, model=GPT) as events:
            first = await anext(events)
            router.reload()
            await router.chat(HELLO, model=GPT)
            both = open_sessions()
            said = first.text + "".join([event.text async for event in events])
        await asyncio.sleep(0)
        assert (CANONICAL, before + 2, before + 1) == (said, both, open_sessions())


async def test_closing_closes_what_calls_under_way_still_use(tmp_path):
    """Also a transport that a reload has retired."""
    before = open_sessions()
    async with FakeOpenRouter() as fake:
        fake.always(GPT, "silent")
        router = Router.from_file(_file(tmp_path, fake.url), env={})
        call = asyncio.create_task(router.chat(HELLO, model=GPT))
        await fake.arrived(1)
        router.reload()
        await router.aclose(drain=0)
        with pytest.raises(RouterError):
            await call
    assert before == open_sessions()


@virtual
async def test_a_transport_that_was_handed_in_is_closed_once(tmp_path):
    """At the end, however often the policy changed."""
    far = Closing({"a/b": "hi"})
    async with Router.from_file(_file(tmp_path, "http://far.invalid"), env={}, transport=far) as router:
        for _ in range(3):
            await router.chat(HELLO, model="a/b")
            router.reload()
        open_still = far.closed
    assert (0, 1) == (open_still, far.closed)


# --- at home in one loop and one process ----------------------------------------------------------------


def test_a_router_belongs_to_the_loop_of_its_first_call():
    """Another one is told what to do; closing from there, with the first loop gone, is allowed."""
    far = Closing({"a/b": "hi"})
    router = over(far)
    assert "hi" == asyncio.run(router.chat(HELLO, model="a/b")).text
    with pytest.raises(RouterError, match="belongs to another event loop: build one in each loop"):
        asyncio.run(router.chat(HELLO, model="a/b"))
    asyncio.run(router.aclose())
    assert 1 == far.closed


async def test_a_router_at_work_in_another_loop_is_not_closed_from_here():
    """The connections are that loop's; nothing is closed."""
    far = Closing({"a/b": "hi"})
    router = over(far)
    await router.chat(HELLO, model="a/b")
    with pytest.raises(RouterError, match="at work in another event loop: close it there"):
        await asyncio.to_thread(asyncio.run, router.aclose())
    assert ("hi", 0) == ((await router.chat(HELLO, model="a/b")).text, far.closed)
    await router.aclose()


FORKED = """
import asyncio, os, sys
from orrouter.router import Router

router = Router.from_policy(POLICY)
loop = asyncio.new_event_loop()
loop.run_until_complete(router.chat(HELLO, model=GPT))
stuck = loop.create_task(router.chat(HELLO, model="fault/silent"))
loop.run_until_complete(asyncio.sleep(0.1))
if os.fork() == 0:
    for home in (loop, asyncio.new_event_loop()):
        try:
            home.run_until_complete(router.chat(HELLO, model=GPT))
        except Exception as error:
            print(type(error).__name__, error, flush=True)
    home.run_until_complete(router.aclose(drain=600))
    print("closed", flush=True)
    os._exit(0)
os.wait()
stuck.cancel()
print("parent", loop.run_until_complete(router.chat(HELLO, model=GPT)).finish_reason)
loop.run_until_complete(router.aclose(drain=0))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="this system does not fork")
def test_a_forked_child_is_told_to_build_its_own():
    """In the parent's loop and in one of its own; it closes at once, and the parent goes on."""
    with FakeOpenRouter.in_thread() as fake:
        ran = _run(FORKED.replace("POLICY", repr(policy_of(fake.url))))
    told = "RouterError this Router was used before the process forked: build one after the fork, in each child"
    assert [told, told, "closed", "parent stop"] == ran.stdout.splitlines()


def _run(program: str) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, which must end by itself."""
    text = program.replace("HELLO", repr(HELLO)).replace("GPT", repr(GPT))
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )


# --- the catalog ----------------------------------------------------------------------------------------


class Gated(LoopClock):
    """A clock whose sleeps end when the test says so; `slept` tells how long each was to be."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._gate = asyncio.Semaphore(0)
        self._asleep = asyncio.Event()

    async def sleep(self, delay: float) -> None:
        self.slept.append(delay)
        self._asleep.set()
        await self._gate.acquire()

    async def next(self) -> None:
        """End this sleep and wait for the next."""
        await self._asleep.wait()
        self._asleep.clear()
        self._gate.release()
        await self._asleep.wait()


async def test_the_catalog_is_refreshed_beside_the_calls():
    """After a second and then every hour or so; swapped whole, told as a fact."""
    facts: list[Fact] = []
    clock = Gated()
    async with (
        FakeOpenRouter() as fake,
        Router.from_policy(policy_of(fake.url), clock=clock, on_fact=facts.append) as router,
    ):
        bundled = router.world.catalog.bundled
        await router.chat(HELLO, model=GPT)
        await clock.next()
        listed = len(router.world.catalog)
        fake.add_model(FakeModel("new/model", (FakeProvider("New", "new"),)))
        await clock.next()
        new = router.world.catalog.get("new/model")
    told = [fact for fact in facts if isinstance(fact, CatalogRefreshed)]
    assert (True, False, "live") == (bundled, router.world.catalog.bundled, router.world.catalog.source)
    assert (listed, listed + 1, "new/model") == (told[0].models, told[1].models, new.id)
    assert FIRST_REFRESH_S == clock.slept[0]
    assert all(0.9 * REFRESH_S <= pause <= 1.1 * REFRESH_S for pause in clock.slept[1:])


async def test_the_catalog_is_kept_when_the_upstream_is_gone():
    """A fact says why, and the next round tries again."""
    facts: list[Fact] = []
    clock = Gated()
    async with (
        FakeOpenRouter() as fake,
        Router.from_policy(policy_of(fake.url), clock=clock, on_fact=facts.append) as router,
    ):
        await router.chat(HELLO, model=GPT)
        await clock.next()
        before = router.world.catalog.models()
        await fake.stop()
        await clock.next()
        kept = router.world.catalog.models()
        await fake.start()
        await clock.next()
    told = [type(fact) for fact in facts if isinstance(fact, CatalogRefreshed | CatalogKept)]
    assert [CatalogRefreshed, CatalogKept, CatalogRefreshed] == told
    assert before == kept


async def test_the_refresh_bears_no_tags_of_the_first_call():
    """Else the first caller's route would be that of every refresh to come."""
    facts: list[Fact] = []
    clock = Gated()
    async with (
        FakeOpenRouter() as fake,
        Router.from_policy(policy_of(fake.url), clock=clock, on_fact=facts.append) as router,
    ):
        with orrouter.tags(team="search"):
            await router.chat(HELLO, model=GPT)
        await clock.next()
    tags = [(fact.endpoint, fact.tags) for fact in facts if isinstance(fact, CallStarted)]
    assert [("chat/completions", {"team": "search"}), ("models", {})] == tags


async def test_the_list_is_asked_of_an_upstream_that_publishes_one():
    """The first that speaks as OpenRouter does, wherever it stands; where none does, nobody is asked."""
    clock = Gated()
    async with FakeOpenRouter() as fake:
        policy = policy_of(fake.url)
        spare = {"base_url": "http://spare.invalid/v1", "api_key": KEY, "dialect": "openai"}
        policy["upstreams"] = {"spare": spare, **policy["upstreams"]}
        policy["policies"]["default"] = [{"fallback": {"models": [{"model": GPT, "upstream": "openrouter"}]}}]
        async with Router.from_policy(policy, clock=clock) as router:
            await router.chat(HELLO)
            await clock.next()
            assert not router.world.catalog.bundled
        policy["upstreams"] = {"openrouter": {**policy["upstreams"]["openrouter"], "dialect": "openai"}}
        async with Router.from_policy(policy, clock=clock) as router:
            before = len(fake.lookups)
            await router.chat(HELLO)
            await asyncio.sleep(0)
            assert before == len(fake.lookups)


def _beside() -> set[str]:
    """The names of the tasks that a router runs here."""
    return {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("orrouter")}


@virtual
async def test_nothing_is_refreshed_over_a_transport_that_was_handed_in():
    """A test asks for what it asks for."""
    far = ScriptedTransport({"a/b": "hi"})
    async with over(far) as router:
        await router.chat(HELLO, model="a/b")
        beside = _beside()
        await asyncio.sleep(10_000)
    assert (set(), ["a/b"]) == (beside, far.models)


async def test_closing_ends_the_refresh():
    """Asleep, or in the middle of asking."""
    async with FakeOpenRouter(latency=0.0) as fake:
        for turns in range(12):
            clock = Gated()
            router = Router.from_policy(policy_of(fake.url), clock=clock)
            await router.chat(HELLO, model=GPT)
            clock._gate.release()
            for _ in range(turns):
                await asyncio.sleep(0)
            began = _beside()
            await router.aclose()
            assert ({"orrouter background"}, set()) == (began, _beside())


FORGETFUL = """
import asyncio
from orrouter.router import Router

async def main():
    router = Router.from_policy(POLICY)
    print((await router.chat(HELLO, model=GPT)).finish_reason)

asyncio.run(main())
"""


def test_a_program_that_never_closes_ends_all_the_same():
    """The refresh keeps no process alive, and no task dies loudly."""
    with FakeOpenRouter.in_thread() as fake:
        ran = _run(FORGETFUL.replace("POLICY", repr(policy_of(fake.url))))
    assert "stop\n" == ran.stdout
    assert "Task" not in ran.stderr


@pytest.mark.parametrize(
    "page",
    [
        {"data": []},
        {"data": "no list"},
        {"error": {"code": 500}},
        {"data": [{"id": "a/b", "pricing": {}}]},
        ZeroDivisionError(),
    ],
)
@virtual
async def test_the_catalog_is_kept_when_the_new_list_is_bad(page):
    """Whatever it is; no failure ends the rounds, not even one of the listener."""

    async def fetch(path: str, upstream: str | None) -> dict:
        assert "openrouter" == upstream
        asked.append(now())
        if isinstance(page, Exception):
            raise page
        return page

    def listen(fact: Fact) -> None:
        told.append(fact)
        raise LookupError

    asked: list[float] = []
    told: list[Fact] = []
    upstreams = {"openrouter": Target("openrouter", key="main")}
    world = World(clock=VirtualClock(), random=random.Random(1), catalog=Catalog(()), upstreams=upstreams)
    rounds = asyncio.create_task(keep_catalog(world, fetch, listen))
    await asyncio.sleep(2.2 * REFRESH_S)
    rounds.cancel()
    await asyncio.wait([rounds])
    assert (3, 3, 1.0, 0) == (len(asked), len(told), asked[0], len(world.catalog))
    assert all(isinstance(fact, CatalogKept) and fact.reason for fact in told)
