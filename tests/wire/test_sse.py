"""The decoder against a small parser written straight from the WHATWG rules, and its bounds."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orrouter.wire.sse import SSEDecoder, SSETooLarge

PIECES = (
    b"data: a", b"data:b", b"data", b"data: ", b"data:  c", b"datax: d", b"event: error", b"id: 1", b"retry: 5",
    b": OPENROUTER PROCESSING", b":", b" ", b"x", b"\n", b"\n\n", b"\r", b"\r\n", b"\xef\xbb\xbf", b"\xc3", b"\xa9",
    b'data: {"a": 1}\n\n',
)  # fmt: skip
STREAMS = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)
CUTS = st.lists(st.integers(0, 200), max_size=12)


def reference(stream: bytes) -> tuple[list[bytes], list[bytes], int]:
    """Events, the data of a last event without blank line, comments: WHATWG HTML 9.2.5 and 9.2.6."""
    *lines, _cut = re.split(rb"\r\n|\n|\r", stream.removeprefix(b"\xef\xbb\xbf"))
    events, data, comments = [], [], 0
    for line in lines:
        if line == b"":
            if data:
                events.append(b"\n".join(data))
            data = []
        elif line.startswith(b":"):
            comments += 1
        else:
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value[1:] if value[:1] == b" " else value)
    return events, [b"\n".join(data)] if data else [], comments


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[start:end] for start, end in pairwise(edges)]


def decoded(pieces: list[bytes], **bounds: int) -> tuple[list[bytes], str | None]:
    """The events of all pieces, and the bound that was passed."""
    decoder, events = SSEDecoder(**bounds), []
    for piece in pieces:
        try:
            events += decoder.feed(piece)
        except SSETooLarge as large:
            return events + large.events, large.bound
    return events, None


@given(STREAMS, CUTS)
@example(b"data: a\r\ndata: b\r\n\r\n", [8, 9])
@example(b"\xef\xbb\xbfdata: a\n\ndata: b\n\n", [1, 2])
@example(b"data: a\n\n\ndata: b\n\n\n\n", [9])
def test_any_cut_of_a_stream_gives_what_the_standard_says(stream, places):
    """Events, a last unfinished event and comments do not depend on where the bytes were cut."""
    decoder = SSEDecoder()
    events = [event for piece in cut(stream, places) for event in decoder.feed(piece)]
    assert reference(stream) == (events, decoder.flush(), decoder.comments)


@given(STREAMS)
def test_single_bytes_give_the_same_events_as_one_feed(stream):
    """The smallest pieces there are."""
    assert decoded([stream]) == decoded([stream[at : at + 1] for at in range(len(stream))])


@given(STREAMS.filter(lambda stream: b"\r" not in stream), st.sampled_from([b"\r", b"\r\n"]), CUTS)
def test_cr_and_crlf_end_lines_as_lf_does(stream, end, places):
    """A stream with other line ends has the same events."""
    assert decoded([stream]) == decoded(cut(stream.replace(b"\n", end), places))


@given(STREAMS, CUTS, st.integers(1, 12), st.integers(1, 12), st.integers(1, 60))
def test_any_cut_passes_the_same_bound_after_the_same_events(stream, places, line, event, total):
    """Also what is refused, and what was complete before, is independent of the cuts."""
    bounds = {"max_line": line, "max_event": event, "max_total": total}
    assert decoded([stream], **bounds) == decoded(cut(stream, places), **bounds)


@given(st.lists(st.text().map(lambda text: text.encode("utf-8", "replace").translate(None, b"\r\n")), max_size=5), CUTS)
def test_every_payload_comes_back_as_it_was_sent(payloads, places):
    """UTF-8 that is cut inside a character arrives whole."""
    stream = b"".join(b"data: " + payload + b"\n\n" for payload in payloads)
    assert (payloads, None) == decoded(cut(stream, places))


def test_data_lines_of_one_event_are_joined():
    """Two data lines make one payload with a line feed between."""
    assert [b"one\ntwo"] == SSEDecoder().feed(b"event: message\ndata: one\ndata: two\n\n")


def test_comments_are_counted_and_are_no_events():
    """Keep-alives say only that the road is open."""
    decoder = SSEDecoder()
    assert [] == decoder.feed(b": OPENROUTER PROCESSING\n\n:\n\n")
    assert 2 == decoder.comments


def test_names_ids_and_retry_times_are_skipped():
    """Only data lines are kept."""
    assert [b"x"] == SSEDecoder().feed(b"event: error\nid: 7\nretry: 10\ndata: x\n\n")


def test_an_event_without_data_is_none():
    """A name alone is not dispatched."""
    assert [] == SSEDecoder().feed(b"event: ping\n\n")


def test_flush_gives_the_last_event_that_no_blank_line_ended():
    """Upstreams close right behind the last line."""
    decoder = SSEDecoder()
    decoder.feed(b"data: a\n\ndata: [DONE]\n")
    assert [b"[DONE]"] == decoder.flush()


def test_flush_leaves_out_a_line_that_was_cut():
    """Half a line is no data."""
    decoder = SSEDecoder()
    decoder.feed(b'data: {"a": 1}\ndata: {"b"')
    assert [b'{"a": 1}'] == decoder.flush()


@pytest.mark.parametrize(
    ("stream", "left"),
    [
        (b"", False),
        (b"data: a\n\n", False),
        (b"data: a\n", True),
        (b"data: a", True),
        (b": com", False),
        (b"data: a\n\n\n", False),
    ],
)
def test_close_says_whether_an_event_was_left(stream, left):
    """An event is pending from its first byte to its blank line; a comment is no event."""
    decoder = SSEDecoder()
    decoder.feed(stream)
    assert left == decoder.pending
    assert left == decoder.close()
    assert not decoder.pending


@pytest.mark.parametrize(
    ("bounds", "stream", "bound", "limit"),
    [
        ({"max_line": 10}, b"data: 123456789\n\n", "line", 10),
        ({"max_line": 10}, b"data: 123456789", "line", 10),
        ({"max_line": 10}, b":234567890123\n", "line", 10),
        ({"max_event": 4}, b"data: ab\ndata: cd\n\n", "event", 4),
        ({"max_total": 12}, b"data: a\n\ndata: b\n\n", "stream", 12),
    ],
)
def test_what_passes_a_bound_is_refused_by_name(bounds, stream, bound, limit):
    """The error says which bound and how large it is, in words and in values."""
    with pytest.raises(SSETooLarge, match=f"one {bound} has more than {limit} bytes") as caught:
        SSEDecoder(**bounds).feed(stream)
    assert (bound, limit) == (caught.value.bound, caught.value.limit)


def test_events_before_the_bound_are_not_lost():
    """What was complete in the same feed hangs on the error."""
    with pytest.raises(SSETooLarge) as caught:
        SSEDecoder(max_total=12).feed(b"data: a\n\ndata: b\n\n")
    assert [b"a"] == caught.value.events


@pytest.mark.parametrize(
    ("bounds", "stream"),
    [
        ({"max_line": 7}, b"data: a\n\n"),
        ({"max_event": 5}, b"data: ab\ndata: cd\n\n"),
        ({"max_total": 9}, b"data: a\n\n"),
    ],
)
def test_a_bound_that_is_just_met_is_kept(bounds, stream):
    """Bounds are the largest sizes allowed."""
    assert 1 == len(SSEDecoder(**bounds).feed(stream))


def test_a_large_line_arrives_whole_byte_by_byte():
    """64 KiB in single bytes, without an end in sight until the last."""
    decoder, payload = SSEDecoder(), b"x" * 65_536
    events = [event for byte in b"data: " + payload + b"\n\n" for event in decoder.feed(bytes((byte,)))]
    assert [payload] == events
