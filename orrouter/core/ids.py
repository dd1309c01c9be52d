"""Ids that no other process will ever make: some random bits of this process, and a counter.

Law: making them. What an id names is said where it is made.
"""

from __future__ import annotations

import itertools
import os


class Ids:
    """Makes ids that begin with `word`; `size` random bytes are drawn with the first, and anew in a forked child."""

    def __init__(self, word: str, size: int) -> None:
        self._word, self._size = word, size
        self._count = itertools.count(1)
        self._prefix = ""
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def __call__(self) -> str:
        """One more: word, bytes in hex, and eight digits of the counter."""
        if not self._prefix:
            self._prefix = self._word + os.urandom(self._size).hex()
        return self._prefix + next(self._count).to_bytes(4, "big").hex()

    def _forget(self) -> None:
        self._prefix = ""
