"""Which model a slug means, and lists that are replaced as a whole."""

from __future__ import annotations

import pytest

from orrouter.catalog.catalog import Catalog
from orrouter.catalog.model import Model

SLUGS = ("openai/gpt-4o", "openai/gpt-4o:free", "openai/gpt-4o:extended", "qwen/qwen3", "qwen/qwen3:free")
CLAUDE = Model("anthropic/claude-sonnet-4.5", canonical_slug="anthropic/claude-4.5-sonnet-20250929")
LATEST = Model("~anthropic/claude-sonnet-latest", alias_target="anthropic/claude-sonnet-4.5")
LOST = Model("~anthropic/claude-lost-latest", alias_target="anthropic/claude-lost")


@pytest.fixture
def catalog():
    return Catalog([*map(Model, SLUGS), CLAUDE, LATEST, LOST], source="test", as_of="2026-11-21")


@pytest.mark.parametrize(
    ("slug", "means"),
    [
        ("openai/gpt-4o", "openai/gpt-4o"),
        ("openai/gpt-4o:free", "openai/gpt-4o:free"),
        ("openai/gpt-4o:extended", "openai/gpt-4o:extended"),
        ("qwen/qwen3:extended", "qwen/qwen3"),
        ("qwen/qwen3:nitro", "qwen/qwen3"),
        ("qwen/qwen3:floor", "qwen/qwen3"),
        ("qwen/qwen3:exacto", "qwen/qwen3"),
        ("qwen/qwen3:online", "qwen/qwen3"),
        ("qwen/qwen3:thinking", "qwen/qwen3"),
        ("qwen/qwen3:free:online", "qwen/qwen3:free"),
        ("qwen/qwen3@preset/mine", "qwen/qwen3"),
        ("qwen/qwen3:nitro@preset/mine", "qwen/qwen3"),
        ("anthropic/claude-4.5-sonnet-20250929", "anthropic/claude-sonnet-4.5"),
        ("anthropic/claude-4.5-sonnet-20250929:nitro", "anthropic/claude-sonnet-4.5"),
        ("~anthropic/claude-sonnet-latest", "anthropic/claude-sonnet-4.5"),
        ("~anthropic/claude-lost-latest", "~anthropic/claude-lost-latest"),
    ],
)
def test_a_slug_leads_to_its_model(catalog, slug, means):
    """By id, canonical slug, alias, preset and suffix; an alias whose target is unknown stands for itself."""
    assert means == catalog.get(slug).id


@pytest.mark.parametrize(
    "slug",
    [
        "",
        "nobody/nothing",
        "anthropic/claude-sonnet-4.5:free",
        "openai/gpt-4o:batch",
        "@preset/mine",
        "openrouter/auto",
    ],
)
def test_what_the_catalog_does_not_know_is_none(catalog, slug):
    """A free or batch model is one of its own, and a router is none."""
    assert catalog.get(slug) is None


@pytest.mark.parametrize("order", [1, -1])
def test_a_shared_canonical_slug_means_the_base(order):
    """A free row bears its base's canonical slug; the slug means the base in any order of rows."""
    rows = [Model("a/b:free", canonical_slug="a/b-2026"), Model("a/b", canonical_slug="a/b-2026")]
    assert "a/b" == Catalog(rows[::order]).get("a/b-2026").id


def test_the_catalog_is_walked_in_its_order(catalog):
    """Iteration, length and `models` agree."""
    assert (*SLUGS, CLAUDE.id, LATEST.id, LOST.id) == tuple(model.id for model in catalog)
    assert catalog.models() == tuple(catalog)
    assert len(catalog) == len(catalog.models())


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("antropic/claude-sonet-4.5", "anthropic/claude-sonnet-4.5"),
        ("claude-sonnet-4.5", "anthropic/claude-sonnet-4.5"),
        ("gpt-4o", "openai/gpt-4o"),
        ("zzz", None),
    ],
)
def test_the_nearest_slug_is_offered(catalog, typed, meant):
    """A slip of the finger or a forgotten author is found; nonsense is not."""
    assert meant == catalog.nearest(typed)


def test_a_swap_replaces_the_whole_list(catalog):
    """After a swap nothing of the old list is left, and source and day are the new one's."""
    catalog.swap([Model("new/one")], source="live", as_of="2026-12-01")
    assert (("new/one",), None, "live", "2026-12-01") == (
        tuple(model.id for model in catalog),
        catalog.get("openai/gpt-4o"),
        catalog.source,
        catalog.as_of,
    )


def test_a_swap_that_fails_halfway_changes_nothing(catalog):
    """A list that breaks while it is read never takes the old one's place."""

    def breaks():
        yield Model("new/one")
        raise RuntimeError("the line broke")

    with pytest.raises(RuntimeError):
        catalog.swap(breaks(), source="live", as_of="2026-12-01")
    assert ("test", None) == (catalog.source, catalog.get("new/one"))


def test_who_walks_the_list_during_a_swap_sees_the_old_one(catalog):
    """Nobody sees half of two lists."""
    walk = iter(catalog)
    next(walk)
    catalog.swap([Model("new/one")], source="live", as_of="")
    assert (*SLUGS[1:], CLAUDE.id, LATEST.id, LOST.id) == tuple(model.id for model in walk)


def test_an_upstream_with_a_list_of_its_own_answers_from_it(catalog):
    """The same slug may be another model elsewhere, and other slugs are unknown there."""
    catalog.add("spare", [Model("openai/gpt-4o", context_length=7)])
    assert (7, None, None) == (
        catalog.get("openai/gpt-4o", upstream="spare").context_length,
        catalog.get("qwen/qwen3", upstream="spare"),
        catalog.get("openai/gpt-4o").context_length,
    )


def test_an_upstream_without_a_list_answers_from_the_shared_one(catalog):
    """A mirror of OpenRouter has OpenRouter's models."""
    assert "qwen/qwen3" == catalog.get("qwen/qwen3", upstream="mirror").id


def test_an_upstreams_list_outlives_a_swap(catalog):
    """What a policy says of an upstream is not the live list's affair."""
    catalog.add("spare", [Model("gpt-4o")])
    catalog.swap([Model("new/one")], source="live", as_of="")
    assert "gpt-4o" == catalog.get("gpt-4o", upstream="spare").id


def test_a_catalog_without_models_is_empty_and_not_the_snapshot():
    """Who hands in an empty list gets an empty catalog."""
    assert (0, False) == (len(Catalog([])), Catalog([]).bundled)


def test_a_swap_ends_the_time_of_the_snapshot():
    """`bundled` tells the snapshot from a list that came later."""
    catalog = Catalog()
    before = catalog.bundled
    catalog.swap([Model("new/one")], source="live", as_of="")
    assert (True, False) == (before, catalog.bundled)
