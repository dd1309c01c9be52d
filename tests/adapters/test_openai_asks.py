"""What the SDK sends, read."""

from __future__ import annotations

import orjson
import pytest

from orrouter.adapters.openai_asks import Place, Sent, place_of, read_ask
from orrouter.core.errors import InvalidRequest


def sent(body: object, timeout: float | None = None, **headers: str) -> Sent:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Sent("POST", "/v1/chat/completions", names, orjson.dumps(body), timeout)


CHAT = {"model": "a/b", "messages": []}


@pytest.mark.parametrize(
    ("place", "method", "path"),
    [
        (Place("chat/completions"), "POST", "/v1/chat/completions"),
        (Place("chat/completions"), "POST", "/openai/deployments/x/chat/completions"),
        (Place("completions"), "POST", "/api/v1/completions"),
        (Place("embeddings"), "POST", "/v1/embeddings/"),
        (Place("models"), "GET", "/v1/models"),
        (Place("models", "a/b:free"), "GET", "/v1/models/a/b:free"),
        (Place("models", "a/embeddings"), "GET", "/v1/models/a/embeddings"),
        (None, "GET", "/v1/chat/completions"),
        (None, "GET", "/v1/chat/completions/chatcmpl-1"),
        (None, "POST", "/v1/chat/completions/chatcmpl-1"),
        (None, "DELETE", "/v1/models/a/b"),
        (None, "POST", "/v1/responses"),
        (None, "POST", "/v1/audio/speech"),
    ],
)
def test_the_end_of_a_path_says_what_is_asked(place, method, path):
    """A place is found by method and path; what no router answers is None."""
    assert place == place_of(method, path)


def test_the_body_goes_on_without_its_stream_field():
    """`stream` is read and taken out, the rest is untouched."""
    ask = read_ask("chat/completions", sent({**CHAT, "stream": True, "seed": 1}), "r")
    assert ({**CHAT, "seed": 1}, True) == (ask.body, ask.streamed)


def test_headers_say_what_a_body_has_no_words_for():
    """Tags, policy and cap come by header; the request id is the one given."""
    headers = {"x_orrouter_tag_team": "search", "x_orrouter_policy": "frugal", "x_max_cost": "$1"}
    asked = read_ask("chat/completions", sent(CHAT, **headers), "r").asked
    assert ({"team": "search"}, "frugal", "$1", "r") == (asked.tags, asked.policy, asked.max_cost, asked.request_id)


def test_only_the_callers_own_headers_travel_on():
    """X-… and HTTP-Referer go to the upstream; the SDK's own and the key do not."""
    headers = {"x_title": "App", "http_referer": "https://a.b", "x_stainless_lang": "python", "x_request_id": "r"}
    asked = read_ask("chat/completions", sent(CHAT, **headers, authorization="Bearer k", user_agent="u"), "r").asked
    assert {"x-title": "App", "http-referer": "https://a.b"} == asked.headers


def test_an_unknown_header_of_ours_is_refused():
    """A misspelt X-Orrouter-… header is an error that names the known ones."""
    with pytest.raises(InvalidRequest, match="x-orrouter-polcy: known are x-orrouter-policy"):
        read_ask("chat/completions", sent(CHAT, x_orrouter_polcy="frugal"), "r")


@pytest.mark.parametrize("name", ["policy", "tags", "timeout", "max_cost", "headers", "request_id"])
def test_a_routers_word_in_the_body_is_refused(name):
    """What a router takes beside the body is not read from the body."""
    with pytest.raises(InvalidRequest, match=f"'{name}' is no field"):
        read_ask("chat/completions", sent({**CHAT, name: 1}), "r")


@pytest.mark.parametrize(
    ("endpoint", "needed"), [("chat/completions", "messages"), ("completions", "prompt"), ("embeddings", "input")]
)
def test_the_one_field_that_must_be_there_is_named(endpoint, needed):
    """A body without it is refused before anything is asked."""
    with pytest.raises(InvalidRequest, match=f"{endpoint} needs '{needed}'"):
        read_ask(endpoint, sent({"model": "a/b"}), "r")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7"])
def test_a_body_that_is_no_object_is_refused(content):
    """No JSON, or JSON that is no object."""
    with pytest.raises(InvalidRequest, match="the request's body"):
        read_ask("embeddings", Sent("POST", "/v1/embeddings", {}, content), "r")


def test_a_timeout_is_the_deadline_of_a_whole_answer():
    """For a chat, silence and call are the same."""
    ask = read_ask("chat/completions", sent(CHAT, timeout=5.0), "r")
    assert (5.0, None) == (ask.asked.timeout, ask.patience)


def test_a_timeout_is_the_patience_of_a_stream():
    """A stream may last longer than a silence in it."""
    ask = read_ask("chat/completions", sent({**CHAT, "stream": True}, timeout=5.0), "r")
    assert (None, 5.0) == (ask.asked.timeout, ask.patience)


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("inf"), float("nan")])
def test_a_timeout_that_cannot_be_is_refused(timeout):
    """Also for a stream."""
    with pytest.raises(InvalidRequest, match="timeout"):
        read_ask("chat/completions", sent({**CHAT, "stream": True}, timeout=timeout), "r")


@pytest.mark.parametrize(
    ("counts", "options"), [(True, {"include_usage": True}), (False, {"include_usage": False}), (False, {}), (False, 1)]
)
def test_who_asked_for_usage_is_remembered(counts, options):
    """`stream_options.include_usage`, whatever stands there."""
    ask = read_ask("chat/completions", sent({**CHAT, "stream": True, "stream_options": options}), "r")
    assert counts == ask.counts
