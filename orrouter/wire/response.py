"""One parsed JSON object of an answer becomes an event: a chunk of a stream, or the whole.

Law: pure. Reads what is there and keeps what it does not know; whether it is a failure is said by `faults`.
"""

from __future__ import annotations

from typing import Any

from orrouter.core.call import Attempt
from orrouter.core.errors import EmptyReply
from orrouter.core.events import Chunk, Json

ANSWERS = ("length", "content_filter", "tool_calls")
"""Finish reasons that are an answer even when nothing was said."""

_TALK = ("refusal", "audio", "images", "image", "annotations")
_LONG = ("reasoning", "reasoning_details", "reasoning_content", "tool_calls", "function_call")
"""Fields inside which a model may be silent for longer: thinking, and writing the arguments of a tool."""


def plain_words(data: Any) -> str:
    """What a chunk says that is words and nothing else; empty for every other chunk."""
    try:
        (choice,) = data["choices"]
        content = choice["delta"]["content"]
        if choice["finish_reason"] is not None or choice["index"] or type(content) is not str:
            return ""
    except (KeyError, TypeError, ValueError):
        return ""
    if "error" in data or "usage" in data or "error" in choice:
        return ""
    return content


def read_chunk(raw: bytes, data: Json) -> Chunk:
    """One event of a chat or completions stream, with what it says taken out."""
    chunk = Chunk(raw, data)
    usage = data.get("usage")
    if type(usage) is dict:
        chunk.usage = usage
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
    if type(delta) is dict:
        content = delta.get("content")
    else:
        delta, content = _without_delta(choice)
    if content and (type(content) is str or _holds_parts(content)):
        chunk.semantic = True
        if first and type(content) is str:
            chunk.text = content
    elif delta:
        _read_silence(chunk, delta)
    _read_reason(chunk, choice, first=first)


def _holds_parts(content: Any) -> bool:
    """Whether a content that is no text is a list with a part that holds something; its type alone is nothing."""
    if type(content) is not list:
        return False
    return any(
        any(value for name, value in part.items() if name != "type")
        if type(part) is dict
        else type(part) is str and part
        for part in content
    )


def _read_reason(chunk: Chunk, choice: Json, *, first: bool) -> None:
    reason = choice.get("finish_reason")
    if reason == "error" or "error" in choice:
        chunk.failed = True
    if reason and type(reason) is str and (first or chunk.finish_reason is None):
        chunk.finish_reason = reason


def _read_silence(chunk: Chunk, delta: Json) -> None:
    """A delta without content: it may think, call a tool, refuse, draw, or say nothing at all."""
    if any(map(delta.get, _LONG)):
        chunk.slow = chunk.semantic = True
    elif any(map(delta.get, _TALK)):
        chunk.semantic = True


def _without_delta(choice: Json) -> tuple[Json, Any]:
    """What speaks in a choice that has no delta, and its words: a whole message, or the choice itself (completions)."""
    message = choice.get("message")
    if type(message) is dict:
        return message, message.get("content")
    return choice, choice.get("text")


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
    """Whether a chat answer in one body is empty: no content, tool call, refusal, reasoning, image or audio."""
    for choice in _choices(data):
        said, content = _without_delta(choice)
        if choice.get("finish_reason") in ANSWERS:
            return False
        if content and (type(content) is str or _holds_parts(content)):
            return False
        if any(map(said.get, _TALK)) or any(map(said.get, _LONG)):
            return False
    return True


def breaks_off(data: Json) -> bool:
    """Whether an answer in one body has a choice without finish_reason: it ended before it was finished."""
    return any(not is_finished(choice) for choice in _choices(data))


def is_finished(choice: Json) -> bool:
    """Whether a choice has its finish_reason: a text, for nothing else names one."""
    reason = choice.get("finish_reason")
    return type(reason) is str and reason != ""


def _choices(data: Json) -> list[Json]:
    choices = data.get("choices")
    return [choice for choice in choices if type(choice) is dict] if type(choices) is list else []


def nothing_said(message: str, usage: Any, status: int | None = None) -> EmptyReply:
    """The error of an answer in which nothing was said. What its `usage` reports is known to be charged, or not."""
    cost = usage.get("cost") if isinstance(usage, dict) else None
    if isinstance(cost, bool) or not isinstance(cost, int | float):
        return EmptyReply(message, status=status, raw=usage)
    own = isinstance(usage, dict) and usage.get("is_byok") is True  # The provider charges the caller's own account.
    return EmptyReply(message, status=status, raw=usage, billed="yes" if cost > 0 else "maybe" if own else "no")


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
