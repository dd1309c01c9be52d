"""Every error that aiohttp knows becomes one of ours, at every phase of a try."""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl
import zlib

import aiohttp
import pytest
from aiohttp import client_exceptions, http_exceptions
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from orrouter.core.call import Attempt, Target
from orrouter.core.errors import RouterError
from orrouter.transport.mapping import FOREIGN, failure_of
from tests.transport.far import KEY

SENT = CIMultiDictProxy(CIMultiDict({"Authorization": f"Bearer {KEY}"}))
INFO = aiohttp.RequestInfo(URL("https://far/api/v1"), "POST", SENT, URL("https://far/api/v1"))
PLACE = ConnectionKey("far", 443, is_ssl=True, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None)
REFUSED = OSError(111, "refused")

UNREACHABLE = {client_exceptions.WSMessageTypeError}
"""Raised by web sockets alone."""
ASKED_WRONGLY = (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)
NO_HTTP = (aiohttp.ClientResponseError, http_exceptions.HttpProcessingError, aiohttp.InvalidURL)


def classes(module) -> list[type[Exception]]:
    found = [one for _, one in inspect.getmembers(module, inspect.isclass) if issubclass(one, Exception)]
    return [one for one in found if one.__module__.startswith("aiohttp") and one not in UNREACHABLE]


def instance(kind: type[Exception]) -> Exception:
    """One error of this class, as aiohttp would build it."""
    if issubclass(kind, aiohttp.ClientResponseError):
        return kind(INFO, (), status=400, message="bad", headers=SENT)
    if issubclass(kind, client_exceptions.UnixClientConnectorError):
        return kind("/path", PLACE, REFUSED)
    if issubclass(kind, client_exceptions.ClientConnectorCertificateError):
        return kind(PLACE, ssl.SSLCertVerificationError("self-signed"))
    if issubclass(kind, aiohttp.ClientConnectorError):
        return kind(PLACE, REFUSED)
    if issubclass(kind, aiohttp.ServerFingerprintMismatch):
        return kind(b"a", b"b", "far", 443)
    if issubclass(kind, http_exceptions.LineTooLong):
        return kind(b"x" * 9, 8)
    if kind is http_exceptions.HttpProcessingError:
        return kind(code=400, message="it broke")
    return kind("it broke")


KINDS = sorted({*classes(client_exceptions), *classes(http_exceptions)}, key=lambda kind: kind.__name__)
OTHERS = [
    REFUSED, ConnectionResetError(), BrokenPipeError(), socket.gaierror(-2, "unknown name"), ssl.SSLError(1, "alert"),
    ssl.SSLCertVerificationError("self-signed"), TimeoutError(), asyncio.IncompleteReadError(b"", 5),
]  # fmt: skip


def told(error: BaseException, phase: str) -> tuple[str, str, str]:
    """Code, bill and whether the same target may be asked again."""
    attempt = Attempt(1, Target(), 0.0)
    attempt.phase = phase
    ours = failure_of(error, attempt)
    assert isinstance(ours, RouterError)
    assert KEY not in f"{ours} {ours!r} {vars(ours)}"
    assert ours.message.partition(": ")[2].strip()
    return ours.code, ours.billed, ours.again


def test_aiohttp_is_known_to_its_last_class():
    """The list is long enough to be the list."""
    assert len(KINDS) >= 36
    assert {aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, http_exceptions.TransferEncodingError} <= set(
        KINDS
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_class_of_aiohttp_is_caught_and_mapped_at_every_phase(kind):
    """Not sent: never billed. Sent: it may have been. Committed: it was. None is forgotten."""
    error = instance(kind)
    assert isinstance(error, FOREIGN)
    wrong = isinstance(error, ASKED_WRONGLY)
    assert (("invalid_request", "no", "no") if wrong else ("connection_failed", "no", "yes")) == told(error, "not_sent")
    broke = ("server_error", "maybe", "yes") if isinstance(error, NO_HTTP) else ("connection_failed", "maybe", "once")
    assert broke == told(error, "sent") == told(error, "headers")
    assert ("stream_broken", "yes", "last_once") == told(error, "committed")


@pytest.mark.parametrize("error", OTHERS, ids=lambda error: type(error).__name__)
def test_what_the_system_raises_is_mapped_too(error):
    """Sockets, names, TLS, ends in the middle."""
    assert isinstance(error, FOREIGN)
    assert ("connection_failed", "no", "yes") == told(error, "not_sent")
    assert ("connection_failed", "maybe", "once") == told(error, "sent") == told(error, "headers")
    assert ("stream_broken", "yes", "last_once") == told(error, "committed")


@pytest.mark.parametrize("error", [ValueError("Newline in header"), UnicodeError("no idna")])
def test_what_cannot_be_sent_is_the_callers_mistake(error):
    """Before anything went out."""
    assert ("invalid_request", "no", "no") == told(error, "not_sent")


def test_a_certificate_that_is_not_believed_is_no_mistake_of_the_caller():
    """Python's certificate error is a ValueError too."""
    error = instance(client_exceptions.ClientConnectorCertificateError)
    assert isinstance(error, ValueError)
    assert "connection_failed" == told(error, "not_sent")[0]


def test_no_other_error_is_taken_for_the_networks():
    """A mistake of ours stays one."""
    assert not any(
        isinstance(error, FOREIGN)
        for error in (TypeError(), KeyError(), zlib.error(), RuntimeError(), asyncio.CancelledError())
    )


def test_an_error_without_words_is_named_by_its_class():
    """A message ends in something."""
    attempt = Attempt(1, Target(), 0.0)
    assert "no connection: TimeoutError" == failure_of(TimeoutError(), attempt).message
