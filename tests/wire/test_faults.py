"""What the table of captured bodies does not show: disguises, bills, details, and that nothing can raise."""

from __future__ import annotations

import math
import pickle

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.core import errors
from orrouter.core.errors import UpstreamError, descendants
from orrouter.wire.faults import Answer, fault_in, fault_of

NOW = 1_765_680_000.0  # 2025-12-14 02:40:00 UTC
KNOWN = set(descendants(UpstreamError))

FIELDS = st.sampled_from(
    [
        "error", "code", "message", "metadata", "raw", "error_type", "type", "status", "choices", "finish_reason", "usage",
        "cost", "provider", "provider_name", "model", "id", "reasons", "routing_funnel", "failed_routing_step", "response",
        "limit_source", "reason", "headers", "availability", "excluded_by", "retryable", "data", "detail", "path", "http_status",
    ]
)  # fmt: skip
WORDS = st.sampled_from(
    [
        "", "Provider returned error", "No endpoints found", "error", "response.failed", "server_error", "rate_limit_exceeded",
        "502", "gen-1", "openrouter_credits", "can only afford 12", '{"error": {"message": "x"}}', "[{}]", "{",
        "Rate limit exceeded: free-models-per-day", "maximum context length",
    ]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.integers(395, 605) | st.floats() | st.text(max_size=12) | WORDS
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS | st.text(max_size=4), inner, max_size=5),
    max_leaves=25,
)
OBJECTS = st.dictionaries(FIELDS, JSON, max_size=6)
BODIES = JSON | OBJECTS | st.binary(max_size=60) | st.text(max_size=60) | OBJECTS.map(repr)
HEADERS = st.dictionaries(
    st.sampled_from(["Retry-After", "retry-after-ms", "X-RateLimit-Reset", "X-Generation-Id"]) | st.text(max_size=5),
    st.text(max_size=20) | st.integers().map(str),
    max_size=3,
)
STATUSES = st.just(200) | st.integers(0, 700)
NEEDS = st.sampled_from([None, "choices", "data"])


def body(message: str = "it failed", code: object = 500, **metadata: object) -> dict:
    return {"error": {"message": message, "code": code, "metadata": metadata}}


def fault(status: int, content: object, **given_: object) -> UpstreamError:
    found = fault_of(Answer(status, {}, content), **{"now": NOW, **given_})
    assert found is not None
    return found


def check(found: UpstreamError | None) -> None:
    """What holds for every error that leaves the classifier."""
    if found is None:
        return
    assert type(found) in KNOWN
    assert len(found.message) <= 500
    assert "\n" not in found.message
    assert found.retry_after is None or (math.isfinite(found.retry_after) and 0 <= found.retry_after <= 86_400)
    assert len(orjson.dumps(found.raw)) < 30_000
    assert str(found) == str(pickle.loads(pickle.dumps(found)))


@given(st.builds(Answer, STATUSES, HEADERS, BODIES), NEEDS, st.booleans(), st.none() | st.floats(0, 1e11))
def test_no_answer_can_raise(answer, needs, plain, now):
    """Any status, headers and body end in an error of ours or in a success."""
    found = fault_of(answer, needs=needs, plain=plain, now=now)
    check(found)
    assert found is not None or 200 <= answer.status < 300


@given(OBJECTS, st.booleans(), NEEDS, HEADERS, st.booleans())
def test_no_object_can_raise(obj, whole, needs, headers, plain):
    """Any JSON object inside a 2xx does too."""
    check(fault_in(obj, whole=whole, needs=needs, headers=headers, plain=plain, now=NOW))


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5)), st.integers(400, 699))
def test_an_unknown_failure_is_never_asked_again_unless_its_status_is_known(content, status):
    """Only statuses that are known to pass are repeated."""
    repeated = {408, 429, 499, 500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 529, 530}
    assert (status in repeated) == (fault(status, {"error": content or "?"}).again != "no")


