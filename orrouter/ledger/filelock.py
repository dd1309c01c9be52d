"""A lock between processes that dies with its holder: it is tried, never waited for.

Law: `flock` on files of our own, never on a database (closing any descriptor of one drops SQLite's locks). A forked
child closes what it inherited and never unlocks it: the lock is its parent's.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Final

from orrouter.core.errors import LedgerUnavailable

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700

_descriptors: Final[set[int]] = set()
"""What a forked child has to close."""
_told: Final[list[bool]] = []


class FileLock:
    """One lock file, opened once and locked often. Raises LedgerUnavailable where the system knows no `flock`."""

    def __init__(self, path: Path) -> None:
        self._path, self._flock = path, flock_of(path)
        self._descriptor = -1
        self._inode = 0

    def take(self) -> bool:
        """Lock it if it is free. Raises OSError."""
        if self._descriptor < 0:
            self._descriptor = open_private(self._path)
            self._inode = os.fstat(self._descriptor).st_ino
        return try_lock(self._flock, self._descriptor)

    @property
    def lost(self) -> bool:
        """Whether somebody removed or replaced the file, so that others lock another one."""
        try:
            return self._path.stat().st_ino != self._inode
        except FileNotFoundError:
            return True

    def free(self) -> None:
        """Unlock it."""
        if self._descriptor >= 0:
            self._flock.flock(self._descriptor, self._flock.LOCK_UN)

    def close(self) -> None:
        """Let go of the file; a lock on it ends."""
        if self._descriptor >= 0:
            close_private(self._descriptor)
            self._descriptor = -1


def flock_of(path: Path) -> ModuleType:
    """The module that locks files. Raises LedgerUnavailable where the system has none."""
    try:
        import fcntl
    except ImportError:
        raise LedgerUnavailable(
            f"{path}: this system has no flock, by which the processes that share a ledger keep apart; "
            "write ledger: memory:// or run it on Linux or macOS"
        ) from None
    return fcntl


def try_lock(flock: ModuleType, descriptor: int) -> bool:
    """Lock an open file if nobody has locked it."""
    try:
        flock.flock(descriptor, flock.LOCK_EX | flock.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_private(path: Path, flags: int = 0) -> int:
    """Open a file of our own, made where there is none, that no other user may read and no child will keep."""
    if not _told:
        os.register_at_fork(after_in_child=_close_inherited)
        _told.append(True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | flags, PRIVATE_FILE)
    _descriptors.add(descriptor)
    return descriptor


def close_private(descriptor: int) -> None:
    """Close what `open_private` opened."""
    _descriptors.discard(descriptor)
    os.close(descriptor)


def _close_inherited() -> None:
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()
