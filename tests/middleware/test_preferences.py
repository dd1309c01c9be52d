"""preferences: how two wishes about providers meet, and how one provider is left out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from orrouter.core.call import Call, Key, Target, Trail
from orrouter.core.errors import InvalidRequest, NoRoute
from orrouter.core.facts import ProviderIgnored
from orrouter.middleware.preferences import (
    Preferences,
    asked_of,
    ignoring,
    may_serve,
    meet,
    refine,
)

NAMES = ("openai", "azure", "groq", "deepinfra", "deepinfra/turbo")
MINE = Key[tuple[str, ...]]("mine")
OTHERS = Key[tuple[str, ...]]("others")


def call(**provider: object) -> Call:
    body = {"provider": provider} if provider else {}
    return Call(trail=Trail("r", lambda: 0.0), target=Target(model="m", key="k"), body=body)


# --- the object ---------------------------------------------------------------------------------------


def test_every_field_goes_over_the_wire_as_written():
    """All fourteen; what is not written is not sent."""
    written = {
        "order": ["a"], "only": ["a", "b"], "ignore": ["c"], "allow_fallbacks": False, "require_parameters": True,
        "data_collection": "deny", "zdr": True, "enforce_distillable_text": True, "quantizations": ["fp8", "bf16"],
        "sort": {"by": "price", "partition": "none"}, "max_price": {"prompt": 1.0, "completion": 2.0},
        "preferred_min_throughput": 50.0, "preferred_max_latency": {"p90": 3.0},
        "options": {"openai": {"service_tier": "flex"}},
    }  # fmt: skip
    assert written == Preferences(**written).sent()


@pytest.mark.parametrize(
    "wrong",
    [
        {"sort": "prise"},
        {"order": []},
        {"only": []},
        {"quantizations": ["fp7"]},
        {"data_collection": "maybe"},
        {"max_price": {"prompt": -1}},
        {"preferred_max_latency": {"p42": 1}},
        {"fallbacks": True},
    ],
)
def test_what_the_upstream_would_not_understand_is_refused(wrong):
    """When the policy is read, not when it is used."""
    with pytest.raises(ValidationError):
        Preferences(**wrong)


# --- meeting ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "policy", "asked", "met"),
    [
        ("only", ["a", "b"], ["b", "c"], ["b"]),
        ("only", ["A", "b"], ["a"], ["a"]),
        ("only", ["deepinfra"], ["deepinfra/turbo", "x"], ["deepinfra/turbo"]),
        ("only", ["deepinfra/turbo"], ["deepinfra"], ["deepinfra/turbo"]),
        ("only", ["amazon-bedrock"], ["Amazon Bedrock"], ["Amazon Bedrock"]),
        ("only", ["a"], [], ["a"]),
        ("only", ["a"], None, ["a"]),
        ("ignore", ["a"], ["b", "a"], ["a", "b"]),
        ("ignore", ["a"], "b", ["a", "b"]),
        ("quantizations", ["fp8", "bf16"], ["bf16", "int4"], ["bf16"]),
        ("order", ["a", "b", "c"], ["c", "z", "a"], ["c", "a", "b"]),
        ("order", ["a"], ["z"], ["a"]),
        ("allow_fallbacks", True, False, False),
        ("allow_fallbacks", False, True, False),
        ("require_parameters", False, True, True),
        ("require_parameters", True, False, True),
        ("zdr", True, False, True),
        ("enforce_distillable_text", True, False, True),
        ("data_collection", "deny", "allow", "deny"),
        ("data_collection", "allow", "deny", "deny"),
        ("sort", "price", "throughput", "price"),
        (
            "max_price",
            {"prompt": 1, "image": 5},
            {"prompt": "0.5", "completion": 3},
            {"prompt": "0.5", "completion": 3, "image": 5},
        ),
        ("max_price", {"prompt": 1}, {"prompt": 9}, {"prompt": 1}),
        ("max_price", {"prompt": 1}, {"prompt": "free"}, {"prompt": 1}),
        ("max_price", {"prompt": 1}, {"prompt": float("nan")}, {"prompt": 1}),
        ("preferred_max_latency", 3.0, 2.0, 2.0),
        ("preferred_max_latency", {"p50": 1.0, "p90": 3.0}, {"p90": 2.0}, {"p50": 1.0, "p90": 2.0}),
        ("preferred_max_latency", 3.0, {"p90": 2.0}, 3.0),
        ("preferred_min_throughput", 50, 80, 80),
        ("preferred_min_throughput", 50, 20, 50),
        ("options", {"a": {"x": 1}}, {"a": {"x": 2}, "b": {"y": 3}}, {"a": {"x": 1}, "b": {"y": 3}}),
        ("new_field", 1, 2, 2),
    ],
)
def test_the_narrower_of_a_field(field, policy, asked, met):
    """A caller may tighten and never loosen."""
    assert {field: met} == meet({field: policy}, {field: asked})


@pytest.mark.parametrize("field", ["only", "quantizations"])
def test_nothing_in_common_is_no_route(field):
    """The message names both sides."""
    told = rf"no provider is left: provider.{field} of the policy \(a, b\) and of the call \(c\) share none"
    with pytest.raises(NoRoute, match=told):
        meet({field: ["a", "b"]}, {field: ["c"]})


@pytest.mark.parametrize(
    ("policy", "asked", "only"),
    [
        ({"order": ["a", "b"], "allow_fallbacks": False}, {"only": ["b", "c"]}, ["b"]),
        ({"only": ["b", "c"]}, {"order": ["a", "b"], "allow_fallbacks": False}, ["b"]),
        ({"order": ["a", "b"]}, {"order": ["c"], "allow_fallbacks": False}, ["c"]),
        ({"order": ["a", "b"], "allow_fallbacks": False}, {"order": ["b", "c"]}, ["a", "b"]),
        ({"order": ["a", "b"], "allow_fallbacks": False}, {"order": ["b"], "allow_fallbacks": False}, ["b"]),
    ],
)
def test_an_order_without_fallbacks_is_a_list_of_who_may_serve(policy, asked, only):
    """On whichever side it stands, nobody beyond it is let in by the other."""
    met = meet(policy, asked)
    assert (only, False) == (met["only"], met["allow_fallbacks"])
    assert set(met.get("order", ())) <= set(only)


@pytest.mark.parametrize(
    ("policy", "asked"),
    [
        ({"order": ["a"], "allow_fallbacks": False}, {"only": ["b"]}),
        ({"only": ["a"]}, {"order": ["b"], "allow_fallbacks": False}),
        ({"order": ["a"], "allow_fallbacks": False}, {"order": ["b"], "allow_fallbacks": False}),
    ],
)
def test_an_order_without_fallbacks_may_leave_nobody(policy, asked):
    """Then there is no route, and not the other side's wish."""
    with pytest.raises(NoRoute):
        meet(policy, asked)


