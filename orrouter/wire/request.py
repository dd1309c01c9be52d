"""A call becomes the bytes and headers that its upstream wants.

Law: pure. What an OpenAI-compatible upstream does not know is left out here; what is true of every request of an
upstream (its key, its fixed headers) is the transport's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from orrouter.core.call import Call
from orrouter.core.errors import InvalidRequest
from orrouter.core.values import made

OPENROUTER_ONLY: Final = frozenset(
    {
        "cache_control", "debug", "deferred_tools", "image_config", "include_reasoning", "input_type", "min_p",
        "models", "plugins", "preset", "provider", "reasoning", "repetition_penalty", "route", "session_id",
        "stop_server_tools_when", "top_a", "top_k", "trace", "transforms", "usage", "x_search_filter",
    }
)  # fmt: skip
"""Fields that an OpenAI-compatible upstream does not know and may refuse."""

_SAID_BY_OPENROUTER: Final = ("reasoning", "reasoning_details", "annotations", "images", "cache_control")
"""Fields of a message, or of a part of one, that OpenRouter alone gives and takes."""
_SERVER_TOOL: Final = "openrouter:"
"""How the type of a tool begins that OpenRouter itself runs."""

SERVER_MODELS: Final = 3
"""Entries that OpenRouter takes in `models`; a fourth is answered with HTTP 400."""

_FREE_TOOLS: Final = frozenset({"function", "custom"})
_FREE_PLUGINS: Final = frozenset({"response-healing", "context-compression", "moderation"})


class Request(NamedTuple):
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
    return made(Request, (call.endpoint, _serialise(call, head), stream))


def streams(call: Call) -> bool:
    """Whether to ask for a stream: the caller reads one, or a clock needs to see the first token."""
    if not call.completes:
        return False
    return call.streamed or call.clocks.first_token is not None or call.clocks.stall is not None


def is_plain(call: Call) -> bool:
    """Whether this is OpenRouter, and nothing in the request can cost a fee of its own: see `plain`."""
    return call.target.dialect == "openrouter" and plain(call.body, call.target.model)


def plain(body: Mapping[str, Any], model: str = "") -> bool:
    """Whether nothing in the request can cost a fee of its own: no plugin, server tool or search with a price.

    A failed try is then surely free when OpenRouter says so in a body of its own.
    """
    if body.get("preset") or body.get("web_search_options") or ":online" in model or "@preset/" in model:
        return False
    return _all_free(body.get("plugins"), "id", _FREE_PLUGINS) and _all_free(body.get("tools"), "type", _FREE_TOOLS)


def _all_free(used: Any, field: str, free: frozenset[str]) -> bool:
    return not used or (isinstance(used, list | tuple) and all(_named(one, field) in free for one in used))


def _named(value: Any, field: str) -> str:
    return str(value.get(field)) if isinstance(value, dict) else ""


def _head(call: Call, stream: bool) -> dict[str, Any]:
    """The body without its messages."""
    head = {name: value for name, value in call.body.items() if name != "messages"}
    if call.target.dialect == "openai":
        head = _openai_head(head, stream)
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


def _openai_head(head: dict[str, Any], stream: bool) -> dict[str, Any]:
    """The body without what only OpenRouter knows; the effort under OpenAI's name, and usage asked for."""
    reasoning = head.get("reasoning")
    head = {name: value for name, value in head.items() if name not in OPENROUTER_ONLY}
    if isinstance(reasoning, Mapping) and reasoning.get("effort"):
        head.setdefault("reasoning_effort", reasoning["effort"])
    tools = head.get("tools")
    if isinstance(tools, list) and any(_named(tool, "type").startswith(_SERVER_TOOL) for tool in tools):
        head["tools"] = [tool for tool in tools if not _named(tool, "type").startswith(_SERVER_TOOL)]
        if not head["tools"]:
            head = {name: value for name, value in head.items() if name not in _WITH_TOOLS}
    if stream:
        options = head.get("stream_options")
        head["stream_options"] = {**(options if isinstance(options, Mapping) else {}), "include_usage": True}
    else:
        head.pop("stream_options", None)
    return head


_WITH_TOOLS: Final = ("tools", "tool_choice", "parallel_tool_calls")


def _messages(call: Call) -> Any:
    """The messages as the target takes them: the caller's own object wherever nothing has to be left out."""
    messages = call.body.get("messages")
    if call.target.dialect == "openrouter" or not isinstance(messages, list):
        return messages
    return [_bare(message) for message in messages] if any(map(_is_dressed, messages)) else messages


def _is_dressed(message: Any) -> bool:
    if not isinstance(message, Mapping):
        return False
    content = message.get("content")
    parts = content if isinstance(content, list) else ()
    return any(name in message for name in _SAID_BY_OPENROUTER) or any(
        isinstance(part, Mapping) and "cache_control" in part for part in parts
    )


def _bare(message: Any) -> Any:
    if not isinstance(message, Mapping):
        return message
    bare = {name: value for name, value in message.items() if name not in _SAID_BY_OPENROUTER}
    if isinstance(bare.get("content"), list):
        bare["content"] = [_bare(part) for part in bare["content"]]
    return bare


class _Sent(NamedTuple):
    """The first try's bytes, kept so that a long prompt is serialised once for all tries."""

    messages: Any
    request: dict[str, Any]
    body: bytes

    def fragment(self) -> bytes | None:
        """The messages as they stand at the end of `body`; None when the head was changed meanwhile."""
        head = {name: value for name, value in self.request.items() if name != "messages"}
        before = orjson.dumps(head)[:-1] + (b',"messages":' if head else b'"messages":')
        return self.body[len(before) : -1] if self.body.startswith(before) else None


def _serialise(call: Call, head: dict[str, Any]) -> bytes:
    messages = _messages(call)
    if messages is None:
        return _dumps(head)
    sent = call.trail.sent
    if isinstance(sent, _Sent) and sent.messages is messages:
        said = sent.fragment()
        if said is not None:
            head["messages"] = orjson.Fragment(said)
            return _dumps(head)
    head["messages"] = messages
    body = _dumps(head)
    if sent is None:
        call.trail.sent = made(_Sent, (messages, head, body))
    return body


def _dumps(value: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise InvalidRequest(f"the request is no JSON: {error}") from error
