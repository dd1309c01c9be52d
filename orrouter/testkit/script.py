"""A far end that plays a script: the transport for tests in virtual time.

    far = ScriptedTransport({"big": [Overloaded("busy"), "hello"], "small": ["hi"]})

Each try at a model takes its next act; the last one repeats. An act is a text (said word by word), an error (raised
before anything is said), a dict (the body of an answer in one JSON), or a list of steps: a number waits so many
seconds, a str is said ("" is an envelope without a word), an error is raised there, `SENT` marks that the request went
out, `COMMENT` is a keep-alive, `EOF` ends without a finish, and a `Finish` ends well. Law: the three laws of
`transport/base.py` hold here as they do over HTTP, what is said is judged by the same code, and it keeps the clocks in
the same way.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import orjson

from orrouter.core.call import Attempt, Call
from orrouter.core.clock import Cut
from orrouter.core.completion import Completion
from orrouter.core.errors import (
    ConnectionFailed,
    DeadlineExceeded,
    EmptyReply,
    RouterError,
    StreamBroken,
    UpstreamError,
    UpstreamTimeout,
)
from orrouter.core.events import Event
from orrouter.core.reply import EventStream, Reply
from orrouter.wire.fold import completion_of
from orrouter.wire.request import streams
from orrouter.wire.stream import StreamReader
from orrouter.wire.whole import whole_answer


@dataclass(frozen=True, slots=True)
class Mark:
    """A step of a script that is no word."""

    name: str


SENT: Final = Mark("sent")
COMMENT: Final = Mark("comment")
EOF: Final = Mark("eof")


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of an answer: its reason, and the usage reported with it (None: none)."""

    reason: str = "stop"
    usage: Mapping[str, Any] | None = field(default_factory=lambda: {"prompt_tokens": 1, "completion_tokens": 1})


Step = float | int | str | Mark | Finish | BaseException | Mapping[str, Any]
Act = str | BaseException | Mapping[str, Any] | Sequence[Step]


@dataclass(slots=True)
class Played:
    """One try that reached the far end."""

    call: Call
    at: float
    """Loop time when it was asked."""
    closed: bool = False


class ScriptedTransport:
    """Plays acts by model; `tries` tells what was asked, `open` how many sources are not closed."""

    def __init__(
        self, acts: Mapping[str, Sequence[Act] | Act] | Callable[[Call], Act], provider: str = "Scripted"
    ) -> None:
        self._acts, self._provider = acts, provider
        self._played: dict[str, int] = {}
        self.tries: list[Played] = []
        self.open = 0

    @property
    def models(self) -> list[str]:
        """The models asked, in order."""
        return [played.call.target.model for played in self.tries]

    async def __call__(self, call: Call) -> Reply:
        """Play the next act for `call`. Raises what the script says, as the first law has it."""
        assert call.attempt is not None, "the attempt layer stands above the transport"
        played = Played(call, asyncio.get_running_loop().time())
        self.tries.append(played)
        source = _Tape(self, played, steps_of(self._act(call)), self._provider)
        events = EventStream(source, partial(_fold, call))
        try:
            if not await events.ahead(1):
                raise EmptyReply("the upstream said nothing")
        except BaseException:
            events.close()
            raise
        return Reply(call.attempt, events)

    def _act(self, call: Call) -> Act | Step:
        if callable(self._acts):
            return self._acts(call)
        model = call.target.model
        acts = self._acts.get(model)
        if not acts and not isinstance(acts, str):
            raise LookupError(f"the script has no act for the model {model!r}; it has some for {', '.join(self._acts)}")
        if isinstance(acts, str | BaseException | Mapping):
            return acts
        at = self._played.get(model, 0)
        self._played[model] = at + 1
        return acts[min(at, len(acts) - 1)]

    async def aclose(self) -> None:
        """Nothing to let go of."""


def _fold(call: Call, said: Sequence[Event]) -> Completion:
    assert call.attempt is not None
    return completion_of(said, call.attempt, call.trail)


def steps_of(act: Act | Step) -> list[Step]:
    """The steps of an act written short."""
    if isinstance(act, str):
        return [SENT, *(word + " " for word in act.split()[:-1]), *act.split()[-1:], Finish()]
    if isinstance(act, BaseException | Mapping):
        return [SENT, act]
    if isinstance(act, Mark | Finish | int | float):
        raise TypeError(f"{act!r} is a step and no act: put the steps of one try into a list of their own")
    return list(act)


