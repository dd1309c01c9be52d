"""What a router answers, in the bytes that the OpenAI SDK reads.

Law: pure. Completions, events and lists of models become JSON and server-sent events.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from orrouter.adapters.openai_asks import REQUEST_ID
from orrouter.core.call import Attempt
from orrouter.core.completion import Completion
from orrouter.core.events import Event, Json, Whole

DONE: Final = b"data: [DONE]\n\n"


def answer_headers(attempt: Attempt, request_id: str, content_type: str) -> dict[str, str]:
    """The headers of an answer: how often was asked, and what its generation is called upstream."""
    headers = {
        "content-type": content_type,
        REQUEST_ID: request_id,
        "x-orrouter-attempts": str(attempt.number),
    }
    if attempt.generation_id:
        headers["x-generation-id"] = attempt.generation_id
    return headers


def completion_json(completion: Completion) -> bytes:
    """A whole answer, with the model and provider that gave it also where the upstream did not say so."""
    return orjson.dumps(with_origin(completion.raw, completion.attempt))


def with_origin(raw: Mapping[str, Any], attempt: Attempt) -> Json:
    """`raw` with `model` and `provider` filled in."""
    whole = dict(raw)
    if not whole.get("model"):
        whole["model"] = attempt.model or attempt.target.model
    if attempt.provider and not whole.get("provider"):
        whole["provider"] = attempt.provider
    return whole


def event_bytes(event: Event, *, counts: bool) -> bytes:
    """An event of a stream as server-sent event; empty for one that the caller does not expect.

    A chunk without choices bears only accounting, and OpenAI sends it only to who asked for usage: many read
    `chunk.choices[0]` without a look.
    """
    if isinstance(event, Whole):
        return sse(orjson.dumps(as_chunk(event.data))) if event.data.get("choices") or counts else b""
    return sse(event.raw) if event.data.get("choices") or counts else b""


def sse(payload: bytes) -> bytes:
    """One `data:` event. A line break in JSON is only white space, and would end the field."""
    if b"\n" in payload or b"\r" in payload:
        payload = b" ".join(payload.splitlines())
    return b"data: " + payload + b"\n\n"


def as_chunk(data: Mapping[str, Any]) -> Json:
    """An answer in one JSON as the one chunk of a stream; a legacy completion has the same shape already."""
    choices = data.get("choices") or []
    if not any("message" in choice for choice in choices):
        return dict(data)
    return {**data, "object": "chat.completion.chunk", "choices": [_streamed(choice) for choice in choices]}


def _streamed(choice: Mapping[str, Any]) -> Json:
    delta = dict(choice.get("message") or {})
    if delta.get("tool_calls"):
        delta["tool_calls"] = [{"index": place, **call} for place, call in enumerate(delta["tool_calls"])]
    return {**{name: value for name, value in choice.items() if name != "message"}, "delta": delta}


def model_row(row: Mapping[str, Any]) -> Json:
    """A listed model with the fields that the SDK's `Model` has."""
    owner = str(row.get("id", "")).partition("/")[0]
    return {"object": "model", "created": 0, "owned_by": owner, **row}
