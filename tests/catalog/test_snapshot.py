"""The bundled snapshot: there, real, and plausible."""

from __future__ import annotations

from decimal import Decimal

import pytest

from orrouter.catalog import snapshot
from orrouter.catalog.catalog import Catalog
from orrouter.core.money import parse_price


@pytest.fixture(scope="module")
def catalog():
    return Catalog()


def test_the_head_says_where_and_when():
    """Who reads a price may know its source, its licence and its day."""
    shipped = snapshot.load()
    assert (True, True, 10) == ("genai-prices" in shipped.source, "MIT" in shipped.source, len(shipped.as_of))


@pytest.mark.parametrize(
    ("slug", "prompt", "completion", "window"),
    [
        ("anthropic/claude-sonnet-4.5", "$3/M", "$15/M", 1_000_000),
        ("openai/gpt-4o", "$2.50/M", "$10/M", 128_000),
        ("openai/gpt-4o-mini", "$0.15/M", "$0.60/M", 128_000),
        ("google/gemini-2.5-pro", "$1.25/M", "$10/M", 1_048_576),
    ],
)
def test_well_known_models_have_their_list_price(catalog, slug, prompt, completion, window):
    """Prices that everybody can look up are what they should be."""
    model = catalog.get(slug)
    assert (parse_price(prompt), parse_price(completion), window) == (
        model.price.prompt,
        model.price.completion,
        model.context_length,
    )


def test_a_long_prompt_is_dearer_where_it_is(catalog):
    """The long-context tier came along: double above 200,000 tokens."""
    assert parse_price("$6/M") == catalog.get("anthropic/claude-sonnet-4.5").price.highest().prompt


@pytest.mark.parametrize(
    ("slug", "sees", "calls_tools", "reasons"),
    [
        ("anthropic/claude-sonnet-4.5", True, True, True),
        ("openai/gpt-4o", True, True, False),
        ("google/gemini-2.5-pro", True, True, True),
    ],
)
def test_well_known_models_have_their_abilities(catalog, slug, sees, calls_tools, reasons):
    """Abilities that the sources hold are in the snapshot."""
    model = catalog.get(slug)
    assert (sees, calls_tools, reasons) == (model.takes("image"), model.supports("tools"), model.reasons())


def test_what_the_sources_do_not_hold_is_unknown(catalog):
    """The snapshot does not say no where it does not know."""
    assert catalog.get("openai/gpt-4o").supports("seed") is None


def test_every_model_bears_an_openrouter_slug(catalog):
    """Each id is author/name, and routers are left out."""
    assert [] == [model.id for model in catalog if "/" not in model.id or model.id.startswith("openrouter/")]


def test_every_free_model_is_free(catalog):
    """The suffix keeps its word."""
    assert [] == [model.id for model in catalog if model.id.endswith(":free") and model.price.prompt]


def test_most_models_have_a_price_that_can_be(catalog):
    """Nearly all are priced, and none above a thousand dollars a million tokens."""
    prices = [model.price.highest().prompt for model in catalog]
    known = [price for price in prices if price is not None]
    assert len(known) > 0.9 * len(prices)
    assert max(known) < Decimal("0.001")


def test_every_row_can_be_found_by_its_id(catalog):
    """No row hides another."""
    assert [] == [model.id for model in catalog if catalog.get(model.id) is not model]


def test_the_dated_name_of_a_reply_leads_back(catalog):
    """A reply names the dated model; it is priced as the one that was asked for."""
    assert "anthropic/claude-sonnet-4.5" == catalog.get("anthropic/claude-4.5-sonnet-20250929").id
