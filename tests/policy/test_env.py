"""A policy that the environment alone says."""

from __future__ import annotations

import pytest

from orrouter.catalog.catalog import Catalog
from orrouter.core.errors import PolicyError
from orrouter.policy.check import check
from orrouter.policy.env import default_model, policy_from_env
from orrouter.policy.schema import Policy, read_policy

KEY = {"OPENROUTER_API_KEY": "sk-or-v1-secret"}


def policy(**env: str) -> Policy:
    return read_policy(policy_from_env({**KEY, **env}))


def refusal(env: dict[str, str]) -> str:
    with pytest.raises(PolicyError) as caught:
        read_policy(policy_from_env(env))
    return str(caught.value)


def test_a_key_is_enough():
    """One upstream and one policy, which times out, retries and spares who fails; check has nothing to say."""
    found = policy()
    assert ["deadline", "retry", "breaker", "deadline"] == [layer.kind for layer in found.stacks["default"]]
    assert ("https://openrouter.ai/api/v1", {}) == (
        found.upstream("openrouter").base_url,
        found.upstream("openrouter").headers,
    )
    assert () == check(found, Catalog())


def test_the_site_and_the_address_are_taken():
    """As from a file; what is empty counts as not set."""
    upstream = policy(
        OPENROUTER_BASE_URL="http://localhost:1/v1", OPENROUTER_SITE_URL="https://a.example", OPENROUTER_SITE_NAME=""
    ).upstream("openrouter")
    assert ("http://localhost:1/v1", {"HTTP-Referer": "https://a.example"}) == (upstream.base_url, upstream.headers)


@pytest.mark.parametrize(("text", "seconds"), [("", 120.0), ("30000", 30.0), ("1", 0.001), ("0500", 0.5)])
def test_the_timeout_is_milliseconds_of_the_whole_call(text: str, seconds: float):
    """Two minutes where none is set."""
    assert seconds == policy(OPENROUTER_TIMEOUT=text).stacks["default"][0].options.model_dump()["total"]


@pytest.mark.parametrize("text", ["0", "30s", "-1", "1.5", "9" * 30, " 5", "٣"])
def test_another_timeout_is_refused(text: str):
    """With an example of the right way to write it."""
    error = f"OPENROUTER_TIMEOUT must be whole milliseconds above 0, not {text!r}; write 30000 for 30 seconds"
    assert error == refusal({**KEY, "OPENROUTER_TIMEOUT": text})


@pytest.mark.parametrize("env", [{}, {"OPENROUTER_API_KEY": ""}])
def test_without_a_key_there_is_no_policy(env: dict[str, str]):
    """The error says what needs none."""
    error = "the environment has no OPENROUTER_API_KEY; set it, or run 'orrouter demo', which needs none"
    assert error == refusal(env)


def test_what_the_environment_holds_is_not_repeated():
    """A key that was put in the wrong variable stays unsaid."""
    error = "the environment: openrouter.base_url cannot be what its variable holds"
    assert error == refusal({**KEY, "OPENROUTER_BASE_URL": "sk-or-v1-secret"})


def test_the_default_model_is_the_environments():
    """Empty where none is set: then it is the account's."""
    assert ("a/b", "") == (default_model({"OPENROUTER_DEFAULT_MODEL": "a/b"}), default_model({}))
