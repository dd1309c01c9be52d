"""What the fake upstream refuses, in OpenRouter's words."""

from __future__ import annotations

import json

import pytest

from orrouter.testkit.ask import Ask
from orrouter.testkit.failures import Failure
from orrouter.testkit.routing import arranged, route
from orrouter.testkit.table import FakeModel, FakeProvider, default_models

HELLO = [{"role": "user", "content": "Hello"}]
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
TOOL = {"type": "function", "function": {"name": "read", "parameters": {}}}
MODELS = {one.slug: one for one in default_models()}
LLAMA = MODELS["meta-llama/llama-3.3-70b-instruct"]


def routed(model: FakeModel = LLAMA, **body: object) -> FakeProvider | Failure:
    return route(Ask("chat/completions", {"messages": HELLO, **body}), model)


def step(failure: object) -> str:
    assert isinstance(failure, Failure)
    return json.loads(failure.data)["error"]["metadata"]["failed_routing_step"]


def tag(provider: object) -> str:
    assert isinstance(provider, FakeProvider)
    return provider.tag


def test_the_first_provider_serves():
    """Without a wish the choice can be foretold."""
    assert "deepinfra/turbo" == tag(routed())


@pytest.mark.parametrize("name", ["groq", "Groq", "GROQ"])
def test_only_names_a_slug_or_a_display_name(name):
    """Names are matched in any case."""
    assert "groq" == tag(routed(provider={"only": [name]}))


def test_a_base_slug_means_its_variants():
    """`deepinfra` matches deepinfra/turbo."""
    assert "deepinfra/turbo" == tag(routed(provider={"only": ["deepinfra"]}))


def test_order_is_soft_while_fallbacks_are_allowed():
    """An order that no provider fits is passed over."""
    assert "deepinfra/turbo" == tag(routed(provider={"order": ["azure"]}))


def test_order_is_a_closed_set_without_fallbacks():
    """The same order with allow_fallbacks false leaves none."""
    assert "Filter by Fallback" == step(routed(provider={"order": ["azure"], "allow_fallbacks": False}))


def test_order_comes_first():
    """The named provider is asked before the others."""
    assert "together" == tag(routed(provider={"order": ["together"]}))


@pytest.mark.parametrize(
    ("sort", "first"), [("price", "deepinfra/turbo"), ("throughput", "groq"), ({"by": "throughput"}, "groq")]
)
def test_sort_ranks_the_providers(sort, first):
    """By price or by throughput, also in the long form."""
    assert first == tag(routed(provider={"sort": sort}))


def test_a_variant_is_a_sort():
    """`:nitro` asks the fastest first."""
    assert "groq" == arranged(LLAMA.providers, {}, "nitro")[0].tag


@pytest.mark.parametrize(
    ("wish", "failed"),
    [
        ({"only": ["azure"]}, "Filter by Allowed Providers"),
        ({"ignore": ["deepinfra", "together", "groq"]}, "Filter by Ignored Providers"),
        ({"max_price": {"prompt": 0.01}}, "Filter by Max Price"),
        ({"max_price": {"completion": "0.1"}}, "Filter by Max Price"),
        ({"quantizations": ["int4"]}, "Filter by Quantization"),
    ],
)
def test_each_wish_names_its_step(wish, failed):
    """The failing filter stands in the metadata."""
    assert failed == step(routed(provider=wish))


def test_a_price_equal_to_its_cap_is_refused():
    """The comparison is strict: the cheapest prompt price of 0.13 does not fit a cap of 0.13."""
    assert "Filter by Max Price" == step(routed(provider={"max_price": {"prompt": 0.13}}))


def test_the_funnel_counts_the_survivors():
    """Each filter that removed somebody is in the funnel."""
    failure = routed(provider={"ignore": ["groq"], "max_price": {"prompt": 0.01}})
    assert isinstance(failure, Failure)
    funnel = json.loads(failure.data)["error"]["metadata"]["routing_funnel"]
    assert [("Initial Endpoints", 3), ("Filter by Ignored Providers", 2)] == [tuple(one.values()) for one in funnel]


def test_images_need_a_model_that_sees():
    """A text model refuses an image with a 404."""
    assert "Filter by Image Support" == step(routed(messages=IMAGE))


def test_tools_need_a_model_that_calls():
    """A model without tools refuses them."""
    assert "Filter by Tool Compatibility" == step(routed(MODELS["microsoft/wizardlm-2-8x22b"], tools=[TOOL]))


def test_a_data_policy_removes_who_keeps_data():
    """data_collection deny leaves the provider that keeps nothing."""
    assert "novita" == tag(routed(MODELS["deepseek/deepseek-chat"], provider={"data_collection": "deny"}))


def test_required_parameters_are_compared():
    """require_parameters refuses what a model would silently drop."""
    wish = {"provider": {"require_parameters": True}, "response_format": {"type": "json_object"}}
    assert "Filter by Parameters" == step(routed(MODELS["microsoft/wizardlm-2-8x22b"], **wish))


def test_a_long_prompt_finds_the_roomy_provider():
    """Who cannot hold prompt and answer is passed over."""
    prompt = [{"role": "user", "content": "x" * 4 * 20_000}]
    model = MODELS["microsoft/wizardlm-2-8x22b"]
    assert "infermatic" == tag(routed(model, provider={"order": ["infermatic"]}))
    assert "novita" == tag(routed(model, messages=prompt, provider={"order": ["infermatic"]}))


def test_a_prompt_longer_than_every_context_is_a_400():
    """The message names the limit and what was asked."""
    failure = routed(messages=[{"role": "user", "content": "x" * 4 * 200_000}], max_tokens=10)
    assert isinstance(failure, Failure)
    words = "maximum context length is 131072 tokens. However, you requested about 200010 tokens (200000 of text input"
    assert (400, True) == (failure.status, words in json.loads(failure.data)["error"]["message"])


def test_a_chat_model_embeds_nothing():
    """The outputs must fit the endpoint."""
    failure = route(Ask("embeddings", {"input": "x"}), LLAMA)
    assert "Filter by Model Output Modalities" == step(failure)


async def test_the_refusal_arrives_as_a_404(client):
    """On the wire the body is the funnel's."""
    got = await client.chat(provider={"only": ["groq"]})
    assert (404, ["groq"]) == (got.status, got.json["error"]["metadata"]["requested_providers"])
