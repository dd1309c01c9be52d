"""A value that shows itself to nobody: keys of upstreams.

Law: the only way to the text is `reveal()`, called where a header is made.
"""

from __future__ import annotations

import hashlib
from typing import NoReturn


class Secret:
    """A secret text. Its repr and str are `****`; it does not pickle, and it compares by identity of content."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    @property
    def name(self) -> str:
        """A short name that tells two secrets apart and gives neither away (48 bits of a SHA-256)."""
        return hashlib.sha256(self._text.encode()).hexdigest()[:12]

    def __repr__(self) -> str:
        return "****"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")
