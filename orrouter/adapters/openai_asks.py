"""What the OpenAI SDK sends becomes what a router is asked.

Law: pure. Paths, headers and JSON are read here; nothing is asked and nothing is answered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

import orjson

from orrouter.asking import Asked
from orrouter.core.errors import InvalidRequest

Endpoint = Literal["chat/completions", "completions", "embeddings", "models"]

SERVED: Final = "POST chat/completions, completions and embeddings, GET models and models/{id}"
"""What a router behind the SDK answers, in words."""

TAG: Final = "x-orrouter-tag-"
POLICY: Final = "x-orrouter-policy"
COST: Final = "x-max-cost"
REQUEST_ID: Final = "x-request-id"

_PLACE: Final = re.compile(r".*?/(chat/completions|completions|embeddings|models)(?:/(.+?))?/?")
_NEEDS: Final[Mapping[Endpoint, str]] = {
    "chat/completions": "messages",
    "completions": "prompt",
    "embeddings": "input",
}
_BY_HEADER: Final[Mapping[str, str]] = {
    "policy": "say it with the header X-Orrouter-Policy, or as model: policy/NAME",
    "tags": "say them with headers X-Orrouter-Tag-NAME, or with orrouter.tags(...)",
    "timeout": "say it with the SDK's own timeout=",
    "max_cost": "say it with the header X-Max-Cost",
    "headers": "say them with the SDK's own extra_headers=",
    "request_id": "say it with the header X-Request-Id",
}
"""What a router calls so is no field of a request."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as the SDK sent it; `timeout` in seconds, None where the caller has set none."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """What a request is for. `name`: the model that is asked about."""

    endpoint: Endpoint
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that was read. `counts`: the caller of a stream asked for its usage."""

    body: dict[str, Any]
    asked: Asked
    streamed: bool = False
    counts: bool = False
    patience: float | None = None
    """Seconds that may pass before each event of a stream."""


def place_of(method: str, path: str) -> Place | None:
    """What is asked for, by the end of the path, whatever the base URL is; None: it is not served."""
    found = _PLACE.fullmatch(path)
    if found is None:
        return None
    endpoint, name = cast("Endpoint", found[1]), found[2]
    if endpoint == "models":
        return Place(endpoint, name) if method == "GET" else None
    return Place(endpoint) if method == "POST" and name is None else None


def read_ask(endpoint: Endpoint, sent: Sent, request_id: str) -> Ask:
    """The request's body and how it is to be treated. Raises InvalidRequest.

    The SDK's timeout bounds a silence, not a call: for a whole answer both are the same, and it becomes the call's
    deadline; for a stream of chat it is kept before each event.
    """
    body, timeout = _body(endpoint, sent.content), _seconds(sent.timeout)
    streamed = bool(body.pop("stream", False)) and endpoint != "embeddings"
    options = body.get("stream_options")
    counts = isinstance(options, Mapping) and bool(options.get("include_usage"))
    if streamed and endpoint == "chat/completions":
        return Ask(body, _asked(sent, None, request_id), streamed=True, counts=counts, patience=timeout)
    return Ask(body, _asked(sent, timeout, request_id), streamed=streamed, counts=counts)


def _body(endpoint: Endpoint, content: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the request's body is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise InvalidRequest("the request's body must be a JSON object")
    if _NEEDS[endpoint] not in body:
        raise InvalidRequest(f"a request to {endpoint} needs {_NEEDS[endpoint]!r}")
    for name, hint in _BY_HEADER.items():
        if name in body:
            raise InvalidRequest(f"{name!r} is no field of a request: {hint}")
    return body


def _seconds(timeout: float | None) -> float | None:
    if timeout is not None and not 0 < timeout < float("inf"):
        raise InvalidRequest(f"timeout must be a number of seconds above 0, not {timeout!r}")
    return timeout


def _asked(sent: Sent, timeout: float | None, request_id: str) -> Asked:
    """What the headers say, by name in lower case. Raises InvalidRequest for one of ours that nobody knows."""
    tags: dict[str, str] = {}
    onward: dict[str, str] = {}
    for name, value in sent.headers.items():
        if name.startswith(TAG):
            tags[name.removeprefix(TAG)] = value
        elif name.startswith("x-orrouter-") and name != POLICY:
            raise InvalidRequest(f"there is no header {name}: known are {POLICY} and {TAG}NAME")
        elif _travels(name):
            onward[name] = value
    return Asked(
        policy=sent.headers.get(POLICY),
        tags=tags or None,
        timeout=timeout,
        max_cost=sent.headers.get(COST),
        headers=onward or None,
        request_id=request_id,
    )


def _travels(name: str) -> bool:
    """Whether a header goes on to the upstream: the caller's own, but none that the SDK itself adds."""
    if name in (REQUEST_ID, COST, POLICY) or name.startswith("x-stainless-"):
        return False
    return name.startswith("x-") or name == "http-referer"
