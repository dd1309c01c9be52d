"""The worst case of one request at one price: what to hold, and the caps that make sure it costs no more.

Law: pure; it puts together what the modules beside it count and price. Nobody's money is looked at here.

The bound is a proof where `Ceiling.estimate` is empty, under these conditions: the upstream honours `max_tokens` and
`provider.max_price`; what an endpoint takes on top of its plain rates (a longer prompt, writing to a cache, thinking)
is no larger than listed with the headroom; a template adds no more than the constants of `weight.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple

from orrouter.catalog.bounds import UNKNOWN_PRICE, Bounds, Unbounded
from orrouter.catalog.case import ATTO_A_NANO, Case
from orrouter.catalog.extras import of_slug
from orrouter.catalog.fields import CHAT, EMBED, TEXT, Asked, Little, little, read, thought
from orrouter.catalog.held import rates_of
from orrouter.catalog.model import Model
from orrouter.catalog.price import Price
from orrouter.catalog.weight import Weight
from orrouter.core.values import made

__all__ = ["ENDLESS", "Bounds", "Ceiling", "Unbounded", "ceiling"]

ENDLESS: Final = 1 << 62
"""As `affordable`: a token more costs nothing."""
SHORTEST: Final = 16
"""Some providers answer a smaller `max_tokens` as if it were this. Source: OpenRouter's API reference."""

_NOTHING: Final[Mapping[str, Any]] = {}
_NO_MODELS: Final[Mapping[str, Model | None]] = {}
_UNLISTED: Final = Price()


