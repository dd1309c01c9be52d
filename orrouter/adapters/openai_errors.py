"""A router's error as the answer that makes the OpenAI SDK raise its own class.

Law: pure. The status decides the SDK's class (400 BadRequestError, 401 AuthenticationError, 403
PermissionDeniedError, 404 NotFoundError, 429 RateLimitError, 5xx InternalServerError, others APIStatusError); every
answer forbids the SDK to ask again, because the router has done so as often as its policy allows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import orjson

from orrouter.adapters.openai_asks import REQUEST_ID, SERVED
from orrouter.core.errors import RouterError

TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
"""OpenAI's `type` by status; anything else is a `server_error`."""

OPENAI_CODES: Final[Mapping[str, str]] = {"context_overflow": "context_length_exceeded"}
"""Codes that clients of OpenAI look for, in `code` and in the message."""

_PARAMS: Final[Mapping[str, str]] = {
    "context_overflow": "messages",
    "model_not_found": "model",
    "model_not_allowed": "model",
    "no_route": "model",
}


def error_body(error: RouterError, request_id: str) -> dict[str, Any]:
    """`{"error": {message, type, code, param, metadata}}`; `metadata` names what only a router knows."""
    code = OPENAI_CODES.get(error.code, error.code)
    text = str(error)
    if text.startswith(error.code):
        text = code + text.removeprefix(error.code)
    metadata = {
        "request_id": request_id,
        "orrouter_code": error.code,
        "attempts": len(error.attempts),
        "provider": getattr(error, "provider", None),
        "model": getattr(error, "model", None),
    }
    return {
        "error": {
            "message": text,
            "type": TYPES.get(error.http_status, "server_error"),
            "code": code,
            "param": _PARAMS.get(error.code),
            "metadata": {name: value for name, value in metadata.items() if value is not None},
        }
    }


def error_headers(error: RouterError, request_id: str) -> dict[str, str]:
    """The headers of an error's answer, with the wait that is asked for where it is known."""
    headers = _headers(request_id, len(error.attempts))
    wait = getattr(error, "retry_after", None)
    if wait is not None:
        headers["retry-after"] = str(math.ceil(wait))
        headers["retry-after-ms"] = str(math.ceil(wait * 1000))
    return headers


def error_event(error: RouterError, request_id: str) -> bytes:
    """An error in the midst of a stream: the SDK raises APIError, and no `[DONE]` follows."""
    return b"data: " + orjson.dumps(error_body(error, request_id)) + b"\n\n"


def not_served(method: str, path: str, request_id: str) -> tuple[dict[str, str], bytes]:
    """Headers and body of the 404 for a path that no router answers."""
    message = f"{method} {path} is not served by orrouter; it serves {SERVED}"
    body = {"error": {"message": message, "type": TYPES[404], "code": "not_served", "param": None}}
    return _headers(request_id, 0), orjson.dumps(body)


def _headers(request_id: str, attempts: int) -> dict[str, str]:
    return {
        "content-type": "application/json",
        REQUEST_ID: request_id,
        "x-orrouter-attempts": str(attempts),
        "x-should-retry": "false",
    }
