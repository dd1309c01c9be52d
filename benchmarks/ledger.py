"""What a hold costs: reserve and settle over three accounts, alone, side by side, in six processes.

python benchmarks/ledger.py            the figures (about two minutes)
python benchmarks/ledger.py --smoke    that it runs (seconds); judges nothing
python benchmarks/ledger.py --keep     writes benchmarks/results/ledger.json

Times are by the clock on the wall, as a caller waits for them; so another load on the machine shows. The cost of one
fsync stands beside them: at `durable: power` each turn of the loop pays one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orrouter.core.limit import Account
from orrouter.ledger.base import Hold, Ledger, new_hold_id
from orrouter.ledger.open import open_ledger

ACCOUNTS = tuple(Account(name, (("day", 10**16),)) for name in ("key:app", "team:search", "org"))
PROCESSES, TASKS, THINK_S = 6, 50, 0.02


@dataclass
class Figure:
    """One measured thing. `least` or `most` is what it has to reach."""

    what: str
    value: float
    unit: str
    least: float | None = None
    most: float | None = None

    @property
    def verdict(self) -> str:
        if self.least is None and self.most is None:
            return ""
        good = (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)
        return "reached" if good else "MISSED"

    def __str__(self) -> str:
        bound = f"≥ {self.least:,.0f}" if self.least is not None else f"≤ {self.most:,.0f}" if self.most else ""
        return f"{self.what:<62}{self.value:>12,.1f} {self.unit:<6}{bound:>10}  {self.verdict}"


def part_of(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def hold() -> Hold:
    return Hold(new_hold_id(), 1000, ACCOUNTS, "openrouter", "main", "some/model")


async def pay(ledger: Ledger, calls: int) -> list[float]:
    """One caller, one after the other: microseconds for each reserve and settle."""
    took = []
    for _ in range(calls):
        started = time.perf_counter()
        one = hold()
        await ledger.reserve(one)
        ledger.settle(one.id, 500, provider="Someone", model="some/model")
        took.append((time.perf_counter() - started) * 1e6)
    return took


async def alone(ledger: Ledger, calls: int) -> list[float]:
    """Microseconds for each, with a turn of the loop between: a caller waits for his upstream at least as long."""
    await ledger.open()
    await pay(ledger, calls // 10)
    took = []
    for _ in range(calls):
        took += await pay(ledger, 1)
        await asyncio.sleep(0)
    await ledger.aclose()
    return took


async def pay_on(ledger: Ledger, calls: int) -> None:
    """As `pay`, keeping nothing."""
    for _ in range(calls):
        await pay(ledger, 1)


async def together(ledger: Ledger, callers: int, calls: int) -> float:
    """Reserve and settle a second with so many callers at once."""
    await ledger.open()
    await pay(ledger, 10)
    started = time.perf_counter()
    await asyncio.gather(*(pay(ledger, calls) for _ in range(callers)))
    await ledger.flush()
    rate = callers * calls / (time.perf_counter() - started)
    await ledger.aclose()
    return rate


async def worker(url: str, seconds: float) -> None:
    """One of the processes: its tasks reserve, work for a moment, settle. Prints what it did as JSON."""
    ledger = open_ledger(url, wall=time.time)
    await ledger.open()
    print("ready", flush=True)
    sys.stdin.readline()
    end, waits = time.perf_counter() + seconds, []

    async def task() -> None:
        while (started := time.perf_counter()) < end:
            one = hold()
            await ledger.reserve(one)
            waits.append(time.perf_counter() - started)
            await asyncio.sleep(THINK_S)
            ledger.settle(one.id, 500, provider="Someone", model="some/model")

    await asyncio.gather(*(task() for _ in range(TASKS)))
    await ledger.aclose()
    print(json.dumps(waits), flush=True)


def processes(url: str, seconds: float) -> list[list[float]]:
    """The waits of each process, in seconds."""
    command = [sys.executable, __file__, "--worker", url, "--seconds", str(seconds)]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
    ]
    for one in started:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in started:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    return [json.loads(one.communicate()[0]) for one in started]


def fsync_us(folder: Path, tries: int = 200) -> float:
    descriptor = os.open(folder / "fsync", os.O_CREAT | os.O_RDWR)
    took = []
    for at in range(tries):
        os.pwrite(descriptor, b"x" * 4096, 4096 * at)
        started = time.perf_counter()
        os.fsync(descriptor)
        took.append((time.perf_counter() - started) * 1e6)
    os.close(descriptor)
    return part_of(took, 0.5)


def rss() -> float:
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def mib(file: Path | None) -> float:
    return file.stat().st_size / 2**20 if file else 0.0


async def growth(ledger: Ledger, file: Path | None, calls: int) -> list[Figure]:
    """Memory and file after so many settled holds, against a tenth of them."""
    name = "SQLite" if file else "memory"
    await ledger.open()
    await asyncio.gather(*(pay_on(ledger, calls // 640) for _ in range(64)))
    await ledger.flush()
    warm, size = rss(), mib(file)
    await asyncio.gather(*(pay_on(ledger, calls // 64) for _ in range(64)))
    await ledger.flush()
    figures = [
        Figure(f"{name}: bytes of memory a hold, over {calls:,} settled", (rss() - warm) / calls, "bytes", most=4)
    ]
    if file:
        figures.append(Figure("SQLite: file after a tenth of them", size, "MiB"))
        figures.append(Figure("SQLite: file after all of them", mib(file), "MiB"))
    await ledger.aclose()
    return figures


async def measure(args: argparse.Namespace, folder: Path) -> list[Figure]:
    calls, seconds = (200, 0.3) if args.smoke else (10_000, 8.0)
    count = 2_000 if args.smoke else 1_000_000

    def sqlite(name: str, durable: str = "process") -> Ledger:
        return open_ledger(f"sqlite:///{name}.db", wall=time.time, base=folder, durable=durable)

    figures = [Figure("fsync of 4 KiB, p50", fsync_us(folder), "µs")]
    memory = await alone(open_ledger("memory://", wall=time.time), calls)
    figures.append(Figure("memory, one caller, p50", part_of(memory, 0.5), "µs", most=5))
    for durable, most in (("process", 60), ("power", None)):
        took = await alone(sqlite(f"alone-{durable}", durable), calls if durable == "process" else calls // 5)
        figures.append(Figure(f"SQLite {durable}, one caller, p50", part_of(took, 0.5), "µs", most=most))
        figures.append(Figure(f"SQLite {durable}, one caller, p99", part_of(took, 0.99), "µs"))
    for durable, least in (("process", None), ("power", 20_000)):
        rate = await together(sqlite(f"together-{durable}", durable), 64, calls // 16)
        figures.append(Figure(f"SQLite {durable}, 64 callers", rate, "/s", least=least))
    figures += many(await asyncio.to_thread(processes, f"sqlite:///{folder}/many.db", seconds), seconds)
    figures += await growth(open_ledger("memory://", wall=time.time), None, count)
    figures += await growth(sqlite("growth"), folder / "growth.db", count)
    return figures


def many(waits: list[list[float]], seconds: float) -> list[Figure]:
    each = sorted(len(one) / seconds for one in waits)
    every = [wait * 1000 for one in waits for wait in one]
    name = f"{PROCESSES} processes of {TASKS} tasks"
    return [
        Figure(f"{name}, together", sum(each), "/s", least=8_000),
        Figure(f"{name}, the slowest process", each[0], "/s"),
        Figure(f"{name}, the fastest process", each[-1], "/s"),
        Figure(f"{name}, wait p50", part_of(every, 0.5), "ms"),
        Figure(f"{name}, wait p99", part_of(every, 0.99), "ms", most=20),
        Figure(f"{name}, longest wait", max(every), "ms"),
    ]


def keep(figures: list[Figure]) -> Path:
    file = Path(__file__).resolve().parent / "results" / "ledger.json"
    file.parent.mkdir(exist_ok=True)
    kept: dict[str, Any] = {
        "measured": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "figures": [{**asdict(figure), "reached": figure.verdict} for figure in figures],
    }
    file.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return file


async def main(args: argparse.Namespace) -> None:
    if args.worker:
        await worker(args.worker, args.seconds)
        return
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        figures = await measure(args, Path(folder))
    print(f"Reserve and settle over three accounts ({platform.python_version()}, {platform.machine()})")
    for figure in figures:
        print(figure)
    print(f"took {time.monotonic() - started:.0f} s")
    if args.keep:
        print(f"kept in {keep(figures)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=0.0, help=argparse.SUPPRESS)
    asyncio.run(main(parser.parse_args()))
