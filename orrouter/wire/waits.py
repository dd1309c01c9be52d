"""How long an upstream asks us to wait: every spelling of that wish as seconds.

Law: reading only. A wish that is garbage, negative or long past counts as none; nothing here decides whether
to wait, or adds jitter. The clock is handed in (`now`, seconds since the epoch).

Sources: RFC 9110 section 10.2.3 (`Retry-After`), OpenRouter's limits and errors pages (the body mirrors the
headers, `X-RateLimit-Reset` is epoch milliseconds), the `retry-after-ms` header of OpenAI's API.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from orrouter.wire.words import mapping

LONGEST = 86_400.0
"""Seconds: a longer wish is taken for this, so that one absurd header cannot close a target for ever."""

SKEW = 60.0
"""Seconds two honest clocks may differ: a date so little past means "now"."""

DAY = 86_400.0
_NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")
_MILLISECONDS_FROM = 1e11
"""An epoch above this is in milliseconds (as seconds it would be the year 5138)."""


def wait_hint(headers: Mapping[str, str], error: object = None, *, now: float | None) -> float | None:
    """Seconds the upstream asks to wait, at most LONGEST; None if it names no usable time.

    `error` is the parsed error object (the value of `error`, with `metadata` and `availability`). The header
    of the answer goes before what the body says, a wish to wait before the reset of a counter. Without the
    clock, dates and resets say nothing.
    """
    for wish in _wishes(headers, mapping(error), now):
        if wish is not None and wish >= 0:
            return min(wish, LONGEST)
    return None


def until_utc_midnight(now: float) -> float:
    """Seconds until the next UTC day begins: daily counters start anew then."""
    return DAY - now % DAY


def header(headers: Mapping[str, str], name: str) -> str | None:
    """The header `name`, written in any case, also in a plain dict; None if absent or no text."""
    value = _look(headers, name)
    return value if isinstance(value, str) else None


def _look(headers: Mapping[Any, object], name: str) -> object:
    if name in headers:
        return headers[name]
    if not headers or hasattr(headers, "getall"):
        return None  # Nothing, or a multidict of headers, which knows no case.
    wanted = name.lower()
    return next((value for key, value in headers.items() if isinstance(key, str) and key.lower() == wanted), None)


def _wishes(headers: Mapping[str, object], error: Mapping[str, object], now: float | None) -> Iterator[float | None]:
    """Every hint, best first."""
    metadata, availability = mapping(error.get("metadata")), mapping(error.get("availability"))
    mirrored = mapping(metadata.get("headers"))
    yield from _retry_after(headers, now)
    if metadata:
        yield _number(metadata.get("retry_after_seconds"))
        yield _number(metadata.get("retry_after_seconds_raw"))
    if availability:
        yield _number(availability.get("retry_after"))
    if mirrored:
        yield from _retry_after(mirrored, now)
    yield _until_reset(_look(headers, "X-RateLimit-Reset"), now)
    if mirrored:
        yield _until_reset(_look(mirrored, "X-RateLimit-Reset"), now)


def _retry_after(headers: Mapping[str, object], now: float | None) -> Iterator[float | None]:
    milliseconds = _look(headers, "Retry-After-Ms")
    if milliseconds is not None and (number := _number(milliseconds)) is not None:
        yield number / 1000
    value = _look(headers, "Retry-After")
    if value is not None:
        yield _number(value)
        yield _until_date(value, now)


def _number(value: object) -> float | None:
    """A JSON number, or text that is one; no sign, no exponent, no NaN."""
    if isinstance(value, str):
        text = value.strip()
        return float(text) if _NUMBER.fullmatch(text) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return float(min(max(value, -1), 10**18))
    return value if math.isfinite(value) else None


def _until_reset(value: object, now: float | None) -> float | None:
    """Seconds until an epoch in milliseconds or seconds; None if it is past."""
    epoch = None if value is None or now is None else _number(value)
    if epoch is None or now is None:
        return None
    seconds = epoch / 1000 if epoch > _MILLISECONDS_FROM else epoch
    return seconds - now if seconds > now else None


def _until_date(value: object, now: float | None) -> float | None:
    """Seconds until an HTTP date; 0 if it is past by no more than SKEW."""
    date = _date(value) if isinstance(value, str) and len(value) <= 64 else None
    if date is None or now is None:
        return None
    wait = date - now
    return max(wait, 0.0) if wait >= -SKEW else None


def _date(text: str) -> float | None:
    """An HTTP date as seconds since the epoch; one that names no zone is in UTC."""
    from email.utils import parsedate_to_datetime  # heavy, and few upstreams write a date

    try:
        moment: datetime = parsedate_to_datetime(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
