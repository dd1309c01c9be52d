"""The chunks of a stream become the answer they would have been in one body.

Law: pure. Texts are joined, lists lengthened, tool calls and reasoning details put together by their index;
a field nobody here knows survives with its last value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from orrouter.core.call import Attempt, Trail
from orrouter.core.completion import Completion
from orrouter.core.events import Chunk, Event, Json, Whole

_JOINED = frozenset({"content", "reasoning", "reasoning_content", "refusal", "arguments", "transcript", "data"})
"""Texts that arrive in pieces."""
_SPOKEN = frozenset({"text", "reasoning", "reasoning_content", "reasoning_details", "refusal"})
"""What a choice without delta and message says itself (completions)."""
_PIECES = frozenset({"text", "summary", "data"})
"""Texts that arrive in pieces inside a reasoning detail."""
_BEFORE = 16
"""How many reasoning details back one may be that goes on."""
_NESTED = 8
"""How deep deltas may lie in deltas and still be put together; audio and functions need two."""
_DEEP = 64
"""How deep an answer is looked through for pieces: farther than nested deltas reach. Deeper values are kept."""


class _Pieces:
    """A text that arrives in pieces, joined once at the end: joining each time would be quadratic."""

    __slots__ = ("parts",)

    def __init__(self, text: str) -> None:
        self.parts = [text]


class _Calls(dict[int, Json]):
    """Tool calls by their index."""

    __slots__ = ("last", "places")

    def __init__(self) -> None:
        super().__init__()
        self.last: int | None = None
        """The highest index so far."""
        self.places: dict[str, int] = {}
        """Where each id was first seen: a search among the calls would be quadratic."""

    def at(self, place: int, made: Any) -> Json:
        """The call at a place, begun where there is none."""
        if type(made) is str and made:
            self.places.setdefault(made, place)
        if self.last is None or place > self.last:
            self.last = place
        return self.setdefault(place, {})


class _Details(list[Json]):
    """Reasoning details in their order."""


def completion_of(events: Sequence[Event], attempt: Attempt, trail: Trail) -> Completion:
    """The completion that these events tell."""
    if len(events) == 1 and isinstance(events[0], Whole):
        return Completion(events[0].data, attempt, trail)
    return Completion(fold(_gathered(events)), attempt, trail)


def _gathered(events: Iterable[Event]) -> Iterator[Json]:
    """The objects of the events; a run of those that are alike but for their words as one that says all of them."""
    run: Json | None = None
    words: list[str] = []
    for event in events:
        if type(event) is Chunk and event.like is not None and event.like is run:
            words.append(event.text)
            continue
        if run is not None and words:
            yield _saying(run, "".join(words))
            words = []
        run = event.data
        yield run
    if run is not None and words:
        yield _saying(run, "".join(words))


def _saying(data: Json, words: str) -> Json:
    """The event with other words; it has one choice, with a delta."""
    (choice,) = data["choices"]
    return {**data, "choices": [{**choice, "delta": {**choice["delta"], "content": words}}]}


def fold(chunks: Iterable[Json]) -> Json:
    """Chunk objects of one stream as one answer in the shape of `chat.completion` or `text_completion`."""
    whole: Json = {}
    choices: dict[int, Json] = {}
    before: Json = {}
    for chunk in chunks:
        said = chunk.get("choices")
        for choice in said if type(said) is list else ():
            if type(choice) is dict:
                _add_choice(choices, choice)
        if chunk.keys() != before.keys() or None in chunk.values():  # Else the last of a run of like chunks speaks.
            _add_envelope(whole, before)
        before = chunk
    _add_envelope(whole, before)
    legacy = any("text" in choice for choice in choices.values())
    whole["object"] = "text_completion" if legacy else "chat.completion"
    whole["choices"] = [_finished(choices[index], index) for index in sorted(choices)]
    return whole


def _add_envelope(whole: Json, chunk: Json) -> None:
    for name, value in chunk.items():
        if name != "choices" and (value is not None or name not in whole):
            whole[name] = value


def _add_choice(choices: dict[int, Json], choice: Json) -> None:
    at = choice.get("index")
    kept = choices.setdefault(at if type(at) is int else 0, {})
    for name, value in choice.items():
        if name == "delta":
            message = kept.get("message")
            if type(message) is not dict:
                message = kept["message"] = {"role": "assistant", "content": None}
            if type(value) is dict:
                _add_delta(message, value)
        elif name in _SPOKEN:
            _add(kept, name, value)
        elif name == "logprobs" and type(value) is dict:
            _lengthen(_own(kept, name, dict), value)
        elif value is not None or name not in kept:
            kept[name] = value


def _add_delta(message: Json, delta: Json, depth: int = 0) -> None:
    for name, value in delta.items():
        if name in _JOINED and type(value) is str:
            _append(message, name, value)
        elif depth < _NESTED:
            _add(message, name, value, depth + 1)
        else:
            _add_unknown(message, name, value)


def _add(message: Json, name: str, value: Any, depth: int = 1) -> None:
    """One field of a delta that is no text in pieces, or may be none."""
    if value is None:
        message.setdefault(name, None)
    elif name in _SPOKEN and type(value) is str:
        _append(message, name, value)
    elif name == "tool_calls" and type(value) is list:
        _add_calls(_own(message, name, _Calls), value, depth)
    elif name == "reasoning_details" and type(value) is list:
        _add_details(_own(message, name, _Details), value)
    elif name in ("audio", "function_call") and type(value) is dict:
        _add_delta(_own(message, name, dict), value, depth)
    else:
        _add_unknown(message, name, value)


def _add_unknown(message: Json, name: str, value: Any) -> None:
    """A field that nobody here knows: lists are lengthened, of other values the last that says something is kept."""
    if type(value) is list:
        _texts_as_parts(message, name)
        _own(message, name, list).extend(value)
    elif value != "" or name not in message:
        message[name] = value


C = TypeVar("C", _Calls, _Details, Json, list[Any])


def _own(kept: Json, name: str, kind: type[C]) -> C:
    """The collection under a name; it is begun where there is none, or an empty value."""
    found = kept.get(name)
    if isinstance(found, kind):
        return found
    begun = kept[name] = kind()
    return begun


def _append(kept: Json, name: str, text: str) -> None:
    found = kept.get(name)
    if type(found) is _Pieces:
        found.parts.append(text)
    elif type(found) is list:
        found.append({"type": "text", "text": text})
    else:
        kept[name] = _Pieces(text)


def _texts_as_parts(kept: Json, name: str) -> None:
    """A content that goes on in parts, after words that were plain text."""
    found = kept.get(name)
    if type(found) is _Pieces:
        kept[name] = [{"type": "text", "text": "".join(found.parts)}] if any(found.parts) else []


def _add_calls(calls: _Calls, deltas: list[Any], depth: int) -> None:
    for place, delta in enumerate(deltas):
        if type(delta) is not dict:
            continue
        at = delta.get("index")
        at = at if type(at) is int else _place_of(calls, delta, place, len(deltas))
        _add_call(calls.at(at, delta.get("id")), delta, depth)


def _add_call(call: Json, delta: Json, depth: int) -> None:
    for name, value in delta.items():
        if name == "function" and type(value) is dict:
            _add_delta(_function(call), value, depth)
        elif name == "function" and type(call.get(name)) is dict:
            continue  # What is no function does not wipe out one.
        elif name != "index" and value is not None and (value != "" or name not in call):
            call[name] = value


def _place_of(calls: _Calls, delta: Json, place: int, several: int) -> int:
    """Where a delta without index belongs: a new id begins a call, and without one it goes on with the last."""
    made = delta.get("id")
    last = calls.last
    if type(made) is str and made:
        known = calls.places.get(made)
        return known if known is not None else 0 if last is None else last + 1
    return place if several > 1 else last or 0


def _function(call: Json) -> Json:
    found = call.get("function")
    if type(found) is dict:
        return found
    begun: Json = {"arguments": _Pieces("")}
    call["function"] = begun
    return begun


def _add_details(kept: _Details, details: list[Any]) -> None:
    for detail in details:
        if type(detail) is not dict:
            continue
        same = _continued(kept, detail)
        if same is None:
            same = {}
            kept.append(same)
        for name, value in detail.items():
            if name in _PIECES and type(value) is str:
                _append(same, name, value)
            elif value is not None or name not in same:
                same[name] = value


def _continued(kept: _Details, new: Json) -> Json | None:
    """The detail that `new` goes on with; without an index only the last, and none that was signed."""
    at, kind, made = new.get("index"), new.get("type"), new.get("id")
    for old in reversed(kept[-_BEFORE:]):
        known = old.get("id")
        if old.get("type") == kind and old.get("index") == at and (not made or not known or made == known):
            return old if at is not None or (kind != "reasoning.encrypted" and not old.get("signature")) else None
        if at is None:
            return None
    return None


def _lengthen(kept: Json, value: Json) -> None:
    for name, entries in value.items():
        if type(entries) is list:
            _own(kept, name, list).extend(entries)
        elif entries is not None or name not in kept:
            kept[name] = entries


def _finished(choice: Json, index: int) -> Json:
    """A choice with its pieces joined."""
    done: Json = _joined(choice)
    done["index"] = index
    if "text" in done and done["text"] is None:
        done["text"] = ""
    message = done.get("message")
    if type(message) is dict and message.get("content") == "" and message.get("tool_calls"):
        message["content"] = None  # As one body says it; some models refuse to be shown an empty text.
    return done


def _joined(item: Any, depth: int = 0) -> Any:
    kind = type(item)
    if kind is dict:
        return {name: _joined(part, depth + 1) for name, part in item.items()} if depth < _DEEP else item
    if kind is _Pieces:
        return "".join(item.parts)
    if kind is _Calls:
        return [_joined(item[at], depth + 1) for at in sorted(item)]
    if kind is _Details:
        return [_joined(detail, depth + 1) for detail in item]
    return item
