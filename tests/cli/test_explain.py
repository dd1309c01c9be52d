"""`orrouter explain`: what a policy does, and what it would do with a request."""

from __future__ import annotations

import json

import pytest

TWO = """\
version: 1
upstreams:
  openrouter:
    base_url: https://openrouter.ai/api/v1
    api_key: ${OPENROUTER_API_KEY}
routes:
  - {when: {tag: {tier: batch}}, policy: frugal}
  - {policy: default}
policies:
  default:
    - fallback: {models: [anthropic/claude-sonnet-4.5, {model: openai/gpt-4o, when: [overloaded]}]}
    - retry: {}
  frugal:
    - fallback: {models: [deepseek/deepseek-chat]}
"""
KEY = {"OPENROUTER_API_KEY": "sk-or-v1-0123456789"}


@pytest.fixture
def two(tmp_path):
    path = tmp_path / "two.yaml"
    path.write_text(TWO)
    return path


def words(result) -> str:
    return " ".join(result.stdout.split())


def test_routes_layers_and_targets_are_told(run, two):
    """Each policy with its layers from the outermost inward, and its targets in order."""
    result = run("explain", two, env=KEY)
    told = words(result)
    assert 0 == result.exit_code
    assert "calls with the tag tier=batch -> frugal" in told
    assert told.index("record ") < told.index("fallback ") < told.index("retry ") < told.index("attempt ")
    assert "1 anthropic/claude-sonnet-4.5 openrouter $3.00/M in, $15.00/M out 1,000,000" in told
    assert "openai/gpt-4o only after overloaded" in told


def test_one_policy_may_be_asked_for(run, two):
    """`--name` tells one policy only."""
    told = words(run("explain", two, "--name", "frugal", env=KEY))
    assert "policy frugal" in told
    assert "policy default" not in told


def test_a_request_shows_its_way(run, two, tmp_path):
    """With a request and its tags: the policy that it takes and why, and who would be skipped."""
    request = tmp_path / "r.json"
    request.write_text(json.dumps({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}))
    told = words(run("explain", two, "--request", request, "--tag", "tier=batch", env=KEY))
    assert "this request takes frugal" in told
    assert "deepseek/deepseek-chat is skipped: takes no audio" in told
    assert "refused: no target can serve this request" in told


def test_a_request_may_come_by_standard_input(run, two):
    """A dash reads the request from a pipe."""
    typed = json.dumps({"model": "openai/gpt-4o", "messages": []})
    told = words(run("explain", two, "--request", "-", typed=typed, env=KEY))
    assert "this request takes default" in told
    assert told.index("1 openai/gpt-4o") < told.index("2 anthropic/claude-sonnet-4.5")


def test_a_key_that_is_not_set_stops_nothing(run, two):
    """A policy can be explained before its variables are there."""
    result = run("explain", two, env={"OPENROUTER_API_KEY": None})
    assert 0 == result.exit_code
    assert "not set: OPENROUTER_API_KEY" in result.stdout


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("TWO", "--policy", "TWO"),
        ("TWO", "--name", "nobody"),
        ("TWO", "--request", "/nowhere/r.json"),
        ("TWO", "--tag", "novalue"),
        ("/nowhere/policy.yaml",),
    ],
)
def test_wrong_usage_and_wrong_policies_exit_2(run, two, args):
    """No file, two files, a name or request that is not there: exit 2, with a message and no traceback."""
    result = run("explain", *[two if one == "TWO" else one for one in args], env=KEY)
    assert 2 == result.exit_code
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("text", "told"), [("{", "is no JSON"), ("[]", "is no JSON object")])
def test_a_request_that_is_none_is_refused(run, two, text, told):
    """A request is a JSON object."""
    result = run("explain", two, "--request", "-", typed=text, env=KEY)
    assert 2 == result.exit_code
    assert told in " ".join(result.stderr.split())


def test_it_tells_the_most_that_a_request_may_cost(run, tmp_path):
    """Under a limit each target is told with its ceiling, or why there is none."""
    file = tmp_path / "p.yaml"
    file.write_text(
        "version: 1\nupstreams:\n  openrouter:\n    base_url: https://a.b\n    api_key: ${OPENROUTER_API_KEY}\n"
        "policies:\n  default:\n    - cost_cap: {}\n    - fallback: {models: [openai/gpt-4o, no/such]}\n"
    )
    request = tmp_path / "r.json"
    request.write_text('{"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 100}')
    told = words(run("explain", file, "--request", request, env=KEY))
    assert "openai/gpt-4o: at most $0.0" in told
    assert "and 100 out" in told
    assert "no/such: refused under a limit" in told
