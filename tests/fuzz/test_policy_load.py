"""Any text at all is a policy document or an error with a place, and never shows a secret."""

from __future__ import annotations

import json

import yaml
from hypothesis import given
from hypothesis import strategies as st

from orrouter.core.errors import PolicyError
from orrouter.policy.load import Document, load_text

MARKS = """a - b: : [ ] { } , ' " # &x *x !t | > ? <<: --- ... %TAG %YAML \\ \\x4 \\U ${X} ${X:- ${ $1"""
WORDS = "yes 0755 1:30 1_0 .inf 1e999 2024-01-01 null ä 😀"
SPACES = ["\n", "\n  ", "\t", " ", "\r", "\r\n", "\ufeff", "\0", "\x85", "\u2028", "\ud83d"]
PIECES = st.sampled_from([*MARKS.split(), *WORDS.split(), *SPACES])
TEXTS = st.lists(PIECES, max_size=25).map(" ".join) | st.lists(PIECES, max_size=25).map("".join)
SECRET = "sk-or-v1-canary"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text("ab yes:#-'\"1.0{}[]é漢😀", max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("aby01:. ", max_size=6), inner, max_size=4),
    max_leaves=20,
)
KEYS = st.text("abcdefgh", min_size=2, max_size=6)
BLOCKS = st.recursive(
    st.integers(0, 9),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(KEYS, inner, min_size=1, max_size=3),
    max_leaves=20,
)


def outcome(text: str | bytes) -> Document | PolicyError:
    try:
        return load_text(text, file="p.yaml", env={"X": SECRET})
    except PolicyError as error:
        return error


@given(TEXTS | st.text(max_size=60))
def test_any_text_is_a_document_or_an_error_with_a_place(text: str):
    """Nothing else is ever raised, and the place lies in the text."""
    found = outcome(text)
    line, column = found.place(()) if isinstance(found, Document) else (found.line, found.column)
    assert 1 <= line <= len(text.splitlines()) + 1
    assert 1 <= column <= len(text) + 1


@given(TEXTS)
def test_no_text_brings_a_secret_into_an_error_or_repr(text: str):
    """Whatever is wrong with a file, what the environment holds is not shown, nor kept in a chained error."""
    found = outcome(text)
    assert SECRET not in repr(found) + str(found) + repr(getattr(found, "__dict__", ""))
    assert getattr(found, "__context__", None) is None


@given(st.binary(max_size=60))
def test_any_bytes_are_a_document_or_an_error(content: bytes):
    """A file of anything is judged, never a crash."""
    assert "p.yaml" == outcome(content).file


@given(VALUES.filter(lambda value: value is not None))
def test_json_reads_as_itself(value: object):
    """Quoted text and plain numbers come back as they went in: JSON is a policy's flow style."""
    text = json.dumps(value, ensure_ascii=False)
    assert value == load_text(text, env={}).data


@given(BLOCKS)
def test_every_key_is_where_its_place_says(value: object):
    """For any block layout the text at a key's place is the key."""
    text = yaml.safe_dump(value)
    lines = text.splitlines()
    document = load_text(text, env={})
    written = {path: lines[line - 1][column - 1 :] for path, (line, column) in document.key_places.items()}
    assert [] == [path for path, rest in written.items() if not rest.startswith(f"{path[-1]}:")]
