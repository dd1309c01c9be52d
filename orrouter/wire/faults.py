"""Failures of an upstream become errors: the only place where bytes are judged.

Law: pure and total. Whatever came, one of our errors goes out, or None for a success; nothing raises. What an
error body says is read in `errorbody`, what that means stands in the tables of `signatures`, how long to wait is
read in `waits`. Failures without an answer (no connection, a clock) are named where they happen, in a transport.

What is asked first wins: exact markers in the body, then sentences, the word for the kind of failure, the
status. Sentences go before words and statuses because routers wrap one provider's refusal in another's 502,
and a refusal that is retried as a broken provider is retried for ever. What nobody knows is not asked again at the
same target.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from orrouter.core.errors import (
    AuthFailed,
    Billed,
    CreditsExhausted,
    EmptyReply,
    KeyLimitReached,
    ModelNotFound,
    Moderated,
    NoRoute,
    RateLimited,
    Rejected,
    Transient,
    UpstreamError,
    UpstreamTimeout,
)
from orrouter.wire.errorbody import Complaint, find_error
from orrouter.wire.signatures import (
    GLITCH,
    IN_FLIGHT,
    KINDS,
    LATE,
    LIMIT_SOURCES,
    MODERATED,
    NO_ROUTE,
    TYPES,
    UNKNOWN,
    Verdict,
    by_status,
    by_words,
)
from orrouter.wire.waits import until_utc_midnight, wait_hint
from orrouter.wire.words import Json, first_text, from_page, is_object, mapping, read_json, text_of

NO_HEADERS: Mapping[str, str] = MappingProxyType({})

_BEFORE_ANY_WORK = (AuthFailed, CreditsExhausted, KeyLimitReached, ModelNotFound, NoRoute)
"""Said before a provider, plugin or tool is asked, unless a provider is named: never billed."""

_AFFORD = re.compile(r"can only afford ([0-9]{1,12})\b")
_FLAGGED = re.compile(r'flagged for "([^"]{1,300})"')


class Answer(NamedTuple):
    """One answer of HTTP: `body` is bytes, text, or JSON that is parsed already; header names in any case."""

    status: int
    headers: Mapping[str, str] = NO_HEADERS
    body: object = b""


def fault_of(
    answer: Answer, *, needs: str | None = "choices", plain: bool = True, now: float | None = None
) -> UpstreamError | None:
    """What went wrong in an answer; None when it is a success.

    Args:
        answer: status, headers and the whole body.
        needs: the key without which a 2xx body is no answer (`choices`, `data`); None: any body will do, also one
            that is no JSON (audio).
        plain: the upstream is OpenRouter and the request enabled no plugin or server tool with a fee of its own;
            only then does an error body prove that nothing was billed.
        now: seconds since the epoch; without it waits that are written as a date are not read.
    """
    body = read_json(answer.body)
    if isinstance(body, list) and len(body) == 1 and mapping(body[0]).get("error"):
        body = body[0]  # Google's compatible endpoint wraps its errors so
    succeeded = 200 <= answer.status < 300
    if succeeded and is_object(body):
        return fault_in(
            body, whole=True, needs=needs, status=answer.status, headers=answer.headers, plain=plain, now=now
        )
    if succeeded and needs is None:
        return None
    complaint = _complaint(answer, body)
    return _error(complaint, LATE if succeeded else None, plain=plain, now=now)


def fault_in(
    obj: Json,
    *,
    whole: bool,
    needs: str | None = "choices",
    status: int = 200,
    headers: Mapping[str, str] = NO_HEADERS,
    plain: bool = True,
    now: float | None = None,
) -> UpstreamError | None:
    """What went wrong, told inside a 2xx by one JSON object; None when the object is sound.

    With `whole` it is an entire body and must hold `needs`; else it is one event of a stream, where an empty
    `choices` is an accounting or debug event. The other arguments are those of `fault_of`.
    """
    error = find_error(obj)
    if error is not None:
        return _error(Complaint(status, error, obj, headers), None, plain=plain, now=now)
    if not whole or needs is None or _holds(obj, needs):
        return None
    if obj.get(needs) == []:
        complaint = Complaint(status, {"message": f"an answer with empty {needs}"}, obj, headers, parsed=False)
        return _error(complaint, Verdict(EmptyReply), plain=plain, now=now)
    complaint = Complaint(status, {"message": f"an answer without {needs}"}, obj, headers, parsed=False)
    return _error(complaint, LATE, plain=plain, now=now)


def _holds(obj: Json, needs: str) -> bool:
    """Whether the body holds what a success must; an empty list is one only where it can be (a list of models)."""
    value = obj.get(needs)
    return bool(value) and isinstance(value, list) if needs == "choices" else value is not None


def _complaint(answer: Answer, body: object) -> Complaint:
    """An answer that failed, whatever its body is."""
    if not is_object(body):
        page = from_page(body) if isinstance(body, str) else {"message": "an answer that is no JSON object"}
        return Complaint(answer.status, page, {}, answer.headers, parsed=False)
    return Complaint(answer.status, find_error(body) or body, body, answer.headers)


# --- the verdict --------------------------------------------------------------------------------------


def _judge(complaint: Complaint, hint: float | None) -> Verdict:
    """The first of the rules that knows this failure."""
    verdict = None
    for rule in _RULES if complaint.metadata else _PLAIN_RULES:
        verdict = rule(complaint)
        if verdict is not None:
            break
    verdict = verdict or UNKNOWN
    if complaint.status == 402 and hint is not None and verdict.kind is CreditsExhausted and not _limit(complaint):
        return IN_FLIGHT  # no other 402 says when to come back
    return verdict


def _limit(complaint: Complaint) -> Verdict | None:
    for name in ("limit_source", "reason"):
        word = text_of(complaint.metadata.get(name))
        if word in LIMIT_SOURCES:
            return LIMIT_SOURCES[word]
    return None


def _routing(complaint: Complaint) -> Verdict | None:
    """A routing step that left no endpoint."""
    if text_of(complaint.metadata.get("failed_routing_step")):
        return NO_ROUTE
    funnel = complaint.metadata.get("routing_funnel")
    return NO_ROUTE if funnel and complaint.status in (403, 404, 503) else None


def _moderation(complaint: Complaint) -> Verdict | None:
    """The lists that only moderation and guardrails send."""
    marked = any(complaint.metadata.get(name) for name in ("reasons", "patterns", "flagged_input"))
    return MODERATED if marked and complaint.status == 403 else None


def _empty_404(complaint: Complaint) -> Verdict | None:
    """A provider that broke down and said nothing, passed on as 404."""
    silent = complaint.metadata.get("raw") == "" and complaint.generic and complaint.provider is not None
    return GLITCH if silent and complaint.status == 404 else None


def _words(complaint: Complaint) -> Verdict | None:
    return by_words(complaint.words, complaint.status)


def _kind(complaint: Complaint) -> Verdict | None:
    return next((KINDS[kind] for kind in complaint.kinds if kind in KINDS), None)


def _status(complaint: Complaint) -> Verdict | None:
    return by_status(complaint.status)


def _type(complaint: Complaint) -> Verdict | None:
    words = (text_of(complaint.error.get("type")), *complaint.kinds)
    return next((table[word] for word in words for table in (KINDS, TYPES) if word in table), None)


_PLAIN_RULES: tuple[Callable[[Complaint], Verdict | None], ...] = (_words, _kind, _status, _type)
_RULES = (_limit, _routing, _moderation, _empty_404, *_PLAIN_RULES)
"""The first four read nothing but `error.metadata`."""


# --- the error ----------------------------------------------------------------------------------------


def _error(complaint: Complaint, verdict: Verdict | None, *, plain: bool, now: float | None) -> UpstreamError:
    hint = wait_hint(complaint.headers, complaint.error, now=now)
    verdict = verdict or _judge(complaint, hint)
    error = verdict.kind(
        complaint.summary,
        status=complaint.status,
        raw=complaint.raw,
        billed=_billed(complaint, verdict, plain=plain),
        again=verdict.again,
    ).at(
        provider=complaint.provider,
        model=complaint.model,
        generation_id=complaint.generation_id,
        upstream_request_id=complaint.request_id,
    )
    if verdict.counted is not None:
        error.counted = verdict.counted
    if isinstance(error, Transient):
        error.retry_after = _wait(complaint, hint, now)
        if complaint.availability.get("retryable") is False:
            error.again = "no"
    _details(error, complaint, verdict)
    return error


def _billed(complaint: Complaint, verdict: Verdict, *, plain: bool) -> Billed:
    """Whether the try may have been charged: `no` only where that is sure."""
    if _charged(complaint):
        return "yes"
    if issubclass(verdict.kind, _BEFORE_ANY_WORK) and complaint.provider is None:
        return "no"
    if not plain or complaint.metadata.get("file_annotations") or _said_something(complaint):
        return "maybe"
    if issubclass(verdict.kind, Rejected | RateLimited):
        return "no"
    sure = complaint.parsed and not verdict.late and not issubclass(verdict.kind, UpstreamTimeout | EmptyReply)
    return "no" if sure else "maybe"


def _charged(complaint: Complaint) -> bool:
    cost = mapping(complaint.body.get("usage")).get("cost")
    return isinstance(cost, int | float) and cost > 0


def _said_something(complaint: Complaint) -> bool:
    """Whether a failed choice bears a part of the answer: then the model had worked."""
    choices = complaint.body.get("choices")
    if not isinstance(choices, list):
        return False
    return any(mapping(mapping(choice).get("message")).get("content") for choice in choices)


def _wait(complaint: Complaint, hint: float | None, now: float | None) -> float | None:
    """The upstream's hint; for a daily counter that names no usable reset, until the next day."""
    daily = (
        "free-models-per-day" in complaint.words
        or complaint.metadata.get("limit_source") == "openrouter_free_tier_daily"
    )
    return until_utc_midnight(now) if hint is None and daily and now is not None else hint