class Ceiling(NamedTuple):
    """The worst case of one request at one price.

    `input_tokens` and `fixed` are upper bounds; `fixed` is nano-USD of everything that does not depend on how many
    tokens are asked for. `tokens` are asked for or put in, for each of `choices`, at `atto` atto-USD (1e-18) each.
    `max_price` is to be sent as `provider.max_price`, None where it cannot be. `estimate` says why the bound is no
    proof; empty: it is.
    """

    input_tokens: int
    tokens: int
    choices: int
    fixed: int
    atto: int
    max_price: Mapping[str, float] | None
    estimate: str
    least: int = SHORTEST
    """Fewer tokens must not be asked for: the bound would not hold."""

    @property
    def rate(self) -> Decimal:
        """USD for a token of the answer."""
        return Decimal(self.atto).scaleb(-18)

    def cost(self, tokens: int | None = None) -> int:
        """Nano-USD, rounded up, for so many tokens of each choice; without a number, for those asked for."""
        wanted = self.tokens if tokens is None else tokens
        return self.fixed - (-wanted * self.choices * self.atto // ATTO_A_NANO)

    def affordable(self, room: int) -> int:
        """The most tokens of each choice that so many nano-USD buy: one more would not fit. Below 0: not even none."""
        if not self.atto:
            return ENDLESS if room >= self.fixed else -1
        return (room - self.fixed) * ATTO_A_NANO // (self.choices * self.atto)


def ceiling(
    body: Mapping[str, Any],
    endpoint: str,
    model: Model | None,
    *,
    dialect: str,
    bounds: Bounds,
    slug: str = "",
    also: Mapping[str, Model | None] = _NO_MODELS,
) -> Ceiling:
    """The worst case of a request. Raises Unbounded when it has none; that says what a policy can do about it.

    Of the caller's own `provider.max_price` and ours the lower is sent and held. `slug` is the model as it is sent,
    with its suffixes; `also` are the further models of `models`, by slug: the dearest of all is held.
    """
    if endpoint == CHAT and model is not None and not also:
        asks = little(body)
        if asks is not None:
            price = model.price.within(asks.read) if model.price.overrides else model.price
            kept = _lines.get((id(model), id(price), slug, dialect))
            if kept is None or kept.bounds is not bounds:
                kept = _line_of(model, price, slug, dialect, bounds)
            if kept is not None:
                return kept.ceiling(asks)
    if endpoint not in (CHAT, TEXT, EMBED):
        raise Unbounded("endpoint", f"nobody here knows what {endpoint} bills", UNKNOWN_PRICE)
    named = {slug or _name(model): model, **also}
    return _in_full(body, endpoint, named, dialect, bounds)


def _in_full(
    body: Mapping[str, Any], endpoint: str, named: Mapping[str, Model | None], dialect: str, bounds: Bounds
) -> Ceiling:
    """The ceiling of whatever a request may ask, at the dearest of the models named."""
    provider = body.get("provider")
    capped = provider.get("max_price") if isinstance(provider, Mapping) and dialect != "openai" else None
    if not isinstance(capped, Mapping):
        capped = _NOTHING
    asked = read(body, endpoint, dialect, bounds)
    prices = [_price(one) for one in named.values()]
    case = Case(asked, named, [rates_of(price, bounds.headroom, capped) for price in prices], bounds)
    turns, fees, searched = case.fees(body, dialect)
    tokens = case.input(searched=searched)
    # What only a longer prompt would cost is neither held nor let through.
    case.rates = [rates_of(price.within(tokens), bounds.headroom, capped) for price in prices]
    return _add_up(case, _Given(endpoint, dialect, turns, fees, tokens, thought(body)))


def _price(model: Model | None) -> Price:
    return _UNLISTED if model is None else model.price


def _name(model: Model | None) -> str:
    return "the model" if model is None else model.id


class _Given(NamedTuple):
    """What is known of a case: how often it is asked, its fees in nano-USD, and the tokens of one prompt."""

    endpoint: str
    dialect: str
    turns: int
    fees: int
    read: int
    thought: int


def _add_up(case: Case, given: _Given) -> Ceiling:
    asked, writes = case.asked, given.endpoint != EMBED
    _, dialect, turns, fees, read, thinks = given
    fixed = turns * asked.copies * case.prompt(read)
    tokens = (asked.tokens or case.default()) if writes else SHORTEST
    speaks = case.output() * turns if writes else 0
    fixed += speaks * asked.choices * asked.guessed
    return Ceiling(
        input_tokens=read * turns,
        tokens=tokens if writes else 0,
        choices=asked.choices,
        fixed=fees + _nano(fixed) + _shortfall(speaks * asked.choices, tokens, thinks),
        atto=speaks,
        max_price=case.caps(given.endpoint) if dialect != "openai" else None,
        estimate="; ".join(case.doubts(dialect)),
        least=max(SHORTEST, thinks + 1),
    )


def _nano(atto: int) -> int:
    return -(-atto // ATTO_A_NANO)


def _shortfall(rate: int, tokens: int, thinks: int) -> int:
    """Nano-USD by which the answer that may be given costs more than the tokens asked for, at atto-USD a token.

    Some providers answer with no less than the shortest; and where thinking leaves no room, it may come on top.
    """
    given = tokens + thinks if tokens <= thinks else max(tokens, SHORTEST)
    return _nano(rate * given) - _nano(rate * tokens) if given > tokens else 0


@dataclass(frozen=True, slots=True)
class _Line:
    """The ceiling of texts alone at one model: a straight line, kept because most requests are on it.

    Atto-USD: `prompt` a token, `request` each, `speaks` a token written; the rest as in the ceiling.
    """

    model: Model
    listed: Price
    bounds: Bounds
    prompt: int
    request: int
    speaks: int
    tokens: int
    max_price: dict[str, float] | None
    estimate: str

    def ceiling(self, asks: Little) -> Ceiling:
        """The ceiling for a prompt of so many tokens, an answer of as many as are asked for, and its thinking."""
        read, asked, thinks = asks
        tokens = asked or self.tokens
        fixed = -(-(read * self.prompt + self.request) // ATTO_A_NANO)
        if tokens < SHORTEST or tokens <= thinks:
            fixed += _shortfall(self.speaks, tokens, thinks)
        price = None if self.max_price is None else self.max_price.copy()
        least = thinks + 1 if thinks >= SHORTEST else SHORTEST
        return made(Ceiling, (read, tokens, 1, fixed, self.speaks, price, self.estimate, least))


_REMEMBERED: Final = 4096
_lines: dict[tuple[int, int, str, str], _Line] = {}
"""By the identity of model and price: each line holds its own, so no others bear their numbers meanwhile."""


def _line_of(model: Model, price: Price, slug: str, dialect: str, bounds: Bounds) -> _Line | None:
    """The line of a model at a price under that name, kept from now on; None where its name alone asks for more."""
    if of_slug(slug or model.id) != ((), ()):
        return None
    rates = rates_of(price, bounds.headroom, _NOTHING)
    case = Case(Asked(Weight()), {slug or model.id: model}, [rates], bounds)
    prompt, speaks = case.prompt(1) - case.prompt(0), case.output()
    max_price = case.caps(CHAT) if dialect != "openai" else None
    line = _Line(
        model, price, bounds, prompt, case.prompt(0), speaks, case.default(), max_price,
        "; ".join(case.doubts(dialect)),
    )  # fmt: skip
    if len(_lines) >= _REMEMBERED:
        _lines.clear()
    _lines[id(model), id(price), slug, dialect] = line
    return line
