"""A clock that was set back: told once, and again when it happens anew.

Law: says what is wrong and what to do. That windows stay shut meanwhile is the calendar's (`standing`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from orrouter.core.units import show_duration

BEHIND_S: Final = 5.0
"""A clock that is set back by more is told."""


class SetBack:
    """Tells of one ledger. `where` names it, `mend` is what to do if the latest time seen was wrong."""

    def __init__(self, where: str, mend: str, tell: Callable[[str], None] | None) -> None:
        self._where, self._mend, self._tell = where, mend, tell
        self.told = False
        """Whether it was set back when this was last asked."""

    def heed(self, behind: float) -> None:
        """The clock is so many seconds behind the latest time seen; 0 when it is not."""
        back = behind > BEHIND_S
        if back and not self.told and self._tell is not None:
            self._tell(warning(self._where, behind, self._mend))
        self.told = back


def warning(where: str, behind: float, mend: str) -> str:
    """What is wrong, what follows from it, and what to do."""
    return (
        f"{where}: the clock of this machine was set back by {show_duration(behind)}; until it is past the latest time "
        f"seen, budgets go by that time, so that no window that was used up opens again; if that time was wrong, {mend}"
    )