def _details(error: UpstreamError, complaint: Complaint, verdict: Verdict) -> None:
    """What only some classes tell."""
    if isinstance(error, RateLimited):
        named = complaint.provider is not None or complaint.metadata.get("is_byok") is True
        error.scope = verdict.scope or ("provider" if named else "target")
    elif isinstance(error, NoRoute):
        error.step = _step(complaint) or verdict.step
    elif isinstance(error, Moderated):
        error.reasons = _reasons(complaint)
    elif isinstance(error, CreditsExhausted | KeyLimitReached):
        tokens = _AFFORD.search(complaint.words)
        error.affordable = int(tokens[1]) if tokens is not None else None


def _step(complaint: Complaint) -> str | None:
    """The filter that removed the last endpoint: named, or the first of the funnel that left none."""
    funnel = complaint.metadata.get("routing_funnel")
    steps = [mapping(step) for step in funnel] if isinstance(funnel, list) else []
    emptied = [step.get("step") for step in steps if step.get("endpoint_count") == 0]
    excluded = complaint.availability.get("excluded_by")
    return first_text(
        complaint.metadata.get("failed_routing_step"), *emptied, *(excluded if isinstance(excluded, list) else ())
    )


def _reasons(complaint: Complaint) -> tuple[str, ...]:
    """The categories that moderation named; never the content that it flagged."""
    listed = complaint.metadata.get("reasons")
    if not isinstance(listed, list):
        flagged = _FLAGGED.search(complaint.message)
        listed = flagged[1].split(",") if flagged is not None else []
    texts = (first_text(reason) for reason in listed)
    return tuple(text for text in texts if text is not None)
