"""Plugins, server tools and searches: free ones pass, bounded ones are held, the rest is refused with its option."""

from __future__ import annotations

import pytest

from orrouter.catalog.ceiling import Bounds, Unbounded, ceiling
from orrouter.catalog.model import Model
from orrouter.catalog.price import Price

PRICE = Price.read({"prompt": "0.000001", "completion": "0.000004", "web_search": "0.01"})
MODEL = Model("a/plain", PRICE, context_length=10_000, input_modalities=frozenset({"text"}))
HELLO = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 100}
PDF = {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_data": "x"}}]}], "max_tokens": 100}
SEARCH = "openrouter:web_search"
STEPS = [{"type": "step_count_is", "step_count": 3}]
TURN = 10_000 * 1_250 + 100 * 5_000
"""A whole context read and the whole answer written, in nano-USD."""


def worst(body=HELLO, model=MODEL, *, dialect="openrouter", slug="", **options):
    return ceiling(body, "chat/completions", model, dialect=dialect, bounds=Bounds(**options), slug=slug)


def refusal(body=HELLO, **more):
    with pytest.raises(Unbounded) as refused:
        worst(body, **more)
    return refused.value


@pytest.mark.parametrize(
    "fields",
    [
        {"plugins": []},
        {"plugins": [{"id": "response-healing"}, {"id": "context-compression"}]},
        {"plugins": [{"id": "web", "enabled": False}]},
        {"tool_choice": "auto"},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"web_search_options": None},
    ],
)
def test_what_has_no_fee_changes_nothing(fields):
    """Plugins without a price, and those that are turned off, cost nothing."""
    assert worst() == worst({**HELLO, **fields})


@pytest.mark.parametrize(
    ("fields", "name", "field"),
    [
        ({"plugins": [{"id": "web"}]}, "web", "plugins"),
        ({"plugins": [{"id": "fusion"}]}, "fusion", "plugins"),
        ({"plugins": [{"id": "web-fetch", "max_uses": 2}]}, "web-fetch", "plugins"),
        ({"plugins": [{}]}, "None", "plugins"),
        ({"web_search_options": {}}, "web_search_options", "web_search_options"),
        ({"tools": [{"type": SEARCH}]}, SEARCH, "tools"),
        ({"tools": [{"type": "openrouter:datetime"}]}, "openrouter:datetime", "tools"),
        ({"tools": [{"type": "code_interpreter"}]}, "code_interpreter", "tools"),
        ({"tool_choice": {"type": "web_search_preview"}}, "web_search_preview", "tools"),
    ],
)
def test_a_fee_without_a_bound_is_refused_until_a_policy_names_one(fields, name, field):
    """The error names the option; with it, that sum is held for the request and the bound is an estimate."""
    refused = refusal({**HELLO, **fields})
    assert (field, f'fees: {{"{name}": $0.05}}') == (refused.field, refused.option)
    assert refused.option in str(refused)
    bound, plain = worst({**HELLO, **fields}, fees={name: 50_000_000}), worst({**HELLO, **fields}, fees={name: 0})
    assert (50_000_000, f"{name}: no cap bounds its fees") == (bound.cost() - plain.cost(), bound.estimate)


@pytest.mark.parametrize(
    ("slug", "name"),
    [
        ("a/plain:online", "web"),
        ("a/plain:free:online", "web"),
        ("perplexity/sonar", "web_search"),
        ("openai/gpt-4o-search-preview", "web_search"),
        ("openai/o3-deep-research", "web_search"),
        ("openrouter/fusion", "openrouter/fusion"),
    ],
)
def test_a_name_may_ask_for_a_fee(slug, name):
    """Some suffixes turn a search on, and some models search or ask others by themselves."""
    assert f'fees: {{"{name}": $0.05}}' == refusal(slug=slug).option
    assert 7 == worst(slug=slug, fees={name: 7}).fixed - worst().fixed


@pytest.mark.parametrize("slug", ["a/plain:free", "a/plain:floor", "a/plain:exacto", "a/plain:thinking", "~a/latest"])
def test_other_suffixes_cost_nothing(slug):
    """They say how a model is reached, or are models of their own."""
    assert worst() == worst(slug=slug)


