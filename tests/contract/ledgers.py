"""The ledgers that are held to one conduct. A store is added by its line in LEDGERS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from orrouter.ledger.base import Ledger
from orrouter.ledger.memory import MemoryLedger
from orrouter.ledger.sqlite import SqliteLedger

NOON: Final = 1_795_262_400.0
"""2026-11-21 12:00 UTC, a Saturday."""
HOUR: Final = 3_600.0
DAY: Final = 86_400.0


class Wall:
    """A clock that stands where it is put."""

    def __init__(self, at: float = NOON) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


LEDGERS: Final[dict[str, Callable[[Path, Wall], Ledger]]] = {
    "memory": lambda folder, wall: MemoryLedger(wall),
    "sqlite": lambda folder, wall: SqliteLedger(folder / "spend.db", wall),
}
"""Each store by its name, made in a folder of its own and with a clock."""
