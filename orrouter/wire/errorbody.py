"""What an error answer says, in one shape, whichever of its shapes it came in.

Law: reading only; what follows from it is decided in `faults`. Total: any bytes, any JSON value can be read.

OpenRouter and its peers answer with `{"error": {...}}`, the same without the outer key, a bare string, a Zod
envelope whose message is JSON in a string, an availability object without a code, the Messages and Responses
skins, an error inside a choice, a Cloudflare page, padding and nothing. All of them end in a `Complaint`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from orrouter.wire.waits import header
from orrouter.wire.words import (
    MESSAGE_MAX,
    Json,
    dig,
    first_text,
    is_object,
    mapping,
    one_line,
    text_of,
    without_secrets,
)

RAW_MAX = 4096
"""Characters of the error object that are kept."""

_NOTHING: Final[Mapping[str, Any]] = {}
_REQUEST_IDS: Final = ("X-Request-Id", "Request-Id", "CF-Ray")
_GENERIC = frozenset({"", "error", "provider returned error", "json error injected into sse stream"})
_BLAMED = re.compile(r"upstream error from ([^:]{1,60}):|requires moderation on ([^.]{1,60})\.", re.IGNORECASE)


class Complaint:
    """One failure in the words of the upstream.

    `body` is the whole object it came in, `error` the object that tells what happened, `http_status` the status
    of the answer; `parsed` says that the upstream told it in JSON, not a page or a silence.
    """

    def __init__(
        self,
        http_status: int,
        error: Json = _NOTHING,
        body: Json = _NOTHING,
        headers: Mapping[str, str] = _NOTHING,
        *,
        parsed: bool = True,
    ) -> None:
        self.http_status, self.error, self.body, self.headers, self.parsed = http_status, error, body, headers, parsed
        self.metadata = mapping(error.get("metadata"))
        """`error.metadata`, empty if there is none."""
        self.availability = mapping(error.get("availability"))
        """`error.availability`, empty if there is none."""
        self.status = _named_status(error) or http_status
        """The status the error names, which may differ from that of the answer; else that of the answer."""
        self.message = dig(error)
        """What the outer error says."""
        self.inner = dig(self.metadata.get("raw"))
        """What the provider behind it said."""
        self.generic = self.message.lower().rstrip(".") in _GENERIC
        """Whether the outer message tells nothing."""
        self.words = f"{self.message[:RAW_MAX]}\n{self.inner[:RAW_MAX]}".lower()
        """Outer and inner message in lower case, to look for signatures in."""
        self.provider = _provider(self.metadata, body) or _blamed(self.message)
        """The provider that failed, if it is named anywhere."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The words that name the kind of failure, the most stable first (`error_type`, then codes)."""
        return tuple(_kinds(self))

    @property
    def model(self) -> str | None:
        """The model that was asked, if the answer says so."""
        return first_text(self.body.get("model"), self.metadata.get("model"), self.metadata.get("model_slug"))

    @property
    def generation_id(self) -> str | None:
        """The id under which the generation can be asked for, from the body or the header."""
        said = text_of(self.body.get("id"))
        return said if said.startswith("gen-") else header(self.headers, "X-Generation-Id") or None

    @property
    def request_id(self) -> str | None:
        """The id that the upstream's own support understands."""
        said = first_text(self.body.get("request_id"))
        for name in _REQUEST_IDS:
            said = said or first_text(header(self.headers, name))
        return said

    @property
    def raw(self) -> object:
        """The error object with secrets blotted out; a text cut at RAW_MAX if it is longer."""
        clean = without_secrets(self.error)
        text = orjson.dumps(clean).decode()
        return text[:RAW_MAX] if len(text) > RAW_MAX else clean

    @property
    def summary(self) -> str:
        """One line for people: the provider's own words where the outer ones say nothing."""
        said = (self.inner or self.message) if self.generic else self.message
        said = one_line(said) or next(iter(self.kinds), "") or "the upstream failed and gave no reason"
        return f"{self.provider}: {said}"[:MESSAGE_MAX] if self.generic and self.provider else said


def _named_status(error: Json) -> int | None:
    for name in ("code", "http_status", "status"):
        status = status_of(error.get(name))
        if status is not None:
            return status
    return None


def _provider(metadata: Json, body: Json) -> str | None:
    names = (metadata.get("provider_name"), metadata.get("provider")) if metadata else ()
    return first_text(*names, body.get("provider"))


def _kinds(complaint: Complaint) -> Iterator[str]:
    error = complaint.error
    for value in (
        complaint.metadata.get("error_type"),
        error.get("error_type"),
        complaint.body.get("error_type"),
        complaint.availability.get("code"),
        error.get("code"),
    ):
        word = text_of(value).lower()
        if word and status_of(word) is None:
            yield word


def _blamed(message: str) -> str | None:
    match = _BLAMED.search(message[:RAW_MAX]) if " on " in message.lower() or ":" in message else None
    return one_line(match[1] or match[2]) if match is not None else None


def find_error(body: Json) -> Json | None:
    """The error object inside one JSON object of an answer with status 200; None if it holds none.

    Raises nothing. An error in the first choice counts, for its words are the answer; one in another does not.
    """
    for holder in (body, mapping(body.get("response"))):
        error = holder.get("error")
        if error:
            kind = holder.get("error_type")
            told = error if is_object(error) else {"message": dig(error)}
            return {**told, "error_type": kind} if kind and "error_type" not in told else told
    if body.get("type") in ("error", "response.failed"):
        return body
    choices = body.get("choices")
    if isinstance(choices, list) and choices:
        return _failed_choice(choices)
    return body if _is_flat(body) else None


def _failed_choice(choices: list[Any]) -> Json | None:
    first = mapping(choices[0])
    if not (first.get("error") or first.get("finish_reason") == "error"):
        return None
    error = first.get("error")
    if isinstance(error, Mapping):
        return error
    return {"message": dig(error) or "the provider broke the answer off (finish_reason: error)"}


def _is_flat(body: Json) -> bool:
    """An error object without the outer `error` key: a message, and a code that names a failure."""
    code = body.get("code")
    named = status_of(code) is not None or (isinstance(code, str) and code.strip() != "" and not code.isdigit())
    return named and isinstance(body.get("message"), str) and "data" not in body


def status_of(value: object) -> int | None:
    """An HTTP status of failure, as a number or as digits; None for anything else, also a useless 200."""
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 400 <= value <= 599:
        return None
    return int(value)
