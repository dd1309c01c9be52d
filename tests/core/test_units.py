"""Durations and sizes as people write them."""

from __future__ import annotations

from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.core.units import parse_duration, parse_size, show_duration

POWERS = {"B": 1, "KB": 10**3, "KiB": 2**10, "MB": 10**6, "MiB": 2**20, "GB": 10**9, "GiB": 2**30}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("1.5s", 1.5), (" 2m ", 120.0), ("1h", 3600.0), ("7d", 604_800.0), ("0s", 0.0), ("0.5h", 1800.0)],
)
def test_durations_in_seconds(text, seconds):
    """With their unit."""
    assert seconds == parse_duration(text)


@pytest.mark.parametrize(
    "text",
    ["", "5", "s", "5 s", "-5s", "1e3s", "1h30m", "5S", "5min", ".5s", "5.s", "٣s", "9" * 400 + "s", "nan", "inf"],
)
def test_durations_that_are_none_are_told_how_to_be_written(text):
    """A bare number has no unit and is not guessed at."""
    with pytest.raises(ValueError, match="write 250ms"):
        parse_duration(text)


@given(st.integers(0, 2**70), st.sampled_from(sorted(POWERS)))
def test_sizes_are_exact(number, unit):
    """To the byte, however large."""
    assert number * POWERS[unit] == parse_size(f"{number}{unit}")


@pytest.mark.parametrize(
    ("text", "size"), [("20MiB", 20 * 2**20), ("1.5KiB", 1536), (" 64KB ", 64_000), ("0.1B", 0), ("0.7KB", 700)]
)
def test_sizes_in_bytes(text, size):
    """Parts of a byte are dropped."""
    assert size == parse_size(text)


@pytest.mark.parametrize("text", ["", "20", "MiB", "20 MiB", "20mib", "-1B", "1e3B", "20TB"])
def test_sizes_that_are_none_are_told_how_to_be_written(text):
    """With an example."""
    with pytest.raises(ValueError, match="write 512KiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0ms"),
        (0.25, "250ms"),
        (0.9994, "999ms"),
        (0.9996, "1s"),
        (1.5, "1.5s"),
        (2.0, "2s"),
        (10.0, "10s"),
        (59.994, "59.99s"),
        (59.996, "1m"),
        (60, "1m"),
        (90, "1m30s"),
        (5400, "1h30m"),
        (604_800, "7d"),
        (90_061, "1d1h1m1s"),
    ],
)
def test_durations_for_people(seconds, shown):
    """As short as they can be, and never 1000ms or 60s."""
    assert shown == show_duration(seconds)


@given(st.floats(0.001, 59.99))
def test_a_short_duration_that_is_shown_reads_as_itself(seconds):
    """But for what was rounded away."""
    assert isclose(seconds, parse_duration(show_duration(seconds)), abs_tol=0.00501)
