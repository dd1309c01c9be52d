"""Every spelling of "come back later", and what is no such wish."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.wire.waits import DAY, LONGEST, header, until_utc_midnight, wait_hint

NOW = 1_765_680_000.0  # 2025-12-14 02:40:00 UTC

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["Retry-After", "retry-after-ms", "X-RateLimit-Reset", "x-ratelimit-reset"])
VALUES = (
    st.text(max_size=40)
    | st.integers().map(str)
    | st.floats().map(str)
    | st.datetimes(timezones=st.just(UTC)).map(lambda date: format_datetime(date, usegmt=True))
    | st.sampled_from(["Mon, 99 Foo 2025 99:99:99 GMT", "Sun, 14 Dec 2025 02:40:10", "-1", "1_000", "٣", "1e9"])
)
HINTS = st.fixed_dictionaries(
    {},
    optional={
        "retry_after_seconds": JSON | VALUES,
        "retry_after_seconds_raw": JSON | VALUES,
        "headers": st.dictionaries(NAMES, VALUES | JSON, max_size=3) | JSON,
    },
)
ERRORS = (
    st.fixed_dictionaries(
        {}, optional={"metadata": HINTS | JSON, "availability": st.dictionaries(st.just("retry_after"), JSON) | JSON}
    )
    | JSON
)


def date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(NOW + seconds, UTC), usegmt=True)


def hint(value: str, name: str = "Retry-After") -> float | None:
    return wait_hint({name: value}, now=NOW)


@given(st.dictionaries(NAMES, VALUES, max_size=4), ERRORS, st.none() | st.floats(0, 1e11))
def test_a_hint_is_none_or_a_wait_that_can_be_slept(headers, error, now):
    """Never negative, never NaN, never endless, whatever was sent."""
    wait = wait_hint(headers, error, now=now)
    assert wait is None or (math.isfinite(wait) and 0 <= wait <= LONGEST)


@pytest.mark.parametrize(("text", "wait"), [("3", 3.0), ("1.5", 1.5), ("0", 0.0), (" 7 ", 7.0)])
def test_seconds_are_read_as_whole_and_as_decimal_numbers(text, wait):
    """RFC 9110 knows whole seconds, upstreams also send decimals."""
    assert wait == hint(text)


@pytest.mark.parametrize("text", ["", "soon", "-1", "nan", "inf", "1e9", "1_000", "3s", "٣", "0x10", "1."])
def test_garbage_and_negative_seconds_are_no_hint(text):
    """A wish that cannot be read is as none."""
    assert hint(text) is None


def test_absurd_waits_are_cut_to_a_day():
    """One header cannot close a target for ever."""
    assert LONGEST == hint("999999999999")


def test_milliseconds_win_over_seconds():
    """They are the finer of two spellings of the same wish."""
    assert 0.25 == wait_hint({"retry-after": "1", "retry-after-ms": "250"}, now=NOW)


@pytest.mark.parametrize(("seconds", "wait"), [(40, 40.0), (0, 0.0), (-30, 0.0), (-61, None), (-9e6, None)])
def test_a_date_is_read_against_the_clock(seconds, wait):
    """Two clocks may differ by a minute; a date further back says nothing."""
    assert wait == hint(date(seconds))


def test_a_date_without_a_zone_is_utc():
    """The zone of this machine never matters."""
    assert 10.0 == hint("Sun, 14 Dec 2025 02:40:10 -0000")


@pytest.mark.parametrize("text", ["Mon, 99 Foo 2025 99:99:99 GMT", "Sun, 14 Dec 99999999 02:40:10 GMT", "," * 64])
def test_a_date_that_is_none_is_no_hint(text):
    """Calendars have limits."""
    assert hint(text) is None


@pytest.mark.parametrize(
    ("reset", "wait"), [("1765680060000", 60.0), ("1765680060", 60.0), ("1765679999000", None), ("60", None)]
)
def test_a_reset_is_an_epoch_in_milliseconds_or_seconds(reset, wait):
    """And counts only while it is to come."""
    assert wait == hint(reset, "X-RateLimit-Reset")


def test_without_the_clock_dates_and_resets_say_nothing():
    """Seconds do not need it."""
    assert wait_hint({"Retry-After": date(40), "X-RateLimit-Reset": "1765680060000"}, now=None) is None
    assert 40.0 == wait_hint({"Retry-After": "40"}, now=None)


def test_the_best_hint_goes_first():
    """Header, body, availability, mirrored header, reset: as each is taken away the next speaks."""
    headers = {"Retry-After": "1", "X-RateLimit-Reset": "1765680006000"}
    mirrored = {"retry-after": 5, "X-RateLimit-Reset": "1765680007000"}
    metadata = {"retry_after_seconds": 2, "retry_after_seconds_raw": 3.5, "headers": mirrored}
    error = {"metadata": metadata, "availability": {"retry_after": 4}}
    taken = [
        (headers, "Retry-After"),
        (metadata, "retry_after_seconds"),
        (metadata, "retry_after_seconds_raw"),
        (error["availability"], "retry_after"),
        (mirrored, "retry-after"),
        (headers, "X-RateLimit-Reset"),
        (mirrored, "X-RateLimit-Reset"),
    ]
    waits = []
    for place, name in taken:
        waits.append(wait_hint(headers, error, now=NOW))
        del place[name]
    assert [1.0, 2.0, 3.5, 4.0, 5.0, 6.0, 7.0] == waits
    assert wait_hint(headers, error, now=NOW) is None


def test_headers_are_found_in_any_case():
    """Also in a plain dict."""
    assert "x" == header({"X-GENERATION-ID": "x"}, "X-Generation-Id")
    assert header({}, "X-Generation-Id") is None


@given(st.floats(0, 1e11))
def test_midnight_is_at_most_a_day_away(now):
    """And never now: a counter that has just begun anew would not have refused."""
    assert 0 < until_utc_midnight(now) <= DAY


def test_midnight_is_that_of_utc():
    """02:40 leaves 21 hours and 20 minutes."""
    assert 76_800.0 == until_utc_midnight(NOW)
