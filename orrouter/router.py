"""The router: the only class most users meet.

Law: it owns what lives longer than a call (the world, the sessions, the background tasks) and hands each call to a
pipeline. How a call is treated is said by the policy, and done in the layers.
"""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl

from orrouter.accounts import Accounts, ledger_of, reconciler_of
from orrouter.asking import Asked, Wish, cap_of, read_wish, warner
from orrouter.core import tags as tagging
from orrouter.core.call import ALL, Call, Target, Trail, new_request_id
from orrouter.core.clock import Clock, Cuts, LoopClock
from orrouter.core.completion import Completion
from orrouter.core.errors import PolicyError, RouterError, UpstreamError
from orrouter.core.facts import Fact, PolicyReloaded, SpellingTranslated
from orrouter.core.pipeline import Handler, Pipeline
from orrouter.core.reply import EventStream, Reply
from orrouter.core.values import made
from orrouter.keeping import Keeper, guarded, keep_catalog
from orrouter.ledger.base import Ledger
from orrouter.lookups import Lookups
from orrouter.middleware.base import World
from orrouter.middleware.deadline import before_deadline
from orrouter.policy.build import Built, build
from orrouter.policy.code import CODE, policy_in_code
from orrouter.policy.env import FILE, default_model, policy_from_env
from orrouter.policy.hints import nearest
from orrouter.policy.load import load_file
from orrouter.policy.schema import Policy, read_policy
from orrouter.readiness import Condition
from orrouter.transport.base import Transport
from orrouter.wire.structured import parse

Messages = Sequence[Mapping[str, Any]]
Listener = Callable[[Fact], None]
DRAIN_S: Final = 10.0
TARGETS: Final = 1000
"""Named models whose target is kept ready."""
_WHOLE: Final = Call(trail=Trail("", lambda: 0.0), buffer=ALL)
_STREAMED: Final = _WHOLE.to(streamed=True, buffer=1)
"""What every call is made from: changing a call is ten times cheaper than building one."""


class OldSpelling(UserWarning):
    """A request used a spelling that OpenRouter has since changed; it was translated."""


