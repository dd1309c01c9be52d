"""The JSON of an answer as OpenRouter sends it: bodies, chunks, usage, and what is remembered of a generation.

Law: pure builders over a `Turn`. In which steps the bytes leave is decided in `plans.py`, what goes wrong in
`faults.py`.
"""

from __future__ import annotations

import base64
import random
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from orrouter.core import money
from orrouter.testkit.ask import Ask
from orrouter.testkit.speech import Answer, pieces
from orrouter.testkit.table import FakeModel, FakeProvider

Kind = Literal["comment", "role", "delta", "finish", "usage", "done", "body"]

PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SILENCE = base64.b64encode(bytes(64)).decode()
DIMENSIONS = 1_536


@dataclass(frozen=True, slots=True)
class Turn:
    """One request with everything that decides its reply; `now` is epoch seconds."""

    ask: Ask
    model: FakeModel
    provider: FakeProvider
    answer: Answer
    generation_id: str
    now: float
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """One event of a stream: what it is for, its JSON, and the completion tokens that it carries."""

    kind: Kind
    json: dict[str, Any]
    tokens: int = 0


def usage(turn: Turn) -> dict[str, Any]:
    """The `usage` object; `cost` is USD, zero where the caller's own provider key pays."""
    answer, provider = turn.answer, turn.provider
    prompt = provider.cost(answer.prompt_tokens, 0)
    full = provider.cost(answer.prompt_tokens, answer.completion_tokens)
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        "cost": 0 if provider.byok else _dollars(full),
        "is_byok": provider.byok,
        "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, "audio_tokens": 0, "video_tokens": 0},
        "cost_details": {
            "upstream_inference_cost": _dollars(full),
            "upstream_inference_prompt_cost": _dollars(prompt),
            "upstream_inference_completions_cost": _dollars(full - prompt),
        },
        "completion_tokens_details": {
            "reasoning_tokens": answer.reasoning_tokens,
            "image_tokens": 0,
            "audio_tokens": 0,
        },
    }


def body(turn: Turn) -> dict[str, Any]:
    """The whole answer as one JSON object, in the form of its endpoint."""
    if turn.ask.endpoint == "embeddings":
        return _embeddings(turn)
    choice: dict[str, Any] = {"index": 0, "logprobs": None, **_finish(turn)}
    choice |= _text_of(turn.answer) if turn.ask.endpoint == "completions" else {"message": _message(turn)}
    whole = {**_envelope(turn), "choices": [choice], "usage": usage(turn)}
    if turn.metadata is not None:
        whole["openrouter_metadata"] = turn.metadata
    return whole


def frames(turn: Turn) -> Iterator[Frame]:
    """The answer as the events of a stream: an empty role, the deltas, the finish, and the finish again with usage."""
    legacy = turn.ask.endpoint == "completions"
    if not legacy:
        yield Frame("role", chunk(turn, {"content": ""}))
    unsaid = turn.answer.completion_tokens
    for delta, tokens in _text_deltas(turn.answer) if legacy else _deltas(turn):
        unsaid -= tokens
        yield Frame("delta", chunk(turn, delta), tokens)
    ended = chunk(turn, nothing(turn), **_finish(turn))
    yield Frame("finish", ended, unsaid)
    extra = {} if turn.metadata is None else {"openrouter_metadata": turn.metadata}
    yield Frame("usage", {**ended, "usage": usage(turn), **extra})


def chunk(turn: Turn, delta: Mapping[str, Any], **choice: Any) -> dict[str, Any]:
    """One chunk; `delta` is what is new, `choice` what else the choice says (`finish_reason`, `error`)."""
    legacy = turn.ask.endpoint == "completions"
    said = dict(delta) if legacy else {"delta": {"role": "assistant", **delta}}
    defaults = {"finish_reason": None, "native_finish_reason": None, "logprobs": None}
    return {**_envelope(turn), "choices": [{"index": 0, **said, **defaults, **choice}]}


def nothing(turn: Turn) -> dict[str, str]:
    """A delta that says nothing, in the form of the endpoint."""
    return {"text": ""} if turn.ask.endpoint == "completions" else {"content": ""}


def generation(turn: Turn, billed: int, produced: int, finish: str | None) -> dict[str, Any]:
    """The `data` of `GET /generation?id=`: what was produced and what it cost in the end (`billed`, nano-USD).

    `finish` None means that it was cancelled.
    """
    answer = turn.answer
    native = answer.native_finish(turn.model.author) if finish == answer.finish else finish
    return {
        "id": turn.generation_id,
        "model": turn.model.slug,
        "provider_name": turn.provider.name,
        "api_type": "embeddings" if turn.ask.endpoint == "embeddings" else "completions",
        "created_at": int(turn.now),
        "streamed": turn.ask.stream,
        "cancelled": finish is None,
        "is_byok": turn.provider.byok,
        "finish_reason": finish,
        "native_finish_reason": native,
        "tokens_prompt": answer.prompt_tokens,
        "tokens_completion": produced,
        "native_tokens_prompt": answer.prompt_tokens,
        "native_tokens_completion": produced,
        "native_tokens_reasoning": min(produced, answer.reasoning_tokens),
        "native_tokens_cached": 0,
        "usage": 0 if turn.provider.byok else _dollars(billed),
        "total_cost": 0 if turn.provider.byok else _dollars(billed),
        "upstream_inference_cost": _dollars(billed) if turn.provider.byok else None,
        "cache_discount": None,
    }


