"""What happened lately, by id: so much is remembered, and no more.

Law: two tables and nothing of money.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Remembers at least the last `size` things it was told, and at most twice as many.

    Two generations: when the younger is full it becomes the older, and that one is forgotten as a whole.
    """

    __slots__ = ("_older", "_size", "_younger")

    def __init__(self, size: int) -> None:
        self._size = size
        self._younger: dict[str, T] = {}
        self._older: dict[str, T] = {}

    def add(self, name: str, thing: T) -> None:
        """Remember a thing."""
        if len(self._younger) >= self._size:
            self._older, self._younger = self._younger, {}
        self._younger[name] = thing

    def get(self, name: str) -> T | None:
        """The thing, or None when nobody told it lately."""
        thing = self._younger.get(name)
        return self._older.get(name) if thing is None else thing

    def __contains__(self, name: str) -> bool:
        return name in self._younger or name in self._older

    def __len__(self) -> int:
        return len(self._younger) + len(self._older)
