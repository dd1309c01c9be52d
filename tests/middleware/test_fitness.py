"""fitness: what a request asks for, and what is known against a target."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrouter.catalog.model import Model
from orrouter.core.call import Target
from orrouter.middleware.fitness import (
    BYTES_A_TOKEN,
    SMALL,
    Needs,
    asked_tokens,
    asks_little,
    cheaper,
    larger,
    needs_of,
    unfit,
    with_tokens,
)

HERE = Target(model="m", key="k")


def text(words: str) -> dict:
    return {"messages": [{"role": "user", "content": words}]}


def parts(*kinds: str, words: str = "") -> dict:
    content = [{"type": "text", "text": words}, *({"type": kind} for kind in kinds)]
    return {"messages": [{"role": "user", "content": content}]}


def model(**row: object) -> Model:
    return Model.read({"id": "m", **row})


# --- what is asked for --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "needs"),
    [
        (text("hello"), Needs(characters=5)),
        ({}, Needs()),
        ({"prompt": "x"}, Needs()),
        (parts("image_url", words="abc"), Needs(characters=3, modalities=frozenset({"image"}))),
        (parts("input_audio", "video_url"), Needs(modalities=frozenset({"audio", "video"}))),
        (parts("file"), Needs()),
        ({"tools": [{"type": "function"}]}, Needs(tools=True)),
        ({"tools": [{"type": "openrouter:web_search"}]}, Needs()),
        ({"tools": []}, Needs()),
        ({"response_format": {"type": "json_schema"}}, Needs(schema=True)),
        ({"response_format": {"type": "json_object"}}, Needs()),
    ],
)
def test_what_a_request_asks_for(body, needs):
    """Its length, tools, schema and what it must see. Files are parsed for any model."""
    assert needs == needs_of(body)


_ODD = st.sampled_from(
    [None, True, 5, "", "text", [], {}, [5], ["x"], [[]], [None], [{}], {"content": 5}, [{"type": []}], [{"text": 5}]]
)
_MESSAGE = st.fixed_dictionaries(
    {},
    optional={"content": _ODD | st.lists(st.fixed_dictionaries({}, optional={"type": _ODD, "text": _ODD}), max_size=2)},
)


@settings(deadline=None)
@given(
    body=st.fixed_dictionaries(
        {}, optional={"messages": _ODD | st.lists(_MESSAGE, max_size=2), "tools": _ODD, "response_format": _ODD}
    )
)
def test_a_body_that_is_no_request_breaks_nothing(body):
    """Whatever stands in it is for the upstream to refuse."""
    assert isinstance(needs_of(body), Needs)
    assert asks_little(body) in (True, False)


@settings(deadline=None)
@given(
    body=st.one_of(
        st.text(max_size=200).map(text),
        st.lists(st.sampled_from(["image_url", "text"])).map(lambda kinds: parts(*kinds)),
        st.just({"tools": [{"type": "function"}]}),
    )
)
def test_whoever_asks_little_is_served_by_any_model(body):
    """The short cut never lets through what the long way would skip."""
    tiny = model(context_length=1000, supported_parameters=["x"], architecture={"input_modalities": ["text"]})
    assert not asks_little(body) or "" == unfit(needs_of(body), HERE, tiny)


@pytest.mark.parametrize(
    ("body", "little"),
    [
        (text("x" * SMALL), True),
        (text("x" * (SMALL + 1)), False),
        ({"messages": [{"role": "user", "content": "x"}] * 20}, True),
        ({"messages": [{"role": "user", "content": "x"}] * 21}, False),
        (parts("image_url"), False),
        ({**text("x"), "tools": []}, False),
        ({**text("x"), "response_format": {}}, False),
        ({"input": "x"}, True),
    ],
)
def test_what_is_little(body, little):
    """A few short texts without tools or schema."""
    assert little is asks_little(body)


# --- what is known against a target -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("needs", "known", "told"),
    [
        (Needs(characters=BYTES_A_TOKEN * 1000), model(context_length=1000), ""),
        (Needs(characters=BYTES_A_TOKEN * 1000 + 1), model(context_length=1000), "the prompt does not fit a context of 1000 tokens"),
        (Needs(characters=10**9), model(), ""),
        (Needs(tools=True), model(supported_parameters=["temperature"]), "takes no tools"),
        (Needs(tools=True), model(supported_parameters=["tools"]), ""),
        (Needs(tools=True), model(), ""),
        (Needs(schema=True), model(supported_parameters=["tools"]), "gives no structured output"),
        (Needs(schema=True), model(supported_parameters=["response_format"]), ""),
        (Needs(schema=True), model(supported_parameters=["structured_outputs"]), ""),
        (Needs(modalities=frozenset({"image"})), model(architecture={"input_modalities": ["text"]}), "takes no image"),
        (Needs(modalities=frozenset({"image"})), model(architecture={"input_modalities": ["text", "image"]}), ""),
        (Needs(modalities=frozenset({"image"})), model(), ""),
        (Needs(tools=True, characters=10**9), None, ""),
    ],
)  # fmt: skip
def test_why_a_target_cannot_serve(needs, known, told):
    """What is unknown never rules it out."""
    assert told == unfit(needs, HERE, known)


def test_a_target_without_a_key_cannot_serve():
    """Whatever is known of its model."""
    assert "upstream spare has no key" == unfit(Needs(), Target("spare", "m"), model())


@pytest.mark.parametrize(
    ("candidate", "failed", "is_larger"),
    [(2000, 1000, True), (1000, 1000, False), (500, 1000, False), (None, 1000, True), (500, None, True)],
)
def test_a_larger_context(candidate, failed, is_larger):
    """Strictly larger, or unknown."""
    assert is_larger is larger(model(context_length=candidate), model(context_length=failed))


def test_an_unknown_model_may_be_larger_and_cheaper():
    """Nothing is known against it."""
    known = model(context_length=10**6, pricing={"prompt": "0.1", "completion": "0.1"})
    assert (True, True, True, True) == (
        larger(None, known),
        larger(known, None),
        cheaper(None, known),
        cheaper(known, None),
    )


@pytest.mark.parametrize(
    ("candidate", "failed", "is_cheaper"),
    [(("1", "1"), ("1", "2"), True), (("1", "2"), ("2", "1"), False), (("2", "2"), ("1", "1"), False), (("1", None), ("0", "0"), True)],
)  # fmt: skip
def test_a_cheaper_model(candidate, failed, is_cheaper):
    """By what a token in and one out cost together; an unknown price may be lower."""
    one, other = (
        model(pricing={key: price for key, price in zip(("prompt", "completion"), prices, strict=True) if price})
        for prices in (candidate, failed)
    )
    assert is_cheaper is cheaper(one, other)


# --- tokens -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ({}, float("inf")),
        ({"max_tokens": 5}, 5.0),
        ({"max_completion_tokens": 7, "max_tokens": 5}, 7.0),
        ({"max_tokens": None}, float("inf")),
        ({"max_tokens": "5"}, float("inf")),
    ],
)
def test_how_many_tokens_are_asked_for(body, asked):
    """Under the new name or the old one; without a bound, any number."""
    assert asked == asked_tokens(body)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_fewer_tokens_keep_their_name(name):
    """And the body handed in stays as it was."""
    body = {name: 9, "top_p": 1}
    assert ({name: 3, "top_p": 1}, 9) == (with_tokens(body, 3), body[name])
