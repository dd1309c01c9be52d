"""What a policy does, told in words: routes, layers, targets, and what a request would meet."""

from __future__ import annotations

from typing import Any

import pytest

from orrouter.catalog.catalog import Catalog
from orrouter.catalog.model import Model
from orrouter.core.errors import PolicyError
from orrouter.middleware.base import Options
from orrouter.policy import kinds
from orrouter.policy.explain import Explained, explain
from orrouter.policy.load import load_text
from orrouter.policy.schema import read_policy

POLICY = """\
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
routes:
  - {when: {endpoint: embeddings}, policy: vectors}
  - {when: {model: "google/*", tag: {tier: batch}}, policy: open}
  - {policy: default}
policies:
  default:
    - deadline: {total: 2m}
    - fallback: {models: [a/big, a/blind, {model: gpt-4o, upstream: spare, when: [transient]}]}
    - retry: {attempts: 4, initial: 250ms}
  vectors:
    - retry: {}
  open:
    - record: {content: true}
    - fallback: {models: [a/big], open: true}
"""
ROWS: list[dict[str, Any]] = [
    {
        "id": "a/big",
        "context_length": 200_000,
        "pricing": {"prompt": "0.000003", "completion": "0.000015"},
        "architecture": {"input_modalities": ["text", "image"]},
        "supported_parameters": ["tools", "response_format"],
    },
    {
        "id": "a/blind",
        "context_length": 1000,
        "architecture": {"input_modalities": ["text"]},
        "supported_parameters": [],
    },
]
CATALOG = Catalog([Model.read(row) for row in ROWS])
PICTURE = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}
TOOLS = {"messages": [], "tools": [{"type": "function"}]}


def told(
    request: dict[str, Any] | None = None, name: str | None = None, *, text: str = POLICY, **more: Any
) -> Explained:
    env = more.pop("env", {"KEY": "k", "SPARE_KEY": "s"})
    return explain(read_policy(load_text(text, file="p.yaml", env=env)), CATALOG, name, request, **more)


def skipped(explained: Explained) -> dict[str, str]:
    return {target.slug: target.skipped for target in explained.stacks[0].targets}


# --- what is told ---------------------------------------------------------------------------------------


def test_routes_are_told_in_words():
    """Each with the policy it leads to."""
    assert (
        ("calls to embeddings", "vectors"),
        ("calls that name google/* with the tag tier=batch", "open"),
        ("every other call", "default"),
    ) == told().routes


def test_without_routes_every_call_takes_the_one_policy():
    """The route that nobody wrote is told too."""
    text = POLICY.partition("routes:")[0] + "policies: {mine: [retry: {}]}"
    assert (("every call", "mine"),) == told(text=text).routes


def test_layers_are_told_from_the_outermost_inward():
    """Those that nobody wrote are marked."""
    steps = told().stacks[0].steps
    assert [
        ("record", True),
        ("deadline", False),
        ("fallback", False),
        ("retry", False),
        ("attempt", True),
        ("reserve", True),
    ] == [(step.kind, step.added) for step in steps]


def test_a_record_that_is_written_is_not_marked():
    """It stands in the file."""
    assert ("record", False) == (told().stacks[2].steps[0].kind, told().stacks[2].steps[0].added)


def test_a_layer_says_what_it_does_with_its_options():
    """In numbers of the policy, not in those of the defaults."""
    assert (
        "up to 4 tries at a target, pauses drawn from up to 250ms doubling to 8s, "
        "at most 3s while another target could serve, 30s where none could"
    ) == told().stacks[0].steps[3].says


def test_targets_are_told_in_order_with_what_is_known():
    """Price, window and abilities of the catalog, or of the policy's own list."""
    assert [
        "a/big at openrouter: $3.00/M in, $15.00/M out; 200,000 tokens; tools, structured output, images",
        "a/blind at openrouter: 1,000 tokens",
        "gpt-4o at spare, only after transient: $2.50/M in, $10.00/M out; 128,000 tokens",
    ] == [str(target) for target in told().stacks[0].targets]


