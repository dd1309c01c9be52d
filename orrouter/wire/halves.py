"""JSON with half a character in it: an upstream that counts in UTF-16 may cut a surrogate pair in two events.

Law: pure, and only for what the fast parser refused. Every text that comes out has bytes in UTF-8.
"""

from __future__ import annotations

import json
from typing import Any

_HALF = (b"\\ud", b"\\uD")


def mended(payload: bytes, halves: dict[str, str]) -> Any:
    """The event with its texts whole; None when it is no JSON even so. Raises nothing.

    A first half at the end of a text is put into `halves` under the place of the text, and stands at the head of
    the text that comes next in that place. Any other half becomes U+FFFD.
    """
    if not any(half in payload for half in _HALF):
        return None
    try:
        return _whole(json.loads(payload.decode(), parse_constant=_refuse), "", halves)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _whole(item: Any, place: str, halves: dict[str, str]) -> Any:
    if type(item) is dict:
        return {_sound(name): _whole(part, f"{place}/{name}", halves) for name, part in item.items()}
    if type(item) is list:
        return [_whole(part, f"{place}/{_number(part, at)}", halves) for at, part in enumerate(item)]
    return _text(item, place, halves) if type(item) is str else item


def _number(part: Any, at: int) -> int:
    """Choices and tool calls say themselves which they are; in each event they may stand elsewhere."""
    index = part.get("index") if type(part) is dict else None
    return index if type(index) is int else at


def _text(text: str, place: str, halves: dict[str, str]) -> str:
    if not text:
        return text
    text = halves.pop(place, "") + text
    if "\ud800" <= text[-1] <= "\udbff":
        halves[place], text = text[-1], text[:-1]
    return _sound(text)


def _sound(text: str) -> str:
    """The text with pairs of halves as characters, and what is left of them as U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
