"""A price list of one model or endpoint: what a usage costs, and the dearest it can become.

Law: pure arithmetic in `Decimal`, rounded up once at the end. Bounds on tokens that are still to come, caps and
accounts are other modules' affair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import ROUND_CEILING, Context, Decimal, localcontext
from functools import cached_property
from typing import Any

from orrouter.catalog.rates import EACH, RATES, Override, dearest, read_rate
from orrouter.catalog.usage import Counts
from orrouter.core.money import nano

_FREE = Decimal(0)
_MILLION = Decimal(1_000_000)
_EXACT = Context(prec=60, rounding=ROUND_CEILING)
"""Digits enough for any sum of tokens times rates; were they not, the sum would still not fall short."""
_TABLE = Context(prec=4)


@dataclass(frozen=True)
class Price:
    """USD per unit, exact; None is unknown, 0 is free. Read one with `Price.read`, or name the rates you know.

    `input_cache_write` is all that a written token costs. `discount` (0 to 1) comes off everything; `overrides`
    replace rates under conditions; `extra` keeps price keys that have no name here yet, so that none is lost.
    """

    prompt: Decimal | None = None
    completion: Decimal | None = None
    request: Decimal | None = None
    image: Decimal | None = None
    image_token: Decimal | None = None
    image_output: Decimal | None = None
    audio: Decimal | None = None
    audio_output: Decimal | None = None
    input_audio_cache: Decimal | None = None
    web_search: Decimal | None = None
    internal_reasoning: Decimal | None = None
    input_cache_read: Decimal | None = None
    input_cache_write: Decimal | None = None
    input_cache_write_1h: Decimal | None = None
    discount: Decimal = _FREE
    overrides: tuple[Override, ...] = ()
    extra: Mapping[str, Decimal | None] = field(default_factory=dict, hash=False)

    @classmethod
    def read(cls, listed: object) -> Price:
        """The `pricing` object of a model or endpoint; never raises: what cannot be read is unknown."""
        if not isinstance(listed, Mapping):
            return cls()
        rates = {key: read_rate(listed[key]) for key in RATES if key in listed}
        extra = {key: read_rate(listed[key]) for key in listed if key not in _KNOWN}
        discount = read_rate(listed.get("discount")) or _FREE
        entries = listed.get("overrides")
        overrides = [
            Override.read(entry)
            for entry in (entries if isinstance(entries, list | tuple) else ())
            if isinstance(entry, Mapping)
        ]
        for key in ("input_cache_write", "input_cache_write_1h"):
            _make_whole(key, rates, overrides)
        return cls(**rates, discount=min(discount, Decimal(1)), overrides=tuple(overrides), extra=extra)

    @property
    def is_free(self) -> bool:
        """Whether neither a token nor a request costs anything under any condition; False when unknown."""
        top = self.highest()
        return top.prompt == 0 and top.completion == 0 and not top.request

    def at(self, prompt_tokens: int, when: datetime | None = None) -> Price:
        """The rates in force for a prompt of that length at `when`; without a time the dearer of both sides."""
        rates: dict[str, Any] = {}
        for entry in self.overrides:
            applies = entry.applies(prompt_tokens, when)
            if applies is None:
                for key, rate in entry.rates.items():
                    rates[key] = dearest((rates.get(key, getattr(self, key)), rate), _UNLISTED.get(key))
            elif applies:
                rates.update(entry.rates)
        return replace(self, **rates, overrides=()) if self.overrides else self

    def cost(self, usage: Mapping[str, Any], at: datetime | None = None, *, images: int = 0) -> int | None:
        """What a usage object cost, in nano-USD, rounded up once; None when a rate it needs is unknown.

        `prompt_tokens` holds the cached, written and audio tokens, `completion_tokens` the reasoning. `at` is when
        the request was sent; `images` is how many pictures it bore, where the caller knows.
        """
        counts = Counts.read(usage, images)
        if counts is None:
            return None
        with localcontext(_EXACT):
            total = _FREE
            for count, rate in _bill(self.at(counts.prompt, at), counts):
                if count and rate is None:
                    return None
                total += count * (rate or _FREE)
            return nano(total * (1 - self.discount))

    def within(self, prompt_tokens: int) -> Price:
        """The same list without the entries that only a longer prompt can reach. For one length always one object."""
        reached = tuple(entry for entry in self.overrides if not entry.beyond(prompt_tokens))
        if len(reached) == len(self.overrides):
            return self
        return self._shorter.setdefault(reached, replace(self, overrides=reached))

    @cached_property
    def _shorter(self) -> dict[tuple[Override, ...], Price]:
        return {}

    def highest(self) -> Price:
        """The same list with every rate at the dearest that any entry can reach, without conditions or discount.

        Also entries with an unknown condition count: they may hold upstream. `highest().cost(u) >= cost(u, t)`.
        """
        return self._highest

    @cached_property
    def _highest(self) -> Price:
        if not self.overrides:
            return replace(self, discount=_FREE) if self.discount else self
        listed = {key: self._reachable(key) for key in RATES}
        listed["internal_reasoning"] = [rate or None for rate in listed["internal_reasoning"]]
        absent = {
            **_UNLISTED,
            "input_cache_read": _top(listed["prompt"]),
            "internal_reasoning": _top(listed["completion"]),
        }
        top: dict[str, Any] = {key: _top(rates, absent.get(key)) for key, rates in listed.items()}
        return replace(self, **top, discount=_FREE, overrides=())

    def _reachable(self, key: str) -> list[Decimal | None]:
        return [getattr(self, key), *(entry.rates[key] for entry in self.overrides if key in entry.rates)]

    @property
    def input_ceiling(self) -> Decimal | None:
        """The most one token of text may cost on its way in, whether plain, read from a cache or written to one."""
        top = self.highest()
        apart = (top.input_cache_read, top.input_cache_write, top.input_cache_write_1h)
        return dearest([top.prompt, *(rate or _FREE for rate in apart)])

    @property
    def output_ceiling(self) -> Decimal | None:
        """The most one token of text may cost on its way out, said or thought."""
        top = self.highest()
        return dearest([top.completion, top.internal_reasoning or _FREE])

    def show(self, key: str = "prompt") -> str:
        """One rate for a table: `$3/M` a million tokens, `$0.01` apiece, `?` unknown. Four digits, for people."""
        rate = getattr(self, key) if key in RATES else self.extra.get(key)
        if rate is None:
            return "?"
        shown = _TABLE.plus(rate if key in EACH else rate * _MILLION)
        return f"${shown.normalize():f}" + ("" if key in EACH else "/M")


_KNOWN = frozenset({*RATES, "discount", "overrides"})
_UNLISTED: Mapping[str, Decimal | None] = {"request": _FREE, "image": _FREE}
"""Fees on top of tokens: a list that does not name them does not charge them."""


def _top(rates: list[Decimal | None], absent: Decimal | None = None) -> Decimal | None:
    """The dearest of rates that fall back on another one where they are absent; None when none is given."""
    return dearest(rates, absent) if any(rate is not None for rate in rates) else None


def _make_whole(key: str, rates: dict[str, Decimal | None], overrides: list[Override]) -> None:
    """Turn a listed cache write that is a surcharge into the whole rate of a written token.

    Anthropic lists the whole rate (1.25 of the prompt's). Gemini lists only the storage, which comes on top of the
    prompt's, and 0 is listed where nothing comes on top. So a write below the prompt is a surcharge.
    Source: OpenRouter's guide to prompt caching.
    """
    prompt, write = rates.get("prompt"), rates.get(key)
    if prompt is None or write is None or write >= prompt:
        return
    rates[key] = prompt + write
    for place, entry in enumerate(overrides):
        if "prompt" in entry.rates or key in entry.rates:
            parts = entry.rates.get("prompt", prompt), entry.rates.get(key, write)
            whole = None if None in parts else sum(filter(None, parts), _FREE)
            overrides[place] = replace(entry, rates={**entry.rates, key: whole})


def _bill(price: Price, counts: Counts) -> Iterator[tuple[int, Decimal | None]]:
    """The bill: how many of what, at which rate. Entries that replace rates are applied before.

    Reasoning is part of the completion and billed as such, unless a rate above zero is listed for it alone. Cached
    tokens without a rate of their own cost what the prompt costs, which is no less. A usage tells neither a write
    of an hour from the usual one of five minutes nor which cached tokens were audio, so `input_cache_write_1h` and
    `input_audio_cache` are not billed apart. Tokens of pictures drawn go at the dearer of `image_output` and
    `image_token`: lists use either word.
    """
    thought = counts.reasoning if price.internal_reasoning else 0
    drawn = [rate for rate in (price.image_output, price.image_token) if rate is not None]
    yield max(counts.prompt - counts.cached - counts.written - counts.heard, 0), price.prompt
    yield counts.cached, price.input_cache_read if price.input_cache_read is not None else price.prompt
    yield counts.written, price.input_cache_write
    yield counts.heard, price.audio
    yield max(counts.completion - thought - counts.spoken - counts.drawn, 0), price.completion
    yield thought, price.internal_reasoning
    yield counts.spoken, price.audio_output
    yield counts.drawn, max(drawn, default=None)
    yield counts.searches, price.web_search
    yield counts.images, price.image or _FREE
    yield 1, price.request or _FREE
