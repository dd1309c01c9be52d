"""Rates: the USD that one unit costs, and the entries that replace them under conditions.

Law: reading and conditions of single rates, pure. What a usage costs is arithmetic of `price.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

RATES = (
    "prompt",
    "completion",
    "request",
    "image",
    "image_token",
    "image_output",
    "audio",
    "audio_output",
    "input_audio_cache",
    "web_search",
    "internal_reasoning",
    "input_cache_read",
    "input_cache_write",
    "input_cache_write_1h",
)
"""The price keys of the model list: USD per token, but `request`, `image` and `web_search` are per piece."""

EACH = frozenset({"request", "image", "web_search"})
"""The keys that are counted by the piece."""

_CONDITIONS = frozenset({"min_prompt_tokens", "utc_start", "utc_end", "utc_days"})
_DAYS = {name: day for day, name in enumerate(("mon", "tue", "wed", "thu", "fri", "sat", "sun"))}
_ABSURD = Decimal(1_000_000)
"""USD per unit. Nothing costs that much: such a number is a mistake, and a mistake is not a price."""


def read_rate(listed: object) -> Decimal | None:
    """One listed price as USD per unit; None (unknown) for a sentinel below zero and whatever is no number."""
    if isinstance(listed, bool) or not isinstance(listed, str | int | float | Decimal):
        return None
    try:
        rate = Decimal(str(listed))
    except InvalidOperation:
        return None
    return rate if rate.is_finite() and 0 <= rate < _ABSURD else None


def dearest(rates: Iterable[Decimal | None], absent: Decimal | None = None) -> Decimal | None:
    """The highest rate; one that is None counts as `absent`, and where that is None too the answer is unknown."""
    known = [absent if rate is None else rate for rate in rates]
    return None if None in known else max((rate for rate in known if rate is not None), default=None)


@dataclass(frozen=True)
class Override:
    """Rates that replace the base while every condition holds.

    `min_prompt_tokens` holds above its value; `start` and `end` are HHMM in UTC, half-open, and wrap midnight when
    the start is the later; `days` are 0 (Monday) to 6. A key of `rates` that is None became unknown. An entry with
    a condition that nobody here knows is not `understood`: it is never applied, yet a ceiling must count with it.
    """

    rates: Mapping[str, Decimal | None] = field(hash=False)
    min_prompt_tokens: float | None = None
    start: int | None = None
    end: int | None = None
    days: frozenset[int] | None = None
    understood: bool = True

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> Override:
        """One entry of `pricing.overrides`; never raises."""
        rates = {key: read_rate(entry[key]) for key in RATES if key in entry}
        if set(entry) - set(RATES) - _CONDITIONS:
            return cls(rates, understood=False)
        try:
            return cls(rates, **_conditions(entry))
        except (ValueError, TypeError):
            return cls(rates, understood=False)

    @property
    def timed(self) -> bool:
        """Whether the entry depends on the clock."""
        return not (self.start is None and self.end is None and self.days is None)

    def beyond(self, prompt_tokens: int) -> bool:
        """Whether it surely does not hold for a prompt of at most so many tokens."""
        if not self.understood or self.min_prompt_tokens is None:
            return False
        return prompt_tokens <= self.min_prompt_tokens

    def applies(self, prompt_tokens: int, when: datetime | None) -> bool | None:
        """Whether it holds for such a prompt at `when` (a naive one is UTC); None when only the clock could tell."""
        if not self.understood:
            return False
        if self.min_prompt_tokens is not None and not prompt_tokens > self.min_prompt_tokens:
            return False
        if not self.timed:
            return True
        return None if when is None else self._now(when if when.tzinfo is None else when.astimezone(UTC))

    def _now(self, when: datetime) -> bool:
        if self.days is not None and when.weekday() not in self.days:
            return False
        start, end = self.start or 0, 2400 if self.end is None else self.end
        clock = when.hour * 100 + when.minute
        return start <= clock < end if start <= end else clock >= start or clock < end


def _conditions(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The conditions of an entry by our names. Raises ValueError or TypeError for a value nobody can read."""
    held: dict[str, Any] = {}
    if "min_prompt_tokens" in entry:
        held["min_prompt_tokens"] = float(entry["min_prompt_tokens"])
    for ours, theirs in (("start", "utc_start"), ("end", "utc_end")):
        if theirs in entry:
            held[ours] = _clock(entry[theirs])
    if "utc_days" in entry:
        held["days"] = frozenset(_day(day) for day in entry["utc_days"])
    return held


def _clock(listed: object) -> int:
    """HHMM as a number: 400 is 04:00, 2400 the end of the day."""
    clock = int(str(listed).removesuffix(".0"))
    if not 0 <= clock <= 2400 or clock % 100 > 59:
        raise ValueError(f"{listed!r} is no HHMM")
    return clock


def _day(listed: object) -> int:
    """A weekday by name, or by number where JavaScript and ISO agree: 1 is Monday, 0 and 7 are Sunday."""
    if isinstance(listed, int) and 0 <= listed <= 7:
        return (listed - 1) % 7
    day = _DAYS.get(str(listed).strip().lower()[:3])
    if day is None:
        raise ValueError(f"{listed!r} is no weekday")
    return day
