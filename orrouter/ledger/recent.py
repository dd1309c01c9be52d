"""What happened lately, by id: so much is remembered, and no more.

Law: one table and nothing of money.
"""

from __future__ import annotations

from collections import deque
from typing import TypeVar

T = TypeVar("T")


class Recent(dict[str, T]):
    """Remembers the last `size` things it was told.

    One goes for each that comes: dropping many at once would have Python look for garbage again and again meanwhile.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._order: deque[str] = deque()

    def add(self, name: str, thing: T) -> None:
        """Remember a thing."""
        if name not in self:
            self._order.append(name)
        self[name] = thing
        if len(self) > self._size:
            del self[self._order.popleft()]
