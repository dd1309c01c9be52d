"""The faults that are one plain reply: a status and a body instead of an answer.

Law: rows. Each says when it happens and takes its body from `failures.py`. What happens while an answer is on its
way stands in `twists.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate

from orrouter.testkit import failures
from orrouter.testkit.answers import Turn
from orrouter.testkit.failures import Failure, failed, html
from orrouter.testkit.plans import Fault, Plan, refused

DAY = 86_400
_FLAGGED = "This content was flagged for possible cybersecurity risk."


def _row(name: str, says: str, make: Callable[[Turn, float], Failure], usual: float = 0.0) -> Fault:
    def play(turn: Turn, number: float) -> Plan:
        return refused(make(turn, number), turn.generation_id)

    return Fault(name, says, play, usual)


def _typed(status: int, message: str, error_type: str) -> Failure:
    return failed(status, message, {"error_type": error_type})


def _limited(seconds: float, **headers: str) -> Failure:
    metadata = {"error_type": "rate_limit_exceeded"}
    return failed(429, "Rate limit exceeded", metadata, headers or {"Retry-After": f"{seconds:g}"})


def _hint_in_body(turn: Turn, seconds: float) -> Failure:
    metadata = {"provider_name": turn.provider.name, "retry_after_seconds": seconds, "retry_after_seconds_raw": seconds}
    return failed(429, "Provider returned error", metadata)


def _by_the_minute(turn: Turn, seconds: float) -> Failure:
    reset = int((turn.now + seconds) * 1_000)
    return failures.free_limit("free-models-per-min", 20, reset, "openrouter_free_tier_per_minute")


def _by_the_day(turn: Turn, _: float) -> Failure:
    midnight = (int(turn.now) // DAY + 1) * DAY
    return failures.free_limit("free-models-per-day", 50, midnight * 1_000, "openrouter_free_tier_daily")


def _asked(turn: Turn) -> int:
    return turn.ask.max_tokens or turn.provider.max_output


def _provider_said(turn: Turn, status: int, raw: str) -> Failure:
    metadata = {"raw": raw, "provider_name": turn.provider.name, "is_byok": turn.provider.byok}
    return failed(status, "Provider returned error", metadata)


def _overflow(turn: Turn, limit: float) -> Failure:
    return failures.context_overflow(int(limit), int(limit) + turn.answer.prompt_tokens, turn.ask.max_tokens or 0)


def _no_provider(turn: Turn, _: float) -> Failure:
    funnel = [("Initial Endpoints", len(turn.model.providers)), ("Filter by Fallback", 0)]
    return failures.no_route(f"No endpoints found for {turn.model.slug}.", funnel, "Filter by Fallback")


_RATES = (
    _row("429", "too many requests; Retry-After in seconds (argument, usually 2)", lambda _, n: _limited(n), 2),
    _row(
        "429_date",
        "too many requests; Retry-After as a date so many seconds ahead (usually 2)",
        lambda turn, n: _limited(n, **{"Retry-After": formatdate(turn.now + n, usegmt=True)}),
        2,
    ),
    _row(
        "429_ms",
        "too many requests; retry-after-ms (argument in milliseconds, usually 1500)",
        lambda _, n: _limited(n, **{"retry-after-ms": f"{n:g}"}),
        1_500,
    ),
    _row("429_body", "too many requests; the wait stands in metadata.retry_after_seconds only", _hint_in_body, 2),
    _row("429_reset", "the free tier's minute is full; X-RateLimit-Reset in epoch milliseconds", _by_the_minute, 2),
    _row(
        "429_pool",
        "the provider's shared pool is exhausted; no hint at all",
        lambda turn, _: failures.pool_exhausted(turn.model.slug, turn.provider.name),
    ),
    _row("429_free_day", "the free tier's day is used up; reset at midnight UTC", _by_the_day),
    _row("429_empty", "too many requests; no body, no hint", lambda *_: Failure(429, b"")),
)

_MONEY = (
    _row(
        "402_afford",
        "the longest possible answer is dearer than the balance; the argument is what could be afforded",
        lambda turn, n: failures.cannot_afford(_asked(turn), int(n)),
        100,
    ),
    _row(
        "402_in_flight",
        "running requests hold the balance; goes away by itself",
        lambda _, n: failures.in_flight(int(n)),
        3,
    ),
    _row("402_credits", "the account is empty", lambda *_: failures.no_credits()),
    _row(
        "402_key_limit",
        "the key's own limit, as a 402",
        lambda *_: failed(402, "Key limit reached", {"limit_source": "openrouter_key_limit", "provider_name": None}),
    ),
    _row(
        "403_key_limit",
        "the key's own limit, as a 403 that looks like a bad key",
        lambda *_: failed(403, "Key limit exceeded (daily limit). Manage it using https://openrouter.ai/settings/keys"),
    ),
)

_REJECTED = (
    _row("400", "the provider calls the request wrong", lambda turn, _: _provider_said(turn, 400, '{"error":"bad"}')),
    _row("400_context", "the prompt is longer than the context (argument, usually 16384 tokens)", _overflow, 16_384),
    _row(
        "400_no_models",
        "'No models provided' although there was one; the same bytes succeed later",
        lambda *_: failures.no_models(),
    ),
    _row("401", "the key is unknown", lambda *_: failures.unknown_key()),
    _row(
        "403_moderation",
        "the input was flagged",
        lambda turn, _: failures.moderated(turn.model.slug, turn.provider.name),
    ),
    _row("404_no_provider", "routing left no endpoint", _no_provider),
    _row("404_transient", "a failure of the provider dressed as a 404", lambda turn, _: _provider_said(turn, 404, "")),
    _row("413", "the body is too large", lambda *_: _typed(413, "Payload too large", "payload_too_large")),
)

_BROKEN = (
    _row("408", "the upstream gave up waiting", lambda *_: failed(408, "Request timeout")),
    _row("500", "a plain server error", lambda *_: failed(500, "Internal Server Error")),
    _row(
        "502", "the provider is unavailable", lambda *_: _typed(502, "Network connection lost.", "provider_unavailable")
    ),
    _row("502_policy", "a policy refusal dressed as a 502: asking again is useless", lambda *_: failed(502, _FLAGGED)),
    _row(
        "503",
        "the provider is overloaded",
        lambda *_: _typed(503, "Service temporarily overloaded", "provider_overloaded"),
    ),
    _row("504", "the provider took too long", lambda *_: _typed(504, "Upstream timed out", "timeout")),
    _row(
        "529",
        "the provider is overloaded, in its own number",
        lambda *_: _typed(529, "Overloaded", "provider_overloaded"),
    ),
    _row("status", "any status with a plain body (argument, usually 500)", lambda _, n: failed(int(n), "Error"), 500),
    _row("502_html", "a proxy's page with status 502", lambda *_: html(502, "502: Bad gateway")),
    _row("524_html", "a proxy's page with status 524", lambda *_: html(524, "524: A timeout occurred")),
    _row(
        "html_200",
        "a page with status 200",
        lambda *_: Failure(200, b"<html>gateway</html>", {"Content-Type": "text/html"}),
    ),
    _row("empty_200", "status 200 and not a byte", lambda *_: Failure(200, b"")),
)

PLAIN: tuple[Fault, ...] = (*_RATES, *_MONEY, *_REJECTED, *_BROKEN)
"""All of them."""