@pytest.mark.parametrize(
    ("status", "kind", "again"),
    [
        (302, errors.ServerError, "no"),
        (400, errors.InvalidRequest, "no"),
        (401, errors.AuthFailed, "no"),
        (402, errors.CreditsExhausted, "no"),
        (403, errors.AuthFailed, "no"),
        (404, errors.InvalidRequest, "no"),
        (408, errors.ServerError, "yes"),
        (413, errors.InvalidRequest, "no"),
        (418, errors.InvalidRequest, "no"),
        (422, errors.InvalidRequest, "no"),
        (429, errors.RateLimited, "yes"),
        (499, errors.ServerError, "yes"),
        (500, errors.ServerError, "yes"),
        (501, errors.ServerError, "no"),
        (503, errors.Overloaded, "last_once"),
        (504, errors.ServerError, "yes"),
        (524, errors.ServerError, "yes"),
        (529, errors.Overloaded, "last_once"),
        (599, errors.ServerError, "no"),
    ],
)
def test_a_status_alone_has_a_meaning(status, kind, again):
    """Without words the status decides; one that nobody knows is not asked again."""
    found = fault(status, b"")
    assert (kind, again) == (type(found), found.again)


@pytest.mark.parametrize("code", [429, "429", 429.0])
def test_the_code_in_the_body_may_be_a_number_or_digits(code):
    """Routers write both."""
    assert (errors.RateLimited, 429) == (type(fault(200, body(code=code))), fault(200, body(code=code)).status)


@pytest.mark.parametrize(
    ("message", "status", "kind"),
    [
        ("This content was flagged for possible cybersecurity risk", 502, errors.Moderated),
        ("Request exceeded the 900 second wall-clock limit.", 502, errors.UpstreamTimeout),
        ("No endpoints found that support input audio", 503, errors.NoRoute),
        ("x/y is not a valid model ID", 400, errors.ModelNotFound),
        ("The model `x` does not exist or you do not have access to it.", 404, errors.ModelNotFound),
        ("User location is not supported for the API use.", 400, errors.NoRoute),
        ("This model's maximum context length is 8192 tokens.", 400, errors.ContextOverflow),
        ("This model's maximum context length is 8192 tokens.", 502, errors.ContextOverflow),
        ("Workspace daily budget of $5.00 exceeded.", 403, errors.KeyLimitReached),
        ("Upstream error from Nvidia: Service temporarily overloaded", 500, errors.Overloaded),
        ("Request too large on tokens per min; maximum context length 5", 429, errors.RateLimited),
    ],
)
def test_the_sentence_beats_the_status(message, status, kind):
    """A refusal in the clothes of a broken provider is not retried as one, and the other way round."""
    assert kind is type(fault(status, body(message, status)))


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"code": "context_length_exceeded", "type": "invalid_request_error"}, errors.ContextOverflow),
        (401, {"code": None, "type": "invalid_request_error"}, errors.AuthFailed),
        (404, {"code": "model_not_found", "type": "invalid_request_error"}, errors.ModelNotFound),
        (429, {"code": "insufficient_quota", "type": "insufficient_quota"}, errors.CreditsExhausted),
        (200, {"code": None, "type": "invalid_request_error"}, errors.InvalidRequest),
        (200, {"code": "server_error"}, errors.ServerError),
    ],
)
def test_codes_of_other_upstreams_are_known(status, error, kind):
    """The exact word goes before the status, the general one after it."""
    assert kind is type(fault(status, {"error": {"message": "no", **error}}))


def test_the_list_that_google_wraps_its_error_in_is_opened():
    """Its OpenAI-compatible endpoint answers with a list of one."""
    assert errors.RateLimited is type(fault(429, [body("Resource exhausted", 429)]))


@pytest.mark.parametrize(
    "obj",
    [
        {"type": "error", "code": "server_error", "message": "no", "sequence_number": 3},
        {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "no"}}},
        {
            "id": "resp_1",
            "status": "failed",
            "error": {"code": "server_error", "message": "no"},
            "error_type": "server",
        },
        {"message": "no", "code": 502},
        {"error": {"message": "no", "code": 502}, "choices": []},
        {"choices": [{"delta": {}, "finish_reason": "error", "error": {"message": "no", "code": 502}}]},
        {"choices": [{"delta": {}, "error": {"message": "no", "code": 502}}]},
        {"error": "internal error: no"},
    ],
)
def test_every_shape_of_an_error_event_is_seen(obj):
    """Chat, Responses and Messages spell it differently."""
    found = fault_in(obj, whole=False)
    assert errors.ServerError is type(found)
    assert "no" in found.message


