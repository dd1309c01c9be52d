"""Windows: hour, day, week, month and lifetime in local time, on days that are short, long or begin late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.ledger.windows import FOREVER, HOUR_S, Window, window, zone_of

BERLIN, KOLKATA, LORD_HOWE = "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe"


def instant(text: str, zone: str = "UTC", *, fold: int = 0) -> int:
    """`2026-03-29 03:00` by the clocks of a zone."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp())


def hours(found: Window) -> float:
    return (found.end - found.start) / HOUR_S


# --- the kinds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("hour", "2026-11-21 14:00", "2026-11-21 15:00"),
        ("day", "2026-11-21 00:00", "2026-11-22 00:00"),
        ("week", "2026-11-16 00:00", "2026-11-23 00:00"),
        ("month", "2026-11-01 00:00", "2026-12-01 00:00"),
    ],
)
def test_a_window_holds_the_instant_and_its_neighbours(period, start, end):
    """An hour, a day, a week from Monday and a month reach from their first second until before the next one's."""
    expected = Window(instant(start), instant(end))
    assert expected == window(period, "UTC", instant("2026-11-21 14:47") + 0.25)
    assert expected == window(period, "UTC", expected.start)
    assert expected == window(period, "UTC", expected.end - 0.000_001)
    assert expected != window(period, "UTC", expected.end)


def test_a_lifetime_never_ends():
    """A lifetime holds every instant."""
    assert Window(0, FOREVER) == window("lifetime", BERLIN, 1e12)


def test_a_fraction_of_a_second_never_reaches_into_the_next_window():
    """The last instant before midnight that a float can say lies in the old day."""
    midnight = instant("2026-11-22 00:00")
    assert midnight == window("day", "UTC", midnight - 0.000_000_2).end


@pytest.mark.parametrize(
    ("at", "days"), [("2027-02-11", 28), ("2028-02-29", 29), ("2026-12-31", 31), ("2026-04-01", 30)]
)
def test_a_month_has_its_own_days(at, days):
    """February, a leap year's February, December and April are as long as they are."""
    assert 24 * days == hours(window("month", "UTC", instant(f"{at} 12:00")))


def test_december_ends_with_the_year():
    """The month behind December is January of the next year."""
    assert instant("2027-01-01 00:00", BERLIN) == window("month", BERLIN, instant("2026-12-31 23:59", BERLIN)).end


def test_a_week_may_lie_in_two_years():
    """The week of New Year's Day begins on the Monday before it."""
    found = window("week", BERLIN, instant("2027-01-01 08:00", BERLIN))
    assert Window(instant("2026-12-28 00:00", BERLIN), instant("2027-01-04 00:00", BERLIN)) == found


# --- clocks that are moved --------------------------------------------------------------------------------


@pytest.mark.parametrize(("day", "long"), [("2026-03-29", 23), ("2026-03-30", 24), ("2026-10-25", 25)])
def test_a_day_is_from_midnight_to_midnight(day, long):
    """In Berlin the day on which summer time begins has 23 hours, the one on which it ends 25."""
    found = window("day", BERLIN, instant(f"{day} 12:00", BERLIN))
    assert (instant(f"{day} 00:00", BERLIN), long) == (found.start, hours(found))


@pytest.mark.parametrize(("day", "long"), [("2026-03-25", 167), ("2026-10-20", 169)])
def test_a_week_with_a_moved_clock_is_an_hour_shorter_or_longer(day, long):
    """Monday to Monday is what counts, not 168 hours."""
    assert long == hours(window("week", BERLIN, instant(f"{day} 12:00", BERLIN)))


def test_the_hour_that_comes_twice_is_two_windows():
    """In autumn 02:30 comes twice in Berlin, and each has its own hour of sixty minutes."""
    first = window("hour", BERLIN, instant("2026-10-25 02:30", BERLIN))
    second = window("hour", BERLIN, instant("2026-10-25 02:30", BERLIN, fold=1))
    assert (1, 1, first.end) == (hours(first), hours(second), second.start)


@pytest.mark.parametrize(
    ("zone", "before", "start"),
    [
        ("America/Sao_Paulo", "2018-11-03 12:00", "2018-11-04 01:00"),
        ("Asia/Beirut", "2022-03-26 12:00", "2022-03-27 01:00"),
    ],
)
def test_a_day_without_a_midnight_begins_with_its_first_instant(zone, before, start):
    """Where the clocks go from 00:00 to 01:00, the day begins at 01:00 and the one before it ends there."""
    first = instant(start, zone)
    assert (first, 23) == (window("day", zone, first).start, hours(window("day", zone, first)))
    assert (first, 24) == (
        window("day", zone, instant(before, zone)).end,
        hours(window("day", zone, instant(before, zone))),
    )


