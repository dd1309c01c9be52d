"""The rates at which a request is held, and the caps that go out so that nobody dearer serves it.

Law: what one price list and one cap come to, pure. How many tokens there are is not this module's question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal, localcontext
from typing import Any, Final

from orrouter.catalog.price import Price
from orrouter.catalog.rates import read_rate

ATTO: Final = 10**18
"""Atto-USD in one USD: rates as whole numbers, fine enough that no listed one is rounded."""

LEAST: Final = Decimal("1e-9")
"""What is sent as the cap of something free: the upstream compares strictly, and a cap of 0 would refuse it too.

Beneath every price there is: a billion tokens at this rate are a millionth of a dollar. A caller's own cap of 0 is
sent as this too, lest it be read as none.
"""
WRITTEN: Final = Decimal(2)
"""A token written to a cache costs at most twice a plain one, where no list says what. Source: Anthropic's prices."""

_MILLION: Final = Decimal(1_000_000)
_EXACT: Final = Context(prec=80, rounding=ROUND_CEILING)
_CAPS: Final = {"prompt": _MILLION, "completion": _MILLION, "request": Decimal(1), "image": Decimal(1)}
_READ: Final = (*_CAPS, "audio")
_ENDLESS: Final = Decimal("Infinity")
_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class Rates:
    """Atto-USD for one of each, None where nobody knows; `caps` are the same as they are sent, in the upstream's units.

    `prompt` is held for every token on its way in, whether plain, cached or written; `completion` for every one on its
    way out, said or thought. `audio`, `spoken` and `drawn` are tokens heard, said aloud and drawn; `strange` are price
    keys that nobody here knows.
    """

    prompt: int | None
    completion: int | None
    request: int
    image: int
    audio: int | None
    spoken: int | None
    drawn: int | None
    search: int | None
    caps: Mapping[str, Decimal]
    strange: tuple[str, ...]


_memo: dict[tuple[object, ...], tuple[Price, Rates]] = {}


def rates_of(price: Price, headroom: Decimal, capped: Mapping[str, Any]) -> Rates:
    """The rates to hold at this price, of endpoints up to `headroom` times as dear, none dearer than `capped`.

    `capped` is a `provider.max_price`: USD for a million tokens, or for each. What cannot be read in it is left out.
    The answer is kept by the price's identity, because it is asked for with every request.
    """
    caps = {key: max(cap, LEAST) for key in _READ if (cap := read_rate(capped.get(key))) is not None} if capped else {}
    name = (id(price), headroom, *caps.items())
    kept = _memo.get(name)
    if kept is not None and kept[0] is price:
        return kept[1]
    rates = _rates(price, headroom, caps)
    if len(_memo) >= _REMEMBERED:
        _memo.clear()
    _memo[name] = (price, rates)
    return rates


def _rates(price: Price, headroom: Decimal, caps: Mapping[str, Decimal]) -> Rates:
    top = price.highest()
    with localcontext(_EXACT):
        listed = {
            "prompt": _times(top.prompt, headroom),
            "completion": _times(top.completion, headroom),
            "request": (top.request or Decimal(0)) * headroom,
            "image": (top.image or Decimal(0)) * headroom,
        }
        held = {key: _lower(listed[key], caps[key] / unit if key in caps else None) for key, unit in _CAPS.items()}
        prompt = _dressed(held["prompt"], top.prompt, price.input_ceiling, headroom)
        audio = _dearest_known(top.audio, top.input_audio_cache) if top.audio is not None else None
        return Rates(
            prompt=_atto(prompt if top.prompt is not None or prompt is None else prompt * WRITTEN),
            completion=_atto(_dressed(held["completion"], top.completion, price.output_ceiling, headroom)),
            request=_atto(held["request"]) or 0,
            image=_atto(held["image"]) or 0,
            audio=_atto(_times(audio, headroom)),
            spoken=_atto(_times(top.audio_output, headroom)),
            drawn=_atto(_times(_dearest_known(top.image_output, top.image_token), headroom)),
            search=_atto(_times(top.web_search, headroom)),
            caps=_sent(listed, caps),
            strange=tuple(sorted(key for key, rate in price.extra.items() if rate != 0)),
        )


def _sent(listed: Mapping[str, Decimal | None], caps: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """What is sent: the listed rate with its headroom, or the caller's cap where that is lower."""
    sent = dict(caps)
    for key, unit in _CAPS.items():
        rate = listed[key]
        if rate is not None:
            sent[key] = min(max(rate * unit, LEAST), sent.get(key, _ENDLESS))
    return sent


def _dressed(held: Decimal | None, plain: Decimal | None, top: Decimal | None, headroom: Decimal) -> Decimal | None:
    """A rate with what may come on top of it: writing to a cache, thinking. A cap does not lower that."""
    if held is None or plain is None or top is None:
        return held
    return held + (top - plain) * headroom


def _lower(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    known = [rate for rate in (one, other) if rate is not None]
    return min(known) if known else None


def _dearest_known(*rates: Decimal | None) -> Decimal | None:
    return max((rate for rate in rates if rate is not None), default=None)


def _times(rate: Decimal | None, headroom: Decimal) -> Decimal | None:
    return None if rate is None else rate * headroom


def _atto(rate: Decimal | None) -> int | None:
    return None if rate is None else int((rate * ATTO).to_integral_value(ROUND_CEILING))
