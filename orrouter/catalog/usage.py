"""The counts of a usage object that are billed: what the upstream says it read, said, wrote and looked up.

Law: reading only. Which count costs how much is decided in `price.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MOST: Final = 10**12
"""No answer has so many tokens: such a count is a mistake."""


@dataclass(frozen=True)
class Counts:
    """The counts of a usage object by which is billed: tokens of text in and out and their parts, and pieces."""

    prompt: int
    completion: int
    cached: int = 0
    written: int = 0
    heard: int = 0
    reasoning: int = 0
    spoken: int = 0
    drawn: int = 0
    searches: int = 0
    images: int = 0

    @classmethod
    def read(cls, usage: Mapping[str, Any], images: int = 0) -> Counts | None:
        """A usage object of a chat or an embedding; None when it does not say how long the prompt was.

        None also where something stands in the place of a count that is none: a bill must not leave it out.

        Some upstreams leave the reasoning out of `completion_tokens` and count it in `total_tokens` alone, so what
        the total holds beyond prompt and completion is completion.
        """
        if usage.get("prompt_tokens") is None:
            return None
        try:
            return cls._read(usage, images)
        except ValueError:
            return None

    @classmethod
    def _read(cls, usage: Mapping[str, Any], images: int) -> Counts:
        prompt = _count(usage, "prompt_tokens")
        into, out = _part(usage, "prompt_tokens_details"), _part(usage, "completion_tokens_details")
        tools = _part(usage, "server_tool_use_details") or _part(usage, "server_tool_use")
        return cls(
            prompt=prompt,
            completion=max(_count(usage, "completion_tokens"), _count(usage, "total_tokens") - prompt),
            cached=_count(into, "cached_tokens"),
            written=_count(into, "cache_write_tokens"),
            heard=_count(into, "audio_tokens"),
            reasoning=_count(out, "reasoning_tokens"),
            spoken=_count(out, "audio_tokens"),
            drawn=_count(out, "image_tokens"),
            searches=_count(tools, "web_search_requests"),
            images=images,
        )


def _part(usage: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = usage.get(key)
    if part is None:
        return {}
    if not isinstance(part, Mapping):
        raise ValueError(f"{key} holds no counts")  # noqa: TRY004  # caught where the usage is given up
    return part


def _count(part: Mapping[str, Any], key: str) -> int:
    count = part.get(key)
    if count is None:
        return 0
    if isinstance(count, bool) or not isinstance(count, int | float) or not 0 <= count < MOST:
        raise ValueError(f"{key} is no count")
    return int(count)