def _dollars(amount: int) -> float:
    """Nano-USD as the JSON number that OpenRouter prints."""
    return float(money.usd(amount))


def _envelope(turn: Turn) -> dict[str, Any]:
    ask = turn.ask
    kind = "text_completion" if ask.endpoint == "completions" else "chat.completion" + (".chunk" if ask.stream else "")
    return {
        "id": turn.generation_id,
        "object": kind,
        "created": int(turn.now),
        "model": turn.model.slug,
        "provider": turn.provider.name,
        "system_fingerprint": None,
    }


def _finish(turn: Turn) -> dict[str, str]:
    native = turn.answer.native_finish(turn.model.author)
    return {"finish_reason": turn.answer.finish, "native_finish_reason": native}


def _text_of(answer: Answer) -> dict[str, Any]:
    return {"text": answer.text, "reasoning": _shown(answer) or None}


def _message(turn: Turn) -> dict[str, Any]:
    answer = turn.answer
    content = None if answer.tool or answer.refusal else answer.text
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": answer.refusal or None}
    thought = _shown(answer)
    message["reasoning"] = thought or None
    if thought:
        message["reasoning_details"] = [_detail(thought)]
    if answer.tool:
        message["tool_calls"] = [_call(turn, answer.text)]
    if "audio" in answer.media:
        message["audio"] = {**_sound(turn), "data": SILENCE, "transcript": answer.text}
        message["content"] = None
    if "image" in answer.media:
        message["images"] = [_picture()]
    return message


def _deltas(turn: Turn) -> Iterator[tuple[dict[str, Any], int]]:
    """Each delta of a chat with the tokens that it carries; hidden reasoning is paid for by the first one."""
    answer = turn.answer
    hidden = 0 if _shown(answer) else answer.reasoning_tokens
    for thought in pieces(_shown(answer)):
        yield {"content": "", "reasoning": thought, "reasoning_details": [_detail(thought)]}, 1
    for delta in _spoken(turn):
        yield delta, 1 + hidden
        hidden = 0
    if answer.refusal:
        yield {"content": "", "refusal": answer.refusal}, len(pieces(answer.refusal))
    if "image" in answer.media:
        yield {"content": "", "images": [{"index": 0, **_picture()}]}, 0


def _spoken(turn: Turn) -> Iterator[dict[str, Any]]:
    """The words of the answer, as text, as the arguments of a tool call, or as the transcript of a sound."""
    answer = turn.answer
    if answer.tool:
        yield {"content": None, "tool_calls": [{"index": 0, **_call(turn, "")}]}
    for piece in pieces(answer.text):
        if answer.tool:
            yield {"content": None, "tool_calls": [{"index": 0, "type": "function", "function": {"arguments": piece}}]}
        elif "audio" in answer.media:
            yield {"audio": {**_sound(turn), "data": SILENCE, "transcript": piece}}
        else:
            yield {"content": piece}


def _text_deltas(answer: Answer) -> Iterator[tuple[dict[str, Any], int]]:
    hidden = answer.reasoning_tokens
    for piece in pieces(answer.text):
        yield {"text": piece}, 1 + hidden
        hidden = 0


def _shown(answer: Answer) -> str:
    return answer.reasoning if answer.shows_reasoning else ""


def _detail(thought: str) -> dict[str, Any]:
    return {"type": "reasoning.text", "text": thought, "format": "unknown", "index": 0}


def _call(turn: Turn, arguments: str) -> dict[str, Any]:
    call_id = f"call_{turn.generation_id[-8:]}"
    return {"id": call_id, "type": "function", "function": {"name": turn.answer.tool, "arguments": arguments}}


def _sound(turn: Turn) -> dict[str, Any]:
    return {"id": f"audio_{turn.generation_id[-8:]}", "expires_at": int(turn.now) + 3_600}


def _picture() -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": PIXEL}}


def _embeddings(turn: Turn) -> dict[str, Any]:
    asked = turn.ask.body
    given = asked["input"]
    several = isinstance(given, list) and not all(isinstance(one, int) for one in given)
    size = int(asked.get("dimensions") or DIMENSIONS)
    packed = asked.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(numbers) if packed else numbers}
        for index, numbers in enumerate(vector(str(one), size) for one in (given if several else [given]))
    ]
    full = usage(turn)
    kept = {key: full[key] for key in ("prompt_tokens", "total_tokens", "cost", "is_byok")}
    envelope = {**_envelope(turn), "object": "list"}
    return {**envelope, "data": data, "usage": kept}


def vector(text: str, size: int) -> list[float]:
    """The embedding of a text: numbers between -1 and 1 that depend on the text alone."""
    dice = random.Random(text)
    return [round(dice.uniform(-1, 1), 6) for _ in range(size)]


def _packed(numbers: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