@pytest.mark.parametrize(
    "obj",
    [
        {"choices": []},
        {"choices": [], "usage": {"cost": 0.1}},
        {"choices": [{"delta": {"content": "hi"}, "finish_reason": None}]},
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "error": None},
        {"type": "message_start", "message": {"id": "msg"}},
        {"type": "response.incomplete", "response": {"error": None, "status": "incomplete"}},
        {"type": "ping"},
    ],
)
def test_an_event_that_tells_of_no_error_is_sound(obj):
    """Accounting, debug and first events are no failures."""
    assert fault_in(obj, whole=False) is None


def test_one_sound_choice_saves_the_answer():
    """A caller who asked for several keeps those that came."""
    choices = [
        {"message": {"content": "a"}, "finish_reason": "stop"},
        {"error": {"code": 502}, "finish_reason": "error"},
    ]
    assert fault_in({"choices": choices}, whole=True) is None


def test_a_failed_first_choice_is_a_fault_beside_a_sound_one():
    """The first choice is the answer that most callers read."""
    choices = [
        {"message": {"content": "half"}, "error": {"code": 502, "message": "died"}, "finish_reason": "error"},
        {"message": {"content": "a"}, "finish_reason": "stop"},
    ]
    assert errors.ServerError is type(fault_in({"choices": choices}, whole=True))


def test_a_broken_finish_without_a_reason_is_a_server_error():
    """`finish_reason: error` alone tells of a failure that nobody explained."""
    found = fault_in({"choices": [{"delta": {}, "finish_reason": "error"}]}, whole=False)
    assert (errors.ServerError, "no") == (type(found), found.again)
    assert "finish_reason: error" in found.message


@pytest.mark.parametrize(
    ("content", "needs", "kind"),
    [
        ({"id": "gen-1"}, "choices", errors.ServerError),
        ({"choices": None}, "choices", errors.ServerError),
        ({"choices": []}, "choices", errors.EmptyReply),
        ({"choices": [{}]}, "data", errors.ServerError),
        (b"[1, 2]", "choices", errors.ServerError),
        (b"", "data", errors.ServerError),
    ],
)
def test_a_success_must_hold_what_is_needed(content, needs, kind):
    """A 200 that is no answer failed, may have been billed, and may be asked for again."""
    found = fault(200, content, needs=needs)
    assert (kind, "yes", "maybe") == (type(found), found.again, found.billed)


@pytest.mark.parametrize(
    ("content", "needs"),
    [
        (b"\xff\xfb\x90sound", None),
        (b"", None),
        ({"data": []}, "data"),
        (b'\n\n   \n{"choices": [{}]}', "choices"),
        (b': OPENROUTER PROCESSING\n\n{"choices": [{}]}', "choices"),
    ],
)
def test_what_holds_it_is_a_success(content, needs):
    """Padding and leaked keep-alives before the JSON do no harm; audio need not be JSON."""
    assert fault_of(Answer(200, {}, content), needs=needs) is None


@pytest.mark.parametrize(
    ("status", "content", "plain", "billed"),
    [
        (502, body(code=502), True, "no"),
        (502, body(code=502), False, "maybe"),
        (502, "<html>502</html>", True, "maybe"),
        (504, body(code=504), True, "maybe"),
        (503, body(code=503), True, "no"),
        (503, "busy", True, "maybe"),
        (429, "", True, "no"),
        (429, body(code=429), False, "maybe"),
        (401, body(code=401), False, "no"),
        (404, body("No endpoints found", 404), False, "no"),
        (403, body("This model is not available in your region.", 403, provider_name="A"), False, "maybe"),
        (400, body(code=400), False, "maybe"),
        (502, body(code=502, file_annotations=[{}]), True, "maybe"),
        (200, body(code=502) | {"usage": {"cost": 0.02}}, True, "yes"),
    ],
)
def test_only_a_parsed_error_of_a_plain_request_proves_that_nothing_was_billed(status, content, plain, billed):
    """Fees of plugins survive a failure, a page proves nothing, a timeout may have worked, a reported cost is one."""
    assert billed == fault(status, content, plain=plain).billed


@pytest.mark.parametrize(
    ("metadata", "scope"),
    [
        ({}, "target"),
        ({"provider_name": "Liquid"}, "provider"),
        ({"is_byok": True}, "provider"),
        ({"limit_source": "upstream_provider_shared_pool"}, "provider"),
        ({"limit_source": "openrouter_free_tier_per_minute"}, "free"),
        ({"reason": "in_flight_budget_exhausted"}, "key"),
    ],
)
def test_a_limit_says_whom_it_concerns(metadata, scope):
    """The model, one provider of it, all free models, or the whole key."""
    assert scope == fault(429, body("Too many", 429, **metadata)).scope


