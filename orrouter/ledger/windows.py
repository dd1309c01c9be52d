"""Windows of a budget: the hour, day, week, month in which an instant lies, in the account's own time zone.

Law: pure. Half-open intervals of unix seconds that follow one another without a gap; a day of 23 or 25 hours is a day.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from math import floor
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from orrouter.core.limit import Period

FOREVER: Final = float("inf")
HOUR_S: Final = 3600


class Window(NamedTuple):
    """From `start` (unix seconds, whole) until before `end`; a lifetime is from 0 to infinity."""

    start: int
    end: float


@cache
def zone_of(name: str) -> tzinfo:
    """The time zone of an IANA name. Raises ValueError for a name that this machine does not know."""
    if name == "UTC":  # Known even where no list of time zones is installed.
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        hint = "write an IANA name such as Europe/Berlin; where the machine has no list of them, install tzdata"
        raise ValueError(f"there is no time zone {name!r}: {hint}") from None


def window(period: Period, zone: str, at: float) -> Window:
    """The window of that kind in which `at` lies. Weeks begin on Monday. Raises ValueError for an unknown zone."""
    if period == "lifetime":
        return Window(0, FOREVER)
    second, place = floor(at), zone_of(zone)
    if period == "hour":
        return _hour(second, place)
    first = _first_day(period, datetime.fromtimestamp(second, place))
    following = _next_first(period, first)
    start, end = _begin(first), _begin(following)
    if second >= end:  # Clocks set back over midnight: the new day has begun, and the old one does not come again.
        start, end = end, _begin(_next_first(period, following))
    return Window(start, end)


def _hour(second: int, place: tzinfo) -> Window:
    """A full hour of the local clock, not told by its digits: in autumn one comes twice.

    Where clocks are moved by a part of an hour, the hours beside that are short.
    """

    def past_the_hour(at: int) -> int:
        offset = datetime.fromtimestamp(at, place).utcoffset() or timedelta()
        return int(offset.total_seconds()) % HOUR_S

    shift = past_the_hour(second)
    start = second - (second + shift) % HOUR_S
    end = start + HOUR_S
    if past_the_hour(start) != shift:
        start = _first(start, second, lambda at: past_the_hour(at) == shift)
    if past_the_hour(end - 1) != shift:
        end = _first(second, end - 1, lambda at: past_the_hour(at) != shift)
    return Window(start, end)


def _first_day(period: Period, local: datetime) -> datetime:
    day = datetime(local.year, local.month, local.day, tzinfo=local.tzinfo)
    if period == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period == "month" else day


def _next_first(period: Period, first: datetime) -> datetime:
    if period == "month":
        return first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return first + timedelta(days=7 if period == "week" else 1)


def _begin(day: datetime) -> int:
    """The first instant of a local day: the earlier midnight of two; where midnight is left out, when it would be."""
    earlier, later = floor(day.timestamp()), floor(day.replace(fold=1).timestamp())
    if earlier <= later:
        return earlier
    # Left out: read by the offset before the change it lies behind the change, by the one after it before.
    return _first(later, earlier, lambda at: datetime.fromtimestamp(at, day.tzinfo).date() >= day.date())


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The first instant behind `low` from which on it holds; it does at `high`, and not at `low`."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
