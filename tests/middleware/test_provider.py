"""provider: what policy, target and caller want together is what is sent."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from orrouter.core.call import Target
from orrouter.core.errors import InvalidRequest, NoRoute
from orrouter.middleware.fallback import FallbackOptions
from orrouter.middleware.preferences import Preferences
from orrouter.middleware.provider import ProviderOptions
from orrouter.middleware.retry import RetryOptions
from orrouter.testkit.clock import virtual

PER_MODEL = ProviderOptions(
    data_collection="deny",
    models={"anthropic/*": {"order": ("anthropic", "amazon-bedrock")}, "*": {"sort": "price"}},
)


def sent(run) -> list[object]:
    """The `provider` object of each try; None without one."""
    return [played.call.body.get("provider") for played in run.far.tries]


@virtual
async def test_the_policys_wish_is_sent(road):
    """With every request."""
    run = road({"m": "hi"}, ProviderOptions(data_collection="deny", max_price={"prompt": 1}))
    await run.chat("m")
    assert [{"data_collection": "deny", "max_price": {"prompt": 1.0}}] == sent(run)


@virtual
async def test_it_meets_what_the_caller_asks(road):
    """Tightened, never loosened."""
    run = road({"m": "hi"}, ProviderOptions(data_collection="deny", only=("a", "b")))
    await run.chat("m", {"provider": {"only": ["b", "c"], "data_collection": "allow", "sort": "price"}})
    assert [{"data_collection": "deny", "only": ["b"], "sort": "price"}] == sent(run)


@virtual
async def test_without_any_wish_nothing_is_added(road):
    """The very body of the caller goes down."""
    run = road({"m": "hi"}, ProviderOptions())
    body = {"messages": []}
    call = run.call("m").to(body=body)
    reply = await run.pipeline(call)
    reply.close()
    assert body is run.far.tries[0].call.body


@virtual
async def test_each_model_has_its_own(road):
    """The first pattern that matches is met with what is said for all."""
    run = road({"anthropic/claude": "hi", "openai/gpt": "hi"}, PER_MODEL)
    await run.chat("anthropic/claude")
    await run.chat("openai/gpt")
    await run.chat("anthropic/claude")
    claude = {"data_collection": "deny", "order": ["anthropic", "amazon-bedrock"]}
    assert [claude, {"data_collection": "deny", "sort": "price"}, claude] == sent(run)


@virtual
async def test_a_models_own_order_and_sort_stand(road):
    """They replace what is said for all, which fits other models."""
    options = ProviderOptions(order=("openai",), sort="price", models={"a/*": {"order": ("acme",), "sort": "latency"}})
    run = road({"a/m": "hi"}, options)
    await run.chat("a/m")
    assert [{"order": ["acme"], "sort": "latency"}] == sent(run)


@virtual
async def test_a_targets_own_wish_is_met_too(road):
    """Policy, target and caller together."""
    chain = FallbackOptions(models=({"model": "a", "provider": {"only": ("x", "y", "z"), "sort": "latency"}}, "b"))
    run = road({"a": "hi"}, chain, ProviderOptions(only=("y", "z"), sort="price", zdr=True))
    await run.chat(body={"provider": {"only": ["z", "w"]}})
    assert [{"only": ["z"], "sort": "latency", "zdr": True}] == sent(run)


@virtual
async def test_above_the_chain_a_targets_wish_is_met_as_well(road):
    """In whatever order the layers stand."""
    chain = FallbackOptions(models=({"model": "a", "provider": {"only": ("x", "y")}},))
    run = road({"a": "hi"}, ProviderOptions(only=("y", "z")), chain)
    await run.chat()
    assert [{"only": ["y"]}] == sent(run)


@virtual
async def test_an_upstream_without_routing_gets_no_wish(road):
    """The field is OpenRouter's."""
    run = road({"m": "hi"}, ProviderOptions(sort="price"))
    await run.chat(target=Target("spare", "m", "other", "openai"))
    assert [None] == sent(run)


@virtual
async def test_embeddings_have_providers_too(road):
    """Any POST bears the wish."""
    run = road({"m": {"data": [{"embedding": [0.1]}]}}, ProviderOptions(data_collection="deny"))
    await run.chat("m", endpoint="embeddings")
    assert [{"data_collection": "deny"}] == sent(run)


@virtual
async def test_wishes_that_exclude_each_other_end_at_this_target(road):
    """Nothing is sent; the message names both, and it is not asked again."""
    run = road({"m": "never"}, RetryOptions(), ProviderOptions(only=("a",)))
    error = await run.fails("m", {"provider": {"only": ["b"]}})
    assert (NoRoute, [], "no provider is left: provider.only of the policy (a) and of the call (b) share none") == (
        type(error),
        run.far.models,
        error.message,
    )


@virtual
async def test_wishes_that_exclude_each_other_at_one_model_lead_to_the_next(road):
    """The caller's provider does not serve the first model; it serves the second."""
    only = ProviderOptions(models={"a": {"only": ("x",)}})
    run = road({"a": "never", "b": "served"}, FallbackOptions(models=("a", "b")), only)
    done = await run.chat(body={"provider": {"only": ["y"]}})
    assert ("served", ["b"]) == (done.text, run.far.models)


@virtual
async def test_a_wish_that_is_no_object_is_the_callers_fault(road):
    """The chain ends."""
    run = road({}, FallbackOptions(models=("a", "b")), ProviderOptions(zdr=True))
    error = await run.fails(body={"provider": "azure"})
    assert (InvalidRequest, []) == (type(error), run.far.models)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"models": {"a/*": {}}}, r"models: 'a/\*' says nothing"),
        ({"models": {"": {"zdr": True}}}, "models: '' says nothing"),
        ({"only": ("a",), "models": {"x": {"only": ("b",)}}}, r"models: 'x': no provider is left"),
        ({"sorting": "price"}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_wish_is_refused_when_it_is_read(options, told):
    """Also one that could never be met."""
    with pytest.raises(ValidationError, match=told):
        ProviderOptions(**options)


@virtual
async def test_models_that_callers_invent_do_not_fill_the_memory(road):
    """Two thousand names, and a thousand kept."""
    layer = PER_MODEL.build(road({}).world)
    wishes = [layer._wanted(f"m/{number}") for number in range(2000)]
    assert (1000, {"data_collection": "deny", "sort": "price"}) == (len(layer._made), wishes[-1])


def test_it_says_what_it_does():
    """In words, for all and for some."""
    assert (
        "asks OpenRouter for providers with data_collection deny; for anthropic/* order anthropic then amazon-bedrock; "
        "for * sort price"
    ) == PER_MODEL.says()
    assert "passes on what the caller asks" == ProviderOptions().says()
    assert "zdr true" in ProviderOptions(zdr=True, models={"x": Preferences(sort="price")}).says()
