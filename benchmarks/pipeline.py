"""What the whole pipeline costs a call, as a ratio to bare aiohttp + orjson in the same run.

python benchmarks/pipeline.py            the figures (about two minutes)
python benchmarks/pipeline.py --smoke    that it runs (seconds); judges nothing
python benchmarks/pipeline.py --keep     writes benchmarks/results/pipeline.json
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import orjson
from compare import UNJUDGED, Row, compare, keep, show
from far_end import running

from orrouter.router import Router

HEADERS = {"Authorization": "Bearer sk-or-v1-benchmark", "Content-Type": "application/json"}
SHORT = [{"role": "user", "content": "Say something about foxes."}]
LONG = [{"role": "user" if at % 2 else "assistant", "content": "word " * 400} for at in range(100)]
IMAGE = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0K" * 131_072}},
        ],
    }
]


def policy(
    url: str, *, first: str = "openai/gpt-4o", clocks: dict[str, str] | None = None, breaker: str = "active"
) -> dict[str, Any]:
    """Every layer at work, without money."""
    return {
        "version": 1,
        "upstreams": {"openrouter": {"base_url": url, "api_key": "sk-or-v1-benchmark"}},
        "policies": {
            "default": [
                {"deadline": {"total": "120s"}},
                {"fallback": {"models": [first, "anthropic/claude-sonnet-4.5"]}},
                {"provider": {"data_collection": "deny"}},
                {"retry": {"attempts": 3}},
                {"breaker": {"mode": breaker}},
                {"deadline": clocks or {"connect": "5s", "attempt": "60s"}},
            ]
        },
    }


def with_money(url: str, ledger: str) -> dict[str, Any]:
    """The same with the cap and the budget of config/default.yaml; nobody runs out."""
    whole = policy(url)
    whole["ledger"] = ledger
    whole["policies"]["default"][1:1] = [
        {"cost_cap": {"per_call": "$0.50"}},
        {"budget": {"account": "team:{team:-none}", "limits": {"day": "$900000", "month": "$900000"}}},
    ]
    return whole


class Bench:
    """The two sides on one far end."""

    def __init__(self, url: str, session: aiohttp.ClientSession, args: argparse.Namespace) -> None:
        self.url, self.session, self.smoke = url, session, args.smoke
        self.calls, self.rounds = (20, 2) if args.smoke else (args.calls, args.rounds)

    async def bare(self, messages: list[Any], model: str = "openai/gpt-4o") -> int:
        body = {"model": model, "messages": messages, "provider": {"data_collection": "deny"}}
        async with self.session.post(
            f"{self.url}/chat/completions", data=orjson.dumps(body), headers=HEADERS
        ) as response:
            answer = orjson.loads(await response.read())
            if response.status == 200:
                assert answer["choices"][0]["message"]["content"]
            return response.status

    async def twice(self, messages: list[Any]) -> None:
        assert await self.bare(messages, "sick/model") == 503
        await self.bare(messages)

    def one_at_a_time(self, call: Callable[[], Any], calls: int) -> Callable[[], Any]:
        async def work() -> None:
            for _ in range(calls):
                await call()

        return work

    def side_by_side(self, call: Callable[[], Any], calls: int, width: int = 50) -> Callable[[], Any]:
        async def worker(count: int) -> None:
            for _ in range(count):
                await call()

        async def work() -> None:
            await asyncio.gather(*(worker(calls // width or 1) for _ in range(width)))

        return work

    async def row(self, work: str, bare: Any, ours: Any, calls: int, gate: float, goal: float) -> Row:
        return await compare(work, bare, ours, units=calls, rounds=self.rounds, gate=gate, goal=goal)


async def rows_of(bench: Bench) -> list[Row]:
    calls = bench.calls
    async with (
        Router.from_policy(policy(bench.url)) as router,
        # A breaker that only counts: an open one would spare the first call that the bare side makes.
        Router.from_policy(policy(bench.url, first="sick/model", breaker="metrics_only")) as sick,
    ):

        async def chat(messages: list[Any]) -> None:
            done = await router.chat(messages)
            assert done.text

        async def fallen() -> None:
            done = await sick.chat(SHORT)
            assert done.text

        def short() -> Any:
            return chat(SHORT)

        few = max(10, calls // 10)
        return [
            await bench.row(
                "chat, 50 at once",
                bench.side_by_side(lambda: bench.bare(SHORT), calls),
                bench.side_by_side(short, calls),
                calls, 1.25, 1.12,
            ),
            await bench.row(
                "chat, one at a time",
                bench.one_at_a_time(lambda: bench.bare(SHORT), calls),
                bench.one_at_a_time(short, calls),
                calls, 1.20, 1.08,
            ),
            await bench.row(
                "503, then the next model (of two calls)",
                bench.one_at_a_time(lambda: bench.twice(SHORT), calls),
                bench.one_at_a_time(fallen, calls),
                calls, 1.20, 1.10,
            ),
            await bench.row(
                "chat with 200 kB of messages",
                bench.one_at_a_time(lambda: bench.bare(LONG), few),
                bench.one_at_a_time(lambda: chat(LONG), few),
                few, 1.25, 1.10,
            ),
            await bench.row(
                "chat with an image of 1 MB",
                bench.one_at_a_time(lambda: bench.bare(IMAGE), few),
                bench.one_at_a_time(lambda: chat(IMAGE), few),
                few, 1.10, 1.05,
            ),
        ]  # fmt: skip


async def money_rows_of(bench: Bench) -> list[Row]:
    """A chat under a cap and a budget, with the ledger in memory and in SQLite.

    One at a time with SQLite is shown and not judged: each call pays for a transaction of its own, and what SQLite and
    the disk take of that is beyond the gate already. Calls at once share one.
    """
    rows = []
    with TemporaryDirectory() as folder:
        for ledger, gate, goal in (("memory://", 1.35, 1.20), (f"sqlite:///{folder}/spend.db", 1.6, 1.35)):
            name = ledger.partition(":")[0]
            async with Router.from_policy(with_money(bench.url, ledger)) as router:
                assert (await router.chat(SHORT)).held

                async def chat(router: Router = router) -> None:
                    assert (await router.chat(SHORT)).text

                for label, work in (("50 at once", bench.side_by_side), ("one at a time", bench.one_at_a_time)):
                    bare, ours = work(lambda: bench.bare(SHORT), bench.calls), work(chat, bench.calls)
                    judged = (gate, goal) if (name, label) != ("sqlite", "one at a time") else (UNJUDGED, UNJUDGED)
                    rows.append(await bench.row(f"chat with money ({name}), {label}", bare, ours, bench.calls, *judged))
    return rows


async def next_model_ms(url: str, tries: int) -> float:
    """Milliseconds on the clock from the 503 in hand until the next model is asked: the median."""
    gaps = []
    async with Router.from_policy(policy(url, first="sick/model", breaker="metrics_only")) as router:
        for _ in range(tries):
            record = (await router.chat(SHORT)).record
            first, second = record.attempts
            gaps.append((second.started_s - first.ended_s) * 1000)
    return sorted(gaps)[len(gaps) // 2]


def import_ms(module: str, tries: int) -> float:
    """Milliseconds that importing a module adds to an interpreter: the median."""
    program = f"import time; a = time.perf_counter(); import {module}; print((time.perf_counter() - a) * 1000)"
    runs = [
        float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
        for _ in range(tries)
    ]
    return sorted(runs)[len(runs) // 2]


MEMORY = """
import asyncio, resource, sys, gc
sys.path.insert(0, {here!r})
async def main():
    from pipeline import SHORT, policy
    import aiohttp, orjson
    def rss():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    bare = rss()
    from orrouter.router import Router
    async with Router.from_policy(policy({url!r})) as router:
        async def burst(count):
            for _ in range(count):
                await router.chat(SHORT)
        await burst({calls})
        warm = rss()
        await burst({calls})
        await burst({calls})
        print((warm - bare) / 2**20, (rss() - warm) / (2 * {calls}))
