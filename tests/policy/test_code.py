"""A policy written in code."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from orrouter.core.errors import PolicyError
from orrouter.middleware.base import World
from orrouter.policy.build import build
from orrouter.policy.code import policy_in_code
from orrouter.policy.schema import read_policy
from orrouter.testkit.script import ScriptedTransport

KEY = "sk-or-v1-0123456789abcdef"


def policy_of(**upstream: object) -> dict:
    return {
        "version": 1,
        "upstreams": {"far": {"base_url": "http://far.invalid/v1", **upstream}},
        "policies": {"default": [{"retry": {}}]},
    }


def test_a_key_may_stand_in_it():
    """Unlike in a file; and a written-out policy needs nothing of the environment."""
    policy = read_policy(policy_in_code(policy_of(api_key=KEY), {}))
    assert policy.upstream("far").has_key


@pytest.mark.parametrize(
    ("written", "env", "meant"),
    [
        ("${HOST}", {"HOST": "http://a.b/v1"}, "http://a.b/v1"),
        ("${HOST:-http://c.d/v1}", {}, "http://c.d/v1"),
        ("${HOST:-http://c.d/v1}", {"HOST": ""}, "http://c.d/v1"),
        ("http://$.b/v1", {}, "http://$.b/v1"),
    ],
)
def test_a_variable_means_what_it_means_in_a_file(written, env, meant):
    """With its default where it is not set, or empty."""
    document = policy_in_code(policy_of(base_url=written), env)
    assert meant == document.data["upstreams"]["far"]["base_url"]


def test_a_variable_that_is_not_set_stops_the_building():
    """By its name, at its place."""
    policy = read_policy(policy_in_code(policy_of(api_key="${GONE}"), {}))
    with pytest.raises(PolicyError, match="the environment has no GONE") as caught:
        build(policy, World(), ScriptedTransport({}))
    assert "upstreams.far.api_key" == caught.value.key


def test_half_a_variable_is_refused_and_not_repeated():
    """It may hold half of a secret."""
    with pytest.raises(PolicyError, match="a variable must be the whole value") as caught:
        policy_in_code(policy_of(api_key=f"{KEY}${{REST}}"), {})
    assert ("upstreams.far.api_key", False) == (caught.value.key, KEY in str(caught.value))


def test_what_came_from_the_environment_is_not_repeated_in_an_error():
    """Wherever it stands."""
    with pytest.raises(PolicyError) as caught:
        read_policy(policy_in_code(policy_of(base_url="${HOST}"), {"HOST": "secret-host"}))
    assert "secret-host" not in str(caught.value)


def test_a_key_that_is_no_text_is_refused():
    """As in a file."""
    with pytest.raises(PolicyError, match="a key must be text, and 5 is none") as caught:
        policy_in_code({"policies": {5: []}}, {})
    assert "policies" == caught.value.key


def test_any_mapping_and_any_list_will_do():
    """Frozen ones too; what was handed over stays as it was."""
    data = MappingProxyType(
        {**policy_of(api_key="${KEY}"), "policies": MappingProxyType({"default": ({"retry": {}},)})}
    )
    policy = read_policy(policy_in_code(data, {"KEY": KEY}))
    assert (["default"], "${KEY}") == (list(policy.stacks), data["upstreams"]["far"]["api_key"])


@pytest.mark.parametrize("data", [{}, {"version": 1, "upstreams": "none"}, {"upstreams": {"far": None}}])
def test_what_is_no_policy_is_told(data):
    """By the reader of every policy."""
    with pytest.raises(PolicyError):
        read_policy(policy_in_code(data, {}))
