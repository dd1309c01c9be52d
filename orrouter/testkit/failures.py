"""The error bodies of OpenRouter, word for word as clients meet them.

Law: pure values. When one is deserved is decided in `validate.py`, `routing.py` and `desk.py`; which of them
can be asked for by name stands in `plain.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

CREDITS = "https://openrouter.ai/settings/credits"
PRIVACY = "https://openrouter.ai/settings/privacy"

Metadata = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """A reply that is no answer: status, body (JSON, or bytes as they are) and headers of its own."""

    status: int
    body: Mapping[str, Any] | bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        """The body as it travels."""
        return self.body if isinstance(self.body, bytes) else orjson.dumps(self.body)


def failed(
    status: int, message: str, metadata: Metadata | None = None, headers: Mapping[str, str] | None = None, code: int = 0
) -> Failure:
    """`{"error": {"message", "code", "metadata"?}}`; `code` is the status unless a disguise is wanted."""
    error: dict[str, Any] = {"message": message, "code": code or status}
    if metadata:
        error["metadata"] = dict(metadata)
    return Failure(status, {"error": error}, dict(headers or {}))


def html(status: int, title: str) -> Failure:
    """The page that a proxy on the road shows instead of JSON."""
    page = f"<!DOCTYPE html><html><head><title>openrouter.ai | {title}</title></head><body>Cloudflare</body></html>"
    return Failure(status, page.encode(), {"Content-Type": "text/html; charset=UTF-8"})


def no_credentials() -> Failure:
    """401 without an Authorization header."""
    return failed(401, "No cookie auth credentials found")


def unknown_key() -> Failure:
    """401 of a key that nobody gave out."""
    return failed(401, "User not found.")


def not_found() -> Failure:
    """404 of a path that does not exist."""
    return failed(404, "Not Found")


def generation_not_found(generation: str) -> Failure:
    """404 of a generation that is unknown, or not indexed yet."""
    return failed(404, f"Generation {generation} not found")


def no_tokens() -> Failure:
    """400 of a body that is no JSON, or says nothing."""
    return failed(400, "Input must have at least 1 token.", {"provider_name": None})


def input_required() -> Failure:
    """400 of a body without `messages` and `prompt`."""
    return failed(400, 'Input required: specify "prompt" or "messages"')


def no_models() -> Failure:
    """400 of a body that names no model."""
    return failed(400, "No models provided")


def not_a_model(slug: str) -> Failure:
    """400 of a slug that nobody serves."""
    return failed(400, f"{slug} is not a valid model ID")


def too_many_models() -> Failure:
    """400 of a fallback list longer than three."""
    return failed(400, "'models' array must have 3 items or fewer.")


def reasoning_is_mandatory() -> Failure:
    """400 of a request that switches off what the model cannot do without."""
    return failed(400, "Reasoning is mandatory for this endpoint and cannot be disabled.", {"provider_name": None})


def zod(code: str, path: Sequence[str | int], message: str, **more: Any) -> Failure:
    """The second envelope of a 400: no number, and the findings as JSON inside a string."""
    finding = orjson.dumps([{"code": code, **more, "path": list(path), "message": message}], option=orjson.OPT_INDENT_2)
    return Failure(400, {"success": False, "error": {"name": "ZodError", "message": finding.decode()}})


def context_overflow(limit: int, prompt: int, output: int) -> Failure:
    """400 of a prompt (and its `max_tokens`) that no endpoint of the model can hold."""
    return failed(
        400,
        f"This endpoint's maximum context length is {limit} tokens. However, you requested about {prompt + output} "
        f"tokens ({prompt} of text input, {output} in the output). Please reduce the length of either one, or use the "
        "context-compression plugin to compress your prompt automatically.",
        {"provider_name": None},
    )


def no_route(message: str, funnel: Sequence[tuple[str, int]], step: str, metadata: Metadata | None = None) -> Failure:
    """404 of a request that one routing step left without an endpoint; the funnel counts who was left after each."""
    steps = [{"step": name, "endpoint_count": count} for name, count in funnel]
    return failed(404, message, {**(metadata or {}), "routing_funnel": steps, "failed_routing_step": step})


def cannot_afford(asked: int, affordable: int) -> Failure:
    """402 of a request whose longest possible answer costs more than is left."""
    return failed(
        402,
        "This request requires more credits, or fewer max_tokens. "
        f"You requested up to {asked} tokens, but can only afford {affordable}. "
        f"To increase, visit {CREDITS} and upgrade to a paid account",
        {"provider_name": None},
    )


def prompt_too_dear(prompt: int, affordable: int) -> Failure:
    """402 of a prompt that alone costs more than is left."""
    limit = f"Prompt tokens limit exceeded: {prompt} > {affordable}."
    return failed(402, f"{limit} To increase, visit {CREDITS} and add more credits", {"provider_name": None})


def no_credits() -> Failure:
    """402 of an empty account."""
    return failed(402, "Insufficient credits. Add more using https://openrouter.ai/credits")


def in_flight(seconds: int) -> Failure:
    """402 that goes away by itself: running requests hold the balance."""
    return failed(
        402,
        "This request would exceed your available credits given your current in-flight requests. "
        "Retry after in-flight requests settle, or add credits.",
        {"reason": "in_flight_budget_exhausted", "limit_source": "openrouter_in_flight_budget"},
        {"Retry-After": str(seconds)},
    )


def pool_exhausted(slug: str, provider: str) -> Failure:
    """429 of a provider's pool that all customers share; it comes without a hint."""
    raw = (
        f"{slug} is temporarily rate-limited upstream. Please retry shortly, or add your own key to accumulate "
        "your rate limits: https://openrouter.ai/settings/integrations"
    )
    metadata = {
        "raw": raw,
        "provider_name": provider,
        "is_byok": False,
        "limit_source": "upstream_provider_shared_pool",
    }
    return failed(429, "Provider returned error", metadata)


def free_limit(counter: str, limit: int, reset_ms: int, source: str) -> Failure:
    """429 of the caps on `:free` models; the reset is epoch milliseconds, in the headers and mirrored in the body."""
    shown = {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(reset_ms)}
    metadata = {"headers": shown, "limit_source": source, "provider_name": None}
    return failed(429, f"Rate limit exceeded: {counter}. ", metadata, shown)


def moderated(slug: str, provider: str) -> Failure:
    """403 of an input that the provider's moderation flagged."""
    message = (
        f'{slug} requires moderation on {provider}. Your input was flagged for "violence/graphic". '
        "No credits were charged."
    )
    reasons = {"reasons": ["violence/graphic"], "flagged_input": "…", "provider_name": provider, "model_slug": slug}
    return failed(403, message, reasons)
