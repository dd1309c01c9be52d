"""Performs a plan on a connection: the one place where a reply's bytes, pauses and cuts happen.

Law: no decision is made here. What was sent is counted in a `Tally`, so that it is known also when the client
leaves in the middle.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass

from aiohttp import web

from orrouter.testkit.log import Finished
from orrouter.testkit.plans import Act, Cut, Hang, Plan, Send, Start, Wait


class ServerStoppedError(Exception):
    """The server was stopped while a reply waited."""


@dataclass(slots=True)
class Tally:
    """How far a reply came: completion tokens sent, and how it ended."""

    produced: int = 0
    finished: Finished = "client_gone"


class Pace:
    """Waits, `speed` times as fast as asked, and no longer than the server lives."""

    def __init__(self, speed: float, beat: float, between: float) -> None:
        self.stopping = asyncio.Event()
        self.between = between
        self._beat = beat
        self._speed = speed

    async def wait(self, seconds: float) -> None:
        """Returns after so many (scaled) seconds. Raises ServerStoppedError when the server stops before."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(seconds / self._speed):
                await self.stopping.wait()
        except TimeoutError:
            return
        raise ServerStoppedError

    async def hang(self, response: web.StreamResponse, beat: bytes) -> None:
        """Sends `beat` now and then, for ever. Raises ServerStoppedError."""
        while beat:
            await response.write(beat)
            await self.wait(self._beat)
        await self.stopping.wait()
        raise ServerStoppedError


async def play(plan: Plan, request: web.Request, pace: Pace, tally: Tally) -> web.StreamResponse:
    """The reply of a plan, sent. Raises ConnectionError or CancelledError when the client leaves."""
    response = web.StreamResponse(status=plan.status, headers=dict(plan.headers))
    sent = [act.data for act in plan.acts if isinstance(act, Send)]
    if len(sent) <= 1 and not any(isinstance(act, (Hang, Cut)) for act in plan.acts):
        response.content_length = len(b"".join(sent))
    try:
        for act in plan.acts:
            if isinstance(act, Cut):
                return _cut(request, response, tally, act)
            await _perform(act, request, response, pace, tally)
        await response.write_eof()
    except ServerStoppedError:
        return _cut(request, response, tally, Cut())
    tally.finished = "done"
    return response


async def _perform(act: Act, request: web.Request, response: web.StreamResponse, pace: Pace, tally: Tally) -> None:
    match act:
        case Start():
            await response.prepare(request)
        case Send():
            tally.produced += act.tokens
            await response.write(act.data)
            if act.kind == "delta":
                await pace.wait(pace.between)
        case Wait():
            await pace.wait(act.seconds)
        case Hang():
            await pace.hang(response, act.beat)


def _cut(request: web.Request, response: web.StreamResponse, tally: Tally, act: Cut) -> web.StreamResponse:
    """Ends the connection without ending the reply; a reset is what a client sees of a crashed machine."""
    tally.finished = "cut"
    transport = request.transport
    if transport is not None and act.reset:
        own = transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    elif transport is not None:
        transport.close()
    return response
