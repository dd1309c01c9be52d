"""The router for code without an event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from orrouter.core.errors import PolicyError, RouterError, ServerError, StreamBroken, UpstreamError
from orrouter.core.tags import tags
from orrouter.sync import Router
from orrouter.testkit.script import EOF, SENT, Finish, ScriptedTransport
from orrouter.testkit.server import FakeOpenRouter
from orrouter.testkit.speech import CANONICAL

HELLO = [{"role": "user", "content": "Hello"}]
GPT = "openai/gpt-4o"
NEVER = [SENT, 3600.0, "late", Finish()]


def policy_of(url: str) -> dict:
    return {
        "version": 1,
        "upstreams": {"openrouter": {"base_url": url, "api_key": "sk-or-v1-0123456789abcdef"}},
        "routes": [{"policy": "default"}],
        "policies": {"default": [{"deadline": {"total": "60s"}}]},
    }


def over(far) -> Router:
    return Router.from_policy(policy_of("http://far.invalid/v1"), transport=far)


def thread_of(router: Router) -> threading.Thread:
    thread = router._loop._thread
    assert thread is not None
    return thread


@pytest.fixture
def fake():
    with FakeOpenRouter(speed=1_000) as running:
        yield running


@pytest.fixture
def router(fake):
    with Router.from_policy(policy_of(fake.url)) as built:
        yield built


def test_a_chat_is_answered(router):
    """The completion is the one that the asynchronous router gives."""
    done = router.chat(HELLO, model=GPT, request_id="mine")
    assert (CANONICAL, "OpenAI", "mine") == (done.text, done.provider, done.request_id)


def test_a_stream_is_read_in_a_for_loop(router):
    """Its events, and the whole of it behind the last one."""
    with router.stream(HELLO, model=GPT) as events:
        said = "".join(event.text for event in events)
    assert (CANONICAL, CANONICAL, "stop") == (said, events.completion.text, events.finish_reason)


def test_a_stream_that_breaks_raises_what_broke_it():
    """With what was said until then."""
    with over(ScriptedTransport({"a/b": [[SENT, "one ", EOF]]})) as router, router.stream(HELLO, model="a/b") as events:
        with pytest.raises(StreamBroken) as caught:
            list(events)
    assert ("one ", "one ") == (caught.value.partial, events.partial)


def test_a_stream_left_early_is_let_go():
    """Nothing is open when its `with` is left."""
    far = ScriptedTransport({"a/b": "one two three"})
    with over(far) as router:
        with router.stream(HELLO, model="a/b") as events:
            first = next(events).text
        assert ("one ", 0) == (first, far.open)


def test_a_stream_that_is_not_read_to_its_end_has_no_completion():
    """It says so."""
    with over(ScriptedTransport({"a/b": "one two"})) as router, router.stream(HELLO, model="a/b") as events:
        next(events)
        with pytest.raises(RouterError, match="has not been read to its end"):
            _ = events.completion


def test_an_error_is_raised_as_it_is():
    """Class, message and record."""
    with over(ScriptedTransport({"a/b": ServerError("it broke")})) as router:
        with pytest.raises(ServerError, match="it broke") as caught:
            router.chat(HELLO, model="a/b")
    assert 1 == len(caught.value.attempts)


def test_embeddings_and_completions(router):
    """The other two endpoints."""
    vectors = router.embeddings("one", model="openai/text-embedding-3-small", dimensions=3).raw["data"]
    assert (3, CANONICAL) == (len(vectors[0]["embedding"]), router.completions("Hi", model=GPT).text)


def test_what_the_upstream_tells(router):
    """Models, endpoints, a generation, credits and the key."""
    done = router.chat(HELLO, model=GPT)
    assert GPT in {model.id for model in router.models()}
    assert "OpenAI" in {endpoint.provider_name for endpoint in router.endpoints(GPT)}
    assert done.id == router.generation(done.id)["id"]
    assert {"total_credits", "total_usage"} <= router.credits().keys()
    assert "usage" in router.key()


def test_a_generation_that_is_not_known_is_an_error(router):
    """As with the asynchronous router."""
    with pytest.raises(UpstreamError, match="gen-none not found"):
        router.generation("gen-none")


def test_health_and_readiness(router):
    """What is known, forgotten and asked."""
    assert (True, {}, 0) == (
        bool(router.ready()),
        router.health().get("no such kind", {}),
        router.reset_health("nobody"),
    )


def test_a_changed_policy_is_taken(tmp_path):
    """`reload` reads the file again; a wrong one changes nothing."""
    file = tmp_path / "policy.yaml"
    text = "version: 1\nupstreams:\n  far:\n    base_url: http://far.invalid/v1\nroutes:\n  - {policy: NAME}\npolicies:\n  NAME:\n    - deadline: {total: 9s}\n"
    file.write_text(text.replace("NAME", "one"))
    with Router.from_file(file, env={}, transport=ScriptedTransport({})) as router:
        file.write_text(text.replace("NAME", "two"))
        router.reload()
        file.write_text("version: 1\nwrong: true\n")
        with pytest.raises(PolicyError):
            router.reload()
        assert ["two"] == list(router.policy.stacks)


def test_a_router_without_a_file(fake):
    """By the environment's words."""
    env = {"OPENROUTER_API_KEY": "sk-or-v1-0123456789abcdef", "OPENROUTER_BASE_URL": fake.url}
    with Router.from_env(env=env) as router:
        assert CANONICAL == router.chat(HELLO, model=GPT).text