def test_an_order_stays_within_only():
    """An order names nobody who may not serve."""
    assert ["b", "a"] == meet({"only": ["a", "b"]}, {"order": ["z", "b", "a"]})["order"]


def test_an_order_of_strangers_says_nothing():
    """Nobody in it may serve, so nobody is to be asked first."""
    assert {"only": ["a", "b"]} == meet({"only": ["a", "b"]}, {"order": ["z"]})


def test_fields_of_one_side_pass():
    """What only one of both says is met by nobody."""
    assert {"zdr": True, "sort": "price", "ignore": ["a"]} == meet({"zdr": True}, {"sort": "price", "ignore": ["a"]})


_SIDES = st.fixed_dictionaries(
    {},
    optional={
        "only": st.lists(st.sampled_from(NAMES), min_size=1, unique=True),
        "order": st.lists(st.sampled_from(NAMES), min_size=1, unique=True),
        "ignore": st.lists(st.sampled_from(NAMES), min_size=1, unique=True),
        "allow_fallbacks": st.booleans(),
        "zdr": st.booleans(),
        "data_collection": st.sampled_from(["allow", "deny"]),
        "max_price": st.fixed_dictionaries({}, optional={"prompt": st.floats(0, 9), "completion": st.floats(0, 9)}),
    },
)


def admitted(wanted: dict) -> set[str]:
    """The single providers that a wish lets serve."""
    return {name for name in NAMES if name != "deepinfra" and may_serve(call(**wanted), name)}


@settings(deadline=None)
@given(policy=_SIDES, asked=_SIDES)
def test_whoever_serves_suits_both(policy, asked):
    """Met wishes admit nobody whom either side keeps out, and no looser value of any field."""
    try:
        met = meet(policy, asked)
    except NoRoute:
        return
    for side in (policy, asked):
        assert admitted(met) <= admitted(side)
        assert set(side.get("ignore", ())) <= set(met.get("ignore", ()))
        assert not side.get("zdr") or met["zdr"]
        assert side.get("data_collection") != "deny" or met["data_collection"] == "deny"
        assert all(met["max_price"][key] <= price for key, price in side.get("max_price", {}).items())


