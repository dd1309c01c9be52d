"""Errors of a router in the shape of OpenAI's."""

from __future__ import annotations

import orjson
import pytest

from orrouter.adapters.openai_errors import error_body, error_event, error_headers, not_served
from orrouter.core.errors import BudgetExceeded, ContextOverflow, CoolingDown, ModelNotFound, RateLimited, ServerError


def test_a_body_names_message_type_code_and_what_only_a_router_knows():
    """OpenAI's four fields, and metadata without what is unknown."""
    error = ServerError("it broke").at(model="a/b", provider="Acme")
    expected = {
        "message": "server_error: it broke (model a/b, provider Acme)",
        "type": "server_error",
        "code": "server_error",
        "param": None,
        "metadata": {
            "request_id": "r",
            "orrouter_code": "server_error",
            "attempts": 0,
            "provider": "Acme",
            "model": "a/b",
        },
    }
    assert {"error": expected} == error_body(error, "r")


def test_an_overflow_bears_the_word_that_clients_look_for():
    """OpenAI's code, in message and code; ours stands beside it."""
    body = error_body(ContextOverflow("too long"), "r")["error"]
    assert ("context_length_exceeded: too long", "context_length_exceeded", "messages", "context_overflow") == (
        body["message"],
        body["code"],
        body["param"],
        body["metadata"]["orrouter_code"],
    )


@pytest.mark.parametrize(
    ("kind", "param", "error"),
    [
        ("insufficient_quota", None, BudgetExceeded("no room")),
        ("not_found_error", "model", ModelNotFound("unknown")),
        ("rate_limit_error", None, RateLimited("slow down")),
        ("server_error", None, CoolingDown("wait")),
    ],
)
def test_the_type_follows_the_status(kind, param, error):
    """OpenAI's words for kinds of errors."""
    body = error_body(error, "r")["error"]
    assert (kind, param) == (body["type"], body["param"])


def test_every_error_forbids_to_ask_again():
    """One layer retries, and it is not the SDK."""
    assert "false" == error_headers(ServerError("it broke"), "r")["x-should-retry"]


def test_a_known_wait_stands_in_the_headers():
    """In whole seconds rounded up, and in milliseconds."""
    headers = error_headers(RateLimited("slow down", retry_after=1.2), "r")
    assert ("2", "1200") == (headers["retry-after"], headers["retry-after-ms"])


def test_an_unknown_wait_has_no_header():
    """Nothing is made up."""
    assert "retry-after" not in error_headers(ServerError("it broke"), "r")


def test_an_event_of_a_stream_bears_the_same_body():
    """What breaks later is told in the same words."""
    error = ServerError("it broke")
    assert error_body(error, "r") == orjson.loads(error_event(error, "r").removeprefix(b"data: "))


def test_a_path_that_is_not_served_says_what_is():
    """The 404 names method and path, and lists the endpoints."""
    headers, body = not_served("POST", "/v1/responses", "r")
    message = orjson.loads(body)["error"]["message"]
    expected = (
        "POST /v1/responses is not served by orrouter; it serves POST chat/completions, completions and embeddings, "
        "GET models and models/{id}"
    )
    assert (expected, "r") == (message, headers["x-request-id"])
