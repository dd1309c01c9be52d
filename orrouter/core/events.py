"""What a reply is made of: the chunks of a stream, or one whole JSON body.

Law: values, with the raw bytes kept beside them; what a chunk says is read already, the rest is parsed when asked
for. How bytes become events is `wire/response.py`'s; how events become a completion too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

Json = dict[str, Any]


def first_choice(data: Json) -> Json:
    """The first choice of an answer; empty where there is none, or something that is no choice."""
    choices = data.get("choices")
    first = choices[0] if type(choices) is list and choices else None
    return first if type(first) is dict else {}


def text_of(choice: Json) -> str:
    """What a whole choice says: its message's content, parts of a list joined, or the older `text`."""
    message = choice.get("message")
    content = message.get("content") if type(message) is dict else None
    if type(content) is list:
        content = "".join(_texts(content))
    said = content if type(content) is str else choice.get("text")
    return said if type(said) is str else ""


def _texts(parts: list[Any]) -> Iterator[str]:
    for part in parts:
        text = part.get("text") if type(part) is dict else None
        if type(text) is str:
            yield text


class Chunk:
    """One event of a stream.

    `data` is the parsed object and `raw` its JSON bytes (without `data: `); given None as `data`, they are parsed when
    asked for. `text` is what choice 0 says in it; `like` an earlier event that it equals but for its text; `semantic`
    tells whether it is more than an envelope: content, reasoning, refusal, tool call, audio, image, or a finish that
    is an answer by itself.
    """

    __slots__ = ("_data", "failed", "finish_reason", "like", "raw", "semantic", "slow", "text", "usage")

    def __init__(self, raw: bytes, data: Json | None, text: str = "", like: Json | None = None) -> None:
        self.raw, self._data, self.text, self.like = raw, data, text, like
        self.semantic = text != ""
        self.finish_reason: str | None = None
        self.usage: Mapping[str, Any] | None = None
        self.failed = False
        """True when the event may tell of a failure and has to be judged."""
        self.slow = False
        """True inside a tool call or a reasoning block: silence may last longer there."""

    @property
    def data(self) -> Json:
        """The parsed object."""
        if self._data is None:
            self._data = orjson.loads(self.raw)
        return self._data

    @property
    def delta(self) -> Json:
        """The delta of the first choice; empty when there is none."""
        delta = first_choice(self.data).get("delta")
        return delta if type(delta) is dict else {}

    @property
    def reasoning(self) -> str:
        """The reasoning text in this chunk."""
        reasoning = self.delta.get("reasoning")
        return reasoning if type(reasoning) is str else ""

    def __repr__(self) -> str:
        return f"Chunk(text={self.text!r}, finish_reason={self.finish_reason!r})"


class Whole:
    """An answer that is one JSON body."""

    __slots__ = ("data", "finish_reason", "raw", "semantic", "slow", "usage")

    def __init__(self, raw: bytes, data: Json) -> None:
        self.raw, self.data = raw, data
        reason = first_choice(data).get("finish_reason")
        self.finish_reason: str | None = reason if type(reason) is str else None
        usage = data.get("usage")
        self.usage: Mapping[str, Any] | None = usage if type(usage) is dict else None
        self.semantic = True
        self.slow = False

    @property
    def text(self) -> str:
        """What the first choice says; empty for an answer without words."""
        return text_of(first_choice(self.data))

    def __repr__(self) -> str:
        return f"Whole(text={self.text!r}, finish_reason={self.finish_reason!r})"


Event = Chunk | Whole


class End(NamedTuple):
    """How a reply ended. `error` None: the upstream said it all; GeneratorExit: it was left unread."""

    finish_reason: str | None
    usage: Mapping[str, Any] | None
    error: BaseException | None
