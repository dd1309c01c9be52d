"""A request as the fake upstream reads it: who is asked, how much was said, what is wanted.

Law: a frozen value over the parsed JSON. Whether the request is well formed is decided in `validate.py`; here a
well formed one is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

MEDIA_TOKENS = {"image_url": 1_100, "input_audio": 500, "file": 2_000, "video_url": 3_000, "input_video": 3_000}
"""Prompt tokens of one part of each kind, whatever its size."""

NEEDS = {"image_url": "image", "input_audio": "audio", "file": "file", "video_url": "video", "input_video": "video"}
"""The input modality that a kind of part asks of a model."""


@dataclass(frozen=True)
class Ask:
    """One request for inference: `endpoint` as in `chat/completions`, the JSON `body`, headers by lower-case name."""

    endpoint: str
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def stream(self) -> bool:
        """Whether the answer is wanted as server-sent events."""
        return bool(self.body.get("stream")) and self.endpoint != "embeddings"

    @cached_property
    def slugs(self) -> tuple[str, ...]:
        """The models to try, in order, each once: `model`, then those of `models`."""
        named = [self.body.get("model"), *(self.body.get("models") or ())]
        return tuple(dict.fromkeys(slug for slug in named if slug))

    @property
    def messages(self) -> list[Mapping[str, Any]]:
        """The conversation; a legacy `prompt` counts as one message of the user."""
        given = self.body.get("messages")
        if given:
            return list(given)
        prompt = self.body.get("prompt", self.body.get("input", ""))
        return [{"role": "user", "content": prompt}]

    @cached_property
    def parts(self) -> tuple[Mapping[str, Any], ...]:
        """Every content part of every message; plain text counts as a text part."""
        return tuple(part for message in self.messages for part in _parts(message.get("content")))

    @cached_property
    def last_text(self) -> str:
        """What the last message says in words, if it is the user's, else nothing."""
        last = self.messages[-1]
        if last.get("role") != "user":
            return ""
        return " ".join(str(part.get("text", "")) for part in _parts(last.get("content")) if _is_text(part))

    @cached_property
    def prompt_tokens(self) -> int:
        """A token for each four bytes of text and tool definitions (rounded up), and a flat number for each medium."""
        text = sum(len(str(part.get("text", "")).encode()) for part in self.parts if _is_text(part))
        media = sum(MEDIA_TOKENS.get(str(part.get("type")), 0) for part in self.parts)
        tools = len(orjson.dumps(self.tools)) if self.tools else 0
        return max(1, -(-(text + tools) // 4) + media)

    @property
    def needed_inputs(self) -> frozenset[str]:
        """The modalities beside text that the messages use."""
        return frozenset(NEEDS[kind] for part in self.parts if (kind := str(part.get("type"))) in NEEDS)

    @property
    def needed_outputs(self) -> tuple[str, ...]:
        """The modalities that the answer must be able to have."""
        if self.endpoint == "embeddings":
            return ("embeddings",)
        return tuple(self.body.get("modalities") or ("text",))

    @property
    def tools(self) -> list[Mapping[str, Any]]:
        """The tool definitions offered."""
        return list(self.body.get("tools") or ())

    @property
    def max_tokens(self) -> int | None:
        """The bound on the answer, under its new name or its old one; None when nothing was said."""
        bound = self.body.get("max_completion_tokens") or self.body.get("max_tokens")
        return None if bound is None else int(bound)

    @property
    def stops(self) -> tuple[str, ...]:
        """The words at which the answer must end."""
        stop = self.body.get("stop") or ()
        return (stop,) if isinstance(stop, str) else tuple(stop)

    @cached_property
    def reasoning(self) -> Mapping[str, Any]:
        """The wish for reasoning; both shorthands are folded in."""
        wish = dict(self.body.get("reasoning") or {})
        if "reasoning_effort" in self.body:
            wish.setdefault("effort", self.body["reasoning_effort"])
        if "include_reasoning" in self.body:
            wish.setdefault("enabled", bool(self.body["include_reasoning"]))
        return wish

    @property
    def refuses_reasoning(self) -> bool:
        """Whether the request says that the model must not reason."""
        return self.reasoning.get("enabled") is False or str(self.reasoning.get("effort")) == "none"

    @property
    def wants_reasoning(self) -> bool:
        """Whether the request asks for reasoning and does not take it back."""
        return bool(self.reasoning) and not self.refuses_reasoning

    @property
    def provider(self) -> Mapping[str, Any]:
        """The `provider` object; empty when not given."""
        return self.body.get("provider") or {}

    @property
    def wants_metadata(self) -> bool:
        """Whether `X-OpenRouter-Metadata: enabled` was sent."""
        return str(self.headers.get("x-openrouter-metadata")).lower() == "enabled"


def _parts(content: Any) -> Iterator[Mapping[str, Any]]:
    """Content (text, a list of parts, texts, or token numbers) as parts."""
    items = content if isinstance(content, list) else [content]
    for item in items:
        if isinstance(item, Mapping):
            yield item
        elif item is not None:
            yield {"type": "text", "text": item if isinstance(item, str) else str(item)}


def _is_text(part: Mapping[str, Any]) -> bool:
    return str(part.get("type", "text")) == "text"