def test_a_policy_without_a_chain_asks_what_is_named():
    """Or the default model of whoever sends."""
    assert ["the default model at openrouter"] == [str(target) for target in told(name="vectors").stacks[0].targets]
    named = told({"input": "x", "model": "e/m"}).stacks[0]
    assert ["e/m at openrouter: no catalog knows it"] == [str(target) for target in named.targets]


def test_every_policy_is_told_unless_one_is_named():
    """In the order of the file."""
    assert ["default", "vectors", "open"] == [stack.name for stack in told().stacks]
    assert ["open"] == [stack.name for stack in told(name="open").stacks]


def test_an_unknown_name_is_an_error_with_a_hint():
    """Also where a request names it."""
    for explained in (lambda: told(name="opne"), lambda: told({"model": "policy/opne"})):
        with pytest.raises(PolicyError) as caught:
            explained()
        assert "there is no policy 'opne'; did you mean 'open'?" == str(caught.value)


# --- a request ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "because", "request_", "more"),
    [
        ("default", "the route for every other call", {"messages": []}, {}),
        ("default", "the route for every other call", {"prompt": "x"}, {}),
        ("vectors", "the route for calls to embeddings", {"input": "x"}, {}),
        ("open", "its model is policy/open", {"model": "policy/open"}, {}),
        ("open", "it was asked for by name", {"messages": []}, {"name": "open"}),
        ("default", "the route for every other call", {"model": "google/x"}, {}),
        (
            "open",
            "the route for calls that name google/* with the tag tier=batch",
            {"models": ["google/x"]},
            {"tags": {"tier": "batch"}},
        ),
    ],
)
def test_a_request_tells_its_policy_and_why(chosen: str, because: str, request_: dict[str, Any], more: dict[str, Any]):
    """As a router would choose it; only that policy is told."""
    explained = told(request_, **more)
    assert (chosen, because, [chosen]) == (
        explained.chosen,
        explained.because,
        [stack.name for stack in explained.stacks],
    )


@pytest.mark.parametrize(
    ("request_", "reasons"),
    [
        ({"messages": []}, ["", "", ""]),
        (PICTURE, ["", "takes no image", ""]),
        (TOOLS, ["", "takes no tools", ""]),
        (
            {"messages": [{"role": "user", "content": "x" * 9000}]},
            ["", "the prompt does not fit a context of 1000 tokens", ""],
        ),
    ],
)
def test_who_cannot_serve_a_request_is_told_with_the_reason(request_: dict[str, Any], reasons: list[str]):
    """What the catalog does not know never counts against a target."""
    assert reasons == list(skipped(told(request_)).values())


def test_a_target_without_a_key_is_told_with_any_request_and_none():
    """It would be skipped by every call."""
    env = {"KEY": "k"}
    assert {"a/big": "", "a/blind": "", "gpt-4o": "upstream spare has no key"} == skipped(told(env=env))


def test_a_key_that_is_still_to_be_set_counts_as_there():
    """A policy is explained as it will be; the variable is told beside it."""
    explained = told(env={})
    assert (("KEY",), "") == (explained.unset, explained.stacks[0].targets[0].skipped)


def test_a_model_that_the_request_names_goes_first():
    """If it is in the chain."""
    assert ["a/blind", "a/big", "gpt-4o"] == list(skipped(told({"model": "a/blind"})))


def test_a_model_out_of_the_chain_is_told_to_be_refused():
    """With the words of the router, unless the chain is open."""
    refused = told({"model": "b/c"}).stacks[0]
    assert (
        "b/c is not in the policy's chain (a/big, a/blind, gpt-4o): name one of those, or set open: true"
        == refused.refused
    )
    assert ["b/c", "a/big"] == list(skipped(told({"model": "b/c"}, "open")))


