"""One JSON body with status 200 becomes an event, or the error that it is.

Law: pure. What an error body means is judged by `faults`; here it is asked whether a body without one is an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from orrouter.core.call import Call
from orrouter.core.errors import ServerError, StreamBroken
from orrouter.core.events import Json, Whole, first_choice, text_of
from orrouter.wire.faults import Answer, fault_in, fault_of
from orrouter.wire.request import is_plain
from orrouter.wire.response import breaks_off, is_plain_answer, note_origin, nothing_said, says_nothing
from orrouter.wire.words import read_json

NEEDS: Final[Mapping[str, str]] = {"chat/completions": "choices", "completions": "choices"}
"""What a body must hold to be an answer; `data` where nothing else is said."""


def whole_answer(raw: bytes, call: Call, headers: Mapping[str, str], *, wall: Callable[[], float]) -> Whole:
    """The answer in a body with status 200. Raises UpstreamError when it is none, and none that is finished.

    `wall` tells the seconds since the epoch.
    """
    try:
        data: Any = orjson.loads(raw)
    except orjson.JSONDecodeError:
        data = read_json(raw)  # Comments that keep a connection alive get into bodies too.
    if type(data) is not dict:
        fault = fault_of(Answer(status=200, headers=headers, body=data), now=wall(), plain=is_plain(call))
        raise fault or ServerError("the answer is no JSON object", status=200, billed="maybe")
    if call.attempt is not None:
        note_origin(call.attempt, data)
    if not (call.completes and is_plain_answer(data)):
        needs = NEEDS.get(call.endpoint, "data")
        told = fault_in(data, whole=True, needs=needs, headers=headers, plain=is_plain(call), now=wall())
        if told is not None:
            raise told
        _hold_to_its_word(call, data)
    return Whole(raw, data)


def _hold_to_its_word(call: Call, data: Json) -> None:
    """Raise when an answer without an error says nothing, or ends before it is finished."""
    if call.endpoint == "embeddings":
        _hold_to_its_texts(call.body.get("input"), data)
    if not call.completes:
        return
    if says_nothing(data):
        raise nothing_said("the model finished and had said nothing", data.get("usage"), 200)
    if breaks_off(data):
        broken = StreamBroken("the answer ended before it was finished: it has no finish_reason", status=200)
        broken.partial = text_of(first_choice(data))
        raise broken


def _hold_to_its_texts(asked: Any, data: Json) -> None:
    """Raise when an answer with embeddings has none, one without numbers, or not one for each text."""
    vectors = data["data"]
    if vectors == []:
        raise nothing_said("an answer without embeddings", data.get("usage"), 200)
    if type(vectors) is not list or not all(map(_is_vector, vectors)):
        raise ServerError("an answer with something among its embeddings that is none", status=200, billed="maybe")
    texts = isinstance(asked, list | tuple) and all(isinstance(text, str) for text in asked)
    if texts and len(asked) != len(vectors):
        raise ServerError(
            f"an answer with {len(vectors)} embeddings for {len(asked)} texts", status=200, billed="maybe"
        )


def _is_vector(item: Any) -> bool:
    """Whether it holds an embedding: a list of numbers, or the same in base64."""
    held = item.get("embedding") if type(item) is dict else None
    return isinstance(held, list | str) and len(held) > 0
