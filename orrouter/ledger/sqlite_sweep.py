"""What a ledger's file no longer needs: finished holds, windows that are over, lines beyond their time.

Law: what a hold cost stands in the statement since it was settled, so nothing here changes a sum. Open holds,
corrections and lifetimes are kept. A little in each turn, so that none is long.
"""

from __future__ import annotations

from typing import Final

from orrouter.ledger.sqlite_rows import OPEN, Run
from orrouter.ledger.statement import DAY_S
from orrouter.ledger.windows import HOUR_S

FINISHED: Final = 100_000
"""Finished holds that are kept, for a second word about them or a correction; and none longer than a day."""
STEP: Final = 500
"""Holds that are looked at in one turn."""


class Sweep:
    """Its place in the list of holds, and when it last looked at the rest. `kept` is how long lines are, in seconds."""

    def __init__(self, run: Run, kept: float, finished: int = FINISHED) -> None:
        self._run, self._finished, self._kept = run, finished, kept
        self._from = 0
        self._work = 0
        self._hour = 0.0

    def after(self, written: int, now: float) -> bool:
        """Sweep as much as was written, and once an hour the rest: then True. `now` is the ledger's time."""
        self._work += written
        if self._work >= STEP // 2:
            self._work = 0
            self.holds(now)
        if not self._hour <= now < self._hour + HOUR_S:  # Earlier: the clock was in the future, and was reset.
            self._hour = now
            self.holds(now)
            self.windows(now)
            self.lines(now)
            return True
        return False

    def holds(self, now: float) -> None:
        """Drop finished holds among the next of the list; from its beginning again when the rest is new."""
        (last,) = self._run("SELECT coalesce(max(seq), 0) FROM hold").fetchone()
        newest, earliest = last - self._finished, now - DAY_S
        following = "SELECT seq, admitted FROM hold WHERE seq > ? ORDER BY seq LIMIT ?"
        first = self._run(following, (self._from, 1)).fetchone()
        if first is None or (first[0] > newest and first[1] >= earliest):
            self._from = 0  # The rest is newer still.
            return
        rows = self._run(following, (self._from, STEP)).fetchall()
        old = [seq for seq, admitted in rows if seq <= newest or admitted < earliest]
        if old:
            self._run(f"DELETE FROM hold WHERE seq > ? AND seq <= ? AND NOT {OPEN}", (self._from, old[-1]))  # noqa: S608  # ours
        self._from = old[-1] if len(old) == STEP else 0

    def windows(self, now: float) -> None:
        """Drop windows that have been over for a day and hold nothing."""
        self._run("DELETE FROM bucket WHERE until < ? AND until > 0 AND held = 0 AND suspense = 0", (now - DAY_S,))

    def lines(self, now: float) -> None:
        """Drop lines of the statement that were kept long enough."""
        before = (now - self._kept,)
        self._run("DELETE FROM payer WHERE line IN (SELECT id FROM statement WHERE hour < ?)", before)
        self._run("DELETE FROM statement WHERE hour < ?", before)