def test_many_threads_share_one_router(router, fake):
    """Each gets its own answer."""

    def ask(number: int) -> str | None:
        return router.chat(HELLO, model=GPT, request_id=f"call-{number}").request_id

    with ThreadPoolExecutor(8) as pool:
        answered = list(pool.map(ask, range(40)))
    assert ([f"call-{number}" for number in range(40)], 40) == (answered, len(fake.requests))


def test_tags_of_the_context_travel():
    """Those of the thread that asks, over a call and over a stream."""
    far = ScriptedTransport({"a/b": "hi"})
    with over(far) as router:
        with tags(team="search"):
            router.chat(HELLO, model="a/b")
            with router.stream(HELLO, model="a/b", tags={"tier": "batch"}):
                pass
        router.chat(HELLO, model="a/b")
    assert [{"team": "search"}, {"team": "search", "tier": "batch"}, {}] == [dict(one.call.tags) for one in far.tries]


async def test_where_an_event_loop_runs_it_says_what_to_use():
    """It would block that loop."""
    router = over(ScriptedTransport({"a/b": "hi"}))
    with pytest.raises(RouterError, match=r"would block the event loop that runs here: use orrouter\.Router"):
        router.chat(HELLO, model="a/b")


def test_a_listener_that_asks_again_is_told_so_too():
    """Facts are told in the router's own loop, which a call from there would stop for ever."""
    seen: list[BaseException] = []

    def listen(fact) -> None:
        if not seen:
            try:
                router.chat(HELLO, model="a/b")
            except RouterError as error:
                seen.append(error)

    far = ScriptedTransport({"a/b": "hi"})
    with Router.from_policy(policy_of("http://far.invalid/v1"), transport=far, on_fact=listen) as router:
        router.chat(HELLO, model="a/b")
    assert "would block" in str(seen[0])


