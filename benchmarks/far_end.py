"""A far end that costs next to nothing: canned answers over a raw asyncio protocol, in a process of its own.

The model's name chooses the answer: `sick/...` gets HTTP 503, `slow/...` the beginning of a stream, `joined/...` a
stream with eight events in each HTTP chunk, all others a chat answer; a body with `"stream":true`
gets the same answer as an event stream of `CHUNKS` deltas. Run by the benchmarks; it prints its port and serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson

CHUNKS = 200
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "runs", "away", "from", "here"]


def _json(status: str, body: bytes, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nX-Generation-Id: gen-1\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _answer() -> bytes:
    text = " ".join(WORDS * 8)
    return orjson.dumps(
        {
            "id": "gen-1",
            "object": "chat.completion",
            "created": 1,
            "model": "openai/gpt-4o",
            "provider": "OpenAI",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "native_finish_reason": "stop",
                    "message": {"role": "assistant", "content": text, "refusal": None, "reasoning": None},
                }
            ],
            "usage": {"prompt_tokens": 12, "completion_tokens": 104, "total_tokens": 116, "cost": 0.00107},
        }
    )


def _stream(chunks: int, joined: int = 1) -> bytes:
    def event(delta: dict, reason: str | None, **more: object) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "native_finish_reason": reason}
        return (
            b"data: "
            + orjson.dumps(
                {
                    "id": "gen-1",
                    "object": "chat.completion.chunk",
                    "created": 1,
                    "model": "openai/gpt-4o",
                    "provider": "OpenAI",
                    "choices": [choice],
                    **more,
                }
            )
            + b"\n\n"
        )

    parts = [event({"role": "assistant", "content": ""}, None)]
    parts += [event({"content": WORDS[at % len(WORDS)] + " "}, None) for at in range(chunks)]
    usage = {"prompt_tokens": 12, "completion_tokens": chunks, "total_tokens": 12 + chunks, "cost": 0.001}
    parts += [event({}, "stop"), event({}, "stop", usage=usage), b"data: [DONE]\n\n"]
    frames = [b"".join(parts[at : at + joined]) for at in range(0, len(parts), joined)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(frame), frame) for frame in frames) + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + body


ANSWER = _json("200 OK", _answer())
SICK = _json(
    "503 Service Unavailable", orjson.dumps({"error": {"code": 503, "message": "Service temporarily overloaded"}})
)
STREAM = _stream(CHUNKS)
JOINED = _stream(CHUNKS, joined=8)
"""The same events, eight in one HTTP chunk, as a proxy between delivers them."""
FIRST = STREAM[: STREAM.index(b"\r\n", STREAM.index(b'"the "')) + 2]
"""The head, a role and the first word; the rest never comes."""


class Peer(asyncio.Protocol):
    """One connection: collects a request, answers it at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.seen, self.need = transport, bytearray(), -1

    def data_received(self, data: bytes) -> None:
        self.seen += data
        while True:
            if self.need < 0:
                end = self.seen.find(b"\r\n\r\n")
                if end < 0:
                    return
                head = bytes(self.seen[:end]).lower()
                at = head.find(b"content-length:")
                length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
                self.need = end + 4 + length
            if len(self.seen) < self.need:
                return
            body = self.seen[: self.need]
            del self.seen[: self.need]
            self.need = -1
            # Models and the wish to stream stand near the ends of the body; a megabyte between is not searched.
            edges = bytes(body[:1200]) + bytes(body[-400:])
            if b'"sick/' in edges:
                self.transport.write(SICK)
            elif b'"slow/' in edges:
                self.transport.write(FIRST)
            elif b'"joined/' in edges:
                self.transport.write(JOINED)
            elif b'"stream":true' in edges:
                self.transport.write(STREAM)
            else:
                self.transport.write(ANSWER)


class Awake(selectors.DefaultSelector):
    """Never sleeps: waking it is paid by whoever sends, and the slower of two sides would wake it more often.

    It ends with the process that began it, however that ends.
    """

    def __init__(self) -> None:
        super().__init__()
        self.looks, self.parent = 0, os.getppid()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.looks += 1
        if not self.looks % 100_000 and os.getppid() != self.parent:
            raise SystemExit
        return super().select(0 if AWAKE else timeout)


AWAKE = (os.cpu_count() or 1) > 1
"""Not where it would take the only core from those that are measured."""


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Peer, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The base URL of a far end in its own process, ended on the way out."""
    process = subprocess.Popen([sys.executable, str(Path(__file__).resolve())], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/api/v1"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    with (
        contextlib.suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(Awake())) as runner,
    ):
        runner.run(serve())
