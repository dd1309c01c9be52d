"""The script behind the snapshot: prices, abilities and names, taken over without inventing any."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import orjson
import pytest

types = pytest.importorskip("genai_prices.types", reason="comes with the dev extra")

from orrouter.catalog import make_snapshot  # noqa: E402

DAY = date(2026, 11, 21)
PROFILE = {
    "name": "B",
    "max_input_tokens": 1000,
    "max_output_tokens": 100,
    "text_inputs": True,
    "image_inputs": True,
    "audio_inputs": False,
    "text_outputs": True,
    "tool_calling": True,
    "structured_output": False,
}


def model(slug="a/b", prices=None, *aliases, **rest):
    clauses = [types.ClauseEquals(equals=name) for name in (slug, *aliases)]
    prices = types.ModelPrice(input_mtok=Decimal(3), output_mtok=Decimal(15)) if prices is None else prices
    return types.ModelInfo(id=slug, match=types.ClauseOr(or_=clauses), prices=prices, **rest)


def made(*models, profiles=None):
    return list(make_snapshot.rows(models, profiles or {}, DAY))


def test_a_price_of_a_million_becomes_the_price_of_one():
    """Exactly, and without an exponent."""
    prices = types.ModelPrice(input_mtok=Decimal("0.04"), output_mtok=Decimal(0), web_searches_kcount=Decimal(10))
    assert {"prompt": "0.00000004", "completion": "0", "web_search": "0.01"} == make_snapshot.price(prices)


def test_tiers_become_overrides_in_rising_order():
    """Each threshold is one entry with every key that changes there."""

    def tiers(base, *steps):
        return types.TieredPrices(
            base=Decimal(base), tiers=[types.Tier(start, Decimal(price)) for start, price in steps]
        )

    prices = types.ModelPrice(input_mtok=tiers(1, (32, 2), (128, 4)), output_mtok=tiers(10, (128, 20)))
    assert {
        "prompt": "0.000001",
        "completion": "0.00001",
        "overrides": [
            {"min_prompt_tokens": 32, "prompt": "0.000002"},
            {"min_prompt_tokens": 128, "prompt": "0.000004", "completion": "0.00002"},
        ],
    } == make_snapshot.price(prices)


def test_a_price_key_that_is_not_known_stops_the_script():
    """No price is lost in silence."""
    with pytest.raises(KeyError):
        make_snapshot.price(types.ModelPrice(input_video_mtok=Decimal(1)))


@pytest.mark.parametrize(("start", "prompt"), [(date(2026, 11, 21), "0.000002"), (date(2026, 11, 22), "0.000001")])
def test_the_price_of_the_day_is_taken(start, prompt):
    """A price of tomorrow is not yet in force."""
    dated = [
        types.ConditionalPrice(prices=types.ModelPrice(input_mtok=Decimal(1))),
        types.ConditionalPrice(types.StartDateConstraint(start), prices=types.ModelPrice(input_mtok=Decimal(2))),
    ]
    assert {"prompt": prompt} == make_snapshot.price_on(DAY, model(prices=dated))


@pytest.mark.parametrize(("slug", "pricing"), [("a/b:free", {"prompt": "0", "completion": "0"}), ("a/b", {})])
def test_an_empty_price_is_free_only_by_name(slug, pricing):
    """A model without a price that does not call itself free has an unknown one."""
    assert pricing == make_snapshot.price_on(DAY, model(slug, types.ModelPrice()))


def test_abilities_are_written_in_the_words_of_the_live_list():
    """Yes, no and not known stay apart."""
    assert {
        "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
        "top_provider": {"max_completion_tokens": 100},
        "supported_parameters": ["tool_choice", "tools"],
        "unsupported_parameters": ["structured_outputs"],
    } == make_snapshot.abilities(PROFILE)


def test_a_model_without_a_profile_has_no_abilities():
    """What no source holds is not in the row."""
    (row,) = made(model())
    assert {"id": "a/b", "pricing": {"prompt": "0.000003", "completion": "0.000015"}} == row


def test_only_slugs_of_openrouter_come_along():
    """A name without an author is none, and a router has no price."""
    found = made(model("claude"), model("b/c"), model("a/b"), profiles={"openrouter/auto": PROFILE})
    assert ["a/b", "b/c"] == [row["id"] for row in found]


def test_a_dated_alias_is_the_canonical_slug():
    """The first dated name of a model is what replies call it; other aliases may be other models."""
    (row,) = made(model("a/b", None, "a/b-audio", "a/b-20260101"))
    assert "a/b-20260101" == row["canonical_slug"]


def test_a_dated_alias_that_is_listed_is_a_row_of_its_own():
    """Where the live list has the dated name too, it has the same price."""
    found = made(model("a/b", None, "a/b-2026-01-01"), profiles={"a/b-2026-01-01": PROFILE})
    assert ["0.000003", "0.000003"] == [row["pricing"]["prompt"] for row in found]


def test_a_dated_name_with_a_price_of_its_own_keeps_it():
    """An older date may be dearer, whatever list of aliases names it."""
    older = model("a/b-2025-01-01", types.ModelPrice(input_mtok=Decimal(9)))
    found = made(model("a/b", None, "a/b-2025-01-01"), older)
    assert ["0.000003", "0.000009"] == [row["pricing"]["prompt"] for row in found]


def test_a_model_that_only_the_profiles_know_has_no_price():
    """Its abilities are worth keeping; its price stays unknown."""
    (row,) = made(profiles={"a/b": PROFILE})
    assert ("B", 1000, {}) == (row["name"], row["context_length"], row["pricing"])


def test_the_file_is_one_model_a_line():
    """A difference between two snapshots shows the models that changed."""
    written = make_snapshot.page([{"id": "a/b"}, {"id": "a/c"}], "somewhere, MIT", DAY)
    head = {"as_of": "2026-11-21", "source": "somewhere, MIT", "models": [{"id": "a/b"}, {"id": "a/c"}]}
    assert (head, [b'{"id":"a/b"},', b'{"id":"a/c"}']) == (orjson.loads(written), written.splitlines()[1:3])
