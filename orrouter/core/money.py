"""Money: whole nano-USD (1e-9 USD), never floats. What is owed is rounded up.

Law: arithmetic and grammar of sums and prices. No prices of models (`catalog/`), no accounts (`ledger/`).
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation

NANO = 1_000_000_000
"""Nano-USD in one USD."""

_SAFE_USD = 1e6
"""Below it nano-USD have at most 15 digits, which a float keeps: no two such sums are the same float."""
LARGEST = 30
"""Digits before the point that a sum in USD may have; what is longer is a mistake, or an attack."""

# Never the thread's own context: a program that rounds its figures to six digits must not round our money.
_EXACT = Context(prec=100, rounding=ROUND_CEILING)
# A comma only between thousands: in `$0,05` it would be a decimal point, and five cents would become five dollars.
_MONEY = re.compile(r"\$(?P<amount>(?:\d{1,3}(?:,\d{3})+|\d+(?:_\d+)*)(?:\.\d+)?)", re.ASCII)
_PRICE = re.compile(r"\$(?P<amount>\d+(?:\.\d+)?)(?:/(?P<unit>[MK]|token))?", re.ASCII)
_UNITS = {"M": Decimal(1_000_000), "K": Decimal(1_000), "token": Decimal(1), None: Decimal(1)}


def nano(usd: Decimal | str | float) -> int:
    """USD as whole nano-USD, rounded up; a float is read by its shortest decimal form, as JSON printed it.

    Raises ValueError when `usd` is no finite number, or one beyond reason.
    """
    if type(usd) is float and 0 <= usd < _SAFE_USD:
        amount = round(usd * NANO)
        if amount / NANO == usd:  # As with most costs; Decimal says the same in ten times the time.
            return amount
    try:
        value = Decimal(str(usd)) if isinstance(usd, float) else Decimal(usd)
    except InvalidOperation:
        raise ValueError(f"not a sum of money: {usd!r}") from None
    if not value.is_finite() or (value and value.adjusted() >= LARGEST):
        raise ValueError(f"not a sum of money: {usd!r}")
    return int(_EXACT.multiply(value, NANO).to_integral_value(ROUND_CEILING))


def usd(amount: int) -> Decimal:
    """Nano-USD as exact USD."""
    return _EXACT.divide(amount, NANO)


def show(amount: int) -> str:
    """Nano-USD for people: at least two decimals, no more than needed (`$0.05`, `$0.00001234`)."""
    sign, digits = ("-", -amount) if amount < 0 else ("", amount)
    whole, rest = divmod(digits, NANO)
    decimals = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole}.{decimals}"


def parse_money(text: str) -> int:
    """`$0.05` as nano-USD. Raises ValueError with an example when it is not written so."""
    match = _MONEY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no sum of money: write $0.05 or $50")
    return nano(match["amount"].replace(",", ""))


def parse_price(text: str) -> Decimal:
    """`$3/M` (a million tokens), `$0.002/K`, `$0.01` (each) as USD per unit.

    Raises ValueError with an example when it is not written so.
    """
    match = _PRICE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no price: write $3/M (a million tokens) or $0.01 (each)")
    return _EXACT.divide(Decimal(match["amount"]), _UNITS[match["unit"]])
