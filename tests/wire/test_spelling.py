"""Old spellings and what they are today."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.core.errors import InvalidRequest
from orrouter.wire.spelling import Spelling, translate, translate_headers, translate_model

COMPRESS = {"id": "context-compression"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"provider": {"quantization": "fp16"}}, {"provider": {"quantizations": ["fp16"]}}, ["provider.quantization"]),
        ({"provider": {"quantization": ["fp8", "int4"]}}, {"provider": {"quantizations": ["fp8", "int4"]}}, ["provider.quantization"]),
        ({"provider": {"quantization": "fp8", "quantizations": ["fp16"]}}, {"provider": {"quantizations": ["fp16"]}}, ["provider.quantization"]),
        ({"provider": {"require": ["Anthropic"]}}, {"provider": {"only": ["Anthropic"]}}, ["provider.require"]),
        ({"provider": {"require": "Anthropic", "zdr": True}}, {"provider": {"zdr": True, "only": ["Anthropic"]}}, ["provider.require"]),
        ({"provider": {"require": True}}, {"provider": {"require_parameters": True}}, ["provider.require"]),
        ({"transforms": ["middle-out"]}, {"plugins": [COMPRESS]}, ["transforms: middle-out"]),
        ({"transforms": "middle-out"}, {"plugins": [COMPRESS]}, ["transforms: middle-out"]),
        ({"transforms": []}, {"plugins": [{**COMPRESS, "enabled": False}]}, ["transforms: []"]),
        ({"transforms": None}, {}, []),
        ({"transforms": ["middle-out"], "plugins": [{"id": "web"}]}, {"plugins": [{"id": "web"}, COMPRESS]}, ["transforms: middle-out"]),
        ({"transforms": [], "plugins": [COMPRESS]}, {"plugins": [COMPRESS]}, ["transforms: []"]),
        ({"route": "fallback"}, {}, ["route"]),
        ({"route": "sort"}, {"provider": {"sort": {"by": "price", "partition": "none"}}}, ["route: sort"]),
        ({"route": "sort", "provider": {"sort": "latency"}}, {"provider": {"sort": "latency"}}, ["route: sort"]),
        (
            {"route": "sort", "provider": {"require": ["a"]}},
            {"provider": {"sort": {"by": "price", "partition": "none"}, "only": ["a"]}},
            ["route: sort", "provider.require"],
        ),
    ],
)  # fmt: skip
def test_an_old_field_is_translated_and_named(old, new, said):
    """The body in today's words, and each old word once; the caller's own body is not touched."""
    before = copy.deepcopy(old)
    translated, spellings = translate({"temperature": 1, **old})
    assert ({"temperature": 1, **new}, said) == (translated, [spelling.old for spelling in spellings])
    assert before == old


@given(st.dictionaries(st.sampled_from(["temperature", "provider", "plugins", "models"]), st.just({}), max_size=4))
def test_a_body_of_today_is_handed_on_as_it_is(body):
    """Nothing is copied where nothing is old."""
    translated, spellings = translate(body)
    assert translated is body
    assert () == spellings


@pytest.mark.parametrize(
    "body", [{"route": "sort", "provider": "openai"}, {"transforms": 5}, {"transforms": [], "plugins": 5}]
)
def test_nonsense_beside_an_old_spelling_is_told(body):
    """What cannot be translated is the caller's mistake, and named."""
    with pytest.raises(InvalidRequest, match="must be a"):
        translate(body)


def test_auto_is_a_router_of_openrouter():
    """The bare word was a slug once."""
    assert ("openrouter/auto", (Spelling("model: auto", "openrouter/auto"),)) == translate_model("auto")
    assert ("openai/gpt-4o", ()) == translate_model("openai/gpt-4o")


def test_a_cloudflare_model_is_refused_early():
    """It never was one of OpenRouter's."""
    with pytest.raises(InvalidRequest, match=r"@cf/meta/llama is a Cloudflare model"):
        translate_model("@cf/meta/llama")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"X-Title": "App"}, {"X-OpenRouter-Title": "App"}, ["X-Title"]),
        ({"x-title": "App", "A": "b"}, {"X-OpenRouter-Title": "App", "A": "b"}, ["X-Title"]),
        ({"X-Title": "old", "x-openrouter-title": "new"}, {"x-openrouter-title": "new"}, ["X-Title"]),
        ({"X-OpenRouter-Title": "new", "X-Title": "old"}, {"X-OpenRouter-Title": "new"}, ["X-Title"]),
        ({"X-OpenRouter-Experimental-Metadata": "enabled"}, {"X-OpenRouter-Metadata": "enabled"}, ["X-OpenRouter-Experimental-Metadata"]),
        ({"HTTP-Referer": "https://a"}, {"HTTP-Referer": "https://a"}, []),
        ({}, {}, []),
    ],
)  # fmt: skip
def test_an_old_header_is_translated_and_named(old, new, said):
    """In any case; where both are written, today's one is meant."""
    translated, spellings = translate_headers(old)
    assert (new, said) == (dict(translated), [spelling.old for spelling in spellings])
