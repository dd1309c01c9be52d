"""A far end that plays a script: the transport for tests in virtual time.

    far = ScriptedTransport({"big": [Overloaded("busy"), "hello"], "small": ["hi"]})

Each try at a model takes its next act; the last one repeats. An act is a text (said word by word), an error (raised
before anything is said), a dict (the body of an answer in one JSON), or a list of steps: a number waits so many
seconds, a str is said, an error is raised there, `SENT` marks that the request went out, `COMMENT` is a keep-alive,
`EOF` ends without a finish, and a `Finish` ends well. Law: the three laws of `transport/base.py` hold here as they do
over HTTP, and it keeps the clocks in the same way.
"""

from __future__ import annotations

import asyncio
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
    StreamBroken,
    UpstreamTimeout,
)
from orrouter.core.events import Event
from orrouter.core.reply import EventStream, Reply
from orrouter.wire.fold import completion_of
from orrouter.wire.response import note_origin, read_chunk, read_whole


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


Step = float | int | str | Mark | Finish | BaseException
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

    def __init__(self, acts: Mapping[str, Sequence[Act] | Act] | Callable[[Call], Act], provider: str = "Scripted") -> None:
        self._acts, self._provider = acts, provider
        self._played: dict[str, int] = {}
        self.tries: list[Played] = []
        self.open = 0

    @property
    def models(self) -> list[str]:
        """The models asked, in order."""
        return [played.call.target.model for played in self.tries]

    async def __call__(self, call: Call) -> Reply:
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

    def _act(self, call: Call) -> Act:
        if callable(self._acts):
            return self._acts(call)
        model = call.target.model
        acts = self._acts[model]
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


def steps_of(act: Act) -> list[Step | Mapping[str, Any]]:
    """The steps of an act written short."""
    if isinstance(act, str):
        return [SENT, *(word + " " for word in act.split()[:-1]), *act.split()[-1:], Finish()]
    if isinstance(act, BaseException):
        return [SENT, act]
    if isinstance(act, Mapping):
        return [SENT, act]
    return list(act)


class _Tape:
    """The source of one scripted reply."""

    def __init__(
        self, far: ScriptedTransport, played: Played, steps: Sequence[Step | Mapping[str, Any]], provider: str
    ) -> None:
        self._far, self._played, self._call, self._provider = far, played, played.call, provider
        attempt = played.call.attempt
        assert attempt is not None
        self._attempt: Attempt = attempt
        self._steps: Iterator[Step | Mapping[str, Any]] = iter(steps)
        self._loop = asyncio.get_running_loop()
        self._cut = Cut(self._loop)
        self._began = self._sent = self._heard = played.at
        self._clock = "connect"
        self.over = self._said = False
        far.open += 1

    async def read(self) -> list[Event]:
        if self.over:
            return []
        since = self._loop.time()
        try:
            for step in self._steps:
                event = await self._play(step, since)
                if event is not None:
                    return [event]
        except BaseException:
            self.over = True
            raise
        self.over = True
        if self._said:
            raise StreamBroken("the stream ended before the answer was finished")
        raise EmptyReply("the stream ended and nothing had been said")

    async def _play(self, step: Step | Mapping[str, Any], since: float) -> Event | None:
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, int | float):
            with self._cut.at(self._limit(since), self._overdue):
                await asyncio.sleep(step)
            return None
        if isinstance(step, Mark):
            self._mark(step)
            return None
        self._send()
        if isinstance(step, Finish):
            self.over = True
            return self._chunk({}, step.reason, step.usage)
        if isinstance(step, str):
            return self._chunk({"content": step}, None, None)
        self.over = True
        self._commit()
        note_origin(self._attempt, dict(step))
        return read_whole(orjson.dumps(step), dict(step))

    def _mark(self, mark: Mark) -> None:
        self._heard = self._loop.time()
        if mark is SENT:
            self._send()
        elif mark is EOF:
            self._steps = iter(())

    def _send(self) -> None:
        if self._attempt.phase == "not_sent":
            self._attempt.phase, self._sent = "sent", self._loop.time()

    def _chunk(self, delta: dict[str, Any], reason: str | None, usage: Mapping[str, Any] | None) -> Event:
        data: dict[str, Any] = {
            "id": f"gen-{self._attempt.number}",
            "model": self._call.target.model,
            "provider": self._provider,
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        }
        if usage is not None:
            data["usage"] = dict(usage)
        note_origin(self._attempt, data)
        chunk = read_chunk(orjson.dumps(data), data)
        self._heard = self._loop.time()
        if reason is not None and not self._said:
            if reason == "stop":
                raise EmptyReply("the model finished and had said nothing")
            chunk.semantic = True
        if chunk.semantic:
            self._commit()
        return chunk

    def _commit(self) -> None:
        self._said = True
        if self._attempt.first_token is None:
            self._attempt.first_token, self._attempt.phase = self._loop.time(), "committed"

    def _limit(self, since: float) -> float:
        call, clocks = self._call, self._call.clocks
        hard = [(self._began + clocks.attempt, "attempt")] if clocks.attempt is not None else []
        if call.deadline is not None:
            hard.append((call.deadline, "total"))
        if self._attempt.phase == "not_sent":
            soft = [(self._began + clocks.connect, "connect")]
        elif not self._said:
            soft = [(self._sent + clocks.first_token, "first_token")] if clocks.first_token is not None else []
            soft.append((max(since, self._heard) + clocks.dead, "dead"))
        else:
            soft = [(since + clocks.stall, "stall")] if clocks.stall is not None else []
            soft.append((max(since, self._heard) + clocks.dead, "dead"))
        at, self._clock = min(hard + soft)
        return at

    def _overdue(self) -> BaseException:
        if self._clock == "total":
            error = DeadlineExceeded("the deadline of the whole call has passed")
            error.billed = "no" if self._attempt.phase == "not_sent" else "maybe"
            return error
        if self._clock == "connect":
            return ConnectionFailed("no connection in time", billed="no")
        if self._said:
            return StreamBroken(f"the {self._clock} clock rang")
        return UpstreamTimeout(f"the {self._clock} clock rang")

    def close(self) -> None:
        self._cut.stop()
        if not self._played.closed:
            self._played.closed = True
            self._far.open -= 1
