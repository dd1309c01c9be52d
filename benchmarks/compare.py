"""Two ways of doing the same work, measured turn by turn in one process: the ratio of their CPU time.

CPU time of this process (user and system), not the clock on the wall: the far end runs in another process, and what
else the machine does must not count. Each round runs one after the other, in alternating order; a row is the median
of the rounds' ratios. Machines differ, ratios much less.
"""

from __future__ import annotations

import gc
import json
import platform
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

Work = Callable[[], Awaitable[None]]
UNJUDGED = float("inf")
RESULTS = Path(__file__).resolve().parent / "results"


@dataclass
class Row:
    """One kind of work. Times in microseconds of CPU for one unit of it."""

    work: str
    bare_us: float
    ours_us: float
    ratio: float
    gate: float
    goal: float
    """Infinite both: a row that is shown and not judged."""

    @property
    def verdict(self) -> str:
        if self.gate == UNJUDGED:
            return ""
        return "goal" if self.ratio <= self.goal else "gate" if self.ratio <= self.gate else "MISSED"


async def cpu(work: Work) -> float:
    started = time.process_time()
    await work()
    return time.process_time() - started


async def compare(work: str, bare: Work, ours: Work, *, units: int, rounds: int, gate: float, goal: float) -> Row:
    """The row for two ways of doing `units` pieces of work."""
    await bare()
    await ours()
    pairs = []
    for at in range(rounds):
        gc.collect()
        if at % 2:
            second = await cpu(ours)
            first = await cpu(bare)
        else:
            first = await cpu(bare)
            second = await cpu(ours)
        pairs.append((first, second))
    ratio = statistics.median(second / first for first, second in pairs)
    unit = 1e6 / units
    return Row(
        work,
        statistics.median(first for first, _ in pairs) * unit,
        statistics.median(second for _, second in pairs) * unit,
        ratio,
        gate,
        goal,
    )


def show(title: str, rows: list[Row]) -> None:
    print(f"\n{title} ({platform.python_implementation()} {platform.python_version()}, {platform.machine()})")
    print(f"{'work':<44}{'bare µs':>10}{'ours µs':>10}{'ratio':>8}{'gate':>7}{'goal':>7}  reached")
    for row in rows:
        gate, goal = ("", "") if row.gate == UNJUDGED else (f"{row.gate:.2f}", f"{row.goal:.2f}")
        print(
            f"{row.work:<44}{row.bare_us:>10.1f}{row.ours_us:>10.1f}{row.ratio:>8.3f}{gate:>7}{goal:>7}  {row.verdict}"
        )


def keep(name: str, rows: list[Row], extra: dict[str, object] | None = None) -> Path:
    """Write the rows to `results/NAME.json` and return the file."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    kept = {
        "measured": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "rows": [
            {name: value for name, value in asdict(row).items() if value != UNJUDGED} | {"reached": row.verdict}
            for row in rows
        ],
        **(extra or {}),
    }
    file.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return file
