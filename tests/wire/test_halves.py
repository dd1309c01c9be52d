"""A character cut in two between events comes out whole, and no text comes out without bytes."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.core.call import Attempt, Target
from orrouter.wire.fold import fold
from orrouter.wire.halves import mended
from orrouter.wire.stream import StreamReader

TEXT = st.text(alphabet="aé日😀🎉", min_size=1, max_size=8)


def sent(content: str, finish: object = None) -> bytes:
    """An event as a relay writes it that counts in UTF-16."""
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def units(text: str) -> list[str]:
    """The text in UTF-16 units, halves by themselves."""
    raw = text.encode("utf-16-le")
    return [raw[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(raw), 2)]


@given(TEXT)
def test_a_text_cut_into_halves_is_whole_again(text):
    """Every event is used, every text has bytes, and the answer is the one that was cut."""
    attempt = Attempt(1, Target(), 0.0)
    reader = StreamReader(attempt)
    events = reader.feed(b"".join(map(sent, units(text))) + sent("", "stop") + b"data: [DONE]\n\n")
    assert (None, 0) == (reader.error, attempt.malformed)
    assert text == "".join(event.text for event in events)
    assert (
        text == fold([orjson.loads(orjson.dumps(event.data)) for event in events])["choices"][0]["message"]["content"]
    )


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"a": "x \\ude00 y"}', {"a": "x \ufffd y"}),
        (b'{"\\uD83D": 1}', {"\ufffd": 1}),
        (b'{"a": "\\ud83d", "n": NaN}', None),
        (b'{"a": "\\ud83d', None),
        (b'{"a": "\\ud83d' + b"\xff", None),
        (b'{"\\ud83d": ' + b"[" * 100_000, None),
        (b"[DONE]", None),
    ],
)
def test_a_half_alone_is_replaced_and_what_is_no_json_stays_none(payload, expected):
    """Nothing that a text cannot hold is handed on, and nothing is raised."""
    assert expected == mended(payload, {})


@pytest.mark.parametrize("finish", [5, True, ["stop"]])
def test_a_finish_reason_that_is_no_text_finishes_nothing(finish):
    """A stream that names no reason was broken off."""
    reader = StreamReader(Attempt(1, Target(), 0.0))
    reader.feed(sent("Hi") + sent("", finish) + b"data: [DONE]\n\n")
    assert reader.error is not None
    assert "stream_broken" == reader.error.code