def test_a_midnight_amid_a_gap_is_where_the_gap_ends():
    """Toronto went from 23:30 to 00:30 in 1919: the new day began at that instant."""
    change = instant("1919-03-31 04:30")
    assert (change, change) == (
        window("day", "America/Toronto", change).start,
        window("day", "America/Toronto", change - 1).end,
    )


def test_a_day_that_is_left_out_has_no_window():
    """Samoa went from 29 to 31 December 2011 overnight."""
    before = window("day", "Pacific/Apia", instant("2011-12-29 12:00", "Pacific/Apia"))
    after = window("day", "Pacific/Apia", before.end)
    assert (instant("2011-12-31 00:00", "Pacific/Apia"), 24.0) == (after.start, hours(after))


def test_an_evening_that_comes_again_after_midnight_belongs_to_the_new_day():
    """St. John's went back from 00:01 to 23:01: the day that had begun goes on, the old one does not come again."""
    zone = "America/St_Johns"
    again = instant("2010-11-06 23:30", zone, fold=1)
    found = window("day", zone, again)
    assert Window(instant("2010-11-07 00:00", zone), instant("2010-11-08 00:00", zone)) == found
    assert 25 == hours(found)


def test_hours_of_a_zone_with_half_an_hour_begin_at_its_full_hours():
    """In Kolkata (+05:30) the hour begins at half past by UTC, the day at 18:30."""
    at = instant("2026-11-21 14:47")
    assert instant("2026-11-21 14:30") == window("hour", KOLKATA, at).start
    assert instant("2026-11-20 18:30") == window("day", KOLKATA, at).start


def test_a_clock_moved_by_half_an_hour_makes_one_short_hour():
    """On Lord Howe Island the clock is moved by thirty minutes, and no instant lies in two hours."""
    back = instant("2026-04-04 15:00")
    assert [(-60, 0), (0, 30), (30, 90)] == [
        ((found.start - back) / 60, (found.end - back) / 60)
        for found in (window("hour", LORD_HOWE, back + minutes * 60) for minutes in (-1, 1, 31))
    ]


# --- any zone, any instant --------------------------------------------------------------------------------

ZONES = sorted(available_timezones() - {"localtime"})


def change_of(zone: str, year: int) -> datetime:
    """An instant at which a zone moves its clocks in a year; its middle where it does not."""
    place, low = ZoneInfo(zone), datetime(year, 1, 1, tzinfo=UTC)
    days = [low + timedelta(days=day) for day in range(366)]
    for day, following in zip(days, days[1:], strict=False):
        if day.astimezone(place).utcoffset() != following.astimezone(place).utcoffset():
            while following - day > timedelta(seconds=1):
                middle = day + (following - day) // 2
                same = middle.astimezone(place).utcoffset() == day.astimezone(place).utcoffset()
                day, following = (middle, following) if same else (day, middle)
            return following
    return low + timedelta(days=183)


@st.composite
def instants(draw: st.DrawFn) -> tuple[str, float]:
    """Any instant of a zone, half of them within a day of a moved clock."""
    zone = draw(st.sampled_from(ZONES))
    if draw(st.booleans()):
        return zone, draw(st.floats(-2e9, 4e9))
    change = change_of(zone, draw(st.integers(1900, 2040))).timestamp()
    return zone, change + draw(st.one_of(st.integers(-5, 5), st.floats(-90_000, 90_000)))


@given(instants(), st.sampled_from(["hour", "day", "week", "month"]), st.floats(0, 1))
def test_windows_hold_their_instants_and_follow_one_another(place, period, part):
    """Each instant lies in one window; its neighbours begin where it ends and end where it begins."""
    zone, at = place
    found = window(period, zone, at)
    assert found.start <= at < found.end
    assert found == window(period, zone, min(found.start + part * (found.end - found.start), found.end - 0.001))
    assert found.end == window(period, zone, found.end).start
    assert found.start == window(period, zone, found.start - 1).end


# --- zones ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../../etc/passwd", "a\x00b"])
def test_an_unknown_zone_is_told_with_what_to_write(name):
    """Whatever is no IANA name is refused with an example."""
    with pytest.raises(ValueError, match="Europe/Berlin"):
        zone_of(name)


def test_utc_needs_no_list_of_zones():
    """UTC is Python's own."""
    assert UTC is zone_of("UTC")
