"""What a usage costs: every rate, tiers and hours, rounding, and the dearest a price can become."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.catalog.price import Price
from orrouter.catalog.rates import RATES
from orrouter.core.money import parse_price

CLAUDE = {
    "prompt": "0.000003",
    "completion": "0.000015",
    "input_cache_read": "0.0000003",
    "input_cache_write": "0.00000375",
    "input_cache_write_1h": "0.000006",
    "web_search": "0.01",
}
DAY = datetime(2026, 11, 23, 12, tzinfo=UTC)
NIGHT = datetime(2026, 11, 23, 23, tzinfo=UTC)


def used(prompt: int = 0, completion: int = 0, *, into=None, out=None, **rest):
    parts = {"prompt_tokens_details": into or {}, "completion_tokens_details": out or {}}
    return {"prompt_tokens": prompt, "completion_tokens": completion, **parts, **rest}


# --- reading --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", RATES)
def test_every_price_key_is_read(key):
    """Each key of the list has its place, exact."""
    assert Decimal("0.0000000125") == getattr(Price.read({key: "0.0000000125"}), key)


def test_a_key_without_a_name_here_survives():
    """A price that only a later version knows is kept."""
    assert {"video": Decimal("0.25")} == Price.read({"prompt": "0", "video": "0.25"}).extra


def test_a_cache_write_below_the_prompt_is_a_surcharge():
    """Where only the storage is listed, a written token costs the prompt's rate on top."""
    price = Price.read({"prompt": "0.00000125", "input_cache_write": "0.000000375"})
    assert Decimal("0.000001625") == price.input_cache_write


def test_a_surcharge_rises_with_the_tier():
    """An entry that makes the prompt dearer makes a written token dearer too."""
    listed = {
        "prompt": "0.00000125",
        "completion": "0",
        "input_cache_write": "0.000000375",
        "overrides": [{"min_prompt_tokens": 100, "prompt": "0.0000025"}],
    }
    assert 101 * 2875 == Price.read(listed).cost(used(101, into={"cache_write_tokens": 101}))


@pytest.mark.parametrize("odd", [None, "3", [], {"overrides": "x"}, {"overrides": [None, 3]}, {"discount": "much"}])
def test_what_is_no_price_list_is_unknown(odd):
    """Odd input makes an unknown price and no error."""
    price = Price.read(odd)
    assert (None, (), 0) == (price.prompt, price.overrides, price.discount)


# --- what a usage costs ---------------------------------------------------------------------------------


def test_prompt_and_completion_are_billed_by_their_rates():
    """The plain case: 1000 in at $3/M and 500 out at $15/M."""
    assert 10_500_000 == Price.read(CLAUDE).cost(used(1000, 500))


def test_cached_tokens_are_part_of_the_prompt():
    """What was read from the cache is taken off the plain prompt."""
    assert 200 * 3000 + 800 * 300 == Price.read(CLAUDE).cost(used(1000, into={"cached_tokens": 800}))


def test_cached_tokens_without_a_rate_cost_as_the_prompt():
    """No discount is assumed where none is listed."""
    price = Price(prompt=Decimal("0.000003"), completion=Decimal(0))
    assert 3_000_000 == price.cost(used(1000, into={"cached_tokens": 800}))


def test_written_tokens_are_part_of_the_prompt():
    """What was written to the cache is billed at the write rate and not twice."""
    assert 200 * 3000 + 800 * 3750 == Price.read(CLAUDE).cost(used(1000, into={"cache_write_tokens": 800}))


def test_audio_in_is_part_of_the_prompt():
    """What was heard has its own rate."""
    price = Price.read({"prompt": "0.000001", "audio": "0.000032", "completion": "0"})
    assert 900 * 1000 + 100 * 32_000 == price.cost(used(1000, into={"audio_tokens": 100}))


def test_audio_out_is_part_of_the_completion():
    """What was spoken has its own rate."""
    price = Price.read({"prompt": "0", "completion": "0.00001", "audio_output": "0.00008"})
    assert 10 * 10_000 + 90 * 80_000 == price.cost(used(1, 100, out={"audio_tokens": 90}))


def test_pictures_out_are_part_of_the_completion():
    """Tokens of a picture go at the dearer of the two words that lists use for it."""
    price = Price.read({"prompt": "0", "completion": "0.0000025", "image_output": "0.00003", "image_token": "0.00001"})
    assert 10 * 2500 + 1290 * 30_000 == price.cost(used(1, 1300, out={"image_tokens": 1290}))


