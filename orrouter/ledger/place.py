"""Where a ledger may lie: a file of one user on a disk of this machine.

Law: looks at paths, rights and mounts; opens nothing that SQLite opens.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from orrouter.core.errors import LedgerUnavailable
from orrouter.ledger.filelock import PRIVATE_FILE

NETWORK = frozenset({
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
    "nfs4", "ocfs2", "orangefs", "smb2", "smb3", "smbfs",
    "fuse.ceph", "fuse.davfs2", "fuse.gcsfuse", "fuse.glusterfs", "fuse.juicefs", "fuse.mfs", "fuse.rclone",
    "fuse.s3fs", "fuse.sshfs",
})  # fmt: skip
"""File systems of other machines: their locks and shared memory cannot be relied on, and SQLite's log needs both."""

MOUNTS = Path("/proc/mounts")


def prepare(path: Path) -> None:
    """Make an empty file that only this user may read. Raises LedgerUnavailable, OSError.

    A folder is not made: where a disk is not mounted or a name is mistyped, a new ledger would know of nothing spent.
    """
    if not path.parent.exists():
        raise LedgerUnavailable(f"{path}: there is no folder {path.parent}; make it (mkdir -m 700), or mount its disk")
    if MOUNTS.exists():  # Elsewhere the standard library cannot tell.
        refuse_network(path, MOUNTS.read_text(encoding="utf-8", errors="replace"))
    try:
        # Only a new file is ever opened here: closing a descriptor of one in use would drop SQLite's locks.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE))
    except FileExistsError:
        refuse_shared(path, path.stat().st_mode)


def refuse_network(path: Path, mounts: str) -> None:
    """Raise LedgerUnavailable where the file lies on another machine, by the text of `/proc/mounts`."""
    kind = filesystem_of(path.resolve(), mounts)
    if kind in NETWORK:
        raise LedgerUnavailable(
            f"{path}: lies on a network file system ({kind}), whose locks cannot be relied on; "
            "put the ledger on a disk of this machine"
        )


def filesystem_of(path: Path, mounts: str) -> str:
    """The type of the file system of an absolute path: that of the longest mount point above it, the last of equals."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) > 2:
            # Space, tab, newline and backslash are written as octal escapes (proc(5), fstab(5)).
            point = Path(fields[1].encode().decode("unicode_escape"))
            if len(point.parts) >= best and path.is_relative_to(point):
                best, kind = len(point.parts), fields[2]
    return kind


def refuse_shared(path: Path, mode: int) -> None:
    """Raise LedgerUnavailable for what is no file, or one that other users may write."""
    if not stat.S_ISREG(mode):
        raise LedgerUnavailable(f"{path}: is no file; name a file that the ledger may make")
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise LedgerUnavailable(
            f"{path}: other users may write it (mode {stat.S_IMODE(mode):o}), and who writes it can raise a budget; "
            f"chmod 600 {path}"
        )
