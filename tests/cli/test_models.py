"""`orrouter models`: choosing among the catalog's models."""

from __future__ import annotations

import json

import pytest

from orrouter.catalog.catalog import Catalog
from orrouter.catalog.model import Model
from orrouter.cli.models import ModelsOptions, choose, row_json

CHEAP = Model.read(
    {
        "id": "acme/cheap",
        "pricing": {"prompt": "0.000001", "completion": "0.000002"},
        "context_length": 8_000,
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "supported_parameters": [],
    }
)
DEAR = Model.read(
    {
        "id": "acme/dear",
        "name": "Acme: The Dear One",
        "pricing": {"prompt": "0.000002", "completion": "0.00001"},
        "context_length": 200_000,
        "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
        "supported_parameters": ["tools"],
    }
)
FREE = Model.read({"id": "acme/free:free", "pricing": {"prompt": "0", "completion": "0"}})
UNKNOWN = Model.read({"id": "acme/unknown"})
ALL = (FREE, DEAR, UNKNOWN, CHEAP)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["acme/cheap", "acme/dear", "acme/free:free", "acme/unknown"]),
        ({"free": True}, ["acme/free:free"]),
        ({"vision": True}, ["acme/dear"]),
        ({"tools": True}, ["acme/dear"]),
        ({"context": 8_000}, ["acme/cheap", "acme/dear"]),
        ({"context": 8_001}, ["acme/dear"]),
        ({"max_price": "2"}, ["acme/cheap", "acme/free:free"]),
        ({"max_price": "$10"}, ["acme/cheap", "acme/dear", "acme/free:free"]),
        ({"max_price": "$0.002/K"}, ["acme/cheap", "acme/free:free"]),
        ({"search": "DEAR one"}, ["acme/dear"]),
        ({"search": ":free"}, ["acme/free:free"]),
        ({"vision": True, "free": True}, []),
    ],
)
def test_every_filter_narrows(asked, found):
    """Each option keeps those that surely fit, by name; what is not known of a model does not count as given."""
    options = ModelsOptions(**asked)
    assert found == [model.id for model in choose(options, ALL, options.most())]


def test_the_list_is_printed_as_a_table(run):
    """A row a model; how many there are, and of which day the list is, stands on stderr."""
    result = run("models", "--search", "anthropic/claude-sonnet-4.5")
    rows = result.stdout.splitlines()
    assert 0 == result.exit_code
    assert rows[0].split() == ["model", "context", "in", "out", "reads", "tools", "thinks"]
    assert rows[1].split()[:4] == ["anthropic/claude-sonnet-4.5", "1M", "$3", "$15"]
    assert f"the bundled list of {Catalog().as_of}" in result.stderr


def test_every_model_of_the_bundled_list_can_be_shown(run):
    """No row of the catalog breaks the table."""
    assert len(Catalog()) + 1 == len(run("models").stdout.splitlines())


def test_nothing_found_is_a_failure_that_says_so(run):
    """Whoever asks for too much hears it, and a script can tell by the exit code."""
    result = run("models", "--search", "no-such-model-anywhere")
    assert (1, "") == (result.exit_code, result.stdout)
    assert "no model fits" in result.stderr


@pytest.mark.parametrize("args", [("--max-price", "cheap"), ("--for", "nothing"), ("--context", "0")])
def test_a_value_that_means_nothing_is_wrong_usage(run, args):
    """Prices, use cases and sizes are checked before anything is looked for."""
    assert 2 == run("models", *args).exit_code


def test_json_has_exact_prices_and_says_what_is_unknown():
    """Prices are decimals in text, USD a token; null is unknown."""
    assert ("0.000001", "0.000002", False, None) == (
        row_json(CHEAP)["prompt_price"],
        row_json(CHEAP)["completion_price"],
        row_json(CHEAP)["free"],
        row_json(UNKNOWN)["prompt_price"],
    )


def test_json_is_printed_as_a_list(run):
    """A program reads a list of models, also an empty one."""
    found = json.loads(run("models", "--for", "coding", "--json").stdout)
    assert [] != found
    assert all({"id", "context_length", "prompt_price"} <= row.keys() for row in found)
    assert [] == json.loads(run("models", "--search", "no-such-model", "--json").stdout)


def test_live_asks_the_upstream(run, env, fake_openrouter):
    """`--live` shows what the upstream lists, and not what is bundled."""
    result = run("models", "--live", "--json", env=env)
    assert {one.slug for one in served()} == {row["id"] for row in json.loads(result.stdout)}
    assert ["models"] == [seen.path.partition("?")[0] for seen in fake_openrouter.lookups]


def served():
    from orrouter.testkit.table import default_models

    return default_models()


def test_live_without_an_upstream_fails(run, env, fake_openrouter):
    """An upstream that cannot be reached is told, with exit code 1."""
    fake_openrouter.pause()
    result = run("models", "--live", env=env)
    fake_openrouter.resume()
    assert 1 == result.exit_code
    assert "error: connection_failed" in result.stderr
