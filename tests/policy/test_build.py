"""A policy becomes pipelines in the order of its list, and routes that choose between them."""

from __future__ import annotations

from typing import Any

import pytest

from orrouter.catalog.catalog import Catalog
from orrouter.core.errors import PolicyError
from orrouter.middleware.base import World
from orrouter.policy.build import Built, build, targets_of
from orrouter.policy.load import load_text
from orrouter.policy.schema import Policy, read_policy
from orrouter.testkit.script import ScriptedTransport

UPSTREAMS = """\
version: 1
upstreams:
  openrouter:
    base_url: https://openrouter.ai/api/v1
    api_key: ${KEY}
  spare:
    base_url: https://spare.example/v1
    api_key: ${SPARE_KEY:-}
    dialect: openai
    prices: {gpt-4o: {prompt: $2.50/M, completion: $10/M, context: 128000}}
"""
ROUTED = """\
routes:
  - {when: {tag: {tier: batch, team: search}}, policy: batch}
  - {when: {endpoint: embeddings}, policy: vectors}
  - {when: {model: "anthropic/*"}, policy: claude}
  - {when: {model: "*:free", tag: {team: search}}, policy: free}
  - {policy: rest}
policies:
  batch: [retry: {}]
  vectors: [retry: {}]
  claude: [retry: {}]
  free: [retry: {}]
  rest: [retry: {}]
  unrouted: [retry: {}]
"""
FAR = ScriptedTransport({})


def policy(text: str, **env: str) -> Policy:
    return read_policy(load_text(UPSTREAMS + text, file="p.yaml", env=env))


def built(text: str, world: World | None = None) -> Built:
    return build(policy(text, KEY="k"), world or World(catalog=Catalog(())), FAR)


def stack_of(items: str) -> list[str]:
    return [type(layer).__name__ for layer in built(f"policies:\n  default:\n{items}").pipelines["default"].layers]


def refusal(text: str, **env: str) -> str:
    with pytest.raises(PolicyError) as caught:
        build(policy(text, **env), World(catalog=Catalog(())), FAR)
    return str(caught.value)


# --- the stack ------------------------------------------------------------------------------------------


def test_the_list_is_the_order():
    """What is written above is passed first; record above all and attempt below all are added."""
    items = (
        "    - deadline: {total: 1m}\n    - fallback: {models: [a/b]}\n    - retry: {}\n    - deadline: {stall: 9s}\n"
    )
    assert ["Record", "Deadline", "Fallback", "Retry", "Deadline", "AttemptLayer", "Reserve"] == stack_of(items)


def test_the_order_is_the_writers():
    """Another order is another pipeline, also one that is unwise."""
    assert ["Record", "Retry", "Provider", "Fallback", "AttemptLayer", "Reserve"] == stack_of(
        "    - retry: {}\n    - provider: {zdr: true}\n    - fallback: {models: [a/b]}\n"
    )


def test_a_record_that_is_written_is_not_added():
    """Written first it has the options that were given."""
    assert ["Record", "Retry", "AttemptLayer", "Reserve"] == stack_of(
        "    - record: {content: true}\n    - retry: {}\n"
    )


def test_every_policy_has_a_pipeline_over_the_transport():
    """One for each name, all of them over the same far end."""
    pipelines = built(ROUTED).pipelines
    assert ["batch", "vectors", "claude", "free", "rest", "unrouted"] == list(pipelines)
    assert {FAR} == {pipeline.transport for pipeline in pipelines.values()}


# --- routes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "call"),
    [
        ("rest", {}),
        ("vectors", {"endpoint": "embeddings"}),
        ("claude", {"model": "anthropic/claude-sonnet-4.5"}),
        ("rest", {"model": "Anthropic/x"}),
        ("batch", {"tags": {"tier": "batch", "team": "search"}}),
        ("rest", {"tags": {"tier": "batch"}}),
        ("rest", {"tags": {"tier": "batch", "team": "ads"}}),
        ("free", {"model": "x/y:free", "tags": {"team": "search"}}),
        ("rest", {"model": "x/y:free"}),
        ("vectors", {"endpoint": "embeddings", "model": "anthropic/x"}),
        ("batch", {"endpoint": "embeddings", "tags": {"tier": "batch", "team": "search", "more": "x"}}),
    ],
)
def test_the_first_route_that_fits_in_all_its_words_is_taken(chosen: str, call: dict[str, Any]):
    """By tag, model and endpoint; the last route takes what is left."""
    asked = {"endpoint": "chat/completions", "model": "", "tags": {}, **call}
    assert chosen == built(ROUTED).choose(None, **asked)[0]


def test_a_policy_that_is_named_goes_before_every_route():
    """Also one that no route leads to."""
    routed = built(ROUTED)
    assert ("unrouted", routed.pipelines["unrouted"]) == routed.choose("unrouted", "embeddings", "", {})


def test_an_unknown_name_is_an_error_with_a_hint():
    """The name comes from a caller, who may have misspelt it."""
    with pytest.raises(PolicyError) as caught:
        built(ROUTED).choose("batsh", "chat/completions", "", {})
    assert "there is no policy 'batsh'; did you mean 'batch'?" == str(caught.value)


# --- upstreams ------------------------------------------------------------------------------------------


def test_an_upstream_is_a_target_that_names_its_key():
    """The key's name tells keys apart; without a key it is empty."""
    targets = targets_of(policy("policies: {default: [retry: {}]}", KEY="sk-secret"))
    assert ["openrouter", "spare"] == list(targets)
    assert ("openai", "") == (targets["spare"].dialect, targets["spare"].key)
    assert (True, False) == (bool(targets["openrouter"].key), "sk-secret" in str(targets))


def test_a_listed_price_is_known_at_its_upstream():
    """And there alone: the shared list does not learn it."""
    world = World(catalog=Catalog(()))
    built("policies: {default: [retry: {}]}", world)
    assert 128_000 == world.catalog.get("gpt-4o", "spare").context_length
    assert world.catalog.get("gpt-4o") is None


# --- what is refused ------------------------------------------------------------------------------------


def test_a_variable_that_is_not_set_stops_the_building():
    """The error stands where the variable is written and says how to live without it."""
    assert ("p.yaml:5:14: the environment has no KEY; set KEY, or write ${KEY:-} where it may be missing") == refusal(
        "policies: {default: [retry: {}]}"
    )


def test_a_mistake_in_a_stack_stops_the_building():
    """What check calls an error is one here too."""
    error = refusal("policies:\n  default:\n    - retry: {}\n    - deadline: {total: 1m}\n", KEY="k")
    assert (
        "p.yaml:14:18: a total is for the whole call, and this one stands below retry; "
        "write attempt: for the time of each try, or move the total above retry"
    ) == error


def test_a_building_that_fails_leaves_the_world_as_it_was():
    """A router that takes a wrong policy goes on with the one it has."""
    world = World(catalog=Catalog(()))
    built("policies: {default: [retry: {}]}", world)
    before = world.upstreams
    with pytest.raises(PolicyError):
        build(policy("policies: {default: [fallback: {models: [{model: x, upstream: nobody}]}]}", KEY="k"), world, FAR)
    assert before is world.upstreams
