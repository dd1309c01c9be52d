"""How many tokens a request holds at most: the bytes of its text, and how many pictures, files, sounds and films.

Law: counting only; what a token costs and how much of a context a picture fills are decided in `ceiling.py`.

No tokeniser makes more tokens of a text than it has UTF-8 bytes: those that work on bytes begin with one token a byte
and join them, and those that fall back on bytes do so for single characters. What a template puts around a text
is bounded by constants.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from orrouter.catalog.bounds import Unbounded

MESSAGE: Final = 16
"""Tokens that a template puts around a message, or a part of one."""
TEMPLATE: Final = 1024
"""Tokens of a template itself: some models are given a system prompt of their own, which is billed like ours."""
TOOLS: Final = 1024
"""Tokens by which a provider explains to its model how tools are called, or a schema is kept to."""

_ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool"})
_MEDIA: Final = {
    "image_url": "images",
    "input_image": "images",
    "file": "files",
    "input_file": "files",
    "input_audio": "sounds",
    "video_url": "videos",
    "input_video": "videos",
}
_SPOKEN: Final = frozenset({"text", "input_text", "output_text", "refusal"})
"""Content parts that are text and nothing else."""


@dataclass(slots=True)
class Weight:
    """What has been counted: `tokens` of all text at most, and how many pieces have no bound in bytes."""

    tokens: int = 0
    images: int = 0
    files: int = 0
    sounds: int = 0
    videos: int = 0


def size(text: str) -> int:
    """UTF-8 bytes. An ASCII text knows that it is one, so its length costs nothing."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def in_json(value: Any, field: str) -> int:
    """Bytes of a value as JSON in its longest usual form: spaced, and everything but ASCII escaped.

    Providers print tools and arguments anew, so what we send is no bound of what the model reads.
    Raises Unbounded for what is no JSON.
    """
    try:
        return len(json.dumps(value, default=_plain))
    except (TypeError, ValueError, RecursionError) as error:
        raise Unbounded(field, f"`{field}` is no JSON ({error})") from None


def _plain(value: Any) -> Any:
    """What orjson can write and the standard library cannot: dataclasses, dates, UUIDs."""
    import orjson

    return orjson.loads(orjson.dumps(value))


def of_texts(messages: Any) -> int | None:
    """Tokens of messages that are a role and a text each; None when there is anything else among them."""
    if type(messages) is not list:
        return None
    tokens = TEMPLATE
    for message in messages:
        if type(message) is not dict or len(message) != 2:
            return None
        content, role = message.get("content"), message.get("role")
        if type(content) is not str or type(role) is not str or role not in _ROLES:
            return None
        tokens += MESSAGE + (len(content) if content.isascii() else size(content))
    return tokens


def add_messages(weight: Weight, messages: Any, admit: frozenset[str]) -> None:
    """Count a list of messages. Raises Unbounded for what is none."""
    if not isinstance(messages, list | tuple):
        raise Unbounded("messages", "`messages` is no list")
    weight.tokens += TEMPLATE
    for message in messages:
        if not isinstance(message, dict):
            raise Unbounded("messages", "a message is no object")
        weight.tokens += MESSAGE
        for name, value in message.items():
            _add_field(weight, name, value, admit)


def _add_field(weight: Weight, name: str, value: Any, admit: frozenset[str]) -> None:
    if name == "content":
        add_content(weight, value, admit)
    elif value is None or (name == "role" and type(value) is str and value in _ROLES):
        return
    elif name == "images":
        weight.images += len(value) if isinstance(value, list | tuple) else 1
    elif name == "audio":
        weight.sounds += 1
    else:
        weight.tokens += size(str(name)) + in_json(value, f"messages.{name}")


def add_content(weight: Weight, content: Any, admit: frozenset[str]) -> None:
    """Count a text, or a list of parts. Raises Unbounded for a part of which nobody here knows what it holds."""
    if content is None:
        return
    if isinstance(content, str):
        weight.tokens += size(content)
    elif isinstance(content, list | tuple):
        for part in content:
            weight.tokens += MESSAGE
            _add_part(weight, part, admit)
    else:
        raise Unbounded("content", "a content is neither a text nor a list of parts")


def _add_part(weight: Weight, part: Any, admit: frozenset[str]) -> None:
    if isinstance(part, str):
        weight.tokens += size(part)
        return
    kind = part.get("type") if isinstance(part, dict) else None
    text = part.get("text") if kind == "text" else None
    medium = _MEDIA.get(kind) if isinstance(kind, str) else None
    if isinstance(text, str):
        weight.tokens += size(text) + (_beside(part) if len(part) > 2 else 0)
    elif medium is not None:
        setattr(weight, medium, getattr(weight, medium) + 1)
    elif isinstance(kind, str) and (kind in _SPOKEN or kind in admit):
        weight.tokens += in_json(part, "messages.content")
    else:
        named = str(kind) if isinstance(kind, str) else "content"
        raise Unbounded.unknown(named, f"nobody here knows what a content part of type {kind!r} costs")


def _beside(part: dict[str, Any]) -> int:
    """Tokens of what a part bears beside its text: that may be shown to the model too."""
    return in_json({name: part[name] for name in part.keys() - {"type", "text"}}, "messages.content")


def add_prompts(weight: Weight, prompt: Any, admit: frozenset[str]) -> int:
    """Count the prompt of a completion, or the input of an embedding, and say how many there are in it.

    A text, a list of token numbers, a list of either, or for embeddings a list of `{content: [...]}`.
    """
    if isinstance(prompt, str) or _is_numbers(prompt):
        prompt = [prompt]
    if not isinstance(prompt, list | tuple):
        raise Unbounded("input", "the prompt is neither a text nor a list")
    for one in prompt:
        weight.tokens += MESSAGE
        if isinstance(one, str):
            weight.tokens += size(one)
        elif _is_numbers(one):
            weight.tokens += len(one)
        elif isinstance(one, dict):
            add_content(weight, one.get("content"), admit)
        else:
            raise Unbounded("input", "a prompt is neither a text nor a list of token numbers")
    return max(len(prompt), 1)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and _all_numbers(value)


def _all_numbers(values: Iterable[Any]) -> bool:
    return all(type(value) is int or type(value) is float for value in values)
