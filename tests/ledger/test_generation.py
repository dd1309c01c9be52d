"""What `GET /generation` tells of a cost, and when it is asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.ledger.generation import AGES_S, Told, latest_ask, may_grow, next_ask, stops_billing, told
from orrouter.testkit.table import BILLS_IN_FULL

DONE = {"id": "g", "total_cost": 0.00123, "finish_reason": "stop", "provider_name": "OpenAI", "model": "a/b"}


def answer(**changes):
    return {"data": DONE | changes}


def test_a_figure_is_told_with_who_served_it():
    """The cost in nano-USD, the provider, and the model that was billed."""
    assert Told(1_230_000, "OpenAI", "a/b") == told(answer(), "g", age_s=1)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": None},
        {"data": []},
        answer(total_cost=None),
        answer(total_cost="0.1"),
        answer(total_cost=True),
        answer(total_cost=-0.01),
        answer(total_cost=float("nan")),
        answer(total_cost=float("inf")),
        answer(total_cost=1e10),
        answer(id="another"),
        answer(is_byok=True),
        answer(is_byok=True, upstream_inference_cost="much"),
    ],
)
def test_a_figure_that_is_missing_or_odd_is_not_yet_one(body):
    """Nothing is settled by what may be a mistake, and least of all at zero."""
    assert told(body, "g", age_s=10_000) is None


def test_a_zero_that_is_said_is_a_zero():
    """The upstream bills nothing for some answers, and says so."""
    assert 0 == told(answer(total_cost=0), "g", age_s=1).cost


def test_with_a_key_of_ones_own_the_provider_bills_too():
    """The fee and what the provider charges; else the second figure is the first once more."""
    both = {"total_cost": 0.001, "upstream_inference_cost": 0.02}
    assert 21_000_000 == told(answer(**both, is_byok=True), "g", age_s=1).cost
    assert 1_000_000 == told(answer(**both, is_byok=False), "g", age_s=1).cost


def test_a_price_of_many_digits_is_rounded_up():
    """What is owed is never rounded down, and no float is added."""
    assert 1 == told(answer(total_cost=1e-12), "g", age_s=1).cost
    assert 300_000_000 == told(answer(is_byok=True, total_cost=0.1, upstream_inference_cost=0.2), "g", age_s=1).cost


@pytest.mark.parametrize(
    ("changes", "grows"),
    [
        ({}, False),
        ({"cancelled": True, "streamed": True}, False),
        ({"cancelled": True, "streamed": True, "provider_name": "Google AI Studio"}, True),
        ({"cancelled": True, "streamed": True, "provider_name": "Nobody Knows"}, True),
        ({"cancelled": True, "streamed": True, "provider_name": None}, True),
        ({"cancelled": True, "streamed": False}, True),
        ({"cancelled": True}, True),
        ({"finish_reason": None}, True),
    ],
)
def test_a_figure_may_grow_while_the_provider_works_on(changes, grows):
    """After a cancel most providers work, and bill, to the end; an answer without an end may still be written."""
    assert grows == may_grow(DONE | changes)


def test_a_figure_that_may_grow_is_believed_after_ten_minutes():
    """Not before: it would be settled too low."""
    late = answer(cancelled=True, provider_name="Groq")
    assert told(late, "g", age_s=599) is None
    assert 1_230_000 == told(late, "g", age_s=600).cost


@pytest.mark.parametrize("name", ["OpenAI", "openai", "xAI", "x-ai", "deepinfra/fp4", "DeepSeek", "SFCompute"])
def test_a_provider_is_known_by_its_name_and_by_its_slug(name):
    """In any case, with its tag or without."""
    assert stops_billing(name)


@pytest.mark.parametrize("name", ["", "Groq", "amazon-bedrock", "Google", "Mistral", "openai-like"])
def test_any_other_provider_is_taken_to_bill_to_the_end(name):
    """Who is not known to stop does not stop."""
    assert not stops_billing(name)


@given(st.floats(min_value=0, max_value=10**6))
def test_the_asks_lie_one_after_the_other(age):
    """The last ask is never in the future and the next never in the past, with none between them."""
    assert latest_ask(age) <= age < next_ask(age)
    assert next_ask(latest_ask(age)) == next_ask(age)


def test_the_asks_are_soon_at_first_and_hourly_later():
    """Seconds, minutes, then hours."""
    ages, age = [], 0.0
    while age < 3 * 3600:
        age = next_ask(age)
        ages.append(age)
    assert [*AGES_S, 7200, 10_800] == ages


def test_nobody_both_stops_and_goes_on_billing():
    """The providers that stop when a stream is cancelled, and those that the fake lets work on, are different ones."""
    assert [] == [name for name in BILLS_IN_FULL if stops_billing(name)]
