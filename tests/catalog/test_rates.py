"""Reading single rates, and the conditions under which entries replace them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.catalog.rates import Override, dearest, read_rate

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


def at(hour: int, minute: int = 0, days: int = 0) -> datetime:
    return MONDAY + timedelta(days=days, hours=hour, minutes=minute)


def test_a_decimal_string_is_read_exactly():
    """A price keeps every digit it was written with."""
    assert Decimal("0.000000075") == read_rate("0.000000075")


def test_a_float_is_read_as_it_was_printed():
    """A JSON number is taken by its shortest form, not by its binary value."""
    assert Decimal("0.1") == read_rate(0.1)


def test_nought_is_free_and_not_unknown():
    """A price of "0" is known."""
    assert Decimal(0) == read_rate("0")


@pytest.mark.parametrize("odd", ["-1", -1, "", "free", None, True, "NaN", "Infinity", [], "1e9"])
def test_a_sentinel_or_nonsense_is_unknown(odd):
    """What is below zero, absurd or no number is no price."""
    assert read_rate(odd) is None


def test_the_dearest_of_known_rates_is_the_highest():
    """Known rates are compared."""
    assert Decimal(3) == dearest([Decimal(1), Decimal(3), Decimal(2)])


def test_one_unknown_rate_makes_the_dearest_unknown():
    """Nobody can say what is dearer than an unknown price."""
    assert dearest([Decimal(1), None]) is None


def test_an_absent_rate_counts_as_what_stands_in_for_it():
    """A rate that falls back on another is compared by that one."""
    assert Decimal(5) == dearest([Decimal(1), None], absent=Decimal(5))


@pytest.mark.parametrize(("tokens", "applies"), [(199_999, False), (200_000, False), (200_001, True)])
def test_a_long_prompt_must_exceed_the_threshold(tokens, applies):
    """`min_prompt_tokens` holds strictly above its value."""
    assert applies is Override.read({"min_prompt_tokens": 200_000}).applies(tokens, None)


@pytest.mark.parametrize(
    ("when", "applies"), [(at(0, 59), False), (at(1), True), (at(10, 29), True), (at(10, 30), False)]
)
def test_a_window_holds_its_start_and_not_its_end(when, applies):
    """The hours are half-open."""
    assert applies is Override.read({"utc_start": 100, "utc_end": 1030}).applies(1, when)


@pytest.mark.parametrize(
    ("when", "applies"),
    [(at(16, 29), False), (at(16, 30), True), (at(23, 59), True), (at(0), True), (at(0, 30), False)],
)
def test_a_window_may_wrap_midnight(when, applies):
    """A start later than the end goes on into the next day."""
    assert applies is Override.read({"utc_start": 1630, "utc_end": 30}).applies(1, when)


def test_a_time_elsewhere_is_taken_as_utc():
    """Noon in a zone two hours ahead is ten o'clock."""
    noon = datetime(2026, 11, 23, 12, tzinfo=timezone(timedelta(hours=2)))
    assert Override.read({"utc_start": 1000, "utc_end": 1100}).applies(1, noon) is True


def test_a_naive_time_is_utc():
    """A time without a zone is taken as it stands."""
    assert Override.read({"utc_start": 1000, "utc_end": 1100}).applies(1, datetime(2026, 11, 23, 10)) is True  # noqa: DTZ001


@pytest.mark.parametrize("days", [["sat", "sun"], ["Saturday", "SUNDAY"], [6, 0], [6, 7]])
@pytest.mark.parametrize(("day", "applies"), [(4, False), (5, True), (6, True), (7, False)])
def test_days_are_named_or_counted(days, day, applies):
    """A weekend is one however it is written."""
    assert applies is Override.read({"utc_days": days}).applies(1, at(12, days=day))


def test_all_conditions_must_hold():
    """A long prompt outside the hours is not an override's affair."""
    entry = Override.read({"min_prompt_tokens": 10, "utc_start": 100, "utc_end": 200})
    assert (True, False, False) == (entry.applies(11, at(1)), entry.applies(10, at(1)), entry.applies(11, at(3)))


def test_without_a_time_only_the_clock_could_tell():
    """An entry with hours is undecided when no time is given."""
    assert Override.read({"utc_start": 100, "utc_end": 200}).applies(1, None) is None


def test_without_a_time_a_short_prompt_decides():
    """A condition that fails for sure needs no clock."""
    assert Override.read({"min_prompt_tokens": 10, "utc_start": 100}).applies(1, None) is False


@pytest.mark.parametrize(
    "entry",
    [
        {"moon_phase": "full", "prompt": "1"},
        {"utc_days": ["someday"], "prompt": "1"},
        {"utc_days": 3, "prompt": "1"},
        {"utc_start": "noon", "prompt": "1"},
        {"utc_end": 1275, "prompt": "1"},
        {"min_prompt_tokens": None, "prompt": "1"},
    ],
)
def test_a_condition_nobody_understands_skips_the_entry(entry):
    """An entry is never applied on a guess, and its rates are kept for the ceiling."""
    read = Override.read(entry)
    assert (False, {"prompt": Decimal(1)}) == (read.applies(10**9, at(12)), read.rates)


@given(
    st.dictionaries(
        st.sampled_from(["min_prompt_tokens", "utc_start", "utc_end", "utc_days", "prompt", "x"]),
        st.none() | st.integers() | st.floats() | st.text("0123:.-satx") | st.lists(st.integers()),
    )
)
def test_no_entry_breaks_the_reading(entry):
    """Whatever an entry holds, it is read and can be asked."""
    assert Override.read(entry).applies(1000, at(12)) in (True, False)