asyncio.run(main())
"""


def memory(url: str, calls: int) -> tuple[float, float]:
    """MiB over a process that has imported aiohttp and orjson, and bytes that each further call adds."""
    here = __file__.rpartition("/")[0]
    program = MEMORY.format(here=here, url=url, calls=calls)
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    return float(shown[0]), float(shown[1])


async def main(args: argparse.Namespace) -> None:
    started = time.monotonic()
    with running() as url:
        async with aiohttp.ClientSession() as session:
            bench = Bench(url, session, args)
            rows = [*await rows_of(bench), *await money_rows_of(bench)]
        gap = await next_model_ms(url, 5 if args.smoke else 200)
        mib, growth = await asyncio.to_thread(memory, url, 50 if args.smoke else 5000)
    imported = import_ms("orrouter", 1 if args.smoke else 9)
    show("The pipeline against bare aiohttp + orjson, CPU for one call", rows)
    print(f"\nfrom a 503 to the next model: {gap:.2f} ms (gate 2 ms)")
    print(f"import orrouter: {imported:.1f} ms (gate 50 ms)")
    print(f"memory over aiohttp: {mib:.1f} MiB (gate 20 MiB); growth a call: {growth:.0f} bytes (gate 100 bytes)")
    print(f"took {time.monotonic() - started:.0f} s")
    if args.keep:
        extra = {"next_model_ms": gap, "import_ms": imported, "memory_mib": mib, "growth_bytes_a_call": growth}
        print(f"kept in {keep('pipeline', rows, extra)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=15)
    asyncio.run(main(parser.parse_args()))
