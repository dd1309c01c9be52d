"""Many calls at once over one router: all are answered, nothing is mixed up, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import orrouter
from orrouter.core.errors import Overloaded, RouterError
from orrouter.core.facts import CallEnded, CallStarted, Fact
from orrouter.router import Router
from orrouter.testkit.clock import VirtualLoop, run_virtual, virtual
from orrouter.testkit.script import SENT, Finish, ScriptedTransport
from orrouter.testkit.server import FakeOpenRouter

HELLO = [{"role": "user", "content": "Hello"}]
GPT = "openai/gpt-4o"
KEY = "sk-or-v1-0123456789abcdef"
STACK = [
    {"deadline": {"total": "60s"}},
    {"fallback": {"models": ["a/b", "c/d"]}},
    {"provider": {"data_collection": "deny"}},
    {"retry": {"initial": "1ms"}},
    {"breaker": {}},
    {"deadline": {"first_token": "15s", "stall": "30s"}},
]


def policy_of(url: str = "http://far.invalid/v1", *models: str) -> dict:
    upstreams = {"openrouter": {"base_url": url, "api_key": KEY}}
    chain = {"fallback": {"models": list(models)}} if models else STACK[1]
    return {"version": 1, "upstreams": upstreams, "policies": {"default": [STACK[0], chain, *STACK[2:]]}}


def echo(ask) -> str:
    """What the far end answers: the words it was asked."""
    return str(ask.body["messages"][-1]["content"])


@contextmanager
def nothing_left() -> Iterator[None]:
    """No file and no task is open behind it that was not before."""
    before = _files(), asyncio.all_tasks()
    yield
    gc.collect()
    assert before == (_files(), asyncio.all_tasks())


def _files() -> set[str]:
    """The numbers of the open files of this process, where the system tells."""
    shelf = Path("/proc/self/fd")
    if not shelf.exists():
        return set()
    return {file.name for file in shelf.iterdir() if file.exists()}


async def test_two_hundred_chats_and_streams_share_one_router():
    """Each gets the answer to its own question, its own id, and its own tags."""
    facts: list[Fact] = []

    async def chat(router: Router, number: int) -> tuple[str, str, dict]:
        with orrouter.tags(number=str(number)):
            done = await router.chat([{"role": "user", "content": f"chat {number}"}], request_id=f"c{number}")
        return done.text, done.request_id, done.record.tags

    async def stream(router: Router, number: int) -> tuple[str, str, dict]:
        with orrouter.tags(number=str(number)):
            asked = router.stream([{"role": "user", "content": f"stream {number}"}], request_id=f"s{number}")
            async with asked as events:
                text = "".join([event.text async for event in events])
        return text, events.completion.request_id, events.completion.record.tags

    with nothing_left():
        async with FakeOpenRouter() as fake:
            fake.answer = echo
            async with Router.from_policy(policy_of(fake.url, GPT), on_fact=facts.append) as router:
                answers = await asyncio.gather(
                    *(chat(router, number) for number in range(200)), *(stream(router, number) for number in range(200))
                )
            asked = len(fake.requests)
    chats = [(f"chat {number}", f"c{number}", {"number": str(number)}) for number in range(200)]
    streams = [(f"stream {number}", f"s{number}", {"number": str(number)}) for number in range(200)]
    assert (chats + streams, 400) == (answers, asked)
    told = Counter((type(fact), fact.request_id) for fact in facts)
    assert {1} == {told[kind, one] for kind in (CallStarted, CallEnded) for _, one, _ in answers}


async def test_failures_side_by_side_do_not_mix():
    """A fifth of the calls finds its model down, and is answered by the next."""
    with nothing_left():
        async with FakeOpenRouter() as fake:
            fake.script(GPT, ["503", "ok", "ok", "ok", "ok"] * 40)
            async with Router.from_policy(policy_of(fake.url, GPT, "anthropic/claude-sonnet-4.5")) as router:
                answers = await asyncio.gather(*(router.chat(HELLO) for _ in range(200)))
    tries = [len(done.record.attempts) for done in answers]
    assert (200, {1, 2}) == (len(answers), set(tries))
    assert all(done.record.attempts[-1].outcome == "ok" for done in answers)


async def test_calls_that_end_in_every_way_leave_nothing_behind():
    """Answered, failed, cancelled, cut by their time, left early, dropped unread."""

    async def left(router: Router) -> None:
        async with router.stream(HELLO) as events:
            async for _ in events:
                return

    async def dropped(router: Router) -> None:
        await router.stream(HELLO).__aenter__()

    with nothing_left():
        async with FakeOpenRouter() as fake:
            fake.always("anthropic/claude-sonnet-4.5", "stall:3600")
            async with (
                Router.from_policy(policy_of(fake.url, GPT)) as router,
                Router.from_policy(policy_of(fake.url, "anthropic/claude-sonnet-4.5")) as slow,
            ):
                works = [
                    *(router.chat(HELLO) for _ in range(20)),
                    *(left(router) for _ in range(20)),
                    *(dropped(router) for _ in range(20)),
                    *(slow.chat(HELLO, timeout=0.05) for _ in range(20)),
                    *(asyncio.wait_for(slow.chat(HELLO), 0.05) for _ in range(20)),
                    *(slow.chat(HELLO, model="no/model") for _ in range(20)),
                ]
                ended = await asyncio.gather(*works, return_exceptions=True)
                gc.collect()
                await asyncio.sleep(0)
                await asyncio.gather(router.aclose(5), slow.aclose(5))
    errors = [type(one).__name__ for one in ended if isinstance(one, BaseException)]
    assert ["DeadlineExceeded"] * 20 + ["TimeoutError"] * 20 + ["ModelNotAllowed"] * 20 == errors


# --- cancelled at every turn ----------------------------------------------------------------------------


async def _chat(router: Router) -> None:
    await router.chat(HELLO)


async def _stream(router: Router) -> None:
    async with router.stream(HELLO) as events:
        async for _ in events:
            await asyncio.sleep(0)


async def _short(router: Router) -> None:
    await router.chat(HELLO, timeout=1.0)


@pytest.mark.parametrize("work", [_chat, _stream, _short])
def test_a_call_cancelled_at_any_turn_is_over(work):
    """Whatever it was doing: waiting, reading, between two targets. Nothing is under way, nothing is open."""
    seen: set[str] = set()
    for turns in range(400):
        ended = run_virtual(_cancelled(work, turns), VirtualLoop())
        seen.add(ended)
        if ended == "done":
            break
    assert {"cancelled", "done"} == seen


async def _cancelled(work: Callable[[Router], Coroutine], turns: int) -> str:
    """Cancel the work so many turns of the loop after it began; how it ended."""
    far = ScriptedTransport(
        {"a/b": [[SENT, 0, 0, Overloaded("busy")]], "c/d": [[SENT, 0, 0, "one ", 0, "two", Finish()]]}
    )
    loop = asyncio.get_running_loop()
    router = Router.from_policy(policy_of(), transport=far, env={})
    task = asyncio.create_task(work(router))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    at = loop.time()
    await router.aclose(drain=1000)
    assert (at, 0) == (loop.time(), far.open)
    return "cancelled" if task.cancelled() else "done"


async def test_chats_cancelled_on_real_sockets_leave_no_connection():
    """At many turns; each time the router drains at once and closes everything."""
    async with FakeOpenRouter() as fake:
        with nothing_left():
            for turns in range(0, 60, 3):
                router = Router.from_policy(policy_of(fake.url, GPT))
                tasks = [asyncio.create_task(work(router)) for work in (_chat, _stream) for _ in range(5)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                async with asyncio.timeout(5):
                    await router.aclose(drain=100)
            await fake.settled()
            await fake.stop()
            await fake.start()


@virtual
async def test_a_call_may_be_made_from_inside_another():
    """A listener, a tool or a stream's reader asks the same router while a call is under way."""
    far = ScriptedTransport({"a/b": "one two three"})
    async with Router.from_policy(policy_of(), transport=far, env={}) as router:
        async with router.stream(HELLO) as events:
            inner = [(await router.chat(HELLO)).text async for event in events if event.text]
    assert ["one two three"] * 3 == inner


@virtual
async def test_closing_while_hundreds_are_under_way_waits_for_all_of_them():
    """And refuses those that come too late."""
    far = ScriptedTransport({"a/b": [[SENT, 2.0, "hi", Finish()]]})
    router = Router.from_policy(policy_of(), transport=far, env={})
    early = [asyncio.create_task(router.chat(HELLO)) for _ in range(300)]
    await asyncio.sleep(1)
    closing = asyncio.create_task(router.aclose(10))
    await asyncio.sleep(0)
    late = await asyncio.gather(*(router.chat(HELLO) for _ in range(10)), return_exceptions=True)
    await closing
    assert (2.0, {"hi"}) == (asyncio.get_running_loop().time(), {(await one).text for one in early})
    assert all(isinstance(one, RouterError) for one in late)
