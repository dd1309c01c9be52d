"""Money in whole nano-USD: exact, rounded up, and never read in a way that was not meant."""

from __future__ import annotations

from decimal import Context, Decimal, localcontext
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.core.money import NANO, nano, parse_money, parse_price, show, usd

AMOUNTS = st.integers(-(10**30), 10**30)
OWED = st.integers(0, 10**30)
SUMS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**25), max_value=10**25)


@given(SUMS)
def test_a_sum_is_rounded_up_to_the_next_nano(value):
    """To the last digit, however many there are: what is owed is never less than it was."""
    assert ceil(Fraction(value) * NANO) == nano(value)


@given(SUMS, st.integers(1, 9))
def test_the_program_around_cannot_round_our_money(value, precision):
    """A thread whose decimals have few digits reads and shows the same sums."""
    amount, shown = nano(value), usd(nano(value))
    with localcontext(Context(prec=precision)):
        assert (amount, str(shown)) == (nano(value), str(usd(amount)))


@given(st.one_of(st.floats(0, 2e6), st.integers(0, 2 * 10**15).map(lambda amount: amount / NANO)))
def test_a_float_counts_as_its_shortest_decimal_form(value):
    """The quick way that most costs take comes to the same as reading the digits."""
    assert nano(str(value)) == nano(value)


@given(AMOUNTS)
def test_nano_and_usd_undo_each_other(amount):
    """Exactly."""
    assert amount == nano(usd(amount))


@given(OWED)
def test_what_is_shown_reads_as_itself(amount):
    """`show` loses no digit."""
    assert amount == parse_money(show(amount))


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, "$0.00"),
        (50_000_000, "$0.05"),
        (500_000_000, "$0.50"),
        (12_340, "$0.00001234"),
        (1, "$0.000000001"),
        (1_234_000_000_000, "$1234.00"),
        (-50_000_000, "-$0.05"),
    ],
)
def test_a_sum_for_people(amount, shown):
    """At least two decimals, and no more than are needed."""
    assert shown == show(amount)


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        ("0.05", 50_000_000),
        (1, NANO),
        (0.1, 100_000_000),
        (1e-10, 1),
        ("0.0000000001", 1),
        ("1e-999999", 1),
        (Decimal("1e-1999999"), 1),
        ("-0.0000000001", 0),
        ("1.0000000000000000000000000000001", NANO + 1),
        (-0.0, 0),
    ],
)
def test_numbers_as_people_and_json_write_them(value, amount):
    """A float counts as its shortest decimal form: 0.1 is a tenth."""
    assert amount == nano(value)


@pytest.mark.parametrize(
    "value", ["", "five", "$5", "nan", "inf", float("nan"), float("-inf"), Decimal("NaN"), "1e31", "1e999999999"]
)
def test_what_is_no_sum_is_refused(value):
    """By one kind of error, and without hanging over a monster."""
    with pytest.raises(ValueError, match="not a sum of money"):
        nano(value)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("$0.05", 50_000_000),
        (" $50 ", 50 * NANO),
        ("$1,500", 1_500 * NANO),
        ("$12,345,678.90", 12_345_678_900_000_000),
        ("$1_000", 1_000 * NANO),
        ("$0.0000000001", 1),
    ],
)
def test_sums_as_they_stand_in_a_policy(text, amount):
    """With a dollar sign; thousands may be grouped."""
    assert amount == parse_money(text)


@pytest.mark.parametrize("text", ["", "5", "$", "$.5", "$5.", "$-5", "€5", "$5/M", "$1e3", "$ 5", "$1__0", "$_1", "$٣"])
def test_sums_that_are_none_are_told_how_to_be_written(text):
    """With an example."""
    with pytest.raises(ValueError, match=r"write \$0\.05 or \$50"):
        parse_money(text)


@pytest.mark.parametrize("text", ["$0,05", "$1,5", "$1,50", "$1,5000", "$12,34", "$,500", "$1,500,00"])
def test_a_decimal_comma_is_no_thousands_separator(text):
    """Five cents written `$0,05` would else become five dollars."""
    with pytest.raises(ValueError, match="no sum of money"):
        parse_money(text)


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("$3/M", "0.000003"),
        ("$2.50/M", "0.0000025"),
        ("$0.002/K", "0.000002"),
        ("$0.01", "0.01"),
        ("$0.01/token", "0.01"),
    ],
)
def test_prices_are_usd_for_one(text, price):
    """A million, a thousand, or each."""
    assert Decimal(price) == parse_price(text)


@pytest.mark.parametrize("text", ["3/M", "$3/G", "$3/m", "$3 /M", "$/M", "$3/", "$1,000/M"])
def test_prices_that_are_none_are_told_how_to_be_written(text):
    """With an example."""
    with pytest.raises(ValueError, match=r"write \$3/M"):
        parse_price(text)


@given(st.integers(0, 10**9), st.integers(1, 10**7))
def test_a_price_for_a_million_is_exact(cents, tokens):
    """So many tokens cost what the price says, to the nano."""
    price = parse_price(f"${cents // 100}.{cents % 100:02d}/M")
    assert ceil(Fraction(cents, 100) * tokens * NANO / 10**6) == nano(price * tokens)
