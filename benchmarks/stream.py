"""What the pipeline costs a streamed chunk, as a ratio to a naive line loop over aiohttp in the same run.

python benchmarks/stream.py            the figures (about a minute)
python benchmarks/stream.py --smoke    that it runs (seconds); judges nothing
python benchmarks/stream.py --keep     writes benchmarks/results/stream.json
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import aiohttp
import orjson
from compare import Row, compare, keep, show
from far_end import CHUNKS, running
from pipeline import HEADERS, SHORT, policy

from orrouter.router import Router

CLOCKS = {"connect": "5s", "first_token": "15s", "stall": "30s"}


async def naive(url: str, session: aiohttp.ClientSession, most: int | None = None, model: str = "openai/gpt-4o") -> str:
    """The loop that everybody writes first: lines, a prefix, JSON."""
    body = {"model": model, "messages": SHORT, "stream": True}
    said = []
    async with session.post(f"{url}/chat/completions", data=orjson.dumps(body), headers=HEADERS) as response:
        async for line in response.content:
            if not line.startswith(b"data: "):
                continue
            payload = line[6:].strip()
            if payload == b"[DONE]":
                break
            choices = orjson.loads(payload)["choices"]
            if choices and choices[0]["delta"].get("content"):
                said.append(choices[0]["delta"]["content"])
                if len(said) == most:
                    break
    return "".join(said)


async def ours(router: Router, most: int | None = None) -> str:
    said = []
    async with router.stream(SHORT) as events:
        async for event in events:
            if event.text:
                said.append(event.text)
                if len(said) == most:
                    break
    return "".join(said)


async def rows_of(url: str, args: argparse.Namespace) -> list[Row]:
    calls, rounds = (5, 2) if args.smoke else (args.calls, args.rounds)

    def many(call: Any, count: int, width: int = 1) -> Any:
        async def worker(turns: int) -> None:
            for _ in range(turns):
                await call()

        async def work() -> None:
            await asyncio.gather(*(worker(max(1, count // width)) for _ in range(width)))

        return work

    async with (
        aiohttp.ClientSession() as session,
        Router.from_policy(policy(url, clocks=CLOCKS)) as router,
        Router.from_policy(policy(url, first="slow/model", clocks=CLOCKS)) as slow,
        Router.from_policy(policy(url, first="joined/model", clocks=CLOCKS)) as joined,
    ):
        assert await naive(url, session) == await ours(router)

        async def collected() -> None:
            assert (await router.chat(SHORT)).text

        return [
            await compare(
                f"a streamed chunk ({CHUNKS} a stream)",
                many(lambda: naive(url, session), calls),
                many(lambda: ours(router), calls),
                units=calls * CHUNKS, rounds=rounds, gate=0.65, goal=0.50,
            ),
            await compare(
                "a streamed chunk, eight in an HTTP chunk",
                many(lambda: naive(url, session, None, "joined/model"), calls),
                many(lambda: ours(joined), calls),
                units=calls * CHUNKS, rounds=rounds, gate=0.65, goal=0.50,
            ),
            await compare(
                "a streamed chunk, 50 streams at once",
                many(lambda: naive(url, session), max(calls, 50), 50),
                many(lambda: ours(router), max(calls, 50), 50),
                units=max(calls, 50) * CHUNKS, rounds=rounds, gate=0.65, goal=0.50,
            ),
            await compare(
                "a chunk of a chat that is streamed inside",
                many(lambda: naive(url, session), calls),
                many(collected, calls),
                units=calls * CHUNKS, rounds=rounds, gate=0.65, goal=0.50,
            ),
            await compare(
                "until the first chunk is in hand",
                many(lambda: naive(url, session, 1, "slow/model"), calls),
                many(lambda: ours(slow, 1), calls),
                units=calls, rounds=rounds, gate=1.10, goal=1.03,
            ),
        ]  # fmt: skip


async def main(args: argparse.Namespace) -> None:
    with running() as url:
        rows = await rows_of(url, args)
    show("Streams against a naive line loop, CPU for one unit", rows)
    if args.keep:
        print(f"kept in {keep('stream', rows)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=11)
    asyncio.run(main(parser.parse_args()))
