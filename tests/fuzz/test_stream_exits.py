"""Thousands of random exits from a call: nothing leaks, every end is told once, a cancel stays the caller's own.

The real layers over a scripted far end, in virtual time. A seed that fails prints the command that plays it again.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from orrouter.core.call import ALL, Call, Target, Trail
from orrouter.core.clock import Cuts
from orrouter.core.errors import (
    ConnectionFailed,
    InvalidRequest,
    Moderated,
    NoRoute,
    Overloaded,
    RateLimited,
    RouterError,
    ServerError,
)
from orrouter.core.events import End, Event
from orrouter.core.facts import AttemptEnded, CallEnded, Fact
from orrouter.core.pipeline import Handler, Middleware, Pipeline
from orrouter.core.reply import EventStream, Reply
from orrouter.middleware.attempt import AttemptOptions
from orrouter.middleware.base import Options, World
from orrouter.middleware.breaker import BreakerOptions
from orrouter.middleware.deadline import DeadlineOptions, before_deadline
from orrouter.middleware.fallback import FallbackOptions
from orrouter.middleware.provider import ProviderOptions
from orrouter.middleware.record import RecordOptions
from orrouter.middleware.retry import RetryOptions
from orrouter.testkit.clock import VirtualClock, run_virtual
from orrouter.testkit.script import COMMENT, EOF, SENT, Act, Finish, ScriptedTransport, Step
from tests.ticks import VirtualTicks

SEEDS, LONG, SHAPES = 1_500, 50_000, 500
EPSILON = 1e-6
TOTAL = 8.0
SILENCE = 10_000.0
HANGS = 50_000.0

RECORD, ATTEMPT = RecordOptions(content=True), AttemptOptions()
TOTALS = DeadlineOptions.model_validate({"total": f"{TOTAL:g}s"})
CLOCKS = DeadlineOptions.model_validate(
    {"connect": "1s", "first_token": "2s", "stall": "1s", "dead": "4s", "attempt": "6s", "last_first_token": "3s"}
)
CHAIN = FallbackOptions(models=("big", "small", "tiny"))
RETRY = RetryOptions()
BREAKER = BreakerOptions(consecutive=3)
PROVIDER = ProviderOptions.model_validate({"data_collection": "deny"})
USUAL: tuple[Options, ...] = (CHAIN, RETRY, BREAKER, PROVIDER, CLOCKS)


class Planted(Exception):
    """An error that a scene has put there on purpose."""


class Permits:
    """A layer that lets so many through at once; the permit goes back in `on_end`."""

    def __init__(self, size: int) -> None:
        self.size, self.free = size, asyncio.Semaphore(size)

    async def __call__(self, call: Call, forward: Handler) -> Reply:
        await self.free.acquire()
        try:
            reply = await forward(call)
        except BaseException:
            self.free.release()
            raise
        reply.events.on_end(lambda end: self.free.release())
        return reply


class Holds:
    """A layer that takes a hold for each pass and settles it once."""

    def __init__(self) -> None:
        self.taken = 0
        self.settled: list[int] = []

    async def __call__(self, call: Call, forward: Handler) -> Reply:
        self.taken += 1
        number = self.taken
        try:
            reply = await forward(call)
        except BaseException:
            self.settled.append(number)
            raise
        reply.events.on_end(lambda end: self.settled.append(number))
        return reply


@dataclass(frozen=True)
class Visit:
    """What one user does: how it asks, and how it leaves (at the event `at`)."""

    leave: str = "read"
    at: int = 2
    buffer: int = 1
    streamed: bool = True
    nap: float = 0.0
    planted: str = ""
    timeout: float | None = None
    deadline: float | None = None


class Scene:
    """Users of one pipeline, and everything that must be in order when they have gone."""

    def __init__(
        self,
        acts: Any,
        options: Sequence[Options | str],
        chance: random.Random,
        *,
        topped: bool = True,
        permits: int = 2,
    ) -> None:
        upstreams = {"openrouter": Target(key="key")}
        self.world = World(clock=VirtualClock(), random=chance, upstreams=upstreams)
        self.permits, self.holds = Permits(permits), Holds()
        own: dict[Any, Middleware] = {"permits": self.permits, "holds": self.holds}
        top: tuple[Options, ...] = (RECORD, TOTALS) if topped else (RECORD,)
        stack = [*top, *options, ATTEMPT]
        self.far = ScriptedTransport(acts)
        self.pipeline = Pipeline(
            [own[one] if isinstance(one, str) else one.build(self.world) for one in stack], self.far
        )
        self.total = TOTAL if topped else None
        self.cuts = Cuts()
        self.told: list[int] = []
        self.asked = 0
        self.facts: Counter[str] = Counter()
        self.planted = 0
        self.complaints: list[dict[str, Any]] = []
        self.cancels: dict[asyncio.Task[None], int] = {}
        self.said: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: self.complaints.append(context))

    # --- what users do ---------------------------------------------------------------------------------

    def hear(self, fact: Fact) -> None:
        if isinstance(fact, CallEnded | AttemptEnded):
            assert fact.outcome != "open"
        number = getattr(fact, "number", "") if type(fact).__name__.startswith("Attempt") else ""
        self.facts[f"{type(fact).__name__} {fact.request_id} {number}"] += 1

    def call(self, visit: Visit) -> Call:
        # The trail is kept by the call alone: it knows the errors, these their frames, and one of these the reply.
        self.asked += 1
        trail = Trail(f"req_{self.asked}", self.world.clock.now, self.hear)
        deadline = None if visit.deadline is None else trail.began + visit.deadline
        target = Target(model="big", key="key")
        return Call(target=target, trail=trail, buffer=visit.buffer, streamed=visit.streamed, deadline=deadline)

    def limit(self, call: Call) -> float:
        """When a call must be over, as far as it waits for the far end."""
        total = float("inf") if self.total is None else call.trail.began + self.total
        return total if call.deadline is None else min(total, call.deadline)

    async def ask(self, call: Call) -> Reply:
        """As a router does it."""
        if call.deadline is None:
            return await self.pipeline(call)
        return await before_deadline(call, self.pipeline, self.cuts)

    def expect_end(self, events: EventStream) -> int:
        """Ask to be told of the end; returns where that will be counted."""
        self.told.append(0)
        place = len(self.told) - 1

        def tell(end: End) -> None:
            self.told[place] += 1

        events.on_end(tell)
        return place

    def plant(self, what: str, events: EventStream) -> None:
        if what == "ender":
            events.on_end(self.burst)
        elif what == "watcher":
            events.watch(objector())

    def burst(self, end: End) -> None:
        self.planted += 1
        raise Planted("in an ender")

    def has_ended(self, place: int, limit: float, began: float) -> None:
        """What must be so when a read has brought the end, or an error: it was told before, and came in time."""
        assert self.told[place] == 1, "the end of a stream reached its reader before it was told"
        assert self.world.clock.now() <= max(began, limit) + EPSILON, "a read outlived the deadline"

    # --- what must be so afterwards --------------------------------------------------------------------

    def cancel(self, task: asyncio.Task[None]) -> None:
        if task.cancel():
            self.cancels[task] = self.cancels.get(task, 0) + 1

    async def play(self, visits: Sequence[Sequence[Visit]], cancel: Callable[[list[asyncio.Task[None]]], None]) -> None:
        """Let users go about their visits, and look after them."""
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(user(self, some)) for some in visits]
        cancel(tasks)
        _, pending = await asyncio.wait(tasks, timeout=HANGS)
        assert not pending, "somebody hangs"
        for task in tasks:
            asked = self.cancels.pop(task, 0)
            assert task.cancelling() == asked, f"{task.cancelling()} cancels on the task, {asked} asked"
            assert task.cancelled() == bool(asked), (
                "a cancel was swallowed" if asked else "a cut was taken for a cancel"
            )
            if not asked:
                task.result()
        tasks.clear()
        del task, _
        await asyncio.sleep(10.0)  # Timers that would have cancelled somebody still hold his task.
        gc.collect()
        await asyncio.sleep(0.001)
        self.check()

    def check(self) -> None:
        assert self.far.open == 0, f"{self.far.open} sources are open"
        assert self.permits.free._value == self.permits.size, "a permit is lost, or was given back twice"
        assert sorted(self.holds.settled) == [*range(1, self.holds.taken + 1)], "a hold is not settled exactly once"
        assert set(self.told) <= {1}, f"ends were told {self.told} times"
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a task is left"
        ends = {name: count for name, count in self.facts.items() if name.startswith(("CallE", "AttemptE"))}
        begun = {name.replace("Started", "Ended") for name in self.facts if "Started" in name}
        assert dict.fromkeys(begun, 1) == ends, "a call or a try that began did not end exactly once"
        assert self.planted == len(self.complaints), self.complaints
        assert all(isinstance(one.get("exception"), Planted) for one in self.complaints), self.complaints


def objector() -> Callable[[Event], None]:
    """A watcher that objects to the third event it is shown."""
    shown = 0

    def look(event: Event) -> None:
        nonlocal shown
        shown += 1
        if shown >= 3:
            raise Planted("in a watcher")

    return look


async def user(scene: Scene, visits: Sequence[Visit]) -> None:
    """One visit after the other."""
    for visit in visits:
        try:
            async with asyncio.timeout(visit.timeout):
                await come(scene, visit)
        except (RouterError, Planted, KeyError):
            pass
        except TimeoutError:
            assert visit.timeout is not None


async def come(scene: Scene, visit: Visit) -> None:
    now, call = scene.world.clock.now, scene.call(visit)
    limit = scene.limit(call)
    try:
        reply = await scene.ask(call)
    finally:
        assert now() <= limit + EPSILON, "the deadline has passed"
    assert reply.events.ended or visit.buffer < ALL, "an answer that was to be whole is not"
    first = scene.expect_end(reply.events)
    scene.plant(visit.planted, reply.events)
    scene.expect_end(reply.events)
    if visit.leave == "drop" and visit.at == 0:
        return
    try:
        await read(scene, visit, reply, partial(scene.has_ended, first, limit))
    except BaseException:
        reply.close()  # Also where it was to be dropped: an error holds the frames, and these the reply.
        raise
    if visit.leave != "drop":
        reply.close()
    if visit.leave == "close":
        reply.close()
        scene.expect_end(reply.events)
        with pytest.raises(StopAsyncIteration):
            await anext(reply.events)


async def read(scene: Scene, visit: Visit, reply: Reply, has_ended: Callable[[float], None]) -> None:
    now, events = scene.world.clock.now, reply.events
    if visit.leave == "rest":
        scene.said.append((await reply.completion()).text)
        return
    count, texts = 0, []
    while True:
        began = now()
        try:
            event = await anext(events)
        except StopAsyncIteration:
            has_ended(began)
            break
        except BaseException:
            has_ended(began)
            with pytest.raises((RouterError, Planted)):  # Behind an error, or a cancel, no clean end.
                await anext(events)
            raise
        texts.append(event.text)
        count += 1
        if visit.nap:
            await asyncio.sleep(visit.nap)
        if count == visit.at and visit.leave in ("break", "drop", "close"):
            return
        if count == visit.at and visit.leave == "throw":
            raise KeyError
    assert "".join(texts) == events.completion.text, "a clean end without a whole answer"
    assert events.finish_reason is not None, "a clean end without a finish"
    scene.said.append("".join(texts))


# --- chance ---------------------------------------------------------------------------------------------

FAULTS: tuple[Callable[[random.Random], BaseException], ...] = (
    lambda chance: Overloaded("busy"),
    lambda chance: RateLimited("too many", retry_after=chance.choice([None, 0.5, 2.0, 20.0])),
    lambda chance: ServerError("broken"),
    lambda chance: ConnectionFailed("no road"),
    lambda chance: NoRoute("nobody"),
    lambda chance: InvalidRequest("wrong"),
    lambda chance: Moderated("no"),
    lambda chance: Planted("at the far end"),
)


def fault(chance: random.Random) -> BaseException:
    return chance.choice(FAULTS)(chance)


def random_act(call: Call, chance: random.Random) -> Act:
    """One try: delays, words, and a fault at any place, or none."""
    steps: list[Step] = [chance.choice([0.0, 0.0, 0.05, 3.0])]
    if chance.random() < 0.12:
        return [*steps, fault(chance)]
    steps.append(SENT)
    for _ in range(chance.choice([0, 0, 0, 1, 12])):
        steps += [0.4, chance.choice([COMMENT, ""])]
    if chance.random() < 0.1:
        return [*steps, chance.choice([SILENCE, 1.5, EOF, Finish(), Finish("length"), fault(chance)])]
    if chance.random() < 0.1:
        return [*steps, 0.5, {"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]}]
    for word in range(chance.randrange(8)):
        steps += [chance.choice([0.0, 0.01, 0.3, 1.0]), f"w{word} "]
        if chance.random() < 0.12:
            steps.append(chance.choice([SILENCE, EOF, COMMENT, "", fault(chance)]))
    return [*steps, Finish(chance.choice(["stop", "length", "error"]), chance.choice([None, {"prompt_tokens": 1}]))]


def random_visit(chance: random.Random) -> Visit:
    some = chance.random
    return Visit(
        leave=chance.choice(["read", "read", "rest", "break", "close", "drop", "throw"]),
        at=chance.randrange(5),
        buffer=chance.choice([1, 1, 3, ALL]),
        streamed=some() < 0.7,
        nap=chance.choice([0.0, 0.0, 0.0, 5.0]),
        planted=chance.choice(["", "", "", "ender", "watcher"]),
        timeout=some() * 10 if some() < 0.15 else None,
        deadline=chance.choice([0.5, 2.0, some() * 9]) if some() < 0.2 else None,
    )


def random_stack(chance: random.Random) -> list[Options | str]:
    """Some of the layers, in any order."""
    stack: list[Options | str] = [one for one in (*USUAL, "permits", "holds") if chance.random() < 0.85]
    if chance.random() < 0.6:
        chance.shuffle(stack)
    return stack


INSTANTS = (0.0, 0.001, 0.05, 0.3, 0.5, 1.0, 2.0, 2.05, 3.0, 4.0, 6.0, 8.0)


def random_cancels(scene: Scene, chance: random.Random, tasks: list[asyncio.Task[None]]) -> None:
    """Cancel some at an instant at which something else happens too, or at any; some twice."""
    loop = asyncio.get_running_loop()
    for task in tasks:
        while chance.random() < 0.35:
            when = chance.choice([*INSTANTS, chance.random() * 9])
            loop.call_later(when, scene.cancel, task)


async def scene_of(seed: int) -> None:
    chance = random.Random(seed)
    acts = partial(random_act, chance=chance)
    scene = Scene(acts, random_stack(chance), chance, topped=chance.random() < 0.8, permits=chance.randrange(1, 4))
    visits = [[random_visit(chance) for _ in range(chance.choice([1, 1, 2, 3]))] for _ in range(4)]
    await scene.play(visits, partial(random_cancels, scene, chance))


def play(seed: int) -> None:
    try:
        run_virtual(scene_of(seed))
    except BaseException as error:
        error.add_note(f"play it again: ORROUTER_SEED={seed} pytest tests/fuzz/test_stream_exits.py -k one_seed")
        raise


@pytest.fixture(autouse=True)
def _quick_collections() -> Iterator[None]:
    """What was there before a test need not be looked through a thousand times."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def test_random_exits_leave_nothing_behind():
    """Users of one pipeline leave it in every way there is, and everything is in order afterwards."""
    for seed in range(SEEDS):
        play(seed)


