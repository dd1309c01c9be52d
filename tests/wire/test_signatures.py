"""The tables of known failures are whole, and sentences are believed only where they belong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.core.errors import CreditsExhausted, InvalidRequest, KeyLimitReached, NoRoute
from orrouter.wire.signatures import KINDS, SIGNS, by_status, by_words

ERROR_TYPES = (
    "context_length_exceeded",
    "max_tokens_exceeded",
    "token_limit_exceeded",
    "string_too_long",
    "invalid_request",
    "invalid_prompt",
    "invalid_image",
    "image_too_large",
    "image_too_small",
    "unsupported_image_format",
    "image_download_failed",
    "authentication",
    "payment_required",
    "permission_denied",
    "content_policy_violation",
    "refusal",
    "not_found",
    "image_not_found",
    "precondition_failed",
    "payload_too_large",
    "unprocessable",
    "rate_limit_exceeded",
    "server",
    "unmapped",
    "provider_unavailable",
    "provider_overloaded",
    "timeout",
)


@pytest.mark.parametrize("error_type", ERROR_TYPES)
def test_every_documented_error_type_is_known(error_type):
    """The 27 values of OpenRouter's enum."""
    assert error_type in KINDS


@given(st.integers(400, 499))
def test_every_status_of_a_refusal_has_a_meaning(status):
    """A 4xx that nobody listed is the caller's fault."""
    assert by_status(status) is not None


@pytest.mark.parametrize("status", [0, 200, 302, 501, 505, 600])
def test_other_statuses_say_nothing(status):
    """Nothing is guessed from them."""
    assert by_status(status) is None


@pytest.mark.parametrize("sign", SIGNS, ids=lambda sign: sign.words.pattern[:30])
def test_sentences_are_looked_for_in_lower_case(sign):
    """A capital letter in a pattern would never be met."""
    assert sign.words.pattern.replace(r"\S", "") == sign.words.pattern.replace(r"\S", "").lower()


@pytest.mark.parametrize(
    ("words", "status", "kind"),
    [
        ("key limit exceeded (daily limit)", 403, KeyLimitReached),
        ("workspace monthly budget of $500.00 exceeded. contact", 403, KeyLimitReached),
        ("but can only afford 1. visit https://openrouter.ai/settings/keys and", 402, KeyLimitReached),
        ("no endpoints found matching your data policy (zero data retention)", 404, NoRoute),
    ],
)
def test_a_sentence_names_its_class(words, status, kind):
    """At a status at which it is believed."""
    assert kind is by_words(words, status).kind


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("key limit exceeded", 429),
        ("maximum context length", 402),
        ("temporarily overloaded", 404),
        ("the request timed out", 400),
        ("a sentence that nobody knows", 500),
    ],
)
def test_a_sentence_at_the_wrong_status_says_nothing(words, status):
    """Sentences quote one another; the status says which is meant."""
    assert by_words(words, status) is None


def test_credits_and_other_refusals_fall_back_to_their_status():
    """402 and 400 without a known sentence."""
    assert (CreditsExhausted, InvalidRequest) == (by_status(402).kind, by_status(400).kind)
