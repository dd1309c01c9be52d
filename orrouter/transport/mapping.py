"""Every error of aiohttp becomes one of ours, here and nowhere else.

Law: pure. By kind of error and by how far the try had come; what an HTTP answer means is `wire/faults.py`'s.
"""

from __future__ import annotations

import ssl

import aiohttp
from aiohttp import http_exceptions

from orrouter.core.call import Attempt
from orrouter.core.errors import ConnectionFailed, InvalidRequest, ServerError, StreamBroken, UpstreamError
from orrouter.wire.words import one_line

FOREIGN: tuple[type[BaseException], ...] = (
    aiohttp.ClientError,
    http_exceptions.HttpProcessingError,
    OSError,
    ssl.CertificateError,
    TimeoutError,
    EOFError,
    ValueError,
)
"""What may come out of an aiohttp call besides a cancellation."""

_ASKED_WRONGLY = (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, ValueError)
_NO_CONNECTION = (OSError, aiohttp.ClientConnectionError)
"""A certificate that is not believed is an OSError, and a ValueError too: this is asked first."""
_NO_HTTP = (aiohttp.ClientResponseError, http_exceptions.HttpProcessingError, aiohttp.InvalidURL)


def failure_of(error: BaseException, attempt: Attempt) -> UpstreamError:
    """Our error for one of aiohttp's, as far as `attempt` had come."""
    text = _text(error)
    if attempt.phase == "committed":
        return StreamBroken(f"the connection broke in the middle of the answer: {text}")
    if attempt.phase == "not_sent":
        if isinstance(error, _ASKED_WRONGLY) and not isinstance(error, _NO_CONNECTION):
            return InvalidRequest(f"this cannot be sent: {text}")
        return ConnectionFailed(f"no connection: {text}", billed="no")
    if isinstance(error, _NO_HTTP):
        return ServerError(f"the upstream does not speak HTTP: {text}", billed="maybe")
    return ConnectionFailed(f"the connection broke before the answer began: {text}", billed="maybe", again="once")


def _text(error: BaseException) -> str:
    """The error in words; an empty one is named by its class, and headers in its repr are never shown."""
    if isinstance(error, aiohttp.ClientResponseError | http_exceptions.HttpProcessingError):
        words = error.message
    else:
        words = str(error)
    return one_line(words or type(error).__name__)[:300]
