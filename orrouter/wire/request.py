"""A call becomes the bytes and headers that its upstream wants.

Law: pure. What an OpenAI-compatible upstream does not know is left out here; what is true of every request of an
upstream (its key, its fixed headers) is the transport's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from orrouter.core.call import Call
from orrouter.core.errors import InvalidRequest

OPENROUTER_ONLY: Final = frozenset(
    {
        "cache_control", "debug", "image_config", "include_reasoning", "min_p", "models", "plugins", "preset",
        "provider", "reasoning", "repetition_penalty", "route", "session_id", "stop_server_tools_when", "top_a",
        "top_k", "trace", "transforms", "usage", "x_search_filter",
    }
)  # fmt: skip
"""Fields that an OpenAI-compatible upstream does not know and may refuse."""

SERVER_MODELS: Final = 3
"""Entries that OpenRouter takes in `models`; a fourth is answered with HTTP 400."""

_FREE_TOOLS: Final = frozenset({"function", "custom"})
_FREE_PLUGINS: Final = frozenset({"response-healing", "context-compression", "moderation"})


@dataclass(frozen=True, slots=True)
class Request:
    """What goes out: `path` under the base URL, JSON bytes (None for a GET), and whether a stream comes back."""

    path: str
    body: bytes | None
    stream: bool


def request_of(call: Call) -> Request:
    """The request of this try. Raises InvalidRequest for what no upstream would take."""
    if call.method == "GET":
        return Request(call.endpoint, None, stream=False)
    stream = streams(call)
    head = _head(call, stream)
    return Request(call.endpoint, _serialise(call, head), stream)


def streams(call: Call) -> bool:
    """Whether to ask for a stream: the caller reads one, or a clock needs to see the first token."""
    if not call.completes:
        return False
    return call.streamed or call.clocks.first_token is not None or call.clocks.stall is not None


def plain(body: Mapping[str, Any]) -> bool:
    """Whether nothing in the request can cost a fee of its own: no plugin and no server tool with a price.

    A failed try is then surely free when OpenRouter says so in a body of its own.
    """
    if not body.get("plugins") and not body.get("tools"):
        return True
    plugins, tools = body.get("plugins") or (), body.get("tools") or ()
    return all(_named(plugin, "id") in _FREE_PLUGINS for plugin in plugins) and all(
        _named(tool, "type") in _FREE_TOOLS for tool in tools
    )


def _named(value: Any, field: str) -> str:
    return str(value.get(field)) if isinstance(value, dict) else ""


def _head(call: Call, stream: bool) -> dict[str, Any]:
    """The body without its messages."""
    head = {name: value for name, value in call.body.items() if name != "messages"}
    if call.target.dialect == "openai":
        effort = (head.get("reasoning") or {}).get("effort") if isinstance(head.get("reasoning"), dict) else None
        head = {name: value for name, value in head.items() if name not in OPENROUTER_ONLY}
        if effort:
            head.setdefault("reasoning_effort", effort)
        if stream:
            head["stream_options"] = {**(head.get("stream_options") or {}), "include_usage": True}
    elif len(call.models) > 1:
        if len(call.models) > SERVER_MODELS:
            raise InvalidRequest(
                f"{len(call.models)} models are named, and OpenRouter takes {SERVER_MODELS}: "
                "list them in a policy with `fallback`, which takes any number"
            )
        head["models"] = list(call.models)
    if call.target.model:
        head["model"] = call.target.model
    if stream:
        head["stream"] = True
    return head


@dataclass(frozen=True, slots=True)
class _Sent:
    """The first try's bytes, kept so that a long prompt is serialised once for all tries."""

    messages: Any
    head: dict[str, Any]
    body: bytes

    def fragment(self) -> bytes:
        """The messages as they stand at the end of `body`."""
        before = len(orjson.dumps(self.head)) - 1 + len(b',"messages":' if self.head else b'"messages":')
        return self.body[before:-1]


def _serialise(call: Call, head: dict[str, Any]) -> bytes:
    messages = call.body.get("messages")
    if messages is None:
        return _dumps(head)
    sent = call.trail.sent
    if isinstance(sent, _Sent) and sent.messages is messages:
        return _dumps({**head, "messages": orjson.Fragment(sent.fragment())})
    body = _dumps({**head, "messages": messages})
    if not isinstance(sent, _Sent):
        call.trail.sent = _Sent(messages, head, body)
    return body


def _dumps(value: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise InvalidRequest(f"the request is no JSON: {error}") from error
