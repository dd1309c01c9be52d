"""The bytes round the words of an event: what fits into them differs from that event in its words alone.

Law: pure, and never a guess. A mould is proven by parsing a probe that was put into it; words that would need
parsing to be sure of are not read here. Of the events of a stream nine in ten fit the mould of the one before, and
reading them so costs a third of parsing them.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from orrouter.core.events import Json
from orrouter.wire.response import plain_words

_NAME: Final = b'"content":'
_PROBE: Final = "probe"
_OF_A_CHOICE: Final = frozenset({"delta", "finish_reason", "index", "native_finish_reason"})
_OF_A_DELTA: Final = frozenset({"content", "role"})


class Mould:
    """Made from one event, `data`, in which nothing but its words adds to the answer when it is said again."""

    __slots__ = ("_after", "_before", "_from", "_to", "data")

    def __init__(self, before: bytes, after: bytes, data: Json) -> None:
        self._before, self._after, self.data = before, after, data
        self._from, self._to = len(before), -len(after)

    def words(self, payload: bytes) -> str | None:
        """What an event says that fits; empty where only a parser can tell, None where it does not fit."""
        if not payload.startswith(self._before) or not payload.endswith(self._after):
            return None
        try:
            text = payload[self._from : self._to].decode()
        except UnicodeDecodeError:
            return ""
        # A quote or a backslash would end the text or change it, and a control character is no JSON.
        return "" if '"' in text or "\\" in text or not text.isprintable() else text


def mould_of(payload: bytes, data: Json, words: str) -> Mould | None:
    """The mould of an event that says these plain words; None where there is none, or no proof of it."""
    literal = _NAME + orjson.dumps(words)
    at = payload.find(literal)
    if at < 0 or not _says_only_words(data):
        return None
    before, after = payload[: at + len(_NAME) + 1], payload[at + len(literal) - 1 :]
    try:
        probe: Any = orjson.loads(before + _PROBE.encode() + after)
    except orjson.JSONDecodeError:
        return None
    return Mould(before, after, data) if plain_words(probe) == _PROBE else None


def _says_only_words(data: Json) -> bool:
    """Whether the event, said twice, would add nothing but its words: no lists to lengthen, no other text to join."""
    choice = data["choices"][0]
    delta = choice["delta"]
    return all(name in _OF_A_CHOICE or value is None for name, value in choice.items()) and all(
        name in _OF_A_DELTA or value is None for name, value in delta.items()
    )