class _Tape:
    """The source of one scripted reply."""

    def __init__(self, far: ScriptedTransport, played: Played, steps: Sequence[Step], provider: str) -> None:
        self._far, self._played, self._call, self._provider = far, played, played.call, provider
        attempt = played.call.attempt
        assert attempt is not None
        self._attempt: Attempt = attempt
        self._steps: Iterator[Step] = iter(steps)
        self._reader = StreamReader(attempt)
        self._loop = asyncio.get_running_loop()
        self._cut = Cut(self._loop)
        self._pause: asyncio.Future[None] | None = None
        self._began = self._sent = self._heard = played.at
        self._clock = ""
        self.over = False
        far.open += 1

    async def read(self) -> list[Event]:
        if self.over:
            return []
        since = self._loop.time()
        try:
            while self._reader.error is None:
                events = await self._play(next(self._steps, EOF), since)
                if events or self.over:
                    self._commit(events)
                    return events
            raise self._reader.error
        except BaseException as error:
            self.over = True
            if isinstance(error, UpstreamError):
                error.at(provider=self._attempt.provider, generation_id=self._attempt.generation_id)
            raise

    async def _play(self, step: Step, since: float) -> list[Event]:
        if isinstance(step, BaseException):
            # Each try gets an error of its own: whoever catches it writes place and record onto it.
            raise copy.copy(step) if isinstance(step, RouterError) else step
        if isinstance(step, int | float):
            await self._wait(step, since)
            return []
        if isinstance(step, Mapping):
            return self._whole(dict(step))
        if isinstance(step, str):
            return self._feed(self._event({"content": step}, None))
        if isinstance(step, Finish):
            usage = {} if step.usage is None else {"usage": dict(step.usage)}
            events = self._feed(self._event({}, step.reason, **usage) + b"data: [DONE]\n\n")
            self.over = self._reader.error is None
            return events
        return self._mark(step)

    def _mark(self, mark: Mark) -> list[Event]:
        if mark is COMMENT:
            return self._feed(b": keep-alive\n\n")
        if mark is SENT:
            self._send()
            return []
        events = self._reader.end()
        self.over = self._reader.error is None
        return events

    async def _wait(self, seconds: float, since: float) -> None:
        """Let time pass under the clocks; closing ends the wait, as it does on a socket."""
        self._pause = pause = self._loop.create_future()
        timer = self._loop.call_later(seconds, _end, pause)
        try:
            with self._cut.at(self._limit(since), self._overdue):
                await pause
        finally:
            timer.cancel()

    def _send(self) -> None:
        if self._attempt.phase == "not_sent":
            self._attempt.phase, self._sent = "sent", self._loop.time()
            self._heard = self._sent

    def _answered(self) -> None:
        self._send()
        self._heard = self._loop.time()
        if self._attempt.phase == "sent":
            self._attempt.phase, self._attempt.status = "headers", 200

    def _feed(self, data: bytes) -> list[Event]:
        self._answered()
        return self._reader.feed(data)

    def _event(self, delta: dict[str, Any], reason: str | None, **more: Any) -> bytes:
        data: dict[str, Any] = {
            "id": f"gen-{self._attempt.number}",
            "model": self._call.target.model,
            "provider": self._provider,
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
            **more,
        }
        return b"data: " + orjson.dumps(data) + b"\n\n"

    def _whole(self, body: dict[str, Any]) -> list[Event]:
        """An answer in one JSON, judged as one that came over HTTP."""
        self.over = True
        self._answered()
        return [whole_answer(orjson.dumps(body), self._call, {}, wall=self._loop.time)]

    def _commit(self, events: list[Event]) -> None:
        if self._attempt.first_token is None and any(event.semantic for event in events):
            self._attempt.first_token, self._attempt.phase = self._loop.time(), "committed"

    def _limit(self, since: float) -> float | None:
        """When the wait that is about to begin is over; remembers which clock that is."""
        at, self._clock = min(self._ends(since), default=(None, ""))
        return at

    def _ends(self, since: float) -> Iterator[tuple[float, str]]:
        call, clocks = self._call, self._call.clocks
        if clocks.attempt is not None:
            yield self._began + clocks.attempt, "attempt"
        if call.deadline is not None:
            yield call.deadline, "total"
        if self._attempt.phase == "not_sent":
            yield self._began + clocks.connect, "connect"
        elif streams(call):
            yield max(since, self._heard) + clocks.dead, "dead"
            if self._attempt.first_token is not None:
                if clocks.stall is not None:
                    yield since + clocks.stall, "stall"
            elif clocks.first_token is not None:
                yield self._sent + clocks.first_token, "first_token"

    def _overdue(self) -> BaseException:
        if self._clock == "total":
            error = DeadlineExceeded("the deadline of the whole call has passed")
            error.billed = "no" if self._attempt.phase == "not_sent" else "maybe"
            return error
        if self._clock == "connect":
            return ConnectionFailed("no connection in time", billed="no")
        if self._attempt.first_token is not None:
            return StreamBroken(f"the {self._clock} clock rang")
        return UpstreamTimeout(f"the {self._clock} clock rang")

    def close(self) -> None:
        self.over = True
        self._cut.stop()
        if self._pause is not None:
            _end(self._pause)
        if not self._played.closed:
            self._played.closed = True
            self._far.open -= 1


def _end(pause: asyncio.Future[None]) -> None:
    if not pause.done():
        pause.set_result(None)