@pytest.mark.long
def test_many_random_exits_leave_nothing_behind():
    """The same, for minutes."""
    for seed in range(LONG):
        play(seed)


def test_one_seed():
    """The scene that ORROUTER_SEED names, for whoever looks into a failure."""
    play(int(os.environ.get("ORROUTER_SEED", "0")))


# --- every turn -----------------------------------------------------------------------------------------

WORDS: Act = [0.1, SENT, 0.1, "a ", 0.1, "b ", 0.1, "c", 0.1, Finish()]
WHOLE: Act = [SENT, 0.2, {"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]}]
BROKEN: Act = [SENT, 0.1, "a ", 0.1, EOF]
SCENES: dict[str, tuple[Any, Visit]] = {
    "words": (WORDS, Visit()),
    "words, taken whole": (WORDS, Visit(leave="rest", buffer=ALL, streamed=False)),
    "one JSON": (WHOLE, Visit(leave="rest", buffer=ALL)),
    "held back": (WORDS, Visit(buffer=3)),
    "left in the middle": (WORDS, Visit(leave="break")),
    "closed twice": (WORDS, Visit(leave="close")),
    "dropped": (WORDS, Visit(leave="drop", at=1)),
    "thrown out of": (WORDS, Visit(leave="throw")),
    "retried": ([ServerError("broken"), RateLimited("later", retry_after=1.0), WORDS], Visit()),
    "cured at once": ([ConnectionFailed("no road"), WORDS], Visit(leave="rest", buffer=ALL)),
    "fallen back from": ([NoRoute("nobody"), [SENT, SILENCE], WORDS], Visit()),
    "never answered": ([[SENT, SILENCE]], Visit()),
    "never connected": ([[SILENCE]], Visit()),
    "stalled": ([[SENT, "a ", SILENCE]], Visit()),
    "broken behind words": ([BROKEN], Visit()),
    "broken while held": ([BROKEN, BROKEN, WORDS], Visit(leave="rest", buffer=ALL)),
    "out of time": ([[SENT, 1.9, "a ", 0.9, "b ", 0.9, "c ", 0.9, SILENCE]], Visit(deadline=4.0)),
    "out of the caller's time": ([WORDS], Visit(timeout=0.3)),
    "objected to": (WORDS, Visit(planted="watcher")),
    "an ender fails": (WORDS, Visit(planted="ender")),
    "read slowly": (WORDS, Visit(nap=2.0)),
}


async def struck(name: str, loop: VirtualTicks) -> bool:
    """Play a fixed scene and cancel its first user when the loop says so; whether that was in time."""
    acts, visit = SCENES[name]
    in_turn = iter([acts] if isinstance(acts[0], float | type(SENT)) else acts)
    last = WORDS
    scene = Scene(lambda call: next(in_turn, last), ("permits", *USUAL, "holds"), random.Random(0), permits=1)
    hit = False

    def strike(task: asyncio.Task[None]) -> None:
        nonlocal hit
        hit = hit or not task.done()
        scene.cancel(task)

    def cancels(tasks: list[asyncio.Task[None]]) -> None:
        loop.strike = partial(strike, tasks[0])

    await scene.play([[visit], [Visit(leave="rest", buffer=ALL)]], cancels)
    return hit


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("name", SCENES)
def test_a_cancel_at_any_turn_leaves_nothing_behind(name, twice):
    """Whatever the next callback of the loop is, a cancel before it stays a cancel and leaks nothing."""
    at, hit = 0, True
    while hit:
        at += 1
        loop = VirtualTicks(at, twice=twice)
        try:
            hit = run_virtual(struck(name, loop), loop)
        except BaseException as error:
            error.add_note(f"{name}: cancelled before callback {at}")
            raise
    assert at > 3


# --- liveness -------------------------------------------------------------------------------------------

PATIENT = DeadlineOptions.model_validate(
    {"connect": "1s", "first_token": "2s", "stall": "1s", "dead": "4s", "last_first_token": "3s"}
)
AMPLE = DeadlineOptions.model_validate({"total": "1000d"})


def sound_act(chance: random.Random) -> tuple[Act, str]:
    """A try in which nothing goes wrong, however slow, and what it says."""
    steps: list[Step] = [chance.choice([0.0, 0.9]), SENT]
    for _ in range(chance.randrange(3)):
        steps += [0.4, chance.choice([COMMENT, ""])]
    if chance.random() < 0.2:
        return [*steps, {"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]}], "whole"
    words = [f"w{number} " for number in range(chance.randrange(1, 8))]
    for word in words:
        steps += [chance.choice([0.0, 0.01, 0.7]), *chance.choice([[], [COMMENT], [0.1, "", 0.1, COMMENT]]), word]
    return [*steps, Finish(chance.choice(["stop", "length"]), chance.choice([None, {"prompt_tokens": 1}]))], "".join(
        words
    )


async def faultless(seed: int) -> None:
    chance = random.Random(seed)
    plays = [sound_act(chance) for _ in range(3)]
    in_turn = iter(plays)
    stack = [PATIENT if one is CLOCKS else one for one in random_stack(chance)]
    if chance.random() < 0.5:
        stack.insert(chance.randrange(len(stack) + 1), AMPLE)
    scene = Scene(lambda call: next(in_turn)[0], stack, chance, topped=False, permits=chance.randrange(1, 4))
    visits = [
        [replace(random_visit(chance), leave=chance.choice(["read", "rest"]), planted="", timeout=None, deadline=None)]
        for _ in plays
    ]
    await scene.play(visits, lambda tasks: None)
    assert sorted(text for _, text in plays) == sorted(scene.said)
    assert len(plays) == len(scene.far.tries), "asked more than once"


def test_a_script_without_a_fault_always_succeeds():
    """Safety without liveness proves nothing: in any order of layers, read slowly or taken whole, at the first try."""
    for seed in range(SHAPES):
        try:
            run_virtual(faultless(seed))
        except BaseException as error:
            error.add_note(f"shape {seed}")
            raise