@settings(deadline=None)
@given(wanted=_SIDES)
def test_a_wish_that_meets_nothing_lets_the_same_serve(wanted):
    """An empty side adds nothing and takes nothing, but for names of an order who may not serve."""
    try:
        met = meet(wanted, {})
    except NoRoute:
        assert set() == admitted(wanted)
        return
    assert admitted(wanted) == admitted(met)
    assert {**wanted, "order": None} == {**met, "order": None}


def test_a_wish_that_nobody_suits_is_not_widened():
    """One side contradicts itself: the other side's list does not stand in for it."""
    with pytest.raises(NoRoute):
        meet({"only": ["a"], "order": ["b"], "allow_fallbacks": False}, {"only": ["a"]})


# --- refining -----------------------------------------------------------------------------------------


def test_the_special_order_and_sort_stand():
    """What the same hand wrote for one model replaces what it wrote for all; the rest is met."""
    general = {"order": ["openai"], "sort": "price", "only": ["openai", "anthropic"], "zdr": True}
    special = {"order": ["anthropic"], "sort": "latency", "only": ["anthropic"]}
    assert {"order": ["anthropic"], "sort": "latency", "only": ["anthropic"], "zdr": True} == refine(general, special)


def test_nothing_special_is_the_general():
    """Unchanged."""
    assert {"order": ["a"], "sort": "price"} == refine({"order": ["a"], "sort": "price"}, {})


# --- leaving one out ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "provider", "may"),
    [
        ({}, "azure", True),
        ({"only": ["azure"]}, "Azure", True),
        ({"only": ["openai"]}, "azure", False),
        ({"order": ["openai"]}, "azure", True),
        ({"order": ["openai"], "allow_fallbacks": False}, "azure", False),
        ({"ignore": ["Amazon Bedrock"]}, "amazon-bedrock", False),
        ({"ignore": ["deepinfra"]}, "deepinfra/turbo", False),
        ({"ignore": ["deepinfra/turbo"]}, "DeepInfra", True),
        ({"only": ["deepinfra/turbo"]}, "DeepInfra", True),
    ],
)
def test_who_may_serve_a_request(wanted, provider, may):
    """By slug or display name, in any case, with its variants."""
    assert may is may_serve(call(**wanted), provider)


def test_a_provider_is_left_out():
    """Behind those whom the caller ignores; the call says what was added, and the record says why."""
    before = call(ignore=["groq"], sort="price")
    after = ignoring(before, ["azure"], "cooling down", MINE)
    assert ({"ignore": ["groq", "azure"], "sort": "price"}, ("azure",), None) == (
        after.body["provider"],
        after.get(MINE),
        after.get(OTHERS),
    )
    (fact,) = [fact for fact in before.trail.facts if type(fact) is ProviderIgnored]
    assert ("m", "azure", "cooling down") == (fact.model, fact.provider, fact.reason)


def test_the_callers_body_stays_as_it_was():
    """What he handed in is his."""
    before = call(ignore=["groq"])
    ignoring(before, ["azure"], "x", MINE)
    assert {"provider": {"ignore": ["groq"]}} == before.body


@pytest.mark.parametrize(
    ("wanted", "providers"),
    [
        ({"only": ["azure"]}, ["Azure"]),
        ({"only": ["azure", "openai"]}, ["azure", "openai"]),
        ({"only": ["azure", "openai"], "ignore": ["openai"]}, ["azure"]),
        ({"order": ["azure"], "allow_fallbacks": False}, ["azure"]),
        ({"only": ["amazon-bedrock"]}, ["Amazon Bedrock"]),
        ({"only": ["deepinfra/turbo"]}, ["DeepInfra"]),
        ({"ignore": ["azure"]}, ["Azure"]),
    ],
)
def test_the_call_stays_where_nobody_else_remains_or_nothing_is_added(wanted, providers):
    """The very same call, and no fact."""
    before = call(**wanted)
    assert before is ignoring(before, providers, "x", MINE)
    assert [] == before.trail.facts


@pytest.mark.parametrize(
    ("wanted", "providers"),
    [
        ({"order": ["azure"]}, ["azure"]),
        ({"only": ["azure", "openai"]}, ["azure"]),
        ({"only": ["deepinfra"]}, ["deepinfra/turbo"]),
        ({}, ["azure"]),
    ],
)
def test_another_may_remain(wanted, providers):
    """An order with fallbacks closes nobody out."""
    assert providers == ignoring(call(**wanted), providers, "x", MINE).body["provider"]["ignore"]


@pytest.mark.parametrize("wrong", ["azure", ["azure"], 5])
def test_a_provider_field_that_is_no_object_is_the_callers_fault(wrong):
    """The message shows what one looks like."""
    wrongly = call().to(body={"provider": wrong})
    with pytest.raises(InvalidRequest, match="provider must be an object"):
        asked_of(wrongly)
