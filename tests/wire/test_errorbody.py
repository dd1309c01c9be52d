"""The shapes an error comes in, and what a complaint takes from them."""

from __future__ import annotations

import pytest

from orrouter.wire.errorbody import RAW_MAX, Complaint, find_error, status_of


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (502, 502),
        ("502", 502),
        (429.0, 429),
        (200, None),
        ("200", None),
        (True, None),
        ("server_error", None),
        (None, None),
    ],
)
def test_only_statuses_of_failure_are_statuses(value, status):
    """A useless 200 and a word are none."""
    assert status == status_of(value)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"error": None, "choices": [{"message": {}}]},
        {"error": {}, "choices": [{"message": {}}]},
        {"code": 200, "message": "ok"},
        {"code": "ok", "message": "fine", "data": []},
        {"message": {"role": "assistant"}, "code": 500},
    ],
)
def test_a_body_that_tells_of_no_error_has_none(body):
    """Fields that only look alike."""
    assert find_error(body) is None


def test_the_word_beside_the_error_is_taken_along():
    """The Responses skin writes `error_type` one level higher."""
    body = {"response": {"error": {"code": "server_error"}, "error_type": "server"}}
    assert {"code": "server_error", "error_type": "server"} == find_error(body)


def test_kinds_go_from_the_most_stable_word_to_the_least():
    """`error_type` first; a number is no word."""
    error = {"code": "Some_Code", "error_type": "outer", "metadata": {"error_type": "inner"}}
    assert ("inner", "outer", "some_code") == Complaint(200, error).kinds
    assert () == Complaint(200, {"code": "502"}).kinds


@pytest.mark.parametrize(
    ("body", "error", "provider"),
    [
        ({}, {"metadata": {"provider_name": "A", "provider": "B"}}, "A"),
        ({}, {"metadata": {"provider_name": None, "provider": "B"}}, "B"),
        ({"provider": "C"}, {}, "C"),
        ({}, {"message": "Upstream error from Venice: slow"}, "Venice"),
        ({}, {"message": "x/y requires moderation on Amazon Bedrock. Your input"}, "Amazon Bedrock"),
        ({}, {"message": "nobody"}, None),
    ],
)
def test_the_provider_is_found_wherever_it_is_named(body, error, provider):
    """Both spellings, the envelope, or the sentence."""
    assert provider == Complaint(502, error, body).provider


def test_a_complaint_without_words_shows_its_kind():
    """Better than nothing."""
    assert "timeout" == Complaint(200, {"error_type": "timeout"}).summary
    assert "the upstream failed and gave no reason" == Complaint(500).summary


def test_the_error_object_is_kept_or_cut():
    """Whole while it is small, the first characters of its JSON otherwise."""
    assert {"message": "x"} == Complaint(500, {"message": "x"}).raw
    assert RAW_MAX == len(Complaint(500, {"message": "x" * RAW_MAX}).raw)
