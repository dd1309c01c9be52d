"""One parsed JSON object of an answer becomes an event: a chunk of a stream, or the whole.

Law: pure. Reads what is there and keeps what it does not know; whether it is a failure is said by `faults`.
"""

from __future__ import annotations

from typing import Any

from orrouter.core.call import Attempt
from orrouter.core.events import Chunk, Json, Whole

ANSWERS = frozenset({"length", "content_filter", "tool_calls"})
"""Finish reasons that are an answer even when nothing was said."""

_TALK = ("refusal", "audio", "images", "image", "annotations")
_LONG = ("reasoning", "reasoning_details", "reasoning_content", "tool_calls", "function_call")
"""Fields inside which a model may be silent for longer: thinking, and writing the arguments of a tool."""


def read_chunk(raw: bytes, data: Json) -> Chunk:
    """One event of a chat or completions stream, with what it says taken out."""
    chunk = Chunk(raw, data)
    choices = data.get("choices")
    if type(choices) is list and choices:
        chunk.failed = "error" in data
        for choice in choices:
            if type(choice) is dict:
                _read_choice(chunk, choice)
    else:
        chunk.failed = True  # Accounting and debug frames look so too; whoever judges will find no fault in them.
    return chunk


def _read_choice(chunk: Chunk, choice: Json) -> None:
    first = not choice.get("index")
    delta = choice.get("delta")
    content = delta.get("content") if type(delta) is dict else choice.get("text")
    if content:
        chunk.semantic = True
        if first and type(content) is str:
            chunk.text = content
    elif delta and type(delta) is dict:
        chunk.slow = any(map(delta.get, _LONG))
        chunk.semantic = chunk.slow or any(map(delta.get, _TALK))
    reason = choice.get("finish_reason")
    if reason == "error" or "error" in choice:
        chunk.failed = True
    if reason and (first or chunk.finish_reason is None):
        chunk.finish_reason = reason


def read_whole(raw: bytes, data: Json) -> Whole:
    """An answer that is one JSON body."""
    return Whole(raw, data)


def is_plain_answer(data: Json) -> bool:
    """Whether a chat answer is the plainest there is: one finished choice with words and no error anywhere.

    Most are, and need no further judging.
    """
    choices = data.get("choices")
    if type(choices) is not list or len(choices) != 1 or "error" in data:
        return False
    choice = choices[0]
    if type(choice) is not dict or choice.get("finish_reason") not in ("stop", "length") or "error" in choice:
        return False
    message = choice.get("message")
    return type(message) is dict and type(message.get("content")) is str and message["content"] != ""


def says_nothing(data: Json) -> bool:
    """Whether a chat answer in one body is finished and empty: no content, tool call, refusal, reasoning, image or audio."""
    for choice in data.get("choices") or ():
        message = choice.get("message") or {}
        if choice.get("finish_reason") in ANSWERS or choice.get("text") or message.get("content"):
            return False
        if any(message.get(name) for name in (*_TALK, *_LONG)):
            return False
    return True


def note_origin(attempt: Attempt, data: Json) -> None:
    """Write onto the attempt who answered, as far as this object tells."""
    model: Any = data.get("model")
    if type(model) is str and model:
        attempt.model = model
    provider: Any = data.get("provider")
    if type(provider) is str and provider:
        attempt.provider = provider
    if attempt.generation_id is None:
        made: Any = data.get("id")
        if type(made) is str and made:
            attempt.generation_id = made
