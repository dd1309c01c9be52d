"""Who holds: one file for each ledger object, locked as long as it lives, in whatever process.

Law: knows who is gone by the lock alone, without clock or heartbeat. Only called under the ledger's own lock, so
nobody sees a file that is made but not yet locked.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from orrouter.ledger.filelock import PRIVATE_FOLDER, close_private, flock_of, open_private, try_lock

ID_BYTES: Final = 8


class Owners:
    """The files of one folder. `me` is the id of this one once it has entered."""

    def __init__(self, folder: Path, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._folder, self._flock, self._entropy = folder, flock_of(folder), entropy
        self._others: dict[str, int] = {}
        self._mine = -1
        self.me = ""

    def enter(self) -> str:
        """Make and lock a file of one's own; its name is the id. Raises OSError."""
        if self._mine < 0:
            self._folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
            self.me = self._entropy(ID_BYTES).hex()
            self._mine = open_private(self._folder / self.me)
            try_lock(self._flock, self._mine)
        return self.me

    def note(self, lines: bytes) -> None:
        """Write into one's own file, for whoever comes when we are gone. Raises OSError."""
        if self._mine >= 0:
            os.lseek(self._mine, 0, os.SEEK_END)
            os.write(self._mine, lines)

    def noted(self, name: str) -> bytes:
        """What somebody who is gone has written. Raises OSError."""
        return (self._folder / name).read_bytes() if (self._folder / name).exists() else b""

    def strike(self) -> None:
        """What one has noted is taken care of. Raises OSError."""
        if self._mine >= 0:
            os.ftruncate(self._mine, 0)

    def look(self) -> None:
        """See who is there: after others have entered. Raises OSError."""
        names = {entry.name for entry in os.scandir(self._folder)} - {self.me}
        for name in self._others.keys() - names:
            close_private(self._others.pop(name))
        for name in names - self._others.keys():
            self._others[name] = open_private(self._folder / name)

    @property
    def known(self) -> set[str]:
        """Everybody who has a file."""
        return {self.me, *self._others}

    @property
    def alone(self) -> bool:
        """Whether nobody else has a file."""
        return not self._others

    def gone(self) -> list[str]:
        """Those whose lock has ended: each stays locked by us until it is buried or spared."""
        return [name for name, descriptor in self._others.items() if try_lock(self._flock, descriptor)]

    def bury(self, names: list[str]) -> None:
        """Their holds are taken care of: remove their files."""
        for name in names:
            (self._folder / name).unlink(missing_ok=True)
            close_private(self._others.pop(name))

    def spare(self, names: list[str]) -> None:
        """Their holds could not be taken care of: somebody else, or we ourselves, will try again."""
        for name in names:
            self._flock.flock(self._others[name], self._flock.LOCK_UN)

    def leave(self, *, remove: bool) -> None:
        """Let go of every file; remove our own if nothing of ours is held any more."""
        if self._mine >= 0 and remove:
            (self._folder / self.me).unlink(missing_ok=True)
        for descriptor in (self._mine, *self._others.values()):
            if descriptor >= 0:
                close_private(descriptor)
        self._mine, self.me = -1, ""
        self._others.clear()
