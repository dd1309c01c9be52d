"""Events that are read by the mould of the one before: never otherwise than a parser reads them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.core.call import Attempt, Target, Trail
from orrouter.wire.fold import completion_of, fold
from orrouter.wire.mould import Mould, mould_of
from orrouter.wire.response import plain_words
from orrouter.wire.stream import StreamReader


def said(words: Any, delta: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {**(delta or {}), "content": words}, "finish_reason": None}
    return {"id": "gen-1", "model": "m", "choices": [choice], **more}


def bytes_of(event: dict[str, Any]) -> bytes:
    return orjson.dumps(event)


def made(event: dict[str, Any]) -> Mould:
    mould = mould_of(bytes_of(event), event, "one")
    assert mould is not None
    return mould


MOULD = made(said("one"))


@pytest.mark.parametrize("words", ["two", "zwölf", "数", "🦊", "a b", "{}", "probe"])
def test_plain_words_are_read(words):
    """Whatever stands between the quotes and means itself."""
    assert words == MOULD.words(bytes_of(said(words)))


@pytest.mark.parametrize("words", ["", 'a "quote"', "a\nline", "back\\slash", "\x7f", "\u200b"])
def test_words_that_only_a_parser_reads(words):
    """They fit, and nothing is said of them."""
    assert "" == MOULD.words(bytes_of(said(words)))


@pytest.mark.parametrize(
    "payload",
    [
        bytes_of(said("one"))[:-1],
        bytes_of(said("one", id="gen-2")),
        bytes_of(said("one", usage=None)),
        bytes_of(said("one", {"role": "assistant"})),
        b"",
        b"[DONE]",
    ],
)
def test_what_does_not_fit(payload):
    """One byte round the words is enough."""
    assert MOULD.words(payload) is None


@pytest.mark.parametrize("between", [b"\x00", b"\n", b"\xff", b'","b":"', b'"},"x":{"content":"'])
def test_what_would_be_no_json_is_left_to_the_parser(between):
    """Control characters, broken UTF-8 and quotes that end the text."""
    whole = bytes_of(said("|"))
    assert "" == MOULD.words(whole.replace(b"|", between))


@pytest.mark.parametrize(
    "payload",
    [
        b'{"choices":[{"index":0,"delta":{"content": "one"},"finish_reason":null}],"x":{"content":"one"}}',
        b'{"choices":[{"index":0,"delta":{"content":"one","content":"one"},"finish_reason":null}]}',
        b'{"x":"\\"content\\":\\"one\\"","choices":[{"index":0,"delta":{"content": "one"},"finish_reason":null}]}',
    ],
)
def test_a_mould_of_other_words_is_none(payload):
    """The same text in another place, or twice: the probe comes out elsewhere."""
    assert mould_of(payload, orjson.loads(payload), "one") is None


@pytest.mark.parametrize(
    "event",
    [
        said("one", {"reasoning": "because"}),
        said("one", {"annotations": [{"url": "x"}]}),
        {"choices": [{**said("one")["choices"][0], "logprobs": {"content": [{"token": "one"}]}}]},
    ],
)
def test_what_adds_up_has_no_mould(event):
    """Said twice it would be twice in the answer."""
    assert mould_of(bytes_of(event), event, "one") is None


WORDS = st.one_of(st.text(max_size=8), st.text(st.characters(codec="ascii"), max_size=8), st.just("again"))
EVENTS = st.lists(
    st.builds(
        said, WORDS, st.sampled_from([None, {"role": "assistant"}, {"reasoning": "r"}]), created=st.integers(0, 1)
    ),
    max_size=30,
)


@given(EVENTS)
def test_a_stream_is_read_as_by_a_parser(events):
    """Texts, objects and the folded answer are the same, whatever the mould has read."""
    finish = {"id": "gen-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"cost": 1}}
    sent = [said("first"), *events, finish]
    attempt = Attempt(1, Target(), 0.0)
    reader = StreamReader(attempt)
    got = reader.feed(b"".join(b"data: " + bytes_of(event) + b"\n\n" for event in sent))
    assert [event["choices"][0]["delta"].get("content", "") for event in sent] == [event.text for event in got]
    assert fold(sent) == completion_of(got, attempt, Trail("req", lambda: 0.0)).raw
    assert sent == [event.data for event in got]


@given(st.binary(max_size=20), st.integers(0, 80))
def test_words_are_never_guessed(noise, at):
    """Bytes thrown into a payload: what is read is what a parser reads."""
    payload = bytes_of(said("hello"))
    mixed = payload[:at] + noise + payload[at:]
    words = MOULD.words(mixed)
    assert not words or plain_words(orjson.loads(mixed)) == words
