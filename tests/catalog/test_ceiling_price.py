"""Prices that are held and sent: caps that only narrow, unknown prices, surcharges that no cap lowers."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.catalog.ceiling import Bounds, Unbounded, ceiling
from orrouter.catalog.held import rates_of
from orrouter.catalog.model import Model
from orrouter.catalog.price import Price

HELLO = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 100}
CLAUDE = Price.read(
    {
        "prompt": "0.000003",
        "completion": "0.000015",
        "input_cache_write": "0.00000375",
        "input_cache_write_1h": "0.000006",
        "request": "0.001",
    }
)
KEYS = ("prompt", "completion", "request", "image", "audio")
QUARTER = Decimal("1.25")
JUNK = [None, True, -1, "abc", "NaN", "-0.5", float("inf"), [], {}, "1e99"]


def worst(price=CLAUDE, capped=None, body=HELLO, **options):
    model = None if price is None else Model("a/claude", price)
    body = body if capped is None else {**body, "provider": {"max_price": capped}}
    return ceiling(
        body, "chat/completions", model, dialect="openrouter", bounds=Bounds(**options),
        slug="a/claude",
    )  # fmt: skip


def test_the_plain_rates_are_sent_and_the_dearest_held():
    """Writing for an hour costs twice the prompt: that is held, while the cap keeps dear endpoints out."""
    bound = worst()
    assert {"prompt": 3.75, "completion": 18.75, "request": 0.00125} == bound.max_price
    assert bound.input_tokens * 7_500 + 1_250_000 == bound.fixed


@pytest.mark.parametrize("cap", [2, 2.0, "2", "2.00", Decimal(2)])
def test_a_lower_cap_of_the_caller_is_sent_and_held(cap):
    """The caller's cap lowers the plain rate; what comes on top of it stays as listed."""
    bound = worst(capped={"prompt": cap, "completion": cap})
    assert {"prompt": 2.0, "completion": 2.0, "request": 0.00125} == bound.max_price
    assert (bound.input_tokens * 5_750 + 1_250_000, Decimal("0.000002")) == (bound.fixed, bound.rate)


def test_a_higher_cap_of_the_caller_changes_nothing():
    """Whoever allows more than the list says still pays no more than is held."""
    assert worst() == worst(capped={"prompt": 100, "completion": 100, "request": 5})


@pytest.mark.parametrize("junk", JUNK)
def test_junk_in_a_cap_is_no_cap(junk):
    """What cannot be read neither narrows nor widens."""
    assert worst() == worst(capped=dict.fromkeys(KEYS, junk))


def test_a_cap_for_audio_is_kept():
    """The caller's cap in a unit of the upstream's own goes on as it is."""
    assert 0.5 == worst(capped={"audio": "0.5"}).max_price["audio"]


@given(st.dictionaries(st.sampled_from(KEYS), st.sampled_from(JUNK) | st.floats(0, 50) | st.decimals(0, 50, places=4)))
def test_a_cap_never_widens(capped):
    """Under any cap the ceiling and each price that is sent are no higher than without."""
    free, narrow = worst(), worst(capped=capped)
    assert narrow.cost() <= free.cost()
    assert all(narrow.max_price[key] <= free.max_price[key] for key in free.max_price)


@given(st.decimals(0, 100, places=6), st.decimals(0, 100, places=6))
def test_an_endpoint_that_the_cap_lets_through_costs_no_more(listed, offered):
    """A plain endpoint whose price is strictly below what is sent never bills more than is held."""
    rates = rates_of(Price(prompt=listed / 10**6, completion=Decimal(0)), QUARTER, {})
    if offered and float(offered) < float(rates.caps["prompt"]):
        assert offered * 10**12 <= rates.prompt


# --- prices that nobody knows -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "key"),
    [
        (None, "prompt"),
        (Price(), "prompt"),
        (Price.read({"prompt": "-1", "completion": "0"}), "prompt"),
        (Price(prompt=Decimal(0)), "completion"),
        (Price.read({"prompt": "0", "completion": "0", "overrides": [{"completion": "x"}]}), "completion"),
    ],
)
def test_a_price_that_is_missing_is_refused_by_name(price, key):
    """The error says which price of which model, and the option that holds a sum instead."""
    with pytest.raises(Unbounded, match=f"the {key} price of a/claude") as refused:
        worst(price)
    assert (f"pricing.{key}", "unknown_price") == (refused.value.field, refused.value.option)


def test_a_caller_who_caps_both_prices_sets_them():
    """A router of models has no price of its own; under a cap nothing dearer serves, and no fee is let through."""
    bound = worst(None, {"prompt": 1, "completion": "4"})
    assert {"prompt": 1.0, "completion": 4.0, "request": 1e-9} == bound.max_price
    assert (bound.input_tokens * 2_000, Decimal("0.000004")) == (bound.fixed, bound.rate)


@pytest.mark.parametrize("capped", [{"prompt": 1}, {"completion": 1}, {"prompt": 1, "completion": "x"}])
def test_half_a_cap_is_no_price(capped):
    """Both prices have to be known from somewhere."""
    with pytest.raises(Unbounded):
        worst(None, capped)


def test_a_fee_that_no_list_names_is_kept_out():
    """Where the list knows no price, an endpoint with a fee for each request is not let through at all."""
    bound = worst(None, {"prompt": 1, "completion": 1, "request": 1})
    assert (1e-9, bound.input_tokens * 2_000) == (bound.max_price["request"], bound.fixed)


def test_a_price_key_that_nobody_knows_is_a_doubt():
    """A list that charges for something new may charge for this request too."""
    price = Price.read({"prompt": "0", "completion": "0", "moonbeam": "0.1", "sunbeam": "0"})
    assert "unknown price key moonbeam" == worst(price).estimate
