"""Reading the counts that are billed out of a usage object."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.catalog.usage import Counts


def test_every_count_is_found_where_the_upstream_puts_it():
    """A full usage object of a chat is read whole."""
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 30, "audio_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": 6, "image_tokens": 7},
        "server_tool_use_details": {"web_search_requests": 2},
    }
    assert Counts(100, 50, 40, 30, 20, 5, 6, 7, 2, 3) == Counts.read(usage, images=3)


def test_an_embedding_has_no_completion():
    """A usage without completion tokens has said nothing."""
    assert Counts(prompt=8, completion=0) == Counts.read({"prompt_tokens": 8, "total_tokens": 8})


def test_what_the_total_holds_beyond_both_is_completion():
    """Reasoning that an upstream counts in the total alone is not lost."""
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115}
    assert Counts(prompt=10, completion=105) == Counts.read(usage)


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": None}, {"completion_tokens": 5}])
def test_without_a_prompt_nothing_is_known(usage):
    """A usage that does not say how long the prompt was is no usage."""
    assert Counts.read(usage) is None


_JSON = (
    st.none()
    | st.integers()
    | st.floats()
    | st.text("0123:.-satx")
    | st.dictionaries(st.text("0123:.-satx"), st.integers())
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "server_tool_use"]
        ),
        _JSON,
    )
)
def test_no_usage_breaks_the_reading(usage):
    """Odd values count as nothing, and no count is below zero."""
    counts = Counts.read(usage)
    assert counts is None or min(counts.prompt, counts.completion, counts.cached, counts.searches) >= 0