def test_a_request_that_nobody_can_serve_is_told_to_be_refused():
    """All targets are skipped, each with its reason."""
    text = POLICY.replace("a/big, a/blind, {model: gpt-4o, upstream: spare, when: [transient]}", "a/blind")
    stack = told(PICTURE, text=text).stacks[0]
    assert ("no target can serve this request", ["takes no image"]) == (
        stack.refused,
        [target.skipped for target in stack.targets],
    )


@pytest.mark.parametrize("request_", [{}, {"model": 7, "messages": None}, {"models": "x", "messages": "x"}])
def test_an_odd_request_is_explained_all_the_same(request_: dict[str, Any]):
    """It is the upstream's affair to refuse it."""
    assert "default" == told(request_).stacks[0].name


def test_a_policy_that_cannot_be_built_is_not_explained():
    """The mistake is raised with its place."""
    text = POLICY.replace("    - fallback: {models: [a/big], open: true}", "    - record: {}")
    with pytest.raises(PolicyError, match="p.yaml:24:7: record stands twice in this policy, first on line 23"):
        told(text=text)


def test_it_reads_as_text():
    """Plain, for a pipe or a log."""
    assert """\
p.yaml
not set: KEY
calls to embeddings -> vectors
calls that name google/* with the tag tier=batch -> open
every other call -> default
this request takes vectors: the route for calls to embeddings

policy vectors, from the outermost layer inward
  record   writes down every try, wait and decision, without what was asked and answered (always there)
  retry    up to 3 tries at a target, pauses drawn from up to 500ms doubling to 8s, at most 3s while another target could serve, 30s where none could
  attempt  makes one try and notes how it went; a chat's answer goes up when it is whole (always there)
  reserve  under a limit, holds the worst case of each try before it is sent: 4096 tokens where none are named, at 1.25 times the price; refuses a model without a price (always there)
  asks
  1. e/m at openrouter: no catalog knows it""" == str(told({"input": "x", "model": "e/m"}, env={}))


# --- sentences ------------------------------------------------------------------------------------------

SENTENCES = [
    ("record", {"content": True}, "writes down every try, wait and decision, with the request and the answer"),
    ("retry", {"attempts": 1}, "asks no target twice"),
    ("deadline", {"total": "90s"}, "ends the whole call after 1m30s"),
    ("deadline", {"connect": "5s", "stall": "30s", "dead": "1m"}, "gives each try 5s to connect, 30s between words, 1m without a byte"),
    (
        "deadline",
        {"first_token": "15s", "last_first_token": "20s"},
        ("gives each try 15s to the first word; "
        "waits 20s for the first word where no other target is left or the model reasons"),
    ),
    ("fallback", {"models": ["a/b"]}, "asks one target"),
    (
        "fallback",
        {"models": ["a/b", "c/d"], "when": ["transient", "moderated"], "open": True, "hold": 3},
        ("asks 2 targets in order until one answers; goes on only after transient or moderated; "
        "a caller may name other models too; "
        "keeps back the first 3 events of a stream: what breaks before is asked elsewhere"),
    ),
    ("provider", {}, "passes on what the caller asks"),
    (
        "provider",
        {"zdr": True, "models": {"a/*": {"order": ["x", "y"]}}},
        "asks OpenRouter for providers with zdr true; for a/* order x then y",
    ),
    ("provider", {"max_price": {"prompt": 1}}, "asks OpenRouter for providers with max_price (prompt 1.0)"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options", "sentence"), SENTENCES)
def test_each_layer_has_its_sentence(kind: str, options: dict[str, Any], sentence: str):
    """What it does, in words for people."""
    assert sentence == kinds.kind(kind).model_validate(options).says()


def test_a_layer_without_a_sentence_shows_its_options():
    """So does one of an installed package."""

    class Loud(Options):
        kind = "loud"
        marks: int = 1
        names: tuple[str, ...] = ()

    assert ("works with its defaults", "works with marks 3") == (Loud().says(), Loud(marks=3).says())
