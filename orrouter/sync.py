"""The router for code without an event loop: the same face, and calls that block.

    with Router.from_file("config/default.yaml") as router:
        print(router.chat([{"role": "user", "content": "Hello"}]).text)

Each router has one event loop in a thread of its own, started at the first call; many threads may share one router.
Law: crossing from a thread to that loop and back. What a call does is the asynchronous router's.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import CancelledError
from decimal import Decimal
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from orrouter import router as asynchronous
from orrouter.asking import Asked
from orrouter.core.errors import RouterError

if TYPE_CHECKING:
    from orrouter.catalog.model import Endpoint, Model
    from orrouter.core.completion import Completion
    from orrouter.core.events import Event
    from orrouter.core.limit import Period
    from orrouter.core.reply import EventStream, Reply
    from orrouter.ledger.base import Balance, Line
    from orrouter.policy.explain import Candidate
    from orrouter.policy.schema import Policy
    from orrouter.readiness import Readiness

T = TypeVar("T")
Messages = asynchronous.Messages
JOIN_S: Final = 5.0
"""How long the thread may take to end: its calls are over by then, only connections are closed."""


class _Errand(Generic[T]):
    """Work that was handed to the loop, and can be given up at any instant: an interrupt asks no leave."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work, self._given_up = work, False
        self._task: asyncio.Task[Any] | None = None

    async def run(self) -> T:
        """Do the work; a task of the loop."""
        self._task = asyncio.current_task()
        if self._given_up:
            self._work.close()
            raise asyncio.CancelledError
        return await self._work

    def abandon(self) -> None:
        """In the loop's thread: end the work, or keep it from beginning."""
        self._given_up = True
        if self._task is not None:
            self._task.cancel()


