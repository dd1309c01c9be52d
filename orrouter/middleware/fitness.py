"""Whether a target can serve a request at all: keys, context, tools, what it can see.

Law: pure; used by fallback, and by `explain` to say beforehand what would be skipped. What the catalog does not know
never rules a target out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from orrouter.catalog.model import Model
from orrouter.core.call import Target

BYTES_A_TOKEN: Final = 8
"""More bytes than a token of any text spans on average: a prompt of `8 x context` characters surely does not fit."""

_PARTS: Final[Mapping[str, str]] = {
    "image_url": "image",
    "input_image": "image",
    "input_audio": "audio",
    "video_url": "video",
    "input_video": "video",
}
"""Content parts and the modality a model needs for them. Files are parsed by the upstream for any model."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request asks of a model."""

    characters: int = 0
    tools: bool = False
    schema: bool = False
    modalities: frozenset[str] = frozenset()


SMALL: Final = 8_000
"""Characters that fit any context of a thousand tokens, and no model reads less."""


def asks_little(body: Mapping[str, Any]) -> bool:
    """Whether any model can serve this: a few short texts, no tools, no schema. Most requests are so."""
    if "tools" in body or "response_format" in body:
        return False
    messages = body.get("messages") or ()
    if len(messages) > 20:
        return False
    left = SMALL
    for message in messages:
        content = message.get("content") if type(message) is dict else None
        if type(content) is not str:
            return False
        left -= len(content)
    return left >= 0


def needs_of(body: Mapping[str, Any]) -> Needs:
    """What this request asks of whoever serves it."""
    characters, modalities = 0, set()
    for message in body.get("messages") or ():
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            characters += len(content)
        elif isinstance(content, list):
            for part in content:
                if isinstance(part, dict):
                    characters += len(part.get("text") or "")
                    modality = _PARTS.get(part.get("type") or "")
                    if modality is not None:
                        modalities.add(modality)
    form = body.get("response_format")
    return Needs(
        characters=characters,
        tools=any(isinstance(tool, dict) and tool.get("type") == "function" for tool in body.get("tools") or ()),
        schema=isinstance(form, dict) and form.get("type") == "json_schema",
        modalities=frozenset(modalities),
    )


def unfit(needs: Needs, target: Target, model: Model | None) -> str:
    """Why this target cannot serve; empty when it can, or when nothing is known against it."""
    if not target.key:
        return f"upstream {target.upstream} has no key"
    if model is None:
        return ""
    if model.context_length and needs.characters > BYTES_A_TOKEN * model.context_length:
        return f"the prompt does not fit a context of {model.context_length} tokens"
    if needs.tools and model.supports("tools") is False:
        return "takes no tools"
    if needs.schema and model.supports("structured_outputs") is False and model.supports("response_format") is False:
        return "gives no structured output"
    for modality in sorted(needs.modalities):
        if model.takes(modality) is False:
            return f"takes no {modality}"
    return ""


def larger(candidate: Model | None, failed: Model | None) -> bool:
    """Whether the candidate's context is larger, or either is unknown."""
    if candidate is None or failed is None or not candidate.context_length or not failed.context_length:
        return True
    return candidate.context_length > failed.context_length


def cheaper(candidate: Model | None, failed: Model | None) -> bool:
    """Whether the candidate's tokens cost less, or either price is unknown."""
    if candidate is None or failed is None:
        return True
    one, other = candidate.price, failed.price
    if None in (one.prompt, one.completion, other.prompt, other.completion):
        return True
    return (one.prompt or 0) + (one.completion or 0) < (other.prompt or 0) + (other.completion or 0)
