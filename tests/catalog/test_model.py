"""Models and endpoints: read from rows of the list, and asked what they can do."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.catalog.model import Endpoint, Model, Price, Reasoning, RequestLimits

ROW = {
    "id": "openai/gpt-5.4",
    "canonical_slug": "openai/gpt-5.4-20260305",
    "name": "GPT-5.4",
    "created": 1772668800,
    "description": "A model.",
    "context_length": 400_000,
    "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
    "pricing": {"prompt": "0.0000025", "completion": "0.000015"},
    "top_provider": {"context_length": 400_000, "max_completion_tokens": 128_000, "is_moderated": True},
    "per_request_limits": {"prompt_tokens": 1000, "completion_tokens": 500},
    "supported_parameters": ["tools", "max_tokens"],
    "expiration_date": "2027-06-01",
    "reasoning": {
        "mandatory": True,
        "supported_efforts": ["high", "low"],
        "default_effort": "low",
        "default_enabled": True,
        "supports_max_tokens": True,
    },
    "alias_target": {"name": "Other", "slug": "openai/other"},
}


def test_a_row_of_the_list_is_read_whole():
    """Everything that decides about a target has its place."""
    assert Model(
        id="openai/gpt-5.4",
        price=Price(prompt=Decimal("0.0000025"), completion=Decimal("0.000015")),
        context_length=400_000,
        max_completion_tokens=128_000,
        name="GPT-5.4",
        canonical_slug="openai/gpt-5.4-20260305",
        input_modalities=frozenset({"text", "image"}),
        output_modalities=frozenset({"text"}),
        supported_parameters=frozenset({"tools", "max_tokens"}),
        per_request_limits=RequestLimits(1000, 500),
        reasoning=Reasoning(
            mandatory=True, enabled=True, efforts=("high", "low"), default_effort="low", takes_max_tokens=True
        ),
        is_moderated=True,
        expiration_date="2027-06-01",
        alias_target="openai/other",
        description="A model.",
        created=1772668800,
    ) == Model.read(ROW)


def test_a_bare_row_is_a_model_of_which_nothing_is_known():
    """Missing fields are unknown, and the slug stands in for the names."""
    assert Model(id="a/b", name="a/b", canonical_slug="a/b") == Model.read({"id": "a/b"})


def test_the_window_of_the_top_provider_stands_in():
    """A row without a window of its own has its provider's."""
    assert 8192 == Model.read({"id": "a/b", "top_provider": {"context_length": 8192}}).context_length


def test_a_window_of_nought_is_unknown():
    """Some rows say 0 for "not given"."""
    assert Model.read({**ROW, "context_length": 0, "top_provider": None}).context_length is None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab/"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["slug", "prompt", "mandatory"]), inner)
    ),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(ROW)), _json))
def test_no_row_breaks_the_reading(row):
    """Whatever stands in a row, a model comes out and can be asked."""
    assert Model.read(row).takes("text") in (True, False, None)


@pytest.mark.parametrize(("modality", "takes"), [("image", True), ("audio", False)])
def test_a_model_says_what_it_reads(modality, takes):
    """A known list of modalities answers yes or no."""
    assert takes is Model.read(ROW).takes(modality)


def test_a_model_says_what_it_makes():
    """The same for what comes out."""
    assert (True, False) == (Model.read(ROW).makes("text"), Model.read(ROW).makes("image"))


def test_unknown_modalities_are_neither_yes_nor_no():
    """A model that nobody described may well read pictures."""
    assert (None, None) == (Model("a/b").takes("image"), Model("a/b").makes("text"))


@pytest.mark.parametrize(("parameter", "supported"), [("tools", True), ("response_format", False)])
def test_a_whole_list_of_parameters_answers_both_ways(parameter, supported):
    """What the list does not name is not supported."""
    assert supported is Model.read(ROW).supports(parameter)


@pytest.mark.parametrize(("parameter", "supported"), [("tools", True), ("seed", False), ("logprobs", None)])
def test_a_partial_list_leaves_the_rest_unknown(parameter, supported):
    """Where what is missing is listed too, what neither names may be either."""
    row = {"id": "a/b", "supported_parameters": ["tools"], "unsupported_parameters": ["seed"]}
    assert supported is Model.read(row).supports(parameter)


@pytest.mark.parametrize(
    ("row", "reasons"),
    [
        ({"reasoning": {"mandatory": False}}, True),
        ({"supported_parameters": ["reasoning"]}, True),
        ({"supported_parameters": ["tools"]}, False),
        ({}, None),
    ],
)
def test_a_model_says_whether_it_reasons(row, reasons):
    """By its reasoning block, else by the parameter, else nobody knows."""
    assert reasons is Model.read({"id": "a/b", **row}).reasons()


def test_a_model_is_free_when_its_price_is():
    """Free models are found by their price, not by their name."""
    assert (True, False) == (
        Model("a/b", Price(prompt=Decimal(0), completion=Decimal(0))).is_free,
        Model("a/b:free").is_free,
    )


def test_an_endpoint_is_read_whole():
    """One provider's offer, with its health."""
    row = {
        "provider_name": "DeepInfra",
        "tag": "deepinfra/fp8",
        "context_length": 131_072,
        "max_completion_tokens": 8192,
        "max_prompt_tokens": 100_000,
        "pricing": {"prompt": "0.000001", "completion": "0"},
        "quantization": "fp8",
        "supported_parameters": ["tools"],
        "status": -2,
        "uptime_last_5m": 99.5,
        "uptime_last_30m": 98,
        "uptime_last_1d": None,
        "supports_implicit_caching": True,
    }
    assert Endpoint(
        provider_name="DeepInfra",
        tag="deepinfra/fp8",
        price=Price(prompt=Decimal("0.000001"), completion=Decimal(0)),
        context_length=131_072,
        max_completion_tokens=8192,
        max_prompt_tokens=100_000,
        quantization="fp8",
        supported_parameters=frozenset({"tools"}),
        status=-2,
        uptime_5m=99.5,
        uptime_30m=98,
        uptime_1d=None,
        caches_implicitly=True,
    ) == Endpoint.read(row)


def test_a_bare_endpoint_is_one_of_which_nothing_is_known():
    """Missing fields are unknown."""
    assert Endpoint(provider_name="X") == Endpoint.read({"name": "X"})