@pytest.fixture(autouse=True)
def ctrl_c():
    """Ctrl-C interrupts, also where the tests were started in the background and it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupting() -> ScriptedTransport:
    """A far end at which the first call is interrupted by Ctrl-C while it waits."""

    def act(call):
        if len(far.tries) > 1:
            return "hi"
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return NEVER

    far = ScriptedTransport(act)
    return far


async def until_closed(far: ScriptedTransport) -> int:
    """How many replies stay open, once the loop has had its turns."""
    async with asyncio.timeout(5):
        while far.open:  # noqa: ASYNC110  # a script has no event to wait for
            await asyncio.sleep(0)
    return far.open


def test_an_interrupt_cancels_the_call():
    """The call is over, and the router answers the next."""
    far = interrupting()
    with over(far) as router:
        with pytest.raises(KeyboardInterrupt):
            router.chat(HELLO, model="a/b")
        assert 0 == router.run(until_closed(far))
        assert "hi" == router.chat(HELLO, model="a/b").text


def test_an_interrupt_ends_a_stream():
    """Also before its first word."""
    far = interrupting()
    with over(far) as router:
        with pytest.raises(KeyboardInterrupt), router.stream(HELLO, model="a/b"):
            pytest.fail("the stream has no first word")
        assert 0 == router.run(until_closed(far))
        assert "hi" == router.chat(HELLO, model="a/b").text


def test_a_closed_router_takes_no_calls():
    """Also one that was never used; closing again does nothing."""
    used, unused = over(ScriptedTransport({"a/b": "hi"})), over(ScriptedTransport({}))
    used.chat(HELLO, model="a/b")
    for router in (used, unused):
        router.close()
        router.close()
        with pytest.raises(RouterError, match="is closed: build a new one"):
            router.chat(HELLO, model="a/b")


def test_closing_ends_the_thread():
    """Nothing is left behind."""
    router = over(ScriptedTransport({"a/b": "hi"}))
    router.chat(HELLO, model="a/b")
    router.close()
    assert not thread_of(router).is_alive()


def test_closing_ends_a_call_that_waits():
    """Whoever waits in another thread is told, and nothing stays open."""
    asked = threading.Event()
    far = ScriptedTransport(lambda call: asked.set() or NEVER)
    router = over(far)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(router.chat, HELLO, model="a/b")
        asked.wait()
        router.close(drain=0)
        with pytest.raises(RouterError, match="closed while the call was under way"):
            waiting.result()
    assert 0 == far.open


def test_a_stream_outlived_by_nobody():
    """Left after its router was closed, it raises nothing; read, it says that the router is closed."""
    router = over(ScriptedTransport({"a/b": "one two three"}))
    with router.stream(HELLO, model="a/b") as events:
        router.close(drain=0)
        with pytest.raises(RouterError, match="is closed"):
            next(events)


def test_a_forgotten_router_ends_its_thread():
    """Dropped without `close`, it leaves no thread."""
    router = over(ScriptedTransport({"a/b": "hi"}))
    router.chat(HELLO, model="a/b")
    thread = thread_of(router)
    del router
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


def test_a_program_that_never_closes_ends_without_a_word(fake):
    """No warning of an open session, no traceback of a dying thread."""
    program = (
        "from orrouter.sync import Router\n"
        f"router = Router.from_policy({policy_of(fake.url)!r})\n"
        f"print(router.chat({HELLO!r}, model={GPT!r}).finish_reason)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "always", "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (0, "stop\n", "") == (ran.returncode, ran.stdout, _without_slowness(ran.stderr))


def _without_slowness(text: str) -> str:
    """Without what asyncio's debug mode says of a slow machine."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("Executing <"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("used", [False, True])
def test_a_forked_child_is_told_to_build_its_own(used):
    """The thread stays with the parent, so the child would wait for ever."""
    router = over(ScriptedTransport({"a/b": "hi"}))
    if used:
        router.chat(HELLO, model="a/b")
    told, tell = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of a fork beside threads
        child = os.fork()
    if child == 0:
        try:
            router.chat(HELLO, model="a/b")
        except RouterError as error:
            os.write(tell, str(error).encode())
        finally:
            router.close()
            os._exit(0)
    os.waitpid(child, 0)
    said = os.read(told, 1000).decode()
    os.close(told)
    os.close(tell)
    router.close()
    assert "this Router was built before the process forked: build one after it, in each child" == said
