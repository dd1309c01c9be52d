"""What the growth of a key's usage proves about tries whose cost nobody ever told.

Law: pure. All that a key has spent since some instant, less what tries of it have surely cost since then, is no less
than what its open tries cost. Who else uses the key makes that sum larger and never smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from orrouter.core.limit import Period
from orrouter.ledger.base import BucketKey, Entry, Line
from orrouter.ledger.generation import figure
from orrouter.ledger.windows import HOUR_S, window

Figure = Literal["usage", "usage_daily", "usage_weekly", "usage_monthly"]

FIGURES: Final[tuple[Figure, ...]] = ("usage", "usage_daily", "usage_weekly", "usage_monthly")
PERIODS: Final[dict[Figure, Period]] = {"usage_daily": "day", "usage_weekly": "week", "usage_monthly": "month"}
"""The figures that begin at 0 with each UTC day, week (on Monday) and month."""
ROUNDING: Final = 1000
"""Nano-USD by which the upstream's sum may be rounded; and one more for each try, whose cost is rounded up here."""


class Reading(NamedTuple):
    """What `GET /key` said: whose usage it is, and its figures in nano-USD, keys of one's own included."""

    label: str
    figures: Mapping[Figure, int]


class Mark(NamedTuple):
    """From where on is counted: the figure and what it said, and what the ledger had settled by then.

    `since` is unix seconds, a whole hour: only tries admitted from then on may be bounded, and are subtracted.
    """

    figure: Figure
    since: int
    usage: int = 0
    paid: int = 0
    tries: int = 0


class Paid(NamedTuple):
    """What tries of a key have surely cost, in nano-USD, and how many there were."""

    amount: int
    tries: int


def read_key(answer: Mapping[str, Any]) -> Reading | None:
    """The figures in an answer of `GET /key`; None where it has none."""
    data = answer.get("data")
    if not isinstance(data, Mapping):
        return None
    figures: dict[Figure, int] = {}
    for name in FIGURES:
        amount = figure(data.get(name))
        if amount is not None:
            figures[name] = amount + (figure(data.get(f"byok_{name}")) or 0)
    label = data.get("label")
    return Reading(label if isinstance(label, str) else "", figures) if "usage" in figures else None


def paid_for(lines: Iterable[Line], upstream: str, key: str, since: float = 0) -> Paid:
    """What lines of the statement say that a key has paid in hours from `since` on.

    Only what a provider was named for: where none was, the cost may be a bound or a worst case, and above the truth.
    """
    mine = [one for one in lines if one.upstream == upstream and one.key == key and one.at >= since and one.provider]
    return Paid(sum(line.cost for line in mine), sum(line.tries for line in mine))


def calendar_mark(oldest: float, now: float) -> Mark | None:
    """A mark that needs no earlier reading: the shortest UTC day, week or month in which all began.

    Its first and its last hour are not relied on, because the upstream's clock may differ.
    """
    for name, period in PERIODS.items():
        start, end = window(period, "UTC", now)
        if start + HOUR_S <= oldest and now < end - HOUR_S:
            return Mark(name, start + HOUR_S)
    return None


def bound(reading: Reading, mark: Mark, paid: Paid) -> int | None:
    """At most so much nano-USD can the open tries have cost since the mark.

    None where the usage is less than what was surely spent: then it lags, and proves nothing.
    """
    rest = reading.figures[mark.figure] - mark.usage - (paid.amount - mark.paid)
    if rest < -(ROUNDING + paid.tries - mark.tries):
        return None
    return max(rest, 0)


def split(amount: int, entries: Sequence[Entry]) -> Iterator[tuple[Entry, int]]:
    """Share a sum among open tries, each up to its hold: the oldest first among those that the same windows pay for.

    Nobody knows whose tries cost it, so each such set is charged with all of it: no account pays less than it owes.
    """
    left: dict[frozenset[BucketKey], int] = {}
    for entry in sorted(entries, key=lambda one: one.admitted):
        payers = frozenset(bucket.key for bucket in entry.buckets)
        share = min(left.get(payers, amount), entry.amount)
        left[payers] = left.get(payers, amount) - share
        yield entry, share
