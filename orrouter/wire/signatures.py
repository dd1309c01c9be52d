"""The tables of known failures: which word, marker, sentence or status means which error.

Law: data, and the looking up in it. The order in which the tables are asked, and what becomes of a verdict, is
the business of `faults`.

Sources: OpenRouter's pages on errors, limits and routing, and the bodies in tests/data/error_bodies.jsonl.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import lru_cache

from orrouter.core.errors import (
    Again,
    AuthFailed,
    ContextOverflow,
    CreditsExhausted,
    InvalidRequest,
    KeyLimitReached,
    ModelNotFound,
    Moderated,
    NoRoute,
    Overloaded,
    RateLimited,
    Scope,
    ServerError,
    Transient,
    UpstreamError,
    UpstreamTimeout,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A class of failure, and where this case differs from its class.

    `late`: the work may have been done, and charged, although an error came back.
    """

    kind: type[UpstreamError]
    again: Again | None = None
    counted: bool | None = None
    scope: Scope | None = None
    step: str | None = None
    late: bool = False


@dataclass(frozen=True, slots=True)
class Sign:
    """A sentence that tells more than the status it comes with; `at` are the statuses at which it is believed."""

    words: re.Pattern[str]
    verdict: Verdict
    at: Container[int]


INVALID = Verdict(InvalidRequest)
AUTH = Verdict(AuthFailed)
CREDITS = Verdict(CreditsExhausted)
KEY_LIMIT = Verdict(KeyLimitReached)
MODERATED = Verdict(Moderated)
OVERFLOW = Verdict(ContextOverflow)
NO_MODEL = Verdict(ModelNotFound)
NO_ROUTE = Verdict(NoRoute)
LIMITED = Verdict(RateLimited)
OVERLOADED = Verdict(Overloaded)
SERVER = Verdict(ServerError)
LATE = Verdict(ServerError, late=True)
FREE_LIMIT = Verdict(RateLimited, scope="free")
IN_FLIGHT = Verdict(RateLimited, scope="key")
POOL = Verdict(RateLimited, scope="provider")
GLITCH = Verdict(Transient, again="once")
"""A failure dressed as a refusal: the same bytes succeed a moment later."""
UNMAPPED = Verdict(ServerError, again="once")
UNKNOWN = Verdict(ServerError, again="no", late=True)
"""Never ask the same target again about what nobody knows."""

LIMIT_SOURCES: Mapping[str, Verdict] = {
    "openrouter_in_flight_budget": IN_FLIGHT,
    "openrouter_credits": CREDITS,
    "openrouter_key_limit": KEY_LIMIT,
    "openrouter_free_tier_per_minute": FREE_LIMIT,
    "openrouter_free_tier_daily": FREE_LIMIT,
    "upstream_provider_shared_pool": POOL,
    # `metadata.reason` of the same pages, where `limit_source` is missing
    "in_flight_budget_exhausted": IN_FLIGHT,
    "weight_exceeds_budget": CREDITS,
}
"""`metadata.limit_source`, and `metadata.reason`: exact, so they go before any sentence."""

KINDS: Mapping[str, Verdict] = {
    **dict.fromkeys(
        (
            "invalid_request", "invalid_prompt", "invalid_image", "image_too_large", "image_too_small",
            "unsupported_image_format", "image_download_failed", "image_not_found", "precondition_failed",
            "payload_too_large", "request_too_large", "unprocessable",
        ),
        INVALID,
    ),
    **dict.fromkeys(
        ("context_length_exceeded", "max_tokens_exceeded", "token_limit_exceeded", "string_too_long"), OVERFLOW
    ),
    **dict.fromkeys(
        ("authentication", "authentication_error", "permission_denied", "permission_error", "invalid_api_key"), AUTH
    ),
    **dict.fromkeys(("payment_required", "billing_error", "insufficient_quota"), CREDITS),
    **dict.fromkeys(("content_policy_violation", "refusal", "content_filter"), MODERATED),
    **dict.fromkeys(("not_found", "not_found_error", "model_not_found", "model_deprecated"), NO_MODEL),
    "privacy_restricted": NO_ROUTE,
    **dict.fromkeys(("rate_limit_exceeded", "rate_limit_error", "too_many_requests", "capacity_exhausted"), LIMITED),
    **dict.fromkeys(("server", "provider_unavailable"), SERVER),
    "unmapped": UNMAPPED,
    **dict.fromkeys(("provider_overloaded", "overloaded_error", "overloaded", "service_unavailable"), OVERLOADED),
    **dict.fromkeys(("timeout", "timeout_error"), LATE),
}  # fmt: skip
"""`error_type` (OpenRouter's 27 values), availability codes, and the codes of OpenAI and Anthropic."""