class Router(Lookups, Accounts, Condition):
    """Calls LLMs as a policy says. Build one per process and event loop, and share it: calls may run side by side.

    `async with Router.from_file("config/default.yaml") as router:`

    `transport`, `clock`, `random` and `ledger` are the door for tests; `on_fact` is called with every fact as it
    happens.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        transport: Transport | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
        on_fact: Listener | None = None,
        ledger: Ledger | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._env = os.environ if env is None else env
        self._given, self._on_fact = transport, None if on_fact is None else guarded(on_fact)
        clock = clock or LoopClock()
        self.world = World(
            clock=clock, random=random or Random(), ledger=ledger or ledger_of(policy, clock, self._on_fact)
        )
        self._reconciler = reconciler_of(lambda: self.policy, self.world, self.fetch, self._on_fact)
        self._keeper = Keeper(self._background if transport is None else None)
        self._cuts = Cuts()
        self._warn = warner(_warn_caller)
        self._targets: dict[str, Target] = {}
        self._built = self._build(policy)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, env: Mapping[str, str] | None = None, **options: Any) -> Self:
        """A router for the policy in a file. Raises PolicyError, which says file, line and column."""
        document = load_file(path, env=os.environ if env is None else env)
        return cls(read_policy(document), env=env, **options)

    @classmethod
    def from_policy(cls, policy: Policy | Mapping[str, Any], **options: Any) -> Self:
        """A router for a policy in the shape of a policy file. Keys may stand in it: it is code, not a file."""
        if isinstance(policy, Policy):
            return cls(policy, **options)
        env = options.get("env")
        return cls(read_policy(policy_in_code(policy, os.environ if env is None else env)), **options)

    @classmethod
    def from_env(cls, *, env: Mapping[str, str] | None = None, **options: Any) -> Self:
        """A router without a policy file: see `OPENROUTER_API_KEY` and its like in the README."""
        return cls(read_policy(policy_from_env(os.environ if env is None else env)), env=env, **options)

    # --- calls ----------------------------------------------------------------------------------------

    async def chat(
        self,
        messages: Messages,
        *,
        policy: str | None = None,
        tags: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # the caller's word for its deadline, kept by one timer
        max_cost: str | None = None,
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
        **body: Any,
    ) -> Completion:
        """Answer `messages` whole. `body` is any further field of the request: model, tools, temperature and so on.

        `timeout` in seconds, `max_cost` a sum such as `$0.01`; both tighten the policy and never loosen it. A pydantic
        model as `response_format` makes `parsed` one. Raises RouterError, whose `record` tells what was tried.
        """
        body["messages"] = messages
        asked = made(Asked, (policy, tags, timeout, max_cost, headers, request_id))
        return await self._whole("chat/completions", body, asked)

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
        """Answer `messages` as they are written: `async with router.stream(...) as events`.

        Raises as `chat` does until the first word; a stream that breaks later raises StreamBroken with what was said.
        """
        body["messages"] = messages
        return Streaming(self, body, Asked(policy, tags, timeout, max_cost, headers, request_id))

    async def embeddings(self, input: Any, **asked: Any) -> Completion:  # noqa: A002  # the field's name upstream
        """Embeddings of a text or several; `raw["data"]` holds the vectors. Takes what `chat` takes."""
        return await self._whole("embeddings", *_split({**asked, "input": input}))

    async def completions(self, prompt: Any, **asked: Any) -> Completion:
        """The older endpoint that goes on with a text. Takes what `chat` takes."""
        return await self._whole("completions", *_split({**asked, "prompt": prompt}))

    async def _whole(self, endpoint: str, body: dict[str, Any], asked: Asked) -> Completion:
        wish = read_wish(body, asked)
        call, pipeline = self._call(endpoint, wish, asked)
        reply = await self._send(call, pipeline)
        try:
            completion = await reply.completion()
        except BaseException:
            reply.close()
            raise
        if wish.parse is not None:
            try:
                completion.parsed = parse(wish.parse, completion)
            except RouterError as error:
                error.trail = call.trail
                raise
        return completion

    async def begin(self, body: dict[str, Any], asked: Asked, endpoint: str = "chat/completions") -> Reply:
        """Ask for a stream and return its reply, first word in hand. Whoever calls this closes it."""
        wish = read_wish(body, asked)
        call, pipeline = self._call(endpoint, wish, asked, streamed=True)
        return await self._send(call, pipeline)

    def _call(self, endpoint: str, wish: Wish, asked: Asked, *, streamed: bool = False) -> tuple[Call, Pipeline]:
        clock, tags = self.world.clock, tagging.current(asked.tags)
        trail = Trail(asked.request_id or new_request_id(), clock.now, self._on_fact)
        model = wish.models[0] if wish.models else ""
        name, pipeline = self._built.choose(wish.policy, endpoint, model, tags)
        trail.policy, trail.endpoint, trail.tags = name, endpoint, tags
        for spelling in wish.spellings:
            trail.note(SpellingTranslated(old=spelling.old, new=spelling.new))
            self._warn(spelling)
        deadline = None
        if asked.timeout is not None:
            deadline, pipeline = trail.began + asked.timeout, self._timed[name]
        call = (_STREAMED if streamed else _WHOLE).to(
            endpoint=endpoint,
            body=wish.body,
            models=wish.models,
            target=self._target(model),
            tags=tags,
            headers=wish.headers,
            trail=trail,
            deadline=deadline,
        )
        if asked.max_cost is not None:
            call = call.charge(cap_of(asked.max_cost))
        return call, pipeline

    def _target(self, model: str) -> Target:
        target = self._targets.get(model)
        if target is None:
            first = next(iter(self.world.upstreams.values()))
            target = replace(first, model=model or default_model(self._env))
            if len(self._targets) < TARGETS:
                self._targets[model] = target
        return target

    async def _send(self, call: Call, pipeline: Pipeline) -> Reply:
        lease = self._keeper.begun()
        try:
            reply = await pipeline(call)
        except BaseException as error:
            lease.over()
            if isinstance(error, UpstreamError):  # One that a layer raised has no place yet.
                error.at(request_id=call.trail.request_id)
            raise
        reply.events.on_end(lease.over)
        return reply

    # --- what the upstream tells about itself -----------------------------------------------------------

    async def fetch(self, path: str, upstream: str | None = None, **query: str) -> dict[str, Any]:
        """The JSON object at a path below an upstream's base URL (the first upstream's where none is named)."""
        bare, _, extra = path.partition("?")
        query |= dict(parse_qsl(extra, keep_blank_values=True))
        target = self._upstream(upstream)
        call, pipeline = self._call(bare, read_wish({}, Asked()), Asked())
        reply = await self._send(call.to(method="GET", query=query, target=target), pipeline)
        try:
            return (await reply.completion()).raw
        finally:
            reply.close()

    def _upstream(self, name: str | None) -> Target:
        """The target of what concerns no model. Raises PolicyError for an upstream that the policy does not have."""
        known = self.world.upstreams
        target = known.get(next(iter(known)) if name is None else name)
        if target is None:
            raise PolicyError(f"there is no upstream {name!r}", hint=nearest(str(name), known))
        return target

    # --- the router itself ------------------------------------------------------------------------------

    def reload(self, path: str | os.PathLike[str] | None = None) -> None:
        """Take a changed policy. Health and money stay; calls under way end as they began.

        `path`: the file; None: the one it was read from. Raises PolicyError, also for another ledger, and then nothing
        has changed.
        """
        file = self._built.policy.document.file if path is None else path
        if path is None and file in (FILE, CODE):
            raise PolicyError("this Router's policy was read from no file", hint="name one: router.reload(path)")
        changed = read_policy(load_file(file, env=self._env))
        if changed.ledger != self.policy.ledger:
            raise changed.document.error(
                ("ledger",), "the ledger of a running Router cannot be changed", hint="build a new Router"
            )
        self._built = self._build(changed)
        if self._on_fact is not None:
            self._on_fact(PolicyReloaded(file=str(file)))

    def _build(self, policy: Policy) -> Built:
        """The pipelines of a policy over a transport of its own, which is in force from now on."""
        transport = self._given
        if transport is None:
            from orrouter.transport.http import HttpTransport

            transport = HttpTransport({name: policy.upstream(name) for name in policy.upstreams}, self.world.clock)
        lease = self._keeper.lease(transport)
        built = build(policy, self.world, lease)
        self._keeper.take(lease)
        self._targets.clear()
        self._timed = {name: _timed(pipeline, self._cuts) for name, pipeline in built.pipelines.items()}
        return built

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._built.policy

    async def _background(self) -> None:
        """What lives beside the calls; a task of the keeper."""
        await asyncio.gather(keep_catalog(self.world, self.fetch, self._on_fact), self._reconciler.run())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose(0.0 if kind is not None else DRAIN_S)

    async def aclose(self, drain: float = DRAIN_S) -> None:
        """Take no more calls, wait at most `drain` seconds for those under way, then let go of every connection.

        A call that is still under way then fails with a RouterError. May be repeated.
        """
        await self._keeper.close(drain, self.world.ledger.aclose)


def _timed(pipeline: Pipeline, cuts: Cuts) -> Pipeline:
    """The pipeline with a caller's `timeout` kept just below `record`, so that the record tells of it too."""

    def keep(call: Call, forward: Handler) -> Awaitable[Reply]:
        return before_deadline(call, forward, cuts)

    outermost, *below = pipeline.layers
    return Pipeline((outermost, keep, *below), pipeline.transport)


_PACKAGE: Final = __file__.removesuffix("router.py")


def _warn_caller(text: str) -> None:
    """Warn at the line, outside of this package, that asked."""
    frame, level = sys._getframe(), 1  # noqa: SLF001  # what inspect.currentframe() is, without importing inspect
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, OldSpelling, stacklevel=level)


_ASKED: Final = Asked._fields


def _split(given: dict[str, Any]) -> tuple[dict[str, Any], Asked]:
    """What is said of the call and what is the request's body."""
    return {name: value for name, value in given.items() if name not in _ASKED}, Asked(
        **{name: given[name] for name in _ASKED if name in given}
    )


class Streaming:
    """A stream that is asked for when entered and let go of when left."""

    def __init__(self, router: Router, body: dict[str, Any], asked: Asked) -> None:
        self._router, self._body, self._asked = router, body, asked
        self._reply: Reply | None = None

    async def __aenter__(self) -> EventStream:
        self._reply = await self._router.begin(dict(self._body), self._asked)
        return self._reply.events

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reply is not None:
            self._reply.close()