def test_the_upsell_about_days_makes_no_daily_limit():
    """Every limit advertises more requests per day; only the counter's name counts."""
    message = "Rate limit exceeded: free-models-per-min. Add 10 credits to unlock 1000 free model requests per day"
    found = fault(429, body(message, 429))
    assert ("free", None) == (found.scope, found.retry_after)


@pytest.mark.parametrize("reset", [None, "1765600000000", "soon"])
def test_a_daily_limit_without_a_usable_reset_waits_for_midnight(reset):
    """In UTC: from 02:40 that is 21 hours and 20 minutes."""
    content = body("Rate limit exceeded: free-models-per-day", 429, headers={"X-RateLimit-Reset": reset})
    assert 76_800.0 == fault(429, content).retry_after


def test_a_402_that_says_when_to_come_back_is_a_rate_limit():
    """The Messages skin sends no limit_source; no other 402 bears the header."""
    found = fault_of(Answer(402, {"retry-after": "2"}, body("Payment required", 402)))
    assert (errors.RateLimited, "key", 2.0) == (type(found), found.scope, found.retry_after)


@pytest.mark.parametrize(("tokens", "affordable"), [("27342", 27342), ("0", 0), ("many", None)])
def test_what_can_be_afforded_is_read(tokens, affordable):
    """Nought is a number: nothing fits."""
    assert affordable == fault(402, body(f"but can only afford {tokens}. To increase, visit", 402)).affordable


def test_moderation_names_its_categories():
    """From the list, or from the sentence; never the flagged text."""
    listed = fault(403, body("no", 403, reasons=["hate", "violence"], flagged_input="the text"))
    assert ("hate", "violence") == listed.reasons
    spoken = fault(403, body('x requires moderation on Y. Your input was flagged for "hate, violence".', 403))
    assert ("hate", "violence") == spoken.reasons


@pytest.mark.parametrize(
    ("metadata", "step"),
    [
        ({"failed_routing_step": "Filter by Max Price"}, "Filter by Max Price"),
        ({"routing_funnel": [{"step": "A", "endpoint_count": 2}, {"step": "B", "endpoint_count": 0}]}, "B"),
        ({}, "Filter by Ignored Providers"),
    ],
)
def test_no_route_names_the_filter(metadata, step):
    """As the upstream names it, else the step that left none, else the one its sentence is known for."""
    assert step == fault(404, body("All providers have been ignored.", 404, **metadata)).step


def test_an_upstream_that_says_it_will_not_help_is_not_asked_again():
    """`availability.retryable: false` wins over a class that would be repeated."""
    assert "no" == fault(503, {"error": {"message": "gone", "availability": {"retryable": False}}}).again


def test_no_models_provided_is_asked_once_more():
    """The same bytes succeed a moment later, so neither the caller nor the breaker hears of it."""
    found = fault(400, body("No models provided", 400))
    assert ("once", False, "no") == (found.again, found.counted, found.billed)


def test_who_failed_is_read_from_the_body_and_the_headers():
    """Provider, model, generation and the upstream's own request id."""
    content = body(code=502, provider_name="NextBit") | {"model": "x/y", "id": "chatcmpl-1"}
    found = fault_of(Answer(502, {"x-generation-id": "gen-7", "Request-Id": "r1"}, content))
    assert ("NextBit", "x/y", "gen-7", "r1") == (
        found.provider,
        found.model,
        found.generation_id,
        found.upstream_request_id,
    )


def test_the_provider_speaks_where_the_router_says_nothing():
    """Its own words, behind its name."""
    content = body("Provider returned error", 400, provider_name="Acme", raw='{"error": {"message": "bad tool name"}}')
    assert "Acme: bad tool name" == fault(400, content).message


def test_keys_and_user_ids_are_blotted_out():
    """In the message and in what is kept of the body."""
    content = body("Incorrect API key provided: sk-or-v1-0123456789abcdef", 401, who="user_2abcDEF0123456789")
    found = fault(401, content)
    assert "Incorrect API key provided: [redacted]" == found.message
    assert "[redacted]" == found.raw["metadata"]["who"]


def test_a_large_body_is_kept_as_a_text_that_was_cut():
    """4096 characters are enough to see what it was."""
    found = fault(500, body("x" * 9000, 500))
    assert 4096 == len(found.raw)
    assert 500 == len(found.message)