STATUSES: Mapping[int, Verdict] = {
    401: AUTH,
    402: CREDITS,
    403: AUTH,
    429: LIMITED,
    503: OVERLOADED,
    529: OVERLOADED,
    **dict.fromkeys((500, 502, 520, 521, 522, 523, 525, 526, 527, 530), SERVER),
    **dict.fromkeys((408, 499, 504, 524), LATE),
}
"""Statuses by themselves; any other 4xx is INVALID, anything else is UNKNOWN."""

TYPES: Mapping[str, Verdict] = {"invalid_request_error": INVALID, "api_error": SERVER, "server_error": SERVER}
"""Words so general that a status says more."""

_ANY = range(1000)
_BROKEN = frozenset({200, *range(500, 600)})
"""Statuses that by themselves say no more than that it failed."""
_ASKED = _BROKEN | {400, 413, 422}
_NO_MONEY = frozenset({402, 403})


def _sign(words: str, verdict: Verdict, at: Container[int] = _ANY) -> Sign:
    return Sign(re.compile(words), verdict, at)


def _no_route(words: str, step: str | None = None) -> Sign:
    return _sign(words, Verdict(NoRoute, step=step))


SIGNS: tuple[Sign, ...] = (
    # money
    _sign(r"in-flight requests", IN_FLIGHT, {402, 429}),
    _sign(
        r"key limit exceeded|\bbudget of \$[\d.,]{1,20} exceeded|\bbudget (?:has been |is )?exceeded",
        KEY_LIMIT,
        _NO_MONEY,
    ),
    _sign(r"/settings/keys|create a key with a higher|adjust the key's", KEY_LIMIT, {402}),
    # counters: the sentence that sells credits says "per day" on every limit, so match the counter's name
    _sign(r"free-models-per-(?:min|day)", FREE_LIMIT),
    # nobody is left who could serve, whatever the status says
    _no_route(r"no endpoints found that support image input", "Filter by Image Support"),
    _no_route(r"no endpoints found that support tool use", "Filter by Tool Compatibility"),
    _no_route(r"no endpoints found that can handle the requested parameters", "Filter by Parameters"),
    _no_route(
        r"matching your (?:guardrail restrictions and )?data policy|match your data policy", "Filter by Guardrails"
    ),
    _no_route(r"no allowed providers are available", "Filter by Allowed Providers"),
    _no_route(r"all providers have been ignored", "Filter by Ignored Providers"),
    _no_route(r"only available through the batch api", "Filter Batch-Only Endpoints"),
    _no_route(r"no endpoints (?:found|available)|no models match your request|no (?:provider|endpoint)s? meets?"),
    _no_route(r"not available in your region|user location is not supported", "Gate Endpoints with Geo Restrictions"),
    _no_route(r"complete the following before use", "Gate Endpoints with Attestations"),
    _no_route(r"violation of provider terms of service"),
    # the model
    _sign(r"is not a valid model id|model\b[^\n]{0,100}\b(?:does not exist|not found)", NO_MODEL, {400, 404}),
    _sign(r"unavailable for free", NO_MODEL, {404}),
    # the prompt
    _sign(
        r"maximum context length|context (?:length|window) (?:is )?exceeded"
        r"|exceeds the (?:model's )?context (?:length|window)|prompt is too long"
        r"|input is too long|input token count [^\n]{0,40}exceeds",
        OVERFLOW,
        _ASKED,
    ),
    # the content, also where it wears the status of a broken provider
    _sign(
        r"requires moderation on|your input was flagged|request blocked:|prompt injection", MODERATED, {403, 400, 200}
    ),
    _sign(
        r"\bflagged (?:for|as|by)\b|content[ _]policy|content management policy|usage polic(?:y|ies)|prohibited content"
        r"|\bviolat\w{1,4} (?:our|the|\w{1,20}'s) [^\n]{0,40}polic",
        MODERATED,
        _ASKED | {403},
    ),
    # disguises
    _sign(r"wall[- ]clock limit", Verdict(UpstreamTimeout)),
    _sign(r"^no models provided", Verdict(Transient, again="once", counted=False), {400}),
    _sign(r"^generation \S{1,200} not found", Verdict(Transient, again="yes", counted=False), {404}),
    _sign(r"\boverloaded\b|at capacity|over capacity", OVERLOADED, _BROKEN),
    _sign(r"temporarily rate-limited upstream|rate limit exceeded|too many requests", POOL, _BROKEN),
    _sign(r"\btime(?:d )?-?out\b", LATE, {200}),
    _sign(r"connection (?:lost|reset|closed|refused|error)|internal (?:server )?error|bad gateway", SERVER, {200}),
)
"""Sentences, the first that fits wins."""


@lru_cache(maxsize=256)  # In an outage the same sentence comes a thousand times.
def by_words(words: str, status: int) -> Verdict | None:
    """What the sentence itself says, at this status; `words` in lower case."""
    return next((sign.verdict for sign in SIGNS if status in sign.at and sign.words.search(words)), None)


def by_status(status: int) -> Verdict | None:
    """What the status alone says; None if that is nothing."""
    known = STATUSES.get(status)
    return INVALID if known is None and 400 <= status < 500 else known
