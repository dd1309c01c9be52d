"""What a request asks for, and whether a target can serve it at all: keys, context, tools, what it can see.

Law: pure; used by the layers, and by `explain` to say beforehand what would be skipped. What the catalog does not
know never rules a target out, and a body that is no request is judged by the upstream, not here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
SHORT: Final = 20
"""Messages that are looked at to see that a request asks little."""


def asks_little(body: Mapping[str, Any]) -> bool:
    """Whether any model can serve this: a few short texts, no tools, no schema. Most requests are so."""
    if "tools" in body or "response_format" in body:
        return False
    messages = body.get("messages")
    if type(messages) is not list:
        return messages is None
    if len(messages) > SHORT:
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
    characters = 0
    modalities: set[str] = set()
    for message in _items(body.get("messages")):
        # Asked by its type first: a long conversation has hundreds, and other kinds of mapping are slow to tell.
        content = message.get("content") if type(message) is dict or isinstance(message, Mapping) else None
        characters += len(content) if isinstance(content, str) else _weigh(_items(content), modalities)
    form = body.get("response_format")
    return Needs(
        characters=characters,
        tools=any(isinstance(tool, Mapping) and tool.get("type") == "function" for tool in _items(body.get("tools"))),
        schema=isinstance(form, Mapping) and form.get("type") == "json_schema",
        modalities=frozenset(modalities - {""}),
    )


def _weigh(parts: Sequence[Any], modalities: set[str]) -> int:
    """The characters of a content in parts; what it takes to see or hear them is added to `modalities`."""
    characters = 0
    for part in parts:
        if isinstance(part, Mapping):
            text = part.get("text")
            characters += len(text) if isinstance(text, str) else 0
            modalities.add(_PARTS.get(str(part.get("type")), ""))
    return characters


def _items(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def asked_tokens(body: Mapping[str, Any]) -> float:
    """`max_completion_tokens` or `max_tokens` of the request; infinite where neither is set."""
    asked = body.get("max_completion_tokens") or body.get("max_tokens")
    return float(asked) if isinstance(asked, int) else float("inf")


def with_tokens(body: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """The body with its output limited to so many tokens, under the name the caller used."""
    name = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
    return {**body, name: tokens}


def unfit(needs: Needs, target: Target, model: Model | None) -> str:
    """Why this target cannot serve; empty when it can, or when nothing is known against it."""
    if not target.key:
        return f"upstream {target.upstream} has no key"
    return "" if model is None else next(_lacks(needs, model), "")


def _lacks(needs: Needs, model: Model) -> Iterator[str]:
    """What is known against a model."""
    if model.context_length and needs.characters > BYTES_A_TOKEN * model.context_length:
        yield f"the prompt does not fit a context of {model.context_length} tokens"
    if needs.tools and model.supports("tools") is False:
        yield "takes no tools"
    if needs.schema and model.supports("structured_outputs") is False and model.supports("response_format") is False:
        yield "gives no structured output"
    for modality in sorted(needs.modalities):
        if model.takes(modality) is False:
            yield f"takes no {modality}"


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
