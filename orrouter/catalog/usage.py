"""The counts of a usage object that are billed: what the upstream says it read, said, wrote and looked up.

Law: reading only. Which count costs how much is decided in `price.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any


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

        Some upstreams leave the reasoning out of `completion_tokens` and count it in `total_tokens` alone, so what
        the total holds beyond prompt and completion is completion.
        """
        if not isinstance(usage.get("prompt_tokens"), int | float):
            return None
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
    return part if isinstance(part, Mapping) else {}


def _count(part: Mapping[str, Any], key: str) -> int:
    count = part.get(key)
    return max(int(count), 0) if isinstance(count, int | float) and isfinite(count) else 0
