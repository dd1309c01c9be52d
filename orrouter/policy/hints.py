"""What the writer of a policy most likely meant, said as a hint.

Law: pure functions over words; where the hint is shown is the business of whoever raises the error.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FEW = 10
"""So many choices can still be read in one line."""

_LONGEST_WORD = 64  # difflib compares every letter with every letter: a pasted page is no misspelt word


def nearest(word: str, choices: Iterable[str]) -> str:
    """`did you mean 'attempts'?`, or `one of 'a', 'b'` where nothing is near and few choices exist, or ``""``."""
    known = {choice.lower(): choice for choice in choices}
    close = get_close_matches(word.lower(), known, n=1) if len(word) <= _LONGEST_WORD else []
    if close:
        return f"did you mean {known[close[0]]!r}?"
    if 0 < len(known) <= FEW:
        return "one of " + ", ".join(repr(choice) for choice in sorted(known.values()))
    return ""