def test_free_pictures_are_free_and_not_unknown():
    """A listed nought is a price."""
    price = Price.read({"prompt": "0", "completion": "0", "image_output": "0"})
    assert 0 == price.cost(used(1, 10, out={"image_tokens": 10}))


def test_reasoning_is_billed_within_the_completion():
    """Thoughts cost what words cost unless the list says otherwise."""
    assert 100 * 15_000 == Price.read(CLAUDE).cost(used(0, 100, out={"reasoning_tokens": 60}))


def test_reasoning_with_a_rate_of_its_own_is_billed_apart():
    """A listed reasoning rate replaces the completion's for thoughts."""
    price = Price.read({"prompt": "0.000002", "completion": "0.000008", "internal_reasoning": "0.000003"})
    assert 40 * 8000 + 60 * 3000 == price.cost(used(0, 100, out={"reasoning_tokens": 60}))


def test_a_reasoning_rate_of_nought_changes_nothing():
    """Nought there means that reasoning is billed within the completion."""
    price = Price.read({"prompt": "0", "completion": "0.000008", "internal_reasoning": "0"})
    assert 100 * 8000 == price.cost(used(0, 100, out={"reasoning_tokens": 60}))


@pytest.mark.parametrize("place", ["server_tool_use_details", "server_tool_use"])
def test_searches_are_billed_by_the_piece(place):
    """Two searches at a cent each."""
    assert 20_000_000 == Price.read(CLAUDE).cost(used(**{place: {"web_search_requests": 2}}))


def test_a_request_fee_is_taken_once():
    """A fee per request does not depend on the tokens."""
    assert 5_000_000 + 3000 == Price.read({"prompt": "0.000003", "completion": "0", "request": "0.005"}).cost(used(1))


def test_pictures_in_are_billed_by_the_piece_when_known():
    """A fee per picture is taken for as many as the caller counted."""
    price = Price.read({"prompt": "0", "completion": "0", "image": "0.001"})
    assert 3_000_000 == price.cost(used(1), images=3)


def test_a_discount_comes_off_everything():
    """A tenth off is a tenth off."""
    assert 9_450_000 == Price.read({**CLAUDE, "discount": 0.1}).cost(used(1000, 500))


def test_a_part_of_a_nano_is_rounded_up_once():
    """Three lines of a third each are one, not three."""
    third = Decimal(1) / 3 / 10**9
    price = Price(prompt=third, completion=third, input_cache_read=third)
    assert 1 == price.cost(used(2, 1, into={"cached_tokens": 1}))


@pytest.mark.parametrize(
    "usage",
    [
        used(1),
        used(0, 1),
        used(10, into={"cache_write_tokens": 1}),
        used(10, into={"audio_tokens": 1}),
        used(0, 10, out={"audio_tokens": 1}),
        used(0, 10, out={"image_tokens": 1}),
        used(server_tool_use={"web_search_requests": 1}),
    ],
)
def test_a_needed_rate_that_is_unknown_makes_the_cost_unknown(usage):
    """Nothing is guessed, one rate missing is enough."""
    known = {} if 1 in (usage["prompt_tokens"], usage["completion_tokens"]) else {"prompt": "0", "completion": "0"}
    assert Price.read(known).cost(usage) is None


def test_a_rate_that_is_not_needed_may_be_unknown():
    """An input-only model has a known cost as long as it says nothing."""
    assert 3000 == Price.read({"prompt": "0.000003"}).cost(used(1))


def test_a_free_model_costs_nothing():
    """Free is known, and nought."""
    assert 0 == Price.read({"prompt": "0", "completion": "0"}).cost(used(10**6, 10**6))


def test_a_usage_without_counts_has_no_cost():
    """An empty usage object does not mean a free call."""
    assert Price.read(CLAUDE).cost({}) is None


# --- overrides ------------------------------------------------------------------------------------------

LONG = {**CLAUDE, "overrides": [{"min_prompt_tokens": 200_000, "prompt": "0.000006", "completion": "0.0000225"}]}


@pytest.mark.parametrize(("tokens", "rate"), [(200_000, 3000), (200_001, 6000)])
def test_a_long_prompt_pays_its_tier_for_every_token(tokens, rate):
    """Above the threshold all tokens go at the dearer rate."""
    assert tokens * rate == Price.read(LONG).cost(used(tokens))


def test_keys_that_an_entry_does_not_name_stay():
    """The cache rate of a long prompt is the base's."""
    assert 300_000 * 300 == Price.read(LONG).cost(used(300_000, into={"cached_tokens": 300_000}))


