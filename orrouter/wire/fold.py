"""The chunks of a stream become the answer they would have been in one body.

Law: pure. Texts are joined, lists lengthened, tool calls and reasoning details put together by their index;
a field nobody here knows survives with its last value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from orrouter.core.call import Attempt, Trail
from orrouter.core.completion import Completion
from orrouter.core.events import Event, Json, Whole

_JOINED = frozenset({"content", "reasoning", "reasoning_content", "refusal", "arguments", "transcript", "data"})
"""Texts that arrive in pieces."""
_PIECES = frozenset({"text", "summary", "data", "arguments"})
"""Texts that arrive in pieces inside a reasoning detail."""


def completion_of(events: Sequence[Event], attempt: Attempt, trail: Trail) -> Completion:
    """The completion that these events tell."""
    if len(events) == 1 and isinstance(events[0], Whole):
        return Completion(events[0].data, attempt, trail)
    return Completion(fold([event.data for event in events]), attempt, trail)


def fold(chunks: Iterable[Json]) -> Json:
    """Chunk objects of one stream as one answer in the shape of `chat.completion` or `text_completion`."""
    whole: Json = {}
    choices: dict[int, Json] = {}
    for chunk in chunks:
        for name, value in chunk.items():
            if name == "choices":
                for choice in value or ():
                    if isinstance(choice, dict):
                        _add_choice(choices, choice)
            elif value is not None or name not in whole:
                whole[name] = value
    legacy = any("text" in choice for choice in choices.values())
    whole["object"] = "text_completion" if legacy else "chat.completion"
    whole["choices"] = [_finished(choices[index], index) for index in sorted(choices)]
    return whole


def _add_choice(choices: dict[int, Json], choice: Json) -> None:
    at = choice.get("index")
    kept = choices.setdefault(at if isinstance(at, int) else 0, {})
    for name, value in choice.items():
        if name == "delta":
            message = kept.setdefault("message", {"role": "assistant", "content": None})
            if isinstance(value, dict):
                _add_delta(message, value)
        elif name == "text":
            kept.setdefault(name, []).append(value or "")
        elif name == "logprobs" and isinstance(value, dict):
            _add_lists(kept.setdefault(name, {}), value)
        elif value is not None or name not in kept:
            kept[name] = value


def _add_delta(message: Json, delta: Json) -> None:
    for name, value in delta.items():
        if value is None:
            message.setdefault(name, None)
        elif name in _JOINED and isinstance(value, str):
            _append(message, name, value)
        elif name == "tool_calls" and isinstance(value, list):
            _add_calls(message.setdefault(name, {}), value)
        elif name == "reasoning_details" and isinstance(value, list):
            _add_details(message, value)
        elif name in ("audio", "function_call") and isinstance(value, dict):
            _add_delta(message.setdefault(name, {}), value)
        elif isinstance(value, list):
            message.setdefault(name, []).extend(value)
        else:
            message[name] = value


def _append(kept: Json, name: str, text: str) -> None:
    """Collect the pieces in a list and join them once at the end: joining each time would be quadratic."""
    pieces = kept.get(name)
    if isinstance(pieces, list):
        pieces.append(text)
    else:
        kept[name] = [text]


def _add_calls(calls: dict[int, Json], deltas: list[Any]) -> None:
    for place, delta in enumerate(deltas):
        if not isinstance(delta, dict):
            continue
        at = delta.get("index")
        call = calls.setdefault(at if isinstance(at, int) else place, {})
        for name, value in delta.items():
            if name == "function" and isinstance(value, dict):
                _add_delta(call.setdefault(name, {"arguments": []}), value)
            elif value is not None and name != "index":
                call[name] = value


def _add_details(message: Json, details: list[Any]) -> None:
    kept: list[Json] = message.setdefault("reasoning_details", [])
    for detail in details:
        if not isinstance(detail, dict):
            continue
        same = next((old for old in reversed(kept) if _continues(old, detail)), None)
        if same is None:
            kept.append(dict(detail))
            continue
        for name, value in detail.items():
            if name in _PIECES and isinstance(value, str):
                same[name] = (same.get(name) or "") + value
            elif value is not None:
                same[name] = value


def _continues(old: Json, new: Json) -> bool:
    return "index" in new and old.get("index") == new["index"] and old.get("type") == new.get("type")


def _add_lists(kept: Json, value: Json) -> None:
    for name, entries in value.items():
        if isinstance(entries, list):
            kept.setdefault(name, []).extend(entries)


def _finished(choice: Json, index: int) -> Json:
    """A choice with its pieces joined."""
    choice["index"] = index
    if "text" in choice:
        choice["text"] = "".join(choice["text"])
    if "message" in choice:
        choice["message"] = _joined(choice["message"])
    return choice


def _joined(value: Json) -> Json:
    done: Json = {}
    for name, item in value.items():
        if name in _JOINED and isinstance(item, list) and all(isinstance(piece, str) for piece in item):
            done[name] = "".join(item)
        elif name == "tool_calls" and isinstance(item, dict):
            done[name] = [_joined(item[at]) for at in sorted(item)]
        elif isinstance(item, dict):
            done[name] = _joined(item)
        else:
            done[name] = item
    return done
