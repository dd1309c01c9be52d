"""Texts for people: found in whatever they are wrapped in, and made safe to print."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.wire.words import MESSAGE_MAX, dig, from_page, one_line, read_json, without_secrets


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ('{"error": {"message": "inside"}}', "inside"),
        ({"detail": [{"loc": ["body", "n"], "msg": "too large"}]}, "body.n: too large"),
        ('[{"path": ["messages", 0], "message": "Required"}]', "messages.0: Required"),
        ({"message": "", "details": "why"}, "why"),
        ({"retryable": True}, ""),
        ("{not json", "{not json"),
        (None, ""),
        (7, ""),
    ],
)
def test_the_innermost_message_is_found(value, text):
    """In objects, lists of findings and JSON inside strings."""
    assert text == dig(value)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("", "the answer was empty"),
        ("<html><title>\n502:  Bad gateway</title></html>", "a page instead of JSON: 502: Bad gateway"),
        ("<html>error code: 520</html>", "an answer that is no JSON object: error code: 520"),
        ("<html></html>", "an answer that is no JSON object: markup without words"),
    ],
)
def test_a_page_is_told_by_its_title_or_its_words(page, message):
    """So that a person sees which proxy spoke."""
    assert {"message": message} == from_page(page)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b'\xef\xbb\xbf \n : OPENROUTER PROCESSING\n\n: x\n{"a": 1}\n', {"a": 1}),
        ("  \n ", ""),
        (b"\xff oops", "\ufffd oops"),
        ({"a": 1}, {"a": 1}),
        ("[" * 5000, "[" * 5000),
    ],
)
def test_a_body_is_read_through_its_padding(body, value):
    """White space, keep-alives and a byte order mark are not part of the JSON; what is none stays text."""
    assert value == read_json(body)


@pytest.mark.parametrize(
    "secret",
    [
        "sk-or-v1-0123456789",
        "sk-proj-****abcd",
        "AIza" + "x" * 35,
        "Bearer abc.def-123",
        "user_2AbCdEfGh12",
        "org_9zYxWvUtS",
    ],
)
def test_secrets_are_blotted_out(secret):
    """Keys, bearer tokens and ids of persons, also inside objects."""
    assert "key [redacted]!" == one_line(f"key {secret}!")
    assert {"a": ["[redacted]"]} == without_secrets({"a": [secret]})


@pytest.mark.parametrize(
    "text", ["user_location is not set", "risk-averse answer", "task-oriented", "the bearer of news"]
)
def test_ordinary_words_stay(text):
    """What only looks like a secret is left alone."""
    assert text == one_line(text)


@given(st.text(max_size=2000))
def test_a_message_is_one_printable_line(text):
    """No line break, control character or lone surrogate reaches a log, and no more than MESSAGE_MAX characters."""
    line = one_line(text)
    assert len(line) <= MESSAGE_MAX
    assert not any(ord(sign) < 32 or 0xD800 <= ord(sign) < 0xE000 for sign in line)