def test_later_entries_win_per_key():
    """Of two tiers that hold, the later one's key is taken, and the earlier one's where the later has none."""
    tiers = [
        {"min_prompt_tokens": 10, "prompt": "0.000002", "completion": "0.000020"},
        {"min_prompt_tokens": 20, "prompt": "0.000004"},
    ]
    price = Price.read({"prompt": "0.000001", "completion": "0.00001", "overrides": tiers})
    assert 21 * 4000 + 20_000 == price.cost(used(21, 1))


NIGHTLY = {
    "prompt": "0.000002",
    "completion": "0",
    "overrides": [{"utc_start": 2200, "utc_end": 400, "prompt": "0.000001"}],
}


@pytest.mark.parametrize(("when", "rate"), [(DAY, 2000), (NIGHT, 1000), (NIGHT.replace(hour=3), 1000)])
def test_the_night_may_be_cheaper(when, rate):
    """A window past midnight is priced on both sides of it."""
    assert rate == Price.read(NIGHTLY).cost(used(1), at=when)


def test_without_a_time_the_dearer_side_is_billed():
    """Who does not say when is not given the night's price."""
    assert 2000 == Price.read(NIGHTLY).cost(used(1))


def test_an_entry_with_an_unknown_condition_is_skipped():
    """A price under a condition that nobody here can check is not billed."""
    price = Price.read({"prompt": "0.000001", "completion": "0", "overrides": [{"tier": "gold", "prompt": "1"}]})
    assert 1000 == price.cost(used(1))


# --- the ceiling ----------------------------------------------------------------------------------------


def test_the_highest_is_the_dearest_of_every_entry():
    """A tier raises the ceiling, a cheap night does not lower it, a discount does not count."""
    listed = {**LONG, "discount": 0.5}
    listed["overrides"] = [*LONG["overrides"], {"utc_start": 0, "utc_end": 600, "prompt": "0.0000001"}]
    top = Price.read(listed).highest()
    assert (Decimal("0.000006"), Decimal("0.0000225"), 0, ()) == (
        top.prompt,
        top.completion,
        top.discount,
        top.overrides,
    )


def test_the_highest_counts_with_entries_nobody_understands():
    """What might be billed upstream is in the ceiling."""
    price = Price.read({"prompt": "0.000001", "completion": "0", "overrides": [{"tier": "gold", "prompt": "1"}]})
    assert 1 == price.highest().prompt


def test_the_highest_is_unknown_where_an_entry_is():
    """A sentinel in an entry leaves no ceiling."""
    price = Price.read({"prompt": "0.000001", "overrides": [{"min_prompt_tokens": 5, "prompt": "-1"}]})
    assert price.highest().prompt is None


@pytest.mark.parametrize(
    ("base", "entry", "key", "highest"),
    [
        ({"prompt": "5"}, {"input_cache_read": "1"}, "input_cache_read", 5),
        ({"completion": "5"}, {"internal_reasoning": "1"}, "internal_reasoning", 5),
        ({"completion": "5", "internal_reasoning": "1"}, {"internal_reasoning": "0"}, "internal_reasoning", 5),
        ({}, {"request": "1"}, "request", 1),
        ({}, {"audio": "1"}, "audio", None),
        ({"prompt": "5"}, {"prompt": "6"}, "input_cache_read", None),
    ],
)
def test_the_highest_counts_with_what_stands_in_for_an_absent_rate(base, entry, key, highest):
    """Where a rate falls back on another one, that one is reachable too; an unknown rate stays unknown."""
    price = Price.read({**base, "overrides": [{"min_prompt_tokens": 5, **entry}]})
    assert highest == getattr(price.highest(), key)


def test_the_highest_of_a_discounted_price_is_the_full_one():
    """A discount may end tomorrow."""
    assert 0 == Price.read({**CLAUDE, "discount": 0.5}).highest().discount


def test_a_flat_price_is_its_own_highest():
    """Without entries and discount there is nothing to raise."""
    price = Price.read(CLAUDE)
    assert price is price.highest()


def test_a_token_in_costs_at_most_its_dearest_way():
    """A write for an hour is the dearest way into this model."""
    assert Decimal("0.000006") == Price.read(CLAUDE).input_ceiling


def test_a_token_out_costs_at_most_the_dearer_of_word_and_thought():
    """Reasoning dearer than words sets the ceiling."""
    price = Price.read({"prompt": "0", "completion": "0.000001", "internal_reasoning": "0.000003"})
    assert Decimal("0.000003") == price.output_ceiling


