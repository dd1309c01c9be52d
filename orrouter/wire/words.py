"""Texts for people out of whatever an upstream wrote: JSON in JSON in a string, a page, a finding of a validator.

Law: reading and cleaning of texts, total for any value. What a text means is judged in `signatures`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeGuard

import orjson

Json = Mapping[str, Any]

MESSAGE_MAX = 500
"""Characters of a message for people."""

_JSON_MAX = 65_536
_PAGE_MAX = 8_192
_TEXT_MAX = 4_096
_NOTHING: Json = {}
_PADDING = re.compile(r"\A\ufeff?(?:\s*+:[^\n]*+\n)*+\s*+")
_TITLE = re.compile(r"<title[^>]{0,200}>(.{1,300}?)</title>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]{0,300}>")
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_SECRET = re.compile(
    r"\b[sprk]k-[\w*.-]{6,}|AIza[\w-]{20,}|\b[Bb]earer\s+(?=[\w.~+/=-]*[0-9])[\w.~+/=-]{8,}"
    r"|\b(?:user|org)_(?=\w*[0-9A-Z])\w{8,}"
)

_SECRET_MIN = 9
"""Characters of the shortest text that `_SECRET` finds."""


def read_json(body: object) -> Any:
    """A body as JSON, without its padding of white space, comments or byte order mark; as text if it is none.

    What is parsed already is given back as it is.
    """
    if isinstance(body, bytes | bytearray | memoryview):
        text = bytes(body).decode("utf-8", errors="replace")
    elif isinstance(body, str):
        text = body
    else:
        return body
    text = text[_end_of_padding(text) :].rstrip()
    parsed = _parsed(text)
    return text if parsed is None else parsed


def _end_of_padding(text: str) -> int:
    match = _PADDING.match(text)
    return match.end() if match is not None else 0


def _parsed(text: str) -> Any:
    """JSON, or None."""
    try:
        return orjson.loads(text)
    except ValueError:
        return None


def from_page(text: str) -> Json:
    """What a body that is no JSON object tells: the title of a page, or its first words."""
    if not text:
        return {"message": "the answer was empty"}
    title = _TITLE.search(text[:_PAGE_MAX])
    if title is not None:
        return {"message": f"a page instead of JSON: {one_line(title[1])}"}
    words = one_line(_TAG.sub(" ", text[:_PAGE_MAX]))[:200]
    return {"message": f"an answer that is no JSON object: {words or 'markup without words'}"}


def dig(value: object, depth: int = 5) -> str:
    """The innermost message of a text, a JSON text, an object or a list of findings; empty if there is none."""
    if isinstance(value, str):
        return _dig_text(value.strip(), depth)
    if depth == 0 or value is None:
        return ""
    if is_object(value):
        found = (dig(value.get(name), depth - 1) for name in ("message", "error", "detail", "details", "msg"))
        return next(filter(None, found), "")
    if isinstance(value, list | tuple):
        return "; ".join(filter(None, (_finding(item, depth - 1) for item in value[:5])))
    return ""


def _dig_text(text: str, depth: int) -> str:
    if depth == 0 or len(text) > _JSON_MAX or not text.startswith(("{", "[")):
        return text
    return dig(_parsed(text), depth - 1) or text


def _finding(item: object, depth: int) -> str:
    """One finding of a validator: where, then what (Zod says `path`, pydantic `loc`)."""
    what = dig(item, depth)
    path = mapping(item).get("path") or mapping(item).get("loc")
    where = ".".join(str(part) for part in path[:10] if isinstance(part, str | int)) if isinstance(path, list) else ""
    return f"{where}: {what}" if where and what else what


def one_line(text: str) -> str:
    """Text for a message: one line, no secrets, no control characters, at most MESSAGE_MAX characters."""
    clean = _redacted(_spaced(text[:_TEXT_MAX])).strip()
    return clean if len(clean) <= MESSAGE_MAX else clean[: MESSAGE_MAX - 1] + "…"


def _spaced(text: str) -> str:
    """The text with one blank for each run of what is no letter or sign."""
    return text if text.isprintable() and "  " not in text else _UNPRINTABLE.sub(" ", text)


def _redacted(text: str) -> str:
    return text if len(text) < _SECRET_MIN else _SECRET.sub("[redacted]", text)


def without_secrets(value: object, depth: int = 12) -> Any:
    """A value that is surely JSON and bears no keys or user ids.

    What is no JSON, lies too deep or has more than 64 bits becomes the name of its type.
    """
    if isinstance(value, str):
        return _redacted(_unicode(value))
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and -(2**63) <= value < 2**63):
        return value
    if depth and is_object(value):
        return {without_secrets(str(key)): without_secrets(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple):
        return [without_secrets(item, depth - 1) for item in value]
    return type(value).__name__


def _unicode(text: str) -> str:
    """Text that has bytes in UTF-8: half of a surrogate pair has none."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def mapping(value: object) -> Json:
    """`value` if it is an object, else an empty one."""
    return value if value is not None and is_object(value) else _NOTHING


def is_object(value: object) -> TypeGuard[Json]:
    """Whether it is a JSON object. A dict, nearly always: other kinds of mapping are slow to tell."""
    return type(value) is dict or isinstance(value, Mapping)


def text_of(value: object) -> str:
    """`value` if it is a text, stripped; else empty."""
    return value.strip() if isinstance(value, str) else ""


def first_text(*values: object) -> str | None:
    """The first that is a text with something in it, as one line."""
    for value in values:
        text = text_of(value)
        if text:
            return one_line(text)
    return None