class LoopThread:
    """An event loop in a daemon thread, started when first needed; `last` is awaited in it before it ends."""

    def __init__(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._last = last
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leave: asyncio.Event | None = None

    @property
    def alive(self) -> bool:
        """Whether the loop runs in this process."""
        return self._loop is not None and not self._closed and self._pid == os.getpid()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` in the loop and wait for it; when the waiting is interrupted, the work is cancelled.

        The caller's context variables, tags among them, travel: asyncio copies them in the thread that hands over.
        """
        errand, loop = _Errand(work), None
        try:
            self._check()
            with self._lock:
                loop = self._started()
                future = asyncio.run_coroutine_threadsafe(errand.run(), loop)
            return future.result()
        except CancelledError:
            raise RouterError("this Router was closed while the call was under way") from None
        except BaseException:
            if loop is None:
                work.close()
            elif not loop.is_closed():
                loop.call_soon_threadsafe(errand.abandon)
            raise

    def let_go(self, close: Callable[[], None]) -> None:
        """Call `close` in the loop and wait for it; where an event loop runs, only post it. Nothing after the end."""
        if not self.alive:
            return
        with self._lock:
            if self._loop is None or self._closed:
                return
            future = asyncio.run_coroutine_threadsafe(_told(close), self._loop)
        if not _in_a_loop():
            future.result()

    def stop(self) -> None:
        """End the loop and its thread. May be repeated; in a forked child there is nothing to end."""
        if self._pid != os.getpid():
            return
        with self._lock:
            first, self._closed = not self._closed, True
            loop, leave, thread = self._loop, self._leave, self._thread
        if loop is None or leave is None or thread is None:
            return
        if first:
            loop.call_soon_threadsafe(leave.set)
        if not _in_a_loop():
            thread.join(JOIN_S)

    def _check(self) -> None:
        if _in_a_loop():
            raise RouterError("orrouter.sync.Router would block the event loop that runs here: use orrouter.Router")
        if self._pid != os.getpid():
            raise RouterError("this Router was built before the process forked: build one after it, in each child")

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise RouterError("this Router is closed: build a new one")
        if self._loop is None:
            ready = threading.Event()
            self._thread = threading.Thread(target=self._main, args=(ready,), name="orrouter", daemon=True)
            self._thread.start()
            ready.wait()
        assert self._loop is not None
        return self._loop

    def _main(self, ready: threading.Event) -> None:
        asyncio.run(self._live(ready))

    async def _live(self, ready: threading.Event) -> None:
        self._leave, self._loop = asyncio.Event(), asyncio.get_running_loop()
        ready.set()
        await self._leave.wait()
        await self._last()


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _told(ask: Callable[[], T]) -> T:
    return ask()


class Router:
    """Calls LLMs as a policy says, and blocks meanwhile. Safe to share between threads; build it after a fork.

    Raises what `orrouter.Router` raises; called where an event loop runs, in a forked child or after `close`, it
    raises RouterError.
    """

    def __init__(self, inner: asynchronous.Router) -> None:
        """`inner` is used by this router alone: it must not have been used in another event loop."""
        self.inner = inner
        self._loop = LoopThread(partial(inner.aclose, 0.0))
        self._forgotten = weakref.finalize(self, self._loop.stop)  # also at exit, so that no connection is left open

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, env: Mapping[str, str] | None = None, **options: Any) -> Self:
        """A router for the policy in a file. Raises PolicyError, which says file, line and column."""
        return cls(asynchronous.Router.from_file(path, env=env, **options))

    @classmethod
    def from_policy(cls, policy: Policy | Mapping[str, Any], **options: Any) -> Self:
        """A router for a policy in the shape of a policy file."""
        return cls(asynchronous.Router.from_policy(policy, **options))

    @classmethod
    def from_env(cls, *, env: Mapping[str, str] | None = None, **options: Any) -> Self:
        """A router without a policy file, by `OPENROUTER_API_KEY` and its like."""
        return cls(asynchronous.Router.from_env(env=env, **options))

    # --- calls ----------------------------------------------------------------------------------------

    def chat(
        self,
        messages: Messages,
        *,
        policy: str | None = None,
        tags: Mapping[str, str] | None = None,
        timeout: float | None = None,
        max_cost: str | None = None,
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
        **body: Any,
    ) -> Completion:
        """Answer `messages` whole; as `orrouter.Router.chat`. `timeout` in seconds."""
        return self.run(
            self.inner.chat(
                messages,
                policy=policy,
                tags=tags,
                timeout=timeout,
                max_cost=max_cost,
                headers=headers,
                request_id=request_id,
                **body,
            )
        )

    def stream(
        self,
        messages: Messages,
        *,
        policy: str | None = None,
        tags: Mapping[str, str] | None = None,
        timeout: float | None = None,
        max_cost: str | None = None,
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
        **body: Any,
    ) -> Streaming:
        """Answer `messages` as they are written: `with router.stream(...) as events: for event in events`."""
        body["messages"] = messages
        return Streaming(self, body, Asked(policy, tags, timeout, max_cost, headers, request_id))

    def embeddings(self, input: Any, **asked: Any) -> Completion:  # noqa: A002  # the field's name upstream
        """Embeddings of a text or several; `raw["data"]` holds the vectors."""
        return self.run(self.inner.embeddings(input, **asked))

    def completions(self, prompt: Any, **asked: Any) -> Completion:
        """The older endpoint that goes on with a text."""
        return self.run(self.inner.completions(prompt, **asked))

    # --- what the upstream tells about itself -----------------------------------------------------------

    def models(self) -> tuple[Model, ...]:
        """The models that the upstream lists now."""
        return self.run(self.inner.models())

    def endpoints(self, model: str) -> tuple[Endpoint, ...]:
        """Who serves a model now, at what price."""
        return self.run(self.inner.endpoints(model))

    def generation(self, generation_id: str) -> dict[str, Any]:
        """What one answer cost and how it was made; known some seconds after the answer."""
        return self.run(self.inner.generation(generation_id))

    def credits(self) -> dict[str, Any]:
        """`total_credits` and `total_usage` of the account, in USD."""
        return self.run(self.inner.credits())

    def key(self) -> dict[str, Any]:
        """Limits and usage of the key, in USD."""
        return self.run(self.inner.key())

    # --- money --------------------------------------------------------------------------------------------

    def estimate(self, messages: Messages, **asked: Any) -> tuple[Candidate, ...]:
        """The most that a call may cost at each target it could be sent to; nothing is sent."""
        return self.inner.estimate(messages, **asked)

    def balances(self, account: str) -> tuple[Balance, ...]:
        """Every window of an account that has a limit, in nano-USD."""
        return self.run(self.inner.balances(account))

    def remaining(self, account: str) -> dict[Period, Decimal]:
        """USD that an account may still spend in each of its windows."""
        return self.run(self.inner.remaining(account))

    def set_limit(self, account: str, **limits: str | None) -> None:
        """Change limits of an account from now on: `set_limit("org", day="$100")`; None: as the policy says."""
        self.run(self.inner.set_limit(account, **limits))

    def spend(self, since: float = 0.0, until: float = float("inf")) -> tuple[Line, ...]:
        """What was paid in hours that begin in `[since, until)`, unix seconds."""
        return self.run(self.inner.spend(since, until))

    def reconcile(self) -> int:
        """Ask now what the tries cost whose answer never told; how many are settled. It is done anyway, later."""
        return self.run(self.inner.reconcile())

    # --- the router itself ------------------------------------------------------------------------------

    def health(self) -> dict[str, dict[str, Mapping[str, Any]]]:
        """What is known of the far end: gates, breakers, retry budgets, each by its subject."""
        return self.run(_told(self.inner.health))

    def reset_health(self, subject: str = "") -> int:
        """Forget what is known of every subject whose name contains `subject`; how many that were."""
        return self.run(_told(partial(self.inner.reset_health, subject)))

    def ready(self) -> Readiness:
        """Ask every upstream that has a key whether it answers and takes the key."""
        return self.run(self.inner.ready())

    def reload(self, path: str | os.PathLike[str] | None = None) -> None:
        """Take a changed policy. Raises PolicyError, and then nothing has changed."""
        self.run(_told(partial(self.inner.reload, path)))

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.inner.policy

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something with `inner`, in its loop, and wait for it."""
        return self._loop.run(work)

    def let_go(self, close: Callable[[], None]) -> None:
        """Call a plain `close` in the loop of `inner`; nothing when the router is closed."""
        self._loop.let_go(close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(0.0 if kind is not None else asynchronous.DRAIN_S)

    def close(self, drain: float = asynchronous.DRAIN_S) -> None:
        """Take no more calls, wait at most `drain` seconds for those under way, then end the loop and its thread."""
        if self._loop.alive:
            self.run(self.inner.aclose(drain))
        self._loop.stop()


class Streaming:
    """A stream that is asked for when entered and let go of when left."""

    def __init__(self, router: Router, body: dict[str, Any], asked: Asked) -> None:
        self._router, self._body, self._asked = router, body, asked
        self._reply: Reply | None = None

    def __enter__(self) -> Events:
        self._reply = self._router.run(self._router.inner.begin(dict(self._body), self._asked))
        return Events(self._router, self._reply.events)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reply is not None:
            self._router.let_go(self._reply.close)


class Events:
    """One answer being read: `for event in events`. It ends cleanly only when the upstream said it all."""

    def __init__(self, router: Router, stream: EventStream) -> None:
        self._router, self._stream = router, stream

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = self._router.run(_next(self._stream))
        if event is None:
            raise StopIteration
        return event

    @property
    def completion(self) -> Completion:
        """The whole answer, once the stream has been read to its end. Raises RouterError before."""
        return self._stream.completion

    @property
    def partial(self) -> str:
        """The text said so far."""
        return self._stream.partial

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped; None as long as it has not."""
        return self._stream.finish_reason


async def _next(stream: EventStream) -> Event | None:
    return await anext(stream, None)