def test_an_unknown_prompt_has_no_ceiling():
    """A ceiling is a promise, so it is not made on half of the rates."""
    assert Price.read({"completion": "0", "input_cache_write": "1"}).input_ceiling is None


_rate = st.decimals(min_value=0, max_value="0.001", places=12)
_tokens = st.integers(0, 3_000_000)
_entry = st.fixed_dictionaries(
    {},
    optional={
        **{key: _rate.map(str) for key in ("prompt", "completion", "input_cache_read", "input_cache_write", "audio")},
        "min_prompt_tokens": st.integers(0, 1_000_000),
        "utc_start": st.integers(0, 23).map(lambda hour: hour * 100),
        "utc_end": st.integers(0, 24).map(lambda hour: hour * 100),
        "utc_days": st.lists(st.integers(0, 7)),
        "tier": st.just("gold"),
    },
)
_listed = st.fixed_dictionaries(
    {"prompt": _rate.map(str), "completion": _rate.map(str)},
    optional={
        **{key: _rate.map(str) for key in RATES[2:]},
        "discount": st.floats(0, 1),
        "overrides": st.lists(_entry, max_size=4),
    },
)
_usage = st.builds(
    used,
    _tokens,
    _tokens,
    into=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("cached_tokens", "cache_write_tokens", "audio_tokens"), _tokens)
    ),
    out=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("reasoning_tokens", "audio_tokens", "image_tokens"), _tokens)
    ),
)
_when = st.none() | st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1))  # noqa: DTZ001


@given(_listed, _usage, _when)
def test_no_usage_at_any_time_costs_more_than_the_highest(listed, usage, when):
    """`highest()` is a ceiling of `cost`, whatever the conditions are."""
    price = Price.read(listed)
    cost, top = price.cost(usage, when), price.highest().cost(usage)
    assert cost is None or top is None or cost <= top


@given(_listed, _usage, _when)
def test_a_price_without_unknowns_has_a_highest_cost(listed, usage, when):
    """The ceiling is known wherever every rate of the list is."""
    whole = {**dict.fromkeys(RATES, "0.000001"), **listed}
    assert Price.read(whole).highest().cost(usage) is not None


@given(_listed, _usage, st.sampled_from(["prompt_tokens", "completion_tokens"]), _tokens)
def test_more_tokens_never_cost_less(listed, usage, key, more):
    """Under one set of rates the cost rises with the tokens."""
    price = replace(Price.read(listed), overrides=())
    cost, dearer = price.cost(usage), price.cost({**usage, key: usage[key] + more})
    assert cost is None or dearer is None or cost <= dearer


@given(_listed, _tokens, _tokens)
def test_the_plain_cost_is_within_its_token_ceilings(listed, prompt, completion):
    """Tokens times their ceilings, with the request's fee, bound what plain text costs."""
    price = Price.read(listed)
    top = price.highest()
    bound = prompt * price.input_ceiling + completion * price.output_ceiling + (top.request or 0)
    assert price.cost(used(prompt, completion), DAY) <= bound * 10**9 + 1


# --- for people -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("prompt", "$3/M"),
        ("completion", "$15/M"),
        ("input_cache_read", "$0.3/M"),
        ("web_search", "$0.01"),
        ("audio", "?"),
    ],
)
def test_a_rate_is_shown_as_people_write_it(key, shown):
    """Tokens by the million, pieces one by one, unknown as a question mark."""
    assert shown == Price.read(CLAUDE).show(key)


def test_a_free_rate_is_shown_as_nought():
    """Free and unknown look different."""
    assert "$0/M" == Price.read({"prompt": "0"}).show()


def test_a_price_no_one_names_can_be_shown():
    """An extra key has a rate too."""
    assert "$250000/M" == Price.read({"video": "0.25"}).show("video")


@given(st.integers(0, 9999), st.integers(-12, -5))
def test_what_is_shown_can_be_written_in_a_policy(digits, exponent):
    """Up to four digits, a shown price reads back as itself."""
    rate = Decimal(digits).scaleb(exponent)
    assert rate == parse_price(Price(prompt=rate).show())


@pytest.mark.parametrize(
    ("listed", "free"),
    [
        ({"prompt": "0", "completion": "0"}, True),
        ({"prompt": "0", "completion": "0", "request": "0.01"}, False),
        ({"prompt": "0", "completion": "0", "overrides": [{"min_prompt_tokens": 9, "prompt": "1"}]}, False),
        ({}, False),
    ],
)
def test_free_is_what_surely_costs_nothing(listed, free):
    """A fee, a tier or an unknown price is not free."""
    assert free is Price.read(listed).is_free