@pytest.mark.parametrize("slug", ["@preset/mine", "a/plain@preset/mine"])
def test_a_preset_is_admitted_by_name(slug):
    """What stands in a preset nobody here can see."""
    assert "admit: [preset]" == refusal(slug=slug).option
    assert "preset is admitted" == worst(slug=slug, admit=frozenset({"preset"})).estimate


# --- searches with a bound --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "search"),
    [
        ({"engine": "exa"}, 15_000_000),
        ({"engine": "parallel"}, 5_000_000),
        ({"engine": "native"}, 12_500_000),
        ({}, 15_000_000),
        ({"engine": "exa", "max_results": 25}, 30_000_000),
    ],
)
def test_the_web_plugin_is_held_for_every_use(settings, search):
    """Two uses are two fees and three turns, each of a full context: what was found is read."""
    bound = worst({**HELLO, "plugins": [{"id": "web", "max_uses": 2, **settings}]})
    assert 2 * search + 3 * TURN == bound.cost()
    assert "web: no cap bounds its fees" == bound.estimate


def test_a_search_tool_is_held_for_every_step():
    """Three steps and a last word are four turns; the fees are those of the searches."""
    tool = {"type": SEARCH, "parameters": {"engine": "exa", "max_uses": 2}}
    bound = worst({**HELLO, "tools": [tool], "stop_server_tools_when": STEPS})
    assert 2 * 15_000_000 + 4 * TURN == bound.cost()


@pytest.mark.parametrize(
    ("parameters", "stop"),
    [
        ({"engine": "exa", "max_uses": 2}, None),
        ({"engine": "exa"}, STEPS),
        ({"engine": "firecrawl", "max_uses": 2}, STEPS),
        ({"engine": "exa", "max_uses": "2"}, STEPS),
        ({"engine": "exa", "max_uses": True}, STEPS),
        ({"engine": "exa", "max_uses": 2, "max_results": -4}, STEPS),
        ({"engine": "exa", "max_uses": 2}, [{"type": "max_cost", "max_cost_in_dollars": 1}]),
    ],
)
def test_a_search_tool_without_every_bound_is_refused(parameters, stop):
    """Uses, steps and a known fee are all needed."""
    body = {**HELLO, "tools": [{"type": SEARCH, "parameters": parameters}], "stop_server_tools_when": stop}
    assert "tools" == refusal(body).field


def test_a_native_search_without_a_listed_price_is_refused():
    """The provider's own search costs what its list says, or nobody knows."""
    model = Model("b", Price.read({"prompt": "0", "completion": "0"}), context_length=10_000)
    assert (
        "plugins"
        == refusal({**HELLO, "plugins": [{"id": "web", "max_uses": 1, "engine": "native"}]}, model=model).field
    )


# --- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["native", "cloudflare-ai", "pdf-text"])
def test_a_free_reader_of_files_costs_no_fee(engine):
    """Only the context is filled."""
    bound = worst({**PDF, "plugins": [{"id": "file-parser", "pdf": {"engine": engine}}]})
    assert (TURN, "") == (bound.cost(), bound.estimate)


@pytest.mark.parametrize(
    "plugins", [[], [{"id": "file-parser"}], [{"id": "file-parser", "pdf": {"engine": "mistral-ocr"}}]]
)
def test_a_reader_of_files_with_a_price_by_the_page_is_refused(plugins):
    """Nobody knows how many pages there are; without an engine the upstream may take that one."""
    assert 'fees: {"file-parser": $0.05}' == refusal({**PDF, "plugins": plugins}).option


def test_a_model_that_reads_files_needs_no_parser():
    """It is given the file itself."""
    model = Model("a/reader", PRICE, context_length=10_000, input_modalities=frozenset({"file"}))
    assert TURN == worst(PDF, model).cost()


# --- other upstreams, odd lists ---------------------------------------------------------------------------


def test_another_dialect_never_sees_what_only_openrouter_runs():
    """Plugins and server tools are left out there, so they cost nothing."""
    body = {**HELLO, "plugins": [{"id": "web"}], "tools": [{"type": SEARCH}]}
    assert "openai dialect: no price cap can be sent" == worst(body, dialect="openai", slug="gpt:online").estimate


@pytest.mark.parametrize("field", ["plugins", "tools"])
@pytest.mark.parametrize("odd", ["web", {"id": "web"}, [None], ["web"]])
def test_a_list_that_is_none_is_refused(field, odd):
    """What cannot be read may cost anything."""
    assert field == refusal({**HELLO, field: odd}).field
