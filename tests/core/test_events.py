"""What a reply is made of, as far as a value can be looked at."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.core.events import Chunk, Whole, first_choice, text_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "text", "delta", "usage"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
BODIES = st.dictionaries(st.sampled_from(["choices", "usage", "id"]), JSON)


@given(BODIES)
def test_no_object_breaks_the_view(data):
    """Whatever an upstream sends, making an event of it and looking at it raises nothing."""
    chunk, whole = Chunk(b"{}", data), Whole(b"{}", data)
    assert isinstance(chunk.delta, dict)
    assert isinstance(chunk.reasoning, str)
    assert isinstance(whole.text, str)
    assert whole.usage is None or isinstance(whole.usage, dict)
    assert repr(chunk).startswith("Chunk(")
    assert repr(whole).startswith("Whole(")


def test_a_chunk_shows_its_delta():
    """And the reasoning in it."""
    chunk = Chunk(b"{}", {"choices": [{"delta": {"reasoning": "because", "content": ""}}]})
    assert ({"reasoning": "because", "content": ""}, "because") == (chunk.delta, chunk.reasoning)
    assert ({}, "") == (Chunk(b"{}", {}).delta, Chunk(b"{}", {}).reasoning)


def test_a_chunk_that_was_read_as_words_is_semantic():
    """An envelope is not, until somebody finds more in it."""
    assert (True, False) == (Chunk(b"{}", {}, "hello").semantic, Chunk(b"{}", {}).semantic)


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ({"message": {"content": "a"}}, "a"),
        ({"message": {"content": [{"text": "a"}, {"text": "b"}]}}, "ab"),
        ({"message": {"content": None}}, ""),
        ({"text": "older"}, "older"),
        ({"text": 5}, ""),
        ({}, ""),
    ],
)
def test_what_a_choice_says(choice, text):
    """As the stream and the completion read it: one way for both."""
    data = {"choices": [choice]}
    assert (text, text) == (text_of(choice), Whole(orjson.dumps(data), data).text)


def test_a_whole_answer_shows_reason_and_usage():
    """It always says something: it is the answer."""
    whole = Whole(b"{}", {"choices": [{"finish_reason": "length"}], "usage": {"cost": 1}})
    assert ("length", {"cost": 1}, True) == (whole.finish_reason, whole.usage, whole.semantic)
    assert Whole(b"{}", {"choices": [{"finish_reason": ["stop"]}]}).finish_reason is None


def test_what_is_no_choice_is_an_empty_one():
    """None is missing, none is a list, none is a word."""
    assert [{}] * 5 == [
        first_choice(data) for data in ({}, {"choices": []}, {"choices": ["x"]}, {"choices": {}}, {"choices": [None]})
    ]
